package fold_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/fold"
	"github.com/stagedoor/stagedoor/adapter/offline"
)

func TestKey(t *testing.T) {
	person := func(user string, claims ...string) decision.Caller {
		return decision.Caller{User: "user:default/" + user, Claims: append([]string{"user:default/" + user}, claims...)}
	}
	ann, bob := person("ann", "group:default/web"), person("bob", "group:default/sales")
	eve := person("eve", "group:default/sales", "group:default/all")
	for name, test := range map[string]struct {
		policy string
		data   any
		a, b   decision.Caller
		alike  bool
		why    string
	}{
		"claims that are handed on": {
			policy: `allow if catalog.is_entity_owner(input.resource, {"claims": input.identity.claims})`, a: ann, b: bob, alike: true,
		},
		"more claims": {
			policy: `allow if catalog.is_entity_owner(input.resource, {"claims": input.identity.claims})`, a: ann, b: eve,
		},
		"a group of one":     {policy: `allow if "group:default/web" in input.identity.claims`, a: ann, b: bob},
		"a group of neither": {policy: `allow if "group:default/x" in input.identity.claims`, a: ann, b: bob, alike: true},
		"in another case": {
			policy: `allow if "group:default/web" in [lower(c) | some c in input.identity.claims]`,
			a:      person("ann", "Group:Default/Web"), b: person("bob", "Group:Default/Sales"),
		},
		"a user of one": {policy: `allow if input.identity.user == "user:default/ann"`, a: ann, b: bob},
		"an actor that is not read": {
			policy: `allow if input.identity.user`, a: ann,
			b: decision.Caller{User: bob.User, Claims: bob.Claims, Actor: "plugin:search"}, alike: true,
		},
		"an actor that is read": {
			policy: `allow if input.identity.actor`, a: ann,
			b: decision.Caller{User: bob.User, Claims: bob.Claims, Actor: "plugin:search"},
		},
		"how many there are": {policy: `allow if count(input.identity.claims) > 2`, a: bob, b: eve},
		"a text that is looked into, by a rule about the caller alone": {
			policy: "allow if is_a\nis_a if startswith(input.identity.user, \"user:default/a\")", a: ann, b: bob,
		},
		"the same for both": {
			policy: "allow if is_a\nis_a if startswith(input.identity.user, \"user:default/\")", a: ann, b: eve, alike: true,
		},
		"roles of groups": {
			policy: "allow if \"reader\" in roles\nroles contains data.d.roles[c] if some c in input.identity.claims",
			data:   map[string]any{"roles": map[string]any{"group:default/web": "reader", "group:default/sales": "reader", "group:default/all": "x"}},
			a:      ann, b: bob, alike: true,
		},
		"another role": {
			policy: "allow if roles[input.permission.name]\nroles contains data.d.roles[c] if some c in input.identity.claims",
			data:   map[string]any{"roles": map[string]any{"group:default/web": "reader", "group:default/sales": "writer"}},
			a:      ann, b: bob, alike: true, // neither role is a text of the rest
		},
		"a role that the rest knows": {
			policy: "allow if { some r in roles; data.d.grants[r] == input.permission.name }\nroles contains data.d.roles[c] if some c in input.identity.claims",
			data: map[string]any{"roles": map[string]any{"group:default/web": "reader", "group:default/sales": "writer"},
				"grants": map[string]any{"reader": "a", "writer": "b"}},
			a: ann, b: bob,
		},
		"the position of an element": {
			policy: "allow if { some c in input.identity.claims; data.d.listed[c] }", data: map[string]any{"listed": []string{"x", "y"}},
			a: decision.Caller{User: "user:default/ann", Claims: []string{"1"}}, b: decision.Caller{User: "user:default/bob", Claims: []string{"z"}},
		},
		"looked into where the permission matters": {
			policy: `allow if startswith(input.identity.user, input.permission.name)`, a: ann, b: bob, why: "startswith looks into what is of the caller at ",
		},
		"by way of a variable": {
			policy: "allow if {\n\tinput.permission.name\n\tsome c in input.identity.claims\n\t\"web\" in split(c, \"/\")\n}", a: ann, b: bob, why: "split looks into",
		},
		"by way of a function": {
			policy: "allow if f(input.identity.user, input.permission.name)\nf(u, n) if u > n", a: ann, b: bob, why: "gt looks into",
		},
		"by its place": {
			policy: `allow if input.identity.claims[1] == input.permission.name`, a: ann, b: bob, why: "an element is asked for by its place",
		},
		"by a place that is compared": {
			policy: "allow if {\n\tsome i, c in input.identity.claims\n\ti < 1\n\tc == input.permission.name\n}", a: ann, b: bob, why: "place of an element",
		},
		"by a place that is equal": {
			policy: "allow if {\n\tsome i\n\tinput.identity.claims[i] == input.permission.name\n\ti == 0\n}", a: ann, b: bob, why: "place of an element is compared",
		},
		"a list that is equal": {
			policy: `allow if { input.permission.name; input.identity.claims == ["group:default/web", "user:default/ann"] }`, a: ann, b: bob, why: "compared",
		},
		"the text of a permission": {
			policy: `allow if startswith(input.permission.name, "catalog.")`, a: ann, b: bob, alike: true,
		},
		"with": {policy: "allow if is_a with input.identity.user as input.permission.name\nis_a if input.identity.user == \"a\"", a: ann, b: bob, why: "with is not followed"},
		"pairs": {
			policy: "allow if pairs[[input.permission.name, \"x\"]]\npairs contains [input.identity.user, c] if some c in input.identity.claims", a: ann, b: bob,
		},
		"a list in a record": {
			policy: "allow if {\n\tsome item in aliases[\"$refs\"]\n\titem == input.permission.name\n}\naliases := {\"$refs\": input.identity.claims}",
			a:      ann, b: bob, alike: true,
		},
		"records in a list, which go together in another way": {
			policy: "allow if {\n\tsome held in all\n\theld.of == \"l\"\n\theld.as == \"k\"\n\tinput.permission.name\n}\n" +
				"all contains {\"of\": data.d.of[c], \"as\": data.d.as[c]} if some c in input.identity.claims",
			data: map[string]any{"of": map[string]any{"a": "l", "b": "y", "c": "l", "d": "y"}, "as": map[string]any{"a": "k", "b": "z", "c": "z", "d": "k"}},
			a:    decision.Caller{User: "x", Claims: []string{"a", "b"}}, b: decision.Caller{User: "x", Claims: []string{"c", "d"}},
		},
		"a set and a list": {
			policy: "allow if {\n\tis_set(held)\n\tinput.permission.name\n}\nheld := {\"x\"} if \"group:default/web\" in input.identity.claims\n" +
				"held := [\"x\"] if \"group:default/sales\" in input.identity.claims",
			a: ann, b: bob,
		},
		"a text that is made": {
			policy: "allow if {\n\tsome team in data.d.teams[input.permission.name]\n\tsprintf(\"group:default/%s\", [team]) in input.identity.claims\n}",
			data:   map[string]any{"teams": map[string]any{"a": []string{"web"}}}, a: ann, b: bob, why: "a text that the policy makes is compared",
		},
		"a text that is made by a template": {
			policy: "allow if {\n\tsome team in data.d.teams[input.permission.name]\n\t$\"group:default/{team}\" in input.identity.claims\n}",
			data:   map[string]any{"teams": map[string]any{"a": []string{"web"}}}, a: ann, b: bob, why: "a text that the policy makes is compared",
		},
		"a text that is made, as a key": {
			policy: `allow if { held := {c: 1 | some c in input.identity.claims}; held[concat("/", ["group:default", input.permission.name])] }`,
			a:      ann, b: bob, why: "a text that the policy makes is compared",
		},
		"a reference of the caller as a key of texts that are made": {
			policy: "allow if { some c in input.identity.claims; held[c] }\nheld[concat(\"/\", [\"group:default\", team])] := true if some team in data.d.teams[input.permission.name]",
			data:   map[string]any{"teams": map[string]any{"a": []string{"web"}}}, a: ann, b: bob, why: "a text that the policy makes is compared",
		},
		"a text that is made and got": {
			policy: `allow if object.get({c: 1 | some c in input.identity.claims}, trim_prefix(input.permission.name, "x"), 0) == 1`,
			a:      ann, b: bob, why: "a text that the policy makes is compared",
		},
		"texts that are made by a rule": {
			policy: "allow if { input.permission.name; count(teams & {c | some c in input.identity.claims}) > 0 }\n" +
				"teams contains replace(team, \".\", \"/\") if some team in data.d.teams[input.permission.name]",
			data: map[string]any{"teams": map[string]any{"a": []string{"group:default.web"}}}, a: ann, b: bob, why: "a text that the policy makes is compared",
		},
		"by way of a function that is given a text that is made": {
			policy: "allow if f(substring(input.permission.name, 0, 1))\nf(x) if x == input.identity.user", a: ann, b: bob, why: "a text that the policy makes is compared",
		},
		"texts that are made, and compared with what is not the caller's": {
			policy: "allow if { split(input.permission.name, \".\")[0] == \"catalog\"; input.identity.claims }", a: ann, b: bob, alike: true,
		},
		"a list of what is known": {
			policy: "allow if { some t in sort(array.concat(data.d.teams, [lower(\"X\")])); t in input.identity.claims; input.permission.name }",
			data:   map[string]any{"teams": []string{"group:default/it"}}, a: ann, b: bob, alike: true,
		},
		"all of the input":     {policy: "allow if input == {\"permission\": input.permission}", a: ann, b: bob, why: "all of input is read"},
		"a key that is true":   {policy: `allow if data.d[true] == input.identity.user`, data: map[string]any{}, a: ann, b: bob, alike: true},
		"a key that is a list": {policy: `allow if data.d[["a"]] == input.identity.user`, data: map[string]any{}, a: ann, b: bob, alike: true},
		"keys of which each has something": {
			policy: "allow if {\n\tsome c, level in held\n\tlevel == 3\n\tinput.permission.name == c\n}\nheld[c] := data.d.levels[c] if some c in input.identity.claims",
			data:   map[string]any{"levels": map[string]any{"group:default/web": 1, "group:default/sales": 3}},
			a:      ann, b: bob,
		},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := fold.New(t.Context(), nil, open(t, test.policy, test.data))
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(f.Why(), test.why) || (f.Why() == "") != (test.why == "") {
				t.Errorf("why: %q", f.Why())
			}
			key := func(c decision.Caller) string {
				of, err := f.Key(t.Context(), c)
				if err != nil {
					t.Fatal(err)
				}
				return of
			}
			if got := key(test.a) == key(test.b); got != test.alike {
				t.Errorf("alike: %v\n%s\n\n%s", got, key(test.a), key(test.b))
			}
			if again := key(test.a); key(test.a) != again || again == key(decision.Caller{Anonymous: true}) {
				t.Error("keys")
			}
		})
	}
}

// TestReadyPolicies folds by every ready policy.
func TestReadyPolicies(t *testing.T) {
	for _, name := range []string{"default", "ownership", "rbac", "regulated", "wrapper"} {
		t.Run(name, func(t *testing.T) {
			p, err := offline.Open(t.Context(), filepath.Join("..", "..", "bundles", name), offline.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = p.Close(t.Context()) }()
			f, err := fold.New(t.Context(), nil, p)
			if err != nil || f.Why() != "" {
				t.Errorf("%v, %s", err, f.Why())
			}
		})
	}
}

func open(t *testing.T, policy string, data any) *offline.Policy {
	t.Helper()
	text, err := json.Marshal(map[string]any{"d": data})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, text := range map[string]string{
		".manifest": `{"roots": ["p", "d"]}`, "data.json": string(text),
		"policy.rego": "package p\n\nimport data.backstage.catalog\n\n# METADATA\n# entrypoint: true\n" + policy + "\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p, err := offline.Open(t.Context(), dir, offline.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close(t.Context()) })
	return p
}
