package installation

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestReadCSV holds single lines to what the plugin's reader makes of them: a line, a
// member, or nothing. What it would take for something else, or skip, is refused here.
func TestReadCSV(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"quotes inside quotes", `p, role:default/a, x, read, """deny"""`, "p, role:default/a, x, read, deny"},
		{"two quotes for one, twice", `p, role:default/a, "a""""b", read, deny`, `p, role:default/a, a"b, read, deny`},
		{"a quoted kind", `"p", role:default/a, x, read, deny`, "p, role:default/a, x, read, deny"},
		{"white space of JavaScript", "\u2003p,\u00a0role:default/a,\ufeffx , read\u3000,deny\ufeff\u2028", "p, role:default/a, x, read, deny"},
		{"white space in quotes", "p, role:default/a, x, read,\u00a0\"\u00a0deny\u00a0\"\ufeff", "p, role:default/a, x, read, deny"},
		{"a next line is none", "p, role:default/a, x, read, allow\u0085", "p, role:default/a, x, read, allow\u0085"},
		{"a mark of byte order after a space", " \ufeff g, user:default/ann, role:default/a", "g, user:default/ann, role:default/a"},
		{"a member with capitals", "g, user:default/Ann, role:default/a", "g, user:default/ann, role:default/a"},
		{"a quoted member with capitals", `g, "user:default/Ann", role:default/a`, "g, user:default/ann, role:default/a"},
		{"a member after a quoted g", `"g", user:default/Ann, role:default/a`, "g, user:default/Ann, role:default/a"},
		{"a capital that becomes two letters", "g, user:default/\u0130an, role:default/a", "g, user:default/i\u0307an, role:default/a"},
		{"a sign that becomes a letter", "g, user:default/\u212Aarl, role:default/a", "g, user:default/karl, role:default/a"},
		{"a whole parenthesis in quotes", `p, role:default/a, "x(y)", read, deny`, "p, role:default/a, x(y), read, deny"},
		{"half a parenthesis in quotes", `p, role:default/a, "x(", read, deny`, `error: a parenthesis inside "x(" that is not closed`},
		{"a parenthesis the wrong way", `p, role:default/a, ")x(", read, deny`, `error: a parenthesis inside ")x(" that is not closed`},
		{"a lone return", "p, role:default/a, x, read, deny\r#x", "error: a carriage return inside the line"},
		{"a comment before a lone return", "# all\rp, role:default/a, x, read, deny", "error: a carriage return inside the line"},
		{"returns at the end", "p, role:default/a, x, read, deny\r\r", "p, role:default/a, x, read, deny"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			lines, bindings, _, refused := readCSV("f", []byte(tc.text))
			var got []string
			for _, l := range lines {
				got = append(got, l.String())
			}
			for _, b := range bindings {
				got = append(got, fmt.Sprintf("g, %s, %s", b.Member, b.Role))
			}
			for _, r := range refused {
				got = append(got, "error: "+r.Text)
			}
			if len(got) != 1 || !strings.HasPrefix(got[0], tc.want) || len(refused) == 0 && got[0] != tc.want {
				t.Errorf("%q, want %q", got, tc.want)
			}
		})
	}
}

// TestReadPolicies holds scalars to what the plugin's reader makes of them, that of YAML
// 1.2, and what it refuses to a refusal.
func TestReadPolicies(t *testing.T) {
	for value, want := range map[string]any{
		"12": 12.0, "010": 10.0, "-7": -7.0, "0o17": 15.0, "0x1F": 31.0, "1e3": 1000.0, ".5": 0.5, "1.": 1.0, "-0": 0.0,
		"12345678901234567890": 12345678901234567890.0, "9007199254740993": 9007199254740992.0,
		"1_000": "1_000", "0b11": "0b11", "0x": "0x", "2020-01-01": "2020-01-01", "1:30": "1:30", "yes": "yes", "=": "=",
		`"12"`: "12", "!!str 12": "12", "!!int '12'": 12.0, "True": true, "~": nil, "NULL": nil,
		".inf": nil, "-.INF": nil, ".NaN": nil, "1e400": nil,
	} {
		policies, refused := readPolicies("f", []byte(policyWith("{v: "+value+"}")), defaultBounds)
		if len(refused) > 0 {
			t.Errorf("%s: %v", value, refused)
			continue
		}
		params, _ := policies[0].Condition.Params.Plain().(map[string]any)
		if got, ok := params["v"]; !ok || got != want {
			t.Errorf("%s is %#v, want %#v", value, got, want)
		}
	}
	for _, value := range []string{
		"!foo x", "!!binary aGk=", "!!bool 'yes'", "!!int x", "!!null x", "!!set {x, y}", "!foo {}", "!foo [x]", "!!str {}",
		"{<<: {a: b}}", "{? [a] : b}", "&x [*x]",
	} {
		_, refused := readPolicies("f", []byte(policyWith("{v: "+value+"}")), defaultBounds)
		if len(refused) != 1 || refused[0].Line != 6 {
			t.Errorf("%s: %v", value, refused)
		}
	}
}

func policyWith(params string) string {
	return "result: CONDITIONAL\nroleEntityRef: role:default/a\npluginId: p\nresourceType: t\npermissionMapping: [read]\n" +
		"conditions: {rule: R, resourceType: t, params: " + params + "}\n"
}

// TestAliasesAreBounded reads a document that aliases make larger than a machine.
func TestAliasesAreBounded(t *testing.T) {
	var text strings.Builder
	text.WriteString("x0: &x0 [a]\n")
	for i := range 9 {
		fmt.Fprintf(&text, "x%d: &x%d [%s]\n", i+1, i+1, strings.Join(slices.Repeat([]string{fmt.Sprintf("*x%d", i)}, 9), ", "))
	}
	_, refused := readPolicies("f", []byte(text.String()), defaultBounds)
	if len(refused) != 1 || !strings.Contains(refused[0].Text, "aliases make") {
		t.Errorf("%v", refused)
	}
}
