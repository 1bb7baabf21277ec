package bundles_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

func TestDataKeepsItsSchema(t *testing.T) {
	schemas, err := filepath.Glob("*/data.schema.json")
	if err != nil || len(schemas) == 0 {
		t.Fatalf("schemas %v, error %v", schemas, err)
	}
	for _, name := range schemas {
		schema := compile(t, name)
		if err := schema.Validate(read(t, filepath.Join(filepath.Dir(name), "data.json"))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSchemaFindsMistakes plants one mistake at a time into data that keeps the
// schema, where its text stands once.
func TestSchemaFindsMistakes(t *testing.T) {
	schema := compile(t, "rbac/data.schema.json")
	good, err := os.ReadFile(filepath.Join("testdata", "rbac.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(decoded(t, string(good))); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ name, from, to string }{
		{"misspelt effect of a line", `"update": "deny"`, `"update": "denied"`},
		{"effect in capitals", `"update": "deny"`, `"update": "Deny"`},
		{"misspelt action", `"update": "deny"`, `"udpate": "deny"`},
		{"line without an action", `{"update": "deny"}`, `"deny"`},
		{"no line", `{"update": "deny"}`, `{}`},
		{"misspelt member of a grant", `"effect": "deny"`, `"efect": "deny"`},
		{"grant without an effect", `"effect": "deny", `, ``},
		{"grant without brackets", `[{"effect": "allow"}]`, `{"effect": "allow"}`},
		{"misspelt section", `"permissions": {`, `"permissionz": {`},
		{"misspelt root", `"rbac_members": {`, `"rbac_member": {`},
		{"bindings at the wrong root", `"precedence": "basic"`, `"bindings": {}`},
		{"roles without brackets", `["role:default/dev", "reader"]`, `"reader"`},
		{"capitals in a binding", `"group:default/web": ["role`, `"group:default/Web": ["role`},
		{"binding of what is neither user nor group", `"group:default/web": ["role`, `"team:default/web": ["role`},
		{"short reference", `"group:default/web": ["role`, `"group:web": ["role`},
		{"capitals in a line about a user", `"user:default/ann": {`, `"user:default/Ann": {`},
		{"parents without brackets", `["group:default/all"]`, `"group:default/all"`},
		{"capitals in a parent", `["group:default/all"]`, `["group:default/All"]`},
		{"parent that is no group", `["group:default/all"]`, `["user:default/all"]`},
		{"superuser that is a role", `["user:default/root"]`, `["role:default/root"]`},
		{"unknown precedence", `"precedence": "basic"`, `"precedence": "basci"`},
		{"negative depth", `"maxDepth": 3`, `"maxDepth": -1`},
		{"depth that is a text", `"maxDepth": 3`, `"maxDepth": "3"`},
		{"no plugin", `"pluginId": "catalog", `, ``},
		{"empty mapping", `["delete", "use"]`, `[]`},
		{"unknown action of a mapping", `["delete", "use"]`, `["remove"]`},
		{"mapping without an action", `{"name": "catalog.entity.read", "action": "read"}`, `{"name": "catalog.entity.read"}`},
		{"misspelt criterion", `"anyOf"`, `"anyof"`},
		{"empty criterion", `"allOf": [{"rule": "IS_ENTITY_KIND"}]`, `"allOf": []`},
		{"rule without brackets", `"allOf": [{"rule": "IS_ENTITY_KIND"}]`, `"allOf": {"rule": "IS_ENTITY_KIND"}`},
		{"criterion beside a rule", `{"rule": "IS_ENTITY_KIND"}`, `{"rule": "IS_ENTITY_KIND", "not": {"rule": "R"}}`},
		{"misspelt params", `"params": {"claims"`, `"param": {"claims"`},
		{"unknown alias in a list", `["$ownerRefs"]`, `["$claims"]`},
		{"alias in another case", `["$ownerRefs"]`, `["$OwnerRefs"]`},
		{"list alias as a text", `["$ownerRefs"]`, `"$ownerRefs"`},
		{"alias too deep", `["$ownerRefs"]`, `[["$ownerRefs"]]`},
		{"alias in an object", `["$ownerRefs"]`, `{"of": "$currentUser"}`},
		{"unknown alias as a text", `"$currentUser"`, `"$user"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if n := strings.Count(string(good), tc.from); n != 1 {
				t.Fatalf("%s stands in it %d times", tc.from, n)
			}
			if schema.Validate(decoded(t, strings.Replace(string(good), tc.from, tc.to, 1))) == nil {
				t.Error("not found")
			}
		})
	}
}

func compile(t *testing.T, name string) *jsonschema.Schema {
	t.Helper()
	schema, err := jsonschema.NewCompiler().Compile(name)
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

func read(t *testing.T, name string) any {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return decoded(t, string(text))
}

func decoded(t *testing.T, text string) any {
	t.Helper()
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader([]byte(text)))
	if err != nil {
		t.Fatal(err)
	}
	return value
}
