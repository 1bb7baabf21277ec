package engine_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/document/patch"
	"github.com/stagedoor/stagedoor/adapter/fixture"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// overData are policies that read data in different ways.
var overData = map[string]string{
	"looks up what claims have": `
default decision := {"result": "DENY"}

decision := {"result": "ALLOW"} if {
	some c in input.identity.claims
	input.permission.name in data.b.grants[c]
}`,
	"goes through all": `
default decision := {"result": "DENY"}

decision := {"result": "ALLOW", "reason": reason} if {
	some group, names in data.b.grants
	group in input.identity.claims
	input.permission.name in names
	reason := sprintf("%d groups", [count(data.b.grants)])
}`,
	"asks for what is not there": `
default decision := false

decision if {
	not data.b.blocked[input.identity.user]
	not data.b.blocked.all.of[input.permission.name]
	data.b.grants[input.identity.claims[_]]
}`,
	"has conditions of data": `
default decision := false

decision if {
	some c in input.identity.claims
	input.permission.name in data.b.grants[c]
	catalog.is_entity_owner(input.resource, {"claims": input.identity.claims})
}

decision if {
	some c in input.identity.claims
	catalog.has_label(input.resource, {"label": data.b.labels[c]})
	not data.b.blocked[input.identity.user]
}`,
	"has what is written": `
default decision := {"result": "DENY"}

decision := {"result": "ALLOW", "reason": data.b.labels[group]} if {
	some group in input.identity.claims
	input.permission.name in data.w.grants[group]
	not data.w.blocked[input.identity.user]
}

decision := {"result": "ALLOW"} if {
	input.permission.name == "p0"
	data.w.labels[_] == "red"
}`,
	"tells its revision": `
default decision := {"result": "DENY"}

decision := {"result": "ALLOW", "reason": data.system.bundles.data.manifest.revision} if count(data.b.grants) > 2`,
}

func overDataModule(text string) string {
	return "package a\n\nimport data.backstage.catalog\n\n# METADATA\n# entrypoint: true\n# scope: document" + text + "\n"
}

// model is the data that a policy is to have.
type model struct {
	*rand.Rand
	data     map[string]any
	written  map[string]any
	revision int
}

func (m *model) pick(of ...string) string { return of[m.IntN(len(of))] }

func (m *model) names() []any {
	var names []any
	for range m.IntN(3) {
		names = append(names, m.pick("p0", "p1", "p2"))
	}
	return append(names, "p3")
}

// member is a member of the data below b, and a value for it.
func (m *model) member() (object, key string, value any) {
	group := fmt.Sprint("group:default/g", m.IntN(6))
	switch m.IntN(4) {
	case 0:
		return "labels", group, m.pick("red", "green")
	case 1:
		return "blocked", fmt.Sprint("user:default/u", m.IntN(4)), m.IntN(2) == 0
	case 2:
		return "blocked", "all", map[string]any{"of": map[string]any{m.pick("p0", "p1"): true}}
	}
	return "grants", group, m.names()
}

func (m *model) set(object, key string, value any) {
	of, is := m.data[object].(map[string]any)
	if !is {
		of = map[string]any{}
	}
	of = maps.Clone(of)
	of[key] = value
	m.data[object] = of
}

// bundle is the data as a whole bundle.
func (m *model) bundle(t *testing.T) fixture.Files {
	return fixture.Files{
		".manifest": fixture.Manifest(strconv.Itoa(m.revision), "b"), "b/data.json": string(fixture.JSON(t, m.data)),
	}
}

// change changes the data, and is the bundle that says so.
func (m *model) change(t *testing.T) fixture.Files {
	t.Helper()
	m.revision++
	var operations []map[string]any
	for range 1 + m.IntN(3) {
		object, key, value := m.member()
		of, _ := m.data[object].(map[string]any)
		_, has := of[key]
		operation := map[string]any{"op": "upsert", "path": "/b/" + object + "/" + escaped(key), "value": value}
		switch {
		case has && m.IntN(3) == 0:
			of = maps.Clone(of)
			delete(of, key)
			m.data[object] = of
			operation["op"] = "remove"
		case m.IntN(10) == 0:
			m.data[object] = map[string]any{key: value}
			operation["path"], operation["value"] = "/b/"+object, m.data[object]
		default:
			m.set(object, key, value)
		}
		operations = append(operations, operation)
	}
	if m.IntN(2) == 0 {
		return m.bundle(t)
	}
	return fixture.Files{
		".manifest":  fixture.Manifest(strconv.Itoa(m.revision), "b"),
		"patch.json": string(fixture.JSON(t, map[string]any{"data": operations})),
	}
}

// escaped is a key as a step of a JSON pointer.
func escaped(key string) string { return strings.ReplaceAll(key, "/", "~1") }

// write writes data from outside.
func (m *model) write(t *testing.T, e *fixture.House) {
	t.Helper()
	object, key, value := m.member()
	of := map[string]any{}
	if was, is := m.written[object].(map[string]any); is {
		of = maps.Clone(was)
	}
	_, has := of[key]
	if has && m.IntN(2) == 0 {
		delete(of, key)
		writes(t, e, fixture.JSON(t, []any{map[string]any{"op": "remove", "path": "/w/" + object + "/" + escaped(key)}}))
	} else {
		of[key] = value
		puts(t, e, "w/"+object+"/"+strings.ReplaceAll(key, "/", "%2F"), fixture.JSON(t, value))
	}
	m.written[object] = of
}

func writes(t *testing.T, e *fixture.House, operations []byte) {
	t.Helper()
	changes, err := patch.ParsePatch("", operations)
	fixture.Must(t, err)
	fixture.Must(t, e.Write(t.Context(), changes))
}

func puts(t *testing.T, e *fixture.House, path string, value []byte) {
	t.Helper()
	changes, err := patch.ParsePut(path, value)
	fixture.Must(t, err)
	fixture.Must(t, e.Write(t.Context(), changes))
}

// TestDataChangesAgree changes data at random, by whole bundles, by delta bundles and from
// outside, and compares all answers with those of an engine that was never asked before.
func TestDataChangesAgree(t *testing.T) {
	for name, text := range overData {
		t.Run(name, func(t *testing.T) {
			policy := fixture.Files{".manifest": fixture.Manifest("1", "a"), "a.rego": overDataModule(text)}
			m := &model{Rand: rand.New(rand.NewPCG(1, 2)), written: map[string]any{},
				data: map[string]any{"grants": map[string]any{}, "labels": map[string]any{}}}
			s := fixture.NewServer(t)
			s.Put("policy", fixture.Archive(t, policy))
			s.Put("data", fixture.Archive(t, m.bundle(t)))
			e := fixture.New(t, fixture.Options{OPA: fixture.OPA(t, s, nil, "policy", "data"), DataRoots: []string{"w"}})
			e.MustFetch(t, "policy", "data")
			answers, kept, compiled := 0, 0, e.State().Policy
			for round := range 15 {
				if m.IntN(2) == 0 {
					m.write(t, e)
				} else {
					s.Put("data", fixture.Archive(t, m.change(t)))
					e.MustFetch(t, "data")
				}
				fresh := fixture.NewServer(t)
				fresh.Put("policy", fixture.Archive(t, policy))
				fresh.Put("data", fixture.Archive(t, m.bundle(t)))
				other := fixture.New(t, fixture.Options{OPA: fixture.OPA(t, fresh, nil, "policy", "data"), DataRoots: []string{"w"}})
				other.MustFetch(t, "policy", "data")
				if len(m.written) > 0 {
					puts(t, other, "w", fixture.JSON(t, m.written))
				}
				if got, want := e.State().Revisions, other.State().Revisions; !maps.Equal(got, want) {
					t.Fatalf("round %d: the revisions are %s, want %s", round, got, want)
				}
				for _, caller := range askers(m.Rand) {
					got, want := all(t, e, caller), all(t, other, caller)
					for i, o := range got.Outcomes {
						answers++
						if o.Remembered {
							kept++
						}
						w := want.Outcomes[i]
						if o.Decision.Text() != w.Decision.Text() || o.Reason != w.Reason || (o.Err == nil) != (w.Err == nil) {
							t.Fatalf("round %d: %v asks p%d, remembered %t: %s %q %v, and anew %s %q %v; the data is %s", round, caller, i,
								o.Remembered, o.Decision.Text(), o.Reason, o.Err, w.Decision.Text(), w.Reason, w.Err, fixture.JSON(t, m.data))
						}
					}
				}
				other.Close()
			}
			if e.State().Policy != compiled {
				t.Error("the policy was compiled again")
			}
			t.Logf("%d of %d answers were remembered", kept, answers)
			if kept < answers/10 {
				t.Error("too few to show anything")
			}
		})
	}
}

// askers are callers some of whose groups the data knows.
func askers(r *rand.Rand) []decision.Caller {
	var callers []decision.Caller
	for n := range 8 {
		user := fmt.Sprint("user:default/u", n)
		callers = append(callers, decision.Caller{User: user, Claims: []string{user, fmt.Sprint("group:default/g", n%6), fmt.Sprint("group:default/g", n/2)}})
	}
	r.Shuffle(len(callers), func(i, j int) { callers[i], callers[j] = callers[j], callers[i] })
	return callers
}

func all(t *testing.T, h *fixture.House, caller decision.Caller) decision.Batch {
	t.Helper()
	var permissions []wire.Permission
	for n := range 4 {
		permissions = append(permissions, wire.Permission{
			Name: fmt.Sprint("p", n), Action: "read", Resource: true, ResourceType: "catalog-entity",
		})
	}
	batch, err := h.Engine.Decide(t.Context(), caller, permissions)
	fixture.Must(t, err)
	return batch
}

// TestOneChangeKeepsOthers changes what one of many callers has.
func TestOneChangeKeepsOthers(t *testing.T) {
	const callers = 200
	grants := map[string]any{}
	for n := range 20_000 {
		grants[fmt.Sprint("user:default/u", n)] = []any{"p0"}
	}
	s := fixture.NewServer(t)
	s.Put("policy", fixture.Archive(t, fixture.Files{
		".manifest": fixture.Manifest("1", "a"),
		"a.rego":    overDataModule(overData["looks up what claims have"]),
	}))
	m := &model{data: map[string]any{"grants": grants}}
	s.Put("data", fixture.Archive(t, m.bundle(t)))
	e := fixture.New(t, fixture.Options{OPA: fixture.OPA(t, s, nil, "policy", "data")})
	e.MustFetch(t, "policy", "data")
	remembered := func() (n int) {
		for i := range callers {
			user := fmt.Sprint("user:default/u", i)
			for _, o := range all(t, e, decision.Caller{User: user, Claims: []string{user}}).Outcomes {
				if o.Remembered {
					n++
				}
			}
		}
		return n
	}
	remembered()
	if n := remembered(); n != 4*callers {
		t.Fatalf("%d of %d answers are remembered before anything changed", n, 4*callers)
	}
	for step, change := range []struct {
		bundle fixture.Files
		want   int
	}{
		{fixture.Files{"patch.json": `{"data": [{"op": "replace", "path": "/b/grants/user:default~1u7", "value": ["p1"]}]}`}, 4 * (callers - 1)},
		{fixture.Files{"patch.json": `{"data": [{"op": "upsert", "path": "/b/grants/user:default~1new", "value": ["p1"]}]}`}, 4 * callers},
		{fixture.Files{"patch.json": `{"data": [{"op": "upsert", "path": "/b/elsewhere/x", "value": ["p1"]}]}`}, 4 * callers},
		{fixture.Files{"patch.json": `{"data": [{"op": "remove", "path": "/b/grants/user:default~1u8"}]}`}, 4 * (callers - 1)},
		{fixture.Files{"patch.json": `{"data": [{"op": "replace", "path": "/b/grants", "value": {}}]}`}, 4 * (callers - 1)},
	} {
		change.bundle[".manifest"] = fixture.Manifest(fmt.Sprint("d", step), "b")
		s.Put("data", fixture.Archive(t, change.bundle))
		e.MustFetch(t, "data")
		// Who has no text of the data is alike with others, but for one in a thousand.
		if n := remembered(); n > change.want || n < change.want-20 || step < 4 && n != change.want {
			t.Errorf("step %d: %d of %d answers are remembered, want %d", step, n, 4*callers, change.want)
		}
	}
}

// TestWritesUnderLoad writes data while it is decided by, and wants nobody who asks after a
// write was answered to be answered by what was there before.
func TestWritesUnderLoad(t *testing.T) {
	e := fixture.New(t, fixture.Options{
		DataRoots: []string{"w"},
		Default: fixture.FS(fixture.Files{".manifest": fixture.Manifest("1", "a"), "a.rego": overDataModule(`
default decision := {"result": "DENY"}

decision := {"result": "ALLOW", "reason": sprintf("%d %d", [data.w.both[0], data.w.other])} if data.w.allowed[input.permission.name]`)}),
	})
	const writes = 1000
	write := func(n int) {
		puts(t, e, "w", fixture.JSON(t, map[string]any{
			"both": []any{n}, "other": n, "allowed": map[string]any{"p0": true, "p1": n%2 == 0}, "elsewhere": n,
		}))
	}
	write(0)
	var newest atomic.Int64
	var done atomic.Bool
	var group sync.WaitGroup
	for worker := range 3 {
		group.Go(func() {
			caller := decision.Caller{User: fmt.Sprint("user:default/u", worker)}
			for !done.Load() {
				least := newest.Load()
				batch, err := e.Engine.Decide(context.Background(), caller, []wire.Permission{{Name: "p0"}, {Name: "p1"}})
				if err != nil {
					t.Error(err)
					return
				}
				var both, other int64
				if _, err := fmt.Sscan(batch.Outcomes[0].Reason, &both, &other); err != nil || both != other || both < least {
					t.Errorf("answered by %q after %d was written: %v", batch.Outcomes[0].Reason, least, err)
					return
				}
				if even := batch.Outcomes[1].Decision.Result == wire.Allow; even != (both%2 == 0) {
					t.Errorf("one answer is by write %d, and the other is not", both)
					return
				}
			}
		})
	}
	for n := 1; n <= writes; n++ {
		write(n)
		newest.Store(int64(n))
	}
	done.Store(true)
	group.Wait()
}
