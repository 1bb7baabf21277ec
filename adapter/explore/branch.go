package explore

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/stagedoor/stagedoor/adapter/criteria"
)

// explore finds every outcome of a query: the value of resultVar, or true where
// there is a solution that does not bind it.
func (w *world) explore(body ast.Body, goal *document, at *ast.Location, text string) ([]outcome, error) {
	w.explored++
	x := exploration{world: w, body: body, goal: goal, choice: make(map[int]int), asked: make(map[int]bool)}
	defer w.begin(task{at, text, x.asked})()
	return x.branch()
}

type exploration struct {
	*world
	body   ast.Body
	goal   *document
	choice map[int]int
	asked  map[int]bool // all questions that were asked
}

// branch explores what is left open by the choices made.
func (x *exploration) branch() ([]outcome, error) {
	if x.branches++; x.branches > x.policy.limits.Branches {
		return nil, x.limit(x.policy.limits.Branches, "evaluations to explore this")
	}
	r := &run{world: x.world, goal: x.goal, choice: x.choice, seen: make(map[int]bool)}
	leaf := outcome{where: criteria.Granted}
	failure, err := x.evaluate(x.body, r, func(result topdown.QueryResult) {
		var bound bool
		if leaf.value, bound = result[varOf(resultVar)]; !bound {
			leaf.value = ast.InternedTerm(true)
		}
	})
	if err != nil {
		return nil, err
	}
	if failure != nil {
		leaf.value, leaf.err = nil, failure
	}
	for _, q := range r.open {
		x.choice[q] = 0
		x.asked[q] = true
	}
	outcomes := []outcome{leaf}
	for i := len(r.open) - 1; i >= 0; i-- {
		q := r.open[i]
		for choice := 1; choice < len(x.questions[q].outcomes); choice++ {
			x.choice[q] = choice
			other, err := x.branch()
			if err != nil {
				return nil, err
			}
			outcomes = x.either(x.questions[q].outcomes[choice].where, other, outcomes)
		}
		delete(x.choice, q)
	}
	return outcomes, nil
}

// either joins the outcomes where cond holds with those where it does not. What is
// nowhere is left out.
func (x *exploration) either(cond criteria.Function, then, otherwise []outcome) []outcome {
	var joined []outcome
	add := func(o outcome, where criteria.Function) {
		if o.where = where; where != criteria.Denied {
			joined = append(joined, o)
		}
	}
	for _, o := range otherwise {
		where := criteria.Denied
		if i := slices.IndexFunc(then, o.same); i >= 0 {
			where = then[i].where
		}
		add(o, x.space.If(cond, where, o.where))
	}
	for _, o := range then {
		if !slices.ContainsFunc(otherwise, o.same) {
			add(o, x.space.All(cond, o.where))
		}
	}
	return joined
}

func (o outcome) same(other outcome) bool {
	switch {
	case o.err != nil && other.err != nil:
		return o.err.Error() == other.err.Error()
	case o.err != nil || other.err != nil:
		return false
	case o.value == nil || other.value == nil:
		return o.value == other.value
	}
	return o.value.Equal(other.value)
}
