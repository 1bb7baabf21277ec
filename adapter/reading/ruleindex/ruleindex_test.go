package ruleindex_test

import (
	"fmt"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"

	"github.com/stagedoor/stagedoor/adapter/reading/ruleindex"
)

// TestLeftOut holds what is said of OPA's index to OPA itself: the rule holds without the
// index. Where it is no longer left out, OPA is mended, and this can go.
func TestLeftOut(t *testing.T) {
	const data = `{"list": ["a", "b"], "by": {"k": "a"}}`
	for _, body := range []string{
		`some c in input.list; c in input.list; c == "a"`,
		`some c in input.list; c in data.list; c == "a"`,
		`some c in input.list; c in data.by; c == "a"`,
		`some c in input.list; c in data.list; "a" == c`,
		`some c in input.list; c in data.list; c = "a"`,
		`some c in input.list; c in data.list; d := c; d == "a"`,
		`some c in input.list; c in data.list; c in {"a", "z"}`,
		`some c in input.list; c in data.list; c in ["a", "z"]`,
		`some c in input.list; c in data.list; glob.match("a", [], c)`,
		`some c in ["a", "z"]; c in input.list; c == "a"`,
		`c := lower("A"); c in input.list; c == "a"`,
		`c := of_rule; c in input.list; c == "a"`,
		`list := input.list; some c in list; c in list; c == "a"`,
		`f(input.list, "a")`,
		// These are read right.
		`some c in input.list; c == "a"; c in data.list`,
		`some c in input.list; c in {"a"}; c in data.list`,
		`some c in input.list; c in data.list; startswith(c, "a")`,
		`some c in input.list; c in data.list; c != "z"`,
		`some c in input.list; c in data.list; not c == "z"`,
		`some c in input.list; c in list_of_rule; c == "a"`,
		`some c in input.list; c in [x | some x in data.list]; c == "a"`,
		`c := "a"; c in input.list; c == "a"`,
		`c := input.one; c in input.list; c == "a"`,
		`"a" in input.list; "b" in data.list`,
		`some c in input.list; c in data.list; some d in input.list; d == "a"`,
		`g(input.one, input.list)`,
	} {
		t.Run(body, func(t *testing.T) {
			module := fmt.Sprintf("package p\nof_rule := \"a\" if input.one\nlist_of_rule := input.list\n"+
				"f(l, x) if { some c in l; c in l; c == \"a\"; x }\ng(x, l) if { x in l; x == \"a\" }\nholds if { %s }", body)
			compiler := ast.MustCompileModules(map[string]string{"p.rego": module})
			said := false
			for _, rule := range compiler.Modules["p.rego"].Rules {
				if name := rule.Head.Name.String(); name != "holds" && name != body[:1] {
					continue
				}
				said = said || ruleindex.LeftOut(compiler, rule) != nil
			}
			holds := func(index bool) bool {
				prepared, err := rego.New(rego.Compiler(compiler), rego.Query("data.p.holds"), rego.Store(inmem.NewFromObject(parse(t, data)))).PrepareForEval(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				result, err := prepared.Eval(t.Context(), rego.EvalInput(parse(t, `{"list": ["a", "b"], "one": "a"}`)), rego.EvalRuleIndexing(index))
				if err != nil {
					t.Fatal(err)
				}
				return result.Allowed()
			}
			if !holds(false) {
				t.Fatal("it does not hold")
			}
			if left := !holds(true); left != said {
				t.Errorf("left out: %v, said: %v", left, said)
			}
		})
	}
}

func parse(t *testing.T, text string) map[string]any {
	t.Helper()
	value, err := ast.JSON(ast.MustParseTerm(text).Value)
	if err != nil {
		t.Fatal(err)
	}
	return value.(map[string]any)
}
