// Package breaker leaves a server alone that does not answer: the circuit breaker of
// Nygard's "Release It!", by sony/gobreaker.
//
// It is closed while calls pass. It opens where so many in a row fail, and then calls
// fail at once. After a pause it is half open: a few calls are let through, and it closes
// when these succeed. Whoever comes meanwhile waits a while for what comes of them, since
// the server may be well for long: a page that asks much at once after a quiet time is not
// to get a few answers and else errors. Once they have taken longer than that while, calls
// fail at once again.
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
	tried time.Time     // since when it is half open and none of its trials has ended
}

// ErrOpen is a call that is not to be made.
var ErrOpen = errors.New("its circuit breaker is open")

// New returns a Breaker that is closed. Once it is half open calls wait until that long
// after the first that was let through, which is to be what a server takes that is well.
func New(s gobreaker.Settings, patience time.Duration) *Breaker {
	return &Breaker{two: gobreaker.NewTwoStepCircuitBreaker[any](s), patience: patience}
}

// Open reports whether the server is left alone.
func (b *Breaker) Open() bool { return b.two.State() == gobreaker.StateOpen }

// Closed reports whether calls pass as usual.
func (b *Breaker) Closed() bool { return b.two.State() == gobreaker.StateClosed }

// Allow lets a call through, of which done must be told what came of it. While the Breaker
// is not [Breaker.Closed] it is on trial. The error is [ErrOpen], or that of ctx.
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
	trial := b.begin()
	return func(err error) {
		allowed(err)
		b.tell(trial)
	}, nil
}

// begin notes that a call was let through, and reports whether it is on trial.
func (b *Breaker) begin() (trial bool) {
	if b.Closed() {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.tried.IsZero() {
		b.tried = time.Now()
	}
	return true
}

// wait waits for the calls that are under way while it is half open.
func (b *Breaker) wait(ctx context.Context) (done func(error), err error) {
	ended, left := b.end()
	patience := time.NewTimer(left)
	defer patience.Stop()
	for ; ; ended, _ = b.end() {
		// They may have ended since.
		if done, err = b.two.Allow(); !errors.Is(err, gobreaker.ErrTooManyRequests) {
			return done, err
		}
		if left <= 0 {
			return nil, err
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

// end is closed when the next call ends, and left is for how long to wait for that.
func (b *Breaker) end() (ended <-chan struct{}, left time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended == nil {
		b.ended = make(chan struct{})
	}
	left = b.patience
	if !b.tried.IsZero() {
		left -= time.Since(b.tried)
	}
	return b.ended, left
}

// tell tells those who wait for it that a call has ended. One that began before the Breaker
// opened says nothing of the trials.
func (b *Breaker) tell(trial bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if trial {
		b.tried = time.Time{}
	}
	if b.ended != nil {
		close(b.ended)
		b.ended = nil
	}
}
