package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/stagedoor/stagedoor/adapter/migrate"
	"github.com/stagedoor/stagedoor/adapter/migrate/installation"
	"github.com/stagedoor/stagedoor/adapter/offline"
)

func newMigrate() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Come over from a neighbour, with a report and a proof",
	}
	cmd.AddCommand(newMigrateRBAC(), newMigrateWrapper())
	return cmd
}

func newMigrateRBAC() *cobra.Command {
	var from installation.Sources
	var inventory, tokenFile, members string
	cmd := &cobra.Command{
		Use:   "rbac DIR",
		Short: "Make a bundle of what the community RBAC plugin has",
		Long: "Rbac reads the files of the community RBAC plugin, or asks a running one, and writes a bundle into DIR " +
			"that\n" +
			"answers as the plugin does: policy.rego and data.json, the schema of the data, a decision table with a row\n" +
			"for every line, and REPORT.md, which says what became of each line. What it finds goes to standard output.",
		Example: "  stagedoor migrate rbac --policy policy.csv --conditions conditions.yaml --app-config " +
			"app-config.yaml policy",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if from.Known, err = loadInventory(inventory); err != nil {
				return err
			}
			if (from.URL == "") != (tokenFile == "") {
				return errors.New("--url and --token-file go together")
			}
			if tokenFile != "" {
				token, err := os.ReadFile(tokenFile)
				if err != nil {
					return err
				}
				from.Token = string(bytes.TrimSpace(token))
			}
			from.Environ = os.Environ()
			migration, err := migrate.RBAC(cmd.Context(), from)
			if err != nil {
				return err
			}
			if err := writeMigration(cmd.Context(), migration, args[0], members); err != nil {
				return err
			}
			return tellMigration(cmd, migration, args[0])
		},
	}
	f := cmd.Flags()
	f.StringVar(&from.Policy, "policy", "", "the `file` of lines and roles, in CSV (permission.rbac.policies-csv-file)")
	f.StringVar(&from.Conditions, "conditions", "",
		"the `file` of conditional policies, in YAML (permission.rbac.conditionalPoliciesFile)")
	f.StringArrayVar(&from.AppConfig, "app-config", nil,
		"a configuration `file` of Backstage; repeat it as Backstage does")
	f.StringVar(&from.Catalog, "catalog", "", "an export of the catalog's groups: the `file` has entities in YAML or JSON")
	f.StringVar(&from.URL, "url", "", "the base `URL` of a Backstage backend, to ask its plugin in place of files")
	f.StringVar(&tokenFile, "token-file", "", "a `file` with a token of one who may read the policies, for --url")
	f.StringVar(&inventory, "inventory", "",
		"the `directory` that says which permissions, rules and groups there are; the stock ones where this is not given")
	f.StringVar(&members, "members", "", "a `directory` for who has which role, as a bundle of its own")
	return cmd
}

// writeMigration writes the bundle, and sees that it can serve.
func writeMigration(ctx context.Context, m *migrate.Migration, dir, members string) error {
	files, err := m.Files(offline.LibraryVocabulary(), members != "")
	if err != nil {
		return err
	}
	if err := migrate.Write(dir, files); err != nil {
		return err
	}
	if members != "" {
		files, err := m.Members()
		if err != nil {
			return err
		}
		if err := migrate.Write(members, files); err != nil {
			return err
		}
	}
	p, err := offline.Open(ctx, dir, offline.Options{})
	if err != nil {
		return err
	}
	return p.Close(ctx)
}

func tellMigration(cmd *cobra.Command, m *migrate.Migration, dir string) error {
	found := false
	for _, f := range m.Findings {
		found = found || f.Severity != installation.Note
		if _, err := fmt.Fprintln(cmd.OutOrStdout(), f); err != nil {
			return err
		}
	}
	cmd.PrintErrf("%s: %d lines, %d members of roles and %d conditions, by the inventory %s; %s says what became of "+
		"each line\n",
		dir, m.Lines(), m.Bindings(), m.Conditions(), m.Known.Source, dir+"/REPORT.md")
	if found {
		return errFindings
	}
	return nil
}

func newMigrateWrapper() *cobra.Command {
	var opening offline.Options
	cmd := &cobra.Command{
		Use:   "wrapper PATH",
		Short: "Say what a policy of the OPA wrapper module would write about the resource itself",
		Long: "Wrapper finds the conditions that a policy writes by hand, and says for each which permission rule to " +
			"call.\n" +
			"A policy moves over in steps, each as small as one branch; stagedoor diff OLD NEW proves a step. The policy\n" +
			"serves unchanged before the first step and between any two. docs/migrate/wrapper.md goes through an example.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			p, err := offline.Open(cmd.Context(), args[0], opening)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, p.Close(cmd.Context())) }()
			found := migrate.Wrapper(p)
			for _, f := range found {
				if _, err := fmt.Fprintln(cmd.OutOrStdout(), f); err != nil {
					return err
				}
			}
			cmd.PrintErrf("%s: %d places; prove each step by stagedoor diff OLD NEW\n", args[0], len(found))
			return nil
		},
	}
	openingFlags(cmd, &opening)
	return cmd
}
