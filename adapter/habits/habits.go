// Package habits finds expressions in a policy that are well formed, and that hardly anybody
// means.
//
// They are habits of other languages, where a not of what is missing is true and where a
// loop asks about each. [Check] knows three of them:
//
//   - "always": two bodies of a rule differ in one not alone, so that one of them holds;
//   - "each": some x in xs; not f(x), which holds as soon as one of xs is missing, and
//     claims[_] != "x", also by a variable, which holds as soon as there is another claim;
//   - "undefined": a member that can be missing stands under a not, and the body fails.
package habits

import (
	"cmp"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/adapter/findings"
	"github.com/stagedoor/stagedoor/adapter/reading"
)

type checker struct{ *findings.List }

// Check adds what of a module is such a habit.
func Check(to *findings.List, m *ast.Module) {
	c := checker{to}
	c.checkOpposites(m)
	for _, rule := range m.Rules {
		for each := rule; each != nil; each = each.Else {
			c.checkBody(each.Body)
		}
		visit := ast.NewGenericVisitor(func(x any) bool {
			switch x := x.(type) {
			case *ast.ArrayComprehension:
				c.checkBody(x.Body)
			case *ast.SetComprehension:
				c.checkBody(x.Body)
			case *ast.ObjectComprehension:
				c.checkBody(x.Body)
			case *ast.Every:
				c.checkBody(x.Body)
			}
			return false
		})
		visit.Walk(rule)
	}
}

// maxAlternatives is how many bodies of a rule are held against each other.
const maxAlternatives = 100

// checkOpposites looks for two bodies of a rule that are alike but for a not: one of
// them always holds where the rest does.
func (c checker) checkOpposites(m *ast.Module) {
	byPath := map[string][]*ast.Rule{}
	for _, rule := range m.Rules {
		if rule.Default || rule.Else != nil {
			continue
		}
		path := rule.Head.String()
		for _, other := range byPath[path] {
			what := opposite(rule.Body, other.Body)
			if what == nil {
				continue
			}
			text := findings.OneLine(strings.TrimPrefix(cmp.Or(string(what.Location.Text), what.String()), "not "))
			if asked := needed(what); len(asked) > 0 {
				c.Add(findings.At(rule.Head.Location), findings.Warning, "always",
					"this or the rule at line %d holds wherever there is %s, whatever %s is; write one rule that asks for no more",
					other.Location.Row, strings.Join(asked, " and "), text)
				continue
			}
			c.Add(findings.At(rule.Head.Location), findings.Warning, "always",
				"this or the rule at line %d holds whatever %s is; leave that out of both, and one of them",
				other.Location.Row, text)
		}
		if len(byPath[path]) < maxAlternatives {
			byPath[path] = append(byPath[path], rule)
		}
	}
}

// opposite is the expression in which alone two bodies differ, by a not.
func opposite(a, b ast.Body) (what *ast.Expr) {
	if len(a) != len(b) {
		return nil
	}
	for i := range a {
		if a[i].Equal(b[i]) {
			continue
		}
		one, other := strings.TrimPrefix(a[i].String(), "not "), strings.TrimPrefix(b[i].String(), "not ")
		if what != nil || one != other || a[i].Negated == b[i].Negated {
			return nil
		}
		what = a[i]
	}
	return what
}

// needed are what an expression hands to a call and what need not be there. Without it
// the call holds neither by itself nor under not, since OPA reads it before.
func needed(e *ast.Expr) (refs []string) {
	terms, ok := e.Terms.([]*ast.Term)
	if !ok {
		return nil
	}
	always := []string{"input.permission", "input.permission.name", "input.permission.type", "input.resource"}
	for _, arg := range terms[1:] {
		ast.WalkRefs(arg, func(ref ast.Ref) bool {
			text := ref.String()
			if (ref.HasPrefix(ast.InputRootRef) || ref.HasPrefix(ast.DefaultRootRef)) && !slices.Contains(always, text) &&
				!slices.Contains(refs, text) {
				refs = append(refs, text)
			}
			return true
		})
	}
	return refs
}

func (c checker) checkBody(body ast.Body) {
	for i, e := range body {
		if e.Negated {
			c.checkOptional(body, i)
		}
		c.checkOther(e)
		if v, of, ok := oneOf(e); ok {
			c.checkEach(body, i, v, of)
		}
	}
}

// oneOf is a variable that an expression has be one of a collection: `some x in xs`, or
// `x := xs[_]` of the caller's claims.
func oneOf(e *ast.Expr) (v ast.Var, of *ast.Term, ok bool) {
	if some, is := e.Terms.(*ast.SomeDecl); is {
		if len(some.Symbols) != 1 {
			return "", nil, false
		}
		call, is := some.Symbols[0].Value.(ast.Call)
		if !is {
			return "", nil, false
		}
		v, ok = call[len(call)-2].Value.(ast.Var)
		return v, call[len(call)-1], ok
	}
	if !e.IsAssignment() {
		return "", nil, false
	}
	ref, isRef := e.Operand(1).Value.(ast.Ref)
	if !isRef || ref[:len(ref)-1].String() != claims {
		return "", nil, false
	}
	index, isVar := ref[len(ref)-1].Value.(ast.Var)
	v, ok = e.Operand(0).Value.(ast.Var)
	return v, ast.NewTerm(ref[:len(ref)-1]), ok && isVar && index.IsWildcard()
}

// checkEach looks for a variable that is one of a collection, and of which the rest of the
// body says only what it is not: `some x in xs; not f(x)`. That holds where one of xs is
// missing, and mostly is meant for each of them.
func (c checker) checkEach(body ast.Body, at int, v ast.Var, of *ast.Term) {
	if reading.Single(of) {
		return
	}
	var denied *ast.Expr
	for i, e := range body {
		if i == at || !uses(e, v) {
			continue
		}
		if (!e.Negated || !callsFunction(e)) && !deniesClaims(e, of) {
			return
		}
		denied = e
	}
	if denied == nil {
		return
	}
	text := findings.OneLine(strings.TrimSpace(string(denied.Location.Text)))
	how := "is missing"
	if of.String() == claims {
		how = "is another one"
	}
	c.Add(findings.At(denied.Location), findings.Warning, "each",
		"this holds as soon as one of %s %s; for none of them write: every %s in %s { %s }",
		of, how, v, of, text)
}

const claims = "input.identity.claims"

// deniesClaims is whether an expression says of a member of a collection that it is no claim,
// or of a claim that it is none of others. Callers have several claims, so that one other is
// no ban.
func deniesClaims(e *ast.Expr, collection *ast.Term) bool {
	of := collection.String() == claims
	terms, called := e.Terms.([]*ast.Term)
	if !called {
		return of && e.Negated // not banned[c]
	}
	switch terms[0].String() {
	case "internal.member_2":
		return e.Negated && (of || terms[2].String() == claims)
	case "neq", "equal":
		_, named := terms[1].Value.(ast.String)
		_, alsoNamed := terms[2].Value.(ast.String)
		return of && e.Negated == (terms[0].String() == "equal") && (named || alsoNamed)
	}
	return false
}

// checkOther looks for `input.identity.claims[_] != "x"`, which holds where the caller has
// another claim, as nearly everybody has.
func (c checker) checkOther(e *ast.Expr) {
	terms, ok := e.Terms.([]*ast.Term)
	if !ok || e.Negated || len(terms) != 3 || terms[0].String() != "neq" {
		return
	}
	for i, operand := range terms[1:] {
		ref, isRef := operand.Value.(ast.Ref)
		other := terms[2-i]
		if _, named := other.Value.(ast.String); !named || !isRef || ref[:len(ref)-1].String() != claims {
			continue
		}
		v, isVar := ref[len(ref)-1].Value.(ast.Var)
		if !isVar || !v.IsWildcard() { // one with a name can be asked for elsewhere
			continue
		}
		c.Add(findings.At(e.Location), findings.Warning, "each",
			"this holds as soon as one of %s is another one; for none of them write: not %s in %s", claims, other, claims)
	}
}

// callsFunction is whether an expression calls a function that is no builtin: what
// is asked of a builtin about each of a list is mostly meant as it stands.
func callsFunction(e *ast.Expr) bool {
	terms, ok := e.Terms.([]*ast.Term)
	return ok && ast.BuiltinMap[terms[0].String()] == nil
}

func uses(x any, v ast.Var) bool {
	found := false
	ast.WalkVars(x, func(other ast.Var) bool {
		found = found || other.Equal(v)
		return found
	})
	return found
}

// optional are the members of the input that are not always there, and when.
var optional = map[string]string{
	"input.permission.resourceType":      "a basic permission",
	"input.permission.attributes.action": "a permission without an action",
	"input.identity.actor":               "a request that no plugin makes",
}

// checkOptional looks for a member that can be missing, under a not: the body fails
// then, though the author reads the not as true.
func (c checker) checkOptional(body ast.Body, at int) {
	e := body[at]
	terms, ok := e.Terms.([]*ast.Term)
	if !ok || e.IsEquality() || terms[0].String() == "equal" { // which are false of what is missing
		return
	}
	var ref ast.Ref
	when := ""
	for _, argument := range terms[1:] { // which are looked up before the not
		if of, is := argument.Value.(ast.Ref); is && optional[of.String()] != "" {
			ref, when = of, optional[of.String()]
			break
		}
	}
	if when == "" {
		return
	}
	for i, other := range body { // one that asks for the member first knows what it does
		if i != at && !other.Negated && strings.Contains(other.String(), ref.String()) {
			return
		}
	}
	c.Add(findings.At(e.Location), findings.Warning, "undefined",
		"%v is not there for %s, and then the whole body fails, not only what stands under not; write object.get(%s, "+
			"%q, \"\") instead, or a rule of its own and not that rule",
		ref, when, ref[:len(ref)-1], strings.Trim(ref[len(ref)-1].String(), `"`))
}
