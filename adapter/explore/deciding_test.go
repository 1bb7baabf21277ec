package explore

import (
	"fmt"
	"strings"
	"testing"
)

// The rules of the entrypoint that a decision comes from are told by title and line.
func TestDecidingRules(t *testing.T) {
	const policy = `package authz

import data.backstage.catalog

# METADATA
# scope: document
# title: who may do what
default allow := false

# METADATA
# title: owners delete
allow if {
	input.permission.attributes.action == "delete"
	catalog.is_entity_owner(input.resource, {"claims": input.identity.claims})
}

allow if {
	input.permission.attributes.action == "delete"
	"group:default/admins" in input.identity.claims
}

# METADATA
# title: nobody reads secrets
allow := false if {
	input.permission.attributes.action == "read"
	catalog.has_label(input.resource, {"label": "secret"})
	not catalog.has_label(input.resource, {"label": "secret"})
} else := true if {
	input.permission.attributes.action == "read"
} else := false if {
	input.permission.attributes.action == "update"
}
`
	for _, test := range []struct{ action, claims, want string }{
		{"delete", `"user:default/ann"`, "owners delete:12"},
		{"delete", `"group:default/admins"`, "who may do what:17"},
		{"read", `"user:default/ann"`, "nobody reads secrets:28"},
		{"update", `"user:default/ann"`, "nobody reads secrets:30"},
		{"create", `"user:default/ann"`, ""},
	} {
		input := fmt.Sprintf(`{"permission": {"name": "catalog.entity.x", "type": "resource", "attributes": {"action": %q},
			"resourceType": "catalog-entity"}, "identity": {"user": "user:default/ann", "claims": [%s]}}`, test.action, test.claims)
		r, err := mustCompile(t, policy).Decide(t.Context(), newQuery(t, input, "{}"))
		if err != nil {
			t.Fatal(err)
		}
		var told []string
		for _, rule := range r.Rules {
			told = append(told, fmt.Sprintf("%s:%d", rule.Title, rule.Line))
		}
		if got := strings.Join(told, ", "); got != test.want {
			t.Errorf("%s for %s: %s; want %s", test.action, test.claims, got, test.want)
		}
	}
}
