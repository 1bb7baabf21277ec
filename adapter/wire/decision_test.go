package wire

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/stagedoor/stagedoor/adapter/criteria"
)

func rule(name string) criteria.Criteria {
	return criteria.Criteria{Op: criteria.Leaf, Rule: criteria.Rule{Name: name, ResourceType: "todo-item"}}
}

func anyOf(of ...criteria.Criteria) criteria.Criteria {
	return criteria.Criteria{Op: criteria.AnyOf, Of: of}
}

func allOf(of ...criteria.Criteria) criteria.Criteria {
	return criteria.Criteria{Op: criteria.AllOf, Of: of}
}

// decode reads JSON as OPA hands it over: numbers as they were written.
func decode(t *testing.T, text string) any {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("the test's JSON: %v", err)
	}
	return v
}

func TestParseDecision(t *testing.T) {
	todo := func(conditions string) string {
		return `{"result":"CONDITIONAL","pluginId":"todo","resourceType":"todo-item","conditions":` + conditions + `}`
	}
	conditional := func(c criteria.Criteria) Decision {
		return Decision{Result: Conditional, PluginID: "todo", ResourceType: "todo-item", Conditions: c}
	}
	const a = `{"rule":"A","resourceType":"todo-item"}`
	tests := []struct {
		name, json string
		want       Decision
		reason     string
	}{
		{"true", `true`, Decision{Result: Allow}, ""},
		{"false", `false`, Decision{Result: Deny}, ""},
		{"allow", `{"result":"ALLOW"}`, Decision{Result: Allow}, ""},
		{"deny", `{"result":"DENY"}`, Decision{Result: Deny}, ""},
		{"reason", `{"result":"DENY","reason":"frozen"}`, Decision{Result: Deny}, "frozen"},
		{"reason that is no text", `{"result":"ALLOW","reason":{"code":7}}`, Decision{Result: Allow}, ""},
		{"surplus", `{"result":"ALLOW","id":"7","pluginId":"todo","conditions":"none"}`, Decision{Result: Allow}, ""},
		{"conditional", todo(a), conditional(rule("A")), ""},
		{"conditional with a reason", `{"reason":"owners","id":1,` + todo(a)[1:], conditional(rule("A")), "owners"},
		{"as it stood", todo(`{"anyOf":[{"not":{"not":` + a + `}},` + a + `]}`), conditional(anyOf(
			criteria.Criteria{Op: criteria.Not, Of: []criteria.Criteria{
				{Op: criteria.Not, Of: []criteria.Criteria{rule("A")}},
			}}, rule("A"))), ""},
		{"one-element lists and duplicates stay", todo(`{"anyOf":[{"allOf":[` + a + `]},` + a + `,` + a + `]}`),
			conditional(criteria.Criteria{Op: criteria.AnyOf, Of: []criteria.Criteria{
				{Op: criteria.AllOf, Of: []criteria.Criteria{rule("A")}}, rule("A"), rule("A"),
			}}), ""},
		{"normalised where a list is empty", todo(`{"anyOf":[{"allOf":[` + a + `,{"allOf":[]}]},` + a + `]}`), conditional(rule("A")), ""},
		{"never", todo(`{"anyOf":[]}`), Decision{Result: Deny}, ""},
		{"always", todo(`{"allOf":[]}`), Decision{Result: Allow}, ""},
		{"not always", todo(`{"not":{"allOf":[]}}`), Decision{Result: Deny}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, reason, err := ParseDecision(decode(t, test.json))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got, cmpopts.IgnoreUnexported(Decision{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if reason != test.reason {
				t.Errorf("reason %q, want %q", reason, test.reason)
			}
		})
	}
}

// TestParseDecisionRefusesIllFormed has texts that no JSON gives but Rego can make.
func TestParseDecisionRefusesIllFormed(t *testing.T) {
	for _, member := range []string{"pluginId", "resourceType"} {
		document := map[string]any{
			"result": "CONDITIONAL", "pluginId": "p", "resourceType": "t",
			"conditions": map[string]any{"rule": "A", "resourceType": "t"},
		}
		document[member] = "\xff"
		d, _, err := ParseDecision(document)
		if want := "policy's answer: " + member + " must be valid UTF-8"; err == nil || err.Error() != want || d.Result != Deny {
			t.Errorf("got %v, %v, want the error %q", d, err, want)
		}
	}
}

func TestParseDecisionRefuses(t *testing.T) {
	const a = `{"rule":"A","resourceType":"todo-item"}`
	tests := []struct{ name, json, want string }{
		{"null", `null`, `policy's answer must be an object or a boolean, is null`},
		{"a bare result", `"ALLOW"`, `policy's answer must be an object or a boolean, is the string "ALLOW"`},
		{"a number", `1`, `policy's answer must be an object or a boolean, is the number 1`},
		{"an array", `[true]`, `policy's answer must be an object or a boolean, is an array of 1`},
		{"a long string", `"` + strings.Repeat("é", 100) + `\n"`,
			`policy's answer must be an object or a boolean, is the string "` + strings.Repeat("é", 20) + `…"`},
		{"a long number", strings.Repeat("1", 1000),
			`policy's answer must be an object or a boolean, is the number ` + strings.Repeat("1", 40) + `…`},
		{"empty", `{}`, `policy's answer: result is missing`},
		{"result in another case", `{"Result":"ALLOW"}`, `policy's answer: result is missing`},
		{"lower case", `{"result":"allow"}`,
			`policy's answer: result must be ALLOW, DENY or CONDITIONAL, is the string "allow"`},
		{"unknown", `{"result":"MAYBE"}`,
			`policy's answer: result must be ALLOW, DENY or CONDITIONAL, is the string "MAYBE"`},
		{"result true", `{"result":true}`, `policy's answer: result must be ALLOW, DENY or CONDITIONAL, is the boolean true`},
		{"result null", `{"result":null}`, `policy's answer: result must be ALLOW, DENY or CONDITIONAL, is null`},
		{"result an object", `{"result":{"result":"ALLOW"}}`,
			`policy's answer: result must be ALLOW, DENY or CONDITIONAL, is an object of 1 members`},
		{"result an array", `{"result":["ALLOW"]}`,
			`policy's answer: result must be ALLOW, DENY or CONDITIONAL, is an array of 1`},
		{"no pluginId", `{"result":"CONDITIONAL","resourceType":"t","conditions":` + a + `}`,
			`policy's answer: pluginId is missing, though the result is CONDITIONAL`},
		{"empty pluginId", `{"result":"CONDITIONAL","pluginId":"","resourceType":"t","conditions":` + a + `}`,
			`policy's answer: pluginId must be a non-empty string, is the string ""`},
		{"no resourceType", `{"result":"CONDITIONAL","pluginId":"p","conditions":` + a + `}`,
			`policy's answer: resourceType is missing, though the result is CONDITIONAL`},
		{"resourceType a number", `{"result":"CONDITIONAL","pluginId":"p","resourceType":1,"conditions":` + a + `}`,
			`policy's answer: resourceType must be a non-empty string, is the number 1`},
		{"no conditions", `{"result":"CONDITIONAL","pluginId":"p","resourceType":"t"}`,
			`policy's answer: conditions are missing, though the result is CONDITIONAL`},
		{"conditions null", `{"result":"CONDITIONAL","pluginId":"p","resourceType":"t","conditions":null}`,
			`policy's answer: conditions: must be an object, is null`},
		{"conditions a string", `{"result":"CONDITIONAL","pluginId":"p","resourceType":"t","conditions":"IS_OWNER"}`,
			`policy's answer: conditions: must be an object, is a string`},
		{"conditions of two operators",
			`{"result":"CONDITIONAL","pluginId":"p","resourceType":"t","conditions":{"allOf":[],"anyOf":[]}}`,
			`policy's answer: conditions: must have only one of rule, anyOf, allOf and not, has anyOf and allOf`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d, reason, err := ParseDecision(decode(t, test.json))
			if err == nil || err.Error() != test.want {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
			if d.Result != Deny || d.Conditions.Of != nil || d.Text() != `{"result":"DENY"}` || reason != "" {
				t.Errorf("%v %q came with the error", d, reason)
			}
		})
	}
}

func TestParseDecisionRefusesGoValues(t *testing.T) {
	for _, v := range []any{1, Allow, Decision{Result: Allow}, map[string]bool{"result": true}, []string{"ALLOW"}} {
		if d, _, err := ParseDecision(v); err == nil || d.Result != Deny {
			t.Errorf("%#v: got %v, %v", v, d.Result, err)
		}
	}
}

func TestDecisionJSON(t *testing.T) {
	const todo = `{"result":"CONDITIONAL","pluginId":"to\"do","resourceType":"todo-item",` +
		`"conditions":{"rule":"A","resourceType":"todo-item"}}`
	tests := []struct {
		name string
		of   Decision
		want string
	}{
		{"zero", Decision{}, `{"result":"DENY"}`},
		{"allow", Decision{Result: Allow}, `{"result":"ALLOW"}`},
		{"unknown", Decision{Result: 9}, `{"result":"DENY"}`},
		{"conditional", NewConditional(`to"do`, "todo-item", rule("A")), todo},
		{"conditional by hand", Decision{Result: Conditional, PluginID: `to"do`, ResourceType: "todo-item",
			Conditions: rule("A")}, todo},
		{"always", NewConditional("todo", "todo-item", allOf()), `{"result":"ALLOW"}`},
		{"never", NewConditional("todo", "todo-item", anyOf()), `{"result":"DENY"}`},
		{"forgotten", NewConditional("todo", "todo-item", criteria.Criteria{}), `{"result":"DENY"}`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := json.Marshal(test.of)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, string(got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.want, test.of.Text()); diff != "" {
				t.Errorf("as text (-want +got):\n%s", diff)
			}
		})
	}
}

func TestResultText(t *testing.T) {
	for result, want := range map[Result]string{Deny: "DENY", Allow: "ALLOW", Conditional: "CONDITIONAL", 9: "DENY"} {
		if got := result.String(); got != want {
			t.Errorf("%d is %s, want %s", result, got, want)
		}
	}
}
