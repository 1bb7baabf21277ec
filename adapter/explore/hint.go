package explore

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// use is what an expression does with a part of the resource.
type use struct {
	op      string // eq, neq, in (the part is an element), contains (it holds an element); else empty
	other   string // the other operand, as Rego
	list    []string
	negated bool
}

// useOf reads what is done with t in e, or in the expression which uses the variable
// that e defines as t.
func (f *flow) useOf(e *ast.Expr, t *ast.Term) use {
	if e == nil {
		return use{}
	}
	if e.IsEquality() {
		if v, ok := e.Operand(0).Value.(ast.Var); ok && f.uses[v][0] == e { // e defines v.
			t = e.Operand(0)
			if e = f.nextUse(e, v); e == nil {
				return use{}
			}
		}
	}
	if !e.IsCall() || len(e.Operands()) != 2 {
		return use{negated: e.Negated}
	}
	a, b := e.Operand(0), e.Operand(1)
	u := use{negated: e.Negated}
	other, first := b, true
	if b.Equal(t) {
		other, first = a, false
	}
	switch operator := e.Operator().String(); {
	case e.IsEquality() || operator == ast.Equal.Name:
		u.op = "eq"
	case operator == ast.NotEqual.Name:
		u.op = "neq"
	case operator == ast.Member.Name && first:
		u.op = "in"
	case operator == ast.Member.Name:
		u.op = "contains"
	}
	u.other = f.text(other)
	if list, ok := other.Value.(interface{ Foreach(func(*ast.Term)) }); ok {
		list.Foreach(func(t *ast.Term) { u.list = append(u.list, f.text(t)) })
	}
	return u
}

// text is a term as an author would write it: for a variable of the compiler's,
// what it was made for.
func (f *flow) text(t *ast.Term) string {
	v, ok := t.Value.(ast.Var)
	if !ok {
		return t.String()
	}
	if name, ok := f.compiler.RewrittenVars[v]; ok && !name.IsWildcard() {
		return string(name)
	}
	for _, e := range f.uses[v] {
		if e.IsEquality() && e.Operand(0).Equal(t) && e.Location != nil {
			return string(e.Location.Text)
		}
	}
	return "…"
}

// hint names the permission rule that says what an expression does with the part of
// the resource at a path, where there is one.
func (f *flow) hint(path ast.Ref, u use) string {
	names := make([]string, len(path))
	for i, part := range path {
		s, ok := part.Value.(ast.String)
		if !ok {
			names = names[:i]
			break
		}
		names[i] = string(s)
	}
	if len(names) == 0 {
		return anyRuleHint
	}
	name, params := "", ""
	switch rest := names[1:]; names[0] {
	case "kind":
		name, params = "IS_ENTITY_KIND", `{"kinds": [`+strings.Join(u.values(), ", ")+`]}`
	case "relations":
		name, params = "IS_ENTITY_OWNER", `{"claims": input.identity.claims}`
	case "metadata":
		name, params = metadataHint(rest, u)
	case "spec":
		name, params = "HAS_SPEC", keyParams("key", rest, u)
		if len(rest) == 1 && rest[0] == "owner" {
			name, params = "IS_ENTITY_OWNER", `{"claims": input.identity.claims}`
		}
	case "backstage:permissions":
		name, params = "HAS_TAG", fmt.Sprintf(`{"tag": %s}`, u.values()[0])
	case "createdBy":
		name, params = "IS_TASK_OWNER", `{"createdBy": input.identity.claims}`
	}
	call := f.callOf(name, params)
	if call == "" {
		return anyRuleHint
	}
	if u.negated != (u.op == "neq") {
		call = "not " + call
	}
	if u.several() && strings.HasPrefix(name, "HAS_") {
		call = "some value in " + u.other + "; " + call
	}
	return call
}

// several is whether the part is one of several values.
func (u use) several() bool { return u.op == "in" && len(u.list) != 1 }

const anyRuleHint = "call a permission rule with input.resource, from the rule library or of your own"

func metadataHint(path []string, u use) (name, params string) {
	if len(path) > 0 && path[0] == "labels" {
		return "HAS_LABEL", keyParams("label", path[1:], u)
	}
	if len(path) > 0 && path[0] == "annotations" {
		return "HAS_ANNOTATION", keyParams("annotation", path[1:], u)
	}
	return "HAS_METADATA", keyParams("key", path, u)
}

// keyed writes params with a key and, where something is compared, a value.
func keyParams(name string, path []string, u use) string {
	key := "…"
	if len(path) > 0 {
		key = ast.String(strings.Join(path, ".")).String()
	}
	if u.op == "" {
		return fmt.Sprintf(`{%q: %s}`, name, key)
	}
	value := u.values()[0]
	if u.several() {
		value = "value"
	}
	return fmt.Sprintf(`{%q: %s, "value": %s}`, name, key, value)
}

// values are what the part is compared with, at least one.
func (u use) values() []string {
	switch {
	case u.op == "in" && len(u.list) == 0, u.op == "":
		return []string{"…"}
	case u.op == "in":
		return u.list
	}
	return []string{u.other}
}

// callOf is the call of a rule of the library or the bundle, if it has the rule.
func (f *flow) callOf(name, params string) string {
	for _, path := range slices.Sorted(maps.Keys(f.permissions)) {
		if r := f.permissions[path]; r.Name == name {
			function := r.Function[len(r.Function)-2:]
			return fmt.Sprintf("%s.%s(input.resource, %s)", plain(function[0]), plain(function[1]), params)
		}
	}
	return ""
}

func plain(t *ast.Term) string { return strings.Trim(t.String(), `"`) }
