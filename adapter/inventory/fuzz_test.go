package inventory_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/stagedoor/stagedoor/adapter/inventory"
)

// FuzzLoad reads whatever may stand in the files of an inventory. What can be read is
// written and read as the same.
func FuzzLoad(f *testing.F) {
	f.Add(`[{"name":"a","type":"basic"}]`, `[{"pluginId":"catalog","resourceType":"catalog-entity","name":"R"}]`,
		`{"user:default/ann":{"claims":["user:default/ann"]}}`, `{"group:default/a":{"members":["user:default/ann"]}}`, "{\"kind\":\"Component\"}\n{}\n")
	f.Add(`[]`, `null`, `{}`, `{"": {}}`, "\n\n[]\n")
	f.Add(`[{"name":"a"},{"name":"a"}]`, `{}`, `[]`, `1`, "\xff")
	names := []string{"permissions.json", "rules.json", "people.json", "groups.json", "entities.jsonl"}
	f.Fuzz(func(t *testing.T, permissions, rules, people, groups, entities string) {
		dir := t.TempDir()
		for i, text := range []string{permissions, rules, people, groups, entities} {
			if err := os.WriteFile(filepath.Join(dir, names[i]), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		read, err := inventory.Load(dir)
		if err != nil {
			return
		}
		written := t.TempDir()
		if err := read.Write(written); err != nil {
			t.Fatal(err)
		}
		again, err := inventory.Load(written)
		if err != nil {
			t.Fatalf("what was read cannot be read again: %v", err)
		}
		ignore := cmpopts.IgnoreFields(inventory.Inventory{}, "Source", "Entities")
		if diff := cmp.Diff(read, again, ignore, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("(-read +again):\n%s", diff)
		}
	})
}
