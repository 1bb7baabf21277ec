package bundles

import (
	"io/fs"
	"slices"
	"testing"
)

func TestDevIsTheDefaultAndMore(t *testing.T) {
	files := func(tree fs.FS) []string {
		var paths []string
		if err := fs.WalkDir(tree, ".", func(path string, entry fs.DirEntry, err error) error {
			if err == nil && !entry.IsDir() {
				_, err = fs.ReadFile(tree, path)
				paths = append(paths, path)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		slices.Sort(paths)
		return paths
	}
	want := append(files(Default()), "dev/policy.rego", "dev/todo.rego")
	slices.Sort(want)
	if got := files(Dev()); !slices.Equal(got, want) {
		t.Errorf("files %q, want %q", got, want)
	}
	if _, err := Dev().Open("none"); err == nil {
		t.Error("opened a file that neither has")
	}
}
