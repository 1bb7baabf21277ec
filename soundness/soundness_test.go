package soundness

import (
	"flag"
	"testing"
	"time"

	"math/rand/v2"
)

var (
	trialsWanted = flag.Int("trials", 2000, "how many trials (policy, caller, resource) to run at least")
	seed         = flag.Uint64("seed", 1, "the seed of the run")
	only         = flag.Uint64("policy", 0, "print and run only the policy of this number, from 1")
	findings     = flag.Int("findings", 1, "after how many disagreements to stop")
	project      = flag.String("project", "../e2e", "the folder whose node_modules has the Backstage packages")
)

// TestSoundness is the run that the package comment describes. Without Node, or before npm ci in e2e, it compares
// stock OPA with the criteria evaluated in Go alone, and says so.
func TestSoundness(t *testing.T) {
	c := &checker{leaves: newLeafEvaluator(t), oracle: newOracle(t, *project), critical: 6, run: newRun()}
	if c.oracle == nil {
		t.Logf("no Node with the Backstage packages in %s: without the plugins' own rules", *project)
	}
	began := time.Now()
	for i := max(*only, 1); c.run.trials < *trialsWanted && (*only == 0 || i == *only); i++ {
		c.run.policy = i
		tr := newTrial(rand.New(rand.NewPCG(*seed, i)))
		if *only != 0 {
			t.Log(tr)
		}
		f, err := c.check(t.Context(), tr, [2]uint64{*seed, i})
		if err != nil {
			t.Fatalf("seed %d, policy %d: %v\n%s", *seed, i, err, tr.policy.source)
		}
		if f != nil {
			c.report(t, i, tr, f)
			if *findings--; *findings <= 0 {
				break
			}
		}
	}
	t.Logf("seed %d, %.0f s\n%v", *seed, time.Since(began).Seconds(), c.run)
	t.Log(c.run.table())
	if err := c.run.problems(); err != nil {
		t.Error(err)
	}
}

// report shrinks a trial that fails and reports it.
func (c *checker) report(t *testing.T, number uint64, tr trial, f *finding) {
	t.Helper()
	quiet := &checker{leaves: c.leaves, oracle: c.oracle, run: newRun()}
	last := f
	if f.kind == "accepted" { // A smaller policy may not have what makes it one to be refused.
		t.Errorf("seed %d, policy %d: %s%v", *seed, number, f.message, tr.policy.source)
		return
	}
	small := shrink(tr, f, func(tr trial) bool {
		smaller, err := quiet.check(t.Context(), tr, [2]uint64{})
		if err != nil || smaller == nil || smaller.kind != f.kind {
			return false
		}
		last = smaller
		return true
	})
	t.Errorf("seed %d, policy %d: %s: %s\nshrunk:%v", *seed, number, f.kind, last.message, small)
}
