package anyone_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/stagedoor/stagedoor/adapter/anyone"
	"github.com/stagedoor/stagedoor/adapter/comparison"
	"github.com/stagedoor/stagedoor/adapter/offline"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

var permissions = []wire.Permission{
	{Name: "catalog.entity.read", Action: "read", Resource: true, ResourceType: "catalog-entity"},
	{Name: "catalog.entity.refresh", Action: "update", Resource: true, ResourceType: "catalog-entity"},
	remove,
	{Name: "devtools.info", Action: "read"},
}

func opened(t *testing.T, text []byte, data string) *offline.Policy {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		".manifest": `{"roots": ["authz", "staff"]}`, "data.json": data,
		"policy.rego": "package authz\n\nimport data.backstage.catalog\n\ndefault allow := false\n\n" + string(text),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p, err := offline.Open(t.Context(), dir, offline.Options{Entrypoint: "authz/allow"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close(context.Background()) })
	return p
}

// TestCompare has pairs of policies, before and after, and what of them is told of every
// caller. Each is compared the other way round too, and with itself.
func TestCompare(t *testing.T) {
	archive, err := txtar.ParseFile("testdata/compare.txtar")
	if err != nil {
		t.Fatal(err)
	}
	const data = `{"staff": ["group:default/x", "group:default/y", "group:default/z"]}`
	for i := 0; i+3 < len(archive.Files); i += 4 {
		files := archive.Files[i : i+4]
		t.Run(files[0].Name, func(t *testing.T) {
			before, after := opened(t, files[0].Data, data), opened(t, files[1].Data, data)
			for j, pair := range [][2]*offline.Policy{{before, after}, {after, before}} {
				got, err := anyone.Compare(t.Context(), pair[0], pair[1], permissions, comparison.NewComparer(pair[0], pair[1]))
				if err != nil {
					t.Fatal(err)
				}
				text := strings.NewReplacer(before.Path, "before", after.Path, "after").Replace(got.Text())
				if diff := cmp.Diff(string(files[2+j].Data), text); diff != "" {
					t.Errorf("%s (-want +got):\n%s", files[2+j].Name, diff)
				}
				same, err := anyone.Compare(t.Context(), pair[0], pair[0], permissions, comparison.NewComparer(pair[0], pair[0]))
				if err != nil || len(same.Differences) > 0 {
					t.Errorf("of the same: %v, %v", same, err)
				}
			}
		})
	}
}
