package conditions

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stagedoor/stagedoor/adapter/conditions/rules"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

const publishes = `{"rules":[],"permissions":[` +
	`{"type":"resource","name":"thing.item.read","attributes":{"action":"read"},"resourceType":"thing"},` +
	`{"type":"basic","name":"thing.create","attributes":{"action":"create"}},` +
	`{"type":"resource","name":"other.item.read","attributes":{},"resourceType":"thing"},` +
	`{"type":"resource","name":"thing.odd","attributes":{}},{"type":"new","name":"thing.new","attributes":{}},` +
	`{"type":"resource","attributes":{},"resourceType":"thing"}]}`

func basic(names ...string) []wire.Permission {
	all := make([]wire.Permission, len(names))
	for i, name := range names {
		all[i] = wire.Permission{Name: name}
	}
	return all
}

func TestHydrate(t *testing.T) {
	fake := &fakePlugin{metadata: publishes}
	c := serveWith(t, fake, Options{Owners: map[string]string{"legacy.read": "thing"}})
	asked := basic("thing.item.read", "thing.create", "other.item.read", "legacy.read", "no plugin", "")
	replaced, unknown := c.Hydrate(asked)
	if replaced != nil {
		t.Errorf("known without asking: %v", asked)
	}
	if diff := cmp.Diff([]string{"thing.item.read", "other.item.read", "legacy.read"}, unknown); diff != "" {
		t.Errorf("unknown (-want +got)\n%s", diff)
	}
	c.Learn(t.Context(), unknown[:1])
	asked = basic("thing.item.read", "thing.create", "other.item.read", "thing.odd", "thing.new", "thing.unheard")
	asked = append(asked, wire.Permission{Name: "thing.item.read", Resource: true, ResourceType: "asked"})
	replaced, unknown = c.Hydrate(asked)
	want := []wire.Permission{
		{Name: "thing.item.read", Action: "read", Resource: true, ResourceType: "thing"},
		{Name: "thing.create"}, // what came is left, where it is a basic one
		{Name: "other.item.read", Resource: true, ResourceType: "thing"},
		{Name: "thing.odd"}, {Name: "thing.new"}, {Name: "thing.unheard"},
		{Name: "thing.item.read", Resource: true, ResourceType: "asked"},
	}
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if diff := cmp.Diff([]bool{true, false, true, false, false, false, false}, replaced); diff != "" || unknown != nil {
		t.Errorf("unknown %v; replaced (-want +got)\n%s", unknown, diff)
	}
	if n := len(fake.callsOf("thing")); n != 1 {
		t.Errorf("%d calls", n)
	}
}

// Where plugins publish different things under a name, it is the owner's that counts;
// without it nobody's does.
func TestHydrateAmongPlugins(t *testing.T) {
	published := func(name, resourceType string) *rules.Set {
		p := wire.Permission{Name: name, Resource: resourceType != "", ResourceType: resourceType}
		return &rules.Set{Permissions: map[string]wire.Permission{name: p}}
	}
	for name, test := range map[string]struct {
		plugins map[string]*rules.Set
		want    string
	}{
		"alone":              {map[string]*rules.Set{"x": published("a.read", "thing")}, "thing"},
		"agree":              {map[string]*rules.Set{"x": published("a.read", "thing"), "y": published("a.read", "thing")}, "thing"},
		"differ":             {map[string]*rules.Set{"x": published("a.read", "thing"), "y": published("a.read", "wall")}, ""},
		"one says basic":     {map[string]*rules.Set{"x": published("a.read", "thing"), "y": published("a.read", "")}, ""},
		"the owner differs":  {map[string]*rules.Set{"x": published("a.read", "thing"), "a": published("a.read", "wall")}, "wall"},
		"the owner of three": {map[string]*rules.Set{"x": published("a.read", "x"), "y": published("a.read", "y"), "a": published("a.read", "wall")}, "wall"},
		"the owner's basic":  {map[string]*rules.Set{"x": published("a.read", "thing"), "a": published("a.read", "")}, ""},
	} {
		for range 20 { // in whatever order the map comes
			c := serveWith(t, &fakePlugin{}, Options{})
			c.permissions.learn(test.plugins)
			asked := basic("a.read")
			c.Hydrate(asked)
			if asked[0].ResourceType != test.want {
				t.Fatalf("%s: %v; want %q", name, asked, test.want)
			}
		}
	}
}

// Nobody waits long for a plugin that gives no answer, nor again for one that was asked,
// and made-up names do not make for endless calls.
func TestLearnIsBounded(t *testing.T) {
	fake := &fakePlugin{fault: func(w http.ResponseWriter, r *http.Request, id string, _ int) bool {
		if id == "slow" {
			<-r.Context().Done()
			return true
		}
		return false
	}}
	c := serveWith(t, fake, Options{Timeout: 100 * time.Millisecond})
	begun := time.Now()
	c.Learn(t.Context(), []string{"slow.x"})
	c.Learn(t.Context(), []string{"none.x"})
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
	if _, unknown := c.Hydrate(basic("slow.x", "none.x", "slow.y")); unknown != nil {
		t.Errorf("%v would be waited for again", unknown)
	}
	names := make([]string, 3*guessBurst)
	for i := range names {
		names[i] = "made-up-" + string(rune('a'+i%26)) + string(rune('a'+i/26)) + ".x"
	}
	c.Learn(t.Context(), names)
	fake.mu.Lock()
	defer fake.mu.Unlock()
	if n := len(fake.calls); n > 2*guessBurst {
		t.Errorf("%d plugins were asked", n)
	}
}

func BenchmarkHydrate(b *testing.B) {
	c := serveWith(b, &fakePlugin{metadata: publishes}, Options{})
	c.Learn(b.Context(), []string{"thing.x"})
	asked := make([]wire.Permission, 50)
	b.ReportAllocs()
	for b.Loop() {
		for i := range asked {
			asked[i] = wire.Permission{Name: "thing.unheard"}
		}
		c.Hydrate(asked)
	}
}
