package supply_test

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/open-policy-agent/opa/v1/storage"

	"github.com/stagedoor/stagedoor/adapter/fixture"
	"github.com/stagedoor/stagedoor/adapter/vetted"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// readsEverything is a policy that goes through all data, its own, that of other
// bundles and what OPA keeps of bundles.
var readsEverything = fixture.Files{
	".manifest": fixture.Manifest("1", "a/policy"),
	"p.rego": `package a.policy

# METADATA
# entrypoint: true
default allow := false

allow if {
	count([1 | walk(data.a.left)]) > 0
	count([1 | walk(data.a.right)]) > 0
	some name, _ in data.system.bundles
	name == "right"
	data.a.left.n == data.a.left.again[0].n
}
`,
}

// side is a bundle of data beside others under the same parent; with every other n
// it has none there but a policy.
func side(name string, n int) fixture.Files {
	f := fixture.Files{".manifest": fixture.Manifest(strconv.Itoa(n), "a/"+name)}
	if n%2 == 0 {
		f["a/"+name+"/data.json"] = fmt.Sprintf(`{"n": %d, "again": [{"n": %d, "z": {"y": 1, "x": {"b": 1, "a": 2}}}]}`, n, n)
	} else {
		f["r.rego"] = fmt.Sprintf("package a.%s\n\nn := %d\n\nagain := [{\"n\": n}]\n", name, n)
	}
	return f
}

// TestActivationsDoNotReachWhatServes is for the race detector: evaluations go
// through everything while bundles beside one another are exchanged.
func TestActivationsDoNotReachWhatServes(t *testing.T) {
	s := fixture.NewServer(t)
	s.Put("policy", fixture.Archive(t, readsEverything))
	s.Put("left", fixture.Archive(t, side("left", 0)))
	s.Put("right", fixture.Archive(t, side("right", 0)))
	e := fixture.New(t, fixture.Options{OPA: fixture.OPA(t, s, nil, "policy", "left", "right"), Library: map[string]string{}})
	e.MustFetch(t, "policy", "left", "right")
	var stop atomic.Bool
	var decided atomic.Int64
	var group sync.WaitGroup
	for i := range 4 {
		group.Go(func() {
			for n := 0; !stop.Load(); n++ {
				name := fmt.Sprint(i, ".", n) // not the one that is remembered
				batch, err := e.Engine.Decide(context.Background(), fixture.Ann(), []wire.Permission{fixture.Basic(name)})
				if err != nil {
					t.Error(err)
					return
				}
				if o := batch.Outcomes[0]; o.Err != nil || o.Decision.Result != wire.Allow {
					t.Errorf("by %s: %v, %v", batch.Revision, o.Decision.Result, o.Err)
					return
				}
				decided.Add(1)
			}
		})
	}
	for n := 1; n <= 25; n++ {
		for _, name := range []string{"left", "right"} {
			s.Put(name, fixture.Archive(t, side(name, n)))
			e.MustFetch(t, name)
		}
	}
	stop.Store(true)
	group.Wait()
	if decided.Load() == 0 {
		t.Error("nothing was decided meanwhile")
	}
}

// read is what the data of a state has at the path.
func read(t testing.TB, state *vetted.State, path string) (any, error) {
	t.Helper()
	store, txn := state.Data()
	return store.Read(t.Context(), txn, storage.MustParsePath(path))
}

// all is all data of a state.
func all(t testing.TB, state *vetted.State) string {
	t.Helper()
	v, err := read(t, state, "/")
	fixture.Must(t, err)
	return fmt.Sprint(v)
}

func TestSnapshotKeepsWhatItWasTakenOf(t *testing.T) {
	s := fixture.NewServer(t)
	s.Put("policy", fixture.Archive(t, readsEverything))
	s.Put("left", fixture.Archive(t, side("left", 2)))
	s.Put("right", fixture.Archive(t, side("right", 2)))
	e := fixture.New(t, fixture.Options{OPA: fixture.OPA(t, s, nil, "policy", "left", "right"), Library: map[string]string{}})
	e.MustFetch(t, "policy", "left", "right")
	old := e.State()
	before := map[*vetted.State]string{old: all(t, old)}
	// The same bundles with other data, without data, and with roots further down.
	for _, bundle := range []fixture.Files{
		side("left", 4), side("left", 5),
		{".manifest": fixture.Manifest("6", "a/left/deep"), "a/left/deep/data.json": `{"x": 1}`},
		{".manifest": fixture.Manifest("6a", "b"), "b/data.json": `{"x": 1}`},
		{".manifest": fixture.Manifest("6b", "a/left/deep"), "a/left/deep/data.json": `{"x": 1}`},
		{".manifest": fixture.Manifest("7", "a/left"), "a/left/data.json": `{"x": 2}`},
	} {
		s.Put("left", fixture.Archive(t, bundle))
		e.MustFetch(t, "left")
		for state, was := range before {
			if is := all(t, state); is != was {
				t.Fatalf("was %s\nis  %s", was, is)
			}
		}
		before[e.State()] = all(t, e.State())
	}
	for path, want := range map[string]string{
		"/a/left/n": "2", "/a/left/again/0/n": "2", "/system/bundles/left/manifest/revision": `"2"`,
	} {
		v, err := read(t, old, path)
		if err != nil || fmt.Sprint(v) != want {
			t.Errorf("%s is %v, %v; want %s", path, v, err, want)
		}
	}
	for _, path := range []string{"/a/left/m", "/a/left/n/x", "/a/left/again/1", "/a/left/again/x", "/b"} {
		if _, err := read(t, old, path); !storage.IsNotFound(err) {
			t.Errorf("%s: error %v, want not found", path, err)
		}
	}
}
