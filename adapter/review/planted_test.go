package review_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stagedoor/stagedoor/adapter/audience"
	"github.com/stagedoor/stagedoor/adapter/comparison"
	"github.com/stagedoor/stagedoor/adapter/inventory"
	"github.com/stagedoor/stagedoor/adapter/offline"
	"github.com/stagedoor/stagedoor/adapter/review"
)

const plantedPolicy = `package shop.authz

import data.backstage.catalog

# METADATA
# entrypoint: true
default allow := false

allow if {
	input.permission.name in {"catalog.entity.delete", "catalog.entity.refresh"}
	member
	not contractor
	not blocked
	catalog.is_entity_owner(input.resource, {"claims": input.identity.claims})
	not frozen
	every label in data.shop.protected { not catalog.has_label(input.resource, {"label": label}) }
}

allow if {
	input.permission.name == "catalog.entity.create"
	some claim in input.identity.claims
	data.shop.roles[claim] == "admin"
}

member if "group:default/staff" in input.identity.claims

contractor if "group:default/contractors" in input.identity.claims

blocked if {
	some claim in data.shop.blocked
	claim in input.identity.claims
}

frozen if catalog.has_label(input.resource, {"label": "frozen"})

frozen if catalog.has_spec(input.resource, {"key": "lifecycle", "value": "production"})
`

const plantedData = `{"shop": {"blocked": ["group:default/blocked"], "protected": ["pci", "sox"], "roles": {"group:default/admins": "admin", "group:default/staff": "reader"}}}`

// TestPlantedWidenings plants changes of twenty kinds, and wants each told for the right
// callers and under the right condition.
func TestPlantedWidenings(t *testing.T) {
	for name, test := range map[string]struct {
		from, to string // in the policy or the data
		class    string // of a caller that the change is told for
		gains    string // in words, in part
	}{
		"a dropped guard":             {"\tnot frozen\n", "", "group:default/staff", "labelled frozen"},
		"a misspelt data path":        {"in data.shop.blocked", "in data.shop.blokced", "group:default/blocked", "owned by the caller"},
		"a misspelt label":            {`{"label": "frozen"}`, `{"label": "frozn"}`, "group:default/staff", "labelled frozen"},
		"a misspelt rule":             {"frozen if catalog.has_label", "frozn if catalog.has_label", "group:default/staff", "labelled frozen"},
		"a role more":                 {`"group:default/staff": "reader"`, `"group:default/staff": "admin"`, "group:default/staff", "always"},
		"a group more":                {`"group:default/admins": "admin"`, `"group:default/admins": "admin", "group:default/web": "admin"`, "group:default/web", "always"},
		"a permission more":           {`"catalog.entity.refresh"}`, `"catalog.entity.refresh", "catalog.entity.read"}`, "group:default/staff", "owned by the caller"},
		"an or for an and":            {"\tmember\n\tnot contractor\n", "\tnot contractor\n", "anybody who is signed in", "owned by the caller"},
		"a denial for others":         {"group:default/contractors", "group:default/guests", "group:default/contractors", "owned by the caller"},
		"a denial that needs two":     {`contractor if "group:default/contractors" in input.identity.claims`, "contractor if {\n\t\"group:default/contractors\" in input.identity.claims\n\tnot member\n}", "group:default/contractors", "owned by the caller"},
		"not over a value":            {"not frozen", "not frozen == false", "group:default/staff", "labelled frozen"},
		"a negation lost":             {"\tnot contractor\n", "\tcontractor\n", "group:default/contractors", "owned by the caller"},
		"some for every":              {"every label in data.shop.protected { not catalog.has_label(input.resource, {\"label\": label}) }", "some label in data.shop.protected\n\tnot catalog.has_label(input.resource, {\"label\": label})", "group:default/staff", "labelled pci"},
		"an element less":             {`["pci", "sox"]`, `["pci"]`, "group:default/staff", "labelled sox"},
		"another value":               {`"value": "production"`, `"value": "prod"`, "group:default/staff", "spec.lifecycle=production"},
		"a rule about something else": {"catalog.has_spec(input.resource, {\"key\": \"lifecycle\", \"value\": \"production\"})", "catalog.has_metadata(input.resource, {\"key\": \"lifecycle\", \"value\": \"production\"})", "group:default/staff", "spec.lifecycle=production"},
		"a default of true":           {"default allow := false", "default allow := true", "a caller without credentials", "always"},
		"a rule without a guard":      {"member if", "member if true\n\nmember if", "anybody who is signed in", "owned by the caller"},
		"a condition dropped":         {"\tcatalog.is_entity_owner(input.resource, {\"claims\": input.identity.claims})\n", "", "group:default/staff", "not owned by the caller"},
		"claims of everybody":         {`{"claims": input.identity.claims}`, `{"claims": array.concat(input.identity.claims, ["group:default/staff-all"])}`, "group:default/staff", "group:default/staff-all"},
		"a prefix for a name":         {`input.permission.name == "catalog.entity.create"`, `startswith(input.permission.name, "catalog.")`, "group:default/admins", "always"},
		"a comparison turned":         {`data.shop.roles[claim] == "admin"`, `data.shop.roles[claim] != "nobody"`, "group:default/staff", "always"},
		"any claim":                   {`data.shop.roles[claim] == "admin"`, `data.shop.roles[_] == "admin"`, "anybody who is signed in", "always"},
	} {
		t.Run(name, func(t *testing.T) {
			if !strings.Contains(plantedPolicy, test.from) && !strings.Contains(plantedData, test.from) {
				t.Fatal("there is nothing to change")
			}
			before := openPolicy(t, plantedPolicy, plantedData)
			after := openPolicy(t, strings.Replace(plantedPolicy, test.from, test.to, 1), strings.Replace(plantedData, test.from, test.to, 1))
			if before == nil || after == nil {
				t.Fatal("it does not open")
			}
			who, err := audience.Of(t.Context(), audience.Sources{Inventory: inventory.Stock()}, before, after)
			if err != nil {
				t.Fatal(err)
			}
			report, err := review.Diff(t.Context(), before, after, review.Options{
				Inventory: inventory.Stock(), Who: who, Vocabulary: after.Vocabulary(), Comparer: comparison.NewComparer(before, after),
			})
			if err != nil {
				t.Fatal(err)
			}
			const anonymous = "a caller without credentials"
			told := false
			for _, d := range report.Differences {
				for _, c := range d.Callers {
					if (d.Change == comparison.Wider || d.Change == comparison.Other) && strings.Contains(d.GainsInWords, test.gains) {
						told = told || strings.Contains(c.Class, test.class)
						if c.Class == anonymous && test.class != anonymous {
							t.Errorf("%s is told for %s", d.Permission, anonymous)
						}
					}
				}
			}
			if !told {
				t.Errorf("told\n%s", report.Text())
			}
		})
	}
}

// openPolicy opens a policy, or returns nil where it must not serve.
func openPolicy(t *testing.T, source, data string) *offline.Policy {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{".manifest": `{"roots": ["shop"]}`, "policy.rego": source, "data.json": data} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p, err := offline.Open(t.Context(), dir, offline.Options{})
	if err != nil {
		return nil
	}
	t.Cleanup(func() { _ = p.Close(t.Context()) })
	return p
}
