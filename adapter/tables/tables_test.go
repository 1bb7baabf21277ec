package tables_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stagedoor/stagedoor/adapter/tables"
)

// FuzzRead reads whatever an author may write. What is wrong has a line of the file, and
// what is right reads the same again.
func FuzzRead(f *testing.F) {
	for _, seed := range []string{
		"callers:\n  ann: {groups: [group:default/a]}\n  out: {signedOut: true}\nresources:\n  site: {kind: Component}\n" +
			"rows:\n  - {caller: ann, may: [catalog.entity.read], on: site, expect: allow}\nnever:\n  - {may: catalog.entity.delete, except: ann}\n",
		"rows:\n  - may: x\n    when: {rule: IS_ENTITY_KIND, resourceType: catalog-entity, params: {kinds: [API]}}\n",
		"callers: &c\n  ann: *c\n", "a: &a [*a]\n", "callers: {? [x] : y}\n", "rows: [&r {caller: ann}, *r, <<: *r]\n",
		"resources: {a: file.json, b: ../b.json, c: [1, 2]}\n", "", "---\n---\n", "rows: !!binary aGk=\n", "\xff\xfe", "\t",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		files := fstest.MapFS{
			"a.decisions.yaml": {Data: []byte(text)}, "file.json": {Data: []byte(`{"kind": "Component"}`)},
		}
		table, err := tables.Read(files, "a.decisions.yaml", "called")
		if err != nil {
			e, is := errors.AsType[*tables.Error](err)
			switch {
			case !is:
				t.Fatalf("an error without a place: %v", err)
			case e.File != "called" || e.Text == "":
				t.Errorf("error %q", e)
			case e.Line < 1 || e.Line > strings.Count(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(text), "\n")+2:
				t.Errorf("%v has line %d", e, e.Line)
			}
			return
		}
		again, err := tables.Read(files, "a.decisions.yaml", "called")
		if err != nil || !reflect.DeepEqual(table, again) {
			t.Errorf("read again: %v", err)
		}
	})
}
