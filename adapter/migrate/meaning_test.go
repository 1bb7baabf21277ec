package migrate

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stagedoor/stagedoor/adapter/criteria"
	"github.com/stagedoor/stagedoor/adapter/migrate/enforcer"
	"github.com/stagedoor/stagedoor/adapter/migrate/installation"
	"github.com/stagedoor/stagedoor/adapter/migrate/written"

	asking "github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/inventory"
	"github.com/stagedoor/stagedoor/adapter/offline"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// TestBundleMeansWhatThePluginMeans holds bundles/rbac, with the data of a migration, to
// the plugin's answers by package enforcer, over installations drawn at random: the same
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
func drawn(seed uint64) *installation.Installation {
	r := rand.New(rand.NewPCG(seed, 17))
	one := func(of ...string) string { return of[r.IntN(len(of))] }
	in := &installation.Installation{Stored: true}
	in.Precedence = one("conditional", "basic")
	if r.IntN(3) == 0 {
		in.DefaultRole = "role:default/everybody"
		in.Defaults = []installation.Line{{Subject: in.DefaultRole, Object: one("a.read", "a", "make"), Action: one("read", "create"), Effect: "allow"}}
	}
	if r.IntN(3) == 0 {
		depth := r.IntN(4)
		in.MaxDepth = &depth
	}
	in.UseOwnershipEntities = r.IntN(2) == 0
	if r.IntN(3) == 0 {
		in.Superusers = []installation.Named{{Name: one("user:default/ann", "group:default/g1")}}
	}
	roles := []string{"role:default/r", "role:default/s", "role:default/T"}
	for range 1 + r.IntN(5) {
		in.Bindings = append(in.Bindings, installation.Binding{Member: one(drawnMembers...), Role: one(roles...), Written: "m"})
	}
	for range r.IntN(10) {
		l := installation.Line{Subject: one(append(roles, drawnMembers...)...), Effect: one("allow", "allow", "deny")}
		l.Object, l.Action = one("a.read", "a.look", "a", "a", "b", "make", "proxy", "policy-entity", "policy.entity.create"), one("read", "read", "create", "update", "use")
		in.Lines = append(in.Lines, l)
	}
	for range r.IntN(6) {
		p := installation.Policy{Role: one(roles...), PluginID: one("p", "p", "p", "q"), ResourceType: one("a", "a", "b"), Result: "CONDITIONAL"}
		p.Mapping = []installation.Mapped{{Action: one("read", "update", "use")}}
		if r.IntN(3) == 0 {
			p.Mapping[0].Name = one("a.read", "a.look", "b.update")
		}
		p.Condition = drawnCondition(r, p.ResourceType, 2)
		in.Policies = append(in.Policies, p)
	}
	in.Groups = map[string][]string{}
	for range r.IntN(4) {
		child := one("group:default/g1", "group:default/g2", "group:default/g3", "group:default/g4")
		in.Groups[child] = append(in.Groups[child], one("group:default/g1", "group:default/g2", "group:default/g3", "group:default/g4"))
	}
	return in
}

var drawnMembers = []string{"user:default/ann", "user:default/bob", "group:default/g1", "group:default/g2", "group:default/g3"}

func drawnCondition(r *rand.Rand, resourceType string, depth int) installation.Condition {
	if depth == 0 || r.IntN(2) == 0 {
		texts := []string{"x", installation.CurrentUser, installation.OwnerRefs, "$me"}
		param := written.Value{Of: texts[r.IntN(2)]}
		if r.IntN(12) == 0 {
			param.Of = texts[2+r.IntN(2)]
		}
		if r.IntN(2) == 0 {
			param.Of = written.List{{Of: "y"}, {Of: texts[r.IntN(3)]}}
		}
		params := &written.Object{Names: []string{"p"}, Members: map[string]written.Value{"p": param}}
		return installation.Condition{Rule: fmt.Sprintf("R%d", r.IntN(3)), ResourceType: resourceType, Params: written.Value{Of: params}}
	}
	some := make([]installation.Condition, 1+r.IntN(2))
	for i := range some {
		some[i] = drawnCondition(r, resourceType, depth-1)
	}
	switch r.IntN(3) {
	case 0:
		return installation.Condition{AllOf: some}
	case 1:
		return installation.Condition{AnyOf: some}
	}
	return installation.Condition{Not: &some[0]}
}

// callersAsked are the callers, some of them of no source.
var callersAsked = []enforcer.Caller{
	{User: "user:default/ann", Claims: []string{"user:default/ann", "group:default/g1"}},
	{User: "user:default/bob", Claims: []string{"user:default/bob", "group:default/g2", "group:default/g4"}},
	{User: "user:default/cy", Claims: []string{"user:default/cy"}},
	{User: "user:default/dee", Claims: []string{"user:default/dee", "group:default/g3"}},
	{User: "user:default/bob", Claims: []string{"group:default/g1"}},
}

func compare(t *testing.T, in *installation.Installation, counts map[string]int) {
	t.Helper()
	m := &Migration{Known: &inventory.Inventory{Permissions: permissionsAsked}}
	var err error
	if m.judgement, err = judge(t.Context(), in, m.Known); err != nil {
		t.Fatal(err)
	}
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
			want := m.judgement.held.Decide(who, asked)
			counts[want.Result]++
			outcome, err := p.Decide(t.Context(), asking.Caller{User: who.User, Claims: who.Claims}, wire.Permission{
				Name: asked.Name, Action: asked.Attributes.Action, Resource: asked.ResourceType != "", ResourceType: asked.ResourceType,
			})
			if err != nil || outcome.Err != nil {
				t.Fatalf("%s %s: %v, %v", who.User, asked.Name, err, outcome.Err)
			}
			got := enforcer.Decision{Result: outcome.Decision.Result.String()}
			if diff := cmp.Diff(want.Result, got.Result); diff != "" {
				t.Errorf("%s %s: %s\n%s", who.User, asked.Name, diff, files["data.json"])
				continue
			}
			if want.Result != "CONDITIONAL" {
				continue
			}
			condition, err := criteria.Parse(map[string]any{"anyOf": want.Conditions})
			if err != nil {
				t.Fatal(err)
			}
			if !same(t, condition, outcome.Decision.Conditions) {
				t.Errorf("%s %s:\n%s\n%s", who.User, asked.Name, cmp.Diff(condition, outcome.Decision.Conditions), files["data.json"])
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
