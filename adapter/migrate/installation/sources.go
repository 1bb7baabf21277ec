package installation

import (
	"context"
	"errors"
	"net/http"
	"os"

	"github.com/stagedoor/stagedoor/adapter/inventory"
	"github.com/stagedoor/stagedoor/adapter/migrate/written"
)

// Sources say where an installation of the RBAC plugin is described. Either files, or
// the REST API of a running Backstage; the app-config goes with both.
type Sources struct {
	// Policy is the CSV of lines and roles.
	Policy string
	// Conditions is the YAML of conditional policies.
	Conditions string
	// AppConfig are configuration files, merged in this order.
	AppConfig []string
	// Catalog is an export of the catalog's groups: YAML documents, a JSON list, or an answer
	// of the catalog. Without it the groups are those of Known.
	Catalog string
	// URL is the base URL of a Backstage backend, whose plugin is asked with Token.
	URL, Token string
	// Client asks it; nil is a client that waits 30 seconds and follows no redirect.
	Client *http.Client
	// Known is which permissions, rules, people and groups there are.
	Known *inventory.Inventory
	// Environ is the environment for the app-config, as os.Environ lists it.
	Environ []string
}

// errNothing is what RBAC says where it is given no source.
var errNothing = errors.New("nothing to migrate: name a policy, conditions, an app-config or a URL")

// Read reads all sources. What of the CSV and the conditions says nothing is blank.
func (s Sources) Read(ctx context.Context) (*Installation, map[string][]int, []Finding, error) {
	in := &Installation{Settings: Settings{Precedence: "conditional", Bounds: defaultBounds}}
	blank := map[string][]int{}
	var found, refused []Finding
	if s.Policy == "" && s.Conditions == "" && s.URL == "" && len(s.AppConfig) == 0 {
		return nil, nil, nil, errNothing
	}
	if s.URL != "" && (s.Policy != "" || s.Conditions != "") {
		return nil, nil, nil, errors.New("a policy or conditions beside a URL: the plugin's API tells both")
	}
	if len(s.AppConfig) > 0 {
		var wrong []Finding
		in.Settings, found, wrong = readSettings(s.AppConfig, s.Environ)
		refused = append(refused, wrong...)
	}
	for _, source := range []struct {
		file string
		read func(file string, text []byte) []Finding
	}{
		{s.Policy, func(file string, text []byte) (wrong []Finding) {
			in.Lines, in.Bindings, blank[file], wrong = readCSV(file, text)
			return wrong
		}},
		{s.Conditions, func(file string, text []byte) (wrong []Finding) {
			in.Policies, wrong = readPolicies(file, text, in.Bounds)
			blank[file] = between(in.Policies, text)
			return wrong
		}},
		{s.Catalog, func(file string, text []byte) (wrong []Finding) {
			var rows []Row
			in.Groups, rows, wrong = readGroups(file, text)
			in.Rows = append(in.Rows, rows...)
			return wrong
		}},
	} {
		if source.file == "" {
			continue
		}
		text, err := os.ReadFile(source.file)
		if err != nil {
			return nil, nil, nil, err
		}
		refused = append(refused, source.read(source.file, text)...)
	}
	if s.Catalog == "" && s.Known.Groups != nil {
		in.Groups = groupsOf(s.Known)
	}
	if s.URL != "" {
		wrong, err := s.ask(ctx, in)
		if err != nil {
			return nil, nil, nil, err
		}
		refused = append(refused, wrong...)
		found = append(found, Finding{written.Place{File: policiesRoute}, Note, "not-told",
			"the API tells of roles alone: lines about users and groups, which count for those without any role, are not " +
				"among them. " +
				"They are in the plugin's CSV, and nobody has what they allow here"})
		if len(s.AppConfig) == 0 {
			found = append(found, Finding{written.Place{File: policiesRoute}, Warning, "no-app-config",
				"the API does not tell of precedence, superusers, maxDepth and useOwnershipEntityRefs. Here they are as by " +
					"default; give --app-config where they are not"})
		}
	}
	if len(refused) > 0 {
		SortFindings(refused)
		return nil, nil, nil, &RefusedError{refused}
	}
	return in, blank, found, nil
}

// groupsOf are the parents of the groups of an inventory.
func groupsOf(known *inventory.Inventory) map[string][]string {
	groups := map[string][]string{}
	for ref, group := range known.Groups {
		if parents := group.All(); len(parents) > 0 {
			groups[ref] = parents
		}
	}
	return groups
}
