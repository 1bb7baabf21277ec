package comparison_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stagedoor/stagedoor/adapter/comparison"
	"github.com/stagedoor/stagedoor/adapter/criteria"
	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/wire"
	"github.com/stagedoor/stagedoor/adapter/words"
)

// TestBreaks fails wholly, in a part, and as it did before.
func TestBreaks(t *testing.T) {
	allow := func(failed ...error) *decision.Outcome {
		return &decision.Outcome{Decision: wire.Decision{Result: wire.Allow}, Excluded: failed}
	}
	deny := &decision.Outcome{}
	failed := &decision.Outcome{Err: errors.New("conflict")}
	part := errors.New("a conflict\n  in a branch")
	for name, test := range map[string]struct {
		before, after *decision.Outcome
		want          comparison.Change
		lines         []string
	}{
		"wholly":               {allow(), failed, comparison.Breaks, []string{"fails: conflict", "was: ALLOW"}},
		"as before":            {failed, failed, comparison.Same, nil},
		"no longer":            {failed, allow(), comparison.Wider, []string{"was: fails", "now: ALLOW"}},
		"in a part":            {allow(), allow(part), comparison.Breaks, []string{"a part of it fails: a conflict in a branch", "was: ALLOW", "now: ALLOW"}},
		"in a part, and gains": {deny, allow(part), comparison.Breaks, []string{"a part of it fails: a conflict in a branch", "was: DENY", "now: ALLOW"}},
		"in a part, as before": {allow(part), allow(part), comparison.Same, nil},
		"in another part more": {allow(part), allow(part, part), comparison.Breaks, []string{"a part of it fails: a conflict in a branch a conflict in a branch", "was: ALLOW", "now: ALLOW"}},
		"in a part no longer":  {allow(part), allow(), comparison.Same, nil},
	} {
		t.Run(name, func(t *testing.T) {
			found, err := comparison.ComparerOf().Compare(test.before, test.after)
			if err != nil || found.Change != test.want {
				t.Fatalf("%v, %v", found.Change, err)
			}
			if test.want == comparison.Same {
				return
			}
			if lines := found.Say(nil, test.before, test.after, words.Caller{}).Lines(); !slices.Equal(lines, test.lines) {
				t.Errorf("%q", lines)
			}
			if gains := found.Gains.Op != criteria.Never; gains != (comparison.Allowed(test.before).Op != criteria.Always && test.after.Err == nil) {
				t.Errorf("gains %v", found.Gains)
			}
		})
	}
}

// TestServed compares conditions that do not fit the permission.
func TestServed(t *testing.T) {
	about := func(resourceType string) *decision.Outcome {
		return &decision.Outcome{Decision: wire.NewConditional("catalog", resourceType, criteria.Criteria{Op: criteria.Leaf,
			Rule: criteria.Rule{Name: "IS_ENTITY_OWNER", ResourceType: "catalog-entity", Params: `{"claims":[]}`}})}
	}
	resource := wire.Permission{Name: "catalog.entity.delete", Resource: true, ResourceType: "catalog-entity"}
	basic := wire.Permission{Name: "catalog.entity.create"}
	for name, test := range map[string]struct {
		permission    wire.Permission
		before, after *decision.Outcome
		want          comparison.Change
	}{
		"another type now":       {resource, about("catalog-entity"), about("catalog-entitty"), comparison.Breaks},
		"another type before":    {resource, about("catalog-entitty"), about("catalog-entity"), comparison.Wider},
		"another type always":    {resource, about("catalog-entitty"), about("catalog-entitty"), comparison.Same},
		"about no resource":      {basic, &decision.Outcome{}, about("catalog-entity"), comparison.Breaks},
		"the type of permission": {resource, about("catalog-entity"), about("catalog-entity"), comparison.Same},
	} {
		t.Run(name, func(t *testing.T) {
			before, after := comparison.Served(test.permission, test.before), comparison.Served(test.permission, test.after)
			found, err := comparison.ComparerOf().Compare(before, after)
			if err != nil || found.Change != test.want {
				t.Fatalf("%v, %v", found.Change, err)
			}
			if found.Change != comparison.Same && len(found.Say(nil, before, after, words.Caller{}).Lines()) == 0 {
				t.Error("nothing is said")
			}
		})
	}
}

// TestIntertwined compares conditions whose difference is too intertwined to be written anew: which of 16 labels there are
// an odd number of.
func TestIntertwined(t *testing.T) {
	label := func(i int) criteria.Criteria {
		return criteria.Criteria{Op: criteria.Leaf, Rule: criteria.Rule{
			Name: "HAS_LABEL", ResourceType: "catalog-entity", Params: fmt.Sprintf(`{"label":"l%02d"}`, i)}}
	}
	not := func(c criteria.Criteria) criteria.Criteria {
		return criteria.Criteria{Op: criteria.Not, Of: []criteria.Criteria{c}}
	}
	both := func(a, b criteria.Criteria) criteria.Criteria {
		return criteria.Criteria{Op: criteria.AllOf, Of: []criteria.Criteria{a, b}}
	}
	var odd func(from, to int) criteria.Criteria
	odd = func(from, to int) criteria.Criteria {
		if to-from == 1 {
			return label(from)
		}
		a, b := odd(from, (from+to)/2), odd((from+to)/2, to)
		return criteria.Criteria{Op: criteria.AnyOf, Of: []criteria.Criteria{both(a, not(b)), both(not(a), b)}}
	}
	// Any of so many products, each of four labels or their absence.
	products := func(n int, seed uint64) criteria.Criteria {
		draw := rand.New(rand.NewPCG(seed, 1))
		sum := criteria.Criteria{Op: criteria.AnyOf}
		for range n {
			product := criteria.Criteria{Op: criteria.AllOf}
			for range 4 {
				literal := label(draw.IntN(17))
				if draw.IntN(2) == 0 {
					literal = not(literal)
				}
				product.Of = append(product.Of, literal)
			}
			sum.Of = append(sum.Of, product)
		}
		return sum
	}
	where := func(c criteria.Criteria) *decision.Outcome {
		return &decision.Outcome{Decision: wire.NewConditional("catalog", "catalog-entity", c)}
	}
	allow, deny := &decision.Outcome{Decision: wire.Decision{Result: wire.Allow}}, &decision.Outcome{}
	for name, test := range map[string]struct {
		before, after *decision.Outcome
		want          comparison.Change
	}{
		"of nothing":   {deny, where(odd(0, 16)), comparison.Wider},
		"of all":       {allow, where(odd(0, 16)), comparison.Narrower},
		"of a label":   {where(label(16)), where(odd(0, 16)), comparison.Other},
		"of a part":    {where(both(odd(0, 16), label(16))), where(odd(0, 16)), comparison.Wider},
		"of products":  {where(products(40, 1)), where(products(40, 2)), comparison.Other},
		"another text": {where(both(odd(0, 16), not(both(label(0), not(label(0)))))), where(odd(0, 16)), comparison.Same},
	} {
		t.Run(name, func(t *testing.T) {
			found, err := comparison.ComparerOf().Compare(test.before, test.after)
			if err != nil || found.Change != test.want {
				t.Fatalf("%v, %v", found.Change, err)
			}
			for labels := range 1 << 17 {
				has := func(r criteria.Rule) bool {
					var i int
					_, _ = fmt.Sscanf(r.Params, `{"label":"l%d"}`, &i)
					return labels&(1<<i) != 0
				}
				if labels%97 > 0 {
					continue
				}
				before, after := comparison.Allowed(test.before).Eval(has), comparison.Allowed(test.after).Eval(has)
				if found.Gains.Eval(has) != (after && !before) || found.Loses.Eval(has) != (before && !after) {
					t.Fatalf("%b: before %t, after %t", labels, before, after)
				}
			}
		})
	}
}
