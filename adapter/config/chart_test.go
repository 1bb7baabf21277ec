package config

import (
	"encoding/json"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// TestChartRefusesWhatIsRefused holds the schema of the chart's values to what reads the
// configuration: each key with each of many values is refused by both or by neither.
// What the chart would take makes a pod that does not start, and what it would not take
// cannot be configured.
func TestChartRefusesWhatIsRefused(t *testing.T) {
	values := []any{
		nil, true, false, 0, 1, 2, -1, 1.5, 1e12, "", "0", "1", "-1", "yes", "Off", "maybe", "loud", "info", "warning", "fatal",
		"deny", "fail", "serve", "static", "memory", "/api/x", "api", "many", "10MiB", "64 kB", "1,000", "2m", "1.5h", "1h30m",
		"1d", "PT5S", "5 fortnights", "-5s", "0123456789abcdef", "http://a.example.com", "${GIVEN}",
		map[string]any{"$file": "given"}, map[string]any{"seconds": 30}, map[string]any{"seconds": "x"}, map[string]any{"fortnights": 1},
		map[string]any{}, []any{}, []any{"a"}, []any{1}, []any{"0123456789abcdef", "short"},
	}
	// What the chart itself writes; its tests have these.
	chart := []string{
		"backend.baseUrl", "backend.lifecycle", "stagedoor.listen", "stagedoor.admin.listen", "stagedoor.admin.tls",
		"stagedoor.policy.path", "stagedoor.policy.entrypoint",
	}
	// What has to fit to other keys or to files, so that a schema cannot know.
	apart := []string{
		"stagedoor.tls", "stagedoor.policy.remote", "stagedoor.policy.shadow", "backend.auth.pluginKeyStore", "stagedoor.audit.required",
		"stagedoor.admin.dataRoots", "stagedoor.policy.capabilities",
	}
	tooLong := regexp.MustCompile(`want (more than )?0s (to|and at most) `) // a schema cannot count units together
	below := func(key string, of []string) bool {
		return slices.ContainsFunc(of, func(k string) bool { return key == k || strings.HasPrefix(key, k+".") })
	}
	schema := chartSchema(t)
	keys := leaves(keysOf(reflect.TypeFor[document]()), "")
	tried := 0
	for _, key := range keys {
		if below(key, chart) || strings.HasPrefix(key, "discovery.") { // whose endpoints are a list
			continue
		}
		for _, value := range values {
			document := map[string]any{}
			at := document
			path := strings.Split(key, ".")
			for _, name := range path[:len(path)-1] {
				at[name] = map[string]any{}
				at = at[name].(map[string]any) //nolint:forcetypeassert // made above
			}
			at[path[len(path)-1]] = value
			text, err := json.Marshal(document)
			if err != nil {
				t.Fatal(err)
			}
			_, loads := load([]string{write(t, "a.yaml", minimal), write(t, "b.json", string(text))}, nil, environ("GIVEN", "x"))
			instance, err := jsonschema.UnmarshalJSON(strings.NewReader(string(text)))
			if err != nil {
				t.Fatal(err)
			}
			refuses := schema.Validate(instance)
			given := strings.Contains(string(text), "$") // which nobody knows before it starts
			tried++
			switch {
			case refuses != nil && loads == nil:
				t.Errorf("the chart refuses %s, which is taken: %v", text, refuses)
			case refuses == nil && loads != nil && !given && !below(key, apart) && !tooLong.MatchString(loads.Error()):
				t.Errorf("the chart takes %s, which is refused: %v", text, loads)
			}
		}
	}
	if tried < 2000 {
		t.Errorf("%d tried", tried)
	}
}

// TestChartKnowsEachKey has each key that is read in the schema of the chart's values.
func TestChartKnowsEachKey(t *testing.T) {
	schema := chartSchema(t)
	for _, key := range leaves(keysOf(reflect.TypeFor[document]()), "") {
		at := schema
		for name := range strings.SplitSeq(key, ".") {
			if items, is := at.Items2020, at.Items2020 != nil; is {
				at = items
			}
			if at = at.Properties[name]; at == nil {
				t.Errorf("the schema has no %s", key)
				break
			}
			if at.Const != nil {
				break // the chart writes what is here
			}
		}
	}
}

// chartSchema is that of `config` in the chart's values.
func chartSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	file, err := os.Open("../../deploy/helm/stagedoor/values.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	document, err := jsonschema.UnmarshalJSON(file)
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("values.json", document); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("values.json#/properties/config")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}
