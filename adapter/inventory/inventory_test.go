package inventory_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stagedoor/stagedoor/adapter/inventory"
)

// TestStock holds the embedded inventory to what plugins are known to publish.
func TestStock(t *testing.T) {
	stock := inventory.Stock()
	got, ok := stock.Permission("catalog.entity.delete")
	want := inventory.Permission{
		Name: "catalog.entity.delete", Type: "resource", Attributes: inventory.Attributes{Action: "delete"},
		ResourceType: "catalog-entity", PluginID: "catalog",
	}
	if !ok || got != want {
		t.Errorf("catalog.entity.delete: got %+v, %v", got, ok)
	}
	if _, ok := stock.Permission("catalog.entity.deleted"); ok {
		t.Error("catalog.entity.deleted is there")
	}
	for _, plugin := range []string{
		"catalog", "scaffolder", "kubernetes", "techdocs", "devtools", "playlist", "permission", "jenkins", "azure-devops",
		"announcements", "argocd", "tech-insights", "qeta", "feedback", "extensions", "orchestrator", "scorecard", "homepage",
	} {
		if !strings.Contains(strings.Join(stock.Plugins(), " ")+" ", plugin+" ") {
			t.Errorf("plugin %s is missing", plugin)
		}
	}
	if owners := stock.Owners("policy-entity"); !cmp.Equal(owners, []string{"permission"}) {
		t.Errorf("owners of policy-entity: %v", owners)
	}
}

// TestStockIsGenerated holds the embedded files to what the generator makes of the
// packages, where they are installed, and to what Write writes.
func TestStockIsGenerated(t *testing.T) {
	written := t.TempDir()
	if err := inventory.Stock().Write(written); err != nil {
		t.Fatal(err)
	}
	sameFiles(t, written)
	generator := filepath.Join("..", "..", "e2e", "inventory")
	if _, err := os.Stat(filepath.Join(generator, "node_modules")); err != nil {
		t.Log("e2e/inventory is not installed, so that the generator is not run: make inventory")
		return
	}
	generated := t.TempDir()
	command := exec.CommandContext(t.Context(), "node", "generate.mjs", generated)
	command.Dir = generator
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	sameFiles(t, generated)
}

func sameFiles(t *testing.T, dir string) {
	t.Helper()
	for _, name := range []string{"permissions.json", "rules.json"} {
		want, err := os.ReadFile(filepath.Join("stock", name))
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s is another (-committed +made): %s", name, diff)
		}
	}
}

func TestLoadAndWrite(t *testing.T) {
	dir := t.TempDir()
	files := map[string]string{
		"permissions.json": `[{"name": "b.read", "type": "basic", "attributes": {}}, {"name": "a.read", "type": "resource", "attributes": {"action": "read"}, "resourceType": "a", "pluginId": "a"}]`,
		"people.json":      `{"user:default/ann": {"claims": ["user:default/ann", "group:default/web"]}}`,
		"groups.json":      `{"group:default/web": {"parent": "group:default/all"}, "group:default/all": {}}`,
		"entities.jsonl":   "{\"kind\": \"API\", \"n\": 1.50}\n\n{\"kind\": \"Component\"}",
	}
	for name, text := range files {
		writeTestFile(t, filepath.Join(dir, name), text)
	}
	loaded, err := inventory.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(loaded.Rules) != len(inventory.Stock().Rules) {
		t.Error("rules are not the stock ones, though there is no rules.json")
	}
	if len(loaded.Permissions) != 2 || loaded.Permissions[0].Name != "a.read" {
		t.Errorf("permissions are not sorted: %+v", loaded.Permissions)
	}
	first, second := t.TempDir(), t.TempDir()
	if err := loaded.Write(first); err != nil {
		t.Fatal(err)
	}
	again, err := inventory.Load(first)
	if err != nil {
		t.Fatal(err)
	}
	again.Source = loaded.Source
	if diff := cmp.Diff(loaded.People, again.People); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(loaded.Entities, again.Entities); diff != "" {
		t.Error(diff)
	}
	if err := again.Write(second); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"permissions.json", "rules.json", "people.json", "groups.json", "entities.jsonl"} {
		a, errA := os.ReadFile(filepath.Join(first, name))
		b, errB := os.ReadFile(filepath.Join(second, name))
		if errA != nil || errB != nil || string(a) != string(b) {
			t.Errorf("%s is written in two ways: %v %v", name, errA, errB)
		}
	}
}

func TestLoadRefuses(t *testing.T) {
	for name, test := range map[string]struct{ file, text, want string }{
		"no JSON":          {"permissions.json", `[`, "permissions.json: "},
		"unknown member":   {"permissions.json", `[{"name": "a", "type": "basic", "attributes": {}, "action": "read"}]`, `"action"`},
		"no name":          {"permissions.json", `[{"type": "basic", "attributes": {}}]`, "a permission has no name"},
		"unknown type":     {"permissions.json", `[{"name": "a", "type": "other", "attributes": {}}]`, "write basic or resource"},
		"no resource type": {"permissions.json", `[{"name": "a", "type": "resource", "attributes": {}}]`, "exactly where its type is resource"},
		"twice":            {"permissions.json", `[{"name": "a", "type": "basic", "attributes": {}}, {"name": "a", "type": "basic", "attributes": {}}]`, "is there twice"},
		"rule twice":       {"rules.json", `[{"pluginId": "p", "resourceType": "r", "name": "N"}, {"pluginId": "p", "resourceType": "r", "name": "N"}]`, "is there twice"},
		"rule incomplete":  {"rules.json", `[{"pluginId": "p", "name": "N"}]`, "needs pluginId, resourceType and name"},
		"no schema":        {"rules.json", `[{"pluginId": "p", "resourceType": "r", "name": "N", "paramsSchema": {"type": 1}}]`, "paramsSchema of N"},
		"outside schema":   {"rules.json", `[{"pluginId": "p", "resourceType": "r", "name": "N", "paramsSchema": {"$ref": "file:///etc/passwd"}}]`, "paramsSchema of N"},
		"short person":     {"people.json", `{"ann": {"claims": []}}`, "no full entity reference"},
		"capital group":    {"groups.json", `{"Group:default/web": {}}`, "no full entity reference"},
		"entity":           {"entities.jsonl", "{}\n[]\n", "line 2: must be an entity"},
		"null entity":      {"entities.jsonl", "null\n", "line 1: must be an entity, a JSON object on one line; it is null"},
		"null":             {"people.json", "null", "people.json: it is null; leave the file out"},
		"people in a list": {"people.json", "[]", "people.json: it is an array; write an object"},
		"name in a list":   {"permissions.json", `[{"name": ["a"], "type": "basic", "attributes": {}}]`, "permissions.json: /0/name is an array; write a string"},
		"action":           {"permissions.json", `[{"name": "a", "type": "basic", "attributes": {"action": "READ"}}]`, `attributes.action is "READ"; write create`},
		"misspelt file":    {"permission.json", "[]", "call it permissions.json"},
		"another form":     {"people.yaml", "{}", "call it people.json"},
		"nothing of it":    {"README.md", "Hello", "permissions.json: it is not there, nor is rules.json"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			writeTestFile(t, filepath.Join(dir, test.file), test.text)
			if _, err := inventory.Load(dir); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want one with %q", err, test.want)
			}
		})
	}
	if _, err := inventory.Load(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a directory that is not there is loaded")
	}
}

func writeTestFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
