package document_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/util"

	"github.com/stagedoor/stagedoor/adapter/document"
)

// take writes the files of a bundle, and returns the document after it and what was
// touched.
func take(t testing.TB, store *document.Store, roots []string, files []bundle.Raw) ([]storage.Path, error) {
	t.Helper()
	params := storage.WriteParams
	params.BasePaths = roots
	txn, err := store.NewTransaction(t.Context(), params)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Truncate(t.Context(), txn, params, bundle.NewIterator(files)); err != nil {
		store.Abort(t.Context(), txn)
		return nil, err
	}
	touched := txn.(*document.Transaction).Touched()
	return touched, store.Commit(t.Context(), txn)
}

// TestBundlesOverOthers takes in bundles one after the other, and holds each document to
// that of a store which has nothing but the last of each.
func TestBundlesOverOthers(t *testing.T) {
	for seed := range uint64(150) {
		c := chance{rand.New(rand.NewPCG(seed, 3))}
		store, last := document.NewStore(), map[int][]bundle.Raw{}
		rootsOf := [][]string{{"a", "b/c"}, {"d"}}
		for range 8 {
			which := c.IntN(2)
			files := c.bundle(rootsOf[which])
			before := store.Document()
			was := before.String()
			touched, err := take(t, store, rootsOf[which], files)
			alone := document.NewStore()
			if _, wrong := take(t, alone, rootsOf[which], files); (err == nil) != (wrong == nil) {
				t.Fatalf("seed %d: %v over others, and %v alone: %v", seed, err, wrong, files)
			}
			if before.String() != was {
				t.Fatalf("seed %d: the version before has changed", seed)
			}
			if err != nil {
				continue
			}
			last[which] = files
			fresh := document.NewStore()
			for which, files := range last {
				if _, err := take(t, fresh, rootsOf[which], files); err != nil {
					t.Fatal(err)
				}
			}
			for _, root := range slices.Concat(rootsOf...) {
				at := storage.MustParsePath("/" + root)
				got, had := store.Document().Read(at)
				want, has := fresh.Document().Read(at)
				if had != has || had && got.String() != want.String() {
					t.Fatalf("seed %d: %s is %v, want %v, of %v", seed, root, got, want, files)
				}
			}
			holdDifferences(t, before, store.Document(), touched)
		}
	}
}

// bundle are files of data, now and then with what no bundle may have.
func (c chance) bundle(roots []string) []bundle.Raw {
	add := func(name string, value any) bundle.Raw {
		text, _ := json.Marshal(value)
		switch c.IntN(40) {
		case 0:
			text = append(text, '}')
		case 1:
			text = bytes.Replace(text, []byte(`"a":`), []byte(`"a":1,"a":`), 1)
		case 2:
			text = bytes.ReplaceAll(text, []byte(`"t`), []byte(`"\u0074`))
		case 3:
			text = bytes.ReplaceAll(text, []byte(`:`), []byte(" :\n\t"))
		}
		return bundle.Raw{Path: name, Value: text}
	}
	object := func() map[string]any {
		for {
			if o, is := c.value(4).(map[string]any); is {
				return o
			}
		}
	}
	var files []bundle.Raw
	top := map[string]any{}
	for _, root := range roots {
		steps := strings.Split(root, "/")
		switch c.IntN(6) {
		case 0: // nothing
		case 1:
			files = append(files, add("/"+root+"/data.json", object()))
		case 2:
			files = append(files, add("/"+root+"/a/data.json", object()), add("/"+root+"/b/c/data.json", object()))
		case 3:
			files = append(files, bundle.Raw{Path: "/" + root + "/data.yaml", Value: []byte("a: 1\nb: [x, y]\n")})
		default:
			value := c.value(4)
			for _, step := range slices.Backward(steps[1:]) {
				value = map[string]any{step: value}
			}
			top[steps[0]] = value
		}
	}
	if c.IntN(30) == 0 {
		top[[]string{"beside", "a/b", "system"}[c.IntN(3)]] = 1
	}
	if len(top) > 0 {
		files = append(files, add("/data.json", top))
	}
	return files
}

// FuzzText reads texts over others, and holds what is made of them to encoding/json.
func FuzzText(f *testing.F) {
	for _, text := range []string{
		`{}`, `{"a": 1}`, `{"a": 1.0}`, `{"a": 1e0, "a": -0}`, `{"a": [1, {"b": null}, "x"], "c": {"d": true}}`, `{"a": "\u00e9\ud800 é"}`,
		"{\"a\": \"\xff\"}", `{"a": 01}`, `{"a": [1,]}`, `{"a": 1,}`, `{"a" 1}`, `{"a": tru}`, `{"a": "` + "\x01" + `"}`, `{"a": {"0": 1}}`,
		`{"a": ["x"]}`, `[]`, `null`, ``, `{"a": .5}`, `{"a": 1.}`, `{"a": 1e}`, `{"a": "\x"}`, `{"a": 1} {}`, `{"a": 1E+5}`, `{"a/b": "c"}`,
	} {
		f.Add(text, `{"a": 1, "c": ["x", {"y": 2}]}`)
		f.Add(`{"a": 1, "c": ["x", {"y": 2}]}`, text)
		f.Add(text, text)
	}
	f.Fuzz(func(t *testing.T, first, second string) {
		store := document.NewStore()
		for _, text := range []string{first, second} {
			before := store.Document()
			touched, err := take(t, store, []string{"r"}, []bundle.Raw{{Path: "/r/data.json", Value: []byte(text)}})
			var v any
			wrong := util.Unmarshal([]byte(text), &v)
			want := document.New().Edit()
			if wrong == nil && v != nil {
				wrong = want.Write(storage.AddOp, storage.Path{"r"}, v)
			}
			if (wrong == nil) != (err == nil) {
				t.Fatalf("%q: %v, want %v", text, err, wrong)
			}
			if got := store.Document().String(); err == nil && got != want.Document().String() {
				t.Fatalf("%q is read as %s, want %s", text, got, want.Document())
			}
			if err == nil {
				holdDifferences(t, before, store.Document(), touched)
			}
		}
	})
}

// TestWideBundleOverAnother changes a few of many members by whole bundles.
func TestWideBundleOverAnother(t *testing.T) {
	store, entries := document.NewStore(), map[string]any{}
	for i := range 2 * document.Wide {
		entries[fmt.Sprint("u", i)] = []any{fmt.Sprint("role", i%17)}
	}
	write := func() []storage.Path {
		text, err := json.Marshal(map[string]any{"b": map[string]any{"grants": entries}})
		if err != nil {
			t.Fatal(err)
		}
		touched, err := take(t, store, []string{"b"}, []bundle.Raw{{Path: "/data.json", Value: text}})
		if err != nil {
			t.Fatal(err)
		}
		return touched
	}
	write()
	before := store.Document()
	if touched := write(); len(touched) > 0 {
		t.Errorf("the same bundle touches %v", touched)
	}
	delete(entries, "u7")
	entries["u8"], entries["new"] = []any{}, "x"
	if touched := write(); len(touched) != 3 {
		t.Errorf("three changes touch %v", touched)
	}
	for path, want := range map[string]string{"u7": "", "u8": "[]", "new": `"x"`, "u9": `["role9"]`} {
		v, has := store.Document().Read(storage.Path{"b", "grants", path})
		if has != (want != "") || has && v.String() != want {
			t.Errorf("%s is %v, want %s", path, v, want)
		}
	}
	if v, _ := before.Read(storage.Path{"b", "grants", "u8"}); v.String() != `["role8"]` {
		t.Errorf("the version before has %v", v)
	}
	for i := range 2 * document.Wide {
		entries[fmt.Sprint("u", i)] = strconv.Itoa(i)
	}
	if touched := write(); len(touched) != 1 {
		t.Errorf("%d paths are touched where everything changes", len(touched))
	}
}
