package anyone_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage/inmem"

	"github.com/stagedoor/stagedoor/adapter/anyone"
	"github.com/stagedoor/stagedoor/adapter/offline"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

var remove = wire.Permission{Name: "catalog.entity.delete", Action: "delete", Resource: true, ResourceType: "catalog-entity"}

func compile(t *testing.T, source, data string) *anyone.Policy {
	t.Helper()
	modules := offline.Library()
	m, err := ast.ParseModuleWithOpts("policy.rego", "package authz\n\nimport data.backstage.catalog\n\n"+source,
		ast.ParserOptions{ProcessAnnotation: true})
	if err != nil {
		t.Fatal(err)
	}
	modules["policy.rego"] = m
	p, err := anyone.Compile(anyone.Options{Modules: modules, Entrypoint: "authz/allow", Store: inmem.NewFromReader(strings.NewReader(data))})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestMay says what formula becomes of a policy.
func TestMay(t *testing.T) {
	const owner = `{"rule":"IS_ENTITY_OWNER","resourceType":"catalog-entity","params":{"claims":["$ownerRefs"]}}`
	claim := func(refs string) string {
		return `{"rule":"HAS_CLAIM","resourceType":"caller","params":{"claims":[` + refs + `]}}`
	}
	for name, test := range map[string]struct{ source, data, want string }{
		"a group":   {`allow if "group:default/a" in input.identity.claims`, `{}`, claim(`"group:default/a"`)},
		"ownership": {`allow if catalog.is_entity_owner(input.resource, {"claims": input.identity.claims})`, `{}`, owner},
		"a lookup enumerates": {`allow if {
	some c in input.identity.claims
	data.ranks[c] == "admin"
}`, `{"ranks": {"group:default/a": "admin", "group:default/b": "reader", "group:default/c": "admin"}}`, claim(`"group:default/a","group:default/c"`)},
		"by the user or the claims": {`allow if catalog.is_entity_owner(input.resource, {"claims": input.identity.claims})

allow if catalog.is_entity_owner(input.resource, {"claims": [input.identity.user]})`, `{}`,
			`{"rule":"IS_ENTITY_OWNER","resourceType":"catalog-entity","params":{"claims":["$currentUser","$ownerRefs"]}}`},
		"both of two": {`allow if every g in ["group:default/a", "group:default/b"] { g in input.identity.claims }`, `{}`,
			`{"allOf":[` + claim(`"group:default/a"`) + `,` + claim(`"group:default/b"`) + `]}`},
		"nobody is two users": {`allow if {
	input.identity.user == "user:default/a"
	input.identity.user == "user:default/b"
}`, `{}`, `{"anyOf":[]}`},
		"a part of a claim": {`allow if {
	some c in input.identity.claims
	split(c, "/")[1] == "a"
}`, `{}`, `{"rule":"IS","resourceType":"caller","params":{"rego":"some claim in $ownerRefs: defined split(claim, \"/\")[1]; split(claim, \"/\")[1] == \"a\""}}`},
		"a count of claims that are labels": {
			`allow if count({c | some c in input.identity.claims; catalog.has_label(input.resource, {"label": c})}) > 1`, `{}`,
			`{"rule":"IS","resourceType":"caller and resource","params":{"rego":"gt(count(set{claim in $ownerRefs: claim | ` +
				`{\"rule\":\"IS\",\"resourceType\":\"caller and resource\",\"params\":` +
				`{\"rego\":\"HAS_LABEL catalog-entity {\\\"label\\\": claim}\"}}}), 1)"}}`},
		"a count of some claims": {`allow if count({c | some c in input.identity.claims; startswith(c, "x")}) > 1`, `{}`,
			`{"rule":"IS","resourceType":"caller","params":{"rego":"gt(count(set{claim in $ownerRefs: claim | ` +
				`{\"rule\":\"IS\",\"resourceType\":\"caller\",\"params\":{\"rego\":\"startswith(claim, \\\"x\\\")\"}}}), 1)"}}`},
	} {
		t.Run(name, func(t *testing.T) {
			answer, err := compile(t, test.source, test.data).May(t.Context(), remove)
			if err != nil {
				t.Fatal(err)
			}
			c, err := answer.Criteria(anyone.SignedIn)
			if got := string(c.AppendJSON(nil)); err != nil || got != test.want {
				t.Errorf("got %s, %v\nwant %s", got, err, test.want)
			}
		})
	}
}

// TestOutside has what no formula is found for, hostile policies among it: each says where.
func TestOutside(t *testing.T) {
	for name, test := range map[string]struct{ source, want string }{
		"the place of a claim": {`allow if {
	some i, c in input.identity.claims
	i == 1
	c == "a"
}`, "policy.rego:7: i == 1: this looks at the place of a claim in the list"},
		"a builtin that may fail": {`allow if to_number(input.identity.user) > 3`, "to_number of something that depends on the caller"},
		"a pattern that is a claim": {`allow if {
	some c in input.identity.claims
	regex.match(c, "x")
}`, "operand 1 of regex.match depends on the caller"},
		"the whole identity": {`allow if contains(json.marshal(input.identity), "admin")`, ""},
		"data by a dynamic name": {`allow if {
	some c in input.identity.claims
	data[c].open
}`, "this goes over all that there is at data"},
		"a symbol as a key of an object": {`allow if {
	some c in input.identity.claims
	o := {c: 1, "a": 2}
	o.a == 2
}`, "a key of an object can have two values"},
		"another answer each time": {`allow if {
	rand.intn("x", 2) == 1
	"a" in input.identity.claims
}`, "rand.intn can answer differently each time"},
		"a rule that OPA leaves out": {`allow if {
	some c in input.identity.claims
	c in input.identity.claims
	c == "a"
}`, `policy.rego:8: c == "a": OPA's index of rules leaves this rule out`},
		"two values, or not": {`role := data.ranks[c] if some c in input.identity.claims

allow if role == "admin"

allow if input.identity.user == "user:default/a"`, "by the order of evaluation"},
	} {
		t.Run(name, func(t *testing.T) {
			data := `{"ranks": {"x": "admin", "y": "reader"}, "open": {"open": true}}`
			_, err := compile(t, test.source, data).May(t.Context(), remove)
			if test.want == "" && err != nil {
				t.Errorf("outside: %v", err)
			}
			if test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

// TestSurvey has what is said of permissions, and which rules change nothing.
func TestSurvey(t *testing.T) {
	const policy = `package authz

import data.backstage.catalog

allow if input.permission.name == "a"

allow if {
	input.identity
	input.permission.name == "b"
}

allow if {
	input.permission.name == "c"
	"group:default/a" in input.identity.claims
}

allow if {
	input.permission.name == "c"
	"group:default/a" in input.identity.claims
	startswith(input.identity.user, "user:")
}

allow if {
	input.permission.name == "d"
	not settled
	to_number(input.identity.user) == 1
}

settled if input.permission.type == "basic"

allow if {
	input.permission.name == "e"
	to_number(input.identity.user) == 1
}

allow if {
	input.permission.name == "f"
	catalog.has_label(input.resource, {"label": "tier"})
}

allow if {
	input.permission.name == "never"
	input.identity.user == "user:default/a"
	input.identity.user == "user:default/b"
} else if input.permission.name == "g"
`
	m, err := ast.ParseModuleWithOpts("policy.rego", policy, ast.ParserOptions{ProcessAnnotation: true})
	if err != nil {
		t.Fatal(err)
	}
	modules := offline.Library()
	modules["policy.rego"] = m
	var permissions []wire.Permission
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
		p := wire.Permission{Name: name, Resource: name == "f"}
		if p.Resource {
			p.ResourceType = "catalog-entity"
		}
		permissions = append(permissions, p)
	}
	asked, err := anyone.NewSurveyor(anyone.Options{Modules: modules, Entrypoint: "authz/allow", Store: inmem.New()}, permissions)
	if err != nil {
		t.Fatal(err)
	}
	got, err := asked.Survey(t.Context())
	const outside = "policy.rego:33: to_number(input.identity.user): to_number of something that depends on the caller"
	want := &anyone.Survey{
		Anybody: []string{"a", "g"}, SignedIn: []string{"b"}, Nobody: []string{"d", "h"}, Some: []string{"c", "f"},
		Outside: []anyone.Outside{{Permissions: []string{"e"}, Why: outside}},
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v, (-want +got):\n%s", err, diff)
	}
	if late, err := asked.Survey(late(t)); err != nil || len(late.Outside) != 1 || late.Outside[0].Why != "time was up" {
		t.Errorf("where there is no time: %+v, %v", late, err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := asked.Survey(gone); !errors.Is(err, context.Canceled) {
		t.Errorf("where nobody waits any more: %v", err)
	}
	if _, err := asked.Idle(gone, m.Rules, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("where nobody waits any more: %v", err)
	}
	// Without the permission for which there is no formula, rules can be looked at.
	permissions = append(permissions[:4:4], permissions[5:]...)
	asked, err = anyone.NewSurveyor(anyone.Options{Modules: modules, Entrypoint: "authz/allow", Store: inmem.New()}, permissions)
	if err != nil {
		t.Fatal(err)
	}
	rules := m.Rules
	idle, err := asked.Idle(t.Context(), append(rules[:len(rules):len(rules)], rules[len(rules)-1].Else), nil)
	// Without settled there is no formula for d.
	if diff := cmp.Diff([]bool{false, false, false, true, true, false, true, false, true, false}, idle); err != nil || diff != "" {
		t.Errorf("%v, (-want +got):\n%s", err, diff)
	}
	idle, err = asked.Idle(t.Context(), rules[3:4], []wire.Permission{{Name: "e"}})
	if err != nil || idle[0] {
		t.Errorf("where one more permission has no formula: %v, %v", idle, err)
	}
	idle, err = asked.Idle(late(t), rules[3:4], nil)
	if err != nil || idle[0] {
		t.Errorf("where there is no time: %v, %v", idle, err)
	}
}

// late is a context whose time is over.
func late(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	t.Cleanup(cancel)
	return ctx
}
