package breaker

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sony/gobreaker/v2"
)

const pause = 2 * time.Second

var errAway = errors.New("away")

// opened is a Breaker that is half open with the next call, and lets so many through.
func opened(trials uint32) *Breaker {
	b, _ := openedWith(trials, 0)
	return b
}

// openedWith has so many calls under way that began before it opened.
func openedWith(trials uint32, old int) (b *Breaker, end []func(error)) {
	b = New(gobreaker.Settings{
		Timeout: pause, MaxRequests: trials, ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= 3 },
	}, time.Second)
	for range old {
		done, _ := b.Allow(context.Background())
		end = append(end, done)
	}
	for range 3 {
		done, _ := b.Allow(context.Background())
		done(errAway)
	}
	time.Sleep(pause + time.Millisecond)
	return b, end
}

// However many come at once when the server is well again, all are let through, the
// last of them when the first are answered.
func TestAllAreLetThrough(t *testing.T) {
	for _, trials := range []uint32{1, 16} {
		synctest.Test(t, func(t *testing.T) {
			b := opened(trials)
			var all sync.WaitGroup
			for range 50 {
				all.Go(func() {
					done, err := b.Allow(t.Context())
					if err != nil {
						t.Errorf("%d at a time: %v", trials, err)
						return
					}
					time.Sleep(100 * time.Millisecond)
					done(nil)
				})
			}
			begun := time.Now()
			all.Wait()
			if took := time.Since(begun); took != 200*time.Millisecond || !b.Closed() {
				t.Errorf("%d at a time: closed %t after %v", trials, b.Closed(), took)
			}
		})
	}
}

// Whoever waits is told as soon as the server turns out to be away, after a while where
// that is not known, and at once where there is no time left.
func TestNobodyWaitsLong(t *testing.T) {
	for _, test := range []struct {
		name              string
		trial, left, took time.Duration
		want              error
	}{
		{"it is away", 300 * time.Millisecond, time.Minute, 300 * time.Millisecond, ErrOpen},
		{"it hangs", time.Minute, time.Minute, time.Second, ErrOpen},
		{"the request ends", time.Minute, 50 * time.Millisecond, 50 * time.Millisecond, context.DeadlineExceeded},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := opened(1)
				done, err := b.Allow(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				time.AfterFunc(test.trial, func() { done(errAway) })
				var all sync.WaitGroup
				var failed atomic.Int64
				begun := time.Now()
				for range 20 {
					all.Go(func() {
						ctx, cancel := context.WithTimeout(t.Context(), test.left)
						defer cancel()
						if _, err := b.Allow(ctx); errors.Is(err, test.want) && time.Since(begun) == test.took {
							failed.Add(1)
						}
					})
				}
				all.Wait()
				if failed.Load() != 20 {
					t.Errorf("%d of 20 are told %v after %v", failed.Load(), test.want, test.took)
				}
				time.Sleep(2 * time.Second) // Whoever comes now is told at once.
				begun = time.Now()
				if done, err := b.Allow(t.Context()); err == nil {
					done(errAway)
				} else if took := time.Since(begun); took != 0 {
					t.Errorf("who comes later is told after %v: %v", took, err)
				}
				time.Sleep(time.Minute)
			})
		})
	}
}

// Calls that began before it opened, and end while one is on trial, have nobody wait again.
func TestOldCallsSayNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, old := openedWith(1, 20)
		if _, err := b.Allow(t.Context()); err != nil { // and it hangs
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		for _, end := range old {
			end(errAway)
			begun := time.Now()
			if _, err := b.Allow(t.Context()); !errors.Is(err, ErrOpen) || time.Since(begun) != 0 {
				t.Errorf("%v after %v", err, time.Since(begun))
			}
		}
	})
}
