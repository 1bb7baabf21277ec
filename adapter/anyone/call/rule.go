package call

import (
	"fmt"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/adapter/anyone/theory"
	"github.com/stagedoor/stagedoor/adapter/criteria"
)

// Leaf is where a rule holds with params that may depend on the caller. A list that
// means "any of" is asked about element by element.
func (f *Functions) Leaf(a *theory.Atom, params *ast.Term) (criteria.Function, error) {
	if !f.Symbolic(params) {
		return f.PlainRule(a, params)
	}
	object, ok := params.Value.(ast.Object)
	if !ok || f.SymbolOf(params) != nil {
		return criteria.Denied, fmt.Errorf("the params of %s are something that is made of the caller", a.Name)
	}
	if err := f.checkSample(a, object); err != nil {
		return criteria.Denied, err
	}
	name := ""
	if a.Rule != nil {
		name = a.Rule.AnyOf
	}
	list := object.Get(ast.StringTerm(name))
	if name == "" || list == nil || !f.Symbolic(list) {
		return f.symbolicLeaf(a, params)
	}
	var s theory.Shape
	members, ok := f.MembersOf(list, &s)
	if !ok || s == theory.Object {
		return criteria.Denied, fmt.Errorf("the %s of %s are something that is made of the caller", name, a.Name)
	}
	holds := criteria.Denied
	for _, m := range members {
		m = f.Fresh(m)
		one := ast.NewObject()
		object.Foreach(one.Insert)
		one.Insert(ast.StringTerm(name), ast.ArrayTerm(m.Value))
		is, err := f.symbolicLeaf(a, ast.NewTerm(one))
		if err != nil {
			return criteria.Denied, err
		}
		if is, err = f.Some(m.Over, f.Space.All(m.Where, is)); err != nil {
			return criteria.Denied, err
		}
		holds = f.Space.Any(holds, is)
	}
	return holds, nil
}

func (f *Functions) symbolicLeaf(a *theory.Atom, params *ast.Term) (criteria.Function, error) {
	if !f.Symbolic(params) {
		return f.PlainRule(a, params)
	}
	if f.hasCollection(params) {
		return criteria.Denied, fmt.Errorf("the params of %s have a list in them that depends on the caller", a.Name)
	}
	return f.RuleAtom(a, params), nil
}

// checkSample is why the schema of a rule refuses params, with samples for what is made
// of the caller.
func (f *Functions) checkSample(a *theory.Atom, params ast.Object) error {
	if a.Rule == nil {
		return nil
	}
	var first error
	for i, texts := range [][]string{{"user:default/some"}, {"a", "b"}, {""}, {strings.Repeat("x", 300)}, {}} {
		value, err := ast.JSON(f.sampleParams(ast.NewTerm(params), texts).Value)
		if err != nil {
			return err
		}
		object, _ := value.(map[string]any)
		err = a.Rule.CheckParams(object)
		switch {
		case i == 0:
			first = err
		case (err == nil) != (first == nil):
			return fmt.Errorf("whether %s takes these params depends on the caller", a.Name)
		}
	}
	return first
}

// sampleParams are params with samples of the right types.
func (f *Functions) sampleParams(t *ast.Term, texts []string) *ast.Term {
	if s := f.SymbolOf(t); s != nil {
		one := ""
		terms := make([]*ast.Term, len(texts))
		for i, text := range texts {
			one, terms[i] = text, ast.StringTerm(text)
		}
		if s.Kind == theory.KindClaims || s.Of != nil || theory.Iterable(s) {
			return ast.ArrayTerm(terms...)
		}
		return ast.StringTerm(one)
	}
	switch v := t.Value.(type) {
	case *ast.Array:
		terms := make([]*ast.Term, v.Len())
		for i := range terms {
			terms[i] = f.sampleParams(v.Elem(i), texts)
		}
		return ast.ArrayTerm(terms...)
	case ast.Object:
		object := ast.NewObject()
		v.Foreach(func(key, value *ast.Term) { object.Insert(key, f.sampleParams(value, texts)) })
		return ast.NewTerm(object)
	}
	return t
}
