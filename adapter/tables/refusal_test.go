package tables_test

import (
	"testing"
	"testing/fstest"

	"github.com/stagedoor/stagedoor/adapter/tables"
)

// TestRefusals says what is wrong with a table in the words of its author.
func TestRefusals(t *testing.T) {
	const row = "rows: [{may: a.b, who: ann, expect: ALLOW}]\n"
	for name, tc := range map[string]struct {
		text, want string
	}{
		"a member of a caller": {
			"callers:\n  ann:\n    group: [group:default/a]\n" + row,
			"t:3: callers.ann has no member group (groups?)",
		},
		"a member far from all": {
			"callers: {ann: {lives: here}}\n" + row,
			"t:1: callers.ann has no member lives; it has actor, groups, signedOut, user",
		},
		"groups as a text": {
			"callers:\n  ann:\n    groups: group:default/a\n" + row, "t:3: callers.ann.groups is a text; write a list",
		},
		"no caller":         {"callers: {ann: }\n" + row, "t:1: callers.ann is empty; write a mapping"},
		"a list of callers": {"callers: [ann]\n" + row, "t:1: callers is a list; write a mapping"},
		"a member of a row": {
			"callers: {ann: {}}\nrows:\n  - may: a.b\n    who: ann\n    expects: ALLOW\n", "t:5: the row has no member expects (expect?)",
		},
		"a row without": {"callers: {ann: {}}\nrows:\n  - {may: a.b, who: ann}\n", "t:3: the row needs expect"},
		"who as a mapping": {
			"callers: {ann: {}}\nrows:\n  - {may: a.b, who: {ann: 1}, expect: DENY}\n", "t:3: who is a mapping; write a text or a list",
		},
		"who of numbers": {
			"callers: {ann: {}}\nrows:\n  - {may: a.b, who: [1], expect: DENY}\n", "t:3: who.0 is a number; write a text",
		},
		"nobody": {"callers: {ann: {}}\nrows:\n  - {may: a.b, who: [], expect: DENY}\n", "t:3: who is empty"},
		"true as an answer": {
			"callers: {ann: {}}\nrows:\n  - {may: a.b, who: ann, expect: true}\n", "t:3: expect is true or false; write a text or a mapping",
		},
		"criteria without a rule": {
			"callers: {ann: {}}\nrows:\n  - {may: a.b, who: ann, expect: {params: {}}}\n",
			"t:3: expect needs one of rule, allOf, anyOf, not",
		},
		"criteria of two kinds": {
			"callers: {ann: {}}\nrows:\n  - may: a.b\n    who: ann\n    expect: {rule: A, not: {rule: B}}\n",
			"t:5: expect is several things at once; write one of rule, allOf, anyOf, not",
		},
		"a rule below misspelt": {
			"never:\n  - {may: a.b, when: {allOf: [{rul: A}]}}\n", "t:2: when.allOf.0 has no member rul (rule?)",
		},
		"rows as a mapping": {"rows: {may: a.b}\n", "t:1: rows is a mapping; write a list"},
		"a row as a text":   {"rows: [a.b]\n", "t:1: the row is a text; write a mapping"},
		"except for nobody": {
			"never:\n  - {may: a.b, except: admins}\n",
			`t:2: except: "admins" is no full entity reference, so that it is nobody; write it as in group:default/web`,
		},
		"a second document": {
			row + "---\n" + row, "t:2: a second document, whose rows nobody would ask; write one only, or a file for each",
		},
		"a second document that is none": {row + "---\na: [\n", "t:3: did not find expected node content"},
		"a file that is misspelt": {
			"resources:\n  shop: {flie: shop.yaml}\n" + row,
			"t:2: resource shop: has flie alone, which no resource is: write {file: …} with the name of a file",
		},
		"a list": {"- a\n", "t:1: the table is a list; write a mapping"},
		"twice":  {"rows: []\nrows: []\n", `t:2: mapping key "rows" already defined at line 1`},
	} {
		t.Run(name, func(t *testing.T) {
			files := fstest.MapFS{"t.decisions.yaml": {Data: []byte(tc.text)}}
			if _, err := tables.Read(files, "t.decisions.yaml", "t"); err == nil || err.Error() != tc.want {
				t.Errorf("got  %v\nwant %s", err, tc.want)
			}
		})
	}
}
