package fair

import (
	"context"
	"fmt"
	"math"
	"os"
	"runtime"
	"runtime/metrics"
	"sync/atomic"
	"time"
)

const (
	// Requests wait at a [Gate] while more goroutines than so many for each processor
	// want to run: about a millisecond of work.
	crowd = 12
	// So often at most it is looked whether they do.
	lookEvery = 500 * time.Microsecond
	// So many requests for each processor are let in at a time.
	letIn = 2
)

// Gate lets requests in, at once while the processors keep up, and else by parties, as
// a [Line] does. Without it whoever sends the most requests at a time is served the
// most: Go runs goroutines in the order in which their requests arrived.
//
// Those that wait are let in few at a time, each few when Go looks at the network
// again. It does so when no goroutine wants to run. Were the next ones let in by those
// before them, some would always want to, and a request that arrives would not be seen
// for the ten milliseconds after which Go looks in any case. So the gate is told by a
// pipe when the last few run, and hears of it together with what has arrived meanwhile.
//
// It is safe for concurrent use.
type Gate struct {
	line       *Line
	processors int
	told, tell *os.File      // the ends of the pipe
	looked     atomic.Int64  // when, in nanoseconds since 1970
	crowded    atomic.Bool   // at that time
	coming     atomic.Int64  // those who were let in and do not run yet
	closed     chan struct{} // when nobody is let in any more
}

// NewGate returns a Gate. Close must be called in the end.
func NewGate() (*Gate, error) {
	told, tell, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("the gate: %w", err)
	}
	g := &Gate{
		line: NewLine(0, math.MaxInt), processors: runtime.GOMAXPROCS(0), told: told, tell: tell, closed: make(chan struct{}),
	}
	go g.run()
	return g, nil
}

// Close frees what the gate takes. Nobody may wait at it then, or come.
func (g *Gate) Close() {
	_ = g.tell.Close()
	<-g.closed
	_ = g.told.Close()
}

// Wait returns when it is the turn of a request that says to be of that party, as far as
// the [Speaker] of ctx is believed. The error is that of ctx.
func (g *Gate) Wait(ctx context.Context, claimed Party) error {
	party := SpeakerOf(ctx).Says(claimed)
	g.line.mu.Lock()
	told := g.line.join(party)
	g.line.mu.Unlock()
	if g.coming.Load() == 0 {
		g.next()
	}
	err := g.line.await(ctx, party, told)
	if err == nil && g.coming.Add(-1) == 0 {
		g.next()
	}
	return err
}

// Crowded reports whether a request that comes now has to wait for its turn.
func (g *Gate) Crowded(now time.Time) bool {
	last, at := g.looked.Load(), now.UnixNano()
	if at-last < int64(lookEvery) || !g.looked.CompareAndSwap(last, at) {
		return g.crowded.Load()
	}
	runnable := []metrics.Sample{{Name: "/sched/goroutines/runnable:goroutines"}}
	metrics.Read(runnable)
	crowded := runnable[0].Value.Uint64() > crowd*uint64(g.processors) || g.line.Waiting() > 0 //nolint:gosec // a count
	g.crowded.Store(crowded)
	return crowded
}

// next has the next few let in.
func (g *Gate) next() { _, _ = g.tell.Write([]byte{0}) }

// run lets in a few whenever it is told to.
func (g *Gate) run() {
	defer close(g.closed)
	told := make([]byte, 1<<10)
	for {
		if _, err := g.told.Read(told); err != nil {
			return
		}
		g.line.mu.Lock()
		for range letIn*g.processors - int(g.coming.Load()) {
			if len(g.line.plugins) == 0 {
				break
			}
			g.coming.Add(1)
			g.line.next()
		}
		g.line.mu.Unlock()
	}
}
