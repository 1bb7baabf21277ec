package policy

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"

	"github.com/stagedoor/stagedoor/adapter/wire"
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
	sortKeys(document)
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

// TestIndexOutlivesActivation exchanges what lies beside a wide object, and the wide
// object itself.
func TestIndexOutlivesActivation(t *testing.T) {
	s := newBundleServer(t)
	put := func(n int) {
		text := []byte(`{"groups": {`)
		for i := range wide {
			text = fmt.Appendf(text, `"g%d": %d, `, i, n)
		}
		s.put("left", archive(t, files{
			".manifest": manifest(strconv.Itoa(n), "a/left"), "a/left/data.json": string(text) + `"last": 0}}`,
		}))
	}
	put(1)
	s.put("policy", archive(t, files{".manifest": manifest("1", "a/policy"), "p.rego": `package a.policy

# METADATA
# entrypoint: true
default decision := {"result": "DENY"}

decision := {"result": "ALLOW"} if data.a.left.groups[sprintf("g%d", [count(input.identity.claims)])] == 2
`}))
	s.put("right", archive(t, side("right", 0)))
	e := newEngine(t, Options{OPA: opaFor(t, s, nil, "policy", "left", "right"), Library: map[string]string{}})
	e.mustFetch(t, "policy", "left", "right")
	first := e.State().data
	if len(first.indexes) != 1 {
		t.Fatalf("%d objects are indexed, of 1 that is wide", len(first.indexes))
	}
	groups := func(d *snapshot) ast.Object {
		v, err := d.Read(t.Context(), nil, storage.MustParsePath("/a/left/groups"))
		if err != nil {
			t.Fatal(err)
		}
		return v.(ast.Object)
	}
	s.put("right", archive(t, side("right", 1)))
	e.mustFetch(t, "right")
	if second := e.State().data; second == first || groups(second) != groups(first) ||
		reflect.ValueOf(second.indexes[groups(second)]).Pointer() != reflect.ValueOf(first.indexes[groups(first)]).Pointer() {
		t.Error("the index is not that of the object that stayed")
	}
	put(2)
	e.mustFetch(t, "left")
	third := e.State().data
	if len(third.indexes) != 1 || third.indexes[groups(third)] == nil {
		t.Error("the new object is not indexed, or the old one still is")
	}
	for d, want := range map[*snapshot]string{first: "1", third: "2"} {
		if v, err := d.Read(t.Context(), nil, storage.MustParsePath("/a/left/groups/g1")); err != nil || fmt.Sprint(v) != want {
			t.Errorf("g1 is %v, %v; want %s", v, err, want)
		}
	}
	e.wantAnswer(t, "x", wire.Allow)
}
