package rules

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// metadata is that of a plugin, as the tests of conditions serve it.
func metadata(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile("../testdata/metadata.json")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestReadRefuses(t *testing.T) {
	for _, body := range []string{
		``, `null`, `[]`, `{}`, `{"rules":null}`, `{"rules":{}}`, `{"Rules":[]}`, `{"rules":[{"name":"A"}]}`,
		`{"rules":[{"resourceType":"a"}]}`, `{"rules":[{"name":1,"resourceType":"a"}]}`, `{"rules":[null]}`, `{"rules":[]}x`,
	} {
		if set, err := Read([]byte(body)); err == nil || set != nil {
			t.Errorf("%s: %v, %v", body, set, err)
		}
	}
}

// A schema can make stagedoor read nothing else.
func TestSchemasReferToNothingOutside(t *testing.T) {
	file := filepath.Join(t.TempDir(), "schema.json")
	if err := os.WriteFile(file, []byte(`{"type":"object"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{"file://" + file, "http://127.0.0.1:1/x", "other.json"} {
		const body = `{"rules":[{"name":"A","resourceType":"a","paramsSchema":{"$ref":%q}}]}`
		set, err := Read(fmt.Appendf(nil, body, ref))
		if err != nil || len(set.Problems) != 1 {
			t.Errorf("%s: %v, %v", ref, set, err)
		}
	}
}

// doubling is a schema in which each of n definitions refers twice to the next.
func doubling(n int) string {
	var s strings.Builder
	s.WriteString(`{"$ref":"#/definitions/d0","definitions":{`)
	for i := range n {
		fmt.Fprintf(&s, `"d%d":{"allOf":[{"$ref":"#/definitions/d%d"},{"$ref":"#/definitions/d%[2]d"}]},`, i, i+1)
	}
	fmt.Fprintf(&s, `"d%d":{"type":"object"}}}`, n)
	return s.String()
}

// A schema that multiplies cannot keep requests waiting.
func TestSchemasThatMultiply(t *testing.T) {
	for name, test := range map[string]struct {
		schema string
		bad    bool
	}{
		"some levels":   {doubling(10), false},
		"many levels":   {doubling(26), true},
		"wide":          {`{"anyOf":[` + strings.Repeat(`{"type":"array"},`, maxVisits) + `{"type":"object"}]}`, true},
		"shared":        {`{"properties":{"a":{"items":{"not":{}}},"b":{"$ref":"#/properties/a"},"c":{"$ref":"#/properties/a"}}}`, false},
		"itself":        {`{"$ref":"#"}`, true},
		"itself within": {`{"type":"object","properties":{"a":{"$ref":"#"}}}`, true},
		"each other": {`{"$ref":"#/definitions/a","definitions":{"a":{"items":{"$ref":"#/definitions/b"}},` +
			`"b":{"items":[{"$ref":"#/definitions/a"}]}}}`, true},
		"unused": {`{"definitions":{"a":{"items":{"$ref":"#/definitions/a"}}}}`, false},
		"by id": {`{"$ref":"http://x/y","definitions":{"a":{"$id":"http://x/y","items":` +
			`{"$ref":"y"}}}}`, true},
		"dynamic": {`{"$schema":"https://json-schema.org/draft/2020-12/schema","$dynamicAnchor":"a",` +
			`"items":{"$dynamicRef":"#a"}}`, true},
		"recursive": {`{"$schema":"https://json-schema.org/draft/2019-09/schema","items":{"$recursiveRef":"#"}}`, true},
	} {
		t.Run(name, func(t *testing.T) {
			body := `{"rules":[{"name":"A","resourceType":"a","paramsSchema":` + test.schema + `}]}`
			set, err := Read([]byte(body))
			if err != nil {
				t.Fatal(err)
			}
			rule := set.rules[ruleName{"a", "A"}]
			if (rule.schema == nil) != test.bad || rule.wantsParams {
				t.Errorf("rule %+v", rule)
			}
			if rule.schema != nil {
				_ = rule.checkParams(`{"a":{}}`)
			}
			want := `[]`
			if test.bad {
				want = `[rule "A" of resource type "a": paramsSchema: refers to itself too often]`
			}
			if got := fmt.Sprint(set.Problems); got != want {
				t.Errorf("problems %s; want %s", got, want)
			}
		})
	}
}

// Whatever the library may put a schema into is followed.
func TestAllSubschemasAreFollowed(t *testing.T) {
	sub := &jsonschema.Schema{}
	for field, value := range reflect.ValueOf(jsonschema.Schema{}).Fields() {
		if !field.IsExported() {
			continue
		}
		var values []any
		switch value.Interface().(type) {
		case *jsonschema.Schema:
			values = []any{sub}
		case []*jsonschema.Schema:
			values = []any{[]*jsonschema.Schema{sub}}
		case map[string]*jsonschema.Schema:
			values = []any{map[string]*jsonschema.Schema{"a": sub}}
		case map[jsonschema.Regexp]*jsonschema.Schema:
			values = []any{map[jsonschema.Regexp]*jsonschema.Schema{nil: sub}}
		case map[string]any:
			values = []any{map[string]any{"a": sub}}
		case *jsonschema.DynamicRef:
			values = []any{&jsonschema.DynamicRef{Ref: sub}}
		default:
			if field.Type.Kind() == reflect.Interface && field.Type.NumMethod() == 0 {
				values = []any{sub, []*jsonschema.Schema{sub}}
			}
		}
		for _, v := range values {
			s := &jsonschema.Schema{}
			reflect.ValueOf(s).Elem().FieldByIndex(field.Index).Set(reflect.ValueOf(v))
			if n := visits(s, map[*jsonschema.Schema]int{}); n < 2 {
				t.Errorf("%s of type %T is not followed", field.Name, v)
			}
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(metadata(f), `{"refs":["a"]}`)
	for _, schema := range []string{
		`false`, `{"$ref":"#"}`, `{"type":"object","properties":{"a":{"$ref":"#"}}}`,
		`{"$id":"http://x/","properties":{"a":{"$ref":"#/definitions/b"}},"definitions":{"b":{"$ref":"#/properties/a"}}}`,
	} {
		f.Add([]byte(`{"rules":[{"name":"A","resourceType":"a","paramsSchema":`+schema+`}]}`), `{"a":{}}`)
	}
	f.Fuzz(func(t *testing.T, body []byte, params string) {
		set, err := Read(body)
		if err != nil {
			return
		}
		for name, rule := range set.rules {
			if rule.schema != nil {
				_ = rule.checkParams(params)
			} else if rule.wantsParams {
				t.Errorf("rule %v wants params of which nothing is known", name)
			}
		}
	})
}

func BenchmarkParams(b *testing.B) {
	rules, err := Read(metadata(b))
	if err != nil {
		b.Fatal(err)
	}
	rule := rules.rules[ruleName{"thing", "ONE_OF"}]
	b.ReportAllocs()
	for b.Loop() {
		if err := rule.checkParams(`{"refs":["group:default/team-1"]}`); err != nil {
			b.Fatal(err)
		}
	}
}
