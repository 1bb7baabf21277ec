package main

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stagedoor/stagedoor/bundles"
)

// started are the files beside a policy to start from: CI, a hook and a README.
//
//go:embed all:start
var started embed.FS

func newInit() *cobra.Command {
	var from string
	cmd := &cobra.Command{
		Use:   "init DIR",
		Short: "Write a policy to start from, with tests, a decision table and CI",
		Long: "Init writes a folder that serves, tests and checks at once: " +
			"a bundle with its tests and a decision table, CI for\n" +
			"GitHub Actions and GitLab, and a hook for git. The folder is meant as the root of a repository.",
		Example: "  stagedoor init --from default policy",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			policy, err := bundles.Start(from)
			if err != nil {
				return fmt.Errorf("--from: %w", err)
			}
			beside, err := fs.Sub(started, "start")
			if err != nil {
				return err
			}
			dir := args[0]
			if err := emptyDir(dir); err != nil {
				return err
			}
			for _, tree := range []fs.FS{policy, beside} {
				if err := write(tree, dir); err != nil {
					return err
				}
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(),
				"%s: the policy %s; try `stagedoor test %s` and `stagedoor check %s`\n", dir, from, dir, dir)
			return err
		},
	}
	cmd.Flags().StringVar(&from, "from", "default", "the policy to start from: "+strings.Join(bundles.Names(), ", "))
	return cmd
}

// emptyDir makes a directory, or sees that there is nothing in it but git's own.
func emptyDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return os.MkdirAll(dir, 0o755) //nolint:gosec // it is for a repository
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.Name() != ".git" {
			return fmt.Errorf("%s is not empty: it has %s; name a new directory", dir, entry.Name())
		}
	}
	return nil
}

// write writes the files of a tree.
func write(tree fs.FS, dir string) error {
	return fs.WalkDir(tree, ".", func(path string, entry fs.DirEntry, err error) error {
		to := filepath.Join(dir, filepath.FromSlash(path))
		switch {
		case err != nil:
			return err
		case entry.IsDir():
			return os.MkdirAll(to, 0o755) //nolint:gosec // it is for a repository
		}
		text, err := fs.ReadFile(tree, path)
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o644)
		if strings.HasPrefix(string(text), "#!") {
			mode = 0o755
		}
		return os.WriteFile(to, text, mode)
	})
}
