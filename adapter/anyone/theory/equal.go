package theory

import (
	"errors"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/types"

	"github.com/stagedoor/stagedoor/adapter/criteria"
)

// Equal is where two values are equal.
func (t *Theory) Equal(a, b *ast.Term) (criteria.Function, error) {
	if !t.Symbolic(a) && !t.Symbolic(b) {
		return Known(a.Equal(b)), nil
	}
	x, y := t.SymbolOf(a), t.SymbolOf(b)
	switch {
	case x != nil && x == y:
		return criteria.Granted, nil
	case x == nil && y == nil:
		return t.equalParts(a, b)
	case x == nil || y != nil && x.Kind > y.Kind || y != nil && x.Kind == y.Kind && x.Text > y.Text:
		return t.Equal(b, a)
	}
	if x.Kind == KindPosition || y != nil && y.Kind == KindPosition {
		return criteria.Denied, errors.New("this looks at the place of a claim in the list")
	}
	if x.Kind == KindResource {
		if b.Value.Compare(ast.NullTerm().Value) == 0 {
			return criteria.Denied, nil
		}
		return criteria.Denied, errors.New("this compares the resource")
	}
	for _, s := range []*Symbol{x, y} {
		if s != nil && s.Of != nil {
			other := b
			if s == y {
				other = a
			}
			return t.equalCollection(s.Of, other)
		}
	}
	if y == nil && !fits(x.Type, b) || y != nil && types.Compare(x.Type, types.B) == 0 && y.IsText() {
		return criteria.Denied, nil
	}
	if y == nil && x.Kind == KindCall && (x.Name == ast.Lower.Name && strings.ToLower(TextIn(b)) != TextIn(b) ||
		x.Name == ast.Upper.Name && strings.ToUpper(TextIn(b)) != TextIn(b)) {
		return criteria.Denied, nil
	}
	if no, ok := b.Value.(ast.Boolean); ok && !bool(no) && types.Compare(x.Type, types.B) == 0 {
		return t.equalAtom(a, ast.BooleanTerm(true)).Not(), nil
	}
	return t.equalAtom(a, b), nil
}

func (t *Theory) equalAtom(a, b *ast.Term) criteria.Function {
	key := t.TextOf(a) + " == " + t.TextOf(b)
	if ast.Boolean(true).Equal(b.Value) {
		key = t.TextOf(a)
	}
	return t.variable(&Atom{Kind: AsksEqual, A: a, B: b, free: t.FreeOf(a, b), Key: key})
}

// Known is a function that depends on nobody.
func Known(holds bool) criteria.Function {
	if holds {
		return criteria.Granted
	}
	return criteria.Denied
}

// fits is whether a plain value can be of a type.
func fits(is types.Type, term *ast.Term) bool {
	switch is.(type) {
	case types.String:
		_, ok := term.Value.(ast.String)
		return ok
	case types.Number:
		_, ok := term.Value.(ast.Number)
		return ok
	case types.Boolean:
		_, ok := term.Value.(ast.Boolean)
		return ok
	case *types.Array:
		_, ok := term.Value.(*ast.Array)
		return ok
	case *types.Set:
		_, ok := term.Value.(ast.Set)
		return ok
	case *types.Object:
		_, ok := term.Value.(ast.Object)
		return ok
	}
	return true
}

// equalParts is where values with symbols in them are equal.
func (t *Theory) equalParts(a, b *ast.Term) (criteria.Function, error) {
	all := criteria.Granted
	switch v := a.Value.(type) {
	case *ast.Array:
		w, ok := b.Value.(*ast.Array)
		if !ok || v.Len() != w.Len() {
			return criteria.Denied, nil
		}
		for i := range v.Len() {
			is, err := t.Equal(v.Elem(i), w.Elem(i))
			if err != nil {
				return criteria.Denied, err
			}
			all = t.Space.All(all, is)
		}
		return all, nil
	case ast.Object:
		w, ok := b.Value.(ast.Object)
		if !ok || v.Len() != w.Len() {
			return criteria.Denied, nil
		}
		err := v.Iter(func(key, value *ast.Term) error {
			other := w.Get(key)
			if other == nil {
				all = criteria.Denied
				return nil
			}
			is, err := t.Equal(value, other)
			all = t.Space.All(all, is)
			return err
		})
		return all, err
	case ast.Set:
		if _, ok := b.Value.(ast.Set); ok {
			return criteria.Denied, errors.New("this compares sets with sets in them")
		}
	}
	return criteria.Denied, nil
}

// equalCollection is where a collection is another value.
func (t *Theory) equalCollection(c *Collection, other *ast.Term) (criteria.Function, error) {
	if s := t.SymbolOf(other); s != nil && s.Of == nil {
		if !s.IsText() {
			return criteria.Denied, errors.New("this compares a collection of claims with something that is made of them")
		}
		return criteria.Denied, nil
	}
	with := c.Shape
	members, ok := t.MembersOf(other, &with)
	if !ok || with != c.Shape {
		return criteria.Denied, nil
	}
	if len(members) == 0 {
		some, err := t.AnyMember(c.Members)
		return some.Not(), err
	}
	if c.Shape != Set {
		return criteria.Denied, errors.New("this compares a list or object that depends on the caller")
	}
	there, err := t.within(c.Members, members)
	if err != nil {
		return criteria.Denied, err
	}
	back, err := t.within(members, c.Members)
	return t.Space.All(there, back), err
}

// within is where every member of a set is one of another.
func (t *Theory) within(members, of []Member) (criteria.Function, error) {
	all := criteria.Granted
	for _, m := range members {
		is, err := t.MemberOf(m.Value, of)
		if err != nil {
			return criteria.Denied, err
		}
		missing, err := t.Some(m.Over, t.Space.All(m.Where, is.Not()))
		if err != nil {
			return criteria.Denied, err
		}
		all = t.Space.All(all, missing.Not())
	}
	return all, nil
}

// Truth is where a value is not false. The resource has none.
func (t *Theory) Truth(v *ast.Term) (criteria.Function, error) {
	s := t.SymbolOf(v)
	if s == nil {
		return Known(!ast.Boolean(false).Equal(v.Value)), nil
	}
	if fits(s.Type, ast.BooleanTerm(false)) {
		is, err := t.Equal(v, ast.BooleanTerm(false))
		return is.Not(), err
	}
	return criteria.Granted, nil
}
