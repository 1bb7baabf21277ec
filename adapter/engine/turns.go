package engine

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// quantum is how long an evaluation may go on while others wait for a turn. Nearly
	// every decision takes less, so what is asked for the first time passes what takes
	// long.
	quantum = 20 * time.Millisecond
	// freshInARow is how many evaluations that had no turn yet come before one that
	// had: without it, many new ones would let an old one wait for ever.
	freshInARow = 4
)

// turns say which evaluations go on: as many at a time as there are processors. All
// at once they would take longer together, and each of them could outlast the time
// for one decision.
//
// Who has had a turn for a [quantum] is dear. It gives its turn to the next who waits,
// and goes on in its own next turn. Those that had none yet come first, and among
// equals each caller in turn, so that neither dear decisions nor many of one caller
// hold up another's. Of several turns one is never for the dear: were all processors
// busy with them, a request would wait for Go to take one of them away at each of its
// steps, from its arrival on. An evaluation that does not come to give its turn up, as
// it is in a builtin that cannot be cancelled, has it taken away a quantum later.
//
// It is safe for concurrent use.
type turns struct {
	mutex       sync.Mutex
	free        int
	forDear     int // how many more of the dear may hold one; less than 0 where some must give theirs up
	fresh, dear queue
	inARow      int // fresh ones since the last dear one
}

func newTurns(processors int) *turns {
	return &turns{free: processors, forDear: max(processors-1, 1)}
}

// turn is the turn of one evaluation. To OPA it is what says that an evaluation is to
// end: asked that, which OPA does at each step, it lets others go first where it is
// their turn.
type turn struct {
	of      *turns
	caller  string
	limit   time.Duration   // of running
	waits   bool            // for others, such as http.send, and so takes no turn
	expired func()          // is called once where the limit is reached
	ctx     context.Context //nolint:containedctx // it is what the turn ends with
	stop    context.CancelCauseFunc
	unhook  func() bool // keeps the end of ctx from setting due
	due     atomic.Bool // Cancelled has something to look at

	// Guarded by of.mutex.
	holds bool
	dear  bool
	ended bool
	over  bool // it must end
	used  time.Duration
	since time.Time // when it last began to run; zero while it does not
	timer *time.Timer

	granted chan struct{} // has room for one
}

// begin waits for the first turn of an evaluation for the caller, which is over with
// ctx, or when it has run for the limit. The error is that of the context. Without
// one, end must be called.
func (ts *turns) begin(
	ctx context.Context, caller string, limit time.Duration, waits bool, expired func(),
) (*turn, error) {
	t := &turn{of: ts, caller: caller, limit: limit, waits: waits, expired: expired, granted: make(chan struct{}, 1)}
	t.ctx, t.stop = context.WithCancelCause(ctx)
	ts.mutex.Lock()
	if !waits && !t.take() {
		ts.fresh.push(t)
		ts.mutex.Unlock()
		if err := t.await(); err != nil {
			t.stop(nil)
			return nil, err
		}
		ts.mutex.Lock()
	}
	defer ts.mutex.Unlock()
	t.since = time.Now()
	t.timer = time.AfterFunc(min(quantum, limit), t.tick)
	t.unhook = context.AfterFunc(t.ctx, func() { t.due.Store(true) })
	return t, nil
}

// await waits until the turn is granted, or its context is done.
func (t *turn) await() error {
	select {
	case <-t.granted:
		return nil
	case <-t.ctx.Done():
	}
	t.of.mutex.Lock()
	defer t.of.mutex.Unlock()
	if t.holds { // It came at the same time.
		t.release()
	} else {
		t.of.fresh.remove(t)
		t.of.dear.remove(t)
	}
	return context.Cause(t.ctx)
}

// tick looks, every quantum, how long the evaluation has run.
func (t *turn) tick() {
	ts := t.of
	ts.mutex.Lock()
	if t.ended || t.over || t.since.IsZero() {
		ts.mutex.Unlock()
		return
	}
	now := time.Now()
	t.used += now.Sub(t.since)
	t.since = now
	if t.used >= t.limit {
		t.over = true
		t.release() // at once: who knows when it notices
		t.due.Store(true)
		ts.mutex.Unlock()
		t.stop(context.DeadlineExceeded)
		t.expired()
		return
	}
	if !t.dear {
		t.dear = true
		if t.holds {
			ts.forDear--
		}
	} else if t.holds && ts.wanted() {
		t.release() // It was told so a quantum ago.
	}
	t.due.Store(true)
	t.timer.Reset(min(quantum, t.limit-t.used))
	ts.mutex.Unlock()
}

// Cancel ends the evaluation.
func (t *turn) Cancel() { t.stop(nil) }

// Cancelled reports whether the evaluation must end. It returns when it is the
// evaluation's turn.
func (t *turn) Cancelled() bool { return t.due.Load() && t.yield() }

// yield lets others go first where that is due.
func (t *turn) yield() (over bool) {
	ts := t.of
	ts.mutex.Lock()
	switch {
	case t.over || t.ctx.Err() != nil:
		ts.mutex.Unlock()
		return true
	case t.waits || t.holds && !ts.wanted():
		t.due.Store(false)
		ts.mutex.Unlock()
		return false
	case !t.holds && t.take():
		t.due.Store(false)
		ts.mutex.Unlock()
		return false
	}
	t.timer.Stop()
	t.used += time.Since(t.since)
	t.since = time.Time{}
	ts.dear.push(t)
	t.release()
	ts.mutex.Unlock()
	if t.await() != nil {
		return true
	}
	ts.mutex.Lock()
	defer ts.mutex.Unlock()
	t.since = time.Now()
	t.due.Store(t.over)
	t.timer.Reset(min(quantum, max(t.limit-t.used, 1)))
	return t.over
}

// end ends the turn of an evaluation that is over.
func (t *turn) end() {
	t.of.mutex.Lock()
	t.ended = true
	t.timer.Stop()
	t.release()
	t.of.mutex.Unlock()
	t.unhook()
	t.stop(nil)
}

// take takes a turn where one may be had. The caller holds the mutex.
func (t *turn) take() bool {
	ts := t.of
	if ts.free == 0 || t.dear && ts.forDear <= 0 {
		return false
	}
	ts.free--
	if t.dear {
		ts.forDear--
	}
	t.holds = true
	return true
}

// release gives the turn up, where it is held, and lets those have theirs who are next.
// The caller holds the mutex.
func (t *turn) release() {
	if !t.holds {
		return
	}
	t.holds = false
	ts := t.of
	ts.free++
	if t.dear {
		ts.forDear++
	}
	for ts.free > 0 {
		next := ts.next()
		if next == nil {
			return
		}
		next.take()
		next.granted <- struct{}{}
	}
}

// wanted reports whether whoever is dear must give its turn up.
func (ts *turns) wanted() bool { return ts.forDear < 0 || len(ts.fresh) > 0 || len(ts.dear) > 0 }

// next takes who may have a turn now out of the queues; nil for nobody.
func (ts *turns) next() *turn {
	dear := len(ts.dear) > 0 && ts.forDear > 0
	switch {
	case len(ts.fresh) > 0 && (!dear || ts.inARow < freshInARow):
		ts.inARow++
		return ts.fresh.pop()
	case dear:
		ts.inARow = 0
		return ts.dear.pop()
	}
	return nil
}

// queue is who waits, by caller: the first of the first caller is next, and then the
// caller is last.
type queue []line

// line are the turns of one caller, in the order in which they came.
type line struct {
	caller string
	turns  []*turn
}

func (q *queue) push(t *turn) {
	for i := range *q {
		if l := &(*q)[i]; l.caller == t.caller {
			l.turns = append(l.turns, t)
			return
		}
	}
	*q = append(*q, line{t.caller, []*turn{t}})
}

// pop takes out who is next; nil where nobody waits.
func (q *queue) pop() *turn {
	if len(*q) == 0 {
		return nil
	}
	first := (*q)[0]
	t := first.turns[0]
	*q = (*q)[1:]
	if first.turns = first.turns[1:]; len(first.turns) > 0 {
		*q = append(*q, first)
	}
	return t
}

func (q *queue) remove(t *turn) {
	for i := range *q {
		l := &(*q)[i]
		if l.caller != t.caller {
			continue
		}
		for n, other := range l.turns {
			if other != t {
				continue
			}
			l.turns = append(l.turns[:n:n], l.turns[n+1:]...)
			if len(l.turns) == 0 {
				*q = append((*q)[:i:i], (*q)[i+1:]...)
			}
			return
		}
	}
}
