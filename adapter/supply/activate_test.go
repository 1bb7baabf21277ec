package supply_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/adapter/fixture"
	"github.com/stagedoor/stagedoor/adapter/supply"
	"github.com/stagedoor/stagedoor/adapter/vetted"
	"github.com/stagedoor/stagedoor/adapter/wire"
	"github.com/stagedoor/stagedoor/rego"
)

func TestServesWhatItFetches(t *testing.T) {
	s := fixture.NewServer(t)
	e := fixture.New(t, fixture.Options{OPA: fixture.OPA(t, s, nil, "authz")})
	if status := e.Status(); status.Ready || status.Waiting != "bundles: authz" {
		t.Errorf("before the bundle: %+v", status)
	}
	if _, err := e.Engine.Decide(t.Context(), fixture.Ann(), []wire.Permission{fixture.Basic("x")}); err != supply.ErrNoPolicy { //nolint:errorlint // it is the very one
		t.Errorf("error %v, want supply.ErrNoPolicy", err)
	}
	s.Put("authz", fixture.Archive(t, fixture.Allowing("one", "x")))
	e.MustFetch(t, "authz")
	e.WantAnswer(t, "x", wire.Allow)
	e.WantAnswer(t, "y", wire.Deny)
	s.Put("authz", fixture.Archive(t, fixture.Allowing("two", "y")))
	e.MustFetch(t, "authz")
	e.WantAnswer(t, "x", wire.Deny)
	e.WantAnswer(t, "y", wire.Allow)
	if status := e.Status(); !status.Ready || status.Revision != "two" || status.Entrypoint != "a/allow" || len(status.Refused) != 0 {
		t.Errorf("status %+v", status)
	}
}

// A policy of several bundles serves whole or not at all: what has not come could
// be what denies.
func TestWaitsForEveryBundle(t *testing.T) {
	s := fixture.NewServer(t)
	s.Put("authz", fixture.Archive(t, fixture.Files{
		".manifest": fixture.Manifest("1", "a"),
		"a.rego":    "package a\n\n# METADATA\n# entrypoint: true\nallow if not data.b.denied\n",
	}))
	e := fixture.New(t, fixture.Options{OPA: fixture.OPA(t, s, nil, "authz", "denials")})
	e.MustFetch(t, "authz")
	status := e.Status()
	if status.Ready || status.Waiting != "bundles: denials" || !cmp.Equal(status.Awaited, []string{"denials"}) {
		t.Errorf("without the denials: %+v", status)
	}
	s.Put("denials", fixture.Archive(t, fixture.Files{".manifest": fixture.Manifest("7", "b"), "b/data.json": `{"denied": true}`}))
	e.MustFetch(t, "denials")
	e.WantAnswer(t, "x", wire.Deny)
	if got := e.Status().Revision; got != "authz=1,denials=7" {
		t.Errorf("revision %q", got)
	}
}

// delta is a delta bundle of the operations.
func delta(revision, operations string, roots ...string) fixture.Files {
	return fixture.Files{"patch.json": `{"data": [` + operations + `]}`, ".manifest": fixture.Manifest(revision, roots...)}
}

// TestDeltaBundles changes the data of a bundle by delta bundles. The masks of the
// decision log go on with the policy as it was compiled.
func TestDeltaBundles(t *testing.T) {
	files := fixture.Files{
		".manifest": fixture.Manifest("1", "a"), "a.rego": "package a\n\n# METADATA\n# entrypoint: true\ndefault allow := false\n\n" +
			"allow if data.a.allowed[input.permission.name]\n", "a/allowed/data.json": `{"x": true}`,
	}
	s := fixture.NewServer(t)
	s.Put("authz", fixture.Archive(t, delta("0", `{"op": "upsert", "path": "/a/allowed/y", "value": true}`, "a")))
	e := fixture.New(t, fixture.Options{OPA: fixture.OPA(t, s, nil, "authz")})
	if err := e.Fetch(t, "authz"); err == nil || e.State() != nil {
		t.Error("a delta bundle is taken in before there is a bundle")
	}
	fixture.Contains(t, e.Refusal("authz"), "no bundle of the name is active that it could change")
	s.Put("authz", fixture.Archive(t, files))
	e.MustFetch(t, "authz")
	e.WantAnswer(t, "y", wire.Deny)
	compiler := e.Manager.GetCompiler()
	for n, step := range []struct {
		bundle   fixture.Files
		revision string
		allowed  string
	}{
		{delta("2", `{"op": "upsert", "path": "/a/allowed/y", "value": true}, {"op": "remove", "path": "/a/allowed/x"}`, "a"), "2", "y"},
		{delta("3", `{"op": "upsert", "path": "/a/allowed/b~1c", "value": true}, {"op": "upsert", "path": "/a/new/deep", "value": 1}`, "a"), "3", "y b/c"},
		{files.With(fixture.Files{".manifest": fixture.Manifest("4", "a")}), "4", "x"},
		{delta("", `{"op": "replace", "path": "/a/allowed", "value": {"z": true}}`, "a"), "sha256:", "z"},
	} {
		s.Put("authz", fixture.Archive(t, step.bundle))
		e.MustFetch(t, "authz")
		for _, name := range []string{"x", "y", "b/c", "z"} {
			want := wire.Deny
			if slices.Contains(strings.Fields(step.allowed), name) {
				want = wire.Allow
			}
			e.WantAnswer(t, name, want)
		}
		status := e.Status()
		if !strings.HasPrefix(status.Revision, step.revision) || len(status.Refused) > 0 || status.Revisions["authz"] != status.Revision {
			t.Errorf("step %d: status %+v", n, status)
		}
		if e.State().Policy != 1 || e.Manager.GetCompiler() != compiler {
			t.Errorf("step %d: the policy was compiled again", n)
		}
	}
	s.Put("authz", fixture.Archive(t, files.With(fixture.Files{"b.rego": "package a.b\n"})))
	e.MustFetch(t, "authz")
	if e.State().Policy == 1 {
		t.Error("another policy is taken for the same")
	}
}

// TestDeltaWhileAnotherIsAwaited changes one of two bundles before the other is there.
func TestDeltaWhileAnotherIsAwaited(t *testing.T) {
	s := fixture.NewServer(t)
	s.Put("data", fixture.Archive(t, fixture.Files{".manifest": fixture.Manifest("1", "b"), "b/data.json": `{"x": true}`}))
	e := fixture.New(t, fixture.Options{OPA: fixture.OPA(t, s, nil, "policy", "data")})
	e.MustFetch(t, "data")
	s.Put("data", fixture.Archive(t, delta("2", `{"op": "upsert", "path": "/b/y", "value": true}`, "b")))
	e.MustFetch(t, "data")
	if status := e.Status(); status.Ready || !slices.Equal(status.Awaited, []string{"policy"}) {
		t.Errorf("status %+v", status)
	}
	s.Put("policy", fixture.Archive(t, fixture.Files{".manifest": fixture.Manifest("1", "a"), "a.rego": "package a\n\n# METADATA\n" +
		"# entrypoint: true\ndefault allow := false\n\nallow if data.b[input.permission.name]\n"}))
	e.MustFetch(t, "policy")
	e.WantAnswer(t, "x", wire.Allow)
	e.WantAnswer(t, "y", wire.Allow)
	if got := e.State().Revision; got != "data=2,policy=1" {
		t.Errorf("the revision is %s", got)
	}
}

// TestLibraryInABundleStandsInNobodysWay has a bundle with the rule library in it, as opa build
// makes of both, beside another one, in either order.
func TestLibraryInABundleStandsInNobodysWay(t *testing.T) {
	s, policy := fixture.NewServer(t), withLibrary()
	other := func(revision, name string) fixture.Files {
		return fixture.Files{".manifest": fixture.Manifest(revision, "b"), "b.rego": "package b\n\nallowed[\"" + name + "\"] if true\n"}
	}
	for _, order := range [][]string{{"policy", "other"}, {"other", "policy"}} {
		s.Put("policy", fixture.Archive(t, policy))
		s.Put("other", fixture.Archive(t, other("1", "x")))
		options := fixture.OPA(t, s, nil, "policy", "other")
		e := fixture.New(t, fixture.Options{OPA: options})
		for _, name := range order {
			e.MustFetch(t, name)
		}
		e.WantAnswer(t, "x", wire.Allow)
		s.Put("other", fixture.Archive(t, other("2", "y")))
		e.MustFetch(t, "other")
		e.WantAnswer(t, "y", wire.Allow)
		s.Put("policy", fixture.Archive(t, policy.With(fixture.Files{".manifest": fixture.Manifest("2", "a", "backstage")})))
		e.MustFetch(t, "policy")
		e.WantAnswer(t, "x", wire.Deny)
		e.WantAnswer(t, "y", wire.Allow)
	}
}

// withLibrary is a policy that asks data of another bundle, with the rule library beside it.
func withLibrary() fixture.Files {
	policy := fixture.Files{".manifest": fixture.Manifest("1", "a", "backstage"), "a.rego": "package a\n\n# METADATA\n" +
		"# entrypoint: true\ndefault allow := false\n\nallow if data.b.allowed[input.permission.name]\n"}
	for name, text := range rego.Modules() {
		policy["lib/"+name] = text
	}
	return policy
}

// TestKeptLibraryStandsInNobodysWay restarts with such a bundle that was kept, and has
// another one come later.
func TestKeptLibraryStandsInNobodysWay(t *testing.T) {
	s := fixture.NewServer(t)
	s.Put("policy", fixture.Archive(t, withLibrary()))
	document := fixture.JSON(t, map[string]any{
		"services": map[string]any{"s": map[string]any{"url": s.URL}},
		"bundles": map[string]any{
			"policy": map[string]any{"service": "s", "resource": "policy", "persist": true, "trigger": "manual"},
			"other":  map[string]any{"service": "s", "resource": "other", "persist": true, "trigger": "manual"},
		},
		"persistence_directory": t.TempDir(),
	})
	first := fixture.New(t, fixture.Options{OPA: document})
	first.MustFetch(t, "policy")
	second := fixture.New(t, fixture.Options{OPA: document})
	s.Put("other", fixture.Archive(t, fixture.Files{
		".manifest": fixture.Manifest("1", "b"), "b.rego": "package b\n\nallowed[\"x\"] if true\n",
	}))
	second.MustFetch(t, "other")
	second.WantAnswer(t, "x", wire.Allow)
}

func TestRefusesAndGoesOn(t *testing.T) {
	good := fixture.Allowing("good", "x")
	tests := map[string]struct {
		bundle fixture.Files
		want   []string
	}{
		"does not compile": {
			good.With(fixture.Files{"a.rego": "package a\n\n# METADATA\n# entrypoint: true\nallow if unknown_function(1)\n"}),
			[]string{"a.rego:5", "undefined function unknown_function"},
		},
		"no entrypoint": {
			good.With(fixture.Files{"a.rego": "package a\n\nallow := true\n"}),
			[]string{"no rule decides", "entrypoint: true", "its rules are a/allow"},
		},
		"two entrypoints": {
			good.With(fixture.Files{"b.rego": "package a.b\n\n# METADATA\n# entrypoint: true\nallow := true\n"}),
			[]string{"several rules are annotated", "a/allow (", "a/b/allow ("},
		},
		"a function as entrypoint": {
			good.With(fixture.Files{"a.rego": "package a\n\n# METADATA\n# entrypoint: true\nallow(x) if x\n"}),
			[]string{"a/allow, annotated at", "is a function"},
		},
		"a package of functions as entrypoint": {
			good.With(fixture.Files{"a.rego": "# METADATA\n# entrypoint: true\npackage a\n\nallow(x) := x\n"}),
			[]string{"no rule decides: the entrypoint a, annotated at"},
		},
		"resource outside a rule call": {
			good.With(fixture.Files{"a.rego": "package a\n\n# METADATA\n# entrypoint: true\nallow if input.resource.kind == \"API\"\n"}),
			[]string{"a.rego:5", "input.resource.kind"},
		},
		"rule without a name": {
			good.With(fixture.Files{"a.rego": `package a

# METADATA
# entrypoint: true
allow if is_mine(input.resource, {})

# METADATA
# scope: document
# custom:
#   backstage: {pluginId: p, resourceType: t}
is_mine(resource, params) if resource.owner == "me"
`}),
			[]string{"a.rego:7", "rule is missing"},
		},
		"without roots": {
			fixture.Files{"a.rego": good["a.rego"], "roles/data.json": "{}", "data.json": `{"extra": 1}`},
			[]string{`{"roots": ["a", "extra", "roles"]}`},
		},
		"roots of OPA's own": {
			good.With(fixture.Files{".manifest": fixture.Manifest("x", "a", "system")}),
			[]string{"the root system covers what OPA itself keeps"},
		},
		"roots that are not written as they are read": {
			good.With(fixture.Files{".manifest": fixture.Manifest("x", "a", "s%79stem/bundles")}),
			[]string{"the root \"s%79stem/bundles\" is not written as it is read"},
		},
		"package of the rule library": {
			good.With(fixture.Files{".manifest": fixture.Manifest("x", "a", "backstage"), "c.rego": "package backstage.catalog\n\nis_entity_owner(_, _) := true\n"}),
			[]string{"package backstage.catalog is of the rule library"},
		},
		"data outside its roots": {
			good.With(fixture.Files{"b/data.json": `{"x": 1}`}),
			[]string{"do not permit data at path"},
		},
		"delta of other roots": {
			delta("d", `{"op": "upsert", "path": "/a/x", "value": 1}`, "a", "b"),
			[]string{"a delta bundle has the roots of the bundle that it changes, which are [a]"},
		},
		"delta outside its roots": {
			delta("d", `{"op": "upsert", "path": "/a/x", "value": 1}, {"op": "upsert", "path": "/ab/x", "value": 1}`, "a"),
			[]string{"manifest roots [a] do not permit data patch at path 'ab/x'"},
		},
		"delta with a path that never ends": {
			delta("d", `{"op": "upsert", "path": "/a`+strings.Repeat("/x", 3_000_000)+`", "value": 1}`, "a"),
			[]string{"is no path"},
		},
		"delta where a rule is": {
			delta("d", `{"op": "upsert", "path": "/a/allow", "value": true}`, "a"),
			[]string{"a.rego:5", "conflicting rule for data path a/allow found"},
		},
		"delta that does not fit": {
			delta("d", `{"op": "upsert", "path": "/a/x", "value": 1}, {"op": "remove", "path": "/a/absent"}`, "a"),
			[]string{"patch.json: /a/absent: storage_not_found_error"},
		},
		"delta with another operation": {
			delta("d", `{"op": "move", "path": "/a/x", "value": 1}`, "a"),
			[]string{`patch.json: "move" is no operation`},
		},
		"WebAssembly": {
			good.With(fixture.Files{"policy.wasm": "\x00asm"}),
			[]string{"holds WebAssembly"},
		},
	}
	s := fixture.NewServer(t)
	s.Put("authz", fixture.Archive(t, good))
	e := fixture.New(t, fixture.Options{OPA: fixture.OPA(t, s, nil, "authz")})
	e.MustFetch(t, "authz")
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s.Put("authz", fixture.Archive(t, test.bundle))
			if err := e.Fetch(t, "authz"); err == nil {
				t.Error("it is taken in")
			}
			e.WantAnswer(t, "x", wire.Allow)
			status := e.Status()
			fixture.Contains(t, e.Refusal("authz"), test.want...)
			if !status.Ready || status.Revision != "good" {
				t.Errorf("status %+v", status)
			}
			s.Put("authz", fixture.Archive(t, good))
			e.MustFetch(t, "authz")
			if refused := e.Status().Refused; len(refused) != 0 {
				t.Errorf("still refused once it is good again: %v", refused)
			}
		})
	}
}

// TestDocumentsOfRules has entrypoints that are no one rule: several rules that make a
// document, a partial object, and a package.
func TestDocumentsOfRules(t *testing.T) {
	for name, test := range map[string]struct{ entrypoint, module string }{
		"several rules":  {"a/decision", "package a\n\ndecision.result := \"ALLOW\"\n\ndecision.reason := \"so\" if input.identity\n"},
		"partial object": {"a/decision", "package a\n\ndecision[k] := v if some k, v in {\"result\": \"ALLOW\", \"reason\": \"so\"}\n"},
		"package":        {"a/decision", "package a.decision\n\nresult := \"ALLOW\"\n\nreason := \"so\"\n\nhelp(x) := x\n"},
		"annotated":      {"", "# METADATA\n# entrypoint: true\npackage a.decision\n\nresult := \"ALLOW\"\n\nreason := \"so\"\n"},
	} {
		t.Run(name, func(t *testing.T) {
			e := fixture.New(t, fixture.Options{
				Entrypoint: test.entrypoint, Default: fixture.FS(fixture.Files{".manifest": fixture.Manifest("1", "a"), "a.rego": test.module}),
			})
			batch, err := e.Engine.Decide(t.Context(), fixture.Ann(), []wire.Permission{fixture.Basic("x")})
			fixture.Must(t, err)
			if o := batch.Outcomes[0]; o.Err != nil || o.Decision.Result != wire.Allow || o.Reason != "so" || batch.Entrypoint != "a/decision" {
				t.Errorf("outcome %+v of %s", o, batch.Entrypoint)
			}
		})
	}
}

func TestConfiguredEntrypoint(t *testing.T) {
	s := fixture.NewServer(t)
	s.Put("authz", fixture.Archive(t, fixture.Files{
		".manifest": fixture.Manifest("1", "rbac_policy"),
		"p.rego":    "package rbac_policy\n\ndecision := {\"result\": \"ALLOW\"}\n",
	}))
	e := fixture.New(t, fixture.Options{OPA: fixture.OPA(t, s, nil, "authz"), Entrypoint: "rbac_policy/decision"})
	e.MustFetch(t, "authz")
	e.WantAnswer(t, "x", wire.Allow)
	other := fixture.New(t, fixture.Options{OPA: fixture.OPA(t, s, nil, "authz"), Entrypoint: "rbac_policy/decisions"})
	if err := other.Fetch(t, "authz"); err == nil {
		t.Error("taken in without the entrypoint")
	}
	fixture.Contains(t, other.Refusal("authz"), "rbac_policy/decisions (stagedoor.policy.entrypoint)", "rbac_policy/decision")
}

// The annotation, and the team's own rule, may be in any of the bundles.
func TestEntrypointInOneOfSeveralBundles(t *testing.T) {
	s := fixture.NewServer(t)
	s.Put("lib", fixture.Archive(t, fixture.Files{".manifest": fixture.Manifest("", "team"), "r.rego": `package team.todo

# METADATA
# scope: document
# custom:
#   backstage: {pluginId: todo, resourceType: todo-item, rule: IS_OWNER}
is_owner(resource, params) if resource.owner == params.userId
`}))
	s.Put("authz", fixture.Archive(t, fixture.Files{".manifest": fixture.Manifest("v1", "a"), "a.rego": `package a

import data.team.todo

# METADATA
# entrypoint: true
allow if todo.is_owner(input.resource, {"userId": input.identity.user})
`}))
	e := fixture.New(t, fixture.Options{OPA: fixture.OPA(t, s, nil, "authz", "lib")})
	if err := e.Fetch(t, "authz"); err == nil {
		t.Error("compiles without what it imports")
	}
	e.MustFetch(t, "lib", "authz")
	p := wire.Permission{Name: "todo.update", Resource: true, ResourceType: "todo-item"}
	batch, err := e.Engine.Decide(t.Context(), fixture.Ann(), []wire.Permission{p})
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"result":"CONDITIONAL","pluginId":"todo","resourceType":"todo-item","conditions":` +
		`{"rule":"IS_OWNER","resourceType":"todo-item","params":{"userId":"user:default/ann"}}}`
	if got := string(batch.Outcomes[0].Decision.AppendJSON(nil)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	// A bundle that names no revision is named by its content.
	if got := batch.Revisions["lib"]; !strings.HasPrefix(got, "sha256:") || batch.Revision != "authz=v1,lib="+got {
		t.Errorf("revisions %v, %s", batch.Revisions, batch.Revision)
	}
}

func TestContentRevisionFollowsTheContent(t *testing.T) {
	s := fixture.NewServer(t)
	e := fixture.New(t, fixture.Options{OPA: fixture.OPA(t, s, nil, "authz")})
	seen := map[string]string{}
	for name, bundle := range map[string]fixture.Files{
		"policy": fixture.Allowing("", "x"), "other policy": fixture.Allowing("", "y"),
		"data": fixture.Allowing("", "x").With(fixture.Files{"a/b/data.json": `{"n": 1}`}), "other data": fixture.Allowing("", "x").With(fixture.Files{"a/b/data.json": `{"n": 2}`}),
	} {
		s.Put("authz", fixture.Archive(t, bundle))
		e.MustFetch(t, "authz")
		revision := e.Status().Revision
		if other, known := seen[revision]; known || revision == "" {
			t.Errorf("%s and %s are both revision %q", name, other, revision)
		}
		seen[revision] = name
	}
}

// OPA reads what it persisted without METADATA.
func TestPersistedBundleKeepsItsMetadata(t *testing.T) {
	s := fixture.NewServer(t)
	s.Put("authz", fixture.Archive(t, fixture.Allowing("kept", "x")))
	config := fixture.JSON(t, map[string]any{
		"services":              map[string]any{"s": map[string]any{"url": s.URL}},
		"bundles":               map[string]any{"authz": map[string]any{"resource": "authz", "persist": true, "trigger": "manual"}},
		"persistence_directory": t.TempDir(),
	})
	first := fixture.New(t, fixture.Options{OPA: config})
	first.MustFetch(t, "authz")
	s.Close()
	second := fixture.New(t, fixture.Options{OPA: config})
	second.WantAnswer(t, "x", wire.Allow)
	if status := second.Status(); !status.Ready || status.Revision != "kept" {
		t.Errorf("status %+v", status)
	}
	if err := second.Fetch(t, "authz"); err == nil {
		t.Error("the server is gone")
	}
	second.WantAnswer(t, "x", wire.Allow)
	fixture.Contains(t, second.Refusal("authz"), "connection refused")
}

// A bundle without a revision has the same name wherever it was read from.
func TestPersistedBundleKeepsItsRevision(t *testing.T) {
	s := fixture.NewServer(t)
	s.Put("authz", fixture.Archive(t, fixture.Allowing("", "x").With(fixture.Files{"a/b/data.json": `{"n": 1}`})))
	config := fixture.JSON(t, map[string]any{
		"services":              map[string]any{"s": map[string]any{"url": s.URL}},
		"bundles":               map[string]any{"authz": map[string]any{"resource": "authz", "persist": true, "trigger": "manual"}},
		"persistence_directory": t.TempDir(),
	})
	first := fixture.New(t, fixture.Options{OPA: config})
	first.MustFetch(t, "authz")
	fetched := first.Status().Revision
	second := fixture.New(t, fixture.Options{OPA: config})
	persisted := second.Status().Revision
	second.MustFetch(t, "authz")
	if again := second.Status().Revision; fetched == "" || persisted != fetched || again != fetched {
		t.Errorf("fetched as %s, persisted as %s, and fetched again as %s", fetched, persisted, again)
	}
	second.WantAnswer(t, "x", wire.Allow)
}

// Where a bundle cannot be persisted, the same state goes on, and only the writing is
// tried again.
func TestPersistenceThatFailsIsToldAndHarmless(t *testing.T) {
	s := fixture.NewServer(t)
	masked := func(revision, allowed string) []byte {
		files := fixture.Allowing(revision, allowed).With(fixture.Files{"m.rego": "package system.log\n\nmask contains \"/input/secret\"\n"})
		return fixture.Archive(t, files.With(fixture.Files{".manifest": fixture.Manifest(revision, "a", "system/log")}))
	}
	s.Put("authz", masked("1", "x"))
	obstacle := filepath.Join(t.TempDir(), "file")
	fixture.Must(t, os.WriteFile(obstacle, nil, 0o600))
	log, lines := fixture.NewLog()
	e := fixture.New(t, fixture.Options{Log: log, OPA: fixture.JSON(t, map[string]any{
		"services":              map[string]any{"s": map[string]any{"url": s.URL}},
		"bundles":               map[string]any{"authz": map[string]any{"resource": "authz", "persist": true, "trigger": "manual"}},
		"persistence_directory": obstacle,
	})})
	activations := func() int { return strings.Count(lines.String(), `"policy is active"`) }
	fails := func() {
		t.Helper()
		if err := e.Fetch(t, "authz"); err == nil {
			t.Error("persisted into a file")
		}
		fixture.Contains(t, e.Refusal("authz"), "it serves, but could not be persisted", "not a directory")
	}
	fails()
	first := e.State()
	for range 19 {
		before := e.Status().Confirmed
		fails()
		if e.State() != first || !e.Status().Confirmed.After(before) {
			t.Fatal("another state serves, or it was not confirmed")
		}
	}
	e.WantAnswer(t, "x", wire.Allow)
	if rules := e.Manager.GetCompiler().GetRules(ast.MustParseRef("data.system.log.mask")); len(rules) != 1 {
		t.Errorf("OPA has %d rules of the mask", len(rules))
	}
	if n := activations(); n != 1 {
		t.Errorf("%d activations in 20 polls", n)
	}

	// What differs is activated all the same, also back and forth and where it is refused between.
	s.Put("authz", masked("2", "y"))
	fails()
	e.WantAnswer(t, "y", wire.Allow)
	s.Put("authz", masked("1", "x"))
	fails()
	e.WantAnswer(t, "y", wire.Deny)
	s.Put("authz", fixture.Archive(t, fixture.Allowing("3", "y").With(fixture.Files{"b.rego": "package a\n\nx := nothing(1)\n"})))
	if err := e.Fetch(t, "authz"); err == nil {
		t.Error("taken in")
	}
	fixture.Contains(t, e.Refusal("authz"), "undefined function")
	s.Put("authz", masked("1", "x"))
	fails()
	e.WantAnswer(t, "x", wire.Allow)
	if n := activations(); n != 3 {
		t.Errorf("%d activations of 3 policies", n)
	}

	fixture.Must(t, os.Remove(obstacle))
	e.MustFetch(t, "authz")
	if refused := e.Status().Refused; len(refused) != 0 || activations() != 3 {
		t.Errorf("refused %+v, %d activations", refused, activations())
	}
	if _, err := os.Stat(filepath.Join(obstacle, "bundles", "authz", "bundle.tar.gz")); err != nil {
		t.Error(err)
	}
}

// A bundle that was taken out, and serves on since nothing could without it, is held no
// more: when it comes back, it is activated.
func TestBundleThatCameBackIsActivated(t *testing.T) {
	s := fixture.NewServer(t)
	s.Put("authz", fixture.Archive(t, fixture.Allowing("1", "x")))
	discovered := func(names ...string) []byte {
		bundles := map[string]any{}
		for _, name := range names {
			bundles[name] = map[string]any{"service": "s", "resource": name, "persist": true, "trigger": "manual"}
		}
		return fixture.Archive(t, fixture.Files{"data.json": string(fixture.JSON(t, map[string]any{"config": map[string]any{"bundles": bundles}}))})
	}
	data := fixture.Archive(t, fixture.Files{".manifest": fixture.Manifest("1", "d"), "d/data.json": "{}"})
	s.Put("data", data)
	s.Put("discovery", discovered("authz", "data"))
	e := fixture.New(t, fixture.Options{OPA: fixture.JSON(t, map[string]any{
		"services":              map[string]any{"s": map[string]any{"url": s.URL}},
		"discovery":             map[string]any{"resource": "discovery", "decision": "config", "trigger": "manual"},
		"persistence_directory": t.TempDir(),
	})})
	e.Discover(t)
	e.MustFetch(t, "authz", "data")
	e.WantAnswer(t, "x", wire.Allow)
	s.Put("discovery", discovered("data"))
	e.Discover(t)
	fixture.Contains(t, e.Refusal("authz"), "it is configured no more")
	s.Put("discovery", discovered("authz", "data"))
	e.Discover(t)
	e.MustFetch(t, "authz")
	if held, err := e.Held(t.Context()); err != nil || !slices.Contains(held, "authz") {
		t.Errorf("the store holds %q, error %v", held, err)
	}
	e.WantAnswer(t, "x", wire.Allow)
}

// discoveryConfig is a discovery bundle that configures the named bundles.
func discoveryConfig(t testing.TB, s *fixture.Server, bundles ...string) []byte {
	t.Helper()
	sources := map[string]any{}
	for _, name := range bundles {
		sources[name] = map[string]any{"service": "s", "resource": name}
	}
	return fixture.Archive(t, fixture.Files{"data.json": string(fixture.JSON(t, map[string]any{"config": map[string]any{"bundles": sources}}))})
}

func discoverFrom(t testing.TB, s *fixture.Server) fixture.Options {
	return fixture.Options{OPA: fixture.JSON(t, map[string]any{
		"services":  map[string]any{"s": map[string]any{"url": s.URL}},
		"discovery": map[string]any{"resource": "discovery", "decision": "config", "trigger": "manual"},
	})}
}

func TestDiscoveryBringsBundlesAndTakesThemOut(t *testing.T) {
	s := fixture.NewServer(t)
	s.Put("authz", fixture.Archive(t, fixture.Files{
		".manifest": fixture.Manifest("1", "a"),
		"a.rego":    "package a\n\n# METADATA\n# entrypoint: true\ndefault allow := false\n\nallow if input.permission.name in data.extra.names\n",
	}))
	s.Put("extra", fixture.Archive(t, fixture.Files{".manifest": fixture.Manifest("2", "extra"), "extra/data.json": `{"names": ["x"]}`}))
	s.Put("discovery", discoveryConfig(t, s, "authz", "extra"))
	e := fixture.New(t, discoverFrom(t, s))
	if status := e.Status(); status.Waiting != "discovery" {
		t.Errorf("before discovery: %+v", status)
	}
	e.Discover(t)
	e.MustFetch(t, "authz", "extra")
	e.WantAnswer(t, "x", wire.Allow)

	// A further bundle is announced and late: the policy stays as it is, and whole.
	s.Put("discovery", discoveryConfig(t, s, "authz", "extra", "late"))
	e.Discover(t)
	s.Put("extra", fixture.Archive(t, fixture.Files{".manifest": fixture.Manifest("3", "extra"), "extra/data.json": `{"names": ["y"]}`}))
	e.MustFetch(t, "extra")
	e.WantAnswer(t, "x", wire.Allow)
	if status := e.Status(); !status.Ready || !cmp.Equal(status.Awaited, []string{"late"}) {
		t.Errorf("with a late bundle: %+v", status)
	}
	s.Put("late", fixture.Archive(t, fixture.Files{".manifest": fixture.Manifest("4", "late"), "late/data.json": `{}`}))
	e.MustFetch(t, "late")
	e.WantAnswer(t, "x", wire.Deny)
	e.WantAnswer(t, "y", wire.Allow)

	// What is taken out does not serve any more, at once.
	s.Put("discovery", discoveryConfig(t, s, "authz", "late"))
	e.Discover(t)
	e.WantAnswer(t, "y", wire.Deny)
	if got := e.Status().Revision; got != "authz=1,late=4" {
		t.Errorf("revision %q", got)
	}
	// And the rest can be changed as before.
	s.Put("late", fixture.Archive(t, fixture.Files{".manifest": fixture.Manifest("5", "late"), "late/data.json": `{"z": 1}`}))
	e.MustFetch(t, "late")
	if got := e.Status().Revision; got != "authz=1,late=5" {
		t.Errorf("revision %q", got)
	}
}

// A bundle that was announced and never came is given up: what came meanwhile
// serves, and has the mask that it had.
func TestDiscoveryGivesUpAnAwaitedBundle(t *testing.T) {
	s := fixture.NewServer(t)
	s.Put("authz", fixture.Archive(t, fixture.Allowing("1", "x")))
	s.Put("other", fixture.Archive(t, fixture.Files{".manifest": fixture.Manifest("1", "other"), "other.rego": "package other\n\nx := 1\n"}))
	s.Put("discovery", discoveryConfig(t, s, "authz", "late"))
	o := discoverFrom(t, s)
	o.Mask = rego.Mask()
	e := fixture.New(t, o)
	masked := func() {
		t.Helper()
		if e.Manager.GetCompiler().Modules[vetted.MaskFile] == nil {
			t.Error("the decision log is not masked")
		}
	}
	e.Discover(t)
	e.MustFetch(t, "authz")
	if e.Status().Ready {
		t.Error("ready without a bundle that is awaited")
	}
	s.Put("discovery", discoveryConfig(t, s, "authz"))
	e.Discover(t)
	e.WantAnswer(t, "x", wire.Allow)

	// The same of a policy that serves: it is not what it was before the bundle was announced.
	s.Put("discovery", discoveryConfig(t, s, "authz", "other", "late"))
	e.Discover(t)
	s.Put("authz", fixture.Archive(t, fixture.Allowing("2", "y")))
	e.MustFetch(t, "authz", "other")
	e.WantAnswer(t, "x", wire.Allow)
	s.Put("discovery", discoveryConfig(t, s, "authz", "late"))
	e.Discover(t) // other came, and never served
	masked()
	e.WantAnswer(t, "x", wire.Allow)
	s.Put("discovery", discoveryConfig(t, s, "authz"))
	e.Discover(t)
	e.WantAnswer(t, "x", wire.Deny)
	e.WantAnswer(t, "y", wire.Allow)
	masked()
}

func TestDiscoveryThatTakesOutTheEntrypointIsRefused(t *testing.T) {
	s := fixture.NewServer(t)
	s.Put("authz", fixture.Archive(t, fixture.Allowing("1", "x")))
	s.Put("data", fixture.Archive(t, fixture.Files{".manifest": fixture.Manifest("2", "d"), "d/data.json": `{}`}))
	s.Put("discovery", discoveryConfig(t, s, "authz", "data"))
	e := fixture.New(t, discoverFrom(t, s))
	e.Discover(t)
	e.MustFetch(t, "authz", "data")
	s.Put("discovery", discoveryConfig(t, s, "data"))
	e.Discover(t)
	e.WantAnswer(t, "x", wire.Allow)
	fixture.Contains(t, e.Refusal("authz"), "it is configured no more, but still serves", "no rule decides")

	// Discovery points elsewhere: the new bundle takes over when it is there.
	s.Put("discovery", discoveryConfig(t, s, "data", "other"))
	e.Discover(t)
	e.WantAnswer(t, "x", wire.Allow)
	s.Put("other", fixture.Archive(t, fixture.Allowing("9", "y")))
	e.MustFetch(t, "other")
	e.WantAnswer(t, "y", wire.Allow)
	e.WantAnswer(t, "x", wire.Deny)
	if status := e.Status(); status.Revision != "data=2,other=9" || len(status.Refused) != 0 {
		t.Errorf("status %+v", status)
	}
}

func TestDiscoveryIsHeldToTheSameRules(t *testing.T) {
	s := fixture.NewServer(t)
	s.Put("authz", fixture.Archive(t, fixture.Allowing("1", "x")))
	s.Put("discovery", discoveryConfig(t, s, "authz"))
	e := fixture.New(t, discoverFrom(t, s))
	e.Discover(t)
	e.MustFetch(t, "authz")
	for name, test := range map[string]struct{ config, want string }{
		"singular bundle": {`{"bundle": {"name": "authz", "service": "s"}}`, "opa.bundle: this older key"},
		"unknown key":     {`{"bundles": {"authz": {"service": "s", "signnig": {}}}}`, "opa.bundles.authz.signnig: unknown key; the nearest known one is opa.bundles.authz.signing"},
		"unknown at top":  {`{"bundels": {}}`, "opa.bundels: unknown key"},
	} {
		t.Run(name, func(t *testing.T) {
			s.Put("discovery", fixture.Archive(t, fixture.Files{"data.json": `{"config": ` + test.config + `}`}))
			e.Discover(t)
			e.WantAnswer(t, "x", wire.Allow)
			fixture.Contains(t, e.Refusal("discovery"), test.want)
		})
	}
	s.Put("discovery", discoveryConfig(t, s, "authz"))
	e.Discover(t)
	if refused := e.Status().Refused; len(refused) != 0 {
		t.Errorf("still refused: %v", refused)
	}
}

func TestMaskIsShippedUnlessABundleHasOne(t *testing.T) {
	s := fixture.NewServer(t)
	s.Put("authz", fixture.Archive(t, fixture.Allowing("1", "x")))
	own := fixture.Files{".manifest": fixture.Manifest("2", "system/log"), "m.rego": "package system.log\n\nmask contains \"/input/identity\"\n"}
	without := fixture.Files{".manifest": fixture.Manifest("3", "other"), "other/data.json": "{}"}
	s.Put("log", fixture.Archive(t, without))
	e := fixture.New(t, fixture.Options{OPA: fixture.OPA(t, s, nil, "authz", "log"), Mask: rego.Mask()})
	masks := func() bool {
		modules := e.Manager.GetCompiler().Modules
		return modules[vetted.MaskFile] != nil
	}
	if !masks() {
		t.Error("no mask before the first bundle")
	}
	e.MustFetch(t, "authz", "log")
	if !masks() {
		t.Error("no default mask")
	}
	s.Put("log", fixture.Archive(t, own))
	e.MustFetch(t, "log")
	if masks() {
		t.Error("the default mask is beside the bundle's own")
	}
	s.Put("authz", fixture.Archive(t, fixture.Allowing("5", "x")))
	e.MustFetch(t, "authz")
	if masks() {
		t.Error("the default mask comes back with another bundle")
	}
	s.Put("log", fixture.Archive(t, without))
	e.MustFetch(t, "log")
	if !masks() {
		t.Error("the default mask does not come back")
	}
}
