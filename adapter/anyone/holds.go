package anyone

import (
	"errors"
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/adapter/criteria"
	"github.com/stagedoor/stagedoor/adapter/decision"
)

// Asker answers a rule about a resource, with params as JSON.
type Asker func(rule criteria.Rule) (bool, error)

// reading is a caller and a resource of whom a formula is asked.
type reading struct {
	*theory
	caller   decision.Caller
	ask      Asker
	elements map[int]*ast.Term
	known    map[*symbol]*ast.Term // those that are about no element
	err      error
}

// holds is whether a function does, for the elements that are chosen.
func (r *reading) holds(f criteria.Function) bool {
	return r.space.Holds(f, func(v criteria.Function) bool {
		a := r.atoms[v]
		if a == nil {
			r.fail(errors.New("a question that nobody knows"))
			return false
		}
		return r.atom(a)
	})
}

func (r *reading) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

func (r *reading) atom(a *atom) bool {
	switch a.kind {
	case isEqual:
		x, y := r.value(a.a), r.value(a.b)
		return x != nil && y != nil && x.Equal(y)
	case isMember:
		x, y := r.value(a.a), r.value(a.b)
		if x == nil || y == nil {
			return false
		}
		is, err := evaluate(ast.Member.Name, []*ast.Term{x, y})
		return err == nil && is != nil && ast.Boolean(true).Equal(is.Value)
	case isDefined:
		return r.value(a.a) != nil
	case isRule:
		params := r.value(a.params)
		if params == nil {
			return false // as what is undefined; the formula asks whether it is there, too, in whatever order
		}
		is, err := r.ask(criteria.Rule{Name: a.name, ResourceType: a.about, Params: params.String()})
		if err != nil {
			r.fail(err)
		}
		return is
	}
	return r.some(a, a.exists)
}

// some is whether there are elements for which all literals of an atom hold.
func (r *reading) some(a *atom, elements []int) bool {
	if len(elements) == 0 {
		for _, l := range a.such {
			if r.atom(l.atom) == l.negated {
				return false
			}
		}
		return true
	}
	n := elements[0]
	of := r.value(r.byText[elementText(n)].args[0])
	if of == nil {
		return false
	}
	found := false
	before := r.elements[n]
	each := func(e *ast.Term) {
		r.elements[n] = e
		found = found || r.some(a, elements[1:])
	}
	switch v := of.Value.(type) {
	case *ast.Array:
		v.Foreach(each)
	case ast.Set:
		v.Foreach(each)
	}
	r.elements[n] = before
	return found
}

// value is a term for the caller, or nil where it is not there.
func (r *reading) value(t *ast.Term) *ast.Term {
	if s := r.symbolOf(t); s != nil {
		return r.symbolValue(s)
	}
	if !r.symbolic(t) {
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

func (r *reading) symbolValue(s *symbol) *ast.Term {
	if len(s.free) > 0 {
		return r.made(s)
	}
	v, ok := r.known[s]
	if !ok {
		v = r.made(s)
		r.known[s] = v
	}
	return v
}

func (r *reading) made(s *symbol) *ast.Term {
	switch s.kind {
	case isUser:
		return ast.StringTerm(r.caller.User)
	case isActor:
		return ast.StringTerm(r.caller.Actor)
	case isClaims:
		terms := make([]*ast.Term, len(r.caller.Claims))
		for i, claim := range r.caller.Claims {
			terms[i] = ast.StringTerm(claim)
		}
		return ast.ArrayTerm(terms...)
	case isElement:
		return r.elements[s.number]
	case isCall, isIndex:
		args := make([]*ast.Term, len(s.args))
		for i, arg := range s.args {
			if args[i] = r.value(arg); args[i] == nil {
				return nil
			}
		}
		if s.kind == isIndex {
			v, err := args[0].Value.Find(ast.Ref{args[1]})
			if err != nil {
				return nil
			}
			return ast.NewTerm(v)
		}
		v, err := evaluate(s.name, args)
		if err != nil {
			r.fail(err)
			return nil
		}
		return v
	case isCollection:
		return r.collection(s.of)
	}
	r.fail(fmt.Errorf("%s has no value", s.text))
	return nil
}

// collection is a collection for the caller. How often a member of a list is there is
// not known, so that nothing may depend on it.
func (r *reading) collection(c *collection) *ast.Term {
	is := &collection{shape: c.shape}
	for _, m := range c.members {
		r.each(m, m.over, is)
	}
	return is.term()
}

func (r *reading) each(m member, over []int, into *collection) {
	if len(over) == 0 {
		if !r.holds(m.where) {
			return
		}
		one := member{value: r.value(m.value)}
		if m.key != nil {
			one.key = r.value(m.key)
		}
		if one.value != nil {
			into.members = append(into.members, one)
		}
		return
	}
	n := over[0]
	of := r.value(r.byText[elementText(n)].args[0])
	if of == nil {
		return
	}
	before := r.elements[n]
	next := func(e *ast.Term) {
		r.elements[n] = e
		r.each(m, over[1:], into)
	}
	switch v := of.Value.(type) {
	case *ast.Array:
		v.Foreach(next)
	case ast.Set:
		v.Foreach(next)
	}
	r.elements[n] = before
}
