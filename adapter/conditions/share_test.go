package conditions

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stagedoor/stagedoor/adapter/conditions/guard"
)

// slow answers after a second.
func slow(_ http.ResponseWriter, r *http.Request, _ string, _ int) bool {
	select {
	case <-time.After(time.Second):
		return false
	case <-r.Context().Done():
		return true
	}
}

// Identical calls of one subject are made once; nothing is shared between
// subjects, between bodies, between plugins, or without a subject.
func TestIdenticalCallsAreMadeOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &fakePlugin{fault: slow}
		c, _, _, stop := serveMemory(t, p, Options{})
		defer stop()
		var all sync.WaitGroup
		apply := func(caller Caller, want string, q Question) {
			all.Go(func() {
				if got := results(c.Apply(t.Context(), caller, []Question{q})[0]); got != want {
					t.Errorf("%s of %s: %s, want %s", q.Refs, caller.Subject, got, want)
				}
			})
		}
		for range 50 {
			apply(ann(), "AD", ask("todo", oneOf("a"), "a", "b"))
			apply(ann(), "ADA", ask("todo", oneOf("a"), "a", "b", "a")) // the same call, the answer spread otherwise
			apply(Caller{Subject: "bob", Token: token("bob")}, "AD", ask("todo", oneOf("a"), "a", "b"))
			apply(ann(), "DA", ask("todo", oneOf("b"), "a", "b"))
			apply(ann(), "AD", ask("catalog", oneOf("a"), "a", "b"))
		}
		for range 3 {
			apply(Caller{Token: token("nobody")}, "AD", ask("todo", oneOf("a"), "a", "b"))
		}
		all.Wait()
		calls := map[string]int{}
		for _, id := range []string{"todo", "catalog"} {
			for _, call := range p.callsOf(id) {
				calls[id+" "+call.token]++
			}
		}
		want := map[string]int{
			"todo Bearer ann-for-todo": 2, "todo Bearer bob-for-todo": 1, "todo Bearer nobody-for-todo": 3,
			"catalog Bearer ann-for-catalog": 1,
		}
		if diff := cmp.Diff(want, calls); diff != "" {
			t.Error(diff)
		}
		if n := c.flights.UnderWay(); n != 0 {
			t.Errorf("%d flights are left", n)
		}
		// What is over is not shared: a later call is made anew.
		apply(ann(), "AD", ask("catalog", oneOf("a"), "a", "b"))
		all.Wait()
		if n := len(p.callsOf("catalog")); n != 2 {
			t.Errorf("%d calls of catalog, want 2", n)
		}
	})
}

// The caller that made the call may leave, and so may others; who stays gets the
// answer.
func TestLeavingACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &fakePlugin{fault: slow}
		c, _, _, stop := serveMemory(t, p, Options{})
		defer stop()
		question := []Question{ask("todo", oneOf("a"), "a")}
		leader, leave := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() {
			if o := c.Apply(leader, ann(), question)[0]; !errors.Is(o.Err, context.Canceled) {
				t.Errorf("the first caller got %v", o)
			}
		})
		synctest.Wait()
		for i := range 4 {
			all.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*400*time.Millisecond)
				defer cancel()
				o := c.Apply(ctx, ann(), question)[0]
				if i == 3 && results(o) != "A" {
					t.Errorf("who stayed got %v", o)
				}
				if i < 3 && kind(o.Err) != any(guard.UnavailableError{PluginID: "todo"}) {
					t.Errorf("who left got %v", o)
				}
			})
		}
		synctest.Wait()
		leave()
		all.Wait()
		if n := len(p.callsOf("todo")); n != 1 {
			t.Errorf("%d calls, want 1", n)
		}
	})
}

// A call that nobody waits for is cancelled at the plugin.
func TestAbandonedCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ended time.Time
		start := time.Now()
		p := &fakePlugin{fault: func(_ http.ResponseWriter, r *http.Request, _ string, n int) bool {
			if n > 1 {
				return false
			}
			<-r.Context().Done()
			ended = time.Now()
			return true
		}}
		c, _, _, stop := serveMemory(t, p, Options{})
		defer stop()
		question := []Question{ask("todo", oneOf("a"), "a")}
		var all sync.WaitGroup
		for i := range 3 {
			all.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i+1)*time.Second)
				defer cancel()
				c.Apply(ctx, ann(), question)
			})
		}
		all.Wait()
		synctest.Wait()
		if ended.Sub(start) != 3*time.Second {
			t.Errorf("the plugin's call ended after %v, want 3s", ended.Sub(start))
		}
		if got := results(c.Apply(t.Context(), ann(), question)[0]); got != "A" {
			t.Errorf("the next call got %s", got)
		}
	})
}

// Whether there is time to try again is a matter of who waits longest.
func TestTheLongestWaitDecides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &fakePlugin{fault: func(w http.ResponseWriter, _ *http.Request, _ string, n int) bool {
			if n == 1 {
				time.Sleep(time.Second)
				w.Header().Set("Retry-After", "4")
				respond(w, 503, "")
			}
			return n == 1
		}}
		c, _, _, stop := serveMemory(t, p, Options{})
		defer stop()
		question := []Question{ask("todo", oneOf("a"), "a")}
		var all sync.WaitGroup
		all.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			if o := c.Apply(ctx, ann(), question)[0]; kind(o.Err) != any(guard.UnavailableError{PluginID: "todo"}) {
				t.Errorf("the short wait got %v", o)
			}
		})
		synctest.Wait()
		all.Go(func() {
			if got := results(c.Apply(t.Context(), ann(), question)[0]); got != "A" {
				t.Errorf("the long wait got %s", got)
			}
		})
		all.Wait()
		if n := len(p.callsOf("todo")); n != 2 {
			t.Errorf("%d calls, want 2", n)
		}
	})
}

// Many callers over real sockets, some of whom leave: meant for the race detector.
func TestManyCallers(t *testing.T) {
	p := &fakePlugin{}
	c := serve(t, p)
	var all sync.WaitGroup
	for g := range 32 {
		all.Go(func() {
			for i := range 30 {
				ctx, cancel := context.WithCancel(t.Context())
				if (g+i)%7 == 0 {
					cancel()
				}
				user := fmt.Sprint("user", g%4)
				listed := strconv.Itoa(g % 4)
				o := c.Apply(ctx, Caller{Subject: user, Token: token(user)}, []Question{
					ask("catalog", oneOf(listed), "0", "1", "2", "3"),
					ask(fmt.Sprint("plugin", i%3), oneOf(listed), listed),
				})
				want := []byte("DDDD")
				want[g%4] = 'A'
				for j, want := range []string{string(want), "A"} {
					if o[j].Err == nil && results(o[j]) != want {
						t.Errorf("%s got %s, want %s", user, results(o[j]), want)
					}
					if o[j].Err != nil && !errors.Is(o[j].Err, context.Canceled) {
						t.Error(o[j].Err)
					}
				}
				cancel()
			}
		})
	}
	all.Wait()
	for id, calls := range p.calls {
		for _, call := range calls {
			// Every user asks about conditions of their own.
			for u := range 4 {
				if call.token == fmt.Sprintf("Bearer user%d-for-%s", u, id) &&
					!containsParam(call, strconv.Itoa(u)) {
					t.Errorf("user%d's token went with %s", u, call.body)
				}
			}
		}
	}
}

func containsParam(call fakeCall, ref string) bool {
	return len(call.items) == 1 && fmt.Sprint(call.items[0].Conditions) == fmt.Sprint(map[string]any{
		"rule": "ONE_OF", "resourceType": "thing", "params": map[string]any{"refs": []any{ref}},
	})
}

// Those who ask the same, one after the other, do not keep a call going for ever: it ends
// in its time, and the breaker of a plugin that is down opens.
func TestSharedCallsEnd(t *testing.T) {
	for name, fault := range map[string]func(http.ResponseWriter, *http.Request, string, int) bool{
		"502": status2(http.StatusBadGateway),
		"hangs": func(_ http.ResponseWriter, r *http.Request, _ string, _ int) bool {
			<-r.Context().Done()
			return true
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &fakePlugin{fault: fault}
				c, _, _, stop := serveMemory(t, p, Options{Timeout: 2 * time.Second})
				defer stop()
				var all sync.WaitGroup
				for client := range 8 {
					all.Go(func() {
						time.Sleep(time.Duration(client) * 250 * time.Millisecond)
						for range 10 {
							c.Apply(t.Context(), ann(), []Question{ask("todo", oneOf("a"), "a")})
						}
					})
				}
				begun := time.Now()
				for !c.plugin("todo").guard.Open() && time.Since(begun) < time.Minute {
					time.Sleep(100 * time.Millisecond)
				}
				if took := time.Since(begun); took > 12*time.Second { // five calls of two seconds, and the pauses
					t.Errorf("the breaker is not open after %v", took)
				}
				all.Wait()
			})
		})
	}
}

// While a plugin is down nobody waits for it: the call that shows whether it is there again
// is made once, and not over and over until its request ends.
func TestNobodyWaitsForWhatIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &fakePlugin{fault: status2(http.StatusBadGateway)}
		c, _, _, stop := serveMemory(t, p, Options{Timeout: 2 * time.Second})
		defer stop()
		var all sync.WaitGroup
		for range guard.Failures {
			all.Go(func() { c.Apply(t.Context(), Caller{}, []Question{ask("todo", oneOf("a"), "a")}) })
		}
		all.Wait()
		if !c.plugin("todo").guard.Open() {
			t.Fatal("the breaker is not open")
		}
		for client := range 8 {
			all.Go(func() {
				ref := strconv.Itoa(client)
				for range 200 { // twenty seconds
					begun := time.Now()
					c.Apply(t.Context(), Caller{}, []Question{ask("todo", oneOf(ref), ref)})
					if took := time.Since(begun); took > 10*time.Millisecond {
						t.Errorf("an answer after %v", took)
					}
					time.Sleep(100 * time.Millisecond)
				}
			})
		}
		all.Wait()
	})
}
