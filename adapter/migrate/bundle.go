package migrate

import (
	"bytes"
	"cmp"
	"encoding/json"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/stagedoor/stagedoor/adapter/migrate/enforcer"
	"github.com/stagedoor/stagedoor/bundles"
)

// bundleFiles are the manifest, data and schema of a bundle.
func bundleFiles(roots []string, data map[string]any) (map[string][]byte, error) {
	manifest, err := document(map[string]any{"roots": roots, "rego_version": 1})
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{".manifest": manifest}
	if files["data.json"], err = document(data); err != nil {
		return nil, err
	}
	files["data.schema.json"], err = bundleFile("data.schema.json")
	return files, err
}

func bundleFile(name string) ([]byte, error) { return fs.ReadFile(bundles.RBAC(), name) }

// document is JSON as people read it, with sorted members.
func document(v any) ([]byte, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err := encoder.Encode(v)
	return text.Bytes(), err
}

// Write writes files into a directory, which it makes.
func Write(dir string, files map[string][]byte) error {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // a policy is no secret
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := os.WriteFile(filepath.Join(dir, name), files[name], 0o644); err != nil { //nolint:gosec // likewise
			return err
		}
	}
	return nil
}

// bundleData is the model as data of bundles/rbac.
func bundleData(m *enforcer.Enforcer) (rbac, members map[string]any) {
	superusers := []string{}
	for _, s := range m.Superusers {
		superusers = append(superusers, s.Name)
	}
	conditions := map[string]map[string][]any{}
	for _, p := range m.Policies {
		if conditions[p.Role] == nil {
			conditions[p.Role] = map[string][]any{}
		}
		mapping := make([]any, len(p.Mapping))
		for i, entry := range p.Mapping {
			mapping[i] = entry.Action
			if entry.Name != "" {
				mapping[i] = map[string]any{"name": entry.Name, "action": entry.Action}
			}
		}
		conditions[p.Role][p.ResourceType] = append(conditions[p.Role][p.ResourceType], map[string]any{
			"pluginId": p.PluginID, "permissionMapping": mapping, "conditions": p.Condition.Document(),
		})
	}
	rbac = map[string]any{
		"precedence": cmp.Or(m.Precedence, "conditional"), "superusers": superusers,
		"permissions": m.Permissions, "conditions": conditions,
	}
	if m.MaxDepth != nil {
		rbac["maxDepth"] = *m.MaxDepth
	}
	if m.UseOwnershipEntities {
		rbac["useOwnershipEntityRefs"] = true
	}
	bindings := map[string][]string{}
	for member, roles := range m.Roles {
		bindings[member] = slices.Sorted(slices.Values(roles))
	}
	if m.DefaultRole != "" {
		bindings["*"] = []string{m.DefaultRole}
	}
	groups := m.Groups
	if groups == nil {
		groups = map[string][]string{}
	}
	return rbac, map[string]any{"bindings": bindings, "groups": groups}
}
