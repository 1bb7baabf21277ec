package fair

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func newGate(t *testing.T) *Gate {
	t.Helper()
	g, err := NewGate()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g
}

// spoken is the context of a connection on which the party has been verified.
func spoken(t *testing.T, as Party) context.Context {
	t.Helper()
	c, other := net.Pipe()
	t.Cleanup(func() { _, _ = c.Close(), other.Close() })
	ctx := WithSpeaker(t.Context(), c)
	SpeakerOf(ctx).Was(as)
	return ctx
}

func within(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}

// However many requests one has sent before, another's goes in with the next few.
func TestGateTakesTurns(t *testing.T) {
	g := newGate(t)
	g.coming.Store(1) // so that all are there before the first goes in
	var all sync.WaitGroup
	var place, ann atomic.Int64
	wait := func(p Party) {
		before := g.line.Waiting()
		all.Go(func() {
			if err := g.Wait(spoken(t, p), p); err != nil {
				t.Error(err)
			}
			if n := place.Add(1); p.User == "ann" {
				ann.Store(n)
			}
		})
		within(t, "nobody waits", func() bool { return g.line.Waiting() > before })
	}
	for range 300 {
		wait(party("catalog", "bob"))
	}
	wait(party("catalog", "ann"))
	if !g.Crowded(time.Now()) {
		t.Error("it is not crowded though many wait")
	}
	g.coming.Store(0)
	g.next()
	all.Wait()
	if few := int64(2 * letIn * runtime.GOMAXPROCS(0)); ann.Load() > few {
		t.Errorf("ann is number %d; want one of the first %d", ann.Load(), few)
	}
	if g.coming.Load() != 0 || g.line.Waiting() != 0 {
		t.Errorf("%d come and %d wait in the end", g.coming.Load(), g.line.Waiting())
	}
}

// Nobody is forgotten, however many leave while they wait.
func TestGateForgetsNobody(t *testing.T) {
	g := newGate(t)
	var all sync.WaitGroup
	for n := range 2000 {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			if n%3 == 0 {
				ctx, cancel = context.WithTimeout(t.Context(), rand.N(2*time.Millisecond))
			}
			defer cancel()
			err := g.Wait(ctx, Party{User: strconv.Itoa(n % 7)})
			if err != nil && (n%3 != 0 || !errors.Is(err, context.DeadlineExceeded)) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if g.coming.Load() != 0 || g.line.Waiting() != 0 {
		t.Errorf("%d come and %d wait in the end", g.coming.Load(), g.line.Waiting())
	}
}

// It is crowded while many want to run, and not before and after.
func TestGateSeesCrowds(t *testing.T) {
	g := newGate(t)
	if g.Crowded(time.Now()) {
		t.Error("it is crowded from the start")
	}
	var over atomic.Bool
	var all sync.WaitGroup
	for range 10 * crowd * runtime.GOMAXPROCS(0) {
		all.Go(func() {
			for !over.Load() {
				runtime.Gosched()
			}
		})
	}
	within(t, "it is not crowded", func() bool { return g.Crowded(time.Now()) })
	over.Store(true)
	all.Wait()
	within(t, "it stays crowded", func() bool { return !g.Crowded(time.Now()) })
}

// Strangers share what is for strangers of their host, whoever they say to be.
func TestSpeakerIsBelievedWhatWasVerified(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	c, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	says := party("catalog", "ann")
	for _, test := range []struct {
		name string
		was  *Party
		want Party
	}{
		{"a stranger", nil, party("", "127.0.0.1")},
		{"the plugin", &Party{Plugin: "catalog", User: "bob"}, says},
		{"another plugin", &Party{Plugin: "todo", User: "ann"}, party("todo", "")},
		{"a user in person", &Party{User: "bob"}, party("", "bob")},
	} {
		ctx := WithSpeaker(t.Context(), c)
		if test.was != nil {
			SpeakerOf(ctx).Was(*test.was)
		}
		if got := SpeakerOf(ctx).Says(says); got != test.want {
			t.Errorf("%s: %v; want %v", test.name, got, test.want)
		}
	}
	if got := SpeakerOf(t.Context()).Says(says); got != (Party{}) {
		t.Errorf("no connection: %v", got)
	}
}
