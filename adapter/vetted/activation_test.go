package vetted_test

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"

	"github.com/stagedoor/stagedoor/adapter/fixture"
	"github.com/stagedoor/stagedoor/adapter/vetted"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// TestWideOutlivesActivation exchanges what lies beside a wide object, and the wide
// object itself.
func TestWideOutlivesActivation(t *testing.T) {
	s := fixture.NewServer(t)
	put := func(n int) {
		text := []byte(`{"groups": {`)
		for i := range 10_000 {
			text = fmt.Appendf(text, `"g%d": %d, `, i, n)
		}
		s.Put("left", fixture.Archive(t, fixture.Files{
			".manifest": fixture.Manifest(strconv.Itoa(n), "a/left"), "a/left/data.json": string(text) + `"last": 0}}`,
		}))
	}
	put(1)
	s.Put("policy", fixture.Archive(t, fixture.Files{".manifest": fixture.Manifest("1", "a/policy"), "p.rego": `package a.policy

# METADATA
# entrypoint: true
default decision := {"result": "DENY"}

decision := {"result": "ALLOW"} if data.a.left.groups[sprintf("g%d", [count(input.identity.claims)])] == 2
`}))
	right := func(n int) fixture.Files {
		return fixture.Files{".manifest": fixture.Manifest(strconv.Itoa(n), "a/right"), "a/right/data.json": fmt.Sprintf(`{"n": %d}`, n)}
	}
	s.Put("right", fixture.Archive(t, right(0)))
	e := fixture.New(t, fixture.Options{OPA: fixture.OPA(t, s, nil, "policy", "left", "right"), Library: map[string]string{}})
	e.MustFetch(t, "policy", "left", "right")
	first := e.State()
	read := func(s *vetted.State, path storage.Path) (any, error) {
		store, txn := s.Data()
		return store.Read(t.Context(), txn, path)
	}
	groups := func(s *vetted.State) ast.Object {
		v, err := read(s, storage.MustParsePath("/a/left/groups"))
		if err != nil {
			t.Fatal(err)
		}
		return v.(ast.Object)
	}
	s.Put("right", fixture.Archive(t, right(1)))
	e.MustFetch(t, "right")
	if second := e.State(); second == first || groups(second) != groups(first) {
		t.Error("the wide object is not the one that stayed")
	}
	put(2)
	e.MustFetch(t, "left")
	third := e.State()
	if groups(third) == groups(first) {
		t.Error("the wide object is the one that was exchanged")
	}
	for state, want := range map[*vetted.State]string{first: "1", third: "2"} {
		if v, err := read(state, storage.MustParsePath("/a/left/groups/g1")); err != nil || fmt.Sprint(v) != want {
			t.Errorf("g1 is %v, %v; want %s", v, err, want)
		}
	}
	e.WantAnswer(t, "x", wire.Allow)
}
