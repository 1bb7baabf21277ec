package shadow_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/stagedoor/stagedoor/adapter/comparison"
	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/shadow"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// decides allows the permissions that it names.
type decides map[string]bool

func (d decides) Decide(_ context.Context, _ decision.Caller, permissions []wire.Permission) (decision.Batch, error) {
	var b decision.Batch
	for _, p := range permissions {
		o := &decision.Outcome{}
		if d[p.Name] {
			o.Decision.Result = wire.Allow
		}
		b.Outcomes = append(b.Outcomes, o)
	}
	return b, nil
}

// stuck never answers until it is let go.
type stuck struct{ release chan struct{} }

func (s stuck) Decide(ctx context.Context, _ decision.Caller, _ []wire.Permission) (decision.Batch, error) {
	select {
	case <-s.release:
	case <-ctx.Done():
	}
	return decision.Batch{}, errors.New("too late")
}

func start(t *testing.T, candidate func() (shadow.Decider, error), registry *prometheus.Registry) *shadow.Shadow {
	t.Helper()
	log := logrus.New()
	log.SetOutput(&strings.Builder{})
	s := shadow.New(shadow.Options{
		Path: "candidate", Share: 1, Retry: time.Millisecond, Comparer: comparison.ComparerOf(),
		Open: func(context.Context) (*shadow.Candidate, error) {
			d, err := candidate()
			return &shadow.Candidate{Decider: d, Close: func() {}}, err
		},
	}, logrus.NewEntry(log), registry)
	t.Cleanup(s.Close)
	return s
}

func await(t *testing.T, s *shadow.Shadow, until func(shadow.Status) bool) shadow.Status {
	t.Helper()
	for range 24_000 { // two minutes
		if status := s.Status(); until(status) {
			return status
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("it never came: %+v", s.Status())
	return shadow.Status{}
}

var ann = decision.Caller{User: "user:default/ann"}

// ask has a policy of revision "serves" serve, and the shadow observe it.
func ask(t *testing.T, s *shadow.Shadow, serving decides, names ...string) {
	t.Helper()
	permissions := make([]wire.Permission, len(names))
	for i, name := range names {
		permissions[i] = wire.Permission{Name: name}
	}
	batch, err := serving.Decide(t.Context(), ann, permissions)
	if err != nil {
		t.Fatal(err)
	}
	batch.Revision = "serves"
	s.Observe(ann, permissions, batch)
}

func TestDifferencesAreTold(t *testing.T) {
	registry := prometheus.NewRegistry()
	s := start(t, func() (shadow.Decider, error) { return decides{"a": true, "b": true}, nil }, registry)
	serving := decides{"a": true, "c": true}
	ask(t, s, serving, "a", "b", "c")
	ask(t, s, serving, "b")
	status := await(t, s, func(s shadow.Status) bool { return s.Compared == 4 })
	if len(status.Differences) != 2 || status.Differences[0].Permission != "b" || status.Differences[0].Change != comparison.Wider ||
		status.Differences[0].Count != 2 || len(status.Differences[0].Examples) != 1 || status.Differences[1].Change != comparison.Narrower {
		t.Errorf("%+v", status)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counted := map[string]float64{}
	for _, family := range families {
		for _, m := range family.Metric {
			name := []string{family.GetName()}
			for _, label := range m.Label {
				name = append(name, label.GetValue())
			}
			counted[strings.Join(name, " ")] = m.Counter.GetValue()
		}
	}
	want := map[string]float64{
		"stagedoor_shadow_differences_total NARROWER c": 1, "stagedoor_shadow_differences_total WIDER b": 2,
		"stagedoor_shadow_compared_total": 4, "stagedoor_shadow_dropped_total": 0, "stagedoor_shadow_failed_total": 0,
	}
	if !maps.Equal(want, counted) {
		t.Errorf("counted %v", counted)
	}
}

// TestNothingWaits holds that a candidate that hangs delays nobody: what is too much is
// dropped and counted.
func TestNothingWaits(t *testing.T) {
	hang := stuck{make(chan struct{})}
	s := start(t, func() (shadow.Decider, error) { return hang, nil }, prometheus.NewRegistry())
	for range 1_000 {
		ask(t, s, decides{"a": true}, "a")
	}
	if dropped := s.Status().Dropped; dropped < 1_000-256-2 {
		t.Errorf("%d were dropped", dropped)
	}
	close(hang.release)
	await(t, s, func(s shadow.Status) bool { return s.Failed > 0 })
}

// TestRefusedCandidate holds that a candidate that must not serve harms nobody, and is
// tried again.
func TestRefusedCandidate(t *testing.T) {
	var mu sync.Mutex
	var mended bool
	s := start(t, func() (shadow.Decider, error) {
		mu.Lock()
		defer mu.Unlock()
		if !mended {
			return nil, errors.New("policy.rego:1: it reads the resource")
		}
		return decides{}, nil
	}, prometheus.NewRegistry())
	await(t, s, func(s shadow.Status) bool { return strings.Contains(s.Refused, "it reads the resource") })
	ask(t, s, decides{"a": true}, "a")
	mu.Lock()
	mended = true
	mu.Unlock()
	await(t, s, func(s shadow.Status) bool { return s.Refused == "" })
	ask(t, s, decides{"a": true}, "a")
	await(t, s, func(s shadow.Status) bool { return s.Compared == 1 && len(s.Differences) == 1 })
}

// replaced is a candidate that another one takes the place of.
type replaced struct {
	mu       sync.Mutex
	now      decides
	revision string
	refused  string
}

func (r *replaced) Decide(ctx context.Context, c decision.Caller, permissions []wire.Permission) (decision.Batch, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	batch, err := r.now.Decide(ctx, c, permissions)
	batch.Revision = r.revision
	return batch, err
}

func (r *replaced) by(d decides, revision, refused string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now, r.revision, r.refused = d, revision, refused
}

// TestReplacedCandidate replaces a candidate, by one that differs elsewhere and by one that
// must not serve. What is told is of the one that decides, and why the last does not.
func TestReplacedCandidate(t *testing.T) {
	r := &replaced{now: decides{"a": true}, revision: "r1"}
	log := logrus.New()
	log.SetOutput(&strings.Builder{})
	s := shadow.New(shadow.Options{
		Path: "candidate", Share: 1, Comparer: comparison.ComparerOf(),
		Open: func(context.Context) (*shadow.Candidate, error) {
			return &shadow.Candidate{Decider: r, Close: func() {}, Refused: func() string {
				r.mu.Lock()
				defer r.mu.Unlock()
				return r.refused
			}}, nil
		},
	}, logrus.NewEntry(log), prometheus.NewRegistry())
	t.Cleanup(s.Close)
	ask(t, s, decides{}, "a", "b")
	await(t, s, func(s shadow.Status) bool { return s.Compared == 2 && s.Differences[0].Permission == "a" })
	r.by(decides{"b": true}, "r2", "")
	ask(t, s, decides{}, "a", "b")
	status := await(t, s, func(s shadow.Status) bool { return s.Revision == "r2" && s.Compared == 2 })
	if len(status.Differences) != 1 || status.Differences[0].Permission != "b" || status.Refused != "" || status.Serving != "serves" {
		t.Errorf("%+v", status)
	}
	r.by(decides{"b": true}, "r2", "policy.rego:1: it reads the resource")
	if status := s.Status(); status.Refused != "policy.rego:1: it reads the resource" || status.Compared != 2 || status.Revision != "r2" {
		t.Errorf("%+v", status)
	}
}

// TestSeriesAreBounded has one candidate after another differ in permissions that a caller
// makes up. However many come, the metric has no more series than one of them may make.
func TestSeriesAreBounded(t *testing.T) {
	const candidates, names, most = 6, 100, 500
	r := &replaced{}
	registry := prometheus.NewRegistry()
	s := start(t, func() (shadow.Decider, error) { return r, nil }, registry)
	total := 0.0
	for n := range candidates {
		revision, made := fmt.Sprintf("r%d", n), make([]string, names)
		allowed := decides{}
		for i := range made {
			made[i] = fmt.Sprintf("made.up.%d.%d", n, i)
			allowed[made[i]] = true
		}
		r.by(allowed, revision, "")
		ask(t, s, decides{}, made...)
		await(t, s, func(s shadow.Status) bool { return s.Revision == revision && s.Compared == names })
		total += names
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != "stagedoor_shadow_differences_total" {
			continue
		}
		for _, m := range family.GetMetric() {
			total -= m.GetCounter().GetValue()
		}
		if len(family.GetMetric()) != most+1 || total != 0 {
			t.Errorf("%d series, and %v differences are in none of them", len(family.GetMetric()), total)
		}
		return
	}
	t.Error("nothing is counted")
}

func TestShareOfNone(t *testing.T) {
	log := logrus.New()
	log.SetOutput(&strings.Builder{})
	s := shadow.New(shadow.Options{Open: func(context.Context) (*shadow.Candidate, error) {
		return &shadow.Candidate{Decider: decides{}, Close: func() {}}, nil
	}, Comparer: comparison.ComparerOf()}, logrus.NewEntry(log), prometheus.NewRegistry())
	ask(t, s, decides{"a": true}, "a")
	s.Close()
	if status := s.Status(); status.Compared+status.Dropped+status.Failed != 0 {
		t.Errorf("%+v", status)
	}
}

// slow takes a while for each request, and counts them.
type slow struct {
	takes time.Duration
	calls *atomic.Int64
}

func (d slow) Decide(_ context.Context, _ decision.Caller, permissions []wire.Permission) (decision.Batch, error) {
	d.calls.Add(1)
	time.Sleep(d.takes)
	return decides{}.Decide(context.Background(), ann, permissions)
}

// TestTheWorkerRests has requests come all the time. The candidate decides no more than
// about a fortieth of it, and what is too much is dropped, and counted.
func TestTheWorkerRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		s := start(t, func() (shadow.Decider, error) { return slow{10 * time.Millisecond, &calls}, nil }, prometheus.NewRegistry())
		const lasts, every = 60 * time.Second, time.Millisecond
		for range lasts / every {
			ask(t, s, decides{}, "a")
			time.Sleep(every)
		}
		worked := time.Duration(calls.Load()) * 10 * time.Millisecond
		if most := lasts / 40; worked > most || worked < most*8/10 {
			t.Errorf("the candidate decided for %v of %v", worked, lasts)
		}
		status := s.Status()
		if total := status.Compared + status.Dropped; total < 59_000 || status.Dropped < 58_000 {
			t.Errorf("of 60,000 decisions %d were compared and %d dropped", status.Compared, status.Dropped)
		}
	})
}

// TestTheWorkerRestsBetweenDecisions has one request ask about much. The worker takes a
// processor for one of its decisions at a time.
func TestTheWorkerRestsBetweenDecisions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		s := start(t, func() (shadow.Decider, error) { return slow{10 * time.Millisecond, &calls}, nil }, prometheus.NewRegistry())
		ask(t, s, decides{}, "a", "b", "c")
		const each = 41 * 10 * time.Millisecond // a decision, and the rest after it
		time.Sleep(each / 2)
		for n := range int64(3) {
			if calls.Load() != n+1 {
				t.Errorf("%d decisions after %v", calls.Load(), each/2+time.Duration(n)*each)
			}
			time.Sleep(each)
		}
		if status := s.Status(); status.Compared != 3 {
			t.Errorf("%d decisions were compared", status.Compared)
		}
	})
}
