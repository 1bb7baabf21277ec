package soundness

import "testing"

// TestFound runs what runs have found.
func TestFound(t *testing.T) {
	c := &checker{leaves: newLeafEvaluator(t), oracle: newOracle(t, *project), critical: 6, run: newRun()}
	for _, found := range []struct {
		name     string
		policy   policy
		resource map[string]any
	}{
		{"two values for a key that is asked for", policy{plugin: catalogPlugin, failing: true, source: `package authz
import data.backstage.catalog
object.team := false if not catalog.has_label(input.resource, {"label": "team"})
object[w] := true if some w in ["tier", "team"]
allow if object.team
`}, map[string]any{"kind": "Component", "metadata": map[string]any{"name": "x"}}},
		{"the character of a text", policy{plugin: actionPlugin, source: `package authz
import data.backstage.scaffolder
allow if scaffolder.has_string_property(input.resource, {"key": "a.b[0]", "value": "W"})
`}, map[string]any{"action": "debug:log", "input": map[string]any{"a": map[string]any{"b": "Web"}}}},
	} {
		t.Run(found.name, func(t *testing.T) {
			f, err := c.check(t.Context(), trial{found.policy, world{
				data: map[string]any{}, inputs: []map[string]any{{}}, resources: []map[string]any{found.resource},
			}}, [2]uint64{})
			if err != nil {
				t.Fatal(err)
			}
			if f != nil {
				t.Error(f.message)
			}
		})
	}
}
