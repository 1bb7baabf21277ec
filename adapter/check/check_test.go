package check_test

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/stagedoor/stagedoor/adapter/check"
)

var update = flag.Bool("update", false, "write what is found as what is wanted")

// TestMistakes checks the policies of testdata, each a mistake that authors make, or
// something like one that is none. What is wanted is the file want.
func TestMistakes(t *testing.T) {
	dir, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.txtar"))
	if err != nil || len(files) == 0 {
		t.Fatal("no cases", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := found(t, archive)
			at := slices.IndexFunc(archive.Files, func(f txtar.File) bool { return f.Name == "want" })
			if *update {
				if at < 0 {
					archive.Files = append(archive.Files, txtar.File{Name: "want"})
					at = len(archive.Files) - 1
				}
				archive.Files[at].Data = []byte(got)
				if err := os.WriteFile(file, txtar.Format(archive), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if at < 0 {
				t.Fatal("no file want")
			}
			if diff := cmp.Diff(string(archive.Files[at].Data), got); diff != "" {
				t.Errorf("other findings than wanted (-want +got):\n%s", diff)
			}
		})
	}
}

// found is what is found in the policy of an archive, one a line.
func found(t *testing.T, archive *txtar.Archive) string {
	t.Helper()
	dir := t.TempDir()
	for _, f := range archive.Files {
		path := filepath.Join(dir, filepath.FromSlash(f.Name))
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, f.Data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	paths := []string{"policy"}
	if _, err := os.Stat("other"); err == nil {
		paths = append(paths, "other")
	}
	reports, err := check.Check(t.Context(), paths, check.Options{Unhurried: true})
	if err != nil {
		t.Fatal(err)
	}
	var lines strings.Builder
	for _, report := range reports {
		for _, f := range report.Findings {
			lines.WriteString(f.String() + "\n")
		}
	}
	return lines.String()
}

// TestReadyBundles holds the ready policies to having nothing that check speaks of.
func TestReadyBundles(t *testing.T) {
	bundles, err := filepath.Glob("../../bundles/*/.manifest")
	if err != nil || len(bundles) < 4 {
		t.Fatal("too few bundles", bundles, err)
	}
	for _, manifest := range bundles {
		reports, err := check.Check(t.Context(), []string{filepath.Dir(manifest)}, check.Options{Unhurried: true})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range reports[0].Findings {
			t.Error(f)
		}
		if reports[0].Questions == 0 {
			t.Errorf("%s: nothing was decided", manifest)
		}
	}
}
