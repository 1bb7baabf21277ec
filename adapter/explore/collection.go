package explore

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/stagedoor/stagedoor/adapter/criteria"
)

// A collection is a partial set or a comprehension whose elements depend on the
// resource: which there can be, and where each of them is in it. A policy that asks
// only whether there are any, how many, or for one of them need not try all sets
// that it can come to.
type collection struct {
	ref    ast.Ref // of a partial set; nil of a comprehension
	list   bool    // an array: an element is in it once for each proof
	bodies []*bodyPlan
}

// element is something that can be in a collection, and where it is.
type element struct {
	value *ast.Term
	where criteria.Function
}

// collectionAt plans the partial set that is at exactly a reference, if it is one.
func (p *planner) collectionAt(ref ast.Ref) *collection {
	if !alone(p.compiler, ref) || !p.depends(ref) {
		return nil
	}
	path := ref.String()
	c, ok := p.collections[path]
	if !ok {
		c = p.partialSet(ref)
		p.collections[path] = c
	}
	return c
}

func (p *planner) partialSet(ref ast.Ref) *collection {
	c := &collection{ref: ref}
	defer func(rule *ast.Rule) { p.rule = rule }(p.rule)
	for _, rule := range p.compiler.GetRulesExact(ref) {
		p.rule = rule
		if rule.Head.RuleKind() != ast.MultiValue || len(rule.Ref()) != len(ref) || rule.Else != nil {
			return nil
		}
		body := p.planKeyed(rule.Body, rule.Head.Key, ast.NewVarSet(), false)
		if body == nil {
			return nil
		}
		c.bodies = append(c.bodies, body)
	}
	return c
}

// comprehension plans a comprehension, if it is one of an array or a set.
func (p *planner) comprehension(t *ast.Term, bound ast.VarSet) *collection {
	var body *bodyPlan
	list := false
	switch v := t.Value.(type) {
	case *ast.SetComprehension:
		body = p.planKeyed(v.Body, v.Term, bound, false)
	case *ast.ArrayComprehension:
		body, list = p.planKeyed(v.Body, v.Term, bound, true), true
	}
	if body == nil {
		return nil
	}
	return &collection{list: list, bodies: []*bodyPlan{body}}
}

// keyed plans the proofs of a body for each value of a term. The value must be
// known in a proof. Where proofs are counted, nothing may be looked at apart that
// has several solutions.
func (p *planner) planKeyed(body ast.Body, key *ast.Term, bound ast.VarSet, counted bool) *bodyPlan {
	is := ast.Equality.Expr(resultVar, key)
	is.Location = key.Location
	premises := len(p.premises)
	b := p.planBody(append(slices.Clone(body), is), bound)
	if counted {
		for _, l := range p.premises[premises:] {
			if l.kind == isGroup {
				return nil
			}
		}
		b.parts = []ast.Body{slices.Concat(b.parts...)}
	}
	for i, part := range b.parts {
		if slices.ContainsFunc(part, func(e *ast.Expr) bool { return e == is }) {
			b.keyed = i
			return b
		}
	}
	return nil
}

// iterated is the reference in x = ref[y], and x and y; of ref[y], x is y.
func iterated(e *ast.Expr) (ref ast.Ref, x, y *ast.Term) {
	var set *ast.Term
	switch terms := e.Terms.(type) {
	case *ast.Term:
		set = terms
	case []*ast.Term:
		if !e.IsEquality() {
			return nil, nil, nil
		}
		if x, set = terms[1], terms[2]; isData(x) {
			x, set = set, x
		}
	default:
		return nil, nil, nil
	}
	if !isData(set) {
		return nil, nil, nil
	}
	whole := refOf(set)
	last := len(whole) - 1
	if x == nil {
		x = whole[last]
	}
	return whole[:last], x, whole[last]
}

func isData(t *ast.Term) bool {
	ref, ok := t.Value.(ast.Ref)
	return ok && len(ref) > 1 && ref.HasPrefix(ast.DefaultRootRef)
}

// planCollected plans a premise about a collection.
func (p *planner) planCollected(exprs []*ast.Expr, bound ast.VarSet) (premise, bool) {
	if slices.ContainsFunc(exprs, func(e *ast.Expr) bool { return len(e.With) > 0 }) {
		return premise{}, false
	}
	if len(exprs) == 1 {
		return p.aboutSet(exprs[0], bound)
	}
	l, v, ok := p.source(exprs[0], bound)
	if !ok {
		return premise{}, false
	}
	rest := exprs[1:]
	for _, e := range rest {
		if p.depends(e) {
			return premise{}, false
		}
	}
	if len(rest) == 1 && !l.of.list {
		if l, ok := l.compared(rest[0], v, bound); ok {
			return l, true
		}
	}
	return l.counting(rest, v, bound)
}

// aboutSet plans an expression about a partial set.
func (p *planner) aboutSet(e *ast.Expr, bound ast.VarSet) (premise, bool) {
	l := premise{negated: e.Negated}
	if terms, ok := e.Terms.(*ast.Term); ok {
		if ref, ok := terms.Value.(ast.Ref); ok {
			if l.kind, l.of = isSet, p.collectionAt(ref); l.of != nil {
				return l, true
			}
		}
	}
	if e.IsEquality() {
		for i := range 2 {
			ref, ok := e.Operand(i).Value.(ast.Ref)
			if !ok || !isKnown(e.Operand(1-i), bound) {
				continue
			}
			if l.kind, l.of = isEqual, p.collectionAt(ref); l.of != nil {
				l.args = []*ast.Term{e.Operand(1 - i)}
				return l, true
			}
		}
	}
	ref, x, y := iterated(e)
	if ref == nil {
		return premise{}, false
	}
	if l.of = p.collectionAt(ref); l.of == nil {
		return premise{}, false
	}
	anything := varOf(y) != "" && !isKnown(y, bound)
	switch {
	case isKnown(x, bound) && (y.Equal(x) || anything):
		l.kind, l.args = isElement, []*ast.Term{x}
	case anything && y.Equal(x):
		l.kind = isSome
	default:
		return premise{}, false
	}
	return l, true
}

// isKnown is whether a term has a known value.
func isKnown(t *ast.Term, bound ast.VarSet) bool {
	switch t.Value.(type) {
	case ast.Ref, ast.Call:
		return false
	}
	for v := range varsOf(t) {
		if !bound.Contains(v) {
			return false
		}
	}
	return true
}

// source plans v = s and v = {x | …}, with which premises of several expressions
// begin.
func (p *planner) source(e *ast.Expr, bound ast.VarSet) (premise, ast.Var, bool) {
	if !e.IsEquality() || e.Negated {
		return premise{}, "", false
	}
	v, ok := e.Operand(0).Value.(ast.Var)
	if !ok || bound.Contains(v) {
		return premise{}, "", false
	}
	var l premise
	of := e.Operand(1)
	if ref, ok := of.Value.(ast.Ref); ok {
		l.of = p.collectionAt(ref)
	} else if l.of = p.comprehension(of, bound); l.of != nil {
		l.given(of, bound)
		l.over, l.vars = l.vars, nil
	}
	return l, v, l.of != nil
}

// compared plans x in v, v == x and v != x.
func (l premise) compared(e *ast.Expr, v ast.Var, bound ast.VarSet) (premise, bool) {
	if !e.IsCall() || len(e.Operands()) != 2 {
		return l, false
	}
	other, first := e.Operand(1), e.Operand(0)
	if _, ok := first.Value.(ast.Var); !ok || first.Value.Compare(v) != 0 {
		other, first = first, other
	}
	if first.Value.Compare(v) != 0 || !isKnown(other, bound) {
		return l, false
	}
	l.negated = e.Negated
	switch operator := e.Operator().String(); operator {
	case ast.Member.Name:
		l.kind = isElement
		if e.Operand(1) != first {
			return l, false
		}
	case ast.Equality.Name, ast.Equal.Name:
		l.kind = isEqual
	case ast.NotEqual.Name:
		l.kind, l.negated = isEqual, !e.Negated
	default:
		return l, false
	}
	l.args = append(slices.Clone(l.args), other)
	return l, true
}

// counting plans count(v, n) and what must hold for n.
func (l premise) counting(rest []*ast.Expr, v ast.Var, bound ast.VarSet) (premise, bool) {
	l.kind = isCount
	for _, e := range rest {
		if !varsOf(e).Contains(v) {
			l.body = append(l.body, e)
			continue
		}
		if !e.IsCall() || e.Negated || e.Operator().String() != ast.Count.Name || len(e.Operands()) != 2 || l.count != nil {
			return l, false
		}
		n, ok := e.Operand(1).Value.(ast.Var)
		if !ok || bound.Contains(n) || e.Operand(0).Value.Compare(v) != 0 {
			return l, false
		}
		l.count = e.Operand(1)
	}
	if l.count == nil {
		return l, false
	}
	over := l.args
	l.given(l.body, bound)
	l.args = slices.Concat(over, l.vars)
	return l, true
}

// elements are those that can be in a collection.
func (w *world) elements(c *collection, terms, values []*ast.Term) ([]element, error) {
	key := hashed(c, values)
	for _, known := range w.collected[key] {
		if sameTerms(known.args, values) {
			return known.elements, nil
		}
	}
	elements, err := w.collect(c, terms, values)
	if err == nil {
		w.collected[key] = append(w.collected[key], knownElements{values, elements})
	}
	return elements, err
}

type knownElements struct {
	args     []*ast.Term
	elements []element
}

func (w *world) collect(c *collection, terms, values []*ast.Term) ([]element, error) {
	var found []element
	for _, b := range c.bodies {
		elements, err := w.keyedElements(b, terms, values)
		if err != nil {
			return nil, err
		}
		found = append(found, elements...)
	}
	if c.list {
		return found, nil
	}
	return w.union(found), nil
}

// union joins the proofs of equal elements.
func (w *world) union(found []element) []element {
	byHash := make(map[int][]int)
	var values []*ast.Term
	var wheres [][]criteria.Function
next:
	for _, e := range found {
		hash := e.value.Hash()
		for _, i := range byHash[hash] {
			if values[i].Equal(e.value) {
				wheres[i] = append(wheres[i], e.where)
				continue next
			}
		}
		byHash[hash] = append(byHash[hash], len(values))
		values = append(values, e.value)
		wheres = append(wheres, []criteria.Function{e.where})
	}
	elements := make([]element, len(values))
	for i, v := range values {
		elements[i] = element{v, w.space.Any(wheres[i]...)}
	}
	return elements
}

// keyed are the values of resultVar in the proofs of a body, and where each is
// proved.
func (w *world) keyedElements(b *bodyPlan, terms, values []*ast.Term) ([]element, error) {
	var elements []element
	others := make([]criteria.Function, len(b.parts))
	for i, part := range b.parts {
		if i != b.keyed {
			var err error
			if others[i], err = w.part(part, terms, values); err != nil {
				return nil, err
			}
			continue
		}
		others[i] = criteria.Granted
		err := w.prove(part, terms, values, func(r topdown.QueryResult, holds criteria.Function) {
			elements = append(elements, element{r[varOf(resultVar)], holds})
		})
		if err != nil {
			return nil, err
		}
	}
	rest := w.space.All(others...)
	for i := range elements {
		elements[i].where = w.space.All(elements[i].where, rest)
	}
	return slices.DeleteFunc(elements, func(e element) bool { return e.where == criteria.Denied }), nil
}

// any is where there is an element.
func (w *world) any(elements []element) criteria.Function {
	where := make([]criteria.Function, len(elements))
	for i, e := range elements {
		where[i] = e.where
	}
	return w.space.Any(where...)
}

// member is where a value is an element.
func member(elements []element, value *ast.Term) criteria.Function {
	for _, e := range elements {
		if e.value.Equal(value) {
			return e.where
		}
	}
	return criteria.Denied
}

// equal is where a set is another one.
func (w *world) equal(elements []element, other *ast.Term) criteria.Function {
	set, ok := other.Value.(ast.Set)
	if !ok {
		return criteria.Denied
	}
	var where []criteria.Function
	found := 0
	for _, e := range elements {
		if set.Contains(e.value) {
			found++
			where = append(where, e.where)
		} else {
			where = append(where, e.where.Not())
		}
	}
	if found < set.Len() {
		return criteria.Denied
	}
	return w.space.All(where...)
}

// maxCounted is how many elements there can be where it matters how many there are
// exactly.
const maxCounted = 500

// counted is where the number of elements is one that fits.
func (w *world) counted(elements []element, fits []bool) (criteria.Function, error) {
	n := len(elements)
	switch {
	case !slices.Contains(fits, true):
		return criteria.Denied, nil
	case !slices.Contains(fits, false):
		return criteria.Granted, nil
	case !slices.Contains(fits[1:], fits[0]): // none, or any
		some := w.any(elements)
		if fits[0] {
			return some.Not(), nil
		}
		return some, nil
	case n > maxCounted:
		return criteria.Denied, errNotProved
	}
	after := make([]criteria.Function, n+1) // by the number of elements so far
	for i, fit := range fits {
		if fit {
			after[i] = criteria.Granted
		}
	}
	for i := n - 1; i >= 0; i-- {
		for sofar := 0; sofar <= i; sofar++ {
			after[sofar] = w.space.If(elements[i].where, after[sofar+1], after[sofar])
		}
	}
	return after[0], nil
}
