package rego_test

import (
	"maps"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/stagedoor/stagedoor/rego"
)

func TestModulesAreThePluginsWithoutTests(t *testing.T) {
	modules := rego.Modules()
	want := []string{
		"backstage/catalog/catalog.rego",
		"backstage/playlist/playlist.rego",
		"backstage/rbac/rbac.rego",
		"backstage/scaffolder/scaffolder.rego",
	}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(modules))); diff != "" {
		t.Fatalf("paths (-want +got):\n%s", diff)
	}
	for name, source := range modules {
		statement := "\npackage " + strings.ReplaceAll(path.Dir(name), "/", ".") + "\n"
		if !strings.Contains(source, statement) {
			t.Errorf("%s does not contain %q", name, statement)
		}
	}
}

func TestMaskIsOfItsOwn(t *testing.T) {
	mask := rego.Mask()
	if !strings.Contains(mask, "\npackage system.log\n") {
		t.Errorf("not the package that OPA asks for masks:\n%s", mask)
	}
	if strings.Contains(mask, "test_") {
		t.Error("it has tests")
	}
}

// A policy sees nothing else, so a token or a resourceRef must be refused.
func TestInputSchema(t *testing.T) {
	checkSchema(t, "input", []schemaCase{
		{"resource permission", true, `{"permission": {"name": "catalog.entity.delete", "type": "resource",
			"attributes": {"action": "delete"}, "resourceType": "catalog-entity"},
			"identity": {"user": "user:default/ann", "claims": ["user:default/ann"], "actor": "plugin:catalog"}}`},
		{"basic permission", true, `{"permission": {"name": "a", "type": "basic", "attributes": {}}}`},
		{"wrapper module", true, `{"permission": {"name": "a"}, "identity": {"user": "u", "claims": []}}`},
		{"whole resource", true, `{"permission": {"name": "a"}, "resource": {"kind": "API"}}`},
		{"no permission", false, `{"identity": {"user": "u", "claims": []}}`},
		{"no claims", false, `{"permission": {"name": "a"}, "identity": {"user": "u"}}`},
		{"other action", false, `{"permission": {"name": "a", "attributes": {"action": "peek"}}}`},
		{"resource that is no object", false, `{"permission": {"name": "a"}, "resource": "component:default/a"}`},
		{"token", false, `{"permission": {"name": "a"}, "identity": {"user": "u", "claims": [], "token": "x"}}`},
		{"resourceRef", false, `{"permission": {"name": "a"}, "resourceRef": "component:default/a"}`},
	})
}

func TestEntitySchema(t *testing.T) {
	checkSchema(t, "entity", []schemaCase{
		{"minimal", true, `{"apiVersion": "v1", "kind": "API", "metadata": {"name": "a"}}`},
		{"whole", true, `{"apiVersion": "v1", "kind": "API", "metadata": {"name": "a", "labels": {"team": "web"},
			"annotations": {"example.com/repo": "a/b"}, "tags": ["go"], "links": [{"url": "http://a"}], "other": 1},
			"spec": {"owner": "web"}, "relations": [{"type": "ownedBy", "targetRef": "group:default/web"}]}`},
		{"label that is no text", false, `{"apiVersion": "v1", "kind": "API", "metadata": {"name": "a", "labels": {"a": 1}}}`},
		{"relation without target", false, `{"apiVersion": "v1", "kind": "API", "metadata": {"name": "a"},
			"relations": [{"type": "ownedBy"}]}`},
		{"no name", false, `{"apiVersion": "v1", "kind": "API", "metadata": {}}`},
	})
}

func TestDecisionSchema(t *testing.T) {
	const leaf = `{"rule": "IS_OWNER", "resourceType": "todo-item", "params": {"userId": "u"}}`
	conditional := func(criteria string) string {
		return `{"result": "CONDITIONAL", "pluginId": "todo", "resourceType": "todo-item", "conditions": ` + criteria + `}`
	}
	checkSchema(t, "decision", []schemaCase{
		{"allow", true, `{"result": "ALLOW"}`},
		{"deny with a reason", true, `{"result": "DENY", "reason": "frozen"}`},
		{"true", true, `true`},
		{"false", true, `false`},
		{"leaf", true, conditional(leaf)},
		{"leaf without params", true, conditional(`{"rule": "IS_PUBLIC", "resourceType": "todo-item"}`)},
		{"tree", true, conditional(`{"anyOf": [` + leaf + `, {"not": {"allOf": [` + leaf + `]}}]}`)},
		{"empty list", true, conditional(`{"anyOf": []}`)},
		{"unknown result", false, `{"result": "MAYBE"}`},
		{"lower case", false, `{"result": "allow"}`},
		{"no result", false, `{}`},
		{"text", false, `"ALLOW"`},
		{"no conditions", false, `{"result": "CONDITIONAL", "pluginId": "todo", "resourceType": "todo-item"}`},
		{"no plugin", false, `{"result": "CONDITIONAL", "resourceType": "todo-item", "conditions": ` + leaf + `}`},
		{"rule and list", false, conditional(`{"rule": "R", "resourceType": "todo-item", "anyOf": [` + leaf + `]}`)},
		{"two lists", false, conditional(`{"anyOf": [` + leaf + `], "allOf": [` + leaf + `]}`)},
		{"nothing", false, conditional(`{}`)},
		{"params that are no object", false, conditional(`{"rule": "R", "resourceType": "t", "params": null}`)},
	})
}

type schemaCase struct {
	name     string
	valid    bool
	document string
}

func checkSchema(t *testing.T, name string, cases []schemaCase) {
	t.Helper()
	source, ok := rego.Schemas()[name]
	if !ok {
		t.Fatalf("no schema %s", name)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource(name, decode(t, source)); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range cases {
		t.Run(test.name, func(t *testing.T) {
			if err := schema.Validate(decode(t, test.document)); (err == nil) != test.valid {
				t.Errorf("valid %t, want %t: %v", err == nil, test.valid, err)
			}
		})
	}
}

func decode(t *testing.T, source string) any {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(source))
	if err != nil {
		t.Fatal(err)
	}
	return document
}
