package vetted

import (
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/adapter/reading/ruleindex"
)

// Source is what makes a policy's answers differ from one evaluation to the
// next: a builtin, and where it is called.
type Source struct {
	Builtin  string `json:"builtin"`
	Location string `json:"location"`
}

// reachable returns the rules that the entrypoint may evaluate, itself
// included. Rules are those of a compiled policy.
func reachable(c *ast.Compiler, entrypoint ast.Ref) []*ast.Rule {
	seen := map[*ast.Rule]bool{}
	var order []*ast.Rule
	var visit func(*ast.Rule)
	visit = func(r *ast.Rule) {
		if seen[r] {
			return
		}
		seen[r] = true
		order = append(order, r)
		for dependency := range c.Graph.Dependencies(r) {
			if rule, ok := dependency.(*ast.Rule); ok { // they all are
				visit(rule)
			}
		}
	}
	for _, r := range c.GetRules(entrypoint) {
		// To OPA an else is a rule of its own, on which those depend that refer to the
		// rule, but not the rule itself.
		for ; r != nil; r = r.Else {
			visit(r)
		}
	}
	return order
}

// clocked are the builtins that compare with the present time within, which OPA does
// not mark as nondeterministic.
var clocked = []string{
	ast.JWTDecodeVerify.Name,
	ast.CryptoX509ParseAndVerifyCertificates.Name,
	ast.CryptoX509ParseAndVerifyCertificatesWithOptions.Name,
}

// nondeterminism lists the calls that forbid to remember an answer.
func nondeterminism(rules []*ast.Rule) []Source {
	var found []Source
	for _, rule := range rules {
		ast.WalkExprs(rule, func(e *ast.Expr) bool {
			for _, name := range functions(e) {
				builtin, known := ast.BuiltinMap[name]
				if known && (builtin.IsNondeterministic() || slices.Contains(clocked, name)) {
					found = append(found, Source{Builtin: name, Location: location(e.Location)})
				}
			}
			return false
		})
	}
	slices.SortFunc(found, func(a, b Source) int {
		return strings.Compare(a.Location+a.Builtin, b.Location+b.Builtin)
	})
	return slices.Compact(found)
}

// functions names what the expression calls, and what it has called instead of
// other functions by with.
func functions(e *ast.Expr) []string {
	var names []string
	if e.IsCall() {
		names = append(names, e.Operator().String())
	}
	for _, with := range e.With {
		if ref, ok := with.Value.Value.(ast.Ref); ok {
			names = append(names, ref.String())
		}
	}
	return names
}

// leftOut are the rules that can hold, but that OPA's index leaves out.
func leftOut(c *ast.Compiler, rules []*ast.Rule) []string {
	var found []string
	for _, rule := range rules {
		if ruleindex.LeftOut(c, rule) != nil {
			found = append(found, location(rule.Location))
		}
	}
	return found
}

func location(l *ast.Location) string {
	if l == nil {
		return ""
	}
	return fmt.Sprintf("%s:%d", l.File, l.Row)
}

// waiting are the builtins that wait for others.
var waiting = []string{ast.HTTPSend.Name, ast.NetLookupIPAddr.Name, ast.JSONSchemaVerify.Name, ast.JSONMatchSchema.Name}

// Waits reports whether an evaluation may wait for others, as for http.send, and
// leave its processor idle meanwhile.
func (s *State) Waits() bool {
	return slices.ContainsFunc(s.Nondeterministic, func(source Source) bool {
		return slices.Contains(waiting, source.Builtin)
	})
}
