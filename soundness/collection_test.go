package soundness

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

// outsideCollection are the policies of the collection for which there is no formula.
var outsideCollection = []string{"claims-object"}

// TestAnyoneCollection holds the formulas of a collection of policies, each of which uses the caller in a way of its own,
// to stock OPA. Which of them are outside is written down.
func TestAnyoneCollection(t *testing.T) {
	var outside []string
	run := anyoneRun{leaves: newLeafEvaluator(t), outside: map[string]int{}}
	for name, why := range run.collection(t, "testdata/anyone.txtar", 24, 3) {
		if why != "" {
			outside = append(outside, name)
		}
	}
	if !slices.Equal(outside, outsideCollection) {
		t.Errorf("outside are %q, want %q", outside, outsideCollection)
	}
}

// TestAnyoneConstructs does so with policies of rare constructs. Why one is outside stands in testdata/anyone-outside.txt.
func TestAnyoneConstructs(t *testing.T) {
	run := anyoneRun{leaves: newLeafEvaluator(t), outside: map[string]int{}}
	var said strings.Builder
	found := run.collection(t, "testdata/anyone-constructs.txtar", 48, 4)
	for _, name := range slices.Sorted(maps.Keys(found)) {
		if found[name] != "" {
			fmt.Fprintf(&said, "%s: %s\n", name, found[name])
		}
	}
	want, err := os.ReadFile("testdata/anyone-outside.txt")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), said.String()); diff != "" {
		t.Errorf("outside are others (-want +got):\n%s", diff)
	}
}

// collection checks the policies of a file, and returns by their names why one is outside.
func (run *anyoneRun) collection(t *testing.T, file string, inputs, resources int) map[string]string {
	t.Helper()
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	outside := map[string]string{}
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
		for range inputs {
			tr.world.inputs = append(tr.world.inputs, g.input())
		}
		for range resources {
			tr.world.resources = append(tr.world.resources, g.resource(worldGen{r: r, policy: p}))
		}
		policies := run.policies
		run.why = ""
		if err := run.check(t.Context(), tr); err != nil {
			t.Errorf("%s: %v", file.Name, err)
		}
		if run.policies == policies {
			t.Errorf("%s is no policy", file.Name)
		}
		outside[file.Name] = run.why
	}
	t.Logf("%d policies, %d outside; %d trials, %d of them allowed", run.policies, run.left, run.trials, run.allowed)
	return outside
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
	"known_user": ["user:default/bob", 1],
	"known_object": {"user": "user:default/bob", "rank": 1},
	"mixed": {"group:default/web": "x", "group:default/core": 1},
	"flags": {"user:default/ann": true, "user:default/bob": false},
	"tree": {"admins": {"x": ["user:default/ann"]}, "others": ["user:default/bob"]}
}`)
