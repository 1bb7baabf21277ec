package migrate

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stagedoor/stagedoor/adapter/criteria"
	asking "github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/inventory"
	"github.com/stagedoor/stagedoor/adapter/offline"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// TestBundleMeansWhatThePluginMeans holds bundles/rbac, with the data of a migration, to
// the plugin's meaning in meaning.go, over installations drawn at random: the same
// answer for every caller and permission.
func TestBundleMeansWhatThePluginMeans(t *testing.T) {
	counts := map[string]int{}
	for seed := range uint64(60) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) { compare(t, drawn(seed), counts) })
	}
	for _, result := range []string{"ALLOW", "DENY", "CONDITIONAL"} {
		if counts[result] < 30 {
			t.Errorf("%d answers are %s: the installations say little", counts[result], result)
		}
	}
	t.Logf("asked: %v", counts)
}

// permissionsAsked are those that the drawn installations are about.
var permissionsAsked = []inventory.Permission{
	{Name: "a.read", Type: "resource", Attributes: inventory.Attributes{Action: "read"}, ResourceType: "a"},
	{Name: "a.look", Type: "resource", Attributes: inventory.Attributes{Action: "read"}, ResourceType: "a"},
	{Name: "a.use", Type: "resource", ResourceType: "a"},
	{Name: "b.update", Type: "resource", Attributes: inventory.Attributes{Action: "update"}, ResourceType: "b"},
	{Name: "make", Type: "basic", Attributes: inventory.Attributes{Action: "create"}},
	{Name: "proxy", Type: "basic"},
	{Name: "policy.entity.create", Type: "basic", Attributes: inventory.Attributes{Action: "create"}},
}

// drawn is an installation of a few roles, people and groups, so that its parts meet.
func drawn(seed uint64) *installation {
	r := rand.New(rand.NewPCG(seed, 17))
	one := func(of ...string) string { return of[r.IntN(len(of))] }
	in := &installation{stored: true}
	in.precedence = one("conditional", "basic")
	if r.IntN(3) == 0 {
		in.defaultRole = "role:default/everybody"
		in.defaults = []line{{subject: in.defaultRole, object: one("a.read", "a", "make"), action: one("read", "create"), effect: "allow"}}
	}
	if r.IntN(3) == 0 {
		depth := r.IntN(4)
		in.maxDepth = &depth
	}
	in.useOwnershipEntities = r.IntN(2) == 0
	if r.IntN(3) == 0 {
		in.superusers = []named{{name: one("user:default/ann", "group:default/g1")}}
	}
	roles := []string{"role:default/r", "role:default/s", "role:default/T"}
	for range 1 + r.IntN(5) {
		in.bindings = append(in.bindings, binding{member: one(drawnMembers...), role: one(roles...), written: "m"})
	}
	for range r.IntN(10) {
		l := line{subject: one(append(roles, drawnMembers...)...), effect: one("allow", "allow", "deny")}
		l.object, l.action = one("a.read", "a.look", "a", "a", "b", "make", "proxy", "policy-entity", "policy.entity.create"), one("read", "read", "create", "update", "use")
		in.lines = append(in.lines, l)
	}
	for range r.IntN(6) {
		p := policy{role: one(roles...), pluginID: one("p", "p", "p", "q"), resourceType: one("a", "a", "b"), result: "CONDITIONAL"}
		p.mapping = []mapped{{action: one("read", "update", "use")}}
		if r.IntN(3) == 0 {
			p.mapping[0].name = one("a.read", "a.look", "b.update")
		}
		p.condition = drawnCondition(r, p.resourceType, 2)
		in.policies = append(in.policies, p)
	}
	in.groups = map[string][]string{}
	for range r.IntN(4) {
		child := one("group:default/g1", "group:default/g2", "group:default/g3", "group:default/g4")
		in.groups[child] = append(in.groups[child], one("group:default/g1", "group:default/g2", "group:default/g3", "group:default/g4"))
	}
	return in
}

var drawnMembers = []string{"user:default/ann", "user:default/bob", "group:default/g1", "group:default/g2", "group:default/g3"}

func drawnCondition(r *rand.Rand, resourceType string, depth int) condition {
	if depth == 0 || r.IntN(2) == 0 {
		texts := []string{"x", currentUser, ownerRefs, "$me"}
		param := value{of: texts[r.IntN(2)]}
		if r.IntN(12) == 0 {
			param.of = texts[2+r.IntN(2)]
		}
		if r.IntN(2) == 0 {
			param.of = list{{of: "y"}, {of: texts[r.IntN(3)]}}
		}
		params := &object{names: []string{"p"}, members: map[string]value{"p": param}}
		return condition{rule: fmt.Sprintf("R%d", r.IntN(3)), resourceType: resourceType, params: value{of: params}}
	}
	some := make([]condition, 1+r.IntN(2))
	for i := range some {
		some[i] = drawnCondition(r, resourceType, depth-1)
	}
	switch r.IntN(3) {
	case 0:
		return condition{allOf: some}
	case 1:
		return condition{anyOf: some}
	}
	return condition{not: &some[0]}
}

// callersAsked are the callers, some of them of no source.
var callersAsked = []caller{
	{user: "user:default/ann", claims: []string{"user:default/ann", "group:default/g1"}},
	{user: "user:default/bob", claims: []string{"user:default/bob", "group:default/g2", "group:default/g4"}},
	{user: "user:default/cy", claims: []string{"user:default/cy"}},
	{user: "user:default/dee", claims: []string{"user:default/dee", "group:default/g3"}},
}

func compare(t *testing.T, in *installation, counts map[string]int) {
	t.Helper()
	m := &Migration{Known: &inventory.Inventory{Permissions: permissionsAsked}}
	m.judgement = judge(in, m.Known)
	files, err := m.Files(nil, false)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "bundle")
	if err := Write(dir, files); err != nil {
		t.Fatal(err)
	}
	p, err := offline.Open(t.Context(), dir, offline.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close(t.Context())
	for _, who := range callersAsked {
		for _, asked := range permissionsAsked {
			want := m.judgement.held.decide(who, asked)
			counts[want.result]++
			outcome, err := p.Decide(t.Context(), asking.Caller{User: who.user, Claims: who.claims}, wire.Permission{
				Name: asked.Name, Action: asked.Attributes.Action, Resource: asked.ResourceType != "", ResourceType: asked.ResourceType,
			})
			if err != nil || outcome.Err != nil {
				t.Fatalf("%s %s: %v, %v", who.user, asked.Name, err, outcome.Err)
			}
			got := decision{result: outcome.Decision.Result.String()}
			if diff := cmp.Diff(want.result, got.result); diff != "" {
				t.Errorf("%s %s: %s\n%s", who.user, asked.Name, diff, files["data.json"])
				continue
			}
			if want.result != "CONDITIONAL" {
				continue
			}
			condition, err := criteria.Parse(map[string]any{"anyOf": want.conditions})
			if err != nil {
				t.Fatal(err)
			}
			if !same(t, condition, outcome.Decision.Conditions) {
				t.Errorf("%s %s:\n%s\n%s", who.user, asked.Name, cmp.Diff(condition, outcome.Decision.Conditions), files["data.json"])
			}
		}
	}
}

// same reports whether two conditions are the same formula.
func same(t *testing.T, a, b criteria.Criteria) bool {
	t.Helper()
	space := criteria.NewSpace()
	var read [2]criteria.Function
	for i, c := range []criteria.Criteria{a, b} {
		var err error
		if read[i], err = space.Read(c, nil); err != nil {
			t.Fatal(err)
		}
	}
	equal, err := space.Equal(read[0], read[1])
	if err != nil {
		t.Fatal(err)
	}
	return equal
}
