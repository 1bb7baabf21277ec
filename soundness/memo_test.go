package soundness

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/sirupsen/logrus"

	serving "github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/engine"
	"github.com/stagedoor/stagedoor/adapter/explore"
	"github.com/stagedoor/stagedoor/adapter/supply"
	"github.com/stagedoor/stagedoor/adapter/vetted"
	"github.com/stagedoor/stagedoor/adapter/wire"
	library "github.com/stagedoor/stagedoor/rego"
)

// TestMemo asks drawn policies as they serve, with all that is remembered, many
// callers in turn and again, and compares with decisions of which nothing is.
func TestMemo(t *testing.T) {
	const policies, askers, rounds = 50, 24, 3
	var answered, remembered int
	for i := range uint64(policies) {
		r := rand.New(rand.NewPCG(*seed, i))
		tr := newTrial(r)
		if tr.policy.refusable {
			continue
		}
		questions := make([]map[string]any, askers)
		for n := range questions {
			questions[n] = worldGen{r: r, policy: tr.policy}.input()
		}
		engine := serve(t, tr)
		anew, want := unremembered(t, tr), make([]string, askers)
		for n, question := range questions {
			want[n] = anew(question)
		}
		for range rounds {
			for _, n := range r.Perm(askers) {
				caller, permission := asks(questions[n])
				batch, err := engine.Decide(t.Context(), caller, []wire.Permission{permission})
				if err != nil {
					t.Fatal(err)
				}
				o := batch.Outcomes[0]
				got := o.Decision.Text()
				if o.Err != nil {
					got = "error"
				}
				if got != want[n] {
					t.Fatalf("seed %d, policy %d, remembered %t: asked %v, got %s, want %s\n%s",
						*seed, i, o.Remembered, questions[n], got, want[n], tr.policy.source)
				}
				answered++
				if o.Remembered {
					remembered++
				}
			}
		}
	}
	t.Logf("%d answers, %d of them remembered", answered, remembered)
	if remembered < answered/2 {
		t.Error("too little is remembered to show anything")
	}
}

// serve serves the policy as a bundle.
func serve(t *testing.T, tr trial) *engine.Engine {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, v any) {
		text, err := json.Marshal(v)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	roots := slices.Collect(maps.Keys(tr.world.data))
	for n, text := range strings.Split("\n"+tr.policy.source, "\npackage ")[1:] {
		name := fmt.Sprintf("policy_%d.rego", n)
		if err := os.WriteFile(filepath.Join(dir, name), []byte("package "+text), 0o600); err != nil {
			t.Fatal(err)
		}
		path, _, _ := strings.Cut(text, "\n")
		root, _, _ := strings.Cut(strings.TrimSpace(path), ".")
		if !slices.Contains(roots, root) {
			roots = append(roots, root)
		}
	}
	write(".manifest", map[string]any{"roots": roots})
	write("data.json", tr.world.data)
	log := logrus.New()
	log.SetOutput(io.Discard)
	vetter, err := vetted.New(vetted.Options{Entrypoint: "authz/allow", Library: library.Modules()})
	if err != nil {
		t.Fatal(err)
	}
	policies := supply.New(supply.Options{Path: dir}, vetter, logrus.NewEntry(log))
	if _, err := policies.Load(t.Context()); err != nil {
		t.Fatalf("%v\n%s", err, tr.policy.source)
	}
	decides, err := engine.New(engine.Options{}, policies.Serving, logrus.NewEntry(log))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(decides.Close)
	return decides
}

// asks is who asks and for what, of an input.
func asks(input map[string]any) (serving.Caller, wire.Permission) {
	p, _ := input["permission"].(map[string]any)
	attributes, _ := p["attributes"].(map[string]any)
	text := func(of map[string]any, name string) string {
		s, _ := of[name].(string)
		return s
	}
	permission := wire.Permission{
		Name: text(p, "name"), Action: text(attributes, "action"), Resource: true, ResourceType: text(p, "resourceType"),
	}
	identity, ok := input["identity"].(map[string]any)
	if !ok {
		return serving.Caller{Anonymous: true}, permission
	}
	claims, _ := identity["claims"].([]string)
	return serving.Caller{User: text(identity, "user"), Claims: claims, Actor: text(identity, "actor")}, permission
}

// unremembered returns what decides each question anew.
func unremembered(t *testing.T, tr trial) func(input map[string]any) string {
	t.Helper()
	modules, err := parse(tr.policy.source)
	if err != nil {
		t.Fatal(err)
	}
	compiled, err := explore.Compile(explore.Options{Modules: modules, Entrypoint: entrypoint})
	if err != nil {
		t.Fatalf("%v\n%s", err, tr.policy.source)
	}
	store := inmem.NewFromObject(tr.world.data)
	txn, err := store.NewTransaction(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Abort(t.Context(), txn) })
	return func(input map[string]any) string {
		result, err := compiled.Decide(t.Context(), explore.Query{
			Store: store, Txn: txn, Input: ast.MustInterfaceToValue(input).(ast.Object),
			ResourceType: tr.policy.plugin.resourceType, Time: time.Unix(0, 0),
		})
		if err != nil {
			return "error"
		}
		return result.Decision.Text()
	}
}
