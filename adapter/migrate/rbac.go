// Package migrate brings a policy over from a neighbour.
//
// [RBAC] reads what the community RBAC plugin of Backstage reads: its CSV of lines and
// roles, its YAML of conditional policies and its part of the app-config; or what its
// REST API tells. From that it makes a bundle of bundles/rbac with data of its own, a
// decision table with a row for every line, and a report.
//
// What cannot be read is a refusal, with its place, and nothing is made. What can be
// read has the meaning that the plugin gives it, which is at times that it is skipped:
// then it is a finding, and the report says so. Nothing is dropped without a word. The
// same sources give the same files, byte for byte.
//
// [Wrapper] says what to write in a policy of the OPA wrapper module, for it to ask
// about the resource itself.
//
// A migration goes through three rooms. [installation] reads what the sources say. judge.go
// decides what the plugin keeps of that, and what it skips. [enforcer] holds what is kept,
// and answers by it.
//
// So the RBAC plugin's meaning is known twice: once as the data of bundles/rbac
// (bundle.go), and once in Go (package enforcer), by which the decision table is written.
// The table is a proof of the policy, and not its echo.
package migrate

import (
	"context"

	"github.com/stagedoor/stagedoor/adapter/inventory"
	"github.com/stagedoor/stagedoor/adapter/migrate/installation"
	"github.com/stagedoor/stagedoor/adapter/words"
)

// RBAC reads an installation of the community RBAC plugin and makes a bundle of it. The
// error is a [*RefusedError] where a source cannot be read right, or the context's.
func RBAC(ctx context.Context, from installation.Sources) (*Migration, error) {
	in, blank, found, err := from.Read(ctx)
	if err != nil {
		return nil, err
	}
	j, err := judge(ctx, in, from.Known)
	if err != nil {
		return nil, err
	}
	j.found = append(j.found, found...)
	installation.SortFindings(j.found)
	return &Migration{Findings: j.found, Known: from.Known, judgement: j, blank: blank}, nil
}

// A Migration is what became of an installation.
type Migration struct {
	// Findings are what its author should know, by file and line.
	Findings []installation.Finding
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
func (m *Migration) Conditions() int { return len(m.judgement.held.Policies) }

// Files are those of the bundle by name, without the members where they go into a bundle
// of their own, and with the decision table and the report.
func (m *Migration) Files(vocabulary words.Vocabulary, apart bool) (map[string][]byte, error) {
	rbac, members := bundleData(m.judgement.held)
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
	table, err := m.table(vocabulary)
	if err != nil {
		return nil, err
	}
	if table != nil {
		files["rbac.decisions.yaml"] = table
	}
	files["REPORT.md"] = m.report()
	return files, nil
}

// Members are the files of the bundle of members alone.
func (m *Migration) Members() (map[string][]byte, error) {
	_, members := bundleData(m.judgement.held)
	return bundleFiles([]string{"rbac_members"}, map[string]any{"rbac_members": members})
}
