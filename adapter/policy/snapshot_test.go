package policy

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/open-policy-agent/opa/v1/storage"

	"github.com/stagedoor/stagedoor/adapter/wire"
)

// readsEverything is a policy that goes through all data, its own, that of other
// bundles and what OPA keeps of bundles.
var readsEverything = files{
	".manifest": manifest("1", "a/policy"),
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
func side(name string, n int) files {
	f := files{".manifest": manifest(strconv.Itoa(n), "a/"+name)}
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
	s := newBundleServer(t)
	s.put("policy", archive(t, readsEverything))
	s.put("left", archive(t, side("left", 0)))
	s.put("right", archive(t, side("right", 0)))
	e := newEngine(t, Options{OPA: opaFor(t, s, nil, "policy", "left", "right"), Library: map[string]string{}})
	e.mustFetch(t, "policy", "left", "right")
	var stop atomic.Bool
	var decided atomic.Int64
	var group sync.WaitGroup
	for i := range 4 {
		group.Go(func() {
			for n := 0; !stop.Load(); n++ {
				name := fmt.Sprint(i, ".", n) // not the one that is remembered
				batch, err := e.Decide(context.Background(), ann, []wire.Permission{basic(name)})
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
			s.put(name, archive(t, side(name, n)))
			e.mustFetch(t, name)
		}
	}
	stop.Store(true)
	group.Wait()
	if decided.Load() == 0 {
		t.Error("nothing was decided meanwhile")
	}
}

func TestSnapshotKeepsWhatItWasTakenOf(t *testing.T) {
	s := newBundleServer(t)
	s.put("policy", archive(t, readsEverything))
	s.put("left", archive(t, side("left", 2)))
	s.put("right", archive(t, side("right", 2)))
	e := newEngine(t, Options{OPA: opaFor(t, s, nil, "policy", "left", "right"), Library: map[string]string{}})
	e.mustFetch(t, "policy", "left", "right")
	old := e.State()
	before := map[*State]string{old: old.data.root.String()}
	// The same bundles with other data, without data, and with roots further down.
	for _, bundle := range []files{
		side("left", 4), side("left", 5),
		{".manifest": manifest("6", "a/left/deep"), "a/left/deep/data.json": `{"x": 1}`},
		{".manifest": manifest("6a", "b"), "b/data.json": `{"x": 1}`},
		{".manifest": manifest("6b", "a/left/deep"), "a/left/deep/data.json": `{"x": 1}`},
		{".manifest": manifest("7", "a/left"), "a/left/data.json": `{"x": 2}`},
	} {
		s.put("left", archive(t, bundle))
		e.mustFetch(t, "left")
		for state, was := range before {
			if is := state.data.root.String(); is != was {
				t.Fatalf("was %s\nis  %s", was, is)
			}
		}
		before[e.State()] = e.State().data.root.String()
	}
	for path, want := range map[string]string{
		"/a/left/n": "2", "/a/left/again/0/n": "2", "/system/bundles/left/manifest/revision": `"2"`,
	} {
		v, err := old.data.Read(t.Context(), nil, storage.MustParsePath(path))
		if err != nil || fmt.Sprint(v) != want {
			t.Errorf("%s is %v, %v; want %s", path, v, err, want)
		}
	}
	for _, path := range []string{"/a/left/m", "/a/left/n/x", "/a/left/again/1", "/a/left/again/x", "/b"} {
		if _, err := old.data.Read(t.Context(), nil, storage.MustParsePath(path)); !storage.IsNotFound(err) {
			t.Errorf("%s: error %v, want not found", path, err)
		}
	}
}

// TestKeysAreSortedBeforeTheyAreShared is for the race detector: an object sorts
// its keys when it is first iterated, and OPA's store copies what lies beside the
// objects that it changes.
func TestKeysAreSortedBeforeTheyAreShared(t *testing.T) {
	var serving *State
	s := newStore(storeHooks{publish: func(s *State) { serving = s }})
	write := func(then func(storage.Transaction)) {
		if err := storage.Txn(t.Context(), s, storage.WriteParams, func(txn storage.Transaction) error {
			then(txn)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	left, right := storage.MustParsePath("/a/left"), storage.MustParsePath("/a/right")
	write(func(txn storage.Transaction) {
		document := map[string]any{"left": map[string]any{"n": 1}, "right": map[string]any{"z": 1, "y": 2, "x": 3}}
		if err := s.Write(t.Context(), txn, storage.AddOp, left[:1], document); err != nil {
			t.Fatal(err)
		}
		s.write.Load().state = &State{data: &snapshot{}, roots: []storage.Path{left, right}}
	})
	var group sync.WaitGroup
	group.Go(func() { _ = serving.data.root.String() })
	write(func(txn storage.Transaction) {
		if err := s.Write(t.Context(), txn, storage.RemoveOp, left, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Read(t.Context(), txn, left[:1]); err != nil {
			t.Fatal(err)
		}
	})
	group.Wait()
}
