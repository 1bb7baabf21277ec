// Package review tells what a change of a policy changes: not which text, but who may
// do what more or less.
//
// [Diff] compares two policies (package comparison) over every permission of an inventory
// and every class of callers (package audience). It counts the entities that change hands
// (package census), and names the rules that decide (package provenance). It asks the
// engine that serves.
package review

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/stagedoor/stagedoor/adapter/audience"
	"github.com/stagedoor/stagedoor/adapter/census"
	"github.com/stagedoor/stagedoor/adapter/comparison"
	"github.com/stagedoor/stagedoor/adapter/criteria"
	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/inventory"
	"github.com/stagedoor/stagedoor/adapter/offline"
	"github.com/stagedoor/stagedoor/adapter/provenance"
	"github.com/stagedoor/stagedoor/adapter/wire"
	"github.com/stagedoor/stagedoor/adapter/words"
)

// Options are what a review is asked about.
type Options struct {
	// Inventory has the permissions, and perhaps people and entities.
	Inventory *inventory.Inventory
	// Who are the callers that are asked for.
	Who *audience.Who
	// Vocabulary says conditions in words.
	Vocabulary words.Vocabulary
	// Comparer compares decisions.
	Comparer *comparison.Comparer
	// Entities asks rules about the inventory's entities; nil where there are none.
	Entities *census.Census
	// Old and New find the rules that decide; nil where nobody can tell.
	Old, New *provenance.Tracer
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
	comparison.Counts
	// Without is data that the policies read and no file has. Another bundle or an operator
	// may bring it: then they may answer in another way.
	Without []string `json:"without,omitempty"`
	// Beyond are changes for callers whom the report does not list, of a kind that no listed
	// caller shows.
	Beyond []comparison.Change `json:"beyond,omitempty"`
}

// Unlisted notes the changes of every caller there can be; has tells whether there is one of
// some kinds.
func (s *Summary) Unlisted(has func(...comparison.Change) bool) {
	shows := map[comparison.Change]bool{
		comparison.Wider:    s.Has(comparison.Wider, comparison.Other),
		comparison.Other:    s.Has(comparison.Other) || s.Has(comparison.Wider) && s.Has(comparison.Narrower),
		comparison.Narrower: s.Has(comparison.Narrower, comparison.Other),
	}
	for _, change := range []comparison.Change{comparison.Wider, comparison.Other, comparison.Narrower} {
		if has(change) && !shows[change] {
			s.Beyond = append(s.Beyond, change)
		}
	}
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

// A Difference is a change of one permission for some callers. Criteria and words are
// those of the first caller's example; its references stand in them as "the caller".
type Difference struct {
	Permission string `json:"permission"`
	comparison.Said
	Callers []audience.Affected `json:"callers"`
	Gains   *criteria.Criteria  `json:"gains,omitempty"`
	Loses   *criteria.Criteria  `json:"loses,omitempty"`
	Old     *wire.Decision      `json:"old"`
	New     *wire.Decision      `json:"new"`
	// Witness is an entity that changes hands, or what is true of one.
	Witness  string         `json:"witness,omitempty"`
	From     []string       `json:"from,omitempty"`
	Entities *census.Counts `json:"entities,omitempty"`

	question offline.Question
	answers  map[criteria.Rule]bool
	// before and after are where the policies allow.
	before, after criteria.Criteria
}

// A Decider answers permissions for a caller: a policy that was opened, or a stagedoor
// that serves. Outcomes are in the order asked; what fails for one permission is in its
// outcome.
type Decider interface {
	Outcomes(ctx context.Context, caller decision.Caller, permissions []wire.Permission) ([]*decision.Outcome, error)
}

// Diff compares two policies. The error is the context's, that of a Decider, or
// [criteria.ErrTooLarge] with the question that it is about.
func Diff(ctx context.Context, before, after Decider, o Options) (*Report, error) {
	permissions := make([]wire.Permission, len(o.Inventory.Permissions))
	for i, p := range o.Inventory.Permissions {
		permissions[i] = offline.Permission(p)
	}
	found := make([][]Difference, len(o.Who.List)) // by class
	if err := o.Who.Each(ctx, o.Progress, func(ctx context.Context, i int) (err error) {
		found[i], err = o.class(ctx, before, after, o.Who.List[i], permissions)
		return err
	}); err != nil {
		return nil, err
	}
	if o.Entities != nil {
		if err := o.count(ctx, found); err != nil {
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
		d.From = provenance.Decided(ctx, o.Old, o.New, d.question, d.answers)
	}
	return r, ctx.Err()
}

// count counts for each change the entities that change hands.
func (o Options) count(ctx context.Context, found [][]Difference) error {
	if err := o.Entities.Ask(ctx, func(yield func(criteria.Criteria) bool) {
		for _, differences := range found {
			for _, d := range differences {
				if !yield(d.before) || !yield(d.after) {
					return
				}
			}
		}
	}); err != nil {
		return err
	}
	for _, differences := range found {
		for i := range differences {
			d := &differences[i]
			if d.question.Permission.ResourceType == "catalog-entity" && d.Change != comparison.Breaks {
				d.Entities = o.Entities.Counts(d.before, d.after, d.Callers[0].Class)
			}
		}
	}
	return nil
}

// class finds the differences for a class of callers.
func (o Options) class(
	ctx context.Context, before, after Decider, class audience.Class, permissions []wire.Permission,
) ([]Difference, error) {
	from, err := before.Outcomes(ctx, class.Example, permissions)
	if err != nil {
		return nil, err
	}
	to, err := after.Outcomes(ctx, class.Example, permissions)
	if err != nil {
		return nil, err
	}
	var found []Difference
	for i, p := range permissions {
		from[i], to[i] = comparison.Served(p, from[i]), comparison.Served(p, to[i])
		if o.Old == nil { // a stagedoor that serves does not tell which parts failed
			like := *from[i] // which may be remembered
			like.Excluded = to[i].Excluded
			from[i] = &like
		}
		c, err := o.Comparer.Compare(from[i], to[i])
		if err != nil {
			return nil, fmt.Errorf("%s for %s: %w", p.Name, class.Name, err)
		}
		if c.Change == comparison.Same {
			continue
		}
		found = append(found, o.difference(c, class, p, from[i], to[i]))
	}
	return found, nil
}

func (o Options) difference(
	c comparison.Comparison, class audience.Class, p wire.Permission, from, to *decision.Outcome,
) Difference {
	who := words.Caller{User: class.Example.User, Claims: class.Example.Claims}
	d := Difference{
		Permission: p.Name, Said: c.Say(o.Vocabulary, from, to, who),
		Callers: []audience.Affected{class.Affected()}, Old: &from.Decision, New: &to.Decision,
		Witness:  c.SayWitness(o.Vocabulary, who),
		question: offline.Question{Caller: class.Example, Permission: p}, answers: c.Witness,
		before: comparison.Allowed(from), after: comparison.Allowed(to),
	}
	if to.Err != nil {
		d.New = nil
	}
	if from.Err != nil {
		d.Old = nil
	}
	if c.Gains.Op != criteria.Never {
		d.Gains = &c.Gains
	}
	if c.Loses.Op != criteria.Never {
		d.Loses = &c.Loses
	}
	return d
}

// says is what a change says of a permission.
type says struct {
	permission string
	said       comparison.Said
}

// fold counts what was found and folds it over callers.
func (r *Report) fold(found [][]Difference) {
	at := make(map[says]int)
	for _, differences := range found {
		for _, d := range differences {
			r.Summary.Add(d.Change, 1)
			key := says{d.Permission, d.Said}
			if i, ok := at[key]; ok {
				r.Differences[i].add(d)
				continue
			}
			at[key] = len(r.Differences)
			r.Differences = append(r.Differences, d)
		}
	}
	slices.SortStableFunc(r.Differences, func(a, b Difference) int {
		return cmp.Or(cmp.Compare(a.Change.Rank(), b.Change.Rank()), cmp.Compare(a.Permission, b.Permission),
			cmp.Compare(audience.People(b.Callers), audience.People(a.Callers)))
	})
}

// add adds the callers of a change that says the same.
func (d *Difference) add(other Difference) {
	d.Callers = append(d.Callers, other.Callers...)
	d.Entities = d.Entities.More(other.Entities)
}
