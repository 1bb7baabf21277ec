package offline_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/offline"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

var (
	ann    = decision.Caller{User: "user:default/ann", Claims: []string{"user:default/ann", "group:default/web"}}
	remove = wire.Permission{Name: "catalog.entity.delete", Action: "delete", Resource: true, ResourceType: "catalog-entity"}
)

const owned = `{"result":"CONDITIONAL","pluginId":"catalog","resourceType":"catalog-entity","conditions":` +
	`{"rule":"IS_ENTITY_OWNER","resourceType":"catalog-entity","params":{"claims":["group:default/web","user:default/ann"]}}}`

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), name, args...)
	command.Env = append(os.Environ(), "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b")
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// TestOpen opens the same policy from a folder, an archive, and
// both from git, also out of a folder below, though the working tree is another.
func TestOpen(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()

	t.Chdir(dir)
	if err := os.CopyFS("policy", os.DirFS(filepath.Join(root, "bundles", "default"))); err != nil {
		t.Fatal(err)
	}
	run(t, "tar", "czf", "bundle.tar.gz", "-C", "policy", ".")
	run(t, "git", "init", "-q", "-b", "main")
	run(t, "git", "add", "policy", "bundle.tar.gz")
	run(t, "git", "commit", "-q", "-m", "x")
	for _, path := range []string{"policy", "bundle.tar.gz", "git:main:policy", "git:HEAD:bundle.tar.gz", "git:HEAD:../policy"} {
		t.Run(path, func(t *testing.T) {
			if strings.Contains(path, "..") {
				t.Chdir("policy")
			}
			p, err := offline.Open(t.Context(), path, offline.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := p.Close(t.Context()); err != nil {
					t.Error(err)
				}
			}()
			outcome, err := p.Decide(t.Context(), ann, remove)
			if err != nil || outcome.Err != nil || outcome.Decision.Text() != owned {
				t.Errorf("%v, %+v", err, outcome)
			}
			if p.Entrypoint() != "backstage/authz/allow" || !p.AboutResource() {
				t.Errorf("%s, %t", p.Entrypoint(), p.AboutResource())
			}
			if name := path + "/policy.rego"; p.Modules()[filepath.Clean(name)] == nil && p.Modules()[name] == nil {
				t.Errorf("no module %s", name)
			}
			if len(p.Tests()) != 1 || len(p.Rules()) < 15 {
				t.Errorf("%d tests, %d rules", len(p.Tests()), len(p.Rules()))
			}
		})
	}
	left, err := filepath.Glob(filepath.Join(os.TempDir(), "stagedoor-*", "policy"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestOpenRefuses is about what does not open, and how files are named then.
func TestOpenRefuses(t *testing.T) {
	t.Chdir(t.TempDir())
	for name, text := range map[string]string{
		"unparsable/.manifest": `{"roots": ["a"]}`, "unparsable/p.rego": "package a\n\nallow if {{\n",
		"outside/.manifest": `{"roots": ["a"]}`,
		"outside/p.rego":    "package a\n\n# METADATA\n# entrypoint: true\nallow if input.resource.kind == \"API\"\n",
		"text":              "no archive",
	} {
		if err := os.MkdirAll(filepath.Dir(name), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run(t, "git", "init", "-q", "-b", "main")
	run(t, "git", "add", ".")
	run(t, "git", "commit", "-q", "-m", "x")
	for path, want := range map[string]string{
		"nowhere":          "nowhere: no such file",
		"text":             "text: not a bundle.tar.gz",
		"unparsable":       "unparsable/p.rego:4",
		"outside":          "outside/p.rego:5:10: input.resource.kind",
		"git:main:outside": "git:main:outside/p.rego:5:10: input.resource.kind",
		"git:main:nowhere": "git:main:nowhere: git: ",
		"git:none:outside": "git:none:outside: git: ",
		"git:main":         "want git:REV:path",
		"git:--output=x:p": "is no revision",
	} {
		_, err := offline.Open(t.Context(), path, offline.Options{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
		refused := strings.Contains(want, ".rego") || strings.Contains(want, "roots")
		if _, ok := errors.AsType[*offline.RefusedError](err); ok != refused {
			t.Errorf("%s: Refused is %t", path, ok)
		}
	}
}

// TestOpenTakesArchivesWhole has a rule in a hidden file, which serves: a module of the policy like any other.
func TestOpenTakesArchivesWhole(t *testing.T) {
	t.Chdir(t.TempDir())
	for name, text := range map[string]string{
		"policy/.manifest":   `{"roots": ["a"]}`,
		"policy/a.rego":      "package a\n\n# METADATA\n# entrypoint: true\ndefault allow := false\n",
		"policy/.b/.b.rego":  "package a\n\nallow if \"group:default/b\" in input.identity.claims\n",
		"policy/a_test.rego": "package a\n\ntest_allow if not allow\n",
	} {
		if err := os.MkdirAll(filepath.Dir(name), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run(t, "tar", "czf", "bundle.tar.gz", "-C", "policy", ".")
	caller := decision.Caller{User: "user:default/x", Claims: []string{"group:default/b"}}
	for path, want := range map[string]wire.Result{"policy": wire.Deny, "bundle.tar.gz": wire.Allow} {
		p, err := offline.Open(t.Context(), path, offline.Options{})
		if err != nil {
			t.Fatal(err)
		}
		with, err := p.With(t.Context(), map[string]string{"c.rego": "package a\n\nunused := 1\n"}, "")
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range []*offline.Policy{p, with} {
			outcome, err := p.Decide(t.Context(), caller, remove)
			if err != nil || outcome.Err != nil || outcome.Decision.Result != want {
				t.Errorf("%s: %v, %+v", path, err, outcome)
			}
			if err := p.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if modules, want := len(p.Modules()), map[wire.Result]int{wire.Deny: 1, wire.Allow: 2}[want]; modules != want || len(p.Tests()) != 1 {
			t.Errorf("%s: %d modules, %d tests", path, modules, len(p.Tests()))
		}
	}
}
