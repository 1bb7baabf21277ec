package document_test

import (
	"errors"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"

	"github.com/stagedoor/stagedoor/adapter/document"
	"github.com/stagedoor/stagedoor/adapter/document/patch"
)

// FuzzPatch reads whatever a writer of data may send. What is a patch stays below the
// roots, and makes of a document what it makes of one in OPA's own store.
func FuzzPatch(f *testing.F) {
	for _, seed := range []string{
		`[{"op":"add","path":"/a","value":1},{"op":"replace","path":"a","value":{"b":[]}},{"op":"add","path":"/a/b/-","value":"x"},{"op":"remove","path":"/a/b/0"}]`,
		`[{"op":"add","path":"","value":{"x":null}}]`, `[{"op":"add","path":"/","value":[]},{"op":"add","path":"0","value":1e400}]`,
		`[{"op":"remove","path":"/list/-"}]`, `[{"op":"add","path":"/list/01","value":1}]`, `[{"op":"add","path":"/a~1b/%2e%2e","value":1}]`,
		`[{"op":"move","path":"/a"}]`, `[{}]`, `null`, `{}`, `[`, `[{"op":"add","path":"/list/9","value":1}]`, "\xff", `[{"op":"replace","path":"/../x","value":1}]`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		changes, err := patch.ParsePatch("shop/teams", body)
		if err != nil {
			if !errors.Is(err, patch.ErrMalformed) {
				t.Errorf("error %v", err)
			}
			return
		}
		start := map[string]any{"shop": map[string]any{"teams": map[string]any{"list": []any{"x", "y"}}}, "other": "same"}
		theirs := inmem.NewWithOpts(inmem.OptReturnASTValuesOnRead(true))
		ours := document.New().Edit()
		changes = append([]patch.Change{{Op: storage.AddOp, Path: storage.Path{}, Value: start}}, changes...)
		for i, c := range changes {
			if i > 0 && !c.Path.HasPrefix(storage.Path{"shop", "teams"}) {
				t.Fatalf("%s leads out", c.Path)
			}
			got := ours.Write(c.Op, c.Path, c.Value)
			// A transaction each: in one, OPA's store does not find what it has added itself.
			want := storage.Txn(t.Context(), theirs, storage.WriteParams, func(txn storage.Transaction) error {
				return theirs.Write(t.Context(), txn, c.Op, c.Path, c.Value)
			})
			if code(got) != code(want) {
				t.Fatalf("%v %s: %v, and OPA's store: %v", c.Op, c.Path, got, want)
			}
			if got != nil {
				return // and all of it is given up
			}
		}
		want, err := storage.ReadOne(t.Context(), theirs, storage.RootPath)
		if err != nil {
			t.Fatal(err)
		}
		if got := ours.Document().String(); got != want.(ast.Value).String() {
			t.Errorf("%s; OPA's store has %s", got, want)
		}
	})
}
