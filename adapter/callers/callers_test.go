package callers_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/adapter/callers"
	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/inventory"
)

func TestOf(t *testing.T) {
	signedIn, anonymous := "anybody who is signed in", "a caller without credentials"
	apart := []string{signedIn, anonymous, "in group:default/a", "in group:default/b", "in group:default/a and group:default/b"}
	byPlace := "the policy asks for an element of a list by its place: policy.rego:"
	for name, test := range map[string]struct {
		policy, tests, data string
		apart               string
		people              map[string]inventory.Person
		known               []decision.Caller
		most                int
		want                []string
		why                 string
	}{
		"nothing of the caller": {policy: `allow if input.permission.name == "a"`, want: []string{"anybody, even without credentials"}},
		"alike in text, and not in type": {
			policy: `allow if data.admins[input.identity.claims[_]] == true`,
			data:   `{"admins": {"group:default/a": true, "group:default/b": "true"}}`, want: apart,
		},
		"alike in text, and not in the type of a member": {
			policy: `allow if data.teams[input.identity.claims[_]].level == 1`,
			data:   `{"teams": {"group:default/a": {"level": 1}, "group:default/b": {"level": "1"}}}`, want: apart,
		},
		"alike in text, and not in their lists": {
			policy: `allow if "x" in data.tags[input.identity.claims[_]]`,
			data:   `{"tags": {"group:default/a": ["x", "y"], "group:default/b": ["x y"]}}`, want: apart,
		},
		"below a name with a dot": {
			policy: `allow if data["a.b"][_] in input.identity.claims`,
			data:   `{"a.b": ["group:default/a"], "a": {"b": ["group:default/b"]}}`, want: apart,
		},
		"the first of a list": {
			policy: `allow if input.identity.user == data.oncall[0]`, data: `{"oncall": ["user:default/a", "user:default/b"]}`,
			want: []string{signedIn, anonymous, "user:default/a", "user:default/b"}, why: byPlace + "2",
		},
		"lists side by side": {
			policy: `allow if {
				some i
				data.names[i] == input.identity.user
				data.levels[i] == "admin"
			}`,
			data: `{"names": ["user:default/a", "user:default/b"], "levels": ["admin", "reader"]}`,
			want: []string{signedIn, anonymous, "user:default/a", "user:default/b"}, why: byPlace + "4",
		},
		"a slice": {
			policy: `allow if array.slice(data.oncall, 0, 1)[_] in input.identity.claims`,
			data:   `{"oncall": ["group:default/a", "group:default/b"]}`, want: apart, why: byPlace + "2",
		},
		"a pattern": {
			policy: `allow if {
				some [lead, _] in data.pairs
				lead in input.identity.claims
			}`,
			data: `{"pairs": [["group:default/a", "group:default/b"]]}`, want: apart, why: byPlace + "3",
		},
		"a pattern of an assignment": {
			policy: `allow if {
				[lead, _] := data.pair
				lead in input.identity.claims
			}`,
			data: `{"pair": ["group:default/a", "group:default/b"]}`, want: apart, why: byPlace + "3",
		},
		"an index that was reckoned": {
			policy: `allow if {
				i := count(input.permission.name) % 2
				data.oncall[i] in input.identity.claims
			}`,
			data: `{"oncall": ["group:default/a", "group:default/b"]}`, want: apart, why: byPlace + "4",
		},
		"members of a list, by whatever index": {
			policy: `allow if data.oncall[_] in input.identity.claims
deny if {
	some role in ["a", "b"]
	data.roles[role][_] in input.identity.claims
}`,
			data: `{"oncall": ["group:default/a", "group:default/b"], "roles": {"a": ["group:default/a", "group:default/b"]}}`,
			want: []string{signedIn, anonymous, "in group:default/a (and 1 like it)"},
		},
		"what the data flow finds": {
			policy: `allow if regex.globs_match(input.identity.user, "user:bots/.*")`, apart: "regex.globs_match looks into it",
			want: []string{signedIn, anonymous},
			why:  "the policy asks more of callers than which of its texts their claims are: regex.globs_match looks into it",
		},
		"a group": {
			policy: `allow if "group:default/admins" in input.identity.claims`,
			want:   []string{signedIn, anonymous, "in group:default/admins"},
		},
		"two groups, together too": {
			policy: `allow if {
				some g in ["group:default/a", "group:default/b"]
				g in input.identity.claims
			}`,
			want: []string{signedIn, anonymous, "in group:default/a", "in group:default/b", "in group:default/a and group:default/b"},
		},
		"a user whose claims are not read": {
			policy: `allow if input.identity.user == "user:default/root"`,
			want:   []string{signedIn, anonymous, "user:default/root"},
		},
		"an actor": {
			policy: `allow if input.identity.actor == "plugin:search"`,
			want:   []string{signedIn, anonymous, "through plugin:search", "through plugin:another"},
		},
		"any actor": {
			policy: `allow if not input.identity.actor`,
			want:   []string{signedIn, anonymous, "through plugin:another"},
		},
		"an actor, or none": {
			policy: `allow if object.get(input.identity, "actor", "") == ""`,
			want:   []string{signedIn, anonymous, "through plugin:another"},
		},
		"folded by equal data": {
			policy: `allow if data.roles[input.identity.claims[_]] == "admin"`,
			data:   `{"roles": {"group:default/a": "admin", "group:default/b": "admin", "group:default/c": "reader"}}`,
			want: []string{signedIn, anonymous, "in group:default/a (and 1 like it)", "in group:default/c",
				"in group:default/a (and 1 like it) and group:default/c"},
		},
		"told apart by what stands beside them": {
			policy: `allow if {
				some grant in data.grants
				grant.to in input.identity.claims
				grant.role == "admin"
			}`,
			data: `{"grants": [{"to": "group:default/a", "role": "reader"}, {"to": "group:default/b", "role": "admin"}, {"to": "group:default/c", "role": "admin"}]}`,
			want: []string{signedIn, anonymous, "in group:default/a", "in group:default/b (and 1 like it)",
				"in group:default/a and group:default/b (and 1 like it)"},
		},
		"folded in a list beside something": {
			policy: `allow if {
				some role in data.roles
				some member in role.members
				member in input.identity.claims
			}`,
			data: `{"roles": [{"members": ["group:default/a", "group:default/b"], "name": "admin"}, {"members": ["group:default/c"], "name": "reader"}]}`,
			want: []string{signedIn, anonymous, "in group:default/a (and 1 like it)", "in group:default/c",
				"in group:default/a (and 1 like it) and group:default/c"},
		},
		"told apart in pairs": {
			policy: `allow if {
				some [group, role] in data.pairs
				group in input.identity.claims
				role == "admin"
			}`,
			data: `{"pairs": [["group:default/a", "reader"], ["group:default/b", "admin"]]}`,
			want: []string{signedIn, anonymous, "in group:default/a", "in group:default/b",
				"in group:default/a and group:default/b"},
		},
		"told apart by whose they are": {
			policy: `allow if {
				some team in data.teams
				team.level > 1
				input.identity.user in team.users
			}`,
			data: `{"teams": {"group:default/a": {"level": 1, "users": ["user:default/ann"]}, "group:default/b": {"level": 2, "users": ["user:default/bob"]}}}`,
			want: []string{signedIn, anonymous, "user:default/ann", "user:default/bob"},
		},
		"capitals in data are references too": {
			policy: `allow if lower(data.admins[_]) in input.identity.claims`,
			data:   `{"admins": ["Group:default/Admins"]}`,
			want: []string{signedIn, anonymous, "in Group:default/Admins", "in group:default/admins",
				"in Group:default/Admins and group:default/admins"},
		},
		"capitals that are not lowered": {
			policy: `allow if "group:default/Admins" in input.identity.claims`,
			want: []string{signedIn, anonymous, "in group:default/Admins", "in group:default/admins",
				"in group:default/Admins and group:default/admins"},
		},
		"claims in lower case alone": {
			policy: `allow if {
				some claim in input.identity.claims
				name := lower(claim)
				name in {"group:default/a"}
				input.identity.user
				listed(claim)
				data.lib.owned(input.resource, {"by": [input.identity.user]})
			}
			listed(ref) if lower(ref) in data.listed
			listed(_) if lower(input.identity.user) == data.user`,
			data: `{"listed": ["group:default/a"], "user": "group:default/a"}`,
			want: []string{signedIn, anonymous, "in group:default/a"},
			why:  "the policy asks for claims that it does not name: policy.rego:11",
		},
		"claims in lower case and as they are": {
			policy: `allow if {
				some claim in input.identity.claims
				lower(claim) == "group:default/a"
				not blocked
			}
			blocked if "group:default/a" in input.identity.claims`,
			want: []string{signedIn, anonymous, "in group:default/a"},
			why:  "the policy compares claims in lower case and as they are: lower at policy.rego:",
		},
		"looking into the text": {
			policy: `allow if startswith(input.identity.user, "user:default/svc-")`,
			want:   []string{signedIn, anonymous, "user:default/svc-", "user:default/svc-some"},
			why:    "the policy looks into the text of references: startswith at policy.rego:",
		},
		"the text of a permission is not the caller's": {
			policy: `allow if startswith(input.permission.name, "catalog.")`,
			want:   []string{"anybody, even without credentials"},
		},
		"callers of tests": {
			policy: `allow if startswith(input.identity.user, "user:default/svc-")`,
			tests:  `test_a if data.p.allow with input as {"identity": {"user": "user:default/svc-a", "claims": ["user:default/svc-a"]}}`,
			want:   []string{signedIn, anonymous, "user:default/svc-", "user:default/svc-some", "user:default/svc-a"},
			why:    "looks into the text",
		},
		"people are folded": {
			policy: `allow if "group:default/admins" in input.identity.claims`,
			people: map[string]inventory.Person{
				"user:default/ann": {Claims: []string{"user:default/ann", "group:default/admins"}},
				"user:default/bob": {Claims: []string{"user:default/bob"}},
				"user:default/cy":  {Claims: []string{"user:default/cy", "group:default/web"}},
			},
			want: []string{signedIn + " 2", anonymous, "in group:default/admins 1"},
		},
		"known callers": {
			policy: `allow if regex.match("^x", input.identity.user)`,
			known:  []decision.Caller{{User: "x", Claims: []string{"x", "y"}}},
			want:   []string{signedIn, anonymous, "x in y"},
			why:    "looks into the text",
		},
		"a list that is looked up by a claim": {
			policy: `allow if {
				some c in input.identity.claims
				data.teams[c].open
			}`,
			data: `{"teams": [{"open": true}]}`,
			want: []string{signedIn, anonymous},
			why:  "the policy looks up a list by a claim, which may be a number: policy.rego:4",
		},
		"a list that is looked up by the user, by another name": {
			policy: `import data.teams
			allow if teams[input.identity.user].open`,
			data: `{"teams": [{"open": true}]}`,
			want: []string{signedIn, anonymous},
			why:  "the policy looks up a list by a claim, which may be a number: policy.rego:3",
		},
		"a list that a function looks up": {
			policy: `open(who) if data.teams[who].open
			allow if open(input.identity.claims[_])`,
			data: `{"teams": [{"open": true}]}`,
			want: []string{signedIn, anonymous},
			why:  "the policy looks up a list by a claim, which may be a number: policy.rego:2",
		},
		"every claim": {
			policy: `allow if every c in input.identity.claims { c == "group:default/a" }`,
			want:   []string{signedIn, anonymous, "in group:default/a"},
			why:    "the policy asks for claims that it does not name: policy.rego:2",
		},
		"the user among the claims": {
			policy: `allow if input.identity.user in input.identity.claims`,
			want:   []string{signedIn, anonymous},
			why:    "the policy compares the user with claims: policy.rego:2",
		},
		"claims compared with each other": {
			policy: `allow if {
				some a in input.identity.claims
				some b in input.identity.claims
				a != b
			}`,
			want: []string{signedIn, anonymous},
			why:  "the policy asks for claims that it does not name: policy.rego:5",
		},
		"an imported identity": {
			policy: `import input.identity as who
			allow if every c in who.claims { c == "group:default/a" }`,
			want: []string{signedIn, anonymous, "in group:default/a"},
			why:  "the policy asks for claims that it does not name: policy.rego:3",
		},
		"an imported claim that is no reference": {
			policy: `import input.identity.claims
			allow if "admins" in claims`,
			want: []string{signedIn, anonymous},
			why:  `the policy compares claims with "admins", which is no reference: policy.rego:3`,
		},
		"an imported claim in lower case and as it is": {
			policy: `import input.identity as who
			allow if {
				some claim in who.claims
				lower(claim) == "group:default/a"
				not blocked
			}
			blocked if "group:default/a" in who.claims`,
			want: []string{signedIn, anonymous, "in group:default/a"},
			why:  "the policy compares claims in lower case and as they are: lower at policy.rego:",
		},
		"a list that is gone over": {
			policy: `allow if {
				some team
				data.teams[team].owner in input.identity.claims
				data.teams[team].open
			}`,
			data: `{"teams": [{"open": true, "owner": "group:default/a"}]}`,
			want: []string{signedIn, anonymous, "in group:default/a"},
		},
		"names that are no references": {
			policy: `allow if data.ranks[input.identity.claims[_]] == 1`,
			data:   `{"ranks": {"admins": 1}}`,
			want:   []string{signedIn, anonymous},
			why:    "the policy looks up claims among names that are no references: policy.rego:2",
		},
		"roles are no claims": {
			policy: `allow if {
				some role in data.bindings[input.identity.claims[_]]
				"read" in data.roles[role]
			}`,
			data: `{"bindings": {"group:default/a": ["reader"]}, "roles": {"reader": ["read"]}}`,
			want: []string{signedIn, anonymous, "in group:default/a"},
		},
		"a claim that is no reference": {
			policy: `allow if {
				some c in input.identity.claims
				lower(c) == "admins"
			}`,
			want: []string{signedIn, anonymous},
			why:  `the policy compares claims with "admins", which is no reference: policy.rego:4`,
		},
		"users who are no references": {
			policy: `allow if input.identity.user in {"root", "user:default/a"}`,
			want:   []string{signedIn, anonymous, "user:default/a"},
			why:    `the policy compares claims with "root", which is no reference: policy.rego:2`,
		},
		"more than can be asked about": {
			policy: `allow if data.admins[_] in input.identity.claims
deny if data.guests[_] in input.identity.claims
deny if data.staff[_] in input.identity.claims`,
			data: `{"admins": ["group:default/a"], "guests": ["group:default/g"], "staff": ["group:default/s"]}`,
			most: 6,
			want: []string{signedIn, anonymous, "in group:default/a", "in group:default/g", "in group:default/s",
				"in group:default/a and group:default/g and group:default/s"},
			why: "so many references that only 6 combinations",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := callers.Sources{
				Modules: map[string]*ast.Module{"policy.rego": module(t, "policy.rego", test.policy)},
				Known:   test.known, Most: test.most, Apart: test.apart, Inventory: &inventory.Inventory{People: test.people},
			}
			if test.tests != "" {
				s.Tests = map[string]*ast.Module{"policy_test.rego": module(t, "policy_test.rego", test.tests)}
			}
			if test.data != "" {
				s.Data = decoded(t, test.data)
			}
			got := callers.Of(s)
			var names []string
			for _, class := range got.List {
				name := class.Name
				if class.People > 0 {
					name += " " + string(rune('0'+class.People))
				}
				names = append(names, name)
			}
			if diff := cmp.Diff(test.want, names); diff != "" {
				t.Error(diff)
			}
			if got.All != (test.why == "") || !strings.Contains(got.Why, test.why) {
				t.Errorf("all: %v, why: %s", got.All, got.Why)
			}
		})
	}
}

func module(t *testing.T, name, text string) *ast.Module {
	t.Helper()
	module, err := ast.ParseModule(name, "package p\n"+text)
	if err != nil {
		t.Fatal(err)
	}
	return module
}

func decoded(t *testing.T, data string) (v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(data), &v); err != nil {
		t.Fatal(err)
	}
	return v
}
