package source

import (
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/adapter/findings"
	"github.com/stagedoor/stagedoor/adapter/spelling"
)

// checkTests looks for tests that nobody runs, and for tests that ask without input.
func (s *Source) checkTests() {
	for _, name := range slices.Sorted(maps.Keys(s.Tests)) {
		module := s.Tests[name]
		read := map[ast.Var]bool{}
		ast.WalkVars(module, func(v ast.Var) bool {
			read[v] = true
			return false
		})
		for _, rule := range module.Rules {
			test := rule.Head.Name.String()
			if strings.HasPrefix(test, "test_") || strings.HasPrefix(test, "todo_test_") {
				continue
			}
			if len(rule.Head.Args) == 0 && rule.Head.Key == nil && !read[rule.Head.Name] && withInput(rule) &&
				spelling.Near(strings.SplitN(test, "_", 2)[0], "test") {
				s.Add(findings.At(rule.Location), findings.Error, "input", "%s is no test, since its name does not begin with "+
					"test_, so that nobody runs it", test)
			}
		}
	}
}

func withInput(rule *ast.Rule) bool {
	found := false
	ast.WalkExprs(rule, func(e *ast.Expr) bool {
		for _, with := range e.With {
			ref, ok := with.Target.Value.(ast.Ref)
			found = found || ok && ref.HasPrefix(ast.InputRootRef)
		}
		return false
	})
	return found
}
