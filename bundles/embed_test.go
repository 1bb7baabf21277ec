package bundles_test

import (
	"encoding/json"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/stagedoor/stagedoor/bundles"
)

func TestDefaultIsServedWithoutTests(t *testing.T) {
	if err := fstest.TestFS(bundles.Default(), ".manifest", "policy.rego", "data.json"); err != nil {
		t.Fatal(err)
	}
	tests, err := fs.Glob(bundles.Default(), "*_test.rego")
	if err != nil || len(tests) > 0 {
		t.Errorf("tests %v, error %v", tests, err)
	}
}

// Roots that a bundle claims are all it may define, its data included, and no
// two of the bundles claim the same, so that opa checks them together.
func TestRoots(t *testing.T) {
	owners := map[string]string{}
	for _, bundle := range []string{"default", "ownership", "rbac", "regulated", "wrapper"} {
		var manifest struct{ Roots []string }
		decode(t, bundle+"/.manifest", &manifest)
		for _, root := range manifest.Roots {
			if owner, taken := owners[root]; taken {
				t.Errorf("%s and %s both claim %s", owner, bundle, root)
			}
			owners[root] = bundle
		}

		var data map[string]any
		decode(t, bundle+"/data.json", &data)
		for _, path := range paths("", data) {
			owned := slices.ContainsFunc(manifest.Roots, func(root string) bool {
				return strings.HasPrefix(path, root+"/")
			})
			if !owned {
				t.Errorf("%s has data at %s, outside its roots %v", bundle, path, manifest.Roots)
			}
		}
	}
	want := map[string]string{
		"backstage/authz": "default", "backstage/authz_test": "default",
		"ownership": "ownership", "ownership_test": "ownership",
		"regulated": "regulated", "regulated_test": "regulated",
		"rbac": "rbac", "rbac_members": "rbac", "rbac_test": "rbac",
		"rbac_policy": "wrapper", "rbac_policy_test": "wrapper",
	}
	if diff := cmp.Diff(want, owners); diff != "" {
		t.Errorf("roots (-want +got):\n%s", diff)
	}
}

// paths returns the paths of the leaves of a document.
func paths(prefix string, document map[string]any) []string {
	var found []string
	for name, value := range document {
		if object, ok := value.(map[string]any); ok {
			found = append(found, paths(prefix+name+"/", object)...)
		} else {
			found = append(found, prefix+name)
		}
	}
	return found
}

func decode(t *testing.T, name string, into any) {
	t.Helper()
	source, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(source, into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}
