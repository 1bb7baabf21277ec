package soundness

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/stagedoor/stagedoor/adapter/criteria"
	"github.com/stagedoor/stagedoor/adapter/explore"
)

// A run is what a run counts.
type run struct {
	policy             uint64 // the number of the one that is running
	policies, answered int
	refused            map[string]int // by reason

	decisions map[string]int // by kind of answer
	told      int            // so many that are answers have errors beside
	beyond    []uint64       // the policies with decisions beyond a bound
	methods   map[explore.Method]int
	basic     map[string]int // decisions of basic permissions
	costs     []cost
	// Of all conditional answers: leaves, and literals of irredundant sums of products of the same functions.
	leaves, literals int

	trials    int
	backstage int // trials of conditional answers by the plugin's own rules
	answers   map[answer]int

	mutants, equivalent, noticed, missed, unreal int

	// constructs tells in how many policies each construct was, and how many of their decisions were conditional.
	constructs map[string]*use
}

const beyondBound = "beyond a bound"

type use struct{ policies, refused, conditional int }

type cost struct {
	policy      uint64 // its number
	evaluations int
	time        time.Duration
}

func newRun() *run {
	return &run{
		refused:    map[string]int{},
		decisions:  map[string]int{},
		methods:    map[explore.Method]int{},
		basic:      map[string]int{},
		answers:    map[answer]int{},
		constructs: map[string]*use{},
	}
}

// load counts a policy, and why it was refused, or nil.
func (r *run) load(p policy, refused *explore.VetError) {
	r.policies++
	for _, name := range p.constructs {
		u := r.use(name)
		u.policies++
		if refused != nil {
			u.refused++
		}
	}
	if refused == nil {
		r.answered++
		return
	}
	r.refused[refused.Problems[0].Message]++
}

func (r *run) use(construct string) *use {
	if r.constructs[construct] == nil {
		r.constructs[construct] = &use{}
	}
	return r.constructs[construct]
}

// decide counts a decision.
func (r *run) decide(p policy, d *decision, took time.Duration) {
	r.costs = append(r.costs, cost{r.policy, d.result.Evaluations, took})
	if d.err == nil {
		r.methods[d.result.Method]++
	}
	_, bound := errors.AsType[*explore.LimitError](d.err)
	switch {
	case bound:
		r.decisions[beyondBound]++
		r.beyond = slices.Compact(append(r.beyond, r.policy))
	case d.err != nil:
		r.decisions["error"]++
	case d.conditional():
		r.decisions["conditional"]++
		for _, name := range p.constructs {
			r.use(name).conditional++
		}
	case d.result.Criteria.Op == criteria.Always:
		r.decisions["always"]++
	default:
		r.decisions["never"]++
	}
	if d.err == nil && len(d.result.Errors) > 0 {
		r.told++
	}
}

func (r *run) trial(want answer) {
	r.trials++
	r.answers[want]++
}

// String is the report.
func (r *run) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "trials: %d, %d of them by the plugins' own rules; stock OPA: %s\n", r.trials, r.backstage,
		counts(r.answers))
	fmt.Fprintf(&b, "policies: %d, answered %d, refused %d\n", r.policies, r.answered, r.policies-r.answered)
	for _, reason := range slices.Sorted(maps.Keys(r.refused)) {
		fmt.Fprintf(&b, "  refused %5d: %s\n", r.refused[reason], reason)
	}
	fmt.Fprintf(&b, "decisions: %d: %s; %d of them with errors told\n", len(r.costs), counts(r.decisions), r.told)
	fmt.Fprintf(&b, "%s: policies %v\n", beyondBound, r.beyond)
	fmt.Fprintf(&b, "methods: %s\n", counts(r.methods))
	fmt.Fprintf(&b, "of basic permissions: %s\n", counts(r.basic))
	fmt.Fprintf(&b, "a decision: evaluations %s; time %s\n",
		percentiles(r.costs, func(c cost) int { return c.evaluations }),
		percentiles(r.costs, func(c cost) time.Duration { return c.time }))
	slowest := slices.MaxFunc(append(r.costs, cost{}), func(a, b cost) int { return cmp.Compare(a.time, b.time) })
	fmt.Fprintf(&b, "the slowest was policy %d: %d evaluations, %v\n", slowest.policy, slowest.evaluations, slowest.time)
	fmt.Fprintf(&b, "size: %d leaves; as irredundant sums of products %d literals\n", r.leaves, r.literals)
	apart := r.noticed + r.missed
	fmt.Fprintf(&b, "mutants: %d, %d of them equivalent, %d that no resource can tell apart; noticed %d of %d (%.2f %%)\n",
		r.mutants, r.equivalent, r.unreal, r.noticed, apart, 100*float64(r.noticed)/float64(max(apart, 1)))
	return b.String()
}

// table tells of each construct.
func (r *run) table() string {
	var b strings.Builder
	b.WriteString("policies  refused  conditional  construct\n")
	for _, name := range slices.Sorted(maps.Keys(r.constructs)) {
		u := r.constructs[name]
		fmt.Fprintf(&b, "%8d %8d %12d  %s\n", u.policies, u.refused, u.conditional, name)
	}
	return b.String()
}

func counts[K comparable](of map[K]int) string {
	var texts []string
	for k, n := range of {
		texts = append(texts, fmt.Sprintf("%d %v", n, k))
	}
	slices.SortFunc(texts, func(a, b string) int { return cmp.Or(-cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) })
	return strings.Join(texts, ", ")
}

func percentiles[T cmp.Ordered](costs []cost, of func(cost) T) string {
	var values []T
	for _, c := range costs {
		values = append(values, of(c))
	}
	slices.Sort(values)
	if len(values) == 0 {
		return "none"
	}
	at := func(p int) T { return values[(len(values)-1)*p/100] }
	return fmt.Sprintf("p50 %v, p90 %v, p99 %v, most %v", at(50), at(90), at(99), values[len(values)-1])
}

// long is from how many trials on a run must have met every construct.
const long = 20_000

// wantNoticed is the share of mutants that a run has to notice.
const wantNoticed = 0.97

// problems returns what makes the run prove less than it should.
func (r *run) problems() error {
	var errs []error
	// A short run has few mutants, and those of one policy stand or fall together, so
	// chance gets five standard deviations there.
	apart := float64(r.noticed + r.missed)
	least := wantNoticed * apart
	if r.trials < long {
		least -= 5 * math.Sqrt(apart*wantNoticed*(1-wantNoticed))
	}
	if float64(r.noticed) < least {
		errs = append(errs, fmt.Errorf("%d of %.0f mutants are noticed, less than %.0f", r.noticed, apart, least))
	}
	if bound := r.decisions[beyondBound]; bound*100 > len(r.costs) {
		errs = append(errs, fmt.Errorf("%d of %d decisions are beyond a bound, more than 1 %%", bound, len(r.costs)))
	}
	if r.trials < long {
		return errors.Join(errs...)
	}
	for _, c := range constructs() {
		switch u := r.use(c.name); {
		case c.hidden && u.refused == 0, c.refusable && u.policies == 0, !c.refusable && u.conditional == 0:
			errs = append(errs, fmt.Errorf("%s: in %d policies, %d of them refused, and in %d conditional decisions", c.name,
				u.policies, u.refused, u.conditional))
		}
	}
	return errors.Join(errs...)
}
