package peer

import (
	"context"
	"errors"
	"sync"
)

// ErrClosed is that nothing is fetched any more.
var ErrClosed = errors.New("closed")

// Calls are calls under way, which can be ended all at once. The zero value is for
// use. It is safe for concurrent use.
type Calls struct {
	mu       sync.Mutex
	stopped  bool
	begun    int
	underWay map[int]context.CancelCauseFunc
	ended    sync.WaitGroup // grows only under mu and before stopped
}

// Begin returns the context for a call, which ends with ctx or by Close, and what
// to call at its end.
func (c *Calls) Begin(ctx context.Context) (context.Context, func(), error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return nil, nil, ErrClosed
	}
	ctx, cancel := context.WithCancelCause(ctx)
	if c.underWay == nil {
		c.underWay = map[int]context.CancelCauseFunc{}
	}
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

// Close ends all calls, waits until they have ended, and lets no more begin.
func (c *Calls) Close() {
	c.mu.Lock()
	c.stopped = true
	for _, cancel := range c.underWay {
		cancel(ErrClosed)
	}
	c.mu.Unlock()
	c.ended.Wait()
}
