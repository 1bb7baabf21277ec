package policy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stagedoor/stagedoor/adapter/wire"
	"github.com/stagedoor/stagedoor/rego"
)

func TestServesWhatItFetches(t *testing.T) {
	s := newBundleServer(t)
	e := newEngine(t, Options{OPA: opaFor(t, s, nil, "authz")})
	if status := e.Status(); status.Ready || status.Waiting != "bundles: authz" {
		t.Errorf("before the bundle: %+v", status)
	}
	if _, err := e.Decide(t.Context(), ann, []wire.Permission{basic("x")}); err != ErrNoPolicy { //nolint:errorlint // it is the very one
		t.Errorf("error %v, want ErrNoPolicy", err)
	}
	s.put("authz", archive(t, allowing("one", "x")))
	e.mustFetch(t, "authz")
	e.wantAnswer(t, "x", wire.Allow)
	e.wantAnswer(t, "y", wire.Deny)
	s.put("authz", archive(t, allowing("two", "y")))
	e.mustFetch(t, "authz")
	e.wantAnswer(t, "x", wire.Deny)
	e.wantAnswer(t, "y", wire.Allow)
	if status := e.Status(); !status.Ready || status.Revision != "two" || status.Entrypoint != "a/allow" || len(status.Refused) != 0 {
		t.Errorf("status %+v", status)
	}
}

// A policy of several bundles serves whole or not at all: what has not come could
// be what denies.
func TestWaitsForEveryBundle(t *testing.T) {
	s := newBundleServer(t)
	s.put("authz", archive(t, files{
		".manifest": manifest("1", "a"),
		"a.rego":    "package a\n\n# METADATA\n# entrypoint: true\nallow if not data.b.denied\n",
	}))
	e := newEngine(t, Options{OPA: opaFor(t, s, nil, "authz", "denials")})
	e.mustFetch(t, "authz")
	status := e.Status()
	if status.Ready || status.Waiting != "bundles: denials" || !cmp.Equal(status.Awaited, []string{"denials"}) {
		t.Errorf("without the denials: %+v", status)
	}
	s.put("denials", archive(t, files{".manifest": manifest("7", "b"), "b/data.json": `{"denied": true}`}))
	e.mustFetch(t, "denials")
	e.wantAnswer(t, "x", wire.Deny)
	if got := e.Status().Revision; got != "authz=1,denials=7" {
		t.Errorf("revision %q", got)
	}
}

func TestRefusesAndGoesOn(t *testing.T) {
	good := allowing("good", "x")
	tests := map[string]struct {
		bundle files
		want   []string
	}{
		"does not compile": {
			good.with(files{"a.rego": "package a\n\n# METADATA\n# entrypoint: true\nallow if unknown_function(1)\n"}),
			[]string{"a.rego:5", "undefined function unknown_function"},
		},
		"no entrypoint": {
			good.with(files{"a.rego": "package a\n\nallow := true\n"}),
			[]string{"no rule decides", "entrypoint: true", "its rules are a/allow"},
		},
		"two entrypoints": {
			good.with(files{"b.rego": "package a.b\n\n# METADATA\n# entrypoint: true\nallow := true\n"}),
			[]string{"several rules are annotated", "a/allow (", "a/b/allow ("},
		},
		"a function as entrypoint": {
			good.with(files{"a.rego": "package a\n\n# METADATA\n# entrypoint: true\nallow(x) if x\n"}),
			[]string{"a/allow, annotated at", "is a function"},
		},
		"a package as entrypoint": {
			good.with(files{"a.rego": "# METADATA\n# entrypoint: true\npackage a\n\nallow := true\n"}),
			[]string{"the entrypoint a, annotated at", "is no rule"},
		},
		"resource outside a rule call": {
			good.with(files{"a.rego": "package a\n\n# METADATA\n# entrypoint: true\nallow if input.resource.kind == \"API\"\n"}),
			[]string{"a.rego:5", "input.resource.kind"},
		},
		"rule without a name": {
			good.with(files{"a.rego": `package a

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
			files{"a.rego": good["a.rego"], "roles/data.json": "{}", "data.json": `{"extra": 1}`},
			[]string{`{"roots": ["a", "extra", "roles"]}`},
		},
		"roots of OPA's own": {
			good.with(files{".manifest": manifest("x", "a", "system")}),
			[]string{"the root system covers what OPA itself keeps"},
		},
		"package of the rule library": {
			good.with(files{".manifest": manifest("x", "a", "backstage"), "c.rego": "package backstage.catalog\n\nis_entity_owner(_, _) := true\n"}),
			[]string{"package backstage.catalog is of the rule library"},
		},
		"data outside its roots": {
			good.with(files{"b/data.json": `{"x": 1}`}),
			[]string{"do not permit data at path"},
		},
		"delta": {
			files{"patch.json": `{"data": [{"op": "upsert", "path": "/a/x", "value": 1}]}`, ".manifest": manifest("d", "a")},
			[]string{"delta bundle"},
		},
		"WebAssembly": {
			good.with(files{"policy.wasm": "\x00asm"}),
			[]string{"holds WebAssembly"},
		},
	}
	s := newBundleServer(t)
	s.put("authz", archive(t, good))
	e := newEngine(t, Options{OPA: opaFor(t, s, nil, "authz")})
	e.mustFetch(t, "authz")
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s.put("authz", archive(t, test.bundle))
			if err := e.fetch(t, "authz"); err == nil {
				t.Error("it is taken in")
			}
			e.wantAnswer(t, "x", wire.Allow)
			status := e.Status()
			mustContain(t, status.refusal("authz"), test.want...)
			if !status.Ready || status.Revision != "good" {
				t.Errorf("status %+v", status)
			}
			s.put("authz", archive(t, good))
			e.mustFetch(t, "authz")
			if refused := e.Status().Refused; len(refused) != 0 {
				t.Errorf("still refused once it is good again: %v", refused)
			}
		})
	}
}

func TestConfiguredEntrypoint(t *testing.T) {
	s := newBundleServer(t)
	s.put("authz", archive(t, files{
		".manifest": manifest("1", "rbac_policy"),
		"p.rego":    "package rbac_policy\n\ndecision := {\"result\": \"ALLOW\"}\n",
	}))
	e := newEngine(t, Options{OPA: opaFor(t, s, nil, "authz"), Entrypoint: "rbac_policy/decision"})
	e.mustFetch(t, "authz")
	e.wantAnswer(t, "x", wire.Allow)
	other := newEngine(t, Options{OPA: opaFor(t, s, nil, "authz"), Entrypoint: "rbac_policy/decisions"})
	if err := other.fetch(t, "authz"); err == nil {
		t.Error("taken in without the entrypoint")
	}
	mustContain(t, other.Status().refusal("authz"), "rbac_policy/decisions (stagedoor.policy.entrypoint)", "rbac_policy/decision")
}

// The annotation, and the team's own rule, may be in any of the bundles.
func TestEntrypointInOneOfSeveralBundles(t *testing.T) {
	s := newBundleServer(t)
	s.put("lib", archive(t, files{".manifest": manifest("", "team"), "r.rego": `package team.todo

# METADATA
# scope: document
# custom:
#   backstage: {pluginId: todo, resourceType: todo-item, rule: IS_OWNER}
is_owner(resource, params) if resource.owner == params.userId
`}))
	s.put("authz", archive(t, files{".manifest": manifest("v1", "a"), "a.rego": `package a

import data.team.todo

# METADATA
# entrypoint: true
allow if todo.is_owner(input.resource, {"userId": input.identity.user})
`}))
	e := newEngine(t, Options{OPA: opaFor(t, s, nil, "authz", "lib")})
	if err := e.fetch(t, "authz"); err == nil {
		t.Error("compiles without what it imports")
	}
	e.mustFetch(t, "lib", "authz")
	p := wire.Permission{Name: "todo.update", Resource: true, ResourceType: "todo-item"}
	batch, err := e.Decide(t.Context(), ann, []wire.Permission{p})
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
	s := newBundleServer(t)
	e := newEngine(t, Options{OPA: opaFor(t, s, nil, "authz")})
	seen := map[string]string{}
	for name, bundle := range map[string]files{
		"policy": allowing("", "x"), "other policy": allowing("", "y"),
		"data": allowing("", "x").with(files{"a/b/data.json": `{"n": 1}`}), "other data": allowing("", "x").with(files{"a/b/data.json": `{"n": 2}`}),
	} {
		s.put("authz", archive(t, bundle))
		e.mustFetch(t, "authz")
		revision := e.Status().Revision
		if other, known := seen[revision]; known || revision == "" {
			t.Errorf("%s and %s are both revision %q", name, other, revision)
		}
		seen[revision] = name
	}
}

// OPA reads what it persisted without METADATA.
func TestPersistedBundleKeepsItsMetadata(t *testing.T) {
	s := newBundleServer(t)
	s.put("authz", archive(t, allowing("kept", "x")))
	config := toJSON(t, map[string]any{
		"services":              map[string]any{"s": map[string]any{"url": s.URL}},
		"bundles":               map[string]any{"authz": map[string]any{"resource": "authz", "persist": true, "trigger": "manual"}},
		"persistence_directory": t.TempDir(),
	})
	first := newEngine(t, Options{OPA: config})
	first.mustFetch(t, "authz")
	s.Close()
	second := newEngine(t, Options{OPA: config})
	second.wantAnswer(t, "x", wire.Allow)
	if status := second.Status(); !status.Ready || status.Revision != "kept" {
		t.Errorf("status %+v", status)
	}
	if err := second.fetch(t, "authz"); err == nil {
		t.Error("the server is gone")
	}
	second.wantAnswer(t, "x", wire.Allow)
	mustContain(t, second.Status().refusal("authz"), "connection refused")
}

func TestPersistenceThatFailsIsToldAndHarmless(t *testing.T) {
	s := newBundleServer(t)
	s.put("authz", archive(t, allowing("1", "x")))
	obstacle := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(obstacle, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	e := newEngine(t, Options{OPA: toJSON(t, map[string]any{
		"services":              map[string]any{"s": map[string]any{"url": s.URL}},
		"bundles":               map[string]any{"authz": map[string]any{"resource": "authz", "persist": true, "trigger": "manual"}},
		"persistence_directory": obstacle,
	})})
	for range 2 {
		if err := e.fetch(t, "authz"); err == nil {
			t.Error("persisted into a file")
		}
		e.wantAnswer(t, "x", wire.Allow)
		mustContain(t, e.Status().refusal("authz"), "it serves, but could not be persisted", "not a directory")
	}
}

// discoveryConfig is a discovery bundle that configures the named bundles.
func discoveryConfig(t testing.TB, s *bundleServer, bundles ...string) []byte {
	t.Helper()
	sources := map[string]any{}
	for _, name := range bundles {
		sources[name] = map[string]any{"service": "s", "resource": name}
	}
	return archive(t, files{"data.json": string(toJSON(t, map[string]any{"config": map[string]any{"bundles": sources}}))})
}

func discoverFrom(t testing.TB, s *bundleServer) Options {
	return Options{OPA: toJSON(t, map[string]any{
		"services":  map[string]any{"s": map[string]any{"url": s.URL}},
		"discovery": map[string]any{"resource": "discovery", "decision": "config", "trigger": "manual"},
	})}
}

func TestDiscoveryBringsBundlesAndTakesThemOut(t *testing.T) {
	s := newBundleServer(t)
	s.put("authz", archive(t, files{
		".manifest": manifest("1", "a"),
		"a.rego":    "package a\n\n# METADATA\n# entrypoint: true\ndefault allow := false\n\nallow if input.permission.name in data.extra.names\n",
	}))
	s.put("extra", archive(t, files{".manifest": manifest("2", "extra"), "extra/data.json": `{"names": ["x"]}`}))
	s.put("discovery", discoveryConfig(t, s, "authz", "extra"))
	e := newEngine(t, discoverFrom(t, s))
	if status := e.Status(); status.Waiting != "discovery" {
		t.Errorf("before discovery: %+v", status)
	}
	e.discover(t)
	e.mustFetch(t, "authz", "extra")
	e.wantAnswer(t, "x", wire.Allow)

	// A further bundle is announced and late: the policy stays as it is, and whole.
	s.put("discovery", discoveryConfig(t, s, "authz", "extra", "late"))
	e.discover(t)
	s.put("extra", archive(t, files{".manifest": manifest("3", "extra"), "extra/data.json": `{"names": ["y"]}`}))
	e.mustFetch(t, "extra")
	e.wantAnswer(t, "x", wire.Allow)
	if status := e.Status(); !status.Ready || !cmp.Equal(status.Awaited, []string{"late"}) {
		t.Errorf("with a late bundle: %+v", status)
	}
	s.put("late", archive(t, files{".manifest": manifest("4", "late"), "late/data.json": `{}`}))
	e.mustFetch(t, "late")
	e.wantAnswer(t, "x", wire.Deny)
	e.wantAnswer(t, "y", wire.Allow)

	// What is taken out does not serve any more, at once.
	s.put("discovery", discoveryConfig(t, s, "authz", "late"))
	e.discover(t)
	e.wantAnswer(t, "y", wire.Deny)
	if got := e.Status().Revision; got != "authz=1,late=4" {
		t.Errorf("revision %q", got)
	}
	// And the rest can be changed as before.
	s.put("late", archive(t, files{".manifest": manifest("5", "late"), "late/data.json": `{"z": 1}`}))
	e.mustFetch(t, "late")
	if got := e.Status().Revision; got != "authz=1,late=5" {
		t.Errorf("revision %q", got)
	}
}

// A bundle that was announced and never came is given up: what came meanwhile
// serves, and has the mask that it had.
func TestDiscoveryGivesUpAnAwaitedBundle(t *testing.T) {
	s := newBundleServer(t)
	s.put("authz", archive(t, allowing("1", "x")))
	s.put("other", archive(t, files{".manifest": manifest("1", "other"), "other.rego": "package other\n\nx := 1\n"}))
	s.put("discovery", discoveryConfig(t, s, "authz", "late"))
	o := discoverFrom(t, s)
	o.Mask = rego.Mask()
	e := newEngine(t, o)
	masked := func() {
		t.Helper()
		if e.manager.GetCompiler().Modules[maskFile] == nil {
			t.Error("the decision log is not masked")
		}
	}
	e.discover(t)
	e.mustFetch(t, "authz")
	if e.Status().Ready {
		t.Error("ready without a bundle that is awaited")
	}
	s.put("discovery", discoveryConfig(t, s, "authz"))
	e.discover(t)
	e.wantAnswer(t, "x", wire.Allow)

	// The same of a policy that serves: it is not what it was before the bundle was announced.
	s.put("discovery", discoveryConfig(t, s, "authz", "other", "late"))
	e.discover(t)
	s.put("authz", archive(t, allowing("2", "y")))
	e.mustFetch(t, "authz", "other")
	e.wantAnswer(t, "x", wire.Allow)
	s.put("discovery", discoveryConfig(t, s, "authz", "late"))
	e.discover(t) // other came, and never served
	masked()
	e.wantAnswer(t, "x", wire.Allow)
	s.put("discovery", discoveryConfig(t, s, "authz"))
	e.discover(t)
	e.wantAnswer(t, "x", wire.Deny)
	e.wantAnswer(t, "y", wire.Allow)
	masked()
}

func TestDiscoveryThatTakesOutTheEntrypointIsRefused(t *testing.T) {
	s := newBundleServer(t)
	s.put("authz", archive(t, allowing("1", "x")))
	s.put("data", archive(t, files{".manifest": manifest("2", "d"), "d/data.json": `{}`}))
	s.put("discovery", discoveryConfig(t, s, "authz", "data"))
	e := newEngine(t, discoverFrom(t, s))
	e.discover(t)
	e.mustFetch(t, "authz", "data")
	s.put("discovery", discoveryConfig(t, s, "data"))
	e.discover(t)
	e.wantAnswer(t, "x", wire.Allow)
	mustContain(t, e.Status().refusal("authz"), "it is configured no more, but still serves", "no rule decides")

	// Discovery points elsewhere: the new bundle takes over when it is there.
	s.put("discovery", discoveryConfig(t, s, "data", "other"))
	e.discover(t)
	e.wantAnswer(t, "x", wire.Allow)
	s.put("other", archive(t, allowing("9", "y")))
	e.mustFetch(t, "other")
	e.wantAnswer(t, "y", wire.Allow)
	e.wantAnswer(t, "x", wire.Deny)
	if status := e.Status(); status.Revision != "data=2,other=9" || len(status.Refused) != 0 {
		t.Errorf("status %+v", status)
	}
}

func TestDiscoveryIsHeldToTheSameRules(t *testing.T) {
	s := newBundleServer(t)
	s.put("authz", archive(t, allowing("1", "x")))
	s.put("discovery", discoveryConfig(t, s, "authz"))
	e := newEngine(t, discoverFrom(t, s))
	e.discover(t)
	e.mustFetch(t, "authz")
	for name, test := range map[string]struct{ config, want string }{
		"singular bundle": {`{"bundle": {"name": "authz", "service": "s"}}`, "opa.bundle: this older key"},
		"unknown key":     {`{"bundles": {"authz": {"service": "s", "signnig": {}}}}`, "opa.bundles.authz.signnig: unknown key; the nearest known one is opa.bundles.authz.signing"},
		"unknown at top":  {`{"bundels": {}}`, "opa.bundels: unknown key"},
	} {
		t.Run(name, func(t *testing.T) {
			s.put("discovery", archive(t, files{"data.json": `{"config": ` + test.config + `}`}))
			e.discover(t)
			e.wantAnswer(t, "x", wire.Allow)
			mustContain(t, e.Status().refusal("discovery"), test.want)
		})
	}
	s.put("discovery", discoveryConfig(t, s, "authz"))
	e.discover(t)
	if refused := e.Status().Refused; len(refused) != 0 {
		t.Errorf("still refused: %v", refused)
	}
}

func TestMaskIsShippedUnlessABundleHasOne(t *testing.T) {
	s := newBundleServer(t)
	s.put("authz", archive(t, allowing("1", "x")))
	own := files{".manifest": manifest("2", "system/log"), "m.rego": "package system.log\n\nmask contains \"/input/identity\"\n"}
	without := files{".manifest": manifest("3", "other"), "other/data.json": "{}"}
	s.put("log", archive(t, without))
	e := newEngine(t, Options{OPA: opaFor(t, s, nil, "authz", "log"), Mask: rego.Mask()})
	masks := func() bool {
		modules := e.manager.GetCompiler().Modules
		return modules[maskFile] != nil
	}
	if !masks() {
		t.Error("no mask before the first bundle")
	}
	e.mustFetch(t, "authz", "log")
	if !masks() {
		t.Error("no default mask")
	}
	s.put("log", archive(t, own))
	e.mustFetch(t, "log")
	if masks() {
		t.Error("the default mask is beside the bundle's own")
	}
	s.put("authz", archive(t, allowing("5", "x")))
	e.mustFetch(t, "authz")
	if masks() {
		t.Error("the default mask comes back with another bundle")
	}
	s.put("log", archive(t, without))
	e.mustFetch(t, "log")
	if !masks() {
		t.Error("the default mask does not come back")
	}
}
