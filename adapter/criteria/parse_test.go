package criteria

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// decode reads JSON as OPA hands it over: numbers as they were written.
func decode(text string) (any, error) {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var v any
	err := d.Decode(&v)
	return v, err
}

func mustDecode(t *testing.T, text string) any {
	t.Helper()
	v, err := decode(text)
	if err != nil {
		t.Fatalf("the test's JSON: %v", err)
	}
	return v
}

func TestParse(t *testing.T) {
	const owner = `{"rule":"IS_OWNER","resourceType":"todo-item"`
	tests := []struct{ name, json, want string }{
		{"a rule", owner + `}`, owner + `}`},
		{"params sorted and compact", owner + `, "params": {"b": [ 1 ], "a": {"d": null, "c": true}}}`,
			owner + `,"params":{"a":{"c":true,"d":null},"b":[1]}}`},
		{"numbers as written", owner + `,"params":{"n":[1.0,1,1e2,-0,123456789012345678901234567890]}}`,
			owner + `,"params":{"n":[1.0,1,1e2,-0,123456789012345678901234567890]}}`},
		{"strings in one spelling", owner + `,"params":{"\u0061":"\u003c\/\u00e9"}}`, owner + `,"params":{"a":"</é"}}`},
		{"empty params", owner + `,"params":{}}`, owner + `,"params":{}}`},
		{"surplus members", `{"surplus":1,"resourceType":"todo-item","rule":"IS_OWNER","params":{"a":1}}`,
			owner + `,"params":{"a":1}}`},
		{"surplus members of a list", `{"anyOf":[],"params":7,"id":"x"}`, `{"anyOf":[]}`},
		{"empty allOf", `{"allOf":[]}`, `{"allOf":[]}`},
		{"nested as it stood", `{"allOf":[{"not":{"not":` + owner + `}}},{"anyOf":[` + owner + `}]}]}`,
			`{"allOf":[{"not":{"not":` + owner + `}}},{"anyOf":[` + owner + `}]}]}`},
		{"other case is surplus", owner + `,"AnyOf":[],"RULE":1}`, owner + `}`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c, err := Parse(mustDecode(t, test.json))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, string(c.AppendJSON(nil))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	const leaf = `{"rule":"R","resourceType":"t"}`
	tests := []struct{ name, json, want string }{
		{"null", `null`, `conditions: must be an object, is null`},
		{"a string", `"IS_OWNER"`, `conditions: must be an object, is a string`},
		{"a number", `7`, `conditions: must be an object, is a number`},
		{"an array", `[]`, `conditions: must be an object, is an array`},
		{"a boolean", `true`, `conditions: must be an object, is a boolean`},
		{"empty", `{}`, `conditions: must have one of rule, anyOf, allOf and not, has none`},
		{"anyOf and allOf", `{"anyOf":[],"allOf":[]}`,
			`conditions: must have only one of rule, anyOf, allOf and not, has anyOf and allOf`},
		{"rule and not", `{"not":` + leaf + `,"rule":"R","resourceType":"t"}`,
			`conditions: must have only one of rule, anyOf, allOf and not, has rule and not`},
		{"two though one is null", `{"anyOf":[],"rule":null}`,
			`conditions: must have only one of rule, anyOf, allOf and not, has rule and anyOf`},
		{"deep within", `{"anyOf":[` + leaf + `,{"allOf":[]},{"not":{"all":[]}}]}`,
			`conditions.anyOf[2].not: must have one of rule, anyOf, allOf and not, has none`},
		{"anyOf an object", `{"anyOf":{"0":` + leaf + `}}`, `conditions.anyOf: must be an array, is an object`},
		{"allOf null", `{"allOf":null}`, `conditions.allOf: must be an array, is null`},
		{"not an array", `{"not":[` + leaf + `]}`, `conditions.not: must be an object, is an array`},
		{"a string in a list", `{"allOf":["R"]}`, `conditions.allOf[0]: must be an object, is a string`},
		{"rule empty", `{"rule":"","resourceType":"t"}`, `conditions.rule: must not be empty`},
		{"rule a number", `{"rule":1,"resourceType":"t"}`, `conditions.rule: must be a string, is a number`},
		{"rule null", `{"rule":null,"resourceType":"t"}`, `conditions.rule: must be a string, is null`},
		{"no resourceType", `{"rule":"R"}`, `conditions.resourceType: is missing`},
		{"resourceType empty", `{"not":{"rule":"R","resourceType":""}}`, `conditions.not.resourceType: must not be empty`},
		{"resourceType null", `{"rule":"R","resourceType":null}`, `conditions.resourceType: must be a string, is null`},
		{"params null", `{"rule":"R","resourceType":"t","params":null}`, `conditions.params: must be an object, is null`},
		{"params an array", `{"rule":"R","resourceType":"t","params":[1]}`,
			`conditions.params: must be an object, is an array`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			refused(t, mustDecode(t, test.json), test.want)
		})
	}
}

// What no JSON decoder hands over is refused too, not guessed at.
func TestParseRefusesWhatIsNoJSON(t *testing.T) {
	params := func(v any) any {
		return map[string]any{"rule": "R", "resourceType": "t", "params": map[string]any{"p": []any{v}}}
	}
	tests := []struct {
		name string
		of   any
		want string
	}{
		{"an integer", params(1), `conditions.params.p[0]: must be JSON, is a Go int`},
		{"a slice of strings", params([]string{"x"}), `conditions.params.p[0]: must be JSON, is a Go []string`},
		{"not a number", params(math.NaN()), `conditions.params.p[0]: NaN is no JSON number`},
		{"infinity", params(math.Inf(-1)), `conditions.params.p[0]: -Inf is no JSON number`},
		{"a number that is none", params(json.Number(`1,"x":2`)), `conditions.params.p[0]: must be a JSON number`},
		{"a number that is a string", params(json.Number(`"x"`)), `conditions.params.p[0]: must be a JSON number`},
		{"an empty number", params(json.Number(``)), `conditions.params.p[0]: must be a JSON number`},
		{"ill-formed text", params("\xff"), `conditions.params.p[0]: must be valid UTF-8`},
		{"ill-formed name", params(map[string]any{"\xff": 1}), `conditions.params.p[0]: must be valid UTF-8`},
		{"ill-formed rule", map[string]any{"rule": "\xff", "resourceType": "t"}, `conditions.rule: must be valid UTF-8`},
		{"a typed map", map[string]string{"rule": "R"}, `conditions: must be an object, is a Go map[string]string`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			refused(t, test.of, test.want)
		})
	}
}

func TestParseFloat(t *testing.T) {
	c, err := Parse(map[string]any{
		"rule": "R", "resourceType": "t",
		"params": map[string]any{"n": []any{1.0, 0.5, 1e21, json.Number("1.0")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"n":[1,0.5,1e+21,1.0]}`; c.Rule.Params != want {
		t.Errorf("got %s, want %s", c.Rule.Params, want)
	}
}

func TestParseBounds(t *testing.T) {
	var leaf any = map[string]any{"rule": "R", "resourceType": "t"}
	nested := func(levels int) any {
		v := leaf
		for range levels {
			v = map[string]any{"not": v}
		}
		return v
	}
	params := func(levels int) any {
		var v any = "x"
		for range levels {
			v = []any{v}
		}
		return map[string]any{"rule": "R", "resourceType": "t", "params": map[string]any{"p": v}}
	}
	wide := func(n int) any {
		list := make([]any, n)
		for i := range list {
			list[i] = leaf
		}
		return map[string]any{"anyOf": list}
	}
	tests := []struct {
		name    string
		of      any
		refusal string // how the error ends; empty where the tree is accepted
	}{
		{"as deep as may be", nested(MaxDepth - 1), ""},
		{"too deep", nested(MaxDepth), fmt.Sprintf(": nested deeper than %d", MaxDepth)},
		{"params as deep as may be", params(MaxDepth - 3), ""},
		{"params too deep", params(MaxDepth - 2), fmt.Sprintf("[0]: nested deeper than %d", MaxDepth)},
		{"as wide as may be", wide(MaxNodes - 1), ""},
		{"too wide", wide(MaxNodes), fmt.Sprintf("conditions.anyOf[%d]: more than %d nodes", MaxNodes-1, MaxNodes)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := Parse(test.of)
			switch {
			case test.refusal == "" && err != nil:
				t.Error(err)
			case test.refusal != "" && (err == nil || !strings.HasSuffix(err.Error(), test.refusal)):
				t.Errorf("got %v, want an error that ends in %q", err, test.refusal)
			}
		})
	}
}

func refused(t *testing.T, v any, want string) {
	t.Helper()
	c, err := Parse(v)
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if !c.Equal(Criteria{}) {
		t.Errorf("a tree came with the error: %s", c.AppendJSON(nil))
	}
}

// FuzzParse holds Parse, AppendJSON and Normalise against one another: what is
// accepted is written as what it was, and means the same once normal.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`null`, `{}`, `[]`, `"IS_OWNER"`,
		`{"rule":"IS_OWNER","resourceType":"todo-item","params":{"userId":"user:default/ann","n":[1.0,1e2,-0]}}`,
		`{"rule":"A","resourceType":"t","params":null}`,
		`{"anyOf":[]}`, `{"allOf":[]}`, `{"not":{"anyOf":[]}}`,
		`{"anyOf":[{"rule":"A","resourceType":"t"}],"allOf":[]}`,
		`{"allOf":[{"not":{"not":{"rule":"A","resourceType":"t"}}},{"anyOf":[{"rule":"B","resourceType":"t"},` +
			`{"rule":"A","resourceType":"t","params":{}},{"rule":"B","resourceType":"t"},{"allOf":[]}]}]}`,
	} {
		f.Add(seed, uint64(1))
	}
	f.Fuzz(func(t *testing.T, text string, world uint64) {
		v, err := decode(text)
		if err != nil {
			return
		}
		c, err := Parse(v)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "conditions") {
				t.Errorf("the error names no place: %v", err)
			}
			return
		}
		if again := reparse(t, c); !again.Equal(c) {
			t.Errorf("%s came back as %s", c.AppendJSON(nil), again.AppendJSON(nil))
		}
		normal := c.Normalise()
		checkNormal(t, normal, true)
		if again := normal.Normalise(); !again.Equal(normal) {
			t.Errorf("%s is normal, but became %s", normal.AppendJSON(nil), again.AppendJSON(nil))
		}
		for i := range uint64(8) {
			answer := func(r Rule) bool {
				return sha256.Sum256(fmt.Appendf(nil, "%d %q", world+i, r))[0]&1 == 0
			}
			if c.Eval(answer) != normal.Eval(answer) {
				t.Errorf("%s and its normal form %s differ", c.AppendJSON(nil), normal.AppendJSON(nil))
			}
		}
	})
}

func reparse(t *testing.T, c Criteria) Criteria {
	t.Helper()
	written := c.AppendJSON(nil)
	v, err := decode(string(written))
	if err != nil {
		t.Fatalf("wrote %s: %v", written, err)
	}
	again, err := Parse(v)
	if err != nil {
		t.Fatalf("wrote %s: %v", written, err)
	}
	return again
}

// checkNormal fails where c is not normal: a constant below the top, a list of
// fewer than two, or equal siblings.
func checkNormal(t *testing.T, c Criteria, top bool) {
	t.Helper()
	switch c.Op {
	case Never, Always:
		if !top {
			t.Error("a constant within a normal tree")
		}
	case AllOf, AnyOf:
		if len(c.Of) < 2 {
			t.Errorf("a list of %d", len(c.Of))
		}
		for i, x := range c.Of {
			for _, y := range c.Of[:i] {
				if x.Equal(y) {
					t.Errorf("equal siblings: %s", x.AppendJSON(nil))
				}
			}
		}
	}
	for _, child := range c.Of {
		checkNormal(t, child, false)
	}
}
