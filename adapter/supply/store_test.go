package supply

import (
	"fmt"
	"io"
	"sync"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/sirupsen/logrus"

	"github.com/stagedoor/stagedoor/adapter/vetted"
)

// stateOf is the state of a small policy in a bundle with the roots.
func stateOf(t testing.TB, v *vetted.Vetter, roots ...string) *vetted.State {
	t.Helper()
	module, err := ast.ParseModuleWithOpts("p.rego", "package p\n\n# METADATA\n# entrypoint: true\nallow := true\n",
		ast.ParserOptions{ProcessAnnotation: true})
	if err != nil {
		t.Fatal(err)
	}
	var state *vetted.State
	other := inmem.New()
	if err := storage.Txn(t.Context(), other, storage.WriteParams, func(txn storage.Transaction) error {
		state, err = v.Vet(&bundle.ActivateOpts{
			Ctx: t.Context(), Store: other, Txn: txn, TxnCtx: storage.NewContext(), Compiler: ast.NewCompiler(), Metrics: metrics.New(),
			Bundles: map[string]*bundle.Bundle{"b": {
				Manifest: bundle.Manifest{Roots: &roots}, Data: map[string]any{},
				Modules: []bundle.ModuleFile{{Path: "p.rego", URL: "p.rego", Parsed: module}},
			}},
		}, func(map[string]vetted.Bundle) bool { return false })
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return state
}

// TestKeysAreSortedBeforeTheyAreShared is for the race detector: an object sorts
// its keys when it is first iterated, and OPA's store copies what lies beside the
// objects that it changes.
func TestKeysAreSortedBeforeTheyAreShared(t *testing.T) {
	log := logrus.New()
	log.SetOutput(io.Discard)
	vetter, err := vetted.New(vetted.Options{})
	if err != nil {
		t.Fatal(err)
	}
	policies := New(Options{}, vetter, logrus.NewEntry(log))
	s := policies.store
	write := func(then func(storage.Transaction)) {
		if err := storage.Txn(t.Context(), s, storage.WriteParams, func(txn storage.Transaction) error {
			then(txn)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	left := storage.MustParsePath("/a/left")
	write(func(txn storage.Transaction) {
		document := map[string]any{"left": map[string]any{"n": 1}, "right": map[string]any{"z": 1, "y": 2, "x": 3}}
		if err := s.Write(t.Context(), txn, storage.AddOp, left[:1], document); err != nil {
			t.Fatal(err)
		}
		w := s.write.Load()
		w.vetted, w.state = true, stateOf(t, vetter, "a/left", "a/right", "p")
	})
	var group sync.WaitGroup
	store, txn := policies.State().Data()
	group.Go(func() {
		if v, err := store.Read(t.Context(), txn, storage.RootPath); err != nil || fmt.Sprint(v) == "" {
			t.Error(v, err)
		}
	})
	write(func(txn storage.Transaction) {
		if err := s.Write(t.Context(), txn, storage.RemoveOp, left, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Read(t.Context(), txn, left[:1]); err != nil {
			t.Fatal(err)
		}
	})
	group.Wait()
}
