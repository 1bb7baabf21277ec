//go:build unix

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stagedoor/stagedoor/adapter/fixture"
)

// TestOddFilesHoldUpNoCommand gives commands a PATH that has, or is, what would never end
// to be read. They say which file it is, and end.
func TestOddFilesHoldUpNoCommand(t *testing.T) {
	pipe := func(name string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			t.Helper()
			fixture.Must(t, os.RemoveAll(filepath.Join(dir, name)))
			fixture.Must(t, syscall.Mkfifo(filepath.Join(dir, name), 0o600))
		}
	}
	for name, test := range map[string]struct {
		odd  func(t *testing.T, dir string)
		path string // below dir
		says string // empty where nothing need be
		// author is whether only an author's commands read it.
		author bool
	}{
		"a module":            {odd: pipe("p.rego"), says: "p.rego"},
		"a test":              {odd: pipe("p_test.rego"), says: "p_test.rego", author: true},
		"data":                {odd: pipe("data.json"), says: "data.json"},
		"a schema":            {odd: pipe("data.schema.json")},
		"a manifest":          {odd: pipe(".manifest"), says: ".manifest"},
		"a table":             {odd: pipe("p.decisions.yaml"), says: "p.decisions.yaml", author: true},
		"a file of no matter": {odd: pipe("README")},
		"the PATH itself":     {odd: pipe("bundle.tar.gz"), path: "bundle.tar.gz", says: "bundle.tar.gz"},
		"a link to a device": {odd: func(t *testing.T, dir string) {
			t.Helper()
			fixture.Must(t, os.Symlink("/dev/zero", filepath.Join(dir, "p.rego")))
		}, says: "p.rego"},
		"a device": {odd: func(t *testing.T, _ string) { t.Helper() }, path: "../../../../../../../../../../dev/zero", says: "zero"},
	} {
		for _, command := range [][]string{{"check"}, {"test"}, {"matrix"}, {"serve", "--check-config", "--config"}} {
			t.Run(name+"/"+command[0], func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				fixture.Write(t, dir, fixture.Allowing("1", "x"))
				test.odd(t, dir)
				at := filepath.Join(dir, test.path)
				if command[0] == "serve" {
					config := filepath.Join(t.TempDir(), "config.yaml")
					fixture.Must(t, os.WriteFile(config, []byte("backend: {baseUrl: \"http://127.0.0.1:1\"}\nstagedoor: {policy: {path: \""+at+"\"}}\n"), 0o600))
					at = config
				}
				var out, complaint strings.Builder
				ended := make(chan error, 1)
				go func() {
					root := newRoot()
					root.SetArgs(append(slices.Clone(command), at))
					root.SetOut(&out)
					root.SetErr(&complaint)
					ended <- root.ExecuteContext(t.Context())
				}()
				select {
				case err := <-ended:
					serves := command[0] == "matrix" || command[0] == "serve"
					if test.says == "" || test.author && serves {
						return
					}
					if text := fmt.Sprint(out.String(), complaint.String(), err); err == nil || !strings.Contains(text, test.says) {
						t.Errorf("it does not refuse %s: %s", test.says, text)
					}
				case <-time.After(patience):
					t.Fatal("it hangs")
				}
			})
		}
	}
}
