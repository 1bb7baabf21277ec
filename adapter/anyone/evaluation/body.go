package evaluation

import (
	"errors"
	"fmt"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/adapter/anyone/call"
	"github.com/stagedoor/stagedoor/adapter/anyone/scope"
	"github.com/stagedoor/stagedoor/adapter/anyone/theory"
	"github.com/stagedoor/stagedoor/adapter/criteria"
)

// frame is a body that is being evaluated: the values of its variables, and what holds
// so far on the way to a solution.
type frame struct {
	*world
	scope    *scope.Scope
	vars     map[ast.Var]*ast.Term
	elements []int             // that were introduced on the way
	fails    criteria.Function // where the evaluation fails
	at       *ast.Location
}

// solution is called for each solution of a body, with where it is one.
type solution func(where criteria.Function) error

func (w *world) frame(s *scope.Scope) *frame {
	return &frame{world: w, scope: s, vars: make(map[ast.Var]*ast.Term), fails: criteria.Denied}
}

// within is a frame for a closure of a body. It sees the variables of the body.
func (f *frame) within() *frame {
	inner := f.frame(f.scope)
	for v, t := range f.vars {
		inner.vars[v] = t
	}
	inner.at = f.at
	return inner
}

// outside is that a construct is not one of those that are understood.
func (f *frame) outside(format string, args ...any) error {
	return f.wrong(fmt.Errorf(format, args...))
}

func (f *frame) wrong(err error) error {
	if _, ok := errors.AsType[*OutsideError](err); ok || err == nil || f.at == nil {
		return Unplaced(err)
	}
	return &OutsideError{File: f.at.File, Line: f.at.Row, Text: string(f.at.Text), Message: err.Error()}
}

// solve finds the solutions of expressions in order.
func (f *frame) solve(body ast.Body, where criteria.Function, found solution) error {
	if where == criteria.Denied {
		return nil
	}
	if len(body) == 0 {
		return found(where)
	}
	if err := f.count(); err != nil {
		return err
	}
	e := body[0]
	before := f.at
	if e.Location != nil {
		f.at = e.Location
	}
	err := f.expr(e, where, func(where criteria.Function) error {
		if where == criteria.Denied {
			return nil
		}
		return f.solve(body[1:], where, found)
	})
	if err = f.wrong(err); err == nil {
		err = f.wrong(f.Failure())
	}
	f.at = before
	return err
}

// holds is where a body has a solution. What it binds is not seen outside.
func (f *frame) holds(body ast.Body) (criteria.Function, error) {
	inner := f.within()
	var solutions []criteria.Function
	err := inner.solve(body, criteria.Granted, func(where criteria.Function) error {
		is, err := f.Some(inner.elements, where)
		solutions = append(solutions, is)
		return err
	})
	if err != nil {
		return criteria.Denied, err
	}
	holds := f.Space.Any(solutions...)
	return holds, f.carry(inner, holds)
}

// carry adds the failures of a closure to those of the body. Where there is a solution
// too, it depends on the order of evaluation which comes first.
func (f *frame) carry(inner *frame, holds criteria.Function) error {
	if inner.fails == criteria.Denied {
		return nil
	}
	if f.Possible(f.Space.All(inner.fails, holds)) {
		return f.outside("the evaluation can fail here, or not, by the order of evaluation")
	}
	f.fails = f.Space.Any(f.fails, inner.fails)
	return nil
}

// fail notes where the evaluation fails on the way.
func (f *frame) fail(where criteria.Function) error {
	is, err := f.Some(f.elements, where)
	f.fails = f.Space.Any(f.fails, is)
	return err
}

func (f *frame) expr(e *ast.Expr, where criteria.Function, found solution) error {
	if len(e.With) > 0 {
		return f.with(e, where, found)
	}
	if e.Negated {
		positive := *e
		positive.Negated = false
		is, err := f.holds(ast.Body{&positive})
		if err != nil {
			return err
		}
		return found(f.Space.All(where, is.Not()))
	}
	switch terms := e.Terms.(type) {
	case *ast.Term:
		return f.values(terms, where, func(v *ast.Term, where criteria.Function) error {
			is, err := f.truth(v)
			if err != nil {
				return err
			}
			return found(f.Space.All(where, is))
		})
	case []*ast.Term:
		if e.IsEquality() {
			return f.unifyTerms(terms[1], terms[2], where, found)
		}
		return f.callExpr(terms, where, found)
	case *ast.Every:
		return f.every(terms, where, found)
	case *ast.Not:
		is, err := f.holds(terms.Body)
		if err != nil {
			return err
		}
		return found(f.Space.All(where, is.Not()))
	case *ast.LogicalAnd:
		lhs, err := f.holds(terms.Lhs)
		if err != nil {
			return err
		}
		rhs, err := f.holds(terms.Rhs)
		if err != nil {
			return err
		}
		return found(f.Space.All(where, lhs, rhs))
	case *ast.LogicalOr:
		lhs, err := f.holds(terms.Lhs)
		if err != nil {
			return err
		}
		rhs, err := f.holds(terms.Rhs)
		if err != nil {
			return err
		}
		return found(f.Space.All(where, f.Space.Any(lhs, rhs)))
	case *ast.SomeDecl:
		return found(where)
	}
	return f.outside("stagedoor does not know this construct (%T)", e.Terms)
}

// every is where the body has a solution for each element of the domain.
func (f *frame) every(e *ast.Every, where criteria.Function, found solution) error {
	return f.values(e.Domain, where, func(domain *ast.Term, where criteria.Function) error {
		var s theory.Shape
		members, ok := f.MembersOf(domain, &s)
		if !ok {
			if of := f.SymbolOf(domain); of != nil && !of.IsText() {
				return f.outside("every over something that is made of the caller")
			}
			return nil // OPA's every has no solution then.
		}
		all := criteria.Granted
		for i, m := range members {
			m = f.Fresh(m)
			inner := f.within()
			key := m.Key
			if key == nil {
				if key = m.Value; s == theory.List {
					key = ast.InternedTerm(i)
				}
			}
			if s == theory.List && e.Key != nil && f.SymbolOf(domain) != nil {
				key = f.Position(m.Value)
			}
			var holds []criteria.Function
			body := func(where criteria.Function) error {
				return inner.solve(e.Body, where, func(where criteria.Function) error {
					is, err := f.Some(inner.elements, where)
					holds = append(holds, is)
					return err
				})
			}
			bind := func(where criteria.Function) error { return inner.unify(e.Value, m.Value, where, body) }
			var err error
			if e.Key != nil {
				err = inner.unify(e.Key, key, criteria.Granted, bind)
			} else {
				err = bind(criteria.Granted)
			}
			if err != nil {
				return err
			}
			is := f.Space.Any(holds...)
			if inner.fails != criteria.Denied {
				return f.outside("the evaluation can fail here, or not, by the order of evaluation")
			}
			missing, err := f.Some(m.Over, f.Space.All(m.Where, is.Not()))
			if err != nil {
				return err
			}
			all = f.Space.All(all, missing.Not())
		}
		return found(f.Space.All(where, all))
	})
}

// values finds the values of a term whose variables are bound, or iterated over in it.
func (f *frame) values(t *ast.Term, where criteria.Function, found call.Found) error {
	switch v := t.Value.(type) {
	case ast.Var:
		if bound, ok := f.vars[v]; ok {
			return found(bound, where)
		}
		if t.Equal(ast.InputRootDocument) {
			return found(f.scope.Input, where)
		}
		return f.outside("%v has no value yet", v)
	case ast.Ref:
		return f.ref(v, where, found)
	case *ast.Array:
		return f.list(slices.Collect(theory.Elements(v)), nil, where, func(terms []*ast.Term, where criteria.Function) error {
			return found(ast.ArrayTerm(terms...), where)
		})
	case ast.Set:
		return f.list(v.Slice(), nil, where, func(terms []*ast.Term, where criteria.Function) error {
			c := &theory.Collection{Shape: theory.Set}
			for _, term := range terms {
				c.Members = append(c.Members, theory.Member{Value: term, Where: criteria.Granted})
			}
			set, err := f.CollectionTerm(c)
			if err != nil {
				return err
			}
			return found(set, where)
		})
	case ast.Object:
		var flat []*ast.Term
		v.Foreach(func(key, value *ast.Term) { flat = append(flat, key, value) })
		return f.list(flat, nil, where, func(terms []*ast.Term, where criteria.Function) error {
			c := &theory.Collection{Shape: theory.Object}
			for i := 0; i < len(terms); i += 2 {
				c.Members = append(c.Members, theory.Member{Key: terms[i], Value: terms[i+1], Where: criteria.Granted})
			}
			if err := f.DistinctKeys(c); err != nil {
				return f.wrong(err)
			}
			object, err := f.CollectionTerm(c)
			if err != nil {
				return err
			}
			return found(object, where)
		})
	case *ast.ArrayComprehension:
		return f.comprehension(theory.List, nil, v.Term, v.Body, where, found)
	case *ast.SetComprehension:
		return f.comprehension(theory.Set, nil, v.Term, v.Body, where, found)
	case *ast.ObjectComprehension:
		return f.comprehension(theory.Object, v.Key, v.Value, v.Body, where, found)
	case ast.Call:
		return f.outside("stagedoor does not know a call within a term")
	}
	return found(t, where)
}

// list finds the values of terms together.
func (f *frame) list(
	of, sofar []*ast.Term, where criteria.Function, found func([]*ast.Term, criteria.Function) error,
) error {
	if len(of) == 0 {
		return found(slices.Clone(sofar), where)
	}
	return f.values(of[0], where, func(v *ast.Term, where criteria.Function) error {
		return f.list(of[1:], append(sofar[:len(sofar):len(sofar)], v), where, found)
	})
}

// comprehension is a collection of what the solutions of a body make.
func (f *frame) comprehension(
	s theory.Shape, key, of *ast.Term, body ast.Body, where criteria.Function, found call.Found,
) error {
	inner := f.within()
	c := &theory.Collection{Shape: s}
	err := inner.solve(body, criteria.Granted, func(where criteria.Function) error {
		return inner.memberOfHead(c, key, of, where)
	})
	if err != nil {
		return err
	}
	if err := f.carry(inner, criteria.Denied); err != nil {
		return err
	}
	term, err := f.joined(c)
	if err != nil {
		return err
	}
	return found(term, where)
}

// memberOfHead adds what a solution makes to a collection.
func (f *frame) memberOfHead(c *theory.Collection, key, of *ast.Term, where criteria.Function) error {
	add := func(key, v *ast.Term, where criteria.Function) error {
		m := theory.Member{Key: key, Value: v, Where: where}
		return f.addMember(c, m)
	}
	if key == nil {
		return f.values(of, where, func(v *ast.Term, where criteria.Function) error { return add(nil, v, where) })
	}
	return f.values(key, where, func(key *ast.Term, where criteria.Function) error {
		return f.values(of, where, func(v *ast.Term, where criteria.Function) error { return add(key, v, where) })
	})
}

// addMember adds a member for every choice of the elements that were introduced and
// that it is about. Of others it is enough that there are some.
func (f *frame) addMember(c *theory.Collection, m theory.Member) error {
	about := f.FreeOf(m.Parts()...)
	// What an element is of can be another one.
	for grown := true; grown; {
		grown = false
		for _, n := range about {
			for _, other := range f.FreeOf(f.Domain(n)) {
				if !slices.Contains(about, other) {
					about, grown = append(about, other), true
				}
			}
		}
	}
	var others []int
	for _, n := range f.elements {
		if c.Shape == theory.List || slices.Contains(about, n) { // A list has a member as often as there are elements for it.
			m.Over = append(m.Over, n)
		} else {
			others = append(others, n)
		}
	}
	var err error
	if m.Where, err = f.Some(others, m.Where); err != nil {
		return err
	}
	if m.Where != criteria.Denied {
		c.Members = append(c.Members, m)
	}
	return nil
}

// unifyTerms unifies two terms: it binds variables that have no value yet.
func (f *frame) unifyTerms(a, b *ast.Term, where criteria.Function, found solution) error {
	if f.isPattern(a) && f.isPattern(b) {
		return f.patterns(a, b, where, found)
	}
	if f.isPattern(b) {
		a, b = b, a
	}
	return f.values(b, where, func(v *ast.Term, where criteria.Function) error {
		return f.unify(a, v, where, found)
	})
}

// isPattern is whether a term has variables without a value in it, apart from those of
// references.
func (f *frame) isPattern(t *ast.Term) bool {
	switch v := t.Value.(type) {
	case ast.Var:
		_, bound := f.vars[v]
		return !bound && !t.Equal(ast.InputRootDocument) && !t.Equal(ast.DefaultRootDocument)
	case *ast.Array:
		for i := range v.Len() {
			if f.isPattern(v.Elem(i)) {
				return true
			}
		}
	case ast.Object:
		return v.Until(func(_, value *ast.Term) bool { return f.isPattern(value) })
	}
	return false
}

// patterns unifies two terms that both have variables without a value.
func (f *frame) patterns(a, b *ast.Term, where criteria.Function, found solution) error {
	x, isList := a.Value.(*ast.Array)
	y, both := b.Value.(*ast.Array)
	if isList && both {
		if x.Len() != y.Len() {
			return nil
		}
		return f.pairs(slices.Collect(theory.Elements(x)), slices.Collect(theory.Elements(y)), where, found)
	}
	v, isObject := a.Value.(ast.Object)
	w, both := b.Value.(ast.Object)
	if isObject && both {
		left, right, alike := byKey(v, w)
		if !alike {
			return nil
		}
		return f.pairs(left, right, where, found)
	}
	return f.outside("two terms with variables that have no value")
}

// byKey are the values of two objects under the same keys. It reports whether they have
// the same ones.
func byKey(a, b ast.Object) (left, right []*ast.Term, same bool) {
	if a.Len() != b.Len() {
		return nil, nil, false
	}
	missing := a.Until(func(key, value *ast.Term) bool {
		other := b.Get(key)
		left, right = append(left, value), append(right, other)
		return other == nil
	})
	return left, right, !missing
}

func (f *frame) pairs(a, b []*ast.Term, where criteria.Function, found solution) error {
	if len(a) == 0 {
		return found(where)
	}
	return f.unifyTerms(a[0], b[0], where, func(where criteria.Function) error {
		return f.pairs(a[1:], b[1:], where, found)
	})
}

// unify unifies a term with a value.
func (f *frame) unify(a, v *ast.Term, where criteria.Function, found solution) error {
	if where == criteria.Denied {
		return nil
	}
	if !f.isPattern(a) {
		return f.values(a, where, func(other *ast.Term, where criteria.Function) error {
			is, err := f.Equal(other, v)
			if err != nil {
				return err
			}
			return f.narrowed(other, v, f.Space.All(where, is), found)
		})
	}
	s := f.SymbolOf(v)
	switch p := a.Value.(type) {
	case ast.Var:
		f.vars[p] = v
		err := found(where)
		delete(f.vars, p)
		return err
	case *ast.Array:
		if s != nil {
			return f.takeApart(p, v, s, where, found)
		}
		list, ok := v.Value.(*ast.Array)
		if !ok || list.Len() != p.Len() {
			return nil
		}
		return f.matched(slices.Collect(theory.Elements(p)), slices.Collect(theory.Elements(list)), where, found)
	case ast.Object:
		if s != nil && !s.IsText() {
			return f.outside("an object pattern for something that is made of the caller")
		}
		object, ok := v.Value.(ast.Object)
		if !ok {
			return nil
		}
		left, right, alike := byKey(p, object)
		if !alike {
			return nil
		}
		return f.matched(left, right, where, found)
	}
	return f.outside("stagedoor does not know this pattern")
}

func (f *frame) matched(patterns, values []*ast.Term, where criteria.Function, found solution) error {
	if len(patterns) == 0 {
		return found(where)
	}
	return f.unify(patterns[0], values[0], where, func(where criteria.Function) error {
		return f.matched(patterns[1:], values[1:], where, found)
	})
}

// takeApart unifies an array with a list that is made of the caller, such as the parts
// of a claim.
func (f *frame) takeApart(p *ast.Array, v *ast.Term, s *theory.Symbol, where criteria.Function, found solution) error {
	if s.IsText() {
		return nil
	}
	if s.Kind != theory.KindCall && s.Kind != theory.KindIndex {
		return f.outside("a list of claims is taken apart")
	}
	n := f.Call(ast.Count.Name, []*ast.Term{v})
	is, err := f.Equal(n.Token, ast.InternedTerm(p.Len()))
	if err != nil {
		return err
	}
	values := make([]*ast.Term, p.Len())
	for i := range values {
		values[i] = f.Index(v, ast.InternedTerm(i)).Token
	}
	return f.matched(slices.Collect(theory.Elements(p)), values, f.Space.All(where, is), found)
}

// narrowed goes on where two values are equal. Where one of them is an element or the
// user, and the other is known, the element is what it is known to be from here on.
func (f *frame) narrowed(a, b *ast.Term, where criteria.Function, found solution) error {
	s := f.SymbolOf(a)
	if s == nil {
		a, b = b, a
		s = f.SymbolOf(a)
	}
	if s == nil || s.Kind != theory.KindElement && s.Kind != theory.KindUser || f.Symbolic(b) || where == criteria.Denied {
		return found(where)
	}
	before := make(map[ast.Var]*ast.Term)
	for v, t := range f.vars {
		is := t
		if s.Kind == theory.KindElement && slices.Contains(f.FreeOf(t), s.Number) {
			is = f.Replace(t, map[int]*ast.Term{s.Number: b})
		} else if t.Equal(a) {
			is = b
		}
		if is != t && is != theory.Nowhere {
			before[v] = t
			f.vars[v] = is
		}
	}
	err := found(where)
	for v, t := range before {
		if _, ok := f.vars[v]; ok {
			f.vars[v] = t
		}
	}
	return err
}

// with evaluates an expression with parts of the input or the data replaced.
func (f *frame) with(e *ast.Expr, where criteria.Function, found solution) error {
	bare := *e
	bare.With = nil
	values := make([]*ast.Term, len(e.With))
	for i, w := range e.With {
		values[i] = w.Value
	}
	return f.list(values, nil, where, func(values []*ast.Term, where criteria.Function) error {
		inner := f.scope.Child()
		for i, w := range e.With {
			target, ok := w.Target.Value.(ast.Ref)
			if !ok && w.Target.Equal(ast.InputRootDocument) {
				target, ok = ast.Ref{w.Target}, true
			}
			if !ok {
				return f.outside("with replaces something that stagedoor does not know")
			}
			if err := inner.Replace(target, values[i]); err != nil {
				return err
			}
		}
		before := f.scope
		f.scope = inner
		err := f.expr(&bare, where, func(where criteria.Function) error {
			f.scope = before
			err := found(where)
			f.scope = inner
			return err
		})
		f.scope = before
		return err
	})
}

// joined is a collection whose equal members are one, as a term.
func (f *frame) joined(c *theory.Collection) (*ast.Term, error) {
	term, err := f.Joined(c)
	return term, f.wrong(err)
}
