package callers_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"

	"github.com/stagedoor/stagedoor/adapter/callers"
	"github.com/stagedoor/stagedoor/adapter/decision"
)

// uses are ways of using claims, of which each is a rule, r0 or r1 for %d.
var uses = []string{
	`r%d if "group:default/a" in input.identity.claims`,
	`r%d if not "group:default/a" in input.identity.claims`,
	`r%d if { some c in input.identity.claims; c == "group:default/a" }`,
	`r%d if { some c in input.identity.claims; c != "group:default/a" }`,
	`r%d if input.identity.claims[_] != "group:default/a"`,
	`r%d if { some c in input.identity.claims; not c == "group:default/a" }`,
	`r%d if { some c in input.identity.claims; not c in {"group:default/a", "group:default/b"} }`,
	`r%d if { some c in input.identity.claims; not data.roles[c] }`,
	`r%d if data.roles[input.identity.claims[_]]`,
	`r%d if every c in input.identity.claims { c == "group:default/a" }`,
	`r%d if every c in input.identity.claims { data.roles[c] }`,
	`r%d if every g in ["group:default/a", "group:default/b"] { g in input.identity.claims }`,
	`r%d if input.identity.claims == ["group:default/a"]`,
	`r%d if input.identity.claims == []`,
	`r%d if { cs := input.identity.claims; cs == [] }`,
	`r%d if { cs = input.identity.claims; cs = [] }`,
	`r%d if { id := input.identity; id.claims == [] }`,
	`r%d if { id := input.identity; "group:default/a" in id.claims }`,
	`r%d if object.get(input.identity, "claims", []) == []`,
	`r%d if object.get(input, ["identity", "claims"], []) == []`,
	`r%d if input.identity.claims[_]`,
	`r%d if { some _ in input.identity.claims }`,
	`r%d if { some c in input.identity.claims; input.permission }`,
	`r%d if {c | some c in input.identity.claims} == {"group:default/a"}`,
	`r%d if {c | some c in input.identity.claims} - {"group:default/a"} == set()`,
	`r%d if "group:default/a" in {lower(c) | some c in input.identity.claims}`,
	`r%d if { cs := {c | some c in input.identity.claims}; cs & {"group:default/b"} == {"group:default/b"} }`,
	`r%d if { some c in input.identity.claims; object.get(data.levels, c, 0) == 0 }`,
	"r%[1]d if { some c in input.identity.claims; f%[1]d(c) == 0 }\nf%[1]d(c) := 1 if c == \"group:default/a\"\ndefault f%[1]d(_) := 0",
	"r%[1]d if { some c in input.identity.claims; f%[1]d(c) == 0 }\nf%[1]d(c) := 1 if { c == \"group:default/a\" } else := 0",
	"r%[1]d if f%[1]d(input.identity.claims[_])\nf%[1]d(c) if c != \"group:default/a\"",
	"r%[1]d if f%[1]d(input.identity.claims[_])\nf%[1]d(_) if input.permission",
	"r%[1]d if f%[1]d(input.identity.claims)\nf%[1]d(c) if c == []",
	"r%[1]d if f%[1]d(input.identity.claims)\nf%[1]d(cs) if \"group:default/a\" in cs",
	"r%[1]d if { every c in cs%[1]d { c == \"group:default/a\" } }\ncs%[1]d contains c if some c in input.identity.claims",
	"r%[1]d if \"group:default/a\" in cs%[1]d\ncs%[1]d contains c if some c in input.identity.claims",
	"r%[1]d if cs%[1]d == set()\ncs%[1]d contains c if some c in input.identity.claims",
	"r%[1]d if cs%[1]d == []\ncs%[1]d := input.identity.claims",
	"r%[1]d if { some k, v in cs%[1]d; not data.roles[v] }\ncs%[1]d[c] := c if some c in input.identity.claims",
	`r%d if input.identity.user in input.identity.claims`,
	`r%d if not input.identity.user in input.identity.claims`,
	`r%d if { some c in input.identity.claims; c == input.identity.user }`,
	`r%d if input.identity.user == "user:default/ann"`,
	`r%d if "user:default/ann" in input.identity.claims`,
	`r%d if { c = input.identity.claims[_]; c = "group:default/a" }`,
	`r%d if [c | some c in input.identity.claims; c != input.identity.user] == ["group:default/a"]`,
	`r%d if walk(input.identity.claims, [[_], "group:default/a"])`,
	`r%d if { walk(input.identity, [["claims", _], c]); c != "group:default/a" }`,
	`r%d if { some c in input.identity.claims; type_name(c) == "string" }`,
	`r%d if is_string(input.identity.claims[_])`,
	`r%d if array.concat(input.identity.claims, []) == []`,
	`r%d if input.identity.claims != []`,
	`r%d if input.identity == {"user": "user:default/ann", "claims": []}`,
	`r%d if { some c in array.slice(input.identity.claims, 0, 9); c != "group:default/a" }`,
	`r%d if { some g in data.names; not g in input.identity.claims }`,
	`r%d if { some i; input.identity.claims[i] == "group:default/a" }`,
}

// TestNoOthers holds "there are no others" to stock OPA: where it is said, every answer that
// a caller gets is that of the example of a class.
func TestNoOthers(t *testing.T) {
	const data = `{"roles": {"group:default/a": true}, "levels": {"group:default/b": 1}, "names": ["group:default/a", "group:default/b"]}`
	var everybody []decision.Caller
	claims := []string{"group:default/a", "group:default/b", "group:default/x", "user:default/ann", "user:default/x"}
	for _, user := range []string{"user:default/ann", "user:default/x"} {
		for set := range 1 << len(claims) {
			c := decision.Caller{User: user, Claims: []string{}}
			for i, claim := range claims {
				if set&(1<<i) != 0 {
					c.Claims = append(c.Claims, claim)
				}
			}
			everybody = append(everybody, c)
		}
	}
	all := 0
	for i, first := range uses {
		for _, second := range uses[i:] {
			policy := "answer := [r0, r1]\ndefault r0 := false\ndefault r1 := false\n" + fmt.Sprintf(first, 0) + "\n" + fmt.Sprintf(second, 1)
			if differ(t, policy, data, everybody) {
				all++
			}
		}
	}
	t.Logf("of %d policies %d have no others", len(uses)*(len(uses)+1)/2, all)
	if all == 0 {
		t.Error("it is said of none")
	}
}

// differ reports whether it is said that there are no others, and holds that.
func differ(t *testing.T, policy, data string, everybody []decision.Caller) bool {
	t.Helper()
	found := callers.Of(callers.Sources{
		Modules: map[string]*ast.Module{"policy.rego": module(t, "policy.rego", policy)}, Data: decoded(t, data),
	})
	if !found.All {
		return false
	}
	query, err := rego.New(rego.Query("data.p.answer"), rego.Module("policy.rego", "package p\n"+policy),
		rego.Data(decoded(t, data).(map[string]any))).PrepareForEval(t.Context())
	if err != nil {
		t.Fatalf("%s\n%v", policy, err)
	}
	answer := func(c decision.Caller) string {
		input := map[string]any{"permission": map[string]any{"name": "a"}}
		if !c.Anonymous {
			input["identity"] = map[string]any{"user": c.User, "claims": c.Claims}
		}
		got, err := query.Eval(t.Context(), rego.EvalInput(input))
		if err != nil {
			t.Fatalf("%s\n%v", policy, err)
		}
		return fmt.Sprint(got[0].Expressions[0].Value)
	}
	var names []string
	seen := make(map[string]bool)
	for _, class := range found.List {
		seen[answer(class.Example)] = true
		names = append(names, class.Name)
	}
	for _, c := range everybody {
		if !seen[answer(c)] {
			t.Errorf("no class has the answer %s of %v:\n%s\n%s", answer(c), c, policy, strings.Join(names, "; "))
			break
		}
	}
	return true
}
