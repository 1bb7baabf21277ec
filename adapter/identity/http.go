package identity

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/stagedoor/stagedoor/adapter/peer"
	"github.com/stagedoor/stagedoor/adapter/tracing"
)

const (
	maxKeysBody     = 256 << 10
	maxUserInfoBody = 4 << 20
)

// errClosed is that nothing is fetched any more.
var errClosed = errors.New("closed")

// calls are the calls under way. It is safe for concurrent use.
type calls struct {
	mu       sync.Mutex
	stopped  bool
	begun    int
	underWay map[int]context.CancelCauseFunc
	ended    sync.WaitGroup // grows only under mu and before stopped
}

// begin returns the context for a call, which ends with ctx or by stop, and what
// to call at its end.
func (c *calls) begin(ctx context.Context) (context.Context, func(), error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return nil, nil, errClosed
	}
	ctx, cancel := context.WithCancelCause(ctx)
	c.begun++
	number := c.begun
	c.underWay[number] = cancel
	c.ended.Add(1)
	return ctx, func() {
		cancel(nil)
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.underWay, number)
		c.ended.Done()
	}, nil
}

// stop ends all calls, waits until they have ended, and lets no more begin.
func (c *calls) stop() {
	c.mu.Lock()
	c.stopped = true
	for _, cancel := range c.underWay {
		cancel(errClosed)
	}
	c.mu.Unlock()
	c.ended.Wait()
}

// newClient makes the client of all calls.
func newClient(tracer *tracing.Tracer) *http.Client {
	return peer.NewClient(tracer.Transport(peer.NewTransport(peer.Options{Idle: 32, IdleFor: time.Minute})))
}

// get fetches path of the plugin, with the bearer token where it is not empty. A
// body longer than limit is an error.
func (i *Identity) get(ctx context.Context, plugin, path, bearer string, limit int64) (int, []byte, error) {
	ctx, end, err := i.calls.begin(ctx)
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
	case errors.Is(context.Cause(ctx), errClosed):
		return 0, nil, errClosed
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
func (i *Identity) fetchKeys(plugin, path string) func(context.Context) ([]*key, error) {
	return func(ctx context.Context) ([]*key, error) {
		status, body, err := i.get(ctx, plugin, path, "", maxKeysBody)
		if err != nil {
			return nil, err
		}
		if status != http.StatusOK {
			return nil, fmt.Errorf("GET %s of plugin %s answered with status %d", path, plugin, status)
		}
		return parseKeys(body, i.tripwire)
	}
}
