package callers_test

import (
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/adapter/callers"
	"github.com/stagedoor/stagedoor/adapter/decision"
)

func TestFolder(t *testing.T) {
	person := func(user string, claims ...string) decision.Caller {
		return decision.Caller{User: "user:default/" + user, Claims: append([]string{"user:default/" + user}, claims...)}
	}
	ann, bob := person("ann", "group:default/web"), person("bob", "group:default/sales", "group:default/all")
	for name, test := range map[string]struct {
		policy string
		data   any
		a, b   decision.Caller
		alike  bool
		why    string
	}{
		"claims that are handed on": {
			policy: `allow if data.catalog.is_entity_owner(input.resource, {"claims": input.identity.claims})`, a: ann, b: bob, alike: true,
		},
		"a group of one": {policy: `allow if "group:default/web" in input.identity.claims`, a: ann, b: bob},
		"in another case": {
			policy: `allow if "group:default/web" in [lower(c) | some c in input.identity.claims]`,
			a:      person("ann", "Group:Default/Web"), b: person("bob", "Group:Default/Sales"),
		},
		"a group in the data": {
			policy: `allow if data.roles[input.identity.claims[_]]`, data: map[string]any{"roles": map[string]any{"group:default/web": "x"}},
			a: ann, b: bob,
		},
		"a user of one": {policy: `allow if input.identity.user == "user:default/ann"`, a: ann, b: bob},
		"no other claims": {
			policy: `allow if "group:default/x" in input.identity.claims`, a: ann, b: person("bob"),
		},
		"an actor that is not read": {
			policy: `allow if input.identity.user`, a: ann,
			b: decision.Caller{User: bob.User, Claims: bob.Claims, Actor: "plugin:search"}, alike: true,
		},
		"an actor that is read": {
			policy: `allow if input.identity.actor`, a: ann,
			b: decision.Caller{User: bob.User, Claims: bob.Claims, Actor: "plugin:search"},
		},
		"whether there is anything": {
			policy: `allow if count([c | some c in input.identity.claims; c != "x"]) > 0`, a: ann, b: bob, alike: true,
		},
		"how many there are": {
			policy: `allow if count(input.identity.claims) > 2`, a: ann, b: bob, why: "count at policy.rego:",
		},
		"looking into a text": {
			policy: `allow if startswith(input.identity.user, "user:default/a")`, a: ann, b: bob, why: "startswith at policy.rego:",
		},
		"by way of a variable": {
			policy: "allow if {\n\tsome c in input.identity.claims\n\t\"web\" in split(c, \"/\")\n}", a: ann, b: bob, why: "split at policy.rego:",
		},
		"made of parts": {
			policy: `allow if concat("", ["group:default/", data.team]) in input.identity.claims`, data: map[string]any{"team": "web"},
			a: ann, b: bob, why: "concat at policy.rego:",
		},
		"by its place": {
			policy: `allow if input.identity.claims[1] == "group:default/x"`, a: ann, b: bob, why: "an element is asked for by its place",
		},
		"by their order": {
			policy: `allow if input.identity.claims[_] < input.identity.user`, a: ann, b: bob, why: "lt at policy.rego:",
		},
		"the text of a permission": {
			policy: `allow if startswith(input.permission.name, "catalog.")`, a: ann, b: bob, alike: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := callers.NewFolder(callers.Folding{
				Modules: map[string]*ast.Module{"policy.rego": module(t, "policy.rego", test.policy)}, Data: test.data,
			})
			if !strings.Contains(f.Why(), test.why) || (f.Why() == "") != (test.why == "") {
				t.Errorf("why: %q", f.Why())
			}
			if got := f.Key(test.a) == f.Key(test.b); got != test.alike {
				t.Errorf("alike: %v", got)
			}
			key, again := f.Key(test.a), f.Key(test.a)
			if key != again || key == f.Key(decision.Caller{Anonymous: true}) {
				t.Error("keys")
			}
		})
	}
}
