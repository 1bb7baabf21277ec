package engine_test

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/sirupsen/logrus"

	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/engine"
	"github.com/stagedoor/stagedoor/adapter/supply"
	"github.com/stagedoor/stagedoor/adapter/vetted"
	"github.com/stagedoor/stagedoor/adapter/wire"
	"github.com/stagedoor/stagedoor/bundles"
	"github.com/stagedoor/stagedoor/rego"
)

// benchEngine decides by the bundle in a directory, or the default one for "".
func benchEngine(b *testing.B, dir string) *engine.Engine {
	b.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	vetter, err := vetted.New(vetted.Options{Library: rego.Modules()})
	if err != nil {
		b.Fatal(err)
	}
	policies := supply.New(supply.Options{Path: dir, Default: bundles.Default()}, vetter, logrus.NewEntry(log))
	if _, err := policies.Load(b.Context()); err != nil {
		b.Fatal(err)
	}
	decides, err := engine.New(engine.Options{}, policies.Serving, logrus.NewEntry(log))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(decides.Close)
	return decides
}

// benchCaller is a caller of its own for every n, with so many groups.
func benchCaller(n, groups int) decision.Caller {
	user := fmt.Sprintf("user:default/user-%d", n)
	claims := []string{user}
	for g := range groups {
		claims = append(claims, fmt.Sprintf("group:default/g-%d", g))
	}
	return decision.Caller{User: user, Claims: claims, Actor: "catalog"}
}

func updates(n int) []wire.Permission {
	permissions := make([]wire.Permission, n)
	for i := range permissions {
		permissions[i] = wire.Permission{
			Name: fmt.Sprintf("catalog.entity.update.%d", i), Action: "update", Resource: true, ResourceType: "catalog-entity",
		}
	}
	return permissions
}

func decide(b *testing.B, decides *engine.Engine, caller decision.Caller, permissions []wire.Permission) {
	b.Helper()
	batch, err := decides.Decide(b.Context(), caller, permissions)
	if err != nil {
		b.Fatal(err)
	}
	for _, outcome := range batch.Outcomes {
		if outcome.Err != nil || outcome.Decision.Result == wire.Deny {
			b.Fatal(outcome.Decision.Result, outcome.Err)
		}
	}
}

// benchHit asks the same again, and benchMiss asks for a new caller each time.
func benchHit(b *testing.B, decides *engine.Engine, groups int, permissions []wire.Permission) {
	caller := benchCaller(0, groups)
	decide(b, decides, caller, permissions)
	b.ReportAllocs()
	for b.Loop() {
		decide(b, decides, caller, permissions)
	}
}

func benchMiss(b *testing.B, decides *engine.Engine, groups int, permissions []wire.Permission) {
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		decide(b, decides, benchCaller(n, groups), permissions)
		n++
	}
}

// BenchmarkExplored decides by the default bundle, which is about the resource.
func BenchmarkExplored(b *testing.B) {
	decides := benchEngine(b, "")
	b.Run("hit", func(b *testing.B) { benchHit(b, decides, 5, updates(1)) })
	b.Run("hit/50", func(b *testing.B) { benchHit(b, decides, 5, updates(50)) })
	b.Run("miss", func(b *testing.B) { benchMiss(b, decides, 5, updates(1)) })
}

// BenchmarkEvaluated decides by bundles/rbac, a decision document, with bindings of
// so many groups.
func BenchmarkEvaluated(b *testing.B) {
	refresh := []wire.Permission{
		{Name: "catalog.entity.refresh", Action: "update", Resource: true, ResourceType: "catalog-entity"},
	}
	for _, bindings := range []int{1_000, 1_000_000} {
		decides := benchEngine(b, boundBundle(b, bindings))
		for _, groups := range []int{5, 500} {
			name := fmt.Sprintf("%d bindings/%d groups/", bindings, groups)
			b.Run(name+"hit", func(b *testing.B) { benchHit(b, decides, groups, refresh) })
			b.Run(name+"alike", func(b *testing.B) { benchMiss(b, decides, groups, refresh) })
			b.Run(name+"miss", func(b *testing.B) { benchKinds(b, decides, bindings, groups, refresh) })
		}
	}
}

// benchKinds decides for callers no two of whom are alike: each is in groups of their
// own, drawn from all that are bound.
func benchKinds(b *testing.B, decides *engine.Engine, bound, groups int, permissions []wire.Permission) {
	b.ReportAllocs()
	r := rand.New(rand.NewPCG(uint64(bound), uint64(groups)))
	for b.Loop() {
		user := fmt.Sprintf("user:default/user-%d", r.Uint32())
		claims := []string{user}
		group, step := r.IntN(bound), 10*r.IntN(bound/10)+1 // so that none is drawn twice
		for range groups {
			claims = append(claims, fmt.Sprintf("group:default/g-%d", group))
			group = (group + step) % bound
		}
		decide(b, decides, decision.Caller{User: user, Claims: claims, Actor: "catalog"}, permissions)
	}
}

// BenchmarkNotRemembered decides by a policy that reads the clock.
func BenchmarkNotRemembered(b *testing.B) {
	decides := benchEngine(b, benchBundle(b, map[string]string{
		".manifest": `{"roots": ["authz"]}`,
		"policy.rego": `package authz

# METADATA
# entrypoint: true
default allow := false

allow if {
	input.identity.user
	time.now_ns() > 0
}
`,
	}))
	benchHit(b, decides, 5, updates(1))
}

// boundBundle is bundles/rbac with n groups bound.
func boundBundle(b *testing.B, n int) string {
	b.Helper()
	files := map[string]string{}
	for _, name := range []string{".manifest", "policy.rego", "data.json"} {
		text, err := os.ReadFile(filepath.Join("..", "..", "bundles", "rbac", name))
		if err != nil {
			b.Fatal(err)
		}
		files[name] = string(text)
	}
	var data map[string]map[string]any
	if err := json.Unmarshal([]byte(files["data.json"]), &data); err != nil {
		b.Fatal(err)
	}
	bindings := map[string]any{}
	for g := range n {
		bindings[fmt.Sprintf("group:default/g-%d", g)] = []string{"developer"}
	}
	data["rbac_members"]["bindings"] = bindings
	text, err := json.Marshal(data)
	if err != nil {
		b.Fatal(err)
	}
	files["data.json"] = string(text)
	return benchBundle(b, files)
}

func benchBundle(b *testing.B, files map[string]string) string {
	b.Helper()
	dir := b.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	return dir
}
