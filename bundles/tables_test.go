package bundles_test

import (
	"slices"
	"testing"

	"github.com/stagedoor/stagedoor/adapter/inventory"
	"github.com/stagedoor/stagedoor/adapter/offline"
	"github.com/stagedoor/stagedoor/adapter/tables"
	"github.com/stagedoor/stagedoor/adapter/tests"
)

// TestTables holds each ready bundle to its decision table, and the table to every
// permission of the stock plugins: what a plugin adds has to be decided on here.
func TestTables(t *testing.T) {
	for _, bundle := range []string{"default", "ownership", "rbac", "regulated", "wrapper"} {
		t.Run(bundle, func(t *testing.T) {
			p, err := offline.Open(t.Context(), bundle, offline.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = p.Close(t.Context()) }()
			results, err := tables.Run(t.Context(), p, tests.Options{})
			if err != nil {
				t.Fatal(err)
			}
			for _, result := range results {
				for _, finding := range result.Findings {
					t.Errorf("%s: %s", result.Name, finding.Text)
				}
			}
			const file = "permissions.decisions.yaml"
			table, err := tables.Read(p.Files(), file, file)
			if err != nil {
				t.Fatal(err)
			}
			asked := map[string][]string{}
			for _, row := range table.Rows {
				for _, may := range row.May {
					if len(row.On) == 0 {
						asked[may] = append(asked[may], row.Who...)
					}
				}
			}
			for _, permission := range inventory.Stock().Permissions {
				for who := range table.Callers {
					if !slices.Contains(asked[permission.Name], who) {
						t.Errorf("%s has no row for %s and %s", file, permission.Name, who)
					}
				}
			}
		})
	}
}
