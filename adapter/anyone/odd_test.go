package anyone_test

import (
	"context"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"

	"github.com/stagedoor/stagedoor/adapter/anyone"
	"github.com/stagedoor/stagedoor/adapter/criteria"
	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// TestOddFormsAsStockOPA holds formulas of odd ways of writing to what stock OPA says of
// five callers. What is outside says so.
func TestOddFormsAsStockOPA(t *testing.T) {
	callers := []decision.Caller{
		{User: "user:default/ann", Claims: []string{"user:default/ann"}},
		{User: "user:default/bob", Claims: []string{"user:default/bob", "group:default/web"}},
		{User: "user:default/Ann", Claims: []string{"user:default/Ann"}},
		{User: "user:default/eve"},
		{User: "user:default/web", Claims: []string{"group:default/web"}},
	}
	for name, src := range map[string]string{
		"withdata2":       "allow if data.a.b.c == \"user:default/ann\" with data.a.b as {\"c\": input.identity.user}",
		"withdata3":       "allow if data.a.b.z == 1 with data.a.b as {input.identity.user: 1}",
		"withdata4":       "allow if data.a.b[input.identity.user] == 1 with data.a.b as {\"user:default/ann\": 1}",
		"withdata5":       "allow if data.a[\"b\"][\"0\"] == \"user:default/bob\" with data.a.b as input.identity.claims",
		"withdata6":       "has if { some x in data.a.b; x == \"group:default/web\" }\nallow if has with data.a.b as input.identity.claims",
		"withdata7":       "allow if data.a.b.c.d == 1 with data.a.b as {\"c\": {k: 1 | some k in [\"d\"]; \"group:default/web\" in input.identity.claims}}",
		"withdata8":       "allow if data.a.b.c with data.a.b as {k | some k in [\"c\"]; \"group:default/web\" in input.identity.claims}",
		"with2":           "allow if data.a.b == 2 with data.a as {\"x\": 1} with data.a.b as 2",
		"with3":           "allow if data.a.x == 1 with data.a.b as 2 with data.a as {\"x\": 1}",
		"withpkg":         "x := 1\ny := 2 if input.identity.user == \"user:default/ann\"\nallow if data.authz.y == 3 with data.authz.y as 3",
		"withpkg2":        "s contains \"a\" if input.identity.user == \"user:default/ann\"\nallow if \"a\" in s with data.authz.s as {\"a\"}",
		"withnull":        "allow if not input.identity with input as {}",
		"withnot":         "allow if not data.a.b.z with data.a.b as {}",
		"withundef":       "allow if not input.x with input.x as input.nothing",
		"withclaimsundef": "allow if input.x == 1 with input.x as data.a.b[input.identity.user]",
		"objdistinct":     "o := {k: v | some [k, v] in [[1, \"a\"], [1.0, \"b\"]]; \"group:default/web\" in input.identity.claims}\nallow if count(o) > 0\nallow if input.identity.user == \"user:default/ann\"",
		"eqnum":           "allow if {n | some n in [1, 1.0]; \"group:default/web\" in input.identity.claims} == {1}",
		"setminusnum":     "allow if count({1 | \"group:default/web\" in input.identity.claims} - {1.0}) == 0",
		"fnbodies":        "f(x) := 1 if startswith(x, \"user:\")\nf(x) := 1 if endswith(x, \"ann\")\nf(x) := 2 if endswith(x, \"web\")\nallow if f(input.identity.user) == 1",
		"fnelse":          "f(x) := \"a\" if x == \"user:default/ann\" else := \"b\" if endswith(x, \"bob\") else := \"c\"\nallow if f(input.identity.user) != \"c\"",
		"fndefault":       "default f(_) := false\nf(x) if x == \"user:default/ann\"\nallow if not f(input.identity.user)",
		"everykey":        "allow if every i, c in input.identity.claims { i >= 0; c != \"group:default/web\" }",
		"everyempty":      "allow if every c in input.identity.claims { c == 1 }",
		"somesplit":       "allow if { some c in input.identity.claims; some p in split(c, \"/\"); p == \"web\" }",
		"splitidx":        "allow if { some c in input.identity.claims; split(c, \"/\")[i] == \"web\"; i == 1 }",
		"nestedset":       "allow if {\"group:default/web\"} in {{c} | some c in input.identity.claims}",
		"objkey":          "o[c] := 1 if some c in input.identity.claims\nallow if o[\"group:default/web\"] == 1",
		"objof":           "o[c] contains 1 if some c in [\"a\", \"b\"]\nallow if { o.a[1]; input.identity.user == \"user:default/ann\" }",
		"pobj":            "r.a contains x if x := input.identity.user\nr.b := 2 if input.identity.user == \"user:default/bob\"\nallow if \"user:default/ann\" in r.a\nallow if r.b == 2",
		"pairset":         "s contains [c, input.identity.user] if some c in input.identity.claims\nallow if [\"group:default/web\", \"user:default/bob\"] in s",
		"reach":           "allow if \"root\" in graph.reachable({\"group:default/web\": [\"mid\"], \"mid\": [\"root\"], \"root\": []}, input.identity.claims)",
		"reachp":          "allow if [\"group:default/web\"] in graph.reachable_paths({\"group:default/web\": []}, input.identity.claims)",
		"reachp2":         "allow if count(graph.reachable_paths({\"x\": []}, input.identity.claims)) > 0",
		"reachm":          "allow if \"mid\" in graph.reachable({\"group:default/web\": [\"mid\"]}, input.identity.claims)",
		"jsonmarsh":       "allow if json.marshal(input.identity.claims) == \"[]\"",
		"sumtxt":          "allow if sum([count(c) | some c in input.identity.claims]) > 20",
		"concatl":         "allow if count(array.concat(input.identity.claims, [\"x\"])) == 2",
		"slice":           "allow if count(array.slice(input.identity.claims, 0, 1)) == 0",
		"union2":          "allow if count({c | some c in input.identity.claims} | {input.identity.user}) == 2",
		"uniq":            "allow if count({x | some c in input.identity.claims; x := split(c, \":\")[0]}) == 2",
		"numin":           "allow if 1 in input.identity.claims\nallow if not null in input.identity.claims",
		"cmp":             "allow if input.identity.user < \"user:default/b\"",
		"cmpclaims":       "allow if input.identity.claims < [\"user:default/b\"]",
		"cmpnull":         "allow if input.identity.claims > null",
		"negpart":         "bad contains c if { some c in input.identity.claims; not startswith(c, \"user:\") }\nallow if not bad[\"group:default/web\"]",
		"negpart2":        "bad contains c if { some c in input.identity.claims; not startswith(c, \"user:\") }\nallow if { not \"group:default/web\" in bad; count(input.identity.claims) > 0 }",
		"posuniv":         "allow if { some i; input.identity.claims[i] == \"group:default/web\"; input.identity.claims[i] != \"x\" }",
		"samei":           "allow if { some i; input.identity.claims[i]; not input.identity.claims[i] == \"user:default/bob\" }",
		"lowerself":       "allow if lower(input.identity.user) in input.identity.claims",
		"lower2":          "allow if { some c in input.identity.claims; lower(c) == lower(input.identity.user); c != input.identity.user }",
		"lastc":           "allow if input.identity.claims[count(input.identity.claims)-1] == \"group:default/web\"",
		"strrev":          "allow if strings.reverse(input.identity.user) == \"nna/tluafed:resu\"",
		"objun":           "allow if object.union({\"a\": 1}, {\"a\": input.identity.user}).a == \"user:default/ann\"",
		"arrin":           "allow if [input.identity.user] in [[\"user:default/ann\"]]",
		"anyc":            "allow if { x := [(c == \"group:default/web\") | some c in input.identity.claims]; true in x }",
		"allc":            "allow if { x := [(c == \"user:default/ann\") | some c in input.identity.claims]; not false in x }",
		"cntmixed":        "allow if count([(c == \"user:default/ann\") | some c in input.identity.claims]) == 1",
		"setbool":         "allow if count({(c == \"user:default/ann\") | some c in input.identity.claims}) == 2",
		"setbool2":        "allow if {(c == \"user:default/ann\") | some c in input.identity.claims} == {true}",
		"typename":        "allow if type_name([input.identity.user]) == \"array\"",
		"ternary":         "v := \"x\" if \"group:default/web\" in input.identity.claims\nallow if { not v }",
		"falseval":        "v := false if \"group:default/web\" in input.identity.claims\nallow if not v\n",
		"falseval2":       "default v := true\nv := false if \"group:default/web\" in input.identity.claims\nallow if v",
		"defobj":          "default v := {\"k\": [x | x := \"a\"]}\nv := {\"k\": []} if input.identity.user == \"user:default/bob\"\nallow if \"a\" in v.k",
		"defset2":         "default v := {\"a\", \"b\"}\nv := set() if input.identity.user == \"user:default/bob\"\nallow if \"a\" in v",
		"arrset":          "allow if {[c, count(c)] | some c in input.identity.claims} & {[\"group:default/web\", 17]} != set()",
		"template":        "allow if $\"{input.identity.user}!\" == \"user:default/ann!\"",
		"refhead":         "a.b.c if input.identity.user == \"user:default/ann\"\nallow if a.b.c\n",
		"wholepkg":        "a.b.c if input.identity.user == \"user:default/ann\"\nallow if data.authz.a == {\"b\": {\"c\": true}}",
		"wholeneg":        "a.b.c if input.identity.user == \"user:default/ann\"\nallow if data.authz.a.b == {}",
		"wholeneg2":       "a.b contains 1 if input.identity.user == \"user:default/ann\"\nallow if data.authz.a == {\"b\": set()}",
		"wholeneg3":       "a[k] := 1 if { some k in [\"x\"]; input.identity.user == \"user:default/ann\" }\nallow if data.authz.a == {}",
		"pset3":           "a[k] contains 1 if { some k in [\"x\", \"y\"]; input.identity.user == \"user:default/ann\" }\nallow if not a.x",
		"basemix":         "allow if count(data.a) == 1",
		"userlower":       "allow if { input.identity.user == lower(input.identity.user); input.identity.user == \"user:default/ann\" }",
		"usertrim":        "allow if { input.identity.user == lower(input.identity.user); input.identity.user == trim_space(input.identity.user) }",
		"objremove":       "allow if object.remove({\"user:default/ann\": \"admin\", \"x\": 1}, [input.identity.user])[\"user:default/ann\"] == \"admin\"",
		"objfilter":       "allow if object.filter({\"user:default/ann\": \"admin\"}, [input.identity.user])[\"user:default/ann\"] == \"admin\"",
		"jsonfilter":      "allow if json.filter({\"user:default\": {\"ann\": 1}}, [input.identity.user])[\"user:default\"].ann == 1",
		"jsonremove":      "allow if json.remove({\"a\": {\"ann\": 1}}, [concat(\"/\", [\"a\", split(input.identity.user, \"/\")[1]])]).a.ann == 1",
		"nojson":          "allow if not json.filter({\"ann\": 1}, [split(input.identity.user, \"/\")[1]]).ann",
		"jsonpatch":       "allow if json.patch({\"user:default/ann\": false}, [{\"op\": \"add\", \"path\": [input.identity.user], \"value\": true}])[\"user:default/ann\"]",
		"patchvalue":      "allow if json.patch({\"a\": 1}, [{\"op\": \"add\", \"path\": \"a\", \"value\": input.identity.user}]).a == \"user:default/ann\"",
		"withdeep":        "allow if data.a.b[\"group:default/web\"] == 1 with data.a.b as {c: 1 | some c in input.identity.claims}",
		"withdeeper":      "allow if data.a.b.c[\"group:default/web\"] == 1 with data.a.b.c as {c: 1 | some c in input.identity.claims}",
		"withset":         "allow if data.a.b.c with data.a.b as {k | some k in [\"c\"]; \"group:default/web\" in input.identity.claims}",
		"withbelow":       "allow if data.a.b == 2 with data.a as {\"x\": 1} with data.a.b as 2",
		"withabove":       "allow if data.a.b == 2 with data.a.b as 2 with data.a as {\"x\": 1}",
		"withtwice":       "allow if data.a.b == 3 with data.a.b as 2 with data.a.b as 3",
		"defcomp":         "default who := {c | some c in [\"group:default/web\"]}\nwho := {\"x\"} if input.identity.user == \"user:default/bob\"\nallow if \"group:default/web\" in who",
		"defcompobj":      "default v := {\"k\": [x | x := \"a\"]}\nv := {\"k\": []} if input.identity.user == \"user:default/bob\"\nallow if \"a\" in v.k",
		"setnum":          "allow if count({n | some n in [1, 1.0]; \"group:default/web\" in input.identity.claims}) == 1",
		"partnum":         "s contains 1 if \"group:default/web\" in input.identity.claims\ns contains 1.0 if \"group:default/web\" in input.identity.claims\nallow if count(s) == 1",
		"maxempty":        "allow if { m := max(input.identity.claims); m == m }",
		"maxnot":          "allow if max(input.identity.claims) != \"user:default/none\"",
		"maxnone":         "allow if not max(input.identity.claims)",
		"numberkey":       "allow if data.n.m[1] == input.identity.user",
		"numberkey2":      "allow if { some k; data.n[k][1] == input.identity.user }",
		"numberkey3":      "allow if data.n.m[count(input.identity.claims)] == input.identity.user",
		"numberkey4":      "allow if { some i in [1, 2]; data.n.m[i] == input.identity.user }",
		"numberkey5":      "is if data.n.m[1] == input.identity.user\nallow if is with data.n.m as {1: \"user:default/bob\"}",
		"numbervalue":     "allow if { m := data.n.m; not m[1] }",
		"textkey":         "allow if data.n.l[0][\"0\"] in input.identity.claims",
		"listkey":         "allow if not data.n.m[[1]]",
		"setkey":          "allow if data.n.m[{1}]\nallow if \"group:default/web\" in input.identity.claims",
		"minnone":         "allow if not min(input.identity.claims)",
	} {
		t.Run(name, func(t *testing.T) {
			ctx := context.Background()
			text := "package authz\nimport rego.v1\n" + src
			m, perr := ast.ParseModuleWithOpts("p.rego", text, ast.ParserOptions{ProcessAnnotation: true})
			if perr != nil {
				t.Fatal(perr)
			}
			store := inmem.NewFromObject(map[string]any{"a": map[string]any{"b": map[string]any{"z": 1}}, "n": map[string]any{
				"m": map[string]any{"1": "user:default/ann"}, "l": []any{[]any{"group:default/web"}}}})
			p, err := anyone.Compile(anyone.Options{Modules: map[string]*ast.Module{"p.rego": m}, Entrypoint: "authz/allow", Store: store})
			if err != nil {
				t.Fatal(err)
			}
			perm := wire.Permission{Name: "catalog.entity.delete", Resource: true, ResourceType: "catalog-entity", Action: "delete"}
			a, err := p.May(ctx, perm)
			if err != nil {
				t.Logf("outside: %v", err)
				return
			}
			q, err := rego.New(rego.Query("data.authz.allow"), rego.Module("p.rego", text), rego.Store(store)).PrepareForEval(ctx)
			if err != nil {
				t.Fatal(err)
			}
			crit, _ := a.Criteria(anyone.SignedIn)
			for _, c := range callers {
				claims := []any{}
				for _, x := range c.Claims {
					claims = append(claims, x)
				}
				rs, err := q.Eval(ctx, rego.EvalInput(map[string]any{"permission": map[string]any{"name": perm.Name},
					"identity": map[string]any{"user": c.User, "claims": claims}, "resource": map[string]any{}}))
				is := err == nil && rs.Allowed()
				said, herr := a.Holds(c, func(criteria.Rule) (bool, error) { return false, nil })
				never := crit.Op == criteria.Never
				if said != is || never && is || crit.Op == criteria.Always && !is {
					t.Errorf("%v: formula says %v (criteria %s), stock OPA %v (%v), err %v", c, said, crit.AppendJSON(nil), is, err, herr)
				}
			}
		})
	}
}
