package rules

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

var owners = `{"type":"object","properties":{"claims":{"type":"array","items":{"type":"string"},"description":"who"}},` +
	`"required":["claims"],"$schema":"http://json-schema.org/draft-07/schema#"}`

// plainSchemas are schemas, and whether they are plain.
var plainSchemas = map[string]bool{
	owners: true,
	`{"type":"object","properties":{"key":{"type":"string"},"value":{"type":"string"}},"required":["key"]}`: true,
	`{"type":"object"}`: true,
	`{"type":"object","properties":{},"required":["a"]}`:                                                   true,
	`{"type":"object","required":["a","b"],"properties":{"a":{"type":"array","items":{"type":"string"}}}}`: true,
	`{}`:                                                     false,
	`{"type":"array"}`:                                       false,
	`{"type":["object","null"]}`:                             false,
	`{"type":"object","minProperties":1}`:                    false,
	`{"type":"object","not":{}}`:                             false,
	`{"type":"object","definitions":{}}`:                     false,
	`{"type":"object","properties":{"a":{}}}`:                false,
	`{"type":"object","properties":{"a":true}}`:              false,
	`{"type":"object","properties":{"a":{"type":"number"}}}`: false,
	`{"type":"object","properties":{"a":{"type":"string","minLength":1}}}`:                         false,
	`{"type":"object","properties":{"a":{"type":"string","enum":["x"]}}}`:                          false,
	`{"type":"object","properties":{"a":{"type":"array"}}}`:                                        false,
	`{"type":"object","properties":{"a":{"type":"array","items":{"type":"number"}}}}`:              false,
	`{"type":"object","properties":{"a":{"type":"array","items":[{"type":"string"}]}}}`:            false,
	`{"type":"object","properties":{"a":{"type":"array","items":{"type":"string"},"maxItems":1}}}`: false,
	`{"type":"object","properties":{"a":{"type":["string","null"]}}}`:                              false,
	`{"type":"object","properties":{"a":{"type":"string","$ref":"#/properties/b"}}}`:               false,
}

func read(t testing.TB, schema string) any {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(schema))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestPlainSchemas(t *testing.T) {
	for schema, want := range plainSchemas {
		if is := plainOf(read(t, schema)) != nil; is != want {
			t.Errorf("%s: plain %t", schema, is)
		}
	}
}

// plainParams are params that some of the schemas take.
var plainParams = []string{
	`{}`, `{"claims":[]}`, `{"claims":["a","b"]}`, ` { "claims" : [ "a" ] } `, `{"claims":"a"}`, `{"claims":[1]}`, `{"claims":[["a"]]}`,
	`{"claims":null}`, `{"claims":["a",null]}`, `{"Claims":["a"]}`, `{"key":"k","value":"v"}`, `{"key":"k","value":1}`, `{"key":"k"}`,
	`{"value":"v"}`, `{"key":"k","other":{"deep":[1]}}`, `{"a":["x"],"b":2}`, `{"a":"x","b":2}`, `{"b":2}`, `[]`, `null`, `"a"`, `1`, ``, `{`,
	`{"claims":["a"]}x`, `{"claims":["a"],"claims":"a"}`, `{"claims":"a","claims":["a"]}`, `{"claims":["\ud800"]}`, `{"claims":["a",]}`,
	`{"a":["x"]}`, `{"a":"x"}`, "{\"claims\":[\"\xff\"]}", `{"\u0063laims":["a"]}`, `{"a":["x"],"a":["x"],"b":1}`, `{"claims":["a"}`, `{"claims":["a"]`,
}

// agree holds a plain schema to the library. What it takes the library takes; and of JSON as
// it is usually written it takes all that the library does.
func agree(t *testing.T, schema, params string, usual bool) {
	t.Helper()
	p := plainOf(read(t, schema))
	if p == nil {
		return
	}
	compiled, err := compile(read(t, schema))
	if err != nil {
		return
	}
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(params))
	takes := err == nil && compiled.Validate(value) == nil
	if fits := p.fits(params); fits && !takes || usual && takes && !fits {
		t.Errorf("%s\n%s: fits %t, the library takes it: %t", schema, params, fits, takes)
	}
}

func TestPlainAgrees(t *testing.T) {
	for schema := range plainSchemas {
		for _, params := range plainParams {
			twice := strings.Count(params, `"claims"`) > 1 || strings.Count(params, `"a":`) > 1
			agree(t, schema, params, !twice && utf8.ValidString(params) && !strings.Contains(params, `\`))
		}
	}
}

func FuzzPlain(f *testing.F) {
	for schema := range plainSchemas {
		for _, params := range plainParams {
			f.Add(schema, params)
		}
	}
	f.Fuzz(func(t *testing.T, schema, params string) {
		if _, err := jsonschema.UnmarshalJSON(strings.NewReader(schema)); err == nil {
			agree(t, schema, params, false)
		}
	})
}
