package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stagedoor/stagedoor/rego"
)

func newRules() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rules",
		Short: "The rule library",
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "export DIR",
		Short: "Write the rule library and the schemas as files, for opa test and opa check",
		Args:  cobra.ExactArgs(1),
		RunE:  func(_ *cobra.Command, args []string) error { return export(rego.Files, args[0]) },
	})
	return cmd
}

// export writes the tree without its tests below dir, over what an earlier export left.
func export(tree fs.FS, dir string) error {
	return fs.WalkDir(tree, ".", func(path string, entry fs.DirEntry, err error) error {
		to := filepath.Join(dir, filepath.FromSlash(path))
		switch {
		case err != nil:
			return err
		case entry.IsDir():
			return os.MkdirAll(to, 0o755) //nolint:gosec // it is public text
		case strings.HasSuffix(path, "_test.rego"):
			return nil
		}
		text, err := fs.ReadFile(tree, path)
		if err != nil {
			return err
		}
		return os.WriteFile(to, text, 0o644) //nolint:gosec // likewise
	})
}
