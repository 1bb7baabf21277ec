package supply_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stagedoor/stagedoor/adapter/fixture"
	"github.com/stagedoor/stagedoor/adapter/supply"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// secretText is what must get nowhere.
const secretText = `{"password": "s3cr3t-outside"}`

// TestFoldersOddities puts something odd into a folder that serves. The last good policy
// serves, the refusal names the file, and when the oddity is gone updates go on.
func TestFoldersOddities(t *testing.T) {
	tests := map[string]struct {
		odd     func(t *testing.T, dir string) // what it makes is below dir/odd
		refused string                         // empty where it does not matter
	}{
		"pipe":        {func(t *testing.T, dir string) { fixture.Must(t, syscall.Mkfifo(dir+"/odd/p.rego", 0o600)) }, "p.rego is no regular file"},
		"other pipe":  {func(t *testing.T, dir string) { fixture.Must(t, syscall.Mkfifo(dir+"/odd/README", 0o600)) }, ""},
		"device":      {func(t *testing.T, dir string) { fixture.Must(t, mknod(dir+"/odd/data.json")) }, "data.json is no regular file"},
		"socket":      {socket, "p.rego is no regular file"},
		"link out":    {func(t *testing.T, dir string) { link(t, secret(t), dir+"/odd/data.json") }, "odd/data.json"},
		"link to dev": {func(t *testing.T, dir string) { link(t, "/dev/zero", dir+"/odd/data.json") }, "odd/data.json"},
		"link up": {func(t *testing.T, dir string) {
			fixture.Must(t, os.WriteFile(dir+".json", []byte(secretText), 0o600))
			link(t, "../../"+filepath.Base(dir)+".json", dir+"/odd/data.json")
		}, "odd/data.json"},
		"link to a pipe": {func(t *testing.T, dir string) {
			fixture.Must(t, syscall.Mkfifo(dir+"/odd/README", 0o600))
			link(t, "README", dir+"/odd/data.json")
		}, "odd/data.json is no regular file"},
		"loop": {func(t *testing.T, dir string) {
			link(t, "b.rego", dir+"/odd/a.rego")
			link(t, "a.rego", dir+"/odd/b.rego")
		}, "odd/a.rego"},
		"itself":           {func(t *testing.T, dir string) { link(t, "a.rego", dir+"/odd/a.rego") }, "odd/a.rego"},
		"to nothing":       {func(t *testing.T, dir string) { link(t, "nothing", dir+"/odd/a.rego") }, "odd/a.rego"},
		"folder of links":  {func(t *testing.T, dir string) { link(t, "..", dir+"/odd/up") }, "odd/up is a link"},
		"folder elsewhere": {func(t *testing.T, dir string) { link(t, t.TempDir(), dir+"/odd/lib") }, "odd/lib is a link"},
		"folder as data":   {func(t *testing.T, dir string) { link(t, "..", dir+"/odd/data.json") }, "odd/data.json is a link"},
		"far too large": {func(t *testing.T, dir string) {
			file, err := os.Create(dir + "/odd/data.json")
			fixture.Must(t, err)
			fixture.Must(t, file.Truncate(1<<40)) // which takes no room
			fixture.Must(t, file.Close())
		}, "data.json: more than 256 MiB"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			fixture.Write(t, dir, fixture.Allowing("", "a"))
			log, told := fixture.NewLog()
			e := fixture.New(t, fixture.Options{Path: dir, Log: log})
			e.WantAnswer(t, "a", wire.Allow)
			fixture.Must(t, os.Mkdir(dir+"/odd", 0o700))
			test.odd(t, dir)
			if test.refused != "" {
				fixture.Eventually(t, "the refusal", func() bool { return e.Refusal(supply.LocalBundle) != "" })
				fixture.Contains(t, e.Refusal(supply.LocalBundle), test.refused)
				e.WantAnswer(t, "a", wire.Allow)
				fixture.Must(t, os.RemoveAll(dir+"/odd"))
			}
			fixture.Write(t, dir, fixture.Allowing("", "b"))
			eventuallyAllows(t, e, "b")
			if refused := e.Refusal(supply.LocalBundle); refused != "" {
				t.Errorf("still refused: %s", refused)
			}
			for where, text := range map[string]string{"the log": told.String(), "status": string(fixture.JSON(t, e.Status()))} {
				if strings.Contains(text, "s3cr3t") {
					t.Errorf("the secret is in %s: %s", where, text)
				}
			}
		})
	}
}

func mknod(at string) error {
	const zero = 1<<8 | 5
	return syscall.Mknod(at, syscall.S_IFCHR|0o600, zero)
}

func link(t *testing.T, to, at string) {
	t.Helper()
	fixture.Must(t, os.Symlink(to, at))
}

// secret is a file elsewhere.
func secret(t *testing.T) string {
	t.Helper()
	at := filepath.Join(t.TempDir(), "secret.json")
	fixture.Must(t, os.WriteFile(at, []byte(secretText), 0o600))
	return at
}

func socket(t *testing.T, dir string) {
	t.Helper()
	// Made elsewhere, since the names of sockets must be short.
	short, err := os.MkdirTemp("", "s") //nolint:usetesting // its names are too long
	fixture.Must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(short) })
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: short + "/s", Net: "unix"})
	fixture.Must(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	fixture.Must(t, os.Link(short+"/s", dir+"/odd/p.rego"))
}

// An archive is held to the same: what it unpacks to, and what its path names.
func TestOddArchives(t *testing.T) {
	bomb := fixture.Archive(t, fixture.Allowing("1", "a").With(fixture.Files{
		"a/data.json": strings.Repeat(" ", 130<<20) + "{}", "b/data.json": strings.Repeat(" ", 130<<20) + "{}",
	}))
	dir := t.TempDir()
	at := filepath.Join(dir, "bundle.tar.gz")
	fixture.Must(t, os.WriteFile(at, bomb, 0o600))
	if _, err := fixture.Try(t, fixture.Options{Path: at}); err == nil || !strings.Contains(err.Error(), "more than 256 MiB") {
		t.Errorf("a bomb of %d bytes: %v", len(bomb), err)
	}
	pipe := filepath.Join(dir, "pipe.tar.gz")
	fixture.Must(t, syscall.Mkfifo(pipe, 0o600))
	for _, odd := range []string{pipe, "/dev/zero"} {
		if _, err := fixture.Try(t, fixture.Options{Path: odd}); err == nil ||
			!strings.Contains(err.Error(), "neither a directory nor a regular file") {
			t.Errorf("%s: %v", odd, err)
		}
	}
	// One that becomes a pipe while it is watched, or a link to a secret.
	fixture.Must(t, os.WriteFile(at, fixture.Archive(t, fixture.Allowing("2", "b")), 0o600))
	log, told := fixture.NewLog()
	e := fixture.New(t, fixture.Options{Path: at, Log: log})
	fixture.Must(t, os.Rename(pipe, at))
	fixture.Eventually(t, "the refusal", func() bool { return e.Refusal(supply.LocalBundle) != "" })
	fixture.Must(t, os.Remove(at))
	link(t, secret(t), at)
	fixture.Eventually(t, "the refusal", func() bool { return strings.Contains(e.Refusal(supply.LocalBundle), "gzip") })
	e.WantAnswer(t, "b", wire.Allow)
	fixture.Must(t, os.Remove(at))
	fixture.Must(t, os.WriteFile(at, fixture.Archive(t, fixture.Allowing("3", "c")), 0o600))
	eventuallyAllows(t, e, "c")
	if strings.Contains(told.String(), "s3cr3t") {
		t.Errorf("the secret is in the log: %s", told)
	}
}
