package vetted

import (
	"encoding/json"
	"fmt"
	"strconv"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
)

// distinctMembers is how many of the members of wideDocument's /wide are not equal.
const distinctMembers = 100

// wideDocument has three wide objects, in an object, in a list and in a wide one,
// and one that is not quite wide.
func wideDocument(t *testing.T) (ast.Value, []storage.Path) {
	t.Helper()
	members, texts, inner, almost := map[string]any{}, map[string]any{}, map[string]any{}, map[string]any{}
	for i := range wide {
		inner[strconv.Itoa(i)] = i
		if i > 0 {
			almost[strconv.Itoa(i)] = i
		}
		members[fmt.Sprint("m", i)] = map[string]any{"list": []any{i % distinctMembers, "x"}}
		texts[strconv.Itoa(i)] = fmt.Sprint("more than are shared ", i)
	}
	narrow := map[string]any{"a": map[string]any{"b": true}}
	// What OPA takes for equal, or has the same hash of, and is not the same.
	for i, v := range []any{
		json.Number("1"), json.Number("1.0"), json.Number("100"), json.Number("1e2"), json.Number("0"), json.Number("-0"),
		json.Number("0.1"), json.Number("0.7"), []any{"viewer", "admin"}, []any{"admin", "viewer"},
		[]any{json.Number("1"), json.Number("3")}, []any{json.Number("2"), json.Number("2")}, []any{json.Number("1.0"), json.Number("3")},
		map[string]any{"a": 1, "b": 2}, map[string]any{"a": 2, "b": 1},
	} {
		members[fmt.Sprint("a", i)] = v // sorted before all others
	}
	texts["narrow"], members["narrow"], members["zz"] = narrow, narrow, inner
	document, err := ast.InterfaceToValue(map[string]any{
		"wide": members, "narrow": narrow, "list": []any{texts, narrow, nil}, "null": nil, "almost": almost,
	})
	if err != nil {
		t.Fatal(err)
	}
	paths := []storage.Path{
		{}, {"absent"}, {"wide", "absent"}, {"wide", ""}, {"list", "x"}, {"list", "0", "absent"}, {"list", "3"},
		{"wide", "narrow", "a", "b", "c"}, {"null", "x"}, {"list", "2", "x"}, {"list", "0", "1", "x"},
	}
	var visit func(ast.Value, storage.Path)
	visit = func(v ast.Value, at storage.Path) {
		paths = append(paths, at)
		switch v := v.(type) {
		case ast.Object:
			v.Foreach(func(key, value *ast.Term) {
				visit(value.Value, append(at[:len(at):len(at)], string(key.Value.(ast.String))))
			})
		case *ast.Array:
			for i := range v.Len() {
				visit(v.Elem(i).Value, append(at[:len(at):len(at)], strconv.Itoa(i)))
			}
		}
	}
	visit(document, nil)
	return document, paths
}

// TestIndexedReadsAgree reads everything with the indexes and without, and what is
// not there.
func TestIndexedReadsAgree(t *testing.T) {
	document, paths := wideDocument(t)
	plain, indexed := &snapshot{root: document}, &snapshot{root: document, indexes: indexWide(document, nil)}
	if n := len(indexed.indexes); n != 3 {
		t.Fatalf("%d objects are indexed, of 3 that are wide", n)
	}
	for _, path := range paths {
		want, wantErr := plain.Read(t.Context(), nil, path)
		got, err := indexed.Read(t.Context(), nil, path)
		if fmt.Sprint(err) != fmt.Sprint(wantErr) {
			t.Fatalf("%v: error %v, without an index %v", path, err, wantErr)
		}
		if err == nil && fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("%v is %v, without an index %v", path, got, want)
		}
	}
}

func TestIndexSharesEqualValues(t *testing.T) {
	document, _ := wideDocument(t)
	s := &snapshot{root: document, indexes: indexWide(document, nil)}
	list := func(member string) *ast.Array {
		v, err := s.Read(t.Context(), nil, storage.Path{"wide", member})
		if err != nil {
			t.Fatal(err)
		}
		return v.(ast.Object).Get(ast.StringTerm("list")).Value.(*ast.Array)
	}
	distinct := map[*ast.Array]bool{}
	for i := range wide {
		distinct[list(fmt.Sprint("m", i))] = true
	}
	if len(distinct) != distinctMembers {
		t.Errorf("%d values where %d are distinct", len(distinct), distinctMembers)
	}
}
