package replay

import (
	"cmp"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/stagedoor/stagedoor/adapter/comparison"
	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/inventory"
	"github.com/stagedoor/stagedoor/adapter/offline"
	"github.com/stagedoor/stagedoor/adapter/report"
	"github.com/stagedoor/stagedoor/adapter/wire"
	"github.com/stagedoor/stagedoor/adapter/words"
)

// Options are what a log is replayed with.
type Options struct {
	// Inventory has the people whose claims the log does not tell.
	Inventory *inventory.Inventory
	// Vocabulary says conditions in words.
	Vocabulary words.Vocabulary
	// Comparer compares decisions.
	Comparer *comparison.Comparer
	// Placed is whether the policy asks for elements of lists by their place, so that the order
	// of claims may count, which a hash does not tell.
	Placed bool
	// Progress is told how much of the work is done; nil for nobody.
	Progress func(done, of int)
}

// A Report is how a policy answers what a log holds, compared with the answers in it.
type Report struct {
	Summary Summary    `json:"summary"`
	Changes []Replayed `json:"changes"`
	// Undecided counts events by why they cannot be decided again.
	Undecided map[string]int `json:"undecided"`
	// LeftOut counts events that are decisions of other rules, by the path of those. They are
	// not among the events of the summary.
	LeftOut map[string]int `json:"leftOut"`
	// ByOperators counts events of what operators asked at /v1/data, about whomever and whatever.
	// They are not among the events of the summary either.
	ByOperators int `json:"byOperators"`
	// Revisions counts the events of the summary by the policy that made them, as far as they
	// say which.
	Revisions map[string]int `json:"revisions"`
	About     About          `json:"about"`
}

// Summary counts events, and the distinct questions in them.
type Summary struct {
	Events    int `json:"events"`
	Questions int `json:"questions"`
	Same      int `json:"same"`
	Undecided int `json:"undecided"`
	comparison.Counts
}

// About is what was replayed.
type About struct {
	Policy string   `json:"policy"`
	Logs   []string `json:"logs"`
	People string   `json:"people"`
	// Path is the path of the rule that the log has the decisions of, where that is another
	// one than decides now.
	Path string `json:"path,omitempty"`
	// Changing says by what, and where, the policy's answers change with time; empty where
	// they do not.
	Changing string `json:"changing,omitempty"`
}

// Replayed is a change that says the same for some people.
type Replayed struct {
	Permission string `json:"permission"`
	comparison.Said
	People   int       `json:"people"`
	Events   int       `json:"events"`
	Examples []Example `json:"examples"`

	users     map[string]bool
	signedOut bool // whether it changes for callers without credentials, too
}

// Example is a person whose answer changes, and one of the decisions.
type Example struct {
	User       string `json:"user"`
	DecisionID string `json:"decisionId"`
}

// mostExamples is how many examples a change has.
const mostExamples = 3

// Replay decides every distinct question of the log again, and compares the answers. The
// people of the inventory stand in for those whose claims the log does not tell, as long
// as the log's hash says that they still have the same. The error is the context's,
// that of deciding, of a condition that is too large to be compared, or says that the log
// has decisions of several rules and none of the one that decides.
func (l *Log) Replay(ctx context.Context, by *offline.Policy, o Options) (*Report, error) {
	path, err := l.path(by.Entrypoint())
	if err != nil {
		return nil, err
	}
	r := &Report{
		Changes: []Replayed{}, Undecided: make(map[string]int), LeftOut: make(map[string]int), ByOperators: l.operators,
		Revisions: make(map[string]int),
	}
	if path != by.Entrypoint() {
		r.About.Path = path
	}
	// Where an event has no path, nothing says that it is another's.
	ours := func(number int) bool { of := l.paths.values[number]; return of == "" || of == path }
	for number, events := range l.events {
		if ours(number) {
			r.Summary.Events += events
		} else {
			r.LeftOut[l.paths.values[number]] = events
		}
	}
	for of, events := range l.undecided {
		if ours(of.path) {
			r.Undecided[of.why] += events
		}
	}
	for of, events := range l.revised {
		if revision := revisionOf(l.bundles.values[of.bundles]); revision != "" && ours(of.path) {
			r.Revisions[revision] += events
		}
	}
	byCaller := make(map[int][]questionKey)
	for key := range l.asked {
		if ours(key.path) {
			byCaller[key.caller] = append(byCaller[key.caller], key)
		}
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
				found.undecided(why, l.asked[key])
			}
			continue
		}
		if o.Progress != nil {
			o.Progress(done, len(order))
		}
		inOrder := !o.Placed || l.callers.values[number].told || len(caller.Claims) < 2
		group.Go(func() error { return found.decide(ctx, by, caller, inOrder, keys, o) })
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	for _, n := range r.Undecided {
		r.Summary.Undecided += n
	}
	slices.SortFunc(r.Changes, func(a, b Replayed) int {
		return cmp.Or(cmp.Compare(a.Change.Rank(), b.Change.Rank()), cmp.Compare(b.Events, a.Events),
			cmp.Compare(a.Permission, b.Permission), cmp.Compare(a.NewInWords, b.NewInWords),
			cmp.Compare(a.OldInWords, b.OldInWords))
	})
	for i := range r.Changes {
		c := &r.Changes[i]
		c.People = len(c.users)
		slices.SortFunc(c.Examples, func(a, b Example) int {
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
	report *Report
	at     map[says]int
}

// decide decides what one caller asked. Where the claims may have been in another order,
// what would be decided otherwise then is not decided.
func (r *replaying) decide(
	ctx context.Context, by *offline.Policy, caller decision.Caller, inOrder bool, keys []questionKey, o Options,
) error {
	slices.SortFunc(keys, func(a, b questionKey) int {
		return cmp.Or(cmp.Compare(a.permission, b.permission), cmp.Compare(a.answer, b.answer))
	})
	var permissions []wire.Permission
	keys = slices.DeleteFunc(keys, func(key questionKey) bool {
		p, known := r.log.permission(key.permission, o.Inventory)
		if !known {
			r.undecided(untyped, r.log.asked[key])
			return true
		}
		permissions = append(permissions, p)
		return false
	})
	outcomes, err := by.Outcomes(ctx, caller, permissions)
	if err != nil {
		return err
	}
	var others [][]*decision.Outcome
	if !inOrder {
		if others, err = reordered(ctx, by, caller, permissions); err != nil {
			return err
		}
	}
	questions := make(map[int]bool) // by the permission: a log can have several answers to one
	for i, key := range keys {
		unlike := func(other []*decision.Outcome) bool {
			p := permissions[i]
			c, err := o.Comparer.Compare(comparison.Served(p, outcomes[i]), comparison.Served(p, other[i]))
			return err != nil || c.Change != comparison.Same
		}
		if slices.ContainsFunc(others, unlike) {
			r.undecided(unordered, r.log.asked[key])
			continue
		}
		decided, err := r.compare(caller, permissions[i], key, outcomes[i], o)
		if err != nil {
			return err
		}
		if decided {
			questions[key.permission] = true
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.Summary.Questions += len(questions)
	return nil
}

// reordered are the outcomes with the claims from the last to the first, and with the first
// one last: an element that is asked for by its place is another in one of them.
func reordered(
	ctx context.Context, by *offline.Policy, caller decision.Caller, permissions []wire.Permission,
) (all [][]*decision.Outcome, err error) {
	backwards := slices.Clone(caller.Claims)
	slices.Reverse(backwards)
	for _, claims := range [][]string{backwards, slices.Concat(caller.Claims[1:], caller.Claims[:1])} {
		other := caller
		other.Claims = claims
		outcomes, err := by.Outcomes(ctx, other, permissions)
		if err != nil {
			return nil, err
		}
		all = append(all, outcomes)
	}
	return all, nil
}

const unordered = "the policy decides by the order of the caller's claims, which the event does not tell"

const untyped = "it does not say whether the permission is about a resource, " +
	"and the inventory does not have the permission"

// permission is what was asked for, and whether that is known.
func (l *Log) permission(number int, inv *inventory.Inventory) (wire.Permission, bool) {
	p := l.subjects.values[number]
	if !p.untyped {
		return p.Permission, true
	}
	known, ok := inv.Permission(p.Name)
	return offline.Permission(known), ok
}

// undecided counts events that cannot be decided again.
func (r *replaying) undecided(why string, occurred *occurrences) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.Undecided[why] += occurred.events
}

var errLogged = errors.New("the policy failed when it was asked")

// compare compares an answer with what the policy decides now, and reports whether it can.
func (r *replaying) compare(
	caller decision.Caller, p wire.Permission, key questionKey, now *decision.Outcome, o Options,
) (bool, error) {
	was, err := logged(r.log.answers.values[key.answer])
	occurred := r.log.asked[key]
	if err != nil {
		r.undecided("its answer is no decision", occurred)
		return false, nil
	}
	was, now = comparison.Served(p, was), comparison.Served(p, now)
	c, err := o.Comparer.Compare(was, now)
	if err != nil {
		return false, fmt.Errorf("%s for %s: %w", p.Name, caller.User, err)
	}
	if c.Change == comparison.Same {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.report.Summary.Same += occurred.events
		return true, nil
	}
	said := says{p.Name, c.Say(o.Vocabulary, was, now, words.Caller{User: caller.User, Claims: caller.Claims})}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.add(said, occurred, caller)
	return true, nil
}

// says is what a change says of a permission.
type says struct {
	permission string
	said       comparison.Said
}

func (r *replaying) add(of says, occurred *occurrences, caller decision.Caller) {
	r.report.Summary.Add(of.said.Change, occurred.events)
	i, ok := r.at[of]
	if !ok {
		i = len(r.report.Changes)
		r.at[of] = i
		r.report.Changes = append(r.report.Changes, Replayed{
			Permission: of.permission, Said: of.said, users: make(map[string]bool),
		})
	}
	c := &r.report.Changes[i]
	c.Events += occurred.events
	if caller.Anonymous {
		c.signedOut = true
	} else {
		c.users[caller.User] = true
	}
	c.Examples = append(c.Examples, Example{caller.User, occurred.decisionID})
}

// logged is an answer of a log; the empty one is a failure.
func logged(answer loggedAnswer) (*decision.Outcome, error) {
	if answer.text == "" {
		return &decision.Outcome{Err: &decision.Failure{Kind: decision.FailureEvaluation, Cause: errLogged}}, nil
	}
	d := json.NewDecoder(strings.NewReader(answer.text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	of, reason, err := wire.ParseDecision(v)
	return &decision.Outcome{Decision: of, Reason: reason, Excluded: make([]error, answer.excluded)}, err
}

// MostUndecided is whether most of the log could not be decided again.
func (r *Report) MostUndecided() bool { return 2*r.Summary.Undecided > r.Summary.Events }

// Text is the report for a terminal.
func (r *Report) Text() string {
	var b strings.Builder
	for _, c := range r.Changes {
		fmt.Fprintf(&b, "%s  %s\n  %s, %s\n", c.Change, report.OneLine(c.Permission),
			c.whom(), report.Count(c.Events, "event", "events"))
		for _, line := range c.lines() {
			fmt.Fprintf(&b, "  %s\n", line)
		}
		b.WriteByte('\n')
	}
	s := r.Summary
	fmt.Fprintf(&b, "%s in %s\n", s.Counts, report.Count(s.Events-s.Undecided, "event", "events"))
	fmt.Fprintf(&b, "%s decided once each\n", report.Count(s.Questions, "distinct question", "distinct questions"))
	for _, path := range slices.Sorted(maps.Keys(r.LeftOut)) {
		fmt.Fprintf(&b, "left out: %s of another rule, %s\n", report.Count(r.LeftOut[path], "decision", "decisions"),
			report.OneLine(path))
	}
	if r.ByOperators > 0 {
		fmt.Fprintf(&b, "left out: %s that an operator asked for\n", report.Count(r.ByOperators, "decision", "decisions"))
	}
	for _, why := range slices.Sorted(maps.Keys(r.Undecided)) {
		fmt.Fprintf(&b, "not decided: %s, since %s\n", report.Count(r.Undecided[why], "event", "events"), why)
	}
	fmt.Fprintf(&b, "policy: %s\nlogs: %s\npeople: %s\n", r.About.Policy, strings.Join(r.About.Logs, ", "),
		r.About.People)
	for _, revision := range slices.Sorted(maps.Keys(r.Revisions)) {
		fmt.Fprintf(&b, "decided in the log by revision %s: %s\n", report.OneLine(revision),
			report.Count(r.Revisions[revision], "event", "events"))
	}
	if r.About.Path != "" {
		fmt.Fprintf(&b, "the log has the decisions of %s\n", report.OneLine(r.About.Path))
	}
	if r.About.Changing != "" {
		fmt.Fprintf(&b, "the policy answers by the time of this replay, not of the log: %s\n", r.About.Changing)
	}
	return b.String()
}

// whom says for how many people it changes. Callers without credentials are none.
func (c Replayed) whom() string {
	switch {
	case c.People == 0:
		return withoutCredentials
	case c.signedOut:
		return report.Count(c.People, "person", "people") + " and " + withoutCredentials
	}
	return report.Count(c.People, "person", "people")
}

const withoutCredentials = "callers without credentials"

func (c Replayed) lines() []string {
	lines := c.Lines()
	for _, e := range c.Examples {
		lines = append(lines, fmt.Sprintf("for example: %s, decision %s",
			report.OneLine(cmp.Or(e.User, withoutCredentials)), report.OneLine(e.DecisionID)))
	}
	return lines
}

// CSV has a line for each change.
func (r *Report) CSV() string {
	var b strings.Builder
	w := csv.NewWriter(&b)
	_ = w.Write([]string{"permission", "change", "people", "events", "gains", "loses", "was", "now",
		"error", "example", "decision"}) // to memory
	for _, c := range r.Changes {
		var e Example
		if len(c.Examples) > 0 {
			e = c.Examples[0]
		}
		_ = w.Write([]string{
			report.Cell(c.Permission), string(c.Change), strconv.Itoa(c.People), strconv.Itoa(c.Events),
			report.Cell(c.GainsInWords), report.Cell(c.LosesInWords),
			report.Cell(c.OldInWords), report.Cell(c.NewInWords), report.Cell(c.Error), report.Cell(e.User),
			report.Cell(e.DecisionID),
		})
	}
	w.Flush()
	return b.String()
}
