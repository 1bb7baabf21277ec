// Package valuation evaluates formulas for one caller and one resource, by OPA's builtins. It
// takes a formula at its word: each symbol has the caller's value, and each atom is asked.
package valuation

import (
	"errors"
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/adapter/anyone/theory"
	"github.com/stagedoor/stagedoor/adapter/criteria"
	"github.com/stagedoor/stagedoor/adapter/decision"
)

// Asker answers a rule about a resource, with params as JSON.
type Asker func(rule criteria.Rule) (bool, error)

// A Valuation is a caller and a resource of whom a formula is asked.
type Valuation struct {
	theory   *theory.Theory
	caller   decision.Caller
	ask      Asker
	elements map[int]*ast.Term
	known    map[*theory.Symbol]*ast.Term // those that are about no element
	err      error
}

// New is one of a caller, and of the resource of which ask answers rules.
func New(t *theory.Theory, c decision.Caller, ask Asker) *Valuation {
	return &Valuation{
		theory: t, caller: c, ask: ask, elements: make(map[int]*ast.Term), known: make(map[*theory.Symbol]*ast.Term),
	}
}

// Holds is whether a function does. The error is that of the Asker.
func (r *Valuation) Holds(f criteria.Function) (bool, error) {
	r.err = nil
	holds := r.function(f)
	return holds && r.err == nil, r.err
}

// Answer is that to an atom, which asks nothing of the resource.
func (r *Valuation) Answer(a *theory.Atom) (bool, error) {
	r.err = nil
	is := r.atom(a)
	return is, r.err
}

// Value is a term for the caller, or nil where it is not there.
func (r *Valuation) Value(t *ast.Term) *ast.Term { return r.value(t) }

// function is whether a function holds, for the elements that are chosen.
func (r *Valuation) function(f criteria.Function) bool {
	return r.theory.Space.Holds(f, func(v criteria.Function) bool {
		a := r.theory.Atoms[v]
		if a == nil {
			r.fail(errors.New("a question that nobody knows"))
			return false
		}
		return r.atom(a)
	})
}

func (r *Valuation) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

func (r *Valuation) atom(a *theory.Atom) bool {
	switch a.Kind {
	case theory.AsksEqual:
		x, y := r.value(a.A), r.value(a.B)
		return x != nil && y != nil && x.Equal(y)
	case theory.AsksMember:
		x, y := r.value(a.A), r.value(a.B)
		if x == nil || y == nil {
			return false
		}
		is, err := theory.Evaluate(ast.Member.Name, []*ast.Term{x, y})
		return err == nil && is != nil && ast.Boolean(true).Equal(is.Value)
	case theory.AsksDefined:
		return r.value(a.A) != nil
	case theory.AsksRule:
		params := r.value(a.Params)
		if params == nil {
			return false // as what is undefined; the formula asks whether it is there, too, in whatever order
		}
		is, err := r.ask(criteria.Rule{Name: a.Name, ResourceType: a.About, Params: params.String()})
		if err != nil {
			r.fail(err)
		}
		return is
	}
	return r.some(a, a.Exists)
}

// some is whether there are elements for which all literals of an atom hold.
func (r *Valuation) some(a *theory.Atom, elements []int) bool {
	if len(elements) == 0 {
		for _, l := range a.Such {
			if r.atom(l.Atom) == l.Negated {
				return false
			}
		}
		return true
	}
	n := elements[0]
	of := r.value(r.theory.Domain(n))
	if of == nil {
		return false
	}
	found := false
	before := r.elements[n]
	each := func(e *ast.Term) {
		r.elements[n] = e
		found = found || r.some(a, elements[1:])
	}
	if list, ok := of.Value.(*ast.Array); ok { // Only lists have elements: of sets each member is known.
		list.Foreach(each)
	}
	r.elements[n] = before
	return found
}

// value is a term for the caller, or nil where it is not there.
func (r *Valuation) value(t *ast.Term) *ast.Term {
	if s := r.theory.SymbolOf(t); s != nil {
		return r.symbolValue(s)
	}
	if !r.theory.Symbolic(t) {
		return t
	}
	switch v := t.Value.(type) {
	case *ast.Array:
		terms := make([]*ast.Term, v.Len())
		for i := range terms {
			if terms[i] = r.value(v.Elem(i)); terms[i] == nil {
				return nil
			}
		}
		return ast.ArrayTerm(terms...)
	case ast.Object:
		object := ast.NewObject()
		missing := v.Until(func(key, value *ast.Term) bool {
			value = r.value(value)
			if value != nil {
				object.Insert(key, value)
			}
			return value == nil
		})
		if missing {
			return nil
		}
		return ast.NewTerm(object)
	}
	return t
}

func (r *Valuation) symbolValue(s *theory.Symbol) *ast.Term {
	if len(s.Free) > 0 {
		return r.made(s)
	}
	v, ok := r.known[s]
	if !ok {
		v = r.made(s)
		r.known[s] = v
	}
	return v
}

func (r *Valuation) made(s *theory.Symbol) *ast.Term {
	switch s.Kind {
	case theory.KindUser:
		return ast.StringTerm(r.caller.User)
	case theory.KindActor:
		return ast.StringTerm(r.caller.Actor)
	case theory.KindClaims:
		terms := make([]*ast.Term, len(r.caller.Claims))
		for i, claim := range r.caller.Claims {
			terms[i] = ast.StringTerm(claim)
		}
		return ast.ArrayTerm(terms...)
	case theory.KindElement:
		return r.elements[s.Number]
	case theory.KindCall, theory.KindIndex:
		args := make([]*ast.Term, len(s.Args))
		for i, arg := range s.Args {
			if args[i] = r.value(arg); args[i] == nil {
				return nil
			}
		}
		if s.Kind == theory.KindIndex {
			v, err := args[0].Value.Find(ast.Ref{args[1]})
			if err != nil {
				return nil
			}
			return ast.NewTerm(v)
		}
		v, err := theory.Evaluate(s.Name, args)
		if err != nil {
			r.fail(err)
			return nil
		}
		return v
	case theory.KindCollection:
		return r.collection(s.Of)
	}
	r.fail(fmt.Errorf("%s has no value", s.Text))
	return nil
}

// collection is a collection for the caller. How often a member of a list is there is
// not known, so that nothing may depend on it.
func (r *Valuation) collection(c *theory.Collection) *ast.Term {
	is := &theory.Collection{Shape: c.Shape}
	for _, m := range c.Members {
		r.each(m, m.Over, is)
	}
	return is.Term()
}

func (r *Valuation) each(m theory.Member, over []int, into *theory.Collection) {
	if len(over) == 0 {
		if !r.function(m.Where) {
			return
		}
		one := theory.Member{Value: r.value(m.Value)}
		if m.Key != nil {
			one.Key = r.value(m.Key)
		}
		if one.Value != nil {
			into.Members = append(into.Members, one)
		}
		return
	}
	n := over[0]
	of := r.value(r.theory.Domain(n))
	if of == nil {
		return
	}
	before := r.elements[n]
	next := func(e *ast.Term) {
		r.elements[n] = e
		r.each(m, over[1:], into)
	}
	if list, ok := of.Value.(*ast.Array); ok {
		list.Foreach(next)
	}
	r.elements[n] = before
}
