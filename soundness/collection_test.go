package soundness

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

// outsideCollection are the policies of the collection for which there is no formula.
var outsideCollection = []string{"claims-object"}

// TestAnyoneCollection holds the formulas of a collection of policies, each of which uses the caller in a way of its own,
// to stock OPA. Which of them are outside is written down.
func TestAnyoneCollection(t *testing.T) {
	archive, err := txtar.ParseFile("testdata/anyone.txtar")
	if err != nil {
		t.Fatal(err)
	}
	run := anyoneRun{leaves: newLeafEvaluator(t), outside: map[string]int{}}
	var outside []string
	for i, file := range archive.Files {
		r := rand.New(rand.NewPCG(*seed, uint64(i)))
		g := &callerGrammar{r: r}
		p := policy{plugin: catalogPlugin}
		p.source = module("authz", []string{"import data.backstage.catalog", "import rego.v1"}, []string{string(file.Data)}) + `
package authz.lib

import rego.v1

is_admin if {
	some c in input.identity.claims
	c in data.admins
}
`
		tr := trial{policy: p}
		tr.world.data = collectionData
		for range 24 {
			tr.world.inputs = append(tr.world.inputs, g.input())
		}
		for range 3 {
			tr.world.resources = append(tr.world.resources, g.resource(worldGen{r: r, policy: p}))
		}
		left := run.left
		if err := run.check(t.Context(), tr); err != nil {
			t.Errorf("%s: %v", file.Name, err)
		}
		if run.left > left {
			outside = append(outside, file.Name)
		}
	}
	if run.policies != len(archive.Files) {
		t.Errorf("%d of %d policies are none", len(archive.Files)-run.policies, len(archive.Files))
	}
	t.Logf("%d policies, %d outside: %s; %d trials", run.policies, len(outside), strings.Join(outside, ", "), run.trials)
	for why, n := range run.outside {
		t.Logf("%d: %s", n, why)
	}
	if !slices.Equal(outside, outsideCollection) {
		t.Errorf("outside are %q, want %q", outside, outsideCollection)
	}
}

// collectionData is the data of the collection.
var collectionData = decodeObject(`{
	"admins": ["group:default/admins", "user:default/bob", "Group:default/Web"],
	"blocked": ["group:default/core", "user:default/svc-ci"],
	"ranks": {"group:default/admins": "admin", "group:default/web": "reader", "user:default/ann": "admin"},
	"grants": {"group:default/web": ["delete", "read"], "group:default/core": ["read"]},
	"roles": {"admin": {"members": ["group:default/admins"], "actions": ["read", "delete"]},
		"reader": {"members": ["group:default/web", "user:default/ann"], "actions": ["read"]}},
	"bindings": {"group:default/admins": ["admin"], "group:default/web": ["reader", "admin"]},
	"rules": [{"group": "group:default/web", "label": "team"}, {"group": "group:default/core", "label": "tier"}],
	"labels": {"team": ["group:default/web"], "tier": ["group:default/core", "user:default/ann"]},
	"labels_of": {"group:default/web": ["team", "tier"]},
	"team_of": {"group:default/web": "web", "group:default/core": "core"},
	"parents": {"group:default/web": ["group:default/core"], "group:default/core": ["group:default/admins"], "group:default/admins": []},
	"patterns": ["group:*/admins", "user:default/svc-*"],
	"scores": {"group:default/web": 2, "group:default/core": 3},
	"ordered": [{"group": "group:default/web", "level": 1}, {"group": "group:default/core", "level": 2}],
	"tree": {"admins": {"x": ["user:default/ann"]}, "others": ["user:default/bob"]}
}`)
