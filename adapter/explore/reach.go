package explore

import (
	"cmp"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

// reach is what the evaluation of the entrypoint can enter: the rules of the
// policy, up to the permission rules, which are not evaluated here. What is
// collected holds for vetting and planning alike.
type reach struct {
	compiler    *ast.Compiler
	permissions map[string]*PermissionRule // by the path of their function
	reached     []*ast.Rule                // else branches included, each once
	entered     map[string][]*ast.Rule     // what rulesAt found
}

// newReach collects the rules that the entrypoint can enter.
func newReach(compiler *ast.Compiler, rules []*PermissionRule, entrypoint ast.Ref) *reach {
	r := &reach{
		compiler:    compiler,
		permissions: make(map[string]*PermissionRule, len(rules)),
		entered:     make(map[string][]*ast.Rule),
	}
	for _, rule := range rules {
		r.permissions[rule.Function.String()] = rule
	}
	r.collect(entrypoint)
	return r
}

// collect collects the rules that the evaluation of a reference can enter, in a
// stable order. It ends because each rule is looked at once.
func (r *reach) collect(entrypoint ast.Ref) {
	seen := make(map[*ast.Rule]bool)
	next := r.rulesAt(entrypoint)
	for len(next) > 0 {
		rule := next[0]
		next = next[1:]
		for ; rule != nil; rule = rule.Else {
			if seen[rule] {
				continue
			}
			seen[rule] = true
			r.reached = append(r.reached, rule)
			next = append(next, r.references(rule)...)
		}
	}
}

// references are the rules that a rule's own head and body refer to.
func (r *reach) references(rule *ast.Rule) []*ast.Rule {
	var rules []*ast.Rule
	visit := ast.NewGenericVisitor(func(x any) bool {
		switch x := x.(type) {
		case *ast.Rule:
			return x != rule // an else is reached on its own
		case ast.Ref:
			rules = append(rules, r.rulesAt(x)...)
		}
		return false
	})
	visit.Walk(rule)
	return rules
}

// rulesAt are the rules that a reference can enter, permission rules excepted:
// what those ask is not evaluated here.
func (r *reach) rulesAt(ref ast.Ref) []*ast.Rule {
	if !ref.HasPrefix(ast.DefaultRootRef) {
		return nil
	}
	key := ref.String()
	rules, ok := r.entered[key]
	if !ok {
		rules = r.compiler.GetRulesDynamicWithOpts(ref, ast.RulesOptions{IncludeHiddenModules: true})
		rules = slices.DeleteFunc(rules, func(rule *ast.Rule) bool { return r.permissions[path(rule)] != nil })
		slices.SortFunc(rules, func(a, b *ast.Rule) int { return cmp.Or(a.Location.Compare(b.Location), a.Compare(b)) })
		r.entered[key] = rules
	}
	return rules
}

// path is where a rule's document stands, the same for all that define it.
func path(r *ast.Rule) string { return r.Ref().GroundPrefix().String() }

// eachBodyRef visits the references, functions that are called included, in the
// bodies of a permission rule and of all that these enter.
func (r *reach) eachBodyRef(permission *PermissionRule, visit func(*ast.Rule, ast.Ref)) {
	seen := make(map[*ast.Rule]bool)
	next := r.compiler.GetRulesExact(permission.Function)
	for len(next) > 0 {
		rule := next[0]
		next = next[1:]
		if seen[rule] {
			continue
		}
		seen[rule] = true
		ast.WalkRefs(rule, func(ref ast.Ref) bool {
			visit(rule, ref)
			if ref.HasPrefix(ast.DefaultRootRef) {
				next = append(next, r.compiler.GetRulesDynamicWithOpts(ref, ast.RulesOptions{IncludeHiddenModules: true})...)
			}
			return false
		})
	}
}

// isComplete is whether a rule has one value, for no arguments and no keys.
func isComplete(rule *ast.Rule) bool {
	h := rule.Head
	return len(h.Args) == 0 && h.RuleKind() == ast.SingleValue && h.Reference.IsGround()
}
