package supply_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stagedoor/stagedoor/adapter/fixture"
	"github.com/stagedoor/stagedoor/adapter/supply"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

func eventuallyAllows(t testing.TB, e *fixture.House, name string) {
	t.Helper()
	fixture.Eventually(t, name+" is allowed", func() bool {
		result, _ := e.Answer(t, name)
		return result == wire.Allow
	})
}

func TestDirectoryIsWatched(t *testing.T) {
	dir := t.TempDir()
	policy := filepath.Join(dir, "policy")
	fixture.Write(t, policy, fixture.Allowing("", "a").With(fixture.Files{
		"a_test.rego": "package a_test\n\nthis is no Rego", ".git/config": "x", ".hidden.rego": "neither",
	}))
	log, text := fixture.NewLog()
	e := fixture.New(t, fixture.Options{Path: policy, Log: log})
	e.WantAnswer(t, "a", wire.Allow)
	first := e.Status()
	if !strings.HasPrefix(first.Revision, "sha256:") {
		t.Errorf("revision %q", first.Revision)
	}

	fixture.Write(t, policy, fixture.Allowing("", "b"))
	eventuallyAllows(t, e, "b")
	e.WantAnswer(t, "a", wire.Deny)

	// What is no part of it does not make it another one.
	revision := e.Status().Revision
	fixture.Write(t, policy, fixture.Files{"README.md": "#", "a_test.rego": "package a_test"})
	time.Sleep(3 * supply.Settle)
	if got := e.Status().Revision; got != revision {
		t.Errorf("revision %s, was %s", got, revision)
	}

	// A folder that is made later is watched too.
	fixture.Write(t, policy, fixture.Files{"more/m.rego": "package a\n\nallow if input.permission.name == \"c\"\n"})
	eventuallyAllows(t, e, "c")
	fixture.Write(t, policy, fixture.Files{"more/m.rego": "package a\n\nallow if input.permission.name == \"d\"\n"})
	eventuallyAllows(t, e, "d")

	// What is bad does not serve, and is told once.
	fixture.Write(t, policy, fixture.Files{"more/m.rego": "package a\n\nallow if"})
	fixture.Eventually(t, "the refusal", func() bool { return e.Refusal(supply.LocalBundle) != "" })
	e.WantAnswer(t, "d", wire.Allow)
	fixture.Contains(t, e.Refusal(supply.LocalBundle), "m.rego:3", "rego_parse_error")
	confirmed := e.Status().Confirmed
	for range 2 {
		fixture.Write(t, policy, fixture.Files{"more/m.rego": "package a\n\nallow if"})
		time.Sleep(3 * supply.Settle)
	}
	if n := strings.Count(text.String(), "the changed policy is refused"); n != 1 {
		t.Errorf("told %d times", n)
	}
	if again := e.Status().Confirmed; !again.Equal(confirmed) {
		t.Errorf("a refused policy confirms the one before it, %v after %v", again, confirmed)
	}
	fixture.Write(t, policy, fixture.Files{"more/m.rego": "package a\n\nallow if input.permission.name == \"e\"\n"})
	eventuallyAllows(t, e, "e")
	if refused := e.Status().Refused; len(refused) != 0 {
		t.Errorf("still refused: %v", refused)
	}

	// It goes and comes back, as it was and then with another policy.
	aside := filepath.Join(dir, "aside")
	fixture.Must(t, os.Rename(policy, aside))
	fixture.Eventually(t, "the refusal", func() bool { return e.Refusal(supply.LocalBundle) != "" })
	e.WantAnswer(t, "e", wire.Allow)
	fixture.Must(t, os.Rename(aside, policy))
	fixture.Eventually(t, "no refusal", func() bool { return e.Refusal(supply.LocalBundle) == "" })
	fixture.Must(t, os.RemoveAll(policy))
	fixture.Write(t, policy, fixture.Allowing("", "f"))
	eventuallyAllows(t, e, "f")
	e.WantAnswer(t, "e", wire.Deny)
}

// TestArchivesAreTakenWhole brings the same bundle by each way that there is. What serves is
// the same for all that serve, and none decides by a test.
func TestArchivesAreTakenWhole(t *testing.T) {
	const more = "package a\n\nallow if input.permission.name == \"b\"\n"
	for name, test := range map[string]struct {
		file            string
		folder, archive wire.Result
		refused         bool // wherever the file is read
	}{
		"a hidden file":   {".b.rego", wire.Deny, wire.Allow, false},
		"a hidden folder": {".b/b.rego", wire.Deny, wire.Allow, false},
		"a test":          {"b_test.rego", wire.Deny, wire.Deny, true},
		"a file":          {"b.rego", wire.Allow, wire.Allow, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir, packed := t.TempDir(), filepath.Join(t.TempDir(), "bundle.tar.gz")
			bundle := fixture.Allowing("1", "a").With(fixture.Files{test.file: more})
			fixture.Write(t, dir, bundle)
			fixture.Must(t, os.WriteFile(packed, fixture.Archive(t, bundle), 0o600))
			resource := func(at string) json.RawMessage {
				return fixture.JSON(t, map[string]any{"bundles": map[string]any{"authz": map[string]any{"resource": "file://" + at}}})
			}
			fixture.New(t, fixture.Options{Path: dir}).WantAnswer(t, "b", test.folder)
			brought := fixture.New(t, fixture.Options{OPA: resource(packed)})
			if !test.refused {
				fixture.New(t, fixture.Options{Path: packed}).WantAnswer(t, "b", test.archive)
				fixture.Eventually(t, "a policy", func() bool { return brought.Status().Revision != "" })
				brought.WantAnswer(t, "b", test.archive)
				return
			}
			for _, e := range []*fixture.House{brought, fixture.New(t, fixture.Options{OPA: resource(dir)})} {
				fixture.Eventually(t, "the refusal", func() bool { return e.Refusal("authz") != "" })
				fixture.Contains(t, e.Refusal("authz"), "b_test.rego:3", "a test must not decide")
			}
		})
	}
}

func TestArchiveIsWatched(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "bundle.tar.gz")
	fixture.Must(t, os.WriteFile(path, fixture.Archive(t, fixture.Allowing("1", "a").With(fixture.Files{"a_test.rego": "package a.a_test"})), 0o600))
	e := fixture.New(t, fixture.Options{Path: path})
	e.WantAnswer(t, "a", wire.Allow)
	// Exchanged by renaming.
	other := filepath.Join(dir, ".new")
	fixture.Must(t, os.WriteFile(other, fixture.Archive(t, fixture.Allowing("2", "b")), 0o600))
	fixture.Must(t, os.Rename(other, path))
	eventuallyAllows(t, e, "b")
	// Cut off.
	fixture.Must(t, os.WriteFile(path, fixture.Archive(t, fixture.Allowing("3", "c"))[:200], 0o600))
	fixture.Eventually(t, "the refusal", func() bool { return e.Refusal(supply.LocalBundle) != "" })
	e.WantAnswer(t, "b", wire.Allow)
	// Written over.
	fixture.Must(t, os.WriteFile(path, fixture.Archive(t, fixture.Allowing("4", "d")), 0o600))
	eventuallyAllows(t, e, "d")
}

// TestMountedConfigMap exchanges a policy as Kubernetes does: the fixture.Files are links
// into a folder by way of a link that is renamed over.
func TestMountedConfigMap(t *testing.T) {
	dir := t.TempDir()
	mount := func(version string, f fixture.Files) {
		fixture.Write(t, filepath.Join(dir, "..", "..", filepath.Base(filepath.Dir(dir)), filepath.Base(dir), version), f)
		next := filepath.Join(dir, "..data_tmp")
		fixture.Must(t, os.Symlink(version, next))
		fixture.Must(t, os.Rename(next, filepath.Join(dir, "..data")))
	}
	mount("..2026_01", fixture.Allowing("", "a"))
	for name := range fixture.Allowing("", "a") {
		fixture.Must(t, os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)))
	}
	e := fixture.New(t, fixture.Options{Path: dir})
	e.WantAnswer(t, "a", wire.Allow)
	revision := e.Status().Revision
	mount("..2026_02", fixture.Allowing("", "b"))
	fixture.Must(t, os.RemoveAll(filepath.Join(dir, "..2026_01")))
	eventuallyAllows(t, e, "b")
	// The same policy in another folder is the same revision.
	mount("..2026_03", fixture.Allowing("", "a"))
	eventuallyAllows(t, e, "a")
	if got := e.Status().Revision; got != revision {
		t.Errorf("revision %s, was %s", got, revision)
	}
}

func TestPathThatIsALink(t *testing.T) {
	dir := t.TempDir()
	fixture.Write(t, filepath.Join(dir, "releases", "1"), fixture.Allowing("", "a"))
	fixture.Write(t, filepath.Join(dir, "releases", "2"), fixture.Allowing("", "b"))
	current := filepath.Join(dir, "current")
	fixture.Must(t, os.Symlink(filepath.Join("releases", "1"), current))
	e := fixture.New(t, fixture.Options{Path: current})
	e.WantAnswer(t, "a", wire.Allow)
	fixture.Write(t, filepath.Join(dir, "releases", "1"), fixture.Allowing("", "c"))
	eventuallyAllows(t, e, "c")
	next := filepath.Join(dir, "next")
	fixture.Must(t, os.Symlink(filepath.Join("releases", "2"), next))
	fixture.Must(t, os.Rename(next, current))
	eventuallyAllows(t, e, "b")
	fixture.Write(t, filepath.Join(dir, "releases", "2"), fixture.Allowing("", "d"))
	eventuallyAllows(t, e, "d")
}

// What else happens in the parent folder does not keep the policy from being
// taken in, however often.
func TestBusyNeighbour(t *testing.T) {
	dir := t.TempDir()
	policy := filepath.Join(dir, "policy")
	fixture.Write(t, policy, fixture.Allowing("", "a"))
	e := fixture.New(t, fixture.Options{Path: policy})
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
				_ = os.WriteFile(filepath.Join(dir, "log"), []byte(strconv.Itoa(n)), 0o600)
				_ = os.WriteFile(filepath.Join(policy, "notes.txt"), []byte("the same"), 0o600)
			}
		}
	}()
	fixture.Write(t, policy, fixture.Allowing("", "b"))
	eventuallyAllows(t, e, "b")
	close(stop)
	<-done
}

func TestLocalPolicyThatCannotServe(t *testing.T) {
	dir := t.TempDir()
	for name, test := range map[string]struct {
		path string
		want string
	}{
		"missing":                  {filepath.Join(dir, "none"), "stagedoor.policy.path"},
		"bad":                      {"bad", "undefined function"},
		"a link to a folder in it": {"linked", "is a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			path := test.path
			switch path {
			case "bad":
				path = t.TempDir()
				fixture.Write(t, path, fixture.Allowing("", "a").With(fixture.Files{"b.rego": "package a\n\nx := nothing(1)\n"}))
			case "linked":
				path = t.TempDir()
				fixture.Write(t, path, fixture.Allowing("", "a"))
				fixture.Must(t, os.Symlink(t.TempDir(), filepath.Join(path, "lib")))
			}
			_, err := fixture.Try(t, fixture.Options{Path: path})
			if err == nil {
				t.Fatal("it serves")
			}
			fixture.Contains(t, err.Error(), test.want)
		})
	}
}

func TestEmbeddedPolicyDoesNotAge(t *testing.T) {
	now := time.Now()
	e := fixture.New(t, fixture.Options{
		Default: fixture.FS(fixture.Allowing("1", "a")), MaxAge: time.Minute, DenyStale: true,
		Now: func() time.Time { return now },
	})
	now = now.Add(24 * time.Hour)
	if status := e.Status(); !status.Ready {
		t.Errorf("status %+v", status)
	}
	e.WantAnswer(t, "a", wire.Allow)
}

// TestRulesThatAreLeftOutAreTold has a policy with a rule that OPA never evaluates.
func TestRulesThatAreLeftOutAreTold(t *testing.T) {
	policy := filepath.Join(t.TempDir(), "policy")
	log, text := fixture.NewLog()
	fixture.Write(t, policy, fixture.Allowing("", "a"))
	e := fixture.New(t, fixture.Options{Path: policy, Log: log})
	const told = "leaves out rules"
	if strings.Contains(text.String(), told) {
		t.Errorf("nothing is left out, and the log says:\n%s", text)
	}
	fixture.Write(t, policy, fixture.Files{"more/m.rego": `package a

allow if {
	some c in input.identity.claims
	c in data.a.groups
	c == "group:default/web"
}
`, "a/data.json": `{"groups": ["group:default/web"]}`, "b.rego": "package a\n\nallow if input.permission.name == \"b\"\n"})
	eventuallyAllows(t, e, "b")
	fixture.Eventually(t, "the rule is told", func() bool {
		return strings.Contains(text.String(), told) && strings.Contains(text.String(), "m.rego:3")
	})
}
