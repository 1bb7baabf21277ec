package review

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/stagedoor/stagedoor/adapter/criteria"
	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/inventory"
	"github.com/stagedoor/stagedoor/adapter/offline"
	"github.com/stagedoor/stagedoor/adapter/wire"
	"github.com/stagedoor/stagedoor/adapter/words"
)

// Options are what a review is asked about.
type Options struct {
	// Inventory has the permissions, and perhaps people and entities.
	Inventory *inventory.Inventory
	// Who are the callers that are asked for.
	Who *Who
	// Vocabulary says conditions in words.
	Vocabulary words.Vocabulary
	// Comparer compares decisions.
	Comparer *Comparer
	// Entities asks rules about the inventory's entities; nil where there are none.
	Entities *Entities
	// Old and New find the rules that decide; nil where nobody can tell.
	Old, New *Tracer
	// Progress is told how much of the work is done; nil for nobody.
	Progress func(done, of int)
}

// A Report is what a change of policy changes.
type Report struct {
	Summary Summary `json:"summary"`
	// Differences are those of each permission, folded over the callers for whom the
	// change says the same.
	Differences []Difference `json:"changes"`
	// About says what was asked.
	About About `json:"about"`
}

// Summary counts questions: permissions times classes of callers.
type Summary struct {
	Questions int `json:"questions"`
	Breaks    int `json:"breaks"`
	Wider     int `json:"wider"`
	Narrower  int `json:"narrower"`
	Other     int `json:"other"`
}

// About is what a report is about, so that it can be read by itself.
type About struct {
	Old       string `json:"old"`
	New       string `json:"new"`
	Inventory string `json:"inventory"`
	Callers   string `json:"callers"`
	// AllCallers is whether there can be no others that are treated in another way.
	AllCallers bool   `json:"allCallers"`
	Why        string `json:"why,omitempty"`
	Entities   int    `json:"entities,omitempty"`
}

// A Difference is a change of one permission for some callers.
type Difference struct {
	Permission   string             `json:"permission"`
	Change       Change             `json:"change"`
	Callers      []Affected         `json:"callers"`
	Gains        *criteria.Criteria `json:"gains,omitempty"`
	Loses        *criteria.Criteria `json:"loses,omitempty"`
	GainsInWords string             `json:"gainsInWords,omitempty"`
	LosesInWords string             `json:"losesInWords,omitempty"`
	Old          *wire.Decision     `json:"old"`
	New          *wire.Decision     `json:"new"`
	OldInWords   string             `json:"oldInWords"`
	NewInWords   string             `json:"newInWords"`
	// Error is why the new policy fails, of BREAKS.
	Error string `json:"error,omitempty"`
	// Witness is an entity that changes hands, or what is true of one.
	Witness  string        `json:"witness,omitempty"`
	From     []string      `json:"from,omitempty"`
	Entities *EntityCounts `json:"entities,omitempty"`

	permission wire.Permission
	caller     decision.Caller
	answers    map[criteria.Rule]bool
	// before and after are where the policies allow.
	before, after criteria.Criteria
}

// Affected are callers that a change is about. Criteria and words are those of the
// example; its references stand in them as "the caller".
type Affected struct {
	Example string `json:"example"`
	Count   int    `json:"count"`
	Class   string `json:"class"`
}

// Diff compares two policies. The error is the context's, that of a Decider, or
// [criteria.ErrTooLarge] with the question that it is about.
func Diff(ctx context.Context, before, after Decider, o Options) (*Report, error) {
	permissions := make([]wire.Permission, len(o.Inventory.Permissions))
	for i, p := range o.Inventory.Permissions {
		permissions[i] = offline.Permission(p)
	}
	found := make([][]Difference, len(o.Who.List)) // by class
	if err := o.each(ctx, func(ctx context.Context, i int) (err error) {
		found[i], err = o.class(ctx, before, after, o.Who.List[i], permissions)
		return err
	}); err != nil {
		return nil, err
	}
	if o.Entities != nil {
		if err := o.Entities.count(ctx, found); err != nil {
			return nil, err
		}
	}
	r := &Report{Differences: []Difference{}, About: About{
		Inventory: o.Inventory.Source, Callers: o.Who.Of, AllCallers: o.Who.All, Why: o.Who.Why,
		Entities: len(o.Inventory.Entities),
	}}
	r.Summary.Questions = len(permissions) * len(o.Who.List)
	r.fold(found)
	for i := range r.Differences {
		d := &r.Differences[i]
		d.From = Decided(ctx, o.Old, o.New, d)
	}
	return r, ctx.Err()
}

// each does something for every class, on all processors.
func (o Options) each(ctx context.Context, do func(context.Context, int) error) error {
	var mu sync.Mutex
	done := 0
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i := range o.Who.List {
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			err := do(ctx, i)
			mu.Lock()
			defer mu.Unlock()
			done++
			if o.Progress != nil {
				o.Progress(done, len(o.Who.List))
			}
			return err
		})
	}
	return group.Wait()
}

// class finds the differences for a class of callers.
func (o Options) class(
	ctx context.Context, before, after Decider, class Class, permissions []wire.Permission,
) ([]Difference, error) {
	from, err := before.Decide(ctx, class.Example, permissions)
	if err != nil {
		return nil, err
	}
	to, err := after.Decide(ctx, class.Example, permissions)
	if err != nil {
		return nil, err
	}
	var found []Difference
	for i, p := range permissions {
		c, err := o.Comparer.Compare(from[i], to[i])
		if err != nil {
			return nil, fmt.Errorf("%s for %s: %w", p.Name, class.Name, err)
		}
		if c.Change == Same {
			continue
		}
		found = append(found, o.difference(c, class, p, from[i], to[i]))
	}
	return found, nil
}

func (o Options) difference(c Comparison, class Class, p wire.Permission, from, to *decision.Outcome) Difference {
	who := words.Caller{User: class.Example.User, Claims: class.Example.Claims}
	d := Difference{
		Permission: p.Name, Change: c.Change,
		Callers: []Affected{{Example: exampleOf(class.Example), Count: class.People, Class: class.Name}},
		Old:     &from.Decision, New: &to.Decision,
		OldInWords: o.inWords(from, who), NewInWords: o.inWords(to, who),
		permission: p, caller: class.Example, answers: c.Witness, before: allowed(from), after: allowed(to),
	}
	d.Witness = o.witness(c.Witness, who)
	if to.Err != nil {
		d.Error, d.New = oneLine(to.Err.Error()), nil
	}
	if from.Err != nil {
		d.Old = nil
	}
	if c.Gains.Op != criteria.Never {
		d.Gains, d.GainsInWords = &c.Gains, o.Vocabulary.Condition(c.Gains, who)
	}
	if c.Loses.Op != criteria.Never {
		d.Loses, d.LosesInWords = &c.Loses, o.Vocabulary.Condition(c.Loses, who)
	}
	return d
}

// witness says what is true of a resource for which the decisions differ.
func (o Options) witness(answers map[criteria.Rule]bool, who words.Caller) string {
	var said []string
	for rule, holds := range answers {
		said = append(said, o.Vocabulary.Leaf(rule, holds, who))
	}
	slices.Sort(said)
	return strings.Join(said, ", and ")
}

func exampleOf(c decision.Caller) string {
	if c.Anonymous {
		return ""
	}
	return c.User
}

// inWords says a decision.
func (o Options) inWords(of *decision.Outcome, who words.Caller) string {
	switch {
	case of.Err != nil:
		return "fails"
	case of.Decision.Result == wire.Conditional:
		return o.Vocabulary.Condition(of.Decision.Conditions, who)
	}
	return of.Decision.Result.String()
}

// says is what a change says. Callers for whom it says the same are told together.
type says struct {
	permission                     string
	change                         Change
	gains, loses, before, after, e string
}

func (d *Difference) says() says {
	return says{d.Permission, d.Change, d.GainsInWords, d.LosesInWords, d.OldInWords, d.NewInWords, d.Error}
}

// fold counts what was found and folds it over callers.
func (r *Report) fold(found [][]Difference) {
	at := make(map[says]int)
	for _, differences := range found {
		for _, d := range differences {
			r.Summary.count(d.Change)
			key := d.says()
			if i, ok := at[key]; ok {
				r.Differences[i].add(d)
				continue
			}
			at[key] = len(r.Differences)
			r.Differences = append(r.Differences, d)
		}
	}
	slices.SortStableFunc(r.Differences, func(a, b Difference) int {
		return cmp.Or(cmp.Compare(a.Change.rank(), b.Change.rank()), cmp.Compare(a.Permission, b.Permission),
			cmp.Compare(b.people(), a.people()))
	})
}

func (s *Summary) count(c Change) {
	switch c {
	case Breaks:
		s.Breaks++
	case Wider:
		s.Wider++
	case Narrower:
		s.Narrower++
	case Other:
		s.Other++
	}
}

// rank orders changes, what a reviewer must see first.
func (c Change) rank() int { return slices.Index([]Change{Breaks, Wider, Other, Narrower, Same}, c) }

func (d *Difference) people() int {
	n := 0
	for _, c := range d.Callers {
		n += c.Count
	}
	return n
}

// add adds the callers of a change that says the same.
func (d *Difference) add(other Difference) {
	d.Callers = append(d.Callers, other.Callers...)
	d.Entities = d.Entities.more(other.Entities)
}

// oneLine joins the lines of a text.
func oneLine(text string) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return strings.Join(lines, " ")
}
