package identity

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

const (
	maxKeysBody     = 256 << 10
	maxUserInfoBody = 4 << 20
)

// errTooLong is that an answer is longer than it may be.
var errTooLong = errors.New("the answer is longer than is accepted")

// newClient makes a client that asks the hosts of the configuration and no other:
// it follows no redirect and, as Backstage's own, uses no proxy.
func newClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialContext:            (&net.Dialer{Timeout: fetchTimeout}).DialContext,
			TLSHandshakeTimeout:    fetchTimeout,
			ForceAttemptHTTP2:      true,
			MaxIdleConnsPerHost:    32,
			IdleConnTimeout:        time.Minute,
			MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// get fetches path of the plugin, with the bearer token where it is not empty. A
// body longer than limit is an error.
func (i *Identity) get(ctx context.Context, plugin, path, bearer string, limit int64) (int, []byte, error) {
	base, err := i.discovery.BaseURL(ctx, plugin)
	if err != nil {
		return 0, nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, base+path, nil)
	if err != nil {
		return 0, nil, err
	}
	request.Header.Set("Accept", "application/json")
	if bearer != "" {
		request.Header.Set("Authorization", "Bearer "+bearer)
	}
	response, err := i.client.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, limit+1))
	if err != nil {
		return 0, nil, err
	}
	if int64(len(body)) > limit {
		return 0, nil, fmt.Errorf("GET %s of plugin %s: %w, %d bytes", path, plugin, errTooLong, limit)
	}
	return response.StatusCode, body, nil
}

// fetchKeys returns what fetches the key set of the plugin at path.
func (i *Identity) fetchKeys(plugin, path string) func(context.Context) ([]*key, error) {
	return func(ctx context.Context) ([]*key, error) {
		status, body, err := i.get(ctx, plugin, path, "", maxKeysBody)
		if err != nil {
			return nil, err
		}
		if status != http.StatusOK {
			return nil, fmt.Errorf("GET %s of plugin %s answered with status %d", path, plugin, status)
		}
		return parseKeys(body)
	}
}
