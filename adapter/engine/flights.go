package engine

import (
	"context"
	"sync"

	"github.com/stagedoor/stagedoor/adapter/decision"
)

// flights are the evaluations under way whose outcome others may share: of one
// question of one caller there is one at a time. Where nobody waits for it any more
// it ends, which singleflight would not let it. It is safe for concurrent use.
type flights struct {
	mutex    sync.Mutex
	underWay map[asked]*flight
}

// asked is who asks what, of which policy.
type asked struct {
	caller   callerKey
	question question
}

// flight is an evaluation under way.
type flight struct {
	done    chan struct{} // closed when there is an outcome
	outcome decision.Outcome
	once    sync.Once
	cancel  context.CancelFunc // is called when nobody waits any more
	waiting int                // guarded by flights.mutex
}

// newFlight returns a flight, and the context that it ends with: with the values of
// ctx, and done when nobody waits any more.
func newFlight(ctx context.Context) (*flight, context.Context) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	return &flight{done: make(chan struct{}), cancel: cancel, waiting: 1}, ctx
}

// join returns the flight for what is asked. Where it is a new one, it also returns
// the context to make it in; the caller has to land it.
func (fs *flights) join(ctx context.Context, a asked) (*flight, context.Context) {
	fs.mutex.Lock()
	defer fs.mutex.Unlock()
	if f := fs.underWay[a]; f != nil {
		f.waiting++
		return f, nil
	}
	f, own := newFlight(ctx)
	fs.underWay[a] = f
	return f, own
}

// leave says that one who has joined does not wait any more.
func (fs *flights) leave(a asked, f *flight) {
	fs.mutex.Lock()
	defer fs.mutex.Unlock()
	if f.waiting--; f.waiting > 0 {
		return
	}
	f.cancel()
	fs.remove(a, f)
}

// landed says that the flight is not to be joined any more.
func (fs *flights) landed(a asked, f *flight) {
	fs.mutex.Lock()
	defer fs.mutex.Unlock()
	fs.remove(a, f)
}

func (fs *flights) remove(a asked, f *flight) {
	if fs.underWay[a] == f {
		delete(fs.underWay, a)
	}
}

// land gives all who wait the outcome, unless they have one.
func (f *flight) land(o decision.Outcome) {
	f.once.Do(func() {
		f.outcome = o
		close(f.done)
	})
}
