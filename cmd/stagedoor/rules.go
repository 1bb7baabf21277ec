package main

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/stagedoor/stagedoor/adapter/inventory"
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
	}, &cobra.Command{
		Use:   "list",
		Short: "Print the functions of the rule library, each with the rule that it means and its params",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			known, err := loadInventory("")
			if err != nil {
				return err
			}
			return listLibrary(cmd.OutOrStdout(), known)
		},
	})
	return cmd
}

// listLibrary prints a function of the rule library on each line. The params are those
// that the plugin publishes.
func listLibrary(w io.Writer, known *inventory.Inventory) error {
	params := map[ruleID]string{}
	for _, r := range known.Rules {
		params[ruleID{r.PluginID, r.ResourceType, r.Name}] = r.Params()
	}
	var lines []string
	for rule, function := range libraryFunctions() {
		cells := []string{function, rule.name, rule.resourceType, rule.plugin, orDash(params[rule])}
		lines = append(lines, strings.Join(cells, "\t"))
	}
	slices.Sort(lines)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, strings.Join([]string{"FUNCTION", "RULE", "RESOURCE TYPE", "PLUGIN", "PARAMS"}, "\t"))
	for _, line := range lines {
		_, _ = fmt.Fprintln(table, line)
	}
	return table.Flush()
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
