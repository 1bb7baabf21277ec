// Package verdict says where a value that the entrypoint of a policy has allows. A value is a
// boolean or a decision document. A document is read member by member, and its conditions as
// a formula. What is no decision allows nothing.
package verdict

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/adapter/anyone/call"
	"github.com/stagedoor/stagedoor/adapter/anyone/theory"
	"github.com/stagedoor/stagedoor/adapter/criteria"
	"github.com/stagedoor/stagedoor/adapter/explore"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// A Reader reads values that the entrypoint of a policy has.
type Reader struct {
	call.Functions
	Rules        []*explore.PermissionRule // of the policy
	ResourceType string                    // of the permission
}

// Allows is where a value that the entrypoint has allows.
func (f *Reader) Allows(v *ast.Term) (criteria.Function, error) {
	if s := f.SymbolOf(v); s != nil {
		if s.Of != nil && s.Of.Shape == theory.Object {
			return f.allowsObject(s.Of)
		}
		if s.Type != nil && s.Type.String() == "boolean" {
			return f.Truth(v)
		}
		return criteria.Denied, nil // no decision, which allows nothing
	}
	if is, ok := v.Value.(ast.Boolean); ok {
		return theory.Known(bool(is)), nil
	}
	if f.Symbolic(v) {
		return f.allowsDocument(v)
	}
	document, err := ast.JSON(v.Value)
	if err != nil {
		return criteria.Denied, nil //nolint:nilerr // no decision, which allows nothing
	}
	d, _, err := wire.ParseDecision(document)
	switch {
	case err != nil, d.Result == wire.Deny:
		return criteria.Denied, nil //nolint:nilerr // likewise
	case d.Result == wire.Allow:
		return criteria.Granted, nil
	}
	return f.conditions(d)
}

// allowsObject is where a document allows whose members depend on something.
func (f *Reader) allowsObject(c *theory.Collection) (criteria.Function, error) {
	var optional []theory.Member
	var sure []theory.Member
	for _, m := range c.Members {
		switch {
		case len(m.Over) > 0 || f.Symbolic(m.Key):
			return criteria.Denied, errors.New("the members of the decision are claims")
		case m.Where == criteria.Granted:
			sure = append(sure, m)
		default:
			optional = append(optional, m)
		}
	}
	if len(optional) > call.MaxMaterialised {
		return criteria.Denied, errors.New("a decision of many members of which each may be there or not")
	}
	allowed := criteria.Denied
	for chosen := range 1 << len(optional) {
		where := criteria.Granted
		some := &theory.Collection{Shape: theory.Object, Members: slices.Clone(sure)}
		keys := make(map[string]bool)
		for i, m := range optional {
			if chosen>>i&1 == 0 {
				where = f.Space.All(where, m.Where.Not())
				continue
			}
			where = f.Space.All(where, m.Where)
			if keys[m.Key.String()] {
				where = criteria.Denied
			}
			keys[m.Key.String()] = true
			some.Members = append(some.Members, m)
		}
		if where == criteria.Denied {
			continue
		}
		holds, err := f.Allows(some.Term())
		if err != nil {
			return criteria.Denied, err
		}
		allowed = f.Space.Any(allowed, f.Space.All(where, holds))
	}
	return allowed, nil
}

// allowsDocument is where a document allows that has something of the caller in it.
func (f *Reader) allowsDocument(v *ast.Term) (criteria.Function, error) {
	document, ok := v.Value.(ast.Object)
	if !ok {
		return criteria.Denied, nil // no decision, which allows nothing
	}
	member := func(name string) *ast.Term { return document.Get(ast.StringTerm(name)) }
	plain := ast.NewObject()
	document.Foreach(func(key, value *ast.Term) {
		if !key.Equal(ast.StringTerm("conditions")) {
			plain.Insert(key, value)
		}
	})
	result, conditions := member("result"), member("conditions")
	switch {
	case result == nil:
		return criteria.Denied, nil
	case result.Equal(ast.StringTerm("ALLOW")):
		return criteria.Granted, nil
	case result.Equal(ast.StringTerm("DENY")):
		return criteria.Denied, nil
	case !result.Equal(ast.StringTerm("CONDITIONAL")) || conditions == nil:
		return criteria.Denied, errors.New("the decision is something that is made of the caller")
	}
	plugin, about := member("pluginId"), member("resourceType")
	if plugin == nil || about == nil || !f.IsPlainText(plugin) || !f.IsPlainText(about) {
		return criteria.Denied, errors.New("whom the conditions are about is made of the caller")
	}
	d := wire.Decision{PluginID: theory.TextIn(plugin), ResourceType: theory.TextIn(about)}
	if f.Basic || f.ResourceType != "" && d.ResourceType != f.ResourceType {
		return criteria.Denied, nil
	}
	return f.condition(d, conditions)
}

// condition is where a condition holds that has something of the caller in it.
func (f *Reader) condition(d wire.Decision, v *ast.Term) (criteria.Function, error) {
	object, ok := v.Value.(ast.Object)
	if !ok {
		return criteria.Denied, errors.New("a condition is something that is made of the caller")
	}
	if rule := object.Get(ast.StringTerm("rule")); rule != nil {
		return f.conditionLeaf(d, object, rule)
	}
	if object.Len() != 1 {
		return criteria.Denied, errors.New("a condition that is none of rule, anyOf, allOf and not")
	}
	op := object.Keys()[0]
	of := object.Get(op)
	if op.Equal(ast.StringTerm("not")) {
		is, err := f.condition(d, of)
		return is.Not(), err
	}
	var s theory.Shape
	members, ok := f.MembersOf(of, &s)
	isAny := op.Equal(ast.StringTerm("anyOf"))
	if !ok || s != theory.List || !isAny && !op.Equal(ast.StringTerm("allOf")) {
		return criteria.Denied, errors.New("a condition that is none of rule, anyOf, allOf and not")
	}
	found := criteria.Denied
	for _, m := range members {
		is, err := f.condition(d, m.Value)
		if err != nil {
			return criteria.Denied, err
		}
		if !isAny { // as the negation of any that does not hold
			is = is.Not()
		}
		if is, err = f.Some(m.Over, f.Space.All(m.Where, is)); err != nil {
			return criteria.Denied, err
		}
		found = f.Space.Any(found, is)
	}
	if !isAny {
		found = found.Not()
	}
	return found, nil
}

func (f *Reader) conditionLeaf(d wire.Decision, object ast.Object, rule *ast.Term) (criteria.Function, error) {
	about, params := object.Get(ast.StringTerm("resourceType")), object.Get(ast.StringTerm("params"))
	if about == nil || !f.IsPlainText(about) || !f.IsPlainText(rule) {
		return criteria.Denied, errors.New("a rule of the conditions is made of the caller")
	}
	if params == nil {
		params = ast.ObjectTerm()
	}
	if theory.TextIn(about) != d.ResourceType {
		return criteria.Denied, fmt.Errorf("a rule about %s in conditions about %s", about, d.ResourceType)
	}
	return f.declaredRule(d, theory.TextIn(rule), theory.TextIn(about), params)
}

// conditions is where the conditions of a document hold.
func (f *Reader) conditions(d wire.Decision) (criteria.Function, error) {
	if f.Basic {
		return criteria.Denied, nil // conditions on nothing, which nobody can apply
	}
	if f.ResourceType != "" && d.ResourceType != f.ResourceType {
		return criteria.Denied, nil // no plugin applies them
	}
	return f.Holds(d, d.Conditions)
}

// Holds is where conditions of a document hold.
func (f *Reader) Holds(d wire.Decision, c criteria.Criteria) (criteria.Function, error) {
	switch c.Op {
	case criteria.Never, criteria.Always:
		return theory.Known(c.Op == criteria.Always), nil
	case criteria.Leaf:
		return f.declared(d, c.Rule)
	}
	of := make([]criteria.Function, len(c.Of))
	for i, child := range c.Of {
		var err error
		if of[i], err = f.Holds(d, child); err != nil {
			return criteria.Denied, err
		}
	}
	switch c.Op {
	case criteria.Not:
		return of[0].Not(), nil
	case criteria.AllOf:
		return f.Space.All(of...), nil
	}
	return f.Space.Any(of...), nil
}

// declared is where a rule of a document holds.
func (f *Reader) declared(d wire.Decision, leaf criteria.Rule) (criteria.Function, error) {
	params := ast.ObjectTerm()
	if leaf.Params != "" {
		v, err := ast.ValueFromReader(strings.NewReader(leaf.Params))
		if err != nil {
			return criteria.Denied, err
		}
		params = ast.NewTerm(v)
	}
	return f.declaredRule(d, leaf.Name, leaf.ResourceType, params)
}

func (f *Reader) declaredRule(d wire.Decision, name, about string, params *ast.Term) (criteria.Function, error) {
	a := &theory.Atom{Kind: theory.AsksRule, Name: name, About: about}
	for _, r := range f.Rules {
		if r.Name == name && r.ResourceType == about && r.PluginID == d.PluginID {
			a.Rule = r
		}
	}
	return f.Leaf(a, params)
}
