package explore

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stagedoor/stagedoor/adapter/criteria"
)

// A costly policy is one that is costly to explore naively, with the input that makes
// it so.
type costly struct {
	name, policy, input string
	evaluations, leaves int
}

func input(claims int) string {
	list := make([]string, claims)
	for i := range list {
		list[i] = fmt.Sprintf("group:default/team-%04d", i)
	}
	text, err := json.Marshal(list)
	if err != nil {
		panic(err)
	}
	return strings.Replace(annInput, `["user:default/ann", "group:default/web"]`, string(text), 1)
}

const header = "package authz\n\nimport data.backstage.catalog\n\n"

// helpers is a conjunction of n rules of two bodies each.
func helpers(n int) string {
	var b strings.Builder
	b.WriteString(header)
	for i := range n {
		fmt.Fprintf(&b, "h%d if catalog.has_label(input.resource, {\"label\": \"a%d\"})\n\n", i, i)
		fmt.Fprintf(&b, "h%d if catalog.has_annotation(input.resource, {\"annotation\": \"b%d\"})\n\n", i, i)
	}
	b.WriteString("allow if {\n")
	for i := range n {
		fmt.Fprintf(&b, "\th%d\n", i)
	}
	b.WriteString("}\n")
	return b.String()
}

// reasons is a set of n reasons to deny, which must be empty.
func reasons(n int) string {
	var b strings.Builder
	b.WriteString(header)
	for i := range n {
		fmt.Fprintf(&b, "deny contains \"d%d\" if catalog.has_label(input.resource, {\"label\": \"a%d\"})\n\n", i, i)
	}
	b.WriteString("allow if {\n\tcatalog.is_entity_kind(input.resource, {\"kinds\": [\"API\"]})\n\tcount(deny) == 0\n}\n")
	return b.String()
}

const (
	everyTeam = header + `
allow if {
	every g in input.identity.claims {
		not catalog.has_label(input.resource, {"label": "hidden", "value": g})
	}
}`
	twoTeams = header + `
allow if count([g |
	some g in input.identity.claims
	catalog.has_label(input.resource, {"label": "team", "value": g})
]) >= 2
`
	teams = header + `
allow if {
	some g in input.identity.claims
	catalog.has_label(input.resource, {"label": "team", "value": g})
}`
	teamsAndMore = header + `
frozen if catalog.has_label(input.resource, {"label": "frozen"})

allow if {
	input.permission.attributes.action == "delete"
	some g in input.identity.claims
	startswith(g, "group:")
	catalog.has_label(input.resource, {"label": "team", "value": g})
	not frozen
}

allow if {
	some g in input.identity.claims
	in_team(input.resource, g)
	catalog.is_entity_owner(input.resource, {"claims": input.identity.claims})
}

in_team(entity, g) if catalog.has_annotation(entity, {"annotation": "team", "value": g})
`
	typical = header + `
default allow := false

allow if {
	input.permission.attributes.action in {"update", "delete"}
	catalog.is_entity_owner(input.resource, {"claims": input.identity.claims})
	not catalog.has_label(input.resource, {"label": "frozen"})
}`
	typicalRoles = header + `
default allow := false

is_admin if "group:default/admins" in input.identity.claims

owned if catalog.is_entity_owner(input.resource, {"claims": input.identity.claims})

allow if is_admin

allow if {
	input.permission.attributes.action == "read"
	not catalog.has_label(input.resource, {"label": "secret"})
}

allow if {
	input.permission.attributes.action in {"update", "delete"}
	owned
	not frozen
}

frozen if catalog.has_label(input.resource, {"label": "frozen"})

frozen if catalog.has_annotation(input.resource, {"annotation": "acme.com/frozen", "value": "true"})
`
)

var shapes = []costly{
	{"typical", typical, annInput, 1, 2},
	{"typical roles", typicalRoles, annInput, 5, 3},
	{"12 helpers", helpers(12), annInput, 25, 24},
	{"50 claims", teams, input(50), 1, 50},
	{"500 claims", teams, input(500), 1, 500},
	{"5000 claims", teams, input(5000), 1, 5000},
	{"5000 claims, every", everyTeam, input(5000), 5002, 5000},
	{"20 claims, two of them", twoTeams, input(20), 3, 209},
	{"50 reasons to deny", reasons(50), annInput, 52, 51},
	{"500 claims and more", teamsAndMore, input(500), 505, 1002},
	{"5000 claims and more", teamsAndMore, input(5000), 5005, 10002},
}

func BenchmarkDecide(b *testing.B) {
	for _, s := range shapes {
		b.Run(s.name, func(b *testing.B) {
			p, err := compile(b, s.policy)
			if err != nil {
				b.Fatal(err)
			}
			q := newQuery(b, s.input, "{}")
			var r Result
			for b.Loop() {
				if r, err = p.Decide(b.Context(), q); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(r.Evaluations), "evaluations")
			b.ReportMetric(float64(leaves(r.Criteria)), "leaves")
		})
	}
}

func leaves(c criteria.Criteria) int {
	n := 0
	for range c.Rules() {
		n++
	}
	return n
}
