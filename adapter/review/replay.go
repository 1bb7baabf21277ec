package review

import (
	"cmp"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// A ReplayReport is how a policy answers what a log holds, compared with the answers in it.
type ReplayReport struct {
	Summary ReplaySummary `json:"summary"`
	Changes []Replayed    `json:"changes"`
	// Undecided counts events by why they cannot be decided again.
	Undecided map[string]int `json:"undecided"`
	About     ReplayAbout    `json:"about"`
}

// ReplaySummary counts events, and the distinct questions in them.
type ReplaySummary struct {
	Events    int `json:"events"`
	Questions int `json:"questions"`
	Same      int `json:"same"`
	Undecided int `json:"undecided"`
	Breaks    int `json:"breaks"`
	Wider     int `json:"wider"`
	Narrower  int `json:"narrower"`
	Other     int `json:"other"`
}

// ReplayAbout is what was replayed.
type ReplayAbout struct {
	Policy string   `json:"policy"`
	Logs   []string `json:"logs"`
	People string   `json:"people"`
}

// Replayed is a change that says the same for some people.
type Replayed struct {
	Permission   string          `json:"permission"`
	Change       Change          `json:"change"`
	People       int             `json:"people"`
	Events       int             `json:"events"`
	GainsInWords string          `json:"gainsInWords,omitempty"`
	LosesInWords string          `json:"losesInWords,omitempty"`
	OldInWords   string          `json:"oldInWords"`
	NewInWords   string          `json:"newInWords"`
	Error        string          `json:"error,omitempty"`
	Examples     []ReplayExample `json:"examples"`

	users map[string]bool
}

// ReplayExample is a person whose answer changes, and one of the decisions.
type ReplayExample struct {
	User       string `json:"user"`
	DecisionID string `json:"decisionId"`
}

// mostExamples is how many examples a change has.
const mostExamples = 3

// Replay decides every distinct question of the log again, and compares the answers. The
// people of the inventory stand in for those whose claims the log does not tell, as long
// as the log's hash says that they still have the same. The error is the context's, the
// Decider's, or of a condition that is too large to be compared.
func (l *Log) Replay(ctx context.Context, by Decider, o Options) (*ReplayReport, error) {
	r := &ReplayReport{Changes: []Replayed{}, Undecided: maps.Clone(l.undecided)}
	if r.Undecided == nil {
		r.Undecided = make(map[string]int)
	}
	r.Summary.Events = l.events
	byCaller := make(map[int][]questionKey)
	for key := range l.asked {
		byCaller[key.caller] = append(byCaller[key.caller], key)
	}
	order := slices.Sorted(maps.Keys(byCaller))
	found := replaying{report: r, at: make(map[says]int), log: l}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for done, number := range order {
		keys := byCaller[number]
		caller, why := l.caller(l.callers.values[number], o)
		if why != "" {
			for _, key := range keys {
				r.Undecided[why] += l.asked[key].events
			}
			continue
		}
		if o.Progress != nil {
			o.Progress(done, len(order))
		}
		group.Go(func() error { return found.decide(ctx, by, caller, keys, o) })
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	for _, n := range r.Undecided {
		r.Summary.Undecided += n
	}
	slices.SortFunc(r.Changes, func(a, b Replayed) int {
		return cmp.Or(cmp.Compare(a.Change.rank(), b.Change.rank()), cmp.Compare(b.Events, a.Events),
			cmp.Compare(a.Permission, b.Permission), cmp.Compare(a.NewInWords, b.NewInWords),
			cmp.Compare(a.OldInWords, b.OldInWords))
	})
	for i := range r.Changes {
		c := &r.Changes[i]
		c.People = len(c.users)
		slices.SortFunc(c.Examples, func(a, b ReplayExample) int {
			return cmp.Or(cmp.Compare(a.User, b.User), cmp.Compare(a.DecisionID, b.DecisionID))
		})
		c.Examples = c.Examples[:min(len(c.Examples), mostExamples)]
	}
	return r, nil
}

// caller is who asked, or why that is not known.
func (l *Log) caller(c loggedCaller, o Options) (decision.Caller, string) {
	if c.anonymous {
		return decision.Caller{Anonymous: true}, ""
	}
	caller := decision.Caller{User: c.user, Actor: c.actor}
	if claims, ok := l.claims[c.claims]; ok {
		caller.Claims = claims
		return caller, ""
	}
	if c.claims == "" {
		return caller, "it tells neither the caller's claims nor their hash"
	}
	person, ok := o.Inventory.People[c.user]
	if !ok {
		return caller, "it does not tell the caller's claims, and the inventory does not have the caller"
	}
	if caller.Claims = person.Claims; caller.ClaimsHash() != c.claims {
		return caller, "the caller's claims are others in the inventory than in the log"
	}
	return caller, ""
}

type replaying struct {
	log    *Log
	mu     sync.Mutex
	report *ReplayReport
	at     map[says]int
}

// decide decides what one caller asked.
func (r *replaying) decide(
	ctx context.Context, by Decider, caller decision.Caller, keys []questionKey, o Options,
) error {
	slices.SortFunc(keys, func(a, b questionKey) int {
		return cmp.Or(cmp.Compare(a.permission, b.permission), cmp.Compare(a.answer, b.answer))
	})
	permissions := make([]wire.Permission, len(keys))
	for i, key := range keys {
		permissions[i] = r.log.subjects.values[key.permission]
	}
	outcomes, err := by.Decide(ctx, caller, permissions)
	if err != nil {
		return err
	}
	for i, key := range keys {
		if err := r.compare(caller, permissions[i], key, outcomes[i], o); err != nil {
			return err
		}
	}
	return nil
}

var errLogged = errors.New("the policy failed when it was asked")

func (r *replaying) compare(
	caller decision.Caller, p wire.Permission, key questionKey, now *decision.Outcome, o Options,
) error {
	was, err := logged(r.log.answers.values[key.answer])
	occurred := r.log.asked[key]
	if err != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.report.Undecided["its answer is no decision"] += occurred.events
		return nil
	}
	c, err := o.Comparer.Compare(was, now)
	if err != nil {
		return fmt.Errorf("%s for %s: %w", p.Name, caller.User, err)
	}
	if c.Change == Same {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.report.Summary.Questions++
		r.report.Summary.Same += occurred.events
		return nil
	}
	d := o.difference(c, Class{Name: caller.User, Example: caller}, p, was, now)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.add(&d, c, occurred, caller)
	return nil
}

func (r *replaying) add(d *Difference, c Comparison, occurred *occurrences, caller decision.Caller) {
	s := &r.report.Summary
	s.Questions++
	switch c.Change {
	case Breaks:
		s.Breaks += occurred.events
	case Wider:
		s.Wider += occurred.events
	case Narrower:
		s.Narrower += occurred.events
	default:
		s.Other += occurred.events
	}
	i, ok := r.at[d.says()]
	if !ok {
		i = len(r.report.Changes)
		r.at[d.says()] = i
		r.report.Changes = append(r.report.Changes, Replayed{
			Permission: d.Permission, Change: d.Change, GainsInWords: d.GainsInWords, LosesInWords: d.LosesInWords,
			OldInWords: d.OldInWords, NewInWords: d.NewInWords, Error: d.Error, users: make(map[string]bool),
		})
	}
	of := &r.report.Changes[i]
	of.Events += occurred.events
	of.users[caller.User] = true
	of.Examples = append(of.Examples, ReplayExample{caller.User, occurred.decisionID})
}

// logged is an answer of a log; the empty one is a failure.
func logged(answer string) (*decision.Outcome, error) {
	if answer == "" {
		return &decision.Outcome{Err: &decision.Failure{Kind: decision.FailureEvaluation, Cause: errLogged}}, nil
	}
	d := json.NewDecoder(strings.NewReader(answer))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	of, reason, err := wire.ParseDecision(v)
	return &decision.Outcome{Decision: of, Reason: reason}, err
}

// MostUndecided is whether most of the log could not be decided again.
func (r *ReplayReport) MostUndecided() bool { return 2*r.Summary.Undecided > r.Summary.Events }

// Text is the report for a terminal.
func (r *ReplayReport) Text() string {
	var b strings.Builder
	for _, c := range r.Changes {
		fmt.Fprintf(&b, "%s  %s\n  %s, %s\n", c.Change, c.Permission, count(c.People, "person", "people"),
			count(c.Events, "event", "events"))
		for _, line := range c.lines() {
			fmt.Fprintf(&b, "  %s\n", line)
		}
		b.WriteByte('\n')
	}
	s := r.Summary
	diff := Summary{Breaks: s.Breaks, Wider: s.Wider, Narrower: s.Narrower, Other: s.Other, Questions: s.Events}
	text := strings.TrimSuffix(diff.String(), "questions")
	fmt.Fprintf(&b, "%s\n", strings.TrimSuffix(text, "question")+map[bool]string{true: "event",
		false: "events"}[s.Events == 1])
	fmt.Fprintf(&b, "%s decided once each\n", count(s.Questions, "distinct question", "distinct questions"))
	for _, why := range slices.Sorted(maps.Keys(r.Undecided)) {
		fmt.Fprintf(&b, "not decided: %s, since %s\n", count(r.Undecided[why], "event", "events"), why)
	}
	fmt.Fprintf(&b, "policy: %s\nlogs: %s\npeople: %s\n", r.About.Policy, strings.Join(r.About.Logs, ", "),
		r.About.People)
	return b.String()
}

func (c Replayed) lines() []string {
	f := Fold{Difference: Difference{
		Change: c.Change, Error: c.Error, GainsInWords: c.GainsInWords, LosesInWords: c.LosesInWords,
		OldInWords: c.OldInWords, NewInWords: c.NewInWords, Callers: []Affected{{}},
	}}
	lines := f.lines()[1:] // whom it is for is said otherwise
	for _, e := range c.Examples {
		lines = append(lines, fmt.Sprintf("for example: %s, decision %s", cmp.Or(e.User,
			"a caller without credentials"), e.DecisionID))
	}
	return lines
}

// CSV has a line for each change.
func (r *ReplayReport) CSV() string {
	var b strings.Builder
	w := csv.NewWriter(&b)
	_ = w.Write([]string{"permission", "change", "people", "events", "gains", "loses", "was", "now",
		"error", "example", "decision"}) // to memory
	for _, c := range r.Changes {
		var e ReplayExample
		if len(c.Examples) > 0 {
			e = c.Examples[0]
		}
		_ = w.Write([]string{
			plain(c.Permission), string(c.Change), strconv.Itoa(c.People), strconv.Itoa(c.Events),
			plain(c.GainsInWords), plain(c.LosesInWords),
			plain(c.OldInWords), plain(c.NewInWords), plain(c.Error), plain(e.User), plain(e.DecisionID),
		})
	}
	w.Flush()
	return b.String()
}

// Has is whether there is a change of one of some kinds.
func (s ReplaySummary) Has(kinds ...Change) bool {
	return Summary{Breaks: s.Breaks, Wider: s.Wider, Narrower: s.Narrower, Other: s.Other}.Has(kinds...)
}
