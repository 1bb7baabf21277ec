package bundles_test

import (
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/tester"
)

// TestNoBuiltinFails runs the Rego tests as production evaluates, where a builtin
// function that is given what it cannot take fails the decision. In opa test it is
// undefined.
func TestNoBuiltinFails(t *testing.T) {
	for _, bundle := range []string{"default", "ownership", "rbac", "regulated", "wrapper"} {
		t.Run(bundle, func(t *testing.T) {
			modules, store, err := tester.Load([]string{"../rego", bundle}, isLibraryTest)
			if err != nil {
				t.Fatal(err)
			}
			txn := storage.NewTransactionOrDie(t.Context(), store)
			defer store.Abort(t.Context(), txn)
			results, err := tester.NewRunner().SetStore(store).SetModules(modules).RaiseBuiltinErrors(true).RunTests(t.Context(), txn)
			if err != nil {
				t.Fatal(err)
			}
			ran := 0
			for result := range results {
				ran++
				if result.Error != nil || result.Fail {
					t.Errorf("%s: %v", result.Name, result.Error)
				}
			}
			if ran == 0 {
				t.Error("no tests")
			}
		})
	}
}

// isLibraryTest reports whether a file is a test of the rule library.
func isLibraryTest(path string, _ fs.FileInfo, _ int) bool {
	return strings.HasPrefix(filepath.ToSlash(path), "../rego/") && strings.HasSuffix(path, "_test.rego")
}
