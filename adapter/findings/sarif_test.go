package findings_test

import (
	"bytes"
	"os"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/stagedoor/stagedoor/adapter/findings"
)

// TestSARIF holds a log with every code, with and without a place, to the schema of
// the members that are used.
func TestSARIF(t *testing.T) {
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	schema, err := compiler.Compile("testdata/sarif.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var every []findings.Finding
	for code := range findings.Codes() {
		every = append(every,
			findings.Finding{File: "policy dir/ä.rego", Line: 3, Severity: findings.Error, Code: code, Text: `no "x" <y>`},
			findings.Finding{File: "policy", Severity: findings.Warning, Code: code, Text: "x"})
	}
	for name, all := range map[string][]findings.Finding{"nothing": nil, "everything": every} {
		var log bytes.Buffer
		if err := findings.WriteSARIF(&log, all); err != nil {
			t.Fatal(err)
		}
		document, err := jsonschema.UnmarshalJSON(bytes.NewReader(log.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(document); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if path := os.Getenv("SARIF_SCHEMA"); path != "" { // the whole schema, where somebody has it
			if err := whole(t, path).Validate(document); err != nil {
				t.Errorf("%s, by %s: %v", name, path, err)
			}
		}
	}
}

func whole(t *testing.T, path string) *jsonschema.Schema {
	t.Helper()
	schema, err := jsonschema.NewCompiler().Compile(path)
	if err != nil {
		t.Fatal(err)
	}
	return schema
}
