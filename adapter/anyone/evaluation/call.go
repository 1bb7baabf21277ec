package evaluation

import (
	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/adapter/anyone/call"
	"github.com/stagedoor/stagedoor/adapter/anyone/theory"
	"github.com/stagedoor/stagedoor/adapter/criteria"
	"github.com/stagedoor/stagedoor/adapter/explore"
)

// callExpr evaluates a call. Where its last operand is not one of the function's, it is
// unified with the value.
func (f *frame) callExpr(terms []*ast.Term, where criteria.Function, found solution) error {
	ref, ok := terms[0].Value.(ast.Ref)
	if !ok {
		return f.outside("a call of something that has no name")
	}
	name := ref.String()
	operands := terms[1:]
	var out *ast.Term
	rules := f.functionAt(ref)
	builtin := ast.BuiltinMap[name]
	var arity int
	switch {
	case len(rules) > 0:
		arity = len(rules[0].Head.Args)
	case builtin != nil:
		arity = builtin.Decl.Arity()
	default:
		return f.outside("%s is no function that stagedoor knows", name)
	}
	if len(operands) > arity {
		operands, out = operands[:arity], operands[arity]
	}
	return f.list(operands, nil, where, func(args []*ast.Term, where criteria.Function) error {
		result := func(v *ast.Term, where criteria.Function) error {
			if out != nil {
				return f.unify(out, v, where, found)
			}
			is, err := f.truth(v)
			if err != nil {
				return err
			}
			return found(f.Space.All(where, is))
		}
		if rule := f.Permissions[name]; rule != nil && f.SymbolOf(args[0]) == f.Resource {
			is, err := f.ask(rule, args[1])
			if err != nil {
				return err
			}
			return result(ast.BooleanTerm(true), f.Space.All(where, is))
		}
		if len(rules) > 0 {
			outcomes, err := f.outcomes(ref, rules, args)
			if err != nil {
				return err
			}
			return f.each(outcomes, where, result)
		}
		return f.builtin(builtin, args, where, result)
	})
}

// ask is where a permission rule about the resource holds.
func (f *frame) ask(rule *explore.PermissionRule, params *ast.Term) (criteria.Function, error) {
	if why := f.misfit(rule); why {
		key := rule.Function.String() + f.TextOf(params)
		if len(f.FreeOf(params)) > 0 {
			return criteria.Denied, f.outside("%s is not about this permission's type of resource, and asks about a claim",
				rule.Name)
		}
		is, ok := f.foreign[key]
		if !ok {
			is = f.Space.Unknown()
			f.foreign[key] = is
		}
		return is, nil
	}
	a := &theory.Atom{Kind: theory.AsksRule, Rule: rule, Name: rule.Name, About: rule.ResourceType}
	return f.Leaf(a, params)
}

// misfit is whether nobody will answer a rule for this permission.
func (f *frame) misfit(rule *explore.PermissionRule) bool {
	want := f.ResourceType
	switch {
	case f.Basic, want != "" && rule.ResourceType != want:
		return true
	case f.asked == nil:
		f.asked = rule
	}
	return f.asked.ResourceType != rule.ResourceType || f.asked.PluginID != rule.PluginID
}

// builtin finds the values of a builtin.
func (f *frame) builtin(b *ast.Builtin, args []*ast.Term, where criteria.Function, found call.Found) error {
	functions := f.Functions
	functions.Walk = f.walk
	return functions.Apply(b, args, where, found)
}

// truth is where a value is defined and not false.
func (f *frame) truth(v *ast.Term) (criteria.Function, error) {
	if s := f.SymbolOf(v); s != nil && s.Kind == theory.KindResource {
		return theory.Known(!f.Basic), nil // it is an object, where there is one
	}
	return f.Truth(v)
}
