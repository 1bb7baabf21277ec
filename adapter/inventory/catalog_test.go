package inventory_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stagedoor/stagedoor/adapter/inventory"
)

// catalog stands for the catalog's API where it fails: the e2e run pulls from the real one.
type catalog struct {
	*httptest.Server
	entities []string
	asked    atomic.Int32
	// fails says of a page, by its number from 1, how it fails; it returns false where it does not.
	fails func(w http.ResponseWriter, page int) bool
}

func newCatalog(t *testing.T, entities []string) *catalog {
	c := &catalog{entities: entities}
	c.Server = httptest.NewServer(http.HandlerFunc(c.query))
	t.Cleanup(c.Close)
	return c
}

func (c *catalog) query(w http.ResponseWriter, r *http.Request) {
	n := int(c.asked.Add(1))
	if c.fails != nil && c.fails(w, n) {
		return
	}
	at, _ := strconv.Atoi(strings.TrimPrefix(r.URL.Query().Get("cursor"), "after-"))
	limit, _ := strconv.Atoi(r.URL.Query().Get("limit"))
	end := min(at+limit, len(c.entities))
	next := ""
	if end < len(c.entities) {
		next = fmt.Sprintf(`"nextCursor": "after-%d"`, end)
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = fmt.Fprintf(w, `{"items": [%s], "totalItems": %d, "pageInfo": {%s}}`,
		strings.Join(c.entities[at:end], ","), len(c.entities), next)
}

func (c *catalog) puller(t *testing.T) *inventory.CatalogPuller {
	return &inventory.CatalogPuller{Discovery: places(t, c.URL), People: true, Entities: true, Pause: time.Microsecond}
}

// entity is a user, a group or a component, with the targets of its relations.
func entity(kind, name string, relations ...string) string {
	var list []string
	for _, r := range relations {
		kind, target, _ := strings.Cut(r, " ")
		list = append(list, fmt.Sprintf(`{"type": %q, "targetRef": %q}`, kind, target))
	}
	return fmt.Sprintf(`{"kind": %q, "apiVersion": "v1", "metadata": {"name": %q, "big": 12345678901234567890}, "relations": [%s]}`,
		kind, name, strings.Join(list, ","))
}

// company is more than two pages of entities.
func company() []string {
	all := []string{
		entity("User", "Ann", "memberOf group:default/web", "memberOf group:default/ops", "ownerOf component:default/shop",
			"memberOf component:default/odd"),
		entity("User", "bob"),
		entity("Group", "web", "childOf group:default/all", "parentOf group:default/x", "hasMember user:default/ann"),
		entity("Group", "ops", "childOf group:default/all", "childOf group:default/second"),
		entity("Group", "all"),
		entity("Group", "second", "childOf group:default/ops"),
	}
	for i := range 600 {
		all = append(all, entity("Component", fmt.Sprintf("c%03d", 600-i)))
	}
	return all
}

func read(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = string(text)
	}
	return files
}

// TestPullCatalog reads people with their claims, groups with their parents, and entities, twice into equal files.
func TestPullCatalog(t *testing.T) {
	c := newCatalog(t, company())
	first, second := t.TempDir(), t.TempDir()
	var told []int
	p := c.puller(t)
	p.Progress = func(done, of int) { told = append(told, done, of) }
	pulled, err := p.Pull(t.Context(), first)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&inventory.PulledCatalog{People: 2, Groups: 4, Entities: 606}, pulled); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]int{250, 606, 500, 606, 606, 606}, told); diff != "" {
		t.Errorf("progress: %s", diff)
	}
	// Another order of the catalog's makes no other files.
	for i, j := 0, len(c.entities)-1; i < j; i, j = i+1, j-1 {
		c.entities[i], c.entities[j] = c.entities[j], c.entities[i]
	}
	if _, err := c.puller(t).Pull(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(read(t, first), read(t, second)); diff != "" {
		t.Errorf("two pulls differ: %s", diff)
	}
	known, err := inventory.Load(first)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]inventory.Person{
		"user:default/ann": {Claims: []string{"user:default/ann", "group:default/ops", "group:default/web"}},
		"user:default/bob": {Claims: []string{"user:default/bob"}},
	}, known.People); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]inventory.Group{
		"group:default/web": {Parent: "group:default/all"}, "group:default/all": {},
		"group:default/ops":    {Parents: []string{"group:default/all", "group:default/second"}},
		"group:default/second": {Parent: "group:default/ops"},
	}, known.Groups); diff != "" {
		t.Error(diff)
	}
	metadata, _ := known.Entities[0]["metadata"].(map[string]any)
	if len(known.Entities) != 606 || metadata["name"] != "c001" || metadata["big"] != json.Number("12345678901234567890") {
		t.Errorf("%d entities, the first %v", len(known.Entities), known.Entities[0])
	}
}

// TestPullParents gives people the parents of their groups, once each though they go round in a circle.
func TestPullParents(t *testing.T) {
	c := newCatalog(t, company())
	dir := t.TempDir()
	p := c.puller(t)
	p.Entities, p.Parents = false, true
	if _, err := p.Pull(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	known, err := inventory.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"user:default/ann", "group:default/ops", "group:default/web", "group:default/all", "group:default/second"}
	if diff := cmp.Diff(want, known.People["user:default/ann"].Claims); diff != "" {
		t.Error(diff)
	}
	if known.Entities != nil {
		t.Error("there are entities, which nobody asked for")
	}
}

// TestPullIsCut fails at each page in each way. What was there before stays as it is, and the same command then goes on.
func TestPullIsCut(t *testing.T) {
	whole := t.TempDir()
	if _, err := newCatalog(t, company()).puller(t).Pull(t.Context(), whole); err != nil {
		t.Fatal(err)
	}
	wanted := read(t, whole)
	for name, fail := range map[string]struct {
		how  func(w http.ResponseWriter)
		want string
	}{
		"token":     {func(w http.ResponseWriter) { w.WriteHeader(http.StatusUnauthorized) }, "it refuses the token (status 401)"},
		"error":     {func(w http.ResponseWriter) { w.WriteHeader(http.StatusBadGateway) }, "it answers with status 502"},
		"not found": {func(w http.ResponseWriter) { w.WriteHeader(http.StatusNotFound) }, "is this the base URL of a Backstage backend?"},
		"other":     {func(w http.ResponseWriter) { w.WriteHeader(http.StatusTeapot) }, "it answers with status 418"},
		"no JSON":   {func(w http.ResponseWriter) { _, _ = w.Write([]byte("<html>")) }, "not of the shape {items, totalItems, pageInfo}"},
		"no entity": {func(w http.ResponseWriter) {
			_, _ = w.Write([]byte(`{"items": [{"kind": "User", "metadata": {"name": "eve"}}, {"kind": "User"}], "pageInfo": {}}`))
		}, "item 2 after"},
		"the same again": {func(w http.ResponseWriter) {
			_, _ = w.Write([]byte(`{"items": [], "pageInfo": {"nextCursor": "after-250"}}`))
		}, "the same page again and again"},
		"cut off": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write([]byte(`{"items": [`))
		}, "catalog: "},
	} {
		for at := 1; at <= 3; at++ {
			t.Run(fmt.Sprint(name, " at page ", at), func(t *testing.T) {
				c := newCatalog(t, company())
				dir := t.TempDir()
				before := map[string]string{"people.json": "before", "entities.jsonl": "before"}
				for name, text := range before {
					if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				c.fails = func(w http.ResponseWriter, page int) bool {
					if page >= at {
						fail.how(w)
					}
					return page >= at
				}
				_, err := c.puller(t).Pull(t.Context(), dir)
				if err == nil || !strings.Contains(err.Error(), fail.want) {
					t.Fatalf("got %v, want %q", err, fail.want)
				}
				left := read2(t, dir)
				if diff := cmp.Diff(before, left); diff != "" {
					t.Errorf("the inventory changed: %s", diff)
				}
				// A page of which a part was written when the machine stopped.
				file, err := os.OpenFile(filepath.Join(dir, ".pull", "entities.jsonl"), os.O_APPEND|os.O_WRONLY, 0o600)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := file.WriteString(`{"kind": "Comp`); err != nil {
					t.Fatal(err)
				}
				if err := file.Close(); err != nil {
					t.Fatal(err)
				}
				c.fails = nil
				c.asked.Store(0)
				pulled, err := c.puller(t).Pull(t.Context(), dir)
				if err != nil {
					t.Fatal(err)
				}
				if pulled.Resumed != 250*(at-1) || int(c.asked.Load()) != 4-at {
					t.Errorf("resumed with %d entities, and asked for %d pages more", pulled.Resumed, c.asked.Load())
				}
				if diff := cmp.Diff(wanted, read(t, dir)); diff != "" {
					t.Error(diff)
				}
			})
		}
	}
}

// read2 are the files of an inventory that is not there as a whole.
func read2(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	for _, name := range []string{"people.json", "groups.json", "entities.jsonl"} {
		if text, err := os.ReadFile(filepath.Join(dir, name)); err == nil {
			files[name] = string(text)
		}
	}
	return files
}

// TestPullTriesAgain has pages that fail for a while.
func TestPullTriesAgain(t *testing.T) {
	c := newCatalog(t, company())
	c.fails = func(w http.ResponseWriter, page int) bool {
		if page%3 == 0 {
			return false
		}
		w.WriteHeader([]int{0, http.StatusServiceUnavailable, http.StatusTooManyRequests}[page%3])
		return true
	}
	if _, err := c.puller(t).Pull(t.Context(), t.TempDir()); err != nil {
		t.Fatal(err)
	}
	if c.asked.Load() != 9 {
		t.Errorf("asked %d times", c.asked.Load())
	}
}

// TestPullForgets begins anew where what an earlier pull left is of another query, or of no use to the catalog.
func TestPullForgets(t *testing.T) {
	c := newCatalog(t, company())
	dir := t.TempDir()
	c.fails = func(w http.ResponseWriter, page int) bool {
		if page > 1 {
			w.WriteHeader(http.StatusUnauthorized)
		}
		return page > 1
	}
	if _, err := c.puller(t).Pull(t.Context(), dir); err == nil || !strings.HasSuffix(err.Error(),
		"; 250 entities are there, and the same command goes on with them") {
		t.Fatal(err)
	}
	c.fails = nil
	other := c.puller(t)
	other.Entities = false
	if pulled, err := other.Pull(t.Context(), dir); err != nil || pulled.Resumed != 0 {
		t.Fatal(pulled, err)
	}
	c.asked.Store(0)
	c.fails = func(w http.ResponseWriter, page int) bool {
		if page == 2 {
			w.WriteHeader(http.StatusUnauthorized)
		}
		return page == 2
	}
	if _, err := c.puller(t).Pull(t.Context(), dir); err == nil {
		t.Fatal("no error")
	}
	c.asked.Store(0)
	c.fails = func(w http.ResponseWriter, page int) bool {
		if page == 1 {
			w.WriteHeader(http.StatusBadRequest)
		}
		return page == 1
	}
	if pulled, err := c.puller(t).Pull(t.Context(), dir); err != nil || pulled.Resumed != 0 || pulled.Entities != 606 {
		t.Fatal(pulled, err)
	}
}

// TestPullStops ends at once where nobody waits any more.
func TestPullStops(t *testing.T) {
	c := newCatalog(t, company())
	ctx, cancel := context.WithCancel(t.Context())
	c.fails = func(w http.ResponseWriter, page int) bool {
		cancel()
		w.WriteHeader(http.StatusBadGateway)
		return true
	}
	p := c.puller(t)
	p.Pause = time.Hour
	if _, err := p.Pull(ctx, t.TempDir()); err == nil || !strings.Contains(err.Error(), "canceled") {
		t.Fatal(err)
	}
}

// TestPullMemory reads a catalog of 60 MB, of which no more than a few pages are in memory at a time.
func TestPullMemory(t *testing.T) {
	filling := strings.Repeat("x", 10_000)
	all := make([]string, 6_000)
	for i := range all {
		all[i] = fmt.Sprintf(`{"kind": "Component", "metadata": {"name": "c%d", "description": %q}}`, i, filling)
	}
	c := newCatalog(t, all)
	runtime.GC()
	var before, now runtime.MemStats
	runtime.ReadMemStats(&before)
	var most uint64
	p := c.puller(t)
	p.Progress = func(int, int) {
		runtime.GC()
		runtime.ReadMemStats(&now)
		most = max(most, now.HeapAlloc)
	}
	if _, err := p.Pull(t.Context(), t.TempDir()); err != nil {
		t.Fatal(err)
	}
	const bound = 30 << 20
	if grown := int64(most) - int64(before.HeapAlloc); grown > bound {
		t.Errorf("the heap grew by %d MB", grown>>20)
	}
}
