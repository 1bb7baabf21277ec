package identity

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/stagedoor/stagedoor/adapter/identity/jose"
	"github.com/stagedoor/stagedoor/adapter/identity/keyset"
	"github.com/stagedoor/stagedoor/adapter/peer"
)

const (
	maxKeysBody     = 256 << 10
	maxUserInfoBody = 4 << 20
	// fetchTimeout bounds a question about a user.
	fetchTimeout = 5 * time.Second
)

// newClient makes the client of all calls.
func newClient(o Options) *http.Client {
	if o.Transport == nil {
		o.Transport = peer.NewTransport(peer.Options{Idle: 32, IdleFor: time.Minute})
	}
	return peer.NewClient(o.Tracer.Transport(o.Transport))
}

// get fetches path of the plugin, with the bearer token where it is not empty. A
// body longer than limit is an error.
func (i *Identity) get(ctx context.Context, plugin, path, bearer string, limit int64) (int, []byte, error) {
	ctx, end, err := i.calls.Begin(ctx)
	if err != nil {
		return 0, nil, err
	}
	defer end()
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
	status, body, err := i.read(request, limit)
	switch {
	case errors.Is(context.Cause(ctx), peer.ErrClosed):
		return 0, nil, peer.ErrClosed
	case errors.Is(err, peer.ErrTooLong):
		return 0, nil, fmt.Errorf("GET %s of plugin %s: %w", path, plugin, err)
	case err != nil:
		return 0, nil, err
	}
	return status, body, nil
}

// read makes a call and reads the answer.
func (i *Identity) read(request *http.Request, limit int64) (int, []byte, error) {
	response, err := i.client.Do(request)
	if err != nil {
		return 0, nil, peer.Error(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := peer.Read(response.Body, limit)
	return response.StatusCode, body, err
}

// fetchKeys returns what fetches the key set of the plugin at path.
func (i *Identity) fetchKeys(plugin, path string) keyset.Fetch {
	return func(ctx context.Context) ([]*jose.Key, error) {
		status, body, err := i.get(ctx, plugin, path, "", maxKeysBody)
		if err != nil {
			return nil, err
		}
		if status != http.StatusOK {
			return nil, fmt.Errorf("GET %s of plugin %s answered with status %d", path, plugin, status)
		}
		return jose.ParseKeys(body, i.tripwire)
	}
}

// fetchPluginKeys returns what fetches the key set of the plugin.
func (i *Identity) fetchPluginKeys(id string) keyset.Fetch {
	return i.fetchKeys(id, "/.backstage/auth/v1/jwks.json")
}
