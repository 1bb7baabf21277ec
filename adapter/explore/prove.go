package explore

import (
	"errors"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/stagedoor/stagedoor/adapter/criteria"
)

// errNotProved is that something must be explored: an evaluation fails under some
// answers, and only stock evaluation tells under which.
var errNotProved = errors.New("not proved")

// knownKey finds what is known of a document or group with some arguments.
type knownKey struct {
	of   any // a *document, a *premise or a *collection
	hash int
}

type knownOutcomes struct {
	args     []*ast.Term
	outcomes []outcome
}

// once returns what is known, or finds it and remembers it.
func (w *world) once(of any, args []*ast.Term, find func() ([]outcome, error)) ([]outcome, error) {
	key := hashed(of, args)
	for _, known := range w.known[key] {
		if sameTerms(known.args, args) {
			return known.outcomes, nil
		}
	}
	outcomes, err := find()
	if err == nil {
		w.known[key] = append(w.known[key], knownOutcomes{args, outcomes})
	}
	return outcomes, err
}

func hashed(of any, args []*ast.Term) knownKey {
	key := knownKey{of: of}
	for _, arg := range args {
		key.hash = key.hash*31 + arg.Hash()
	}
	return key
}

func sameTerms(a, b []*ast.Term) bool {
	return slices.EqualFunc(a, b, func(a, b *ast.Term) bool { return a.Equal(b) })
}

// entry finds the outcomes of the entrypoint.
func (w *world) entry() ([]outcome, error) {
	if doc := w.policy.plan.documents.at(w.policy.entrypoint); doc != nil {
		return w.outcomes(doc, nil)
	}
	return w.explore(valueOf(w.policy.entrypoint), nil, w.policy.at, w.policy.entrypoint.String())
}

// outcomes finds the outcomes of a document, of a function for some arguments.
// The error ends the decision; that of an evaluation is an outcome.
func (w *world) outcomes(doc *document, args []*ast.Term) ([]outcome, error) {
	return w.once(doc, args, func() ([]outcome, error) {
		if doc.proved {
			outcomes, err := w.proveDocument(doc, args)
			if !errors.Is(err, errNotProved) {
				return outcomes, err
			}
		}
		at := w.policy.compiler.GetRulesExact(doc.ref)[0].Location
		return w.explore(w.goalBody(doc, args), doc, at, doc.ref.String())
	})
}

// goalBody is the query for the value of a document.
func (*world) goalBody(doc *document, args []*ast.Term) ast.Body {
	if doc.function {
		return callOf(doc.ref, args)
	}
	return valueOf(doc.ref)
}

// resultVar is bound to what a query is for. No author can have a variable of this
// name.
var resultVar = ast.VarTerm("stagedoor result")

// valueOf is the query for the value of a rule.
func valueOf(ref ast.Ref) ast.Body {
	return ast.NewBody(ast.Equality.Expr(resultVar, ast.NewTerm(ref)))
}

// callOf is the query for the value of a function.
func callOf(ref ast.Ref, args []*ast.Term) ast.Body {
	terms := slices.Concat([]*ast.Term{ast.NewTerm(ref)}, args, []*ast.Term{resultVar})
	return ast.NewBody(ast.NewExpr(terms))
}

// proveDocument finds the outcomes of a document from the proofs of its bodies. A
// clause of a chain counts where none before it does, and the fallback where no
// clause does.
func (w *world) proveDocument(doc *document, args []*ast.Term) ([]outcome, error) {
	none := outcome{value: doc.fallback, where: criteria.Granted}
	var found []outcome
	var deciding []decidingClause
	for _, c := range w.chains(doc) {
		taken := criteria.Denied
		for _, b := range c.clauses {
			elements, err := w.clause(b, args)
			if err != nil {
				return nil, err
			}
			for _, e := range elements {
				o := outcome{value: e.value, where: w.space.All(e.where, taken.Not())}
				found = append(found, o)
				deciding = append(deciding, decidingClause{b.rule, o})
			}
			taken = w.space.Any(taken, w.any(elements))
		}
		none.where = w.space.All(none.where, taken.Not())
	}
	found, err := w.settle(doc, args, w.merge(found))
	if err != nil {
		return nil, err
	}
	w.proved++
	if doc.ref.Equal(w.policy.entrypoint) {
		w.deciding = deciding
	}
	return w.merge(append([]outcome{none}, found...)), nil
}

// clause are the values of a clause, and where it has each.
func (w *world) clause(b clause, args []*ast.Term) ([]element, error) {
	if b.value == nil {
		return w.keyedElements(b.body, b.args, args)
	}
	holds, err := w.body(b.body, b.args, args)
	return []element{{b.value, holds}}, err
}

// maxValues is how many values of a document may exclude each other only by the
// answers.
const maxValues = 16

// settle makes errors of the places where a document has two values. The error is
// OPA's own, from an evaluation under answers that lead there.
func (w *world) settle(doc *document, args []*ast.Term, found []outcome) ([]outcome, error) {
	if len(found) > maxValues {
		return nil, errNotProved
	}
	var conflicts []outcome
	for i := range found {
		for j := range found[:i] {
			where := w.space.All(found[i].where, found[j].where)
			for _, c := range conflicts {
				where = w.space.All(where, c.where.Not())
			}
			if !w.space.Possible(where) {
				continue
			}
			answers, ok := w.space.Model(where)
			if !ok {
				return nil, errNotProved
			}
			r := &run{world: w, goal: doc, answers: answers}
			failure, err := w.evaluate(w.goalBody(doc, args), r, func(topdown.QueryResult) {})
			if err != nil {
				return nil, err
			}
			if failure == nil {
				return nil, errNotProved
			}
			conflicts = append(conflicts, outcome{err: failure, where: where})
		}
	}
	for i := range found {
		for _, c := range conflicts {
			found[i].where = w.space.All(found[i].where, c.where.Not())
		}
	}
	return append(found, conflicts...), nil
}

// merge joins outcomes that are the same and leaves out those that never are.
func (w *world) merge(outcomes []outcome) []outcome {
	var merged []outcome
	for i, o := range outcomes {
		if slices.ContainsFunc(outcomes[:i], o.same) {
			continue
		}
		where := []criteria.Function{o.where}
		for _, other := range outcomes[i+1:] {
			if o.same(other) {
				where = append(where, other.where)
			}
		}
		if o.where = w.space.Any(where...); o.where != criteria.Denied {
			merged = append(merged, o)
		}
	}
	return merged
}

// chains are the rules of a document that can matter for this input.
func (w *world) chains(doc *document) []*chain {
	if !doc.indexed {
		return doc.chains
	}
	index := w.policy.compiler.RuleIndex(doc.ref)
	if index == nil {
		return doc.chains
	}
	matched, err := index.Lookup(w)
	if err != nil {
		return doc.chains
	}
	defer ast.IndexResultPool.Put(matched)
	order := make([]int, 0, len(matched.Rules))
	for _, rule := range matched.Rules {
		if n, ok := doc.of[rule]; ok { // all but a default
			order = append(order, n)
		}
	}
	slices.Sort(order)
	chains := make([]*chain, len(order))
	for i, n := range order {
		chains[i] = doc.chains[n]
	}
	return chains
}

// Resolve tells OPA's rule index what it can know: the input.
func (w *world) Resolve(ref ast.Ref) (ast.Value, error) {
	if !ref[0].Equal(ast.InputRootDocument) {
		return nil, ast.UnknownValueErr{}
	}
	v, err := w.input.Value.Find(ref[1:])
	if err != nil {
		v = nil // undefined
	}
	return v, nil
}

// body is where a body has a solution, given the values of terms.
func (w *world) body(b *bodyPlan, terms, values []*ast.Term) (criteria.Function, error) {
	parts := make([]criteria.Function, len(b.parts))
	for i, part := range b.parts {
		var err error
		if parts[i], err = w.part(part, terms, values); err != nil {
			return criteria.Denied, err
		}
	}
	return w.space.All(parts...), nil
}

// part is where a part of a body has a solution.
func (w *world) part(part ast.Body, terms, values []*ast.Term) (criteria.Function, error) {
	var proofs []criteria.Function
	err := w.prove(part, terms, values, func(_ topdown.QueryResult, holds criteria.Function) {
		proofs = append(proofs, holds)
	})
	return w.space.Any(proofs...), err
}

// prove finds the proofs of a part of a body: each solution, and where it is one.
func (w *world) prove(
	part ast.Body, terms, values []*ast.Term, proof func(topdown.QueryResult, criteria.Function),
) error {
	r := &run{world: w}
	failure, err := w.evaluate(given(terms, values, part), r, func(result topdown.QueryResult) {
		proof(result, w.space.All(r.path...))
	})
	if err == nil && failure != nil {
		return errNotProved
	}
	return err
}

// given is a body after the terms have their values.
func given(terms, values []*ast.Term, body ast.Body) ast.Body {
	whole := make(ast.Body, 0, len(terms)+len(body))
	for i := range terms {
		whole = append(whole, ast.Equality.Expr(terms[i], values[i]))
	}
	return append(whole, body...)
}

// suppose notes a premise of a proof and goes on as if it held.
func (p *Policy) suppose(bctx topdown.BuiltinContext, operands []*ast.Term, iter func(*ast.Term) error) error {
	r := runOf(bctx)
	number := intOf(operands[0])
	var args []*ast.Term
	if values, ok := operands[1].Value.(*ast.Array); ok {
		values.Foreach(func(t *ast.Term) { args = append(args, t) })
	}
	l := &p.plan.premises[number]
	defer r.world.begin(task{at: l.at, text: string(l.at.Text)})()
	if l.kind == isEach {
		return r.each(l, args, iter)
	}
	holds, err := r.world.holds(l, args)
	if err != nil {
		return r.halt(err)
	}
	return r.suppose(holds, ast.InternedTerm(true), iter)
}

// each goes on with a proof for each value of a premise.
func (r *run) each(l *premise, args []*ast.Term, iter func(*ast.Term) error) error {
	elements, err := r.world.values(l, args)
	if err != nil {
		return r.halt(err)
	}
	for _, e := range elements {
		if err := r.world.count(); err != nil {
			return r.halt(err)
		}
		value := e.value
		if l.pair {
			value = ast.ArrayTerm(value, value)
		}
		if err := r.suppose(e.where, value, iter); err != nil {
			return err
		}
	}
	return nil
}

// halt ends a proof that cannot be completed, or the decision.
func (r *run) halt(err error) error {
	if !errors.Is(err, errNotProved) {
		r.fatal = err
	}
	return topdown.Halt{Err: err}
}

// suppose goes on with a proof where something holds.
func (r *run) suppose(holds criteria.Function, value *ast.Term, iter func(*ast.Term) error) error {
	switch holds {
	case criteria.Denied:
		return nil
	case criteria.Granted:
		return iter(value)
	}
	r.path = append(r.path, holds)
	err := iter(value)
	r.path = r.path[:len(r.path)-1]
	return err
}

// holds is where a premise holds.
func (w *world) holds(l *premise, args []*ast.Term) (criteria.Function, error) {
	if err := w.count(); err != nil {
		return criteria.Denied, err
	}
	holds, err := w.positive(l, args)
	if l.negated {
		holds = holds.Not()
	}
	return holds, err
}

// positive is where a premise holds that is not negated.
func (w *world) positive(l *premise, args []*ast.Term) (criteria.Function, error) {
	switch l.kind {
	case isQuestion:
		return w.ask(l.rule, args)
	case isElement:
		elements, err := w.values(l, args[:len(args)-1])
		return member(elements, args[len(args)-1]), err
	case isDocument:
		outcomes, err := w.outcomes(l.doc, args)
		return w.truth(outcomes, err)
	case isBody:
		return w.body(l.lhs, l.vars, args)
	case isAnd, isOr:
		lhs, err := w.body(l.lhs, l.vars, args)
		if err != nil {
			return criteria.Denied, err
		}
		rhs, err := w.body(l.rhs, l.vars, args)
		if l.kind == isAnd {
			return w.space.All(lhs, rhs), err
		}
		return w.space.Any(lhs, rhs), err
	case isEvery:
		return w.every(l, args)
	case isSet, isSome, isEqual, isCount:
		return w.collectionHolds(l, args)
	}
	outcomes, err := w.once(l, args, func() ([]outcome, error) {
		return w.explore(given(l.vars, args, l.body), nil, l.at, string(l.at.Text))
	})
	return w.truth(outcomes, err)
}

// ask is where a permission rule about the resource holds.
func (w *world) ask(rule *PermissionRule, args []*ast.Term) (criteria.Function, error) {
	q, err := w.question(rule, args, w.tasks[len(w.tasks)-1].at)
	_, limited := errors.AsType[*LimitError](err)
	switch {
	case limited:
		return criteria.Denied, err
	case err != nil:
		return criteria.Denied, errNotProved
	case q < 0:
		return criteria.Denied, nil
	}
	return w.questions[q].outcomes[1].where, nil
}

// values are those of a collection, a document or a question.
func (w *world) values(l *premise, args []*ast.Term) ([]element, error) {
	switch {
	case l.of != nil:
		return w.elements(l.of, l.over, args)
	case l.rule != nil:
		holds, err := w.ask(l.rule, args)
		return []element{{ast.InternedTerm(true), holds}}, err
	}
	outcomes, err := w.outcomes(l.doc, args)
	if err != nil {
		return nil, err
	}
	var elements []element
	for _, o := range outcomes {
		if o.err != nil {
			return nil, errNotProved
		}
		if o.value != nil {
			elements = append(elements, element{o.value, o.where})
		}
	}
	return elements, nil
}

// truth is where a value is defined and not false.
func (w *world) truth(outcomes []outcome, err error) (criteria.Function, error) {
	if err != nil {
		return criteria.Denied, err
	}
	var where []criteria.Function
	for _, o := range outcomes {
		if o.err != nil {
			return criteria.Denied, errNotProved
		}
		if o.value != nil && !ast.Boolean(false).Equal(o.value.Value) {
			where = append(where, o.where)
		}
	}
	return w.space.Any(where...), nil
}

// every is where the body has a solution for each element of the domain.
func (w *world) every(l *premise, args []*ast.Term) (criteria.Function, error) {
	key, value := l.every.Key, l.every.Value
	domain := l.every.Domain
	if i := slices.IndexFunc(l.vars, domain.Equal); i >= 0 {
		domain = args[i]
	}
	switch domain.Value.(type) {
	case *ast.Array, ast.Object, ast.Set:
	default: // OPA's every has no solution then.
		return criteria.Denied, nil
	}
	generator := ast.Equality.Expr(ast.RefTerm(l.every.Domain, key), value)
	var elements [][]*ast.Term
	failure, err := w.evaluate(given(l.vars, args, ast.Body{generator}), &run{world: w}, func(r topdown.QueryResult) {
		element := []*ast.Term{r[varOf(key)], r[varOf(value)]}
		elements = append(elements, slices.Concat(args, element))
	})
	if err != nil {
		return criteria.Denied, err
	}
	if failure != nil {
		return criteria.Denied, errNotProved
	}
	vars := slices.Concat(l.vars, []*ast.Term{key, value})
	all := make([]criteria.Function, len(elements))
	for i, element := range elements {
		if all[i], err = w.body(l.lhs, vars, element); err != nil {
			return criteria.Denied, err
		}
	}
	return w.space.All(all...), nil
}

// collectionHolds is where a premise about a collection holds. Its first args are what
// the collection depends on.
func (w *world) collectionHolds(l *premise, args []*ast.Term) (criteria.Function, error) {
	elements, err := w.elements(l.of, l.over, args[:len(l.over)])
	if err != nil {
		return criteria.Denied, err
	}
	switch l.kind {
	case isSome:
		return w.any(elements), nil
	case isEqual:
		return w.equal(elements, args[len(l.over)]), nil
	case isCount:
		fits, err := w.fitting(l, args[len(l.over):], len(elements))
		if err != nil {
			return criteria.Denied, err
		}
		return w.counted(elements, fits)
	}
	return criteria.Granted, nil
}

// fitting are the numbers up to n for which the body of a premise has a solution.
func (w *world) fitting(l *premise, args []*ast.Term, n int) ([]bool, error) {
	numbers := make([]*ast.Term, n+1)
	for i := range numbers {
		numbers[i] = ast.IntNumberTerm(i)
	}
	list := ast.VarTerm("stagedoor numbers")
	body := ast.Body{
		ast.Equality.Expr(list, ast.ArrayTerm(numbers...)),
		ast.Equality.Expr(l.count, ast.RefTerm(list, ast.VarTerm("stagedoor number"))),
	}
	fits := make([]bool, n+1)
	failure, err := w.evaluate(given(l.vars, args, append(body, l.body...)), &run{world: w}, func(r topdown.QueryResult) {
		fits[intOf(r[varOf(l.count)])] = true
	})
	if err == nil && failure != nil {
		err = errNotProved
	}
	return fits, err
}
