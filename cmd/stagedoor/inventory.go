package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/stagedoor/stagedoor/adapter/config"
	"github.com/stagedoor/stagedoor/adapter/discovery"
	"github.com/stagedoor/stagedoor/adapter/explore"
	"github.com/stagedoor/stagedoor/adapter/inventory"
	"github.com/stagedoor/stagedoor/adapter/offline"
)

func newInventory() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "inventory",
		Short: "The permissions and rules of a Backstage",
	}
	cmd.AddCommand(newInventoryList(), newInventoryPull(), newInventoryStubs())
	return cmd
}

func newInventoryList() *cobra.Command {
	var dir, format string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Print permissions, and rules with their functions and params",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			known, err := loadInventory(dir)
			if err != nil {
				return err
			}
			switch format {
			case "text":
				return listInventory(cmd.OutOrStdout(), known)
			case "json":
				return writeIndented(cmd.OutOrStdout(), map[string]any{
					"inventory": known.Source, "permissions": known.Permissions, "rules": known.Rules,
				})
			}
			return fmt.Errorf("--format is text or json, not %s", format)
		},
	}
	cmd.Flags().StringVar(&dir, "inventory", "", "the `directory` of another inventory than the stock one")
	cmd.Flags().StringVar(&format, "format", "text", "`text` or json")
	return cmd
}

func listInventory(w io.Writer, known *inventory.Inventory) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(cells ...string) { _, _ = fmt.Fprintln(table, strings.Join(cells, "\t")) }
	row("PERMISSION", "ACTION", "RESOURCE TYPE", "PLUGIN")
	for _, p := range known.Permissions {
		row(p.Name, orDash(p.Attributes.Action), orDash(p.ResourceType), orDash(p.PluginID))
	}
	row()
	row("RULE", "RESOURCE TYPE", "PLUGIN", "FUNCTION", "PARAMS")
	functions := libraryFunctions()
	for _, r := range known.Rules {
		row(r.Name, r.ResourceType, r.PluginID, orDash(functions[ruleID{r.PluginID, r.ResourceType, r.Name}]), r.Params())
	}
	return table.Flush()
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

type ruleID struct{ plugin, resourceType, name string }

// libraryFunctions are the functions of the rule library by the rule that they mean.
func libraryFunctions() map[ruleID]string {
	rules, err := explore.Rules(offline.Library())
	if err != nil { // it is embedded and tested
		panic(err)
	}
	functions := map[ruleID]string{}
	for _, r := range rules {
		functions[ruleID{r.PluginID, r.ResourceType, r.Name}] = strings.TrimPrefix(r.Function.String(), "data.backstage.")
	}
	return functions
}

func newInventoryPull() *cobra.Command {
	var files, plugins []string
	var baseURL, tokenFile string
	var catalog inventory.CatalogPuller
	cmd := &cobra.Command{
		Use:   "pull DIR",
		Short: "Read what the plugins of a running Backstage publish, and its catalog, into files",
		Long: "Pull asks the plugins of a running Backstage for their permissions and rules, and writes " +
			"permissions.json and\n" +
			"rules.json into DIR. Plugins are found as stagedoor finds them: by discovery.endpoints and backend.baseUrl of\n" +
			"--config, or below --base-url. Those of the stock inventory are asked, those that\n" +
			"discovery.endpoints names, and those of --plugin. The token is that of a user or a service: in --token-file,\n" +
			"or in the variable STAGEDOOR_TOKEN.\n" +
			"With --people and --entities it also reads the catalog: users with the claims that Backstage's default sign-in\n" +
			"gives them, groups with their parents, and entities. A pull that was cut goes on where it was.",
		Example: "  STAGEDOOR_TOKEN=… stagedoor inventory pull inventory --base-url https://backstage.example.com " +
			"--plugin todo --people --entities",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			options, err := placesOf(files, baseURL)
			if err != nil {
				return err
			}
			places, err := discovery.New(options)
			if err != nil {
				return err
			}
			token, err := readToken(tokenFile)
			if err != nil {
				return err
			}
			if catalog.Parents && !catalog.People {
				return errors.New("--parents are claims of --people, which is missing")
			}
			ids := append(slices.Clone(plugins), inventory.Stock().Plugins()...)
			for _, endpoint := range options.Endpoints {
				ids = append(ids, slices.DeleteFunc(slices.Clone(endpoint.Plugins), func(id string) bool { return id == "*" })...)
			}
			progress := newProgress(cmd.ErrOrStderr(), "plugins asked")
			var missing []string
			puller := inventory.Puller{Discovery: places, Token: token, Plugins: ids, Progress: func(p inventory.Pulled) {
				progress.tell(p.Done, p.Of)
				if p.Missing {
					missing = append(missing, p.Plugin)
					return
				}
				cmd.PrintErrf("%s: %d permissions, %d rules\n", p.Plugin, p.Permissions, p.Rules)
			}}
			found, err := puller.Pull(cmd.Context())
			if err != nil {
				return err
			}
			for _, id := range plugins {
				if slices.Contains(missing, id) {
					return fmt.Errorf("plugin %s, which --plugin names, is not there or publishes nothing", id)
				}
			}
			if err := found.Write(args[0]); err != nil {
				return err
			}
			cmd.PrintErrf("%s: %d permissions, %d rules; not there: %s\n", args[0], len(found.Permissions), len(found.Rules),
				strings.Join(missing, ", "))
			if !catalog.People && !catalog.Entities {
				return nil
			}
			catalog.Discovery, catalog.Token = places, token
			return pullCatalog(cmd, &catalog, args[0])
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&files, "config", nil,
		"a configuration `file` of Backstage's or stagedoor's; repeated, later ones win")
	f.StringVar(&baseURL, "base-url", "", "the `URL` of the backend, instead of --config")
	f.StringArrayVar(&plugins, "plugin", nil, "the `id` of a plugin to ask besides; repeated")
	f.StringVar(&tokenFile, "token-file", "", "a `file` with the token")
	f.BoolVar(&catalog.People, "people", false, "read users and groups of the catalog too")
	f.BoolVar(&catalog.Parents, "parents", false,
		"give people the parents of their groups as claims, which Backstage does not")
	f.BoolVar(&catalog.Entities, "entities", false, "read all entities of the catalog too")
	return cmd
}

func pullCatalog(cmd *cobra.Command, catalog *inventory.CatalogPuller, dir string) error {
	catalog.Progress = newProgress(cmd.ErrOrStderr(), "entities read").tell
	pulled, err := catalog.Pull(cmd.Context(), dir)
	if err != nil {
		return err
	}
	if pulled.Resumed > 0 {
		cmd.PrintErrf("%s: an earlier pull had read %d entities, and this one went on with them\n", dir, pulled.Resumed)
	}
	if catalog.People {
		cmd.PrintErrf("%s: %d people, %d groups\n", dir, pulled.People, pulled.Groups)
	}
	if catalog.Entities {
		cmd.PrintErrf("%s: %d entities\n", dir, pulled.Entities)
	}
	return nil
}

// placesOf says where plugins are.
func placesOf(files []string, baseURL string) (discovery.Options, error) {
	switch {
	case baseURL != "" && len(files) > 0:
		return discovery.Options{}, errors.New("give --base-url or --config, not both")
	case baseURL != "":
		return discovery.Options{BaseURL: baseURL}, nil
	case len(files) == 0:
		return discovery.Options{}, errors.New("where is Backstage? give --base-url, or --config with backend.baseUrl")
	}
	c, err := config.Load(files, nil)
	if err != nil {
		return discovery.Options{}, err
	}
	return c.Discovery, nil
}

func readToken(file string) (string, error) {
	if file == "" {
		return strings.TrimSpace(os.Getenv("STAGEDOOR_TOKEN")), nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(text)), nil
}

func newInventoryStubs() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "stubs DIR",
		Short: "Write a Rego function for each rule that the library has none for",
		Long: "Stubs writes one annotated Rego function for each rule that no library has, a file for each plugin, " +
			"below DIR.\n" +
			"Each is false until somebody writes its body. Files that are there already are left as they are.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			known, err := loadInventory(dir)
			if err != nil {
				return err
			}
			functions := libraryFunctions()
			stubs := known.Stubs(func(r inventory.Rule) bool {
				return functions[ruleID{r.PluginID, r.ResourceType,
					r.Name}] != ""
			})
			for _, stub := range stubs {
				to := filepath.Join(args[0], filepath.FromSlash(stub.File))
				if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil { //nolint:gosec // it is for the author's repository
					return err
				}
				file, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) //nolint:gosec // likewise
				if errors.Is(err, os.ErrExist) {
					cmd.PrintErrf("%s: is there already, and left as it is\n", to)
					continue
				}
				if err != nil {
					return err
				}
				_, err = file.WriteString(stub.Text)
				if err := errors.Join(err, file.Close()); err != nil {
					return err
				}
				cmd.PrintErrf("%s\n", to)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "inventory", "", "the `directory` of another inventory than the stock one")
	return cmd
}
