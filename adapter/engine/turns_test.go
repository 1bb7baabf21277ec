package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/vetted"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// works is an evaluation that takes so long when nobody else evaluates, and asks at
// each step whether it must end. It returns when it was done, or that it was ended.
func works(t *turn, long time.Duration) (over bool) {
	const step = time.Millisecond
	for worked := time.Duration(0); worked < long; worked += step {
		time.Sleep(step)
		if t.Cancelled() {
			return true
		}
	}
	return false
}

// oneAtATime are turns of one processor.
func oneAtATime() *turns { return newTurns(1) }

// idle has a test fail where anybody holds one of so many turns, or waits.
func idle(t *testing.T, ts *turns, processors int) {
	t.Helper()
	ts.mutex.Lock()
	defer ts.mutex.Unlock()
	if ts.free != processors || ts.forDear != max(processors-1, 1) || len(ts.fresh)+len(ts.dear) > 0 {
		t.Errorf("%d turns are free, %d of them for the dear; %d and %d wait", ts.free, ts.forDear, len(ts.fresh), len(ts.dear))
	}
}

// TestCheapPassesDear has ten evaluations of a second each, of one caller, and then a
// short one of another.
func TestCheapPassesDear(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts := oneAtATime()
		var group sync.WaitGroup
		for range 10 {
			group.Go(func() {
				turn, err := ts.begin(t.Context(), "dear", time.Minute, false, func() {})
				if err != nil {
					t.Error(err)
					return
				}
				defer turn.end()
				works(turn, time.Second)
			})
		}
		time.Sleep(500 * time.Millisecond)
		for range 5 {
			started := time.Now()
			turn, err := ts.begin(t.Context(), "cheap", time.Minute, false, func() {})
			if err != nil {
				t.Fatal(err)
			}
			works(turn, 2*time.Millisecond)
			turn.end()
			if took := time.Since(started); took > 2*quantum {
				t.Errorf("a decision of 2 ms took %v", took)
			}
		}
		group.Wait()
		idle(t, ts, 1)
	})
}

// TestATurnIsLeftForNewOnes has more dear evaluations than processors, and new ones
// between: they never wait, and the dear get all the rest.
func TestATurnIsLeftForNewOnes(t *testing.T) {
	const processors, dear = 4, 6
	synctest.Test(t, func(t *testing.T) {
		ts := newTurns(processors)
		var group sync.WaitGroup
		for n := range dear {
			group.Go(func() {
				turn, err := ts.begin(t.Context(), fmt.Sprint("dear", n), time.Minute, false, func() {})
				if err != nil {
					t.Error(err)
					return
				}
				defer turn.end()
				for range 500 { // of 2 ms
					if works(turn, 2*time.Millisecond) {
						t.Error("it was ended")
					}
				}
			})
		}
		started := time.Now()
		time.Sleep(3 * quantum) // until all are dear
		for range 20 {
			ts.mutex.Lock()
			if held := processors - ts.free; held != processors-1 {
				t.Errorf("%d of %d turns are held by the dear", held, processors)
			}
			ts.mutex.Unlock()
			asked := time.Now()
			turn, err := ts.begin(t.Context(), "new", time.Minute, false, func() {})
			if err != nil {
				t.Fatal(err)
			}
			works(turn, 5*time.Millisecond)
			turn.end()
			if took := time.Since(asked); took > 5*time.Millisecond {
				t.Errorf("a new one of 5 ms took %v", took)
			}
			time.Sleep(7 * time.Millisecond)
		}
		group.Wait()
		// Six seconds of work by three at a time.
		if took := time.Since(started); took > 2*time.Second+4*quantum {
			t.Errorf("the dear took %v", took)
		}
		idle(t, ts, processors)
	})
}

// TestCallersTakeTurns has one caller with a hundred evaluations and another with a
// few, all of them new.
func TestCallersTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts := oneAtATime()
		var order []string
		var group sync.WaitGroup
		ask := func(caller string) {
			group.Go(func() {
				turn, err := ts.begin(t.Context(), caller, time.Minute, false, func() {})
				if err != nil {
					t.Error(err)
					return
				}
				defer turn.end()
				works(turn, 5*time.Millisecond)
				order = append(order, caller) // one at a time
			})
		}
		for range 100 {
			ask("many")
		}
		synctest.Wait()
		for range 3 {
			ask("few")
		}
		group.Wait()
		if last := slices.Index(order, "few"); last > 3 {
			t.Errorf("who asks little came after %d others", last)
		}
		if got := strings.Join(order[:8], " "); strings.Count(got, "few") != 3 {
			t.Errorf("the first were %s", got)
		}
	})
}

// TestNewOnesDoNotStarveOldOnes has a steady flow of new evaluations that takes all of
// the time, and a dear one.
func TestNewOnesDoNotStarveOldOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts := oneAtATime()
		var done atomic.Bool
		var group sync.WaitGroup
		for n := range 8 {
			group.Go(func() {
				for !done.Load() {
					turn, err := ts.begin(t.Context(), fmt.Sprint("new", n), time.Minute, false, func() {})
					if err != nil {
						t.Error(err)
						return
					}
					works(turn, 10*time.Millisecond)
					turn.end()
				}
			})
		}
		started := time.Now()
		turn, err := ts.begin(t.Context(), "dear", time.Minute, false, func() {})
		if err != nil {
			t.Fatal(err)
		}
		works(turn, 200*time.Millisecond)
		turn.end()
		done.Store(true)
		group.Wait()
		// Ten quanta, and four others of 10 ms before each.
		if took := time.Since(started); took > time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// TestTurnIsTakenAway has an evaluation that never asks whether it must end, as in a
// builtin that cannot be cancelled.
func TestTurnIsTakenAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts := oneAtATime()
		started, told := time.Now(), atomic.Int64{}
		stuck, err := ts.begin(t.Context(), "stuck", time.Second, false, func() { told.Store(int64(time.Since(started))) })
		if err != nil {
			t.Fatal(err)
		}
		turn, err := ts.begin(t.Context(), "other", time.Second, false, func() {})
		if err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(started); waited > 3*quantum {
			t.Errorf("the other waited for %v", waited)
		}
		works(turn, 10*time.Millisecond)
		turn.end()
		time.Sleep(10 * time.Second)
		if after := time.Duration(told.Load()); after != time.Second {
			t.Errorf("who waits for it was told after %v", after)
		}
		if !stuck.Cancelled() {
			t.Error("it may go on")
		}
		stuck.end()
		idle(t, ts, 1)
	})
}

// TestTimeOfOthersDoesNotCount has an evaluation of nearly the limit beside another.
func TestTimeOfOthersDoesNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts := oneAtATime()
		var group sync.WaitGroup
		for n := range 4 {
			group.Go(func() {
				turn, err := ts.begin(t.Context(), strconv.Itoa(n), time.Second, false, func() { t.Error("its time is over") })
				if err != nil {
					t.Error(err)
					return
				}
				defer turn.end()
				if works(turn, 900*time.Millisecond) {
					t.Error("it was ended")
				}
			})
		}
		group.Wait()
	})
}

// TestWaitingEndsWithItsRequest has requests give up while they wait, new and dear.
func TestWaitingEndsWithItsRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts := oneAtATime()
		holder, err := ts.begin(t.Context(), "holder", time.Hour, false, func() {})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if _, err := ts.begin(ctx, "late", time.Hour, false, func() {}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		dear, stop := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer stop()
		ended := make(chan bool)
		go func() {
			turn, err := ts.begin(dear, "dear", time.Hour, false, func() {})
			if err != nil {
				t.Error(err)
				ended <- false
				return
			}
			defer turn.end()
			ended <- works(turn, time.Hour)
		}()
		works(holder, time.Second)
		if !<-ended {
			t.Error("it went on without its request")
		}
		holder.end()
		synctest.Wait()
		idle(t, ts, 1)
	})
}

// slowPolicy takes very long for every permission whose name begins with slow, and
// the more so the longer the name is.
const slowPolicy = `# METADATA
# entrypoint: true
default allow := false

allow if input.permission.name == "cheap"

allow if {
	startswith(input.permission.name, "slow")
	some i in numbers.range(1, 100000)
	some j in numbers.range(1, 100000)
	i + j == input.identity.user
}
`

// TestSlowDecisionIsEvaluatedOnce has many ask the same slow question at a time, and
// again.
func TestSlowDecisionIsEvaluatedOnce(t *testing.T) {
	e := memoEngine(t, slowPolicy)
	e.options.Decision = 100 * time.Millisecond
	now := atomic.Int64{}
	e.options.Now = func() time.Time { return time.Unix(now.Load(), 0) }
	caller, slow := decision.Caller{User: "u"}, []wire.Permission{{Name: "slow"}}
	deadline := func() *decision.Outcome {
		batch, err := e.Decide(t.Context(), caller, slow)
		if err != nil {
			t.Error(err)
			return nil
		}
		f, ok := errors.AsType[*decision.Failure](batch.Outcomes[0].Err)
		if !ok || f.Kind != decision.FailureDeadline || batch.Outcomes[0].Decision.Result != wire.Deny {
			t.Errorf("outcome %+v", batch.Outcomes[0])
		}
		return batch.Outcomes[0]
	}
	var group sync.WaitGroup
	different := sync.Map{}
	for range 16 {
		group.Go(func() { different.Store(deadline(), true) })
	}
	group.Wait()
	count := 0
	different.Range(func(any, any) bool { count++; return true })
	if count > 2 { // one that was shared, and one that was remembered
		t.Errorf("evaluated %d times", count)
	}
	eventually(t, func() bool {
		return e.overran.last(asked{callerKeyOf(serves(t, e), caller), e.memo.question(serves(t, e), slow[0]), serves(t, e).Number}, e.options.Now()) != nil
	})
	if again := deadline(); again != nil && !again.Remembered {
		t.Error("evaluated again at once")
	}
	now.Add(3)
	if later := deadline(); later != nil && later.Remembered {
		t.Error("remembered for too long")
	}
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatal("it did not come to be")
}

// TestFlightEndsWithThoseWhoWait has all give up who wait for an evaluation.
func TestFlightEndsWithThoseWhoWait(t *testing.T) {
	e := memoEngine(t, slowPolicy)
	e.options.Decision = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			if _, err := e.Decide(ctx, decision.Caller{User: "u"}, []wire.Permission{{Name: "slow"}}); !errors.Is(err, context.Canceled) {
				t.Errorf("error %v", err)
			}
		})
	}
	eventually(t, func() bool {
		return e.flights.UnderWay() == 1 && e.flights.Waiting() == 4
	})
	cancel()
	group.Wait()
	eventually(t, func() bool {
		e.turns.mutex.Lock()
		defer e.turns.mutex.Unlock()
		return e.turns.free == runtime.GOMAXPROCS(0)
	})
}

// TestPanicOfADecisionIsItsFailure has what evaluates panic in a goroutine of its own.
func TestPanicOfADecisionIsItsFailure(t *testing.T) {
	log := logrus.New()
	log.SetOutput(io.Discard)
	e, err := New(Options{}, func() (*vetted.State, error) { return &vetted.State{}, nil }, logrus.NewEntry(log))
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	batch, err := e.Decide(t.Context(), decision.Caller{}, []wire.Permission{{Name: "x"}}) // a state without a query
	if err != nil || batch.Outcomes[0].Err == nil || batch.Outcomes[0].Decision.Result != wire.Deny {
		t.Errorf("outcomes %+v, error %v", batch.Outcomes, err)
	}
}

// BenchmarkBesideSlowDecisions is the first decision of a caller while 32 others ask
// one after the other what takes longer than it may, each time something else.
func BenchmarkBesideSlowDecisions(b *testing.B) {
	e := memoEngine(b, slowPolicy)
	ctx, cancel := context.WithCancel(b.Context())
	var group sync.WaitGroup
	for n := range 32 {
		group.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				_, _ = e.Decide(ctx, decision.Caller{User: fmt.Sprint("slow", n)}, []wire.Permission{{Name: fmt.Sprint("slow", i)}})
			}
		})
	}
	var took []time.Duration
	for n := 0; b.Loop(); n++ {
		started := time.Now()
		batch, err := e.Decide(ctx, decision.Caller{User: fmt.Sprint("user", n)}, []wire.Permission{{Name: "cheap"}})
		if err != nil || batch.Outcomes[0].Decision.Result != wire.Allow {
			b.Fatal(batch.Outcomes, err)
		}
		took = append(took, time.Since(started))
	}
	cancel()
	group.Wait()
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
}

// TestDecidedIsJoined has one request wait for a slow decision after a quick one. Others who
// ask the quick one meanwhile have it: the caller, and callers of the kind. What failed is
// tried again.
func TestDecidedIsJoined(t *testing.T) {
	const policy = `# METADATA
# entrypoint: true
default allow := false

allow if {
	input.permission.name == "quick"
	"group:default/sre" in input.identity.claims
}

allow := "no boolean" if {
	input.permission.name == "fails"
	"group:default/sre" in input.identity.claims
}

allow if {
	input.permission.name == "slow"
	"group:default/sre" in input.identity.claims
	some i in numbers.range(1, 100000)
	some j in numbers.range(1, 100000)
	i + j == 0
}
`
	of := func(user string) decision.Caller {
		return decision.Caller{User: user, Claims: []string{user, "group:default/sre"}}
	}
	for _, user := range []string{"user:default/ann", "user:default/bob"} {
		t.Run(user, func(t *testing.T) {
			e := memoEngine(t, policy)
			e.options.Decision = time.Hour
			ctx, cancel := context.WithCancel(t.Context())
			var group sync.WaitGroup
			group.Go(func() {
				all := []wire.Permission{{Name: "quick"}, {Name: "fails"}, {Name: "slow"}}
				if _, err := e.Decide(ctx, of("user:default/ann"), all); !errors.Is(err, context.Canceled) {
					t.Errorf("error %v", err)
				}
			})
			eventually(t, func() bool { return e.flights.UnderWay() == 2 }) // quick and slow
			quick, s := wire.Permission{Name: "quick"}, serves(t, e)
			landed, anew := e.flights.Join(ctx, asked{kindKeyOf(s, of(user)), e.memo.question(s, quick), s.Number})
			if anew != nil {
				t.Fatal("it is decided again")
			}
			batch, err := e.Decide(t.Context(), of(user), []wire.Permission{quick})
			if err != nil || batch.Outcomes[0] != &landed.Value().Outcome || batch.Outcomes[0].Decision.Result != wire.Allow {
				t.Errorf("got %+v, %v", batch.Outcomes, err)
			}
			cancel()
			group.Wait()
			eventually(t, func() bool { return e.flights.UnderWay() == 0 })
		})
	}
}
