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
		Short: "Write the rule library and the schemas as a bundle, for opa test, check, eval and build",
		Long: "Export writes the rule library and the schemas below DIR. " +
			"With its .manifest DIR is a bundle, so that stock\n" +
			"`opa build -b DIR POLICY` makes one of the library and a policy, which can be signed and served as any other.",
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := export(rego.Files, args[0]); err != nil {
				return err
			}
			manifest := filepath.Join(args[0], ".manifest")
			return os.WriteFile(manifest, []byte(rego.Manifest()), 0o644) //nolint:gosec // it is public text
		},
	})
	return cmd
}

// export writes the tree without its tests and the mask of the decision log, which is
// no part of the library, below dir, over what an earlier export left.
func export(tree fs.FS, dir string) error {
	return fs.WalkDir(tree, ".", func(path string, entry fs.DirEntry, err error) error {
		to := filepath.Join(dir, filepath.FromSlash(path))
		switch {
		case err != nil:
			return err
		case path == "system":
			return fs.SkipDir
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
