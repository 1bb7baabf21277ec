// Package shadow decides by a candidate beside the policy that serves, and tells where the
// two differ, before the candidate serves.
//
// The policy that serves answers first, and its answer is never touched. For a share of
// the requests the question and the answer are then put into a bounded queue. Where the
// queue is full they are dropped, and counted: a request never waits. One worker takes
// them from there, decides by the candidate, and compares the two conditions as formulas
// (package comparison). After each decision it rests for a multiple of the time that this
// took, since it shares the processors with the requests. A candidate that is refused is told
// at [Shadow.Status] and in the log, and is tried again once in a while; meanwhile nothing is
// compared.
package shadow

import (
	"cmp"
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/stagedoor/stagedoor/adapter/comparison"
	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// Decider answers permissions for a caller, as the engine does.
type Decider interface {
	Decide(context.Context, decision.Caller, []wire.Permission) (decision.Batch, error)
}

// A Candidate is a policy that was opened to be compared.
type Candidate struct {
	Decider
	Close func()
	// Refused says why what it was replaced by must not serve, so that it still decides;
	// empty where nothing is. It is nil for a candidate that is never replaced.
	Refused func() string
}

// Options say what is compared.
type Options struct {
	// Path is the candidate: a directory or a bundle.tar.gz (stagedoor.policy.shadow.path).
	Path string
	// Share is for which share of the requests, of 0 to 1 (stagedoor.policy.shadow.share).
	Share float64
	// Open opens the candidate.
	Open func(context.Context) (*Candidate, error)
	// Comparer compares decisions.
	Comparer *comparison.Comparer
	// Retry is after how long a candidate that was refused is opened again; 30 seconds
	// where it is 0.
	Retry time.Duration
}

const (
	queueLength  = 256
	defaultRetry = 30 * time.Second
	mostKinds    = 500 // of differences that are told apart
	mostExamples = 3
	mostDecision = 10 * time.Second
	other        = "other" // stands for permissions that are not told apart
)

// The worker rests after each decision so many times as long as it took. So it takes about
// a fortieth of one processor, never for long, and requests find no fewer that are idle. What
// comes faster is dropped: of many requests those that are compared are a fair sample.
const (
	rests    = 40
	mostRest = time.Minute
)

// Shadow compares a candidate with the policy that serves. It is safe for concurrent use.
type Shadow struct {
	options Options
	log     *logrus.Entry
	queue   chan question
	stop    context.CancelFunc
	done    sync.WaitGroup

	differences *prometheus.CounterVec
	compared    prometheus.Counter
	dropped     prometheus.Counter
	failed      prometheus.Counter
	left        atomic.Int64 // decisions that were dropped

	mu      sync.Mutex
	status  Status
	at      map[kind]int  // of status.Differences
	labels  map[kind]bool // of the metric, which counts on where a candidate is replaced
	replace func() string // the candidate's Refused
}

// question is what was asked, and what the policy that serves answered.
type question struct {
	caller      decision.Caller
	permissions []wire.Permission
	batch       decision.Batch
}

// kind is what differences are told apart by.
type kind struct {
	permission string
	change     comparison.Change
}

// Status is what has been found.
type Status struct {
	Candidate string `json:"candidate"`
	// Revision is that of the candidate that decided last; empty where none has.
	Revision string `json:"revision,omitempty"`
	// Serving is that of the policy that served the decision which was compared last.
	Serving string `json:"serving,omitempty"`
	// Refused says why the candidate cannot decide, or that what replaces it must not.
	Refused string  `json:"refused,omitempty"`
	Share   float64 `json:"share"`
	// Compared and Dropped count decisions, Failed those that could not be compared. They
	// and the Differences are of the candidate of this Revision: another one begins anew.
	Compared    int          `json:"compared"`
	Dropped     int          `json:"dropped"`
	Failed      int          `json:"failed"`
	Differences []Difference `json:"differences"`
}

// A Difference is one kind of difference, of one permission.
type Difference struct {
	Permission string            `json:"permission"`
	Change     comparison.Change `json:"change"`
	Count      int               `json:"count"`
	Examples   []Example         `json:"examples"`
}

// An Example is a decision for which the two differ.
type Example struct {
	User string         `json:"user"`
	Old  *wire.Decision `json:"old"`
	New  *wire.Decision `json:"new,omitempty"`
	// Error is why the candidate fails.
	Error string `json:"error,omitempty"`
}

// New starts comparing. The log gets each kind of difference with examples, and the
// registry counts. Close must be called in the end.
func New(o Options, log *logrus.Entry, registry prometheus.Registerer) *Shadow {
	ctx, stop := context.WithCancel(context.Background())
	s := &Shadow{
		options: o, log: log.WithField("candidate", o.Path), stop: stop,
		queue: make(chan question, queueLength), at: make(map[kind]int), labels: make(map[kind]bool),
		status: Status{Candidate: o.Path, Share: o.Share, Refused: "it is being opened", Differences: []Difference{}},
		differences: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "stagedoor_shadow_differences_total", Help: "Decisions that the candidate makes otherwise.",
		}, []string{"change", "permission"}),
		compared: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "stagedoor_shadow_compared_total", Help: "Decisions that were compared with the candidate's.",
		}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "stagedoor_shadow_dropped_total", Help: "Decisions that were not compared because too many waited.",
		}),
		failed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "stagedoor_shadow_failed_total", Help: "Decisions that could not be compared.",
		}),
	}
	registry.MustRegister(s.differences, s.compared, s.dropped, s.failed)
	s.done.Go(func() { s.run(ctx) })
	return s
}

// Close ends the comparing.
func (s *Shadow) Close() {
	s.stop()
	s.done.Wait()
}

// Observe takes what the policy that serves has answered, to compare it. It returns at
// once, and keeps none of the permissions' memory.
func (s *Shadow) Observe(caller decision.Caller, permissions []wire.Permission, batch decision.Batch) {
	if s.options.Share < 1 && rand.Float64() >= s.options.Share { //nolint:gosec // which requests is no secret
		return
	}
	if len(s.queue) == cap(s.queue) {
		s.drop(len(permissions))
		return
	}
	q := question{caller: caller, permissions: slices.Clone(permissions), batch: batch}
	for i, p := range q.permissions { // which may lie in the request's body
		q.permissions[i] = wire.Permission{
			Name: strings.Clone(p.Name), Action: strings.Clone(p.Action), Resource: p.Resource,
			ResourceType: strings.Clone(p.ResourceType),
		}
	}
	select {
	case s.queue <- q:
	default:
		s.drop(len(permissions))
	}
}

func (s *Shadow) drop(n int) {
	s.dropped.Add(float64(n))
	s.left.Add(int64(n))
}

// Status is what has been found so far.
func (s *Shadow) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	status := s.status
	if s.replace != nil {
		status.Refused = cmp.Or(status.Refused, s.replace())
	}
	status.Dropped = int(s.left.Load())
	status.Differences = slices.Clone(status.Differences)
	for i := range status.Differences {
		status.Differences[i].Examples = slices.Clone(status.Differences[i].Examples)
	}
	slices.SortFunc(status.Differences, func(a, b Difference) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Permission, b.Permission),
			cmp.Compare(a.Change, b.Change))
	})
	return status
}

// run opens the candidate and compares until it is stopped.
func (s *Shadow) run(ctx context.Context) {
	for ctx.Err() == nil {
		candidate, err := s.options.Open(ctx)
		if err == nil {
			s.refused("")
			s.mu.Lock()
			s.replace = candidate.Refused
			s.mu.Unlock()
			s.log.Info("the candidate is compared with the policy that serves")
			s.compareAll(ctx, candidate)
			candidate.Close()
			return
		}
		if ctx.Err() == nil && s.refused(err.Error()) {
			s.log.WithError(err).Error("the candidate must not serve, so nothing is compared with it")
		}
		s.wait(ctx)
	}
}

// refused notes why the candidate cannot decide, and reports whether that is new.
func (s *Shadow) refused(why string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.status.Refused
	s.status.Refused = why
	return before != why
}

// wait waits until the candidate is tried again, and takes from the queue meanwhile.
func (s *Shadow) wait(ctx context.Context) {
	timer := time.NewTimer(cmp.Or(s.options.Retry, defaultRetry))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			return
		case q := <-s.queue:
			s.drop(len(q.permissions))
		}
	}
}

func (s *Shadow) compareAll(ctx context.Context, candidate Decider) {
	for {
		select {
		case <-ctx.Done():
			return
		case q := <-s.queue:
			for i := range q.permissions {
				began := time.Now()
				s.compare(ctx, candidate, q, i)
				rest(ctx, min(rests*time.Since(began), mostRest))
			}
		}
	}
}

func rest(ctx context.Context, long time.Duration) {
	timer := time.NewTimer(long)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// compare has the candidate decide one permission of a request.
func (s *Shadow) compare(ctx context.Context, candidate Decider, q question, i int) {
	ctx, cancel := context.WithTimeout(ctx, mostDecision)
	defer cancel()
	batch, err := candidate.Decide(ctx, q.caller, q.permissions[i:i+1])
	if err != nil || len(batch.Outcomes) != 1 || i >= len(q.batch.Outcomes) {
		s.failure()
		return
	}
	s.compared.Inc()
	s.decidedBy(batch.Revision, q.batch.Revision)
	p := q.permissions[i]
	before, after := comparison.Served(p, q.batch.Outcomes[i]), comparison.Served(p, batch.Outcomes[0])
	found, err := s.options.Comparer.Compare(before, after)
	s.note(q.caller, p.Name, found.Change, before, after, err)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.Compared++
}

// decidedBy notes the revisions of both. What was found of another candidate is forgotten. What
// was found beside another policy that served counts on: data that is written changes its
// revision, too.
func (s *Shadow) decidedBy(revision, serving string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if before := s.status.Revision; before != "" && before != revision {
		s.status.Compared, s.status.Failed, s.status.Differences = 0, 0, []Difference{}
		clear(s.at)
		s.left.Store(0)
	}
	s.status.Revision, s.status.Serving = revision, serving
}

// failure counts a decision that could not be compared.
func (s *Shadow) failure() {
	s.failed.Inc()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.Failed++
}

// labelOf is the permission as the metric names it: no more are told apart than of one
// candidate, however many come after it.
func (s *Shadow) labelOf(k kind) string {
	if !s.labels[k] {
		if len(s.labels) >= mostKinds {
			return other
		}
		s.labels[k] = true
	}
	return k.permission
}

// note counts a decision, and keeps an example of one that differs.
func (s *Shadow) note(
	c decision.Caller, permission string, change comparison.Change, before, after *decision.Outcome, err error,
) {
	if err == nil && change == comparison.Same {
		return
	}
	if err != nil {
		s.failure()
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key := kind{permission, change}
	if _, ok := s.at[key]; !ok && len(s.at) >= mostKinds { // callers can make up permissions
		key.permission = other
	}
	i, ok := s.at[key]
	if !ok {
		i = len(s.status.Differences)
		s.at[key] = i
		s.status.Differences = append(s.status.Differences, Difference{Permission: key.permission, Change: change})
	}
	s.differences.WithLabelValues(string(change), s.labelOf(key)).Inc()
	d := &s.status.Differences[i]
	d.Count++
	if len(d.Examples) == mostExamples || slices.ContainsFunc(d.Examples,
		func(e Example) bool { return e.User == c.User }) {
		return
	}
	e := Example{User: c.User, Old: &before.Decision, New: &after.Decision}
	if after.Err != nil {
		e.New, e.Error = nil, after.Err.Error()
	}
	d.Examples = append(d.Examples, e)
	entry := s.log.WithFields(logrus.Fields{
		"permission": permission, "change": change, "user": c.User, "old": before.Decision.Text(),
		"new": after.Decision.Text(),
	})
	if after.Err != nil {
		entry = entry.WithField("new", e.Error)
	}
	entry.Warn("the candidate decides otherwise")
}
