package conditions

import (
	"bytes"
	"context"
	"errors"
	"hash/maphash"
	"sync"
	"time"

	"github.com/stagedoor/stagedoor/adapter/wire"
)

// flights are the calls under way, so that identical ones are made once.
//
// singleflight would tie a call to its first caller's context; here a call ends
// early when nobody waits for it any more.
type flights struct {
	seed maphash.Seed
	mu   sync.Mutex
	m    map[flightKey]*flight
}

type flightKey struct {
	pluginID, subject string
	body              uint64 // a hash; the bodies themselves are compared too
}

// flight is one call under way.
type flight struct {
	body    []byte
	done    chan struct{} // closed when results and err are set
	results []wire.Result
	err     error

	cancel   context.CancelFunc
	waiters  int       // guarded by flights.mu
	deadline time.Time // the latest of the waiters', guarded by flights.mu
}

// share makes the call, or waits for the same one of the same subject that is
// under way.
func (c *Client) share(ctx context.Context, caller Caller, to endpoint, call call) ([]wire.Result, error) {
	if caller.Subject == "" {
		return c.post(ctx, caller, to, call)
	}
	key := flightKey{pluginID: to.plugin.id, subject: caller.Subject, body: maphash.Bytes(c.flights.seed, call.body)}
	f, flightCtx := c.flights.join(ctx, key, call.body)
	if flightCtx != nil {
		go func() {
			results, err := c.post(flightCtx, caller, to, call)
			c.flights.land(key, f, results, err)
		}()
	}
	select {
	case <-f.done:
		return f.results, f.err
	case <-ctx.Done():
		c.flights.leave(key, f)
		return nil, ended(ctx, to.plugin.id)
	}
}

// join returns the flight for key and body. Where it is a new one, it also
// returns the context to make the call in: with the values of ctx, and done when
// nobody waits any more.
func (fs *flights) join(ctx context.Context, key flightKey, body []byte) (*flight, context.Context) {
	deadline, _ := ctx.Deadline() // Apply has set one
	fs.mu.Lock()
	defer fs.mu.Unlock()
	f := fs.m[key]
	if f != nil && bytes.Equal(f.body, body) {
		f.waiters++
		if deadline.After(f.deadline) {
			f.deadline = deadline
		}
		return f, nil
	}
	cancelable, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f = &flight{body: body, done: make(chan struct{}), cancel: cancel, waiters: 1, deadline: deadline}
	fs.m[key] = f // in the place of another body with the same hash, which flies on unseen
	return f, context.WithValue(cancelable, longestWait{}, func() time.Time {
		fs.mu.Lock()
		defer fs.mu.Unlock()
		return f.deadline
	})
}

func (fs *flights) leave(key flightKey, f *flight) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if f.waiters--; f.waiters == 0 {
		f.cancel()
		fs.remove(key, f)
	}
}

func (fs *flights) land(key flightKey, f *flight, results []wire.Result, err error) {
	f.results, f.err = results, err
	fs.mu.Lock()
	fs.remove(key, f)
	fs.mu.Unlock()
	f.cancel()
	close(f.done)
}

func (fs *flights) remove(key flightKey, f *flight) {
	if fs.m[key] == f {
		delete(fs.m, key)
	}
}

// longestWait is the key of a flight's deadline in its context: a func() time.Time,
// since it moves on when somebody joins who waits longer.
type longestWait struct{}

// timeLeft is how long somebody will wait for the call of ctx.
func timeLeft(ctx context.Context) time.Duration {
	if deadline, ok := ctx.Value(longestWait{}).(func() time.Time); ok {
		return time.Until(deadline())
	}
	deadline, _ := ctx.Deadline() // every other call has one
	return time.Until(deadline)
}

// errNoAnswer is that the time was up.
var errNoAnswer = errors.New("no answer in time")

// ended is the error of a ctx that is done: running out of time is the plugin's
// failure, being cancelled is nobody's.
func ended(ctx context.Context, pluginID string) error {
	if err := ctx.Err(); !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return &UnavailableError{PluginID: pluginID, Cause: errNoAnswer}
}
