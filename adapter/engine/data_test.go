package engine_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/stagedoor/stagedoor/adapter/decision"
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

// TestDataChangesAgree changes data at random, by whole bundles and by delta bundles, and
// compares all answers with those of an engine that was never asked before.
func TestDataChangesAgree(t *testing.T) {
	for name, text := range overData {
		t.Run(name, func(t *testing.T) {
			policy := fixture.Files{".manifest": fixture.Manifest("1", "a"), "a.rego": overDataModule(text)}
			m := &model{Rand: rand.New(rand.NewPCG(1, 2)), data: map[string]any{"grants": map[string]any{}, "labels": map[string]any{}}}
			s := fixture.NewServer(t)
			s.Put("policy", fixture.Archive(t, policy))
			s.Put("data", fixture.Archive(t, m.bundle(t)))
			e := fixture.New(t, fixture.Options{OPA: fixture.OPA(t, s, nil, "policy", "data")})
			e.MustFetch(t, "policy", "data")
			answers, kept, compiled := 0, 0, e.State().Policy
			for round := range 20 {
				s.Put("data", fixture.Archive(t, m.change(t)))
				e.MustFetch(t, "data")
				fresh := fixture.NewServer(t)
				fresh.Put("policy", fixture.Archive(t, policy))
				fresh.Put("data", fixture.Archive(t, m.bundle(t)))
				other := fixture.New(t, fixture.Options{OPA: fixture.OPA(t, fresh, nil, "policy", "data")})
				other.MustFetch(t, "policy", "data")
				if got, want := e.State().Revision, other.State().Revision; got != want {
					t.Fatalf("round %d: the revision is %s, want %s", round, got, want)
				}
				for _, caller := range askers(m.Rand) {
					got, want := all(t, e, caller), all(t, other, caller)
					for i, o := range got.Outcomes {
						answers++
						if o.Remembered {
							kept++
						}
						w := want.Outcomes[i]
						if o.Decision.Text() != w.Decision.Text() || o.Reason != w.Reason || o.Err != nil || w.Err != nil {
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
