package migrate

import (
	"context"
	"errors"
	"net/http"
	"os"

	"github.com/stagedoor/stagedoor/adapter/inventory"
	"github.com/stagedoor/stagedoor/adapter/words"
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

// RBAC reads an installation of the community RBAC plugin and makes a bundle of it. The
// error is a [*RefusedError] where a source cannot be read right.
func RBAC(ctx context.Context, from Sources) (*Migration, error) {
	in, blank, found, err := from.read(ctx)
	if err != nil {
		return nil, err
	}
	j := judge(in, from.Known)
	j.found = append(j.found, found...)
	sortFindings(j.found)
	return &Migration{Findings: j.found, Known: from.Known, judgement: j, blank: blank}, nil
}

// A Migration is what became of an installation.
type Migration struct {
	// Findings are what its author should know, by file and line.
	Findings []Finding
	// Known is the inventory that it was judged by.
	Known *inventory.Inventory

	judgement *judgement
	// blank are the lines of the CSV that say nothing, by file.
	blank map[string][]int
}

// Lines is how many lines count.
func (m *Migration) Lines() int { return len(m.judgement.keptLines) }

// Bindings is how many members of roles count.
func (m *Migration) Bindings() int { return len(m.judgement.keptBindings) }

// Conditions is how many conditional policies count.
func (m *Migration) Conditions() int { return len(m.judgement.held.policies) }

// Files are those of the bundle by name, without the members where they go into a bundle
// of their own, and with the decision table and the report.
func (m *Migration) Files(vocabulary words.Vocabulary, apart bool) (map[string][]byte, error) {
	rbac, members := m.judgement.held.bundleData()
	data := map[string]any{"rbac": rbac, "rbac_members": members}
	roots := []string{"rbac", "rbac_members"}
	if apart {
		delete(data, "rbac_members")
		roots = roots[:1]
	}
	files, err := bundleFiles(roots, data)
	if err != nil {
		return nil, err
	}
	if files["policy.rego"], err = bundleFile("policy.rego"); err != nil {
		return nil, err
	}
	if files["rbac.decisions.yaml"], err = m.table(vocabulary); err != nil {
		return nil, err
	}
	files["REPORT.md"] = m.report()
	return files, nil
}

// Members are the files of the bundle of members alone.
func (m *Migration) Members() (map[string][]byte, error) {
	_, members := m.judgement.held.bundleData()
	return bundleFiles([]string{"rbac_members"}, map[string]any{"rbac_members": members})
}

// read reads all sources. What of the CSV says nothing is blank.
func (s Sources) read(ctx context.Context) (*installation, map[string][]int, []Finding, error) {
	in := &installation{settings: settings{precedence: "conditional"}}
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
		in.settings, found, wrong = readSettings(s.AppConfig, s.Environ)
		refused = append(refused, wrong...)
	}
	for _, source := range []struct {
		file string
		read func(file string, text []byte) []Finding
	}{
		{s.Policy, func(file string, text []byte) (wrong []Finding) {
			in.lines, in.bindings, blank[file], wrong = readCSV(file, text)
			return wrong
		}},
		{s.Conditions, func(file string, text []byte) (wrong []Finding) {
			in.policies, wrong = readPolicies(file, text)
			return wrong
		}},
		{s.Catalog, func(file string, text []byte) (wrong []Finding) {
			var rows []row
			in.groups, rows, wrong = readGroups(file, text)
			in.rows = append(in.rows, rows...)
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
		in.groups = groupsOf(s.Known)
	}
	if s.URL != "" {
		wrong, err := s.ask(ctx, in)
		if err != nil {
			return nil, nil, nil, err
		}
		refused = append(refused, wrong...)
		found = append(found, Finding{Place{File: policiesRoute}, Note, "not-told",
			"the API tells of roles alone: lines about users and groups, which count for those without any role, are not " +
				"among them. " +
				"They are in the plugin's CSV, and nobody has what they allow here"})
	}
	if len(refused) > 0 {
		sortFindings(refused)
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
