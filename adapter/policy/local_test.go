package policy

import (
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stagedoor/stagedoor/adapter/wire"
)

// bundleFS is a file tree of the files.
func bundleFS(f files) fs.FS {
	tree := fstest.MapFS{}
	for name, text := range f {
		tree[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return tree
}

func writeFiles(t testing.TB, dir string, f files) {
	t.Helper()
	for name, text := range f {
		path := filepath.Join(dir, filepath.FromSlash(name))
		mustDo(t, os.MkdirAll(filepath.Dir(path), 0o755))
		mustDo(t, os.WriteFile(path, []byte(text), 0o600))
	}
}

func mustDo(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (e *Engine) eventuallyAllows(t testing.TB, name string) {
	t.Helper()
	eventually(t, name+" is allowed", func() bool {
		result, _ := e.answer(t, name)
		return result == wire.Allow
	})
}

func TestDirectoryIsWatched(t *testing.T) {
	dir := t.TempDir()
	policy := filepath.Join(dir, "policy")
	writeFiles(t, policy, allowing("", "a").with(files{
		"a_test.rego": "package a_test\n\nthis is no Rego", ".git/config": "x", ".hidden.rego": "neither",
	}))
	log, text := newTestLog()
	e := newEngine(t, Options{Path: policy, Log: log})
	e.wantAnswer(t, "a", wire.Allow)
	first := e.Status()
	if !strings.HasPrefix(first.Revision, "sha256:") {
		t.Errorf("revision %q", first.Revision)
	}

	writeFiles(t, policy, allowing("", "b"))
	e.eventuallyAllows(t, "b")
	e.wantAnswer(t, "a", wire.Deny)

	// What is no part of it does not make it another one.
	revision := e.Status().Revision
	writeFiles(t, policy, files{"README.md": "#", "a_test.rego": "package a_test"})
	time.Sleep(3 * settle)
	if got := e.Status().Revision; got != revision {
		t.Errorf("revision %s, was %s", got, revision)
	}

	// A folder that is made later is watched too.
	writeFiles(t, policy, files{"more/m.rego": "package a\n\nallow if input.permission.name == \"c\"\n"})
	e.eventuallyAllows(t, "c")
	writeFiles(t, policy, files{"more/m.rego": "package a\n\nallow if input.permission.name == \"d\"\n"})
	e.eventuallyAllows(t, "d")

	// What is bad does not serve, and is told once.
	writeFiles(t, policy, files{"more/m.rego": "package a\n\nallow if"})
	eventually(t, "the refusal", func() bool { return e.Status().refusal(localBundle) != "" })
	e.wantAnswer(t, "d", wire.Allow)
	mustContain(t, e.Status().refusal(localBundle), "m.rego:3", "rego_parse_error")
	confirmed := e.Status().Confirmed
	for range 2 {
		writeFiles(t, policy, files{"more/m.rego": "package a\n\nallow if"})
		time.Sleep(3 * settle)
	}
	if n := strings.Count(text.String(), "the changed policy is refused"); n != 1 {
		t.Errorf("told %d times", n)
	}
	if again := e.Status().Confirmed; !again.Equal(confirmed) {
		t.Errorf("a refused policy confirms the one before it, %v after %v", again, confirmed)
	}
	writeFiles(t, policy, files{"more/m.rego": "package a\n\nallow if input.permission.name == \"e\"\n"})
	e.eventuallyAllows(t, "e")
	if refused := e.Status().Refused; len(refused) != 0 {
		t.Errorf("still refused: %v", refused)
	}

	// It goes and comes back, as it was and then with another policy.
	aside := filepath.Join(dir, "aside")
	mustDo(t, os.Rename(policy, aside))
	eventually(t, "the refusal", func() bool { return e.Status().refusal(localBundle) != "" })
	e.wantAnswer(t, "e", wire.Allow)
	mustDo(t, os.Rename(aside, policy))
	eventually(t, "no refusal", func() bool { return e.Status().refusal(localBundle) == "" })
	mustDo(t, os.RemoveAll(policy))
	writeFiles(t, policy, allowing("", "f"))
	e.eventuallyAllows(t, "f")
	e.wantAnswer(t, "e", wire.Deny)
}

func TestArchiveIsWatched(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "bundle.tar.gz")
	mustDo(t, os.WriteFile(path, archive(t, allowing("1", "a").with(files{"a_test.rego": "no Rego"})), 0o600))
	e := newEngine(t, Options{Path: path})
	e.wantAnswer(t, "a", wire.Allow)
	// Exchanged by renaming.
	other := filepath.Join(dir, ".new")
	mustDo(t, os.WriteFile(other, archive(t, allowing("2", "b")), 0o600))
	mustDo(t, os.Rename(other, path))
	e.eventuallyAllows(t, "b")
	// Cut off.
	mustDo(t, os.WriteFile(path, archive(t, allowing("3", "c"))[:200], 0o600))
	eventually(t, "the refusal", func() bool { return e.Status().refusal(localBundle) != "" })
	e.wantAnswer(t, "b", wire.Allow)
	// Written over.
	mustDo(t, os.WriteFile(path, archive(t, allowing("4", "d")), 0o600))
	e.eventuallyAllows(t, "d")
}

// TestMountedConfigMap exchanges a policy as Kubernetes does: the files are links
// into a folder by way of a link that is renamed over.
func TestMountedConfigMap(t *testing.T) {
	dir := t.TempDir()
	mount := func(version string, f files) {
		writeFiles(t, filepath.Join(dir, "..", "..", filepath.Base(filepath.Dir(dir)), filepath.Base(dir), version), f)
		next := filepath.Join(dir, "..data_tmp")
		mustDo(t, os.Symlink(version, next))
		mustDo(t, os.Rename(next, filepath.Join(dir, "..data")))
	}
	mount("..2026_01", allowing("", "a"))
	for name := range allowing("", "a") {
		mustDo(t, os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)))
	}
	e := newEngine(t, Options{Path: dir})
	e.wantAnswer(t, "a", wire.Allow)
	revision := e.Status().Revision
	mount("..2026_02", allowing("", "b"))
	mustDo(t, os.RemoveAll(filepath.Join(dir, "..2026_01")))
	e.eventuallyAllows(t, "b")
	// The same policy in another folder is the same revision.
	mount("..2026_03", allowing("", "a"))
	e.eventuallyAllows(t, "a")
	if got := e.Status().Revision; got != revision {
		t.Errorf("revision %s, was %s", got, revision)
	}
}

func TestPathThatIsALink(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, filepath.Join(dir, "releases", "1"), allowing("", "a"))
	writeFiles(t, filepath.Join(dir, "releases", "2"), allowing("", "b"))
	current := filepath.Join(dir, "current")
	mustDo(t, os.Symlink(filepath.Join("releases", "1"), current))
	e := newEngine(t, Options{Path: current})
	e.wantAnswer(t, "a", wire.Allow)
	writeFiles(t, filepath.Join(dir, "releases", "1"), allowing("", "c"))
	e.eventuallyAllows(t, "c")
	next := filepath.Join(dir, "next")
	mustDo(t, os.Symlink(filepath.Join("releases", "2"), next))
	mustDo(t, os.Rename(next, current))
	e.eventuallyAllows(t, "b")
	writeFiles(t, filepath.Join(dir, "releases", "2"), allowing("", "d"))
	e.eventuallyAllows(t, "d")
}

// What else happens in the parent folder does not keep the policy from being
// taken in, however often.
func TestBusyNeighbour(t *testing.T) {
	dir := t.TempDir()
	policy := filepath.Join(dir, "policy")
	writeFiles(t, policy, allowing("", "a"))
	e := newEngine(t, Options{Path: policy})
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
	writeFiles(t, policy, allowing("", "b"))
	e.eventuallyAllows(t, "b")
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
				writeFiles(t, path, allowing("", "a").with(files{"b.rego": "package a\n\nx := nothing(1)\n"}))
			case "linked":
				path = t.TempDir()
				writeFiles(t, path, allowing("", "a"))
				mustDo(t, os.Symlink(t.TempDir(), filepath.Join(path, "lib")))
			}
			_, err := tryEngine(t, Options{Path: path})
			if err == nil {
				t.Fatal("it serves")
			}
			mustContain(t, err.Error(), test.want)
		})
	}
}

func TestEmbeddedPolicyDoesNotAge(t *testing.T) {
	now := time.Now()
	e := newEngine(t, Options{
		Default: bundleFS(allowing("1", "a")), MaxAge: time.Minute, DenyStale: true,
		Now: func() time.Time { return now },
	})
	now = now.Add(24 * time.Hour)
	if status := e.Status(); !status.Ready {
		t.Errorf("status %+v", status)
	}
	e.wantAnswer(t, "a", wire.Allow)
}
