package simulation

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// step is what was done at a replica: a revision was activated, or somebody asked.
type step struct {
	replica  int
	activate bool
	revision int
}

// registers is the model: each replica is a register of its own. An activation writes the
// revision, and an answer reads it.
var registers = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		var parts [][]porcupine.Operation
		for _, o := range history {
			replica := o.Input.(step).replica
			for len(parts) <= replica {
				parts = append(parts, nil)
			}
			parts[replica] = append(parts[replica], o)
		}
		return parts
	},
	Init: func() any { return 0 },
	Step: func(state, input, output any) (bool, any) {
		s := input.(step)
		if s.activate {
			return true, s.revision
		}
		return output == state, state
	},
}

// TestModel shows that the model tells histories apart.
func TestModel(t *testing.T) {
	write := func(revision int, from, to int64) porcupine.Operation {
		return porcupine.Operation{Input: step{activate: true, revision: revision}, Call: from, Return: to}
	}
	read := func(revision int, from, to int64) porcupine.Operation {
		return porcupine.Operation{ClientId: 1, Input: step{}, Output: revision, Call: from, Return: to}
	}
	for name, c := range map[string]struct {
		history []porcupine.Operation
		want    bool
	}{
		"in order":          {[]porcupine.Operation{read(0, 1, 2), write(1, 3, 4), read(1, 5, 6)}, true},
		"at the same time":  {[]porcupine.Operation{write(1, 1, 6), read(1, 2, 3), read(1, 4, 5)}, true},
		"stale":             {[]porcupine.Operation{write(1, 1, 2), read(0, 3, 4)}, false},
		"there and back":    {[]porcupine.Operation{write(1, 1, 8), read(1, 2, 3), read(0, 4, 5)}, false},
		"never was":         {[]porcupine.Operation{write(1, 1, 2), read(3, 3, 4)}, false},
		"before it came":    {[]porcupine.Operation{read(1, 1, 2), write(1, 3, 4)}, false},
		"another's replica": {[]porcupine.Operation{{Input: step{replica: 1, activate: true, revision: 1}, Call: 1, Return: 2}, read(0, 3, 4)}, true},
	} {
		if got := porcupine.CheckOperations(registers, c.history); got != c.want {
			t.Errorf("%s: %t, want %t", name, got, c.want)
		}
	}
}

// TestHistories has two replicas activate one revision after the other, each at its own
// pace, while several ask both. It runs on all processors at once, without a seed.
func TestHistories(t *testing.T) {
	const replicas, readers, asks, rounds = 2, 3, 40, 10
	good := moduleOf(t, source)
	asked := make([]wire.Permission, revisions)
	for n := range asked {
		asked[n].Name = revisionOf(n)
	}
	caller := decision.Caller{User: "user:default/u0", Claims: []string{"group:default/g0"}}
	for round := range rounds {
		var clock atomic.Int64 // orders what begins and ends
		var mutex sync.Mutex
		var history []porcupine.Operation
		add := func(o porcupine.Operation) {
			mutex.Lock()
			defer mutex.Unlock()
			history = append(history, o)
		}
		var group sync.WaitGroup
		for replica := range replicas {
			d := newDecider(t)
			t.Cleanup(d.engine.Close)
			if err := d.activate(t.Context(), bundleOf(0, good)); err != nil {
				t.Fatal(err)
			}
			var left atomic.Int64
			left.Store(readers)
			group.Go(func() {
				for n := 1; left.Load() > 0; n++ {
					o := porcupine.Operation{ClientId: replica*10 + readers, Input: step{replica, true, n % revisions}, Call: clock.Add(1)}
					if err := d.activate(t.Context(), bundleOf(n%revisions, good)); err != nil {
						t.Error(err)
						return
					}
					o.Return = clock.Add(1)
					add(o)
					time.Sleep(time.Duration(rand.IntN(2000)) * time.Microsecond)
				}
			})
			for reader := range readers {
				group.Go(func() {
					defer left.Add(-1)
					for range asks {
						o := porcupine.Operation{ClientId: replica*10 + reader, Input: step{replica: replica}, Call: clock.Add(1)}
						batch, err := d.engine.Decide(t.Context(), caller, asked)
						o.Return = clock.Add(1)
						if err != nil {
							t.Error(err)
							return
						}
						o.Output = decidedBy(batch)
						add(o)
						time.Sleep(time.Duration(rand.IntN(500)) * time.Microsecond)
					}
				})
			}
		}
		group.Wait()
		switch porcupine.CheckOperationsTimeout(registers, history, 10*time.Minute) {
		case porcupine.Illegal:
			t.Fatalf("round %d: a history of %d operations is not linearizable", round, len(history))
		case porcupine.Unknown:
			t.Fatalf("round %d: a history of %d operations was not checked within ten minutes", round, len(history))
		}
	}
}

// decidedBy is the revision that a batch of decisions is by; -1 for none, or for several.
func decidedBy(batch decision.Batch) int {
	named := -1
	for n, o := range batch.Outcomes {
		if o.Err == nil && o.Decision.Result == wire.Allow {
			if named >= 0 {
				return -1
			}
			named = n
		}
	}
	if named < 0 || batch.Revision != fmt.Sprint("revision-", named) {
		return -1
	}
	return named
}
