package anyone_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"

	"github.com/stagedoor/stagedoor/adapter/anyone"
	"github.com/stagedoor/stagedoor/adapter/criteria"
	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// TestFormsAsStockOPA holds formulas of forms that people seldom write to what stock OPA
// says: numbers beyond 2^53, texts that differ by case, walk, patches, with, else and others.
// What is outside says so.
func TestFormsAsStockOPA(t *testing.T) {
	for name, src := range forms {
		t.Run(name, func(t *testing.T) {
			ctx := context.Background()
			text := "package authz\nimport rego.v1\n" + formsReplace.Replace(src)
			m, perr := ast.ParseModuleWithOpts("p.rego", text, ast.ParserOptions{ProcessAnnotation: true})
			if perr != nil {
				t.Fatal(perr)
			}
			var d map[string]any
			dec := json.NewDecoder(strings.NewReader(formsData))
			dec.UseNumber()
			if err := dec.Decode(&d); err != nil {
				t.Fatal(err)
			}
			store := inmem.NewFromObject(d)
			p, err := anyone.Compile(anyone.Options{Modules: map[string]*ast.Module{"p.rego": m}, Entrypoint: "authz/allow", Store: store})
			if err != nil {
				t.Fatal(err)
			}
			q, err := rego.New(rego.Query("data.authz.allow"), rego.Module("p.rego", text), rego.Store(store), rego.StrictBuiltinErrors(true)).PrepareForEval(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for _, perm := range formsPermissions {
				a, err := p.May(ctx, perm)
				if err != nil {
					t.Logf("outside %s: %v", perm.Name, err)
					continue
				}
				for _, c := range formsCallers {
					kind := anyone.SignedIn
					input := map[string]any{"permission": map[string]any{"name": perm.Name, "type": "basic", "attributes": map[string]any{}}}
					pm := input["permission"].(map[string]any)
					if perm.Resource {
						pm["type"], pm["resourceType"] = "resource", perm.ResourceType
						input["resource"] = map[string]any{}
					}
					if perm.Action != "" {
						pm["attributes"] = map[string]any{"action": perm.Action}
					}
					if !c.Anonymous {
						claims := []any{}
						for _, x := range c.Claims {
							claims = append(claims, x)
						}
						id := map[string]any{"user": c.User, "claims": claims}
						if c.Actor != "" {
							id["actor"] = c.Actor
							kind = anyone.Through
						}
						input["identity"] = id
					} else {
						kind = anyone.Anonymous
					}
					rs, err := q.Eval(ctx, rego.EvalInput(input))
					is := err == nil && rs.Allowed()
					said, herr := a.Holds(c, func(criteria.Rule) (bool, error) { return false, nil })
					crit, _ := a.Criteria(kind)
					never := crit.Op == criteria.Never
					if said != is || never && is || crit.Op == criteria.Always && !is {
						t.Errorf("%s %v: formula says %v (criteria %s), stock OPA %v (%v), err %v", perm.Name, c, said, crit.AppendJSON(nil), is, err, herr)
					}
				}
			}
		})
	}
}

const formsData = `{"a": {"b": {"z": 1}, "big": 9007199254740993, "list": ["group:default/web", "group:default/ops"], "roles": {"admin": {"members": ["user:default/ann"], "of": ["dev"]}, "dev": {"members": ["group:default/web"], "of": []}}, "byuser": {"user:default/ann": {"level": 9007199254740993}, "user:default/bob": {"level": 9007199254740992}}, "set": {"group:default/web": true, "group:default/ops": false, "group:default/x": null}, "parents": {"group:default/web": "group:default/all", "group:default/ops": "group:default/web"}, "num": {"1": "user:default/ann"}, "arr": [["group:default/web", ["read"]], ["group:default/ops", ["delete", "read"]]]}}`

var formsReplace = strings.NewReplacer("$C", "input.identity.claims", "$U", "input.identity.user", "$P", "input.permission", "$W", `"group:default/web"`)

var forms = map[string]string{
	"key1": `allow if data.a.num[count($C)] == $U`,
	"key2": `allow if { some k; data.a[k][1] == $U }`,
	"key3": `allow if not data.a.num[[1]]`,
	"key4": `allow if not data.a.num[true]`,
	"key5": `allow if { x := data.a.num; x[1] == $U }`,
	"key6": `allow if data.a.list["0"] in $C`,
	"key7": `allow if data.a.arr[0]["0"] in $C`,
	"key8": `allow if data.a.num[1.0] == $U`,
	"key9": `allow if data.a.num[{1}]
allow if $W in $C`,
	"key10": `allow if data.a.num[to_number("1")] == $U`,
	"key11": `allow if { some n in [1, 2]; data.a.num[n] == $U }`,
	"key12": `allow if { some n in [1, "1"]; $W in $C; data.a.num[n] }`,
	"key13": `allow if 1 in object.keys(data.a.num)
allow if object.get(data.a.num, 1, "x") == "x"`,
	"key14": `inner if data.a.num[1] == $U
allow if inner with data.a.num as {1: "user:default/bob"}`,
	"key15": `inner if data.a.num[1] == $U
allow if inner with data.a.b.x as 1`,
	"key16": `allow if data.a.byuser[[1]] == 1
allow if $W in $C`,
	"key17": `allow if data.a[$C[_]]`,
	"key18": `x[1] := $U
allow if data.authz.x["1"] == "user:default/ann"`,
	"key19": `x[1] := $U
allow if data.authz.x[1] == "user:default/ann"`,
	"key20": `allow if data.a.list[count([1 | $W in $C])] in $C`,
	"key21": `allow if data.a.num[count([1 | $W in $C])] in $C`,
	"inp1":  `allow if input == input`,
	"inp2":  `allow if { x := input; x.identity.user == "user:default/ann" }`,
	"inp3":  `allow if { some k; input[k].user == "user:default/ann" }`,
	"inp4": `f(x) := x.identity.user
allow if f(input) == "user:default/ann"`,
	"inp5":  `allow if [input][0].identity.claims[_] == $W`,
	"inp6":  `allow if object.get(input, ["identity", "claims"], []) == []`,
	"inp7":  `allow if input["identity"]["claims"][_] == $W`,
	"inp8":  `allow if { some i; input.identity[i] == "plugin:search" }`,
	"inp9":  `allow if json.filter(input, ["identity/user"]) == {"identity": {"user": "user:default/ann"}}`,
	"inp10": `allow if { walk(input, [["identity", "claims", 0], x]); x == $W }`,
	"big1":  `allow if data.a.byuser[$U].level > 9007199254740992`,
	"big2":  `allow if data.a.byuser[$U].level == 9007199254740993`,
	"big3":  `allow if data.a.byuser[$U].level == 9007199254740992`,
	"big4":  `allow if { x := data.a.byuser[$U].level; x != data.a.big }`,
	"big5": `lv[u] := data.a.byuser[u].level if some u, _ in data.a.byuser
allow if lv[$U] == data.a.big`,
	"big6":   `allow if count({l | some u in ["user:default/ann", "user:default/bob"]; u == $U; l := data.a.byuser[u].level} & {9007199254740993}) == 1`,
	"big7":   `allow if to_number($C[_]) == 9007199254740993`,
	"big8":   `allow if { some c in $C; to_number(c) == 9007199254740992 }`,
	"big9":   `allow if {9007199254740993: 1, 9007199254740992: 2}[data.a.byuser[$U].level] == 1`,
	"float1": `allow if {n | some n in [1, 1.0, 1e0]; $W in $C} == {1}`,
	"float2": `s contains x if { some x in [1, 1.0]; $W in $C }
allow if count(s) == 1`,
	"float3": `o[x] := 1 if { some x in [1, 1.0]; $W in $C }
allow if count(o) == 1`,
	"float4": `f(x) := 1 if x == 1.0
f(x) := 1 if x == 1
allow if { $W in $C; f(1) == 1.0 }`,
	"float5": `v := 1 if $W in $C
v := 1.0 if $U == "user:default/bob"
allow if v == 1`,
	"float6": `v := 100000000000000000000 if $W in $C
v := 1e20 if $U == "user:default/bob"
allow if v == 1e20`,
	"float7": `v := [1] if $W in $C
v := [1.0] if $U == "user:default/bob"
allow if v`,
	"uni1":   `allow if lower($U) == "user:default/k"`,
	"uni2":   `allow if "group:default/k" in {lower(c) | some c in $C}`,
	"uni3":   `allow if { some c in $C; upper(c) == "GROUP:DEFAULT/STRASSE" }`,
	"uni4":   `allow if { some c in $C; lower(c) == "group:default/i\u0307" }`,
	"uni5":   `allow if "group:default/\u00e9" in $C`,
	"uni6":   `allow if { some c in $C; lower(c) == "group:default/\u212a" }`,
	"uni7":   `allow if { some c in $C; upper(lower(c)) == "GROUP:DEFAULT/K" }`,
	"uni8":   `allow if { some c in $C; lower(upper(c)) == "group:default/\u0131" }`,
	"uni9":   `allow if lower($U) != $U`,
	"uni10":  `allow if upper($U) == "USER:DEFAULT/K"`,
	"uni11":  `allow if { some c in $C; upper(c) == "GROUP:DEFAULT/I" }`,
	"uni12":  `allow if { some c in $C; lower(c) != c }`,
	"uni13":  `allow if { some c in $C; startswith(lower(c), "GROUP") }`,
	"uni14":  `allow if { some c in $C; startswith(lower(c), "group:default/k"); not startswith(c, "group:default/k") }`,
	"uni15":  `allow if { some c in $C; count(c) == 15 }`,
	"uni16":  `allow if { some c in $C; substring(c, 14, -1) == "\u0130" }`,
	"uni17":  `allow if regex.match("(?i)^group:default/k$", $C[_])`,
	"uni18":  `allow if glob.match("group:*/?", ["/"], $C[_])`,
	"walk1":  `allow if { walk($C, [p, v]); v == $W }`,
	"walk2":  `allow if { walk(input.identity, [p, v]); v == $W }`,
	"walk3":  `allow if { walk(input, [_, "user:default/ann"]) }`,
	"walk4":  `allow if { walk({"a": {c: 1 | some c in $C}}, [p, 1]); p[1] == $W }`,
	"walk5":  `allow if { walk(data.a.roles, [p, v]); v == $U; p[1] == "members" }`,
	"walk6":  `allow if { walk(data.a.roles, [p, v]); v in $C; p[1] == "members" }`,
	"walk7":  `allow if count([v | walk($C, [_, v])]) == 2`,
	"walk8":  `allow if { walk([$U], [[0], v]); v == "user:default/ann" }`,
	"walk9":  `allow if { walk(data.a.roles[r].members, [[i], m]); m in $C; r == "dev" }`,
	"walk10": `allow if { some p; walk({"x": $U}, [p, "user:default/ann"]); p == ["x"] }`,
	"union1": `allow if object.union({"a": $U}, {"b": $C}).b[_] == $W`,
	"union2": `allow if object.union(data.a.set, {c: false | some c in $C})["group:default/web"] == false`,
	"union3": `allow if object.union({c: true | some c in $C}, data.a.set)["group:default/ops"]`,
	"union4": `allow if object.union_n([{$U: 1}, {"user:default/ann": 2}])["user:default/ann"] == 2`,
	"union5": `allow if object.union_n([{c: 1 | some c in $C}, {$U: 2}])[$W] == 1`,
	"union6": `allow if object.union({"a": {"x": 1}}, {"a": {k: 2 | some k in ["y"]; $W in $C}}).a == {"x": 1, "y": 2}`,
	"union7": `allow if object.union({"a": {"x": 1}}, {"a": {k: 2 | some k in ["x"]; $W in $C}}).a.x == 1`,
	"union8": `allow if object.union({"x": 1}, {k: 2 | some k in ["x"]; $W in $C}).x == 1`,
	"union9": `allow if object.union({"x": [1]}, {k: [2] | some k in ["x"]; $W in $C}).x[0] == 1`,
	"patch1": `allow if json.patch({"a": []}, [{"op": "add", "path": "/a/-", "value": $U}]).a[0] == "user:default/ann"`,
	"patch2": `allow if json.patch({"c": $C}, [{"op": "remove", "path": "/c/0"}]).c[0] == $W`,
	"patch3": `allow if json.patch(data.a.set, [{"op": "replace", "path": [c], "value": true} | some c in $C])["group:default/ops"]`,
	"patch4": `allow if json.patch({"m": {c | some c in $C}}, [{"op": "add", "path": "m/x", "value": "x"}]).m["x"]`,
	"patch5": `allow if json.patch({"a": 1}, [{"op": "test", "path": "/a", "value": 2} | $W in $C])`,
	"patch6": `allow if not json.patch({"a": 1}, [{"op": "remove", "path": "/b"} | $W in $C])`,
	"patch7": `allow if json.patch({"a": 1, "b": 2}, [{"op": "remove", "path": "/b"} | $W in $C]) == {"a": 1}`,
	"pfun1": `role[c] := r if { some r, o in data.a.roles; some c in o.members }
allow if role[$U] == "admin"
allow if { some c in $C; role[c] == "dev" }`,
	"pfun2": `is_dev[c] if { some c in data.a.roles.dev.members }
allow if is_dev[$C[_]]`,
	"pfun3": `grp contains c if { some c in $C; startswith(c, "group:") }
f(s) := {x | some x in s; x != "group:default/ops"}
allow if f(grp) == {$W}`,
	"pfun7": `m[c] := d if { some c, d in data.a.set }
allow if { some c in $C; m[c] }`,
	"pfun8": `m[c] := d if { some c, d in data.a.set }
allow if { some c in $C; not m[c] }`,
	"pfun9": `m[c] := d if { some c, d in data.a.set }
allow if { every c in $C { m[c] } }`,
	"pfun10": `m[c] := d if { some c in $C; d := data.a.set[c] }
allow if { m["group:default/ops"] == false; not m[$W] == false }`,
	"nest1":   `allow if {c | some c in $C; c in {d | some d in $C; startswith(d, "group:")}} == {$W}`,
	"nest2":   `allow if count({[a, b] | some a in $C; some b in $C; a != b}) > 0`,
	"nest3":   `allow if count({[a, b] | some a in $C; some b in $C; a < b}) == 1`,
	"nest4":   `allow if [x | some c in $C; x := [y | some d in $C; d != c; y := d]; count(x) == 0] != []`,
	"nest5":   `allow if {x | some c in $C; x := {y | some r, o in data.a.roles; c in o.members; y := r}} == {{"dev"}, set()}`,
	"nest6":   `allow if {"dev"} in {x | some c in $C; x := {y | some r, o in data.a.roles; c in o.members; y := r}}`,
	"nest7":   `allow if {r: ms | some r, o in data.a.roles; ms := {m | some m in o.members; m in $C}}.dev != set()`,
	"nest8":   `allow if {r: ms | some r, o in data.a.roles; ms := {m | some m in o.members; m in $C}; count(ms) > 0} == {"dev": {$W}}`,
	"nest9":   `allow if count([1 | some c in $C; some d in $C; c == d]) == 4`,
	"nest10":  `allow if { some c in $C; count({d | some d in $C; d != c}) == 1 }`,
	"nest11":  `allow if { some c in $C; x := {d | some d in $C; d != c}; x == {"user:default/bob"} }`,
	"nest12":  `allow if { some c in $C; every d in $C { d == c } }`,
	"nest13":  `allow if { some c in $C; every d in $C { d >= c } ; c == $W}`,
	"nest14":  `allow if not { 1 | some c in $C; not c in data.a.list } == {1}`,
	"nest15":  `allow if count($C) == count({c | some c in $C})`,
	"nest16":  `allow if [c | some c in $C] == $C`,
	"nest17":  `allow if [c | some c in $C; c == $W] == [$W]`,
	"nest18":  `allow if [c | some c in $C; c == $W] == [$W, $W]`,
	"nest19":  `allow if count([c | some c in $C; c == $W]) == 2`,
	"nest20":  `allow if {c: d | some c in $C; d := count([1 | some x in $C; x == c])}[$W] == 2`,
	"nest21":  `allow if sum([1 | some c in $C; c == $W]) == 1`,
	"nest22":  `allow if count([1 | some c in $C; c in data.a.list]) >= 2`,
	"nest23":  `allow if count({1 | some c in $C; c in data.a.list}) >= 1`,
	"nest24":  `allow if max([n | some c in $C; n := {"group:default/web": 2, "user:default/bob": 3}[c]]) == 2`,
	"every1":  `allow if every c in $C { c in data.a.list }`,
	"every2":  `allow if { every c in $C { c in data.a.list }; count($C) > 0 }`,
	"every5":  `allow if every i, c in $C { c != $W; i < 1 }`,
	"every6":  `allow if every c in $C { every d in $C { c == d } }`,
	"every8":  `allow if every c in input.nothing { c }`,
	"every9":  `allow if every c in $C { x := data.a.parents[c]; x }`,
	"every10": `allow if every x in {c | some c in $C; c != $U} { x == $W }`,
	"every11": `allow if every x in data.a.list { x in $C }`,
	"every12": `allow if every x in data.a.set { x }`,
	"else1": `lvl := "a" if $W in $C else := "b" if $U == "user:default/ann" else := "c"
allow if lvl == "b"`,
	"else2": `lvl := "a" if { $W in $C; $U == "user:default/bob" } else := "b" if $W in $C else := $U
allow if lvl == "b"
allow if lvl == "user:default/eve"`,
	"else3": `f(x) := false if x == $W else := true if startswith(x, "group:") else := false
allow if { some c in $C; f(c) }`,
	"else4": `f(x) := false if x == $W else := true
allow if { some c in $C; not f(c) }`,
	"else5": `allow := false if $W in $C else := true if $U == "user:default/bob" else if $U == "user:default/ann"`,
	"else6": `allow if { $W in $C; false } else := true if $W in $C else := false`,
	"else7": `default f(_) := "d"
f(x) := "e" if x == $W else := "g" if x == "user:default/bob"
allow if every c in $C { f(c) != "d" }`,
	"else8": `x if { not $W in $C } else := false if { $U == "user:default/bob" }
allow if not x`,
	"rec1": `closure := graph.reachable({g: [p] | some g, p in data.a.parents}, $C)
allow if "group:default/all" in closure`,
	"rec2": `allow if "group:default/all" in graph.reachable({g: [p] | some g, p in data.a.parents}, {$U} | {c | some c in $C})`,
	"rec3": `allow if data.a.parents[data.a.parents[$C[_]]] == "group:default/all"`,
	"rec4": `allow if { some c in $C; p := data.a.parents[c]; not data.a.parents[p] }`,
	"rec5": `allow if data.a.num["1"] == $U`,
	"rec6": `allow if data.a.num[1] == $U`,
	"rec7": `allow if data.a.num[format_int(count([1 | $W in $C]), 10)] == "user:default/ann"`,
	"deff1": `default ok(_, _) := false
ok(u, c) if { u == "user:default/bob"; c == $W }
allow if { some c in $C; ok($U, c) == false }`,
	"deff2": `default lv(_) := 0
lv(c) := 2 if c == $W
lv(c) := 1 if c == "group:default/ops"
allow if max({lv(c) | some c in $C}) == 2`,
	"deff3": `default lv(_) := 0
lv(c) := 2 if c == $W
allow if 0 in {lv(c) | some c in $C}`,
	"attr1":  `allow if $P.attributes.action == "delete"`,
	"attr2":  `allow if not $P.attributes.action == "delete"`,
	"attr3":  `allow if { not $P.resourceType; $W in $C }`,
	"attr4":  `allow if object.get($P, ["attributes", "action"], "none") == "none"`,
	"attr5":  `allow if $P.attributes == {}`,
	"attr6":  `allow if count($P) == 3`,
	"attr7":  `allow if $P.attributes.action in data.a.arr[_][1]`,
	"attr9":  `allow if input.identity == {"user": "user:default/eve", "claims": []}`,
	"attr10": `allow if not input.identity.actor`,
	"attr11": `allow if input.identity.actor == "plugin:catalog"`,
	"attr12": `allow if startswith(input.identity.actor, "plugin:")`,
	"attr13": `allow if count(input.identity) == 2`,
	"attr14": `allow if object.keys(input.identity) == {"user", "claims"}`,
	"attr15": `allow if not input.identity`,
	"attr16": `allow if object.get(input, ["identity", "user"], "") == ""`,
	"attr17": `allow if not $W in object.get(input, ["identity", "claims"], [])`,
	"attr19": `allow if not input.resource`,
	"attr21": `allow if not object.get(input.identity, "user", null)`,
	"with1": `inner if $W in $C
allow if inner with input.identity.claims as ["group:default/web"]`,
	"with2": `inner if $W in $C
allow if { not inner; inner with input.identity.claims as array.concat($C, ["group:default/web"]) }`,
	"with3": `inner if { some c in $C; c in data.a.list }
allow if inner with data.a.list as ["user:default/ann"]`,
	"with4": `inner if { some c in $C; c in data.a.list }
allow if inner with data.a.list as [$U]`,
	"with5": `inner := $U
allow if inner == "x" with input.identity.user as "x" with input.identity.claims as []`,
	"with6": `f(x) := x == $U
allow if f("user:default/ann") with f as true`,
	"with7": `f(x) := x == $U
g(_) := false
allow if not f("user:default/ann") with f as g`,
	"with8": `allow if lower($U) == "x" with lower as "x"`,
	"with9": `inner if $P.attributes.action == "delete"
allow if { $W in $C; inner with $P.attributes as {"action": "delete"} }`,
	"with10": `inner if data.authz.lvl == 3
lvl := 1
allow if { $W in $C; inner with data.authz.lvl as 3 }`,
	"with11": `inner if lvl == $U
lvl := 1
allow if inner with lvl as "user:default/ann"`,
	"with12": `inner if not input.identity
allow if inner with input as {"permission": $P}`,
	"with13": `inner if { some c in $C; c == $U }
allow if inner with input.identity.claims as [lower($U)]`,
	"with14": `inner if "group:default/web" in $C
allow if inner with input.identity.claims as [lower(c) | some c in $C]`,
	"with15": `inner contains x if { some x in $C }
allow if count(inner) == 1 with input.identity.claims as {$U, "user:default/ann"}`,
	"dat1":  `allow if count(data.a) == 9`,
	"dat2":  `allow if { some k; data.a[k][$U] }`,
	"dat3":  `allow if { some r; $U in data.a.roles[r].members }`,
	"dat4":  `allow if data.a.roles[_].members[_] == $C[_]`,
	"dat5":  `allow if { data.a.roles[r].members[i] == $C[j]; i == j }`,
	"dat6":  `allow if { data.a.roles[r].members[i] == $C[i] }`,
	"dat7":  `allow if data.a.set[$C[_]]`,
	"dat8":  `allow if data.a.set[$C[_]] == false`,
	"dat10": `allow if { some c in $C; not data.a.set[c] }`,
	"dat11": `allow if { x := data.a.set[$C[_]]; x == null }`,
	"dat12": `allow if is_null(data.a.set[$C[_]])`,
	"dat13": `allow if data.authz.x.y
x.y if $W in $C`,
	"dat14": `allow if { some k; data.authz.x[k] }
x.y if $W in $C
x.z if $U == "user:default/ann"`,
	"dat15": `allow if count(data.authz.x) == 1
x.y if $W in $C
x.z if $U == "user:default/ann"`,
	"dat16": `allow if data.authz.x[$U]
x["user:default/ann"] if $P.name
x["user:default/bob"] if not $W in $C`,
	"dat17": `allow if { some u; data.authz.x[u]; u == $U }
x["user:default/ann"] if $P.name
x["user:default/bob"] if not "group:default/ops" in $C`,
	"dat18": `x[$U] := 1
x["user:default/ann"] := 1
allow if x["user:default/ann"]`,
	"dat19": `x[$U] := 2
x["user:default/ann"] := 1
allow if x["user:default/ann"]`,
	"dat20": `x[$U] := 2
x["user:default/ann"] := 1
allow if x["user:default/bob"]`,
	"dat21": `x contains $U
x contains "user:default/ann"
allow if count(x) == 1`,
	"str1":   `allow if sprintf("%s", [$U]) == "user:default/ann"`,
	"str2":   `allow if sprintf("%v/%d", [$U, count($C)]) == "user:default/ann/1"`,
	"str3":   `allow if concat(",", $C) == "group:default/web"`,
	"str4":   `allow if concat(",", sort($C)) == "group:default/web,user:default/bob"`,
	"str5":   `allow if contains(concat(",", $C), "web")`,
	"str6":   `allow if trim_prefix($U, "user:default/") == "ann"`,
	"str7":   `allow if trim_prefix($U, "user:default/") == "true"`,
	"str8":   `allow if replace($U, "user", "group") in $C`,
	"str9":   `allow if { [k, n] := split($U, "/"); n == "ann"; k == "user:default" }`,
	"str10":  `allow if { some c in $C; [_, n] = split(c, "/"); concat("", ["user:default/", n]) == $U }`,
	"str11":  `allow if { some c in $C; regex.match("^group:default/(web|ops)$", c) }`,
	"str12":  `allow if indexof($U, "/") == 12`,
	"str13":  `allow if { some c in $C; json.unmarshal(c) == true }`,
	"str14":  `allow if json.is_valid($U)`,
	"str15":  `allow if yaml.unmarshal($U)`,
	"str16":  `allow if substring($U, 0, 4) == "user"`,
	"str17":  `allow if strings.any_prefix_match($C, ["group:default/w", "x"])`,
	"str18":  `allow if strings.any_suffix_match($U, {"/ann", "/eve"})`,
	"str19":  `allow if to_number($U) == 1`,
	"str20":  `allow if { some c in $C; to_number(c) > 0 }`,
	"str21":  `allow if not to_number($U)`,
	"str22":  `allow if base64.encode($U) == ""`,
	"str23":  `allow if $U == ""`,
	"str24":  `allow if not $U`,
	"str25":  `allow if $U in $C`,
	"str26":  `allow if not $U in $C`,
	"str27":  `allow if numbers.range(1, count($C))[_] == 2`,
	"str28":  `allow if crypto.sha256($U) == crypto.sha256("user:default/ann")`,
	"sets1":  `allow if {c | some c in $C} & {x | some x in data.a.list} == {x | some x in data.a.list}`,
	"sets2":  `allow if {c | some c in $C} - {x | some x in data.a.list} == set()`,
	"sets3":  `allow if union({{c | some c in $C}, {$U}}) == {$U}`,
	"sets4":  `allow if intersection({{c | some c in $C}, {x | some x in data.a.list}}) != set()`,
	"sets5":  `allow if {c | some c in $C} == {x | some x in data.a.list}`,
	"sets6":  `allow if object.subset({c | some c in $C}, {x | some x in data.a.list})`,
	"sets7":  `allow if object.subset($C, ["group:default/web", "group:default/ops"])`,
	"sets8":  `allow if object.subset($C, {"group:default/web"})`,
	"sets9":  `allow if $C == ["group:default/web"]`,
	"sets10": `allow if $C == []`,
	"sets11": `allow if $C != []`,
	"sets12": `allow if $C`,
	"sets13": `allow if $C[0] == $W`,
	"sets14": `allow if not $C[1]`,
	"sets15": `allow if [$U] == $C`,
	"sets16": `allow if {$U} == {c | some c in $C}`,
	"cmp1":   `allow if $U > "user:default/bob"`,
	"cmp2":   `allow if { some c in $C; c > $U }`,
	"cmp3":   `allow if not $C > []`,
	"cmp4":   `allow if {c | some c in $C} > {$W}`,
	"cmp5":   `allow if $U != input.identity.actor`,
	"cmp6":   `allow if count($U) > count($C[_])`,
	"cmp7":   `allow if min($C) == $W`,
	"cmp8":   `allow if sort($C)[0] == $W`,
	"conf1": `v := 1 if $W in $C
v := 2 if $U == "user:default/bob"
allow if v`,
	"conf2": `v := 1 if $W in $C
v := 2 if $U == "user:default/bob"
allow if not v`,
	"conf3": `allow if $W in $C
allow := false if $U == "user:default/bob"`,
	"conf4": `o[c] := i if some i, c in $C
allow if o[$W] == 0`,
	"conf5": `o[c] := 1 if some c in $C
o[c] := 2 if { some c in $C; c == $W }
allow if o["user:default/bob"] == 1`,
	"conf6": `o := {k: c | some c in $C; k := split(c, ":")[0]}
allow if o.user`,
	"conf7": `allow if { $U == "user:default/eve"; {k: c | k := "a"; some c in $C} }
allow if $W in $C`,
	"undef1": `allow if { x := $C[_]; y := data.a.nothing[x]; y } 
allow if not data.a.nothing[$U]`,
	"undef2": `allow if not not_there
not_there if data.a.nothing[$U]`,
	"undef3": `allow if [data.a.set[$U]] == [true]`,
	"undef4": `allow if { a := [x | x := data.a.set[$C[_]]]; a == [true] }`,
	"undef5": `allow if { not $W in $C; not input.identity.foo == "x" }`,
	"undef6": `allow if count([x | some c in $C; x := data.a.parents[c]]) == 2`,
	"unify1": `allow if [$U, $W] = [x, x]`,
	"unify2": `allow if { {"u": u, "c": c} = {"u": $U, "c": $C[_]}; u == c }`,
	"unify3": `allow if { [a, b] = $C; a == $W }`,
	"unify4": `allow if { [a, b] = [b, $U]; a == "user:default/ann" }`,
	"unify5": `allow if { {"user": u} = input.identity; u }`,
	"unify6": `allow if { {"user": u, "claims": [c]} = input.identity; u == c }`,
	"unify7": `f({"user": u, "claims": c}) := u in c
allow if f(input.identity)`,
	"unify8": `f([a]) := a
f([a, _]) := a
allow if f($C) == $W`,
	"unify9": `f(x, x) := true
allow if f($U, $C[_])`,
	"unify10": `f("user:default/ann") := 1
f(x) := 2 if x != "user:default/ann"
allow if f($U) == 2`,
	"time1":  `allow if { time.now_ns() > 0; $W in $C }`,
	"semver": `allow if semver.is_valid($U)`,
	"net":    `allow if net.cidr_contains("10.0.0.0/8", $U)`,
	"trace1": `allow if { print($U); $W in $C }`,
	"trace2": `allow if { trace(sprintf("%v", [$U])); $W in $C }`,
	"div0":   `allow if { 1 / count([1 | $W in $C]) == 1 }`,
	"div1":   `allow if not 1 / count([1 | $W in $C]) == 1`,
	"units": `allow if units.parse($U) == 1
allow if $W in $C`,
	"samep": `allow if { some c in $C; a := data.a.parents[c]; b := data.a.parents[c]; a == b }`,
	"lets":  `allow if { c := $C[_]; c != $U; c != $W }`,
	"lets2": `allow if { $C[i] == $W; $C[j] == $U; i != j }`,
	"lets3": `allow if { $C[i] == $W; i > 0 }`,
	"lets4": `allow if { some i, j; $C[i] == $C[j]; i != j }`,
}

var formsCallers = []decision.Caller{
	{Anonymous: true},
	{User: "user:default/ann", Claims: []string{"user:default/ann"}},
	{User: "user:default/bob", Claims: []string{"user:default/bob", "group:default/web"}},
	{User: "user:default/bob", Claims: []string{"group:default/web", "user:default/bob", "group:default/ops"}},
	{User: "user:default/Ann", Claims: []string{"user:default/Ann", "Group:Default/Web"}},
	{User: "user:default/eve"},
	{User: "user:default/web", Claims: []string{"group:default/web"}},
	{User: "user:default/x", Claims: []string{"group:default/web", "group:default/web"}},
	{User: "user:default/\u212a", Claims: []string{"group:default/\u212a", "group:default/STRASSE", "group:default/stra\u00dfe"}},
	{User: "user:default/k", Claims: []string{"group:default/k", "group:default/e\u0301"}},
	{User: "user:default/i", Claims: []string{"group:default/\u0130", "group:default/\u00e9"}},
	{User: "", Claims: []string{""}},
	{User: "user:default/ann", Claims: []string{"group:default/ops"}, Actor: "plugin:catalog"},
	{User: "user:default/bob", Claims: []string{"group:default/web"}, Actor: "plugin:search"},
	{User: "true", Claims: []string{"1", "true", "null", "9007199254740993"}},
}

var formsPermissions = []wire.Permission{
	{Name: "catalog.entity.delete", Resource: true, ResourceType: "catalog-entity", Action: "delete"},
	{Name: "catalog.entity.create", Action: "create"},
	{Name: "none"},
}
