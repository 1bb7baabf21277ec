package document_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"

	"github.com/stagedoor/stagedoor/adapter/document"
)

// chance makes random paths and values, of few names so that they meet.
type chance struct{ *rand.Rand }

func (c chance) path() storage.Path {
	path := storage.Path{}
	for range c.IntN(5) {
		path = append(path, []string{"a", "b", "c", "0", "1", "2", "-", "x y"}[c.IntN(8)])
	}
	return path
}

func (c chance) value(depth int) any {
	switch kind := c.IntN(9); {
	case kind < 3 && depth > 0:
		object := map[string]any{}
		for range c.IntN(4) {
			object[[]string{"a", "b", "c", "0", "1"}[c.IntN(5)]] = c.value(depth - 1)
		}
		return object
	case kind < 5 && depth > 0:
		array := []any{}
		for range c.IntN(4) {
			array = append(array, c.value(depth-1))
		}
		return array
	case kind == 6:
		return json.Number([]string{"1", "1.0", "1e0", "2"}[c.IntN(4)])
	case kind == 7:
		return nil
	case kind == 8:
		return c.IntN(2) == 0
	}
	return fmt.Sprint("text ", c.IntN(3))
}

// code is the code of a storage's error.
func code(err error) string {
	if e, is := err.(*storage.Error); is { //nolint:errorlint // stores wrap none
		return e.Code
	}
	return fmt.Sprint(err)
}

// everyPath visits all paths of a value.
func everyPath(v ast.Value, at storage.Path, visit func(storage.Path, string)) {
	visit(at, v.String())
	switch v := v.(type) {
	case ast.Object:
		v.Foreach(func(key, value *ast.Term) {
			everyPath(value.Value, append(at[:len(at):len(at)], string(key.Value.(ast.String))), visit)
		})
	case *ast.Array:
		for i := range v.Len() {
			everyPath(v.Elem(i).Value, append(at[:len(at):len(at)], strconv.Itoa(i)), visit)
		}
	}
}

func valuesOf(t *testing.T, d *document.Document) map[string]string {
	t.Helper()
	root, ok := d.Read(nil)
	if !ok {
		t.Fatal("there is no root")
	}
	values := map[string]string{}
	everyPath(root, storage.Path{}, func(path storage.Path, text string) {
		values[strings.Join(path, "\x00/")] = text
		if v, ok := d.Read(path); !ok || v.String() != text {
			t.Fatalf("%s is read as %v, and the whole has %s", path, v, text)
		}
	})
	return values
}

// TestAsOPAsStore writes at random into a document and OPA's in-memory store, reads both,
// and holds each version to what it was, and differences to what differs.
func TestAsOPAsStore(t *testing.T) {
	for seed := range uint64(300) {
		c := chance{rand.New(rand.NewPCG(seed, 1))}
		theirs := inmem.NewWithOpts(inmem.OptReturnASTValuesOnRead(true))
		ours := document.New()
		for range 12 {
			before := ours
			was := before.String()
			edit := before.Edit()
			for range c.IntN(6) {
				op, path, value := []storage.PatchOp{storage.AddOp, storage.ReplaceOp, storage.RemoveOp}[c.IntN(3)], c.path(), c.value(3)
				makes := c.IntN(8) == 0
				got := edit.MakeDir
				if !makes {
					got = func(path storage.Path) error { return edit.Write(op, path, value) }
				}
				want := storage.Txn(t.Context(), theirs, storage.WriteParams, func(txn storage.Transaction) error {
					if makes {
						return storage.MakeDir(t.Context(), theirs, txn, path)
					}
					return theirs.Write(t.Context(), txn, op, path, value)
				})
				if got := got(path); code(got) != code(want) {
					t.Fatalf("seed %d: %v %q %v, makes %t: error %v, want %v", seed, op, path, value, makes, got, want)
				}
			}
			ours = edit.Document()
			want, err := storage.ReadOne(t.Context(), theirs, storage.RootPath)
			if err != nil {
				t.Fatal(err)
			}
			if got, _ := ours.Read(nil); got.String() != want.(ast.Value).String() {
				t.Fatalf("seed %d: got\n%s\nwant\n%s", seed, got, want)
			}
			if now := before.String(); now != was {
				t.Fatalf("seed %d: the version before was\n%s\nand is\n%s", seed, was, now)
			}
			holdDifferences(t, before, ours, edit.Touched())
		}
	}
}

func holdDifferences(t *testing.T, before, after *document.Document, touched []storage.Path) {
	t.Helper()
	told, all := document.Differences(before, after, touched, 1000)
	if !all {
		t.Fatal("there are too many differences")
	}
	old, now := valuesOf(t, before), valuesOf(t, after)
	covers := func(path string) bool {
		p := storage.Path(strings.Split(path, "\x00/"))
		if path == "" {
			p = nil
		}
		for _, at := range told {
			if p.HasPrefix(at) || at.HasPrefix(p) {
				return true
			}
		}
		return false
	}
	for _, at := range told {
		if old[strings.Join(at, "\x00/")] == now[strings.Join(at, "\x00/")] {
			t.Errorf("%s is told as different, and is %s in both", at, old[strings.Join(at, "\x00/")])
		}
	}
	for path, text := range old {
		if now[path] != text && !covers(path) {
			t.Errorf("%s was %s, is %s, and is not told: %v", path, text, now[path], told)
		}
	}
	for path, text := range now {
		if old[path] != text && !covers(path) {
			t.Errorf("%s was %s, is %s, and is not told: %v", path, old[path], text, told)
		}
	}
	if _, all := document.Differences(before, after, touched, len(told)-1); all && len(told) > 0 {
		t.Error("more differences are told than may be")
	}
}

// wideDocument has two wide objects, one in the other.
func wideDocument(t testing.TB) *document.Document {
	t.Helper()
	members, inner := map[string]any{}, map[string]any{}
	for i := range document.Wide {
		inner[strconv.Itoa(i)] = json.Number(strconv.Itoa(i))
		members[fmt.Sprint("m", i)] = map[string]any{"list": []any{json.Number(strconv.Itoa(i % 100)), "x"}}
	}
	members["one"], members["exactly one"], members["inner"] = json.Number("1"), json.Number("1.0"), inner
	edit := document.New().Edit()
	for path, value := range map[string]any{"wide": members, "narrow": map[string]any{"a": []any{"b"}}} {
		if err := edit.Write(storage.AddOp, storage.Path{path}, value); err != nil {
			t.Fatal(err)
		}
	}
	return edit.Document()
}

func TestWideKeepsWhatOnlyEquals(t *testing.T) {
	d := wideDocument(t)
	for path, want := range map[string]string{"/wide/one": "1", "/wide/exactly one": "1.0", "/wide/inner/7": "7", "/wide/m205/list/0": "5"} {
		if v, ok := d.Read(storage.MustParsePath(path)); !ok || v.String() != want {
			t.Errorf("%s is %v, want %s", path, v, want)
		}
	}
	valuesOf(t, d)
	for _, path := range []string{"/wide/absent", "/wide/one/x", "/wide/m1/list/2", "/wide/m1/list/x", "/wide/m1/list/-1", "/x"} {
		if v, ok := d.Read(storage.MustParsePath(path)); ok {
			t.Errorf("%s is %v", path, v)
		}
	}
}

// TestVersionsAreReadWhileOthersAreMade is for the race detector.
func TestVersionsAreReadWhileOthersAreMade(t *testing.T) {
	d := wideDocument(t)
	var group sync.WaitGroup
	for n := range 20 {
		read := d
		for range 2 {
			group.Go(func() {
				if v, ok := read.Read(storage.Path{"wide"}); !ok || v.(ast.Object).Len() != document.Wide+3 {
					t.Error("the wide object is not what it was")
				}
				_ = v(read, "narrow").String()
			})
		}
		edit := d.Edit()
		for _, path := range []string{"/wide/m1/list/0", "/wide/inner/7", "/narrow/a"} {
			if err := edit.Write(storage.ReplaceOp, storage.MustParsePath(path), strconv.Itoa(n)); err != nil {
				t.Fatal(err)
			}
		}
		next := edit.Document()
		holdOne(t, d, next, edit.Touched())
		d = next
	}
	group.Wait()
}

func v(d *document.Document, path string) ast.Value {
	value, _ := d.Read(storage.Path{path})
	return value
}

func holdOne(t *testing.T, before, after *document.Document, touched []storage.Path) {
	t.Helper()
	if told, ok := document.Differences(before, after, touched, 10); !ok || len(told) != 3 {
		t.Errorf("told as different are %v", told)
	}
}

// TestLongArraysAreBounded inserts into a long array as often as a large request can, and
// appends to it.
func TestLongArraysAreBounded(t *testing.T) {
	edit := document.New().Edit()
	elements := make([]any, 100_000)
	for i := range elements {
		elements[i] = json.Number("1")
	}
	if err := edit.Write(storage.AddOp, storage.Path{"list"}, elements); err != nil {
		t.Fatal(err)
	}
	for range 100_000 {
		if err := edit.Write(storage.AddOp, storage.Path{"list", "-"}, true); err != nil {
			t.Fatal(err)
		}
	}
	inserted := 0
	for ; inserted < 100_000; inserted++ {
		if err := edit.Write(storage.AddOp, storage.Path{"list", "0"}, true); err != nil {
			if !strings.Contains(err.Error(), "too often") {
				t.Error(err)
			}
			break
		}
	}
	if inserted < 50 || inserted > 1_000 {
		t.Errorf("%d elements were inserted", inserted)
	}
}

// TestAppendedArraysShareNothing appends twice to what one version has.
func TestAppendedArraysShareNothing(t *testing.T) {
	edit := document.New().Edit()
	if err := edit.Write(storage.AddOp, storage.Path{"list"}, []any{"a", "b", "c"}); err != nil {
		t.Fatal(err)
	}
	appended := func(to *document.Document, values ...string) *document.Document {
		edit := to.Edit()
		for _, value := range values {
			if err := edit.Write(storage.AddOp, storage.Path{"list", "-"}, value); err != nil {
				t.Fatal(err)
			}
		}
		return edit.Document()
	}
	base := appended(edit.Document(), "d", "e")
	one, two := appended(base, "1"), appended(base, "2")
	if got := fmt.Sprint(one, two); got != `{"list": ["a", "b", "c", "d", "e", "1"]} {"list": ["a", "b", "c", "d", "e", "2"]}` {
		t.Errorf("the two versions are %s", got)
	}
}

// TestWritersWaitAsLongAsTheyMay has one writer wait for another.
func TestWritersWaitAsLongAsTheyMay(t *testing.T) {
	store := document.NewStore()
	first, err := store.NewTransaction(t.Context(), storage.WriteParams)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := store.NewTransaction(ctx, storage.WriteParams); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("who waits too long is told %v", err)
	}
	store.Abort(t.Context(), first)
	second, err := store.NewTransaction(t.Context(), storage.WriteParams)
	if err != nil {
		t.Fatal(err)
	}
	store.Abort(t.Context(), second)
}

// BenchmarkOneOf changes one member of 100,000.
func BenchmarkOneOf(b *testing.B) {
	members := map[string]any{}
	for i := range 100_000 {
		members[fmt.Sprint("user:default/u", i)] = []any{fmt.Sprint("role", i%17)}
	}
	edit := document.New().Edit()
	if err := edit.Write(storage.AddOp, storage.Path{"users"}, members); err != nil {
		b.Fatal(err)
	}
	d := edit.Document()
	for i := 0; b.Loop(); i++ {
		edit := d.Edit()
		if err := edit.Write(storage.ReplaceOp, storage.Path{"users", fmt.Sprint("user:default/u", i%100_000)}, []any{"new"}); err != nil {
			b.Fatal(err)
		}
		next := edit.Document()
		if _, ok := document.Differences(d, next, edit.Touched(), 10); !ok {
			b.Fatal("too many differences")
		}
		d = next
	}
}
