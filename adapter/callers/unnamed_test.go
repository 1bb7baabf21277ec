package callers_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"

	"github.com/stagedoor/stagedoor/adapter/alike/flow"
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

// dataUses are ways of using references of data, likewise.
var dataUses = []string{
	`r%d if data.oncall[0] in input.identity.claims`,
	`r%d if data.oncall[_] in input.identity.claims`,
	`r%d if sort(data.oncall)[0] in input.identity.claims`,
	`r%d if max(data.oncall) in input.identity.claims`,
	`r%d if { some c in array.slice(data.oncall, 0, 1); c in input.identity.claims }`,
	`r%d if { some c in array.reverse(data.oncall); c in input.identity.claims }`,
	`r%d if { [first, _] := data.oncall; first in input.identity.claims }`,
	`r%d if { [first, _] = data.oncall; first in input.identity.claims }`,
	`r%d if { some [first, _] in data.pairs; first in input.identity.claims }`,
	`r%d if { some pair in data.pairs; pair[0] in input.identity.claims }`,
	`r%d if { some i; data.oncall[i] in input.identity.claims; data.levels[i] == "x" }`,
	`r%d if { some i, c in data.oncall; c in input.identity.claims; i > 0 }`,
	`r%d if { i := count(input.permission.name) %% 2; data.oncall[i] in input.identity.claims }`,
	`r%d if { last := count(data.oncall) - 1; data.oncall[last] in input.identity.claims }`,
	`r%d if data.oncall[count(data.oncall) - 1] in input.identity.claims`,
	`r%d if { list := data.oncall; list[count(list) - 1] in input.identity.claims }`,
	`r%d if data.oncall[data.first] in input.identity.claims`,
	`r%d if { list := data.oncall; list[1] in input.identity.claims }`,
	`r%d if { list := data.oncall; some i; list[i] in input.identity.claims; data.levels[i] == "x" }`,
	`r%d if { walk(data.oncall, [[0], c]); c in input.identity.claims }`,
	`r%d if { walk(data.oncall, [_, c]); c in input.identity.claims }`,
	`r%d if { some i in numbers.range(0, 0); data.oncall[i] in input.identity.claims }`,
	`r%d if array.concat(data.oncall, [])[0] in input.identity.claims`,
	"r%[1]d if { some c in data.oncall; not later%[1]d[c]; c in input.identity.claims }\nlater%[1]d contains c if { some i, c in data.oncall; i > 0 }",
	`r%d if json.marshal(data.oncall) == concat("", ["[\"", input.identity.claims[0], "\",\"group:default/b\"]"])`,
	`r%d if data.typed[input.identity.claims[_]] == true`,
	`r%d if data.typed[input.identity.claims[_]] == "true"`,
	`r%d if data.deep[input.identity.claims[_]].level == 1`,
	`r%d if "x" in data.tags[input.identity.claims[_]]`,
	`r%d if { some c in data["a.b"]; c in input.identity.claims }`,
	`r%d if { some c in data.a.b; c in input.identity.claims }`,
	`r%d if { some team in data.teams; $"group:default/{team}" in input.identity.claims }`,
	`r%d if { some team in data.teams; sprintf("group:default/%%s", [team]) in input.identity.claims }`,
	`r%d if { some team in data.teams; concat("/", ["group:default", team]) in input.identity.claims }`,
	`r%d if { some c in input.identity.claims; regex.globs_match(c, "group:default/a.*") }`,
	`r%d if regex.globs_match(input.identity.user, "user:default/a.*")`,
	`r%d if { user := input.identity.user; count(user) > 15 }`,
	`r%d if { some c in input.identity.claims; json.match_schema({"c": c}, {"properties": {"c": {"maxLength": 15}}})[0] }`,
	`r%d if { some c in input.identity.claims; strings.count(c, "a") > 3 }`,
	`r%d if { some c in input.identity.claims; substring(c, 0, 5) == "group" }`,
	`r%d if { some rule in data.rules; rule.refs[0] in input.identity.claims }`,
	`r%d if { some rule in data.rules; rule.refs[_] in input.identity.claims; rule.role == "admin" }`,
	`r%d if object.union(data.typed, {})[input.identity.claims[_]] == true`,
	`r%d if { some c, v in data.typed; v == true; c in input.identity.claims }`,
	`r%d if { keys := [c | some c, _ in data.typed]; keys[0] in input.identity.claims }`,
	`r%d if min([c | some c in data.oncall]) in input.identity.claims`,
}

// TestNoOthersInData does the same of references in data.
func TestNoOthersInData(t *testing.T) {
	const data = `{"oncall": ["group:default/b", "group:default/a"], "first": 0, "levels": ["x", "y"], "pairs": [["group:default/b", "group:default/a"]],
		"typed": {"group:default/a": true, "group:default/b": "true"}, "deep": {"group:default/a": {"level": 1}, "group:default/b": {"level": "1"}},
		"tags": {"group:default/a": ["x", "y"], "group:default/b": ["x y"]}, "a.b": ["group:default/a"], "a": {"b": ["group:default/b"]},
		"teams": ["a", "x"], "rules": [{"refs": ["group:default/b", "group:default/a"], "role": "admin"}]}`
	everybody := append(everySet("group:default/a", "group:default/b", "group:default/x", "group:default/long-enough-to-be-noticed",
		"user:default/ann", "user:default/somebody-with-a-long-name"), decision.Caller{Anonymous: true})
	all := 0
	for i, first := range dataUses {
		for _, second := range append(dataUses[i:], uses[0], uses[1]) {
			policy := "answer := [r0, r1]\ndefault r0 := false\ndefault r1 := false\n" + fmt.Sprintf(first, 0) + "\n" + fmt.Sprintf(second, 1)
			if differ(t, policy, data, everybody) {
				all++
			}
		}
	}
	t.Logf("%d policies have no others", all)
	if all == 0 {
		t.Error("it is said of none")
	}
}

// userUses are ways of asking for users, by the user and by claims.
var userUses = []string{
	`r%d if input.identity.user == "user:default/ann"`,
	`r%d if "user:default/ann" == input.identity.user`,
	`r%d if input.identity.user in {"user:default/ann", "user:default/x"}`,
	`r%d if input.identity.user in data.users`,
	`r%d if data.byUser[input.identity.user]`,
	`r%d if { some u in data.users; u == input.identity.user }`,
	"r%[1]d if input.identity.user in us%[1]d\nus%[1]d := {\"user:default/ann\"}",
	"r%[1]d if us%[1]d[input.identity.user]\nus%[1]d := {\"user:default/ann\": true}",
	`r%d if { u := "user:default/ann"; input.identity.user == u }`,
	`r%d if "user:default/ann" in input.identity.claims`,
	`r%d if { some u in data.users; u in input.identity.claims }`,
	`r%d if data.byUser[input.identity.claims[_]]`,
	"r%[1]d if { some u in us%[1]d; u in input.identity.claims }\nus%[1]d := {\"user:default/ann\"}",
	"r%[1]d if f%[1]d(\"user:default/ann\")\nf%[1]d(u) if u in input.identity.claims",
	"r%[1]d if f%[1]d(\"user:default/ann\")\nf%[1]d(u) if u == input.identity.user",
	"r%[1]d if f%[1]d(\"user:default/ann\") == 1\nf%[1]d(u) := 0 if { u in input.identity.claims } else := 1 if { u == input.identity.user }",
	"r%[1]d if us%[1]d[input.identity.claims[_]]\nus%[1]d := {\"user:default/ann\": true}",
	`r%d if { u := "user:default/ann"; u in input.identity.claims }`,
	`r%d if "group:default/a" in input.identity.claims`,
}

// TestNoOthersOfUsers does the same of users: a caller's own need not be among the claims, and another's can.
func TestNoOthersOfUsers(t *testing.T) {
	everybody := append(everySet("group:default/a", "user:default/ann", "user:default/x"), decision.Caller{Anonymous: true})
	for _, data := range []string{`{}`, `{"users": ["user:default/ann"], "byUser": {"user:default/ann": true}}`, `{"users": ["User:default/Ann"], "byUser": {"user:default/ann": true}}`} {
		all := 0
		for i, first := range userUses {
			for _, second := range userUses[i:] {
				for _, when := range []string{"r0 == r1", "true"} {
					policy := "answer := [r0, r1] if " + when + "\ndefault r0 := false\ndefault r1 := false\n" + fmt.Sprintf(first, 0) + "\n" + fmt.Sprintf(second, 1)
					if differ(t, policy, data, everybody) {
						all++
					}
				}
			}
		}
		t.Logf("%s: of %d policies %d have no others", data, len(userUses)*(len(userUses)+1), all)
		if all == 0 {
			t.Error("it is said of none")
		}
	}
}

// TestNoOthers holds "there are no others" to stock OPA: where it is said, every answer that
// a caller gets is that of the example of a class.
func TestNoOthers(t *testing.T) {
	const data = `{"roles": {"group:default/a": true}, "levels": {"group:default/b": 1}, "names": ["group:default/a", "group:default/b"]}`
	everybody := everySet("group:default/a", "group:default/b", "group:default/x", "user:default/ann", "user:default/x")
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

// everySet are callers with every set of some claims, each as every user among them.
func everySet(claims ...string) (all []decision.Caller) {
	for _, user := range claims {
		if !strings.HasPrefix(user, "user:") {
			continue
		}
		for set := range 1 << len(claims) {
			c := decision.Caller{User: user, Claims: []string{}}
			for i, claim := range claims {
				if set&(1<<i) != 0 {
					c.Claims = append(c.Claims, claim)
				}
			}
			all = append(all, c)
		}
	}
	return all
}

// differ reports whether it is said that there are no others, and holds that.
func differ(t *testing.T, policy, data string, everybody []decision.Caller) bool {
	t.Helper()
	compiler := ast.NewCompiler()
	if compiler.Compile(map[string]*ast.Module{"policy.rego": module(t, "policy.rego", policy)}); compiler.Failed() {
		t.Fatalf("%s\n%v", policy, compiler.Errors)
	}
	apart := ""
	for _, reason := range flow.Through(compiler, ast.MustParseRef("data.p.answer")) {
		apart = reason.Construct
	}
	found := callers.Of(callers.Sources{
		Modules: map[string]*ast.Module{"policy.rego": module(t, "policy.rego", policy)}, Data: decoded(t, data), Apart: apart,
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
		if len(got) == 0 {
			return "undefined"
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
