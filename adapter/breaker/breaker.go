// Package breaker leaves a server alone that does not answer: the circuit breaker of
// Nygard's "Release It!", by sony/gobreaker.
//
// It is closed while calls pass. It opens where so many in a row fail, and then calls
// fail at once. After a pause it is half open: a few calls are let through, and it closes
// when these succeed. Whoever comes meanwhile waits for what comes of them, since the
// server may be well for long: a page that asks much at once after a quiet time is not
// to get a few answers and else errors.
package breaker

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sony/gobreaker/v2"
)

// Breaker is the circuit breaker before one server. It is safe for concurrent use.
type Breaker struct {
	two      *gobreaker.TwoStepCircuitBreaker[any]
	patience time.Duration

	mu    sync.Mutex
	ended chan struct{} // closed when a call ends; nil where nobody waits for that
}

// ErrOpen is a call that is not to be made.
var ErrOpen = errors.New("its circuit breaker is open")

// New returns a Breaker that is closed. While it is half open a call waits for at most
// that long, which is to be what a server takes that is well.
func New(s gobreaker.Settings, patience time.Duration) *Breaker {
	return &Breaker{two: gobreaker.NewTwoStepCircuitBreaker[any](s), patience: patience}
}

// Open reports whether the server is left alone.
func (b *Breaker) Open() bool { return b.two.State() == gobreaker.StateOpen }

// Closed reports whether calls pass as usual.
func (b *Breaker) Closed() bool { return b.two.State() == gobreaker.StateClosed }

// Allow lets a call through, of which done must be told what came of it. The error is
// [ErrOpen], or that of ctx.
func (b *Breaker) Allow(ctx context.Context) (done func(error), err error) {
	allowed, err := b.two.Allow()
	if errors.Is(err, gobreaker.ErrTooManyRequests) {
		allowed, err = b.wait(ctx)
	}
	switch {
	case errors.Is(err, gobreaker.ErrOpenState), errors.Is(err, gobreaker.ErrTooManyRequests):
		return nil, ErrOpen
	case err != nil:
		return nil, err
	}
	return func(err error) {
		allowed(err)
		b.tell()
	}, nil
}

// wait waits for the calls that are under way while it is half open.
func (b *Breaker) wait(ctx context.Context) (done func(error), err error) {
	patience := time.NewTimer(b.patience)
	defer patience.Stop()
	for {
		ended := b.end()
		// They may have ended since.
		if done, err = b.two.Allow(); !errors.Is(err, gobreaker.ErrTooManyRequests) {
			return done, err
		}
		select {
		case <-ended:
		case <-patience.C:
			return nil, err
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// end is closed when the next call ends.
func (b *Breaker) end() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended == nil {
		b.ended = make(chan struct{})
	}
	return b.ended
}

// tell tells those who wait for it that a call has ended.
func (b *Breaker) tell() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended != nil {
		close(b.ended)
		b.ended = nil
	}
}
