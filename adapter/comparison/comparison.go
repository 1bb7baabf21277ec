// Package comparison says how a decision differs from an earlier one.
//
// A decision is a condition on the resource: ALLOW holds for every resource, DENY for
// none. So two decisions are compared as formulas (package criteria), and a change is
// one of these:
//
//	SAME      both allow the same resources, however the condition is written
//	WIDER     the new policy allows all that the old one did, and more
//	NARROWER  the new policy allows less, and nothing new
//	OTHER     it gains here and loses there
//	BREAKS    the new policy fails where the old one decided, or a part of it does
//
// Of a policy about the resource, a branch can fail that is then no part of the
// conditions. The decision is compared without it, and is BREAKS where more branches fail
// than before, whatever else it is.
//
// A policy that fails allows nothing. So an old policy that failed is compared as one
// that denied. A condition that does not fit the permission is a failure ([Served]).
package comparison

import (
	"errors"
	"fmt"
	"slices"

	"github.com/stagedoor/stagedoor/adapter/criteria"
	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/explore"
	"github.com/stagedoor/stagedoor/adapter/offline"
	"github.com/stagedoor/stagedoor/adapter/wire"
	"github.com/stagedoor/stagedoor/adapter/words"
)

// Change is how a decision differs from an earlier one.
type Change string

// The changes.
const (
	Same     Change = "SAME"
	Wider    Change = "WIDER"
	Narrower Change = "NARROWER"
	Other    Change = "OTHER"
	Breaks   Change = "BREAKS"
)

// Rank orders changes, what a reviewer must see first.
func (c Change) Rank() int { return slices.Index([]Change{Breaks, Wider, Other, Narrower, Same}, c) }

// A Comparison is how one decision differs from another.
type Comparison struct {
	Change Change
	// Gains and Loses are where the new decision allows and the old one does not, and
	// the other way round.
	Gains, Loses criteria.Criteria
	// Witness are answers to rules under which the decisions differ; nil where they
	// differ for every resource, or not at all.
	Witness map[criteria.Rule]bool
}

// A Comparer compares decisions. It is safe for concurrent use.
type Comparer struct {
	// anyOf is the parameter of a rule whose list means "any of".
	anyOf map[words.Rule]string
}

// NewComparer returns a Comparer that knows the rules of policies.
func NewComparer(policies ...*offline.Policy) *Comparer {
	rules := make([][]*explore.PermissionRule, len(policies))
	for i, p := range policies {
		rules[i] = p.Rules()
	}
	return ComparerOf(rules...)
}

// ComparerOf returns a Comparer that knows rules. Where these differ in whether a list
// means "any of", it is taken to mean nothing.
func ComparerOf(of ...[]*explore.PermissionRule) *Comparer {
	c := &Comparer{anyOf: make(map[words.Rule]string)}
	for _, rules := range of {
		for _, r := range rules {
			key := words.Rule{Name: r.Name, ResourceType: r.ResourceType}
			if known, ok := c.anyOf[key]; ok && known != r.AnyOf {
				c.anyOf[key] = ""
				continue
			}
			c.anyOf[key] = r.AnyOf
		}
	}
	return c
}

// Compare says how an outcome differs from an earlier one. The error is
// [criteria.ErrTooLarge].
func (c *Comparer) Compare(before, after *decision.Outcome) (Comparison, error) {
	switch {
	case after.Err != nil && before.Err == nil:
		return Comparison{Change: Breaks}, nil
	case after.Err != nil:
		return Comparison{Change: Same}, nil //nolint:nilerr // it failed before, too
	}
	found, err := c.decisions(before, after)
	if err == nil && len(after.Excluded) > len(before.Excluded) {
		found.Change = Breaks
	}
	return found, err
}

// decisions compares what both policies decided, a failure before as a denial.
func (c *Comparer) decisions(before, after *decision.Outcome) (Comparison, error) {
	from, to := Allowed(before), Allowed(after)
	if from.Equal(to) && before.Decision.PluginID == after.Decision.PluginID &&
		before.Decision.ResourceType == after.Decision.ResourceType {
		return Comparison{Change: Same}, nil
	}
	if b, a := before.Decision, after.Decision; b.Result == wire.Conditional && a.Result == wire.Conditional &&
		(b.PluginID != a.PluginID || b.ResourceType != a.ResourceType) {
		// Two plugins, and so no resource of which both say something.
		return Comparison{Change: Other, Gains: to, Loses: from}, nil
	}
	return c.conditions(from, to)
}

// Allowed is where an outcome allows.
func Allowed(o *decision.Outcome) criteria.Criteria {
	switch {
	case o.Err != nil:
		return criteria.Criteria{Op: criteria.Never}
	case o.Decision.Result == wire.Allow:
		return criteria.Criteria{Op: criteria.Always}
	case o.Decision.Result == wire.Conditional:
		return o.Decision.Conditions
	}
	return criteria.Criteria{Op: criteria.Never}
}

// beyond is where f holds and g does not, whose conditions are given too. Where that is too
// intertwined to be written anew, it is said as it is: the one, and not the other.
func beyond(s *criteria.Space, f, g criteria.Function, of, than criteria.Criteria) (criteria.Criteria, error) {
	difference, err := s.Difference(f, g)
	if !errors.Is(err, criteria.ErrTooLarge) {
		return difference, err
	}
	if never, err := s.Implies(f, g); err != nil || never {
		return criteria.Criteria{}, err
	}
	not := criteria.Criteria{Op: criteria.Not, Of: []criteria.Criteria{than}}
	switch {
	case than.Op == criteria.Never:
		return of, nil
	case of.Op == criteria.Always:
		return not, nil
	}
	return criteria.Criteria{Op: criteria.AllOf, Of: []criteria.Criteria{of, not}}, nil
}

func (c *Comparer) conditions(from, to criteria.Criteria) (Comparison, error) {
	s := criteria.NewSpace()
	var of [2]criteria.Function
	for i, condition := range []criteria.Criteria{from, to} {
		var err error
		if of[i], err = s.Read(condition, c.ListOf); err != nil {
			return Comparison{}, err
		}
	}
	if err := c.assume(s, from, to); err != nil {
		return Comparison{}, err
	}
	gains, err := beyond(s, of[1], of[0], to, from)
	if err != nil {
		return Comparison{}, fmt.Errorf("comparing two conditions: %w", err)
	}
	loses, err := beyond(s, of[0], of[1], from, to)
	if err != nil {
		return Comparison{}, fmt.Errorf("comparing two conditions: %w", err)
	}
	found := Comparison{Change: Same, Gains: gains, Loses: loses}
	differs := s.All(of[1], of[0].Not())
	switch {
	case gains.Op != criteria.Never && loses.Op != criteria.Never:
		found.Change = Other
	case gains.Op != criteria.Never:
		found.Change = Wider
	case loses.Op != criteria.Never:
		found.Change, differs = Narrower, s.All(of[0], of[1].Not())
	default:
		return found, nil
	}
	found.Witness, err = s.Witness(differs)
	return found, err
}

// ListOf is the parameter of a rule whose list means "any of"; empty where there is none.
func (c *Comparer) ListOf(r criteria.Rule) string {
	return c.anyOf[words.Rule{Name: r.Name, ResourceType: r.ResourceType}]
}
