package guard

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/stagedoor/stagedoor/adapter/fair"
)

func newGuard(log *strings.Builder) *Guard {
	logger := logrus.New()
	logger.SetOutput(log)
	g := &Guard{}
	g.Init("todo", 10*time.Second, logrus.NewEntry(logger))
	return g
}

// within passes the guard with that much time, and calls.
func within(t *testing.T, g *Guard, left time.Duration, call func(context.Context) error) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), left)
	defer cancel()
	return g.Pass(ctx, "todo", fair.Party{}, func(bool) error { return call(ctx) })
}

// hang gives no answer.
func hang(ctx context.Context) error {
	<-ctx.Done()
	return Ended(ctx, "todo")
}

func answered(err error) func(context.Context) error {
	return func(context.Context) error { return err }
}

// What says that the plugin is not there opens the breaker, five times in a row; what
// only says that it did not like the question does not.
func TestWhatOpensTheBreaker(t *testing.T) {
	for name, test := range map[string]struct {
		left time.Duration
		call func(context.Context) error
		open bool
	}{
		"hangs":           {10 * time.Second, hang, true},
		"hangs for long":  {2 * time.Second, hang, true},
		"little time":     {100 * time.Millisecond, hang, false},
		"refused":         {time.Second, answered(&UnavailableError{Cause: errors.New("connection refused")}), true},
		"502":             {time.Second, answered(&UnavailableError{Status: http.StatusBadGateway}), true},
		"503":             {time.Second, answered(&UnavailableError{Status: http.StatusServiceUnavailable}), true},
		"500":             {time.Second, answered(&UnavailableError{Status: http.StatusInternalServerError}), false},
		"429":             {time.Second, answered(&UnavailableError{Status: http.StatusTooManyRequests}), false},
		"no good answer":  {time.Second, answered(&UnavailableError{Status: http.StatusOK}), false},
		"refusal":         {time.Second, answered(&RefusedError{Status: http.StatusBadRequest}), false},
		"no token for it": {time.Second, answered(errors.New("no token")), false},
		"fine":            {time.Second, answered(nil), false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log strings.Builder
				g := newGuard(&log)
				for n := range Failures {
					if g.Open() {
						t.Fatalf("open after %d calls", n)
					}
					_ = within(t, g, test.left, test.call)
				}
				if g.Open() != test.open {
					t.Errorf("open: %t", g.Open())
				}
				if strings.Contains(log.String(), "circuit breaker open") != test.open {
					t.Errorf("log: %s", log.String())
				}
			})
		})
	}
}

// Callers that leave say nothing of the plugin.
func TestCallersThatLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		g := newGuard(&log)
		for range 3 * Failures {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			time.AfterFunc(5*time.Second, cancel)
			_ = g.Pass(ctx, "todo", fair.Party{}, func(bool) error { return hang(ctx) })
			cancel()
		}
		if g.Open() {
			t.Error("open")
		}
	})
}

// One slow question among others that are answered does not count.
func TestOneSlowQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		g := newGuard(&log)
		for range 3 * Failures {
			_ = within(t, g, 10*time.Second, hang)
			_ = within(t, g, 10*time.Second, answered(nil))
		}
		if g.Open() {
			t.Error("open")
		}
	})
}

// An open breaker fails calls at once, lets one through from time to time, and closes
// when that is answered.
func TestBreakerCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		g := newGuard(&log)
		for range Failures {
			_ = within(t, g, 10*time.Second, hang)
		}
		begun := time.Now()
		err := within(t, g, 10*time.Second, hang)
		unavailable, ok := errors.AsType[*UnavailableError](err)
		if !ok || unavailable.RetryAfter != Pause || time.Since(begun) != 0 {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		time.Sleep(Pause + time.Millisecond)
		var probes, refused int
		var mu sync.Mutex
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				called := false
				_ = within(t, g, 10*time.Second, func(ctx context.Context) error { called = true; return hang(ctx) })
				mu.Lock()
				defer mu.Unlock()
				if called {
					probes++
				} else {
					refused++
				}
			})
		}
		all.Wait()
		if probes != 1 || refused != 49 {
			t.Errorf("%d probes, %d refused", probes, refused)
		}
		time.Sleep(Pause + time.Millisecond)
		// Who has no token for the plugin does not ask it.
		for range 2 * Failures {
			_ = within(t, g, time.Second, answered(errors.New("no token")))
		}
		if g.Closed() {
			t.Error("closed by calls that were not made")
		}
		if err := within(t, g, 10*time.Second, answered(nil)); err != nil || g.Open() {
			t.Errorf("%v, open %t", err, g.Open())
		}
		if n := strings.Count(log.String(), "circuit breaker"); n != 2 {
			t.Errorf("%d lines, want 2: %s", n, log.String())
		}
	})
}

// Whoever comes while one call finds out that the plugin answers again waits for that,
// and is not told that it is away. Nobody waits long for one that hangs.
func TestOthersWaitForTheTrial(t *testing.T) {
	well := func(ctx context.Context) error { time.Sleep(300 * time.Millisecond); return ctx.Err() }
	left := func(context.Context) error { time.Sleep(100 * time.Millisecond); return context.Canceled }
	for _, test := range []struct {
		name  string
		first func(context.Context) error
		left  bool // the first caller leaves
		good  int  // of the nine others
		took  time.Duration
	}{
		{"it answers", well, false, 9, 600 * time.Millisecond},
		{"the first leaves", left, true, 9, 700 * time.Millisecond},
		{"it hangs", hang, false, 0, time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log strings.Builder
				g := newGuard(&log)
				for range Failures {
					_ = within(t, g, 10*time.Second, hang)
				}
				time.Sleep(Pause + time.Millisecond)
				first, leave := context.WithTimeout(t.Context(), 10*time.Second)
				defer leave()
				var all sync.WaitGroup
				all.Go(func() {
					_ = g.Pass(first, "todo", fair.Party{}, func(bool) error { return test.first(first) })
				})
				synctest.Wait()
				begun := time.Now()
				var good atomic.Int64
				for range 9 {
					all.Go(func() {
						if within(t, g, 10*time.Second, well) == nil {
							good.Add(1)
						}
						if took := time.Since(begun); took > test.took {
							t.Errorf("it took %v; want %v", took, test.took)
						}
					})
				}
				if test.left {
					time.Sleep(50 * time.Millisecond)
					leave()
				}
				all.Wait()
				if int(good.Load()) != test.good {
					t.Errorf("%d are answered; want %d", good.Load(), test.good)
				}
			})
		})
	}
}

// So many wait for a plugin and no more, each within its time, and whoever waits is
// told at once when the plugin turns out to be away.
func TestCallsOfAPluginAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		g := newGuard(&log)
		var mu sync.Mutex
		calls, most, full := 0, 0, 0
		var all sync.WaitGroup
		begun := time.Now()
		const more = 100
		for range Calls + Waiting + more {
			all.Go(func() {
				err := within(t, g, 10*time.Second, func(ctx context.Context) error {
					mu.Lock()
					calls++
					most = max(most, calls)
					mu.Unlock()
					err := hang(ctx)
					mu.Lock()
					calls--
					mu.Unlock()
					return err
				})
				if err == nil {
					t.Error("answered")
				}
				if errors.Is(err, fair.ErrFull) {
					mu.Lock()
					full++
					mu.Unlock()
				}
			})
		}
		all.Wait()
		if most != Calls || full != more {
			t.Errorf("%d calls at a time, %d refused", most, full)
		}
		if took := time.Since(begun); took != 10*time.Second {
			t.Errorf("took %v", took)
		}
	})
}
