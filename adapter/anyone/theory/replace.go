package theory

import (
	"errors"
	"fmt"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/adapter/criteria"
)

// Replace is a term in which elements are what they are said to be.
func (t *Theory) Replace(term *ast.Term, by map[int]*ast.Term) *ast.Term {
	if s := t.SymbolOf(term); s != nil {
		return t.replaceSymbol(s, by)
	}
	if !t.Symbolic(term) {
		return term
	}
	switch v := term.Value.(type) {
	case *ast.Array:
		terms := make([]*ast.Term, v.Len())
		for i := range terms {
			terms[i] = t.Replace(v.Elem(i), by)
		}
		return ast.ArrayTerm(terms...)
	case ast.Object:
		object := ast.NewObject()
		v.Foreach(func(key, value *ast.Term) { object.Insert(key, t.Replace(value, by)) })
		return ast.NewTerm(object)
	}
	return term
}

func (t *Theory) replaceSymbol(s *Symbol, by map[int]*ast.Term) *ast.Term {
	if !slices.ContainsFunc(s.Free, func(n int) bool { return by[n] != nil }) {
		return s.Token
	}
	args := make([]*ast.Term, len(s.Args))
	for i, arg := range s.Args {
		args[i] = t.Replace(arg, by)
	}
	switch s.Kind {
	case KindElement:
		if is := by[s.Number]; is != nil {
			return is
		}
		return s.Token
	case KindCall:
		if value, ok := t.evaluated(s.Name, args); ok {
			return value
		}
		return t.Call(s.Name, args).Token
	case KindIndex:
		return t.indexed(args[0], args[1])
	case KindCollection:
		c := &Collection{Shape: s.Of.Shape}
		for _, m := range s.Of.Members {
			m.Over = slices.Clone(m.Over)
			with := t.moved(m.Over, by)
			m.Where = t.replaceIn(m.Where, with)
			m.Value = t.Replace(m.Value, with)
			if m.Key != nil {
				m.Key = t.Replace(m.Key, with)
			}
			if m.Where != criteria.Denied && m.Value != Nowhere && m.Key != Nowhere {
				c.Members = append(c.Members, m)
			}
		}
		if term, err := t.CollectionTerm(c); err == nil {
			return term
		}
	}
	return s.Token
}

// Nowhere stands for a value that is not there.
var Nowhere = ast.VarTerm("stagedoor undefined")

// indexed is what stands at a key of a value.
func (t *Theory) indexed(base, key *ast.Term) *ast.Term {
	if t.SymbolOf(base) != nil || t.Symbolic(key) {
		return t.Index(base, key).Token
	}
	value, err := base.Value.Find(ast.Ref{key})
	if err != nil {
		return Nowhere
	}
	return ast.NewTerm(value)
}

// evaluated is what a builtin makes of operands that depend on nobody.
func (t *Theory) evaluated(name string, args []*ast.Term) (*ast.Term, bool) {
	for _, arg := range args {
		if arg == Nowhere || t.Symbolic(arg) {
			return nil, false
		}
	}
	value, err := Evaluate(name, args)
	if err != nil || value == nil {
		return Nowhere, true
	}
	return value, true
}

// replaceIn is a function in which elements are what they are said to be.
func (t *Theory) replaceIn(f criteria.Function, by map[int]*ast.Term) criteria.Function {
	if f == criteria.Denied || f == criteria.Granted {
		return f
	}
	for _, v := range t.Space.Variables(f) {
		a := t.Atoms[v]
		if a == nil || !slices.ContainsFunc(a.free, func(n int) bool { return by[n] != nil }) {
			continue
		}
		f = t.Space.If(t.ReplaceAtom(a, by), t.Space.Given(f, v, true), t.Space.Given(f, v, false))
	}
	return f
}

// ReplaceAtom is an atom in which elements are what they are said to be.
func (t *Theory) ReplaceAtom(a *Atom, by map[int]*ast.Term) criteria.Function {
	var is criteria.Function
	var err error
	switch a.Kind {
	case AsksEqual, AsksMember:
		x, y := t.Replace(a.A, by), t.Replace(a.B, by)
		switch {
		case x == Nowhere || y == Nowhere:
			return criteria.Denied
		case a.Kind == AsksEqual:
			is, err = t.Equal(x, y)
		default:
			is, err = t.In(x, y)
		}
	case AsksDefined:
		x := t.Replace(a.A, by)
		if s := t.SymbolOf(x); s == nil {
			return Known(x != Nowhere)
		}
		return t.Defined(x)
	case AsksRule:
		params := t.Replace(a.Params, by)
		if !t.Symbolic(params) && a.Rule != nil {
			is, err = t.PlainRule(a, params)
		} else {
			is = t.RuleAtom(a, params)
		}
	case AsksSome:
		// What the elements are of can be about those that are replaced.
		elements := slices.Clone(a.Exists)
		with := t.moved(elements, by)
		is, err = t.Some(elements, t.replaceAll(a.Such, with))
	}
	if err != nil { // It could be said of the element, so it can be of what it is.
		t.failed = errors.Join(t.failed, fmt.Errorf("%s: %w", a.Key, err))
	}
	return is
}

// replaceAll is where all literals hold in which elements are what they are said to be.
func (t *Theory) replaceAll(such []Literal, by map[int]*ast.Term) criteria.Function {
	all := criteria.Granted
	for _, l := range such {
		is := t.ReplaceAtom(l.Atom, by)
		if l.Negated {
			is = is.Not()
		}
		all = t.Space.All(all, is)
	}
	return all
}
