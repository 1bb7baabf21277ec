// Package flight makes what several wait for at the same time once: a [Flight] is one
// call under way, and a [Group] finds the flight that somebody else has begun.
//
// golang.org/x/sync/singleflight ties a call to nobody's context, so that it goes on
// when nobody waits any more. Here it ends then, and no earlier: its context has the
// values of whoever came first, and [TimeLeft] is how long the most patient will wait.
package flight

import (
	"context"
	"sync"
	"time"
)

// Group are the flights that may be joined, by what they are for. The zero value is for
// use. It is safe for concurrent use.
type Group[K comparable, V any] struct {
	mutex    sync.Mutex
	underWay map[K]*Flight[V]
}

// Flight is a call under way. It is safe for concurrent use.
type Flight[V any] struct {
	done   chan struct{}
	value  V
	once   sync.Once
	cancel context.CancelFunc

	mutex    sync.Mutex
	waiting  int
	deadline time.Time // the latest of those who wait; zero where one has none
}

// New returns a flight that nobody else finds, and the context to make the call in. It
// is done when [Flight.Cancel] is called.
func New[V any](ctx context.Context) (*Flight[V], context.Context) {
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f := &Flight[V]{done: make(chan struct{}), cancel: cancel, waiting: 1}
	f.deadline, _ = ctx.Deadline()
	return f, context.WithValue(own, patience{}, f.latest)
}

// Join returns the flight for what is asked. Where it is a new one, it also returns
// the context to make the call in. Whoever gets that has to call [Flight.Land] and
// [Group.Landed] in the end.
func (g *Group[K, V]) Join(ctx context.Context, what K) (*Flight[V], context.Context) {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	if f := g.underWay[what]; f != nil {
		f.joined(ctx)
		return f, nil
	}
	f, own := New[V](ctx)
	if g.underWay == nil {
		g.underWay = map[K]*Flight[V]{}
	}
	g.underWay[what] = f
	return f, own
}

// Leave says that one who has joined does not wait any more. With the last one the
// flight ends.
func (g *Group[K, V]) Leave(what K, f *Flight[V]) {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	if f.left() {
		f.cancel()
		g.remove(what, f)
	}
}

// Landed says that the flight is not to be joined any more. Who waits still gets what
// it lands with.
func (g *Group[K, V]) Landed(what K, f *Flight[V]) {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	g.remove(what, f)
}

func (g *Group[K, V]) remove(what K, f *Flight[V]) {
	if g.underWay[what] == f {
		delete(g.underWay, what)
	}
}

// UnderWay is how many may be joined.
func (g *Group[K, V]) UnderWay() int {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	return len(g.underWay)
}

// Waiting is how many wait for them.
func (g *Group[K, V]) Waiting() int {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	n := 0
	for _, f := range g.underWay {
		f.mutex.Lock()
		n += f.waiting
		f.mutex.Unlock()
	}
	return n
}

// Done is closed when the flight has landed.
func (f *Flight[V]) Done() <-chan struct{} { return f.done }

// Value is what it landed with. It may be read once Done is closed, and must not be
// changed.
func (f *Flight[V]) Value() *V { return &f.value }

// Land gives all who wait the value, unless they have one.
func (f *Flight[V]) Land(v V) {
	f.once.Do(func() {
		f.value = v
		close(f.done)
	})
}

// Cancel ends the context of the call.
func (f *Flight[V]) Cancel() { f.cancel() }

func (f *Flight[V]) joined(ctx context.Context) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	f.waiting++
	switch deadline, has := ctx.Deadline(); {
	case !has:
		f.deadline = time.Time{}
	case !f.deadline.IsZero() && deadline.After(f.deadline):
		f.deadline = deadline
	}
}

// left reports whether nobody waits any more.
func (f *Flight[V]) left() bool {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	f.waiting--
	return f.waiting == 0
}

func (f *Flight[V]) latest() time.Time {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	return f.deadline
}

// patience is the key of a flight's deadline in its context: a func() time.Time, since
// it moves on when somebody joins who waits longer.
type patience struct{}

// TimeLeft is how long somebody will wait for the call that ctx is for, within a flight
// or without one, and no longer than until the deadline of ctx. There has to be one of
// these.
func TimeLeft(ctx context.Context) time.Duration {
	deadline, has := ctx.Deadline()
	if latest, ok := ctx.Value(patience{}).(func() time.Time); ok {
		if last := latest(); !has || last.Before(deadline) {
			deadline = last
		}
	}
	return time.Until(deadline)
}
