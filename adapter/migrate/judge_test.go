package migrate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stagedoor/stagedoor/adapter/inventory"
	"github.com/stagedoor/stagedoor/adapter/migrate/installation"
)

// sources are an installation in files: policy.csv, conditions.yaml, app-config.yaml and
// groups.yaml, each where it is given.
func sources(t *testing.T, files map[string]string) installation.Sources {
	t.Helper()
	from := installation.Sources{Known: inventory.Stock()}
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		switch name {
		case "policy.csv":
			from.Policy = path
		case "conditions.yaml":
			from.Conditions = path
		case "app-config.yaml":
			from.AppConfig = []string{path}
		case "groups.yaml":
			from.Catalog = path
		}
	}
	return from
}

func migrated(t *testing.T, files map[string]string) *Migration {
	t.Helper()
	m, err := RBAC(t.Context(), sources(t, files))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// reading is a conditional policy about reading entities.
func reading(role, plugin, params string) string {
	return fmt.Sprintf("---\n{result: CONDITIONAL, roleEntityRef: %q, pluginId: %s, resourceType: catalog-entity, permissionMapping: [read],\n"+
		" conditions: {rule: IS_ENTITY_OWNER, resourceType: catalog-entity, params: {claims: %s}}}\n", role, plugin, params)
}

const members = "g, user:default/ann, role:default/a\ng, user:default/bob, role:default/b\np, role:default/b, catalog-entity, read, allow\n"

// TestCollisions holds conditions after a collision to what the plugin stores. One that it
// stores in no case is left out. One that it stores in some case is never less than there.
func TestCollisions(t *testing.T) {
	for _, tc := range []struct {
		name, conditions string
		a, b             int // conditions of each role
		want             string
	}{
		{"of one plugin", reading("role:default/a", "catalog", "[x]") + reading("role:default/a", "catalog", "[y]"), 2, 0, "nothing from here on"},
		{"of two plugins", reading("role:default/a", "catalog", "[x]") + reading("role:default/a", "other", "[x]"), 2, 1, "Two deny ["},
		{"the same twice", reading("role:default/a", "catalog", "[x, y]") + reading("role:default/a", "catalog", "[y, x]"), 1, 2, "until it starts again"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := migrated(t, map[string]string{"policy.csv": members, "conditions.yaml": tc.conditions + reading("role:default/b", "catalog", "[z]")})
			count := map[string]int{}
			for _, p := range m.judgement.held.Policies {
				count[p.Role]++
			}
			if count["role:default/a"] != tc.a || count["role:default/b"] != tc.b {
				t.Errorf("%v", count)
			}
			if text := fmt.Sprint(m.Findings); !strings.Contains(text, tc.want) {
				t.Errorf("%q is not in %s", tc.want, text)
			}
		})
	}
}

// TestBounds holds a file to the bounds that the plugin has, of its configuration too.
func TestBounds(t *testing.T) {
	const config = "permission: {enabled: '${ON}', rbac: {validation: {%s}}}\n"
	deep := "---\n{result: CONDITIONAL, roleEntityRef: 'role:default/a', pluginId: catalog, resourceType: catalog-entity, permissionMapping: [delete],\n" +
		" conditions: " + strings.Repeat("{not: ", 12) + "{rule: IS_ENTITY_OWNER, resourceType: catalog-entity, params: {claims: [x]}}" + strings.Repeat("}", 13) + "\n"
	for _, tc := range []struct{ name, conditions, bounds, want string }{
		{"deeper than by default", deep, "", "more than 12 levels"},
		{"as deep as configured", deep, "conditionalPolicies: {maxConditionDepth: '13'}", ""},
		{"deeper than configured", reading("role:default/a", "catalog", "[x]") + deep, "conditionalPolicies: {maxConditionDepth: 2}", "conditions.yaml:6: error: the condition is more than 2 levels"},
		{"more parts than configured", deep, "conditionalPolicies: {maxConditionDepth: 20, maxConditionNodeCount: 12}", "more than 12 parts"},
		{"no number", reading("role:default/a", "catalog", "[x]"), "conditionalPolicies: {maxCriteriaItems: 0}", "app-config.yaml:1: error: permission.rbac.validation.conditionalPolicies.maxCriteriaItems is no whole number"},
		{"more documents than by default", strings.Repeat(reading("role:default/x", "catalog", "[x]"), 257), "", "conditions.yaml:770: error: the file has more than 256 documents"},
		{"as many documents as configured", strings.Repeat(reading("role:default/x", "catalog", "[x]"), 257), "conditionalPoliciesFile: {maxDocuments: 257}", ""},
		{"larger than by default", "#" + strings.Repeat(" ", 1<<20), "", "larger than 1048576 bytes"},
		{"a blank name", strings.ReplaceAll(reading("role:default/a", "catalog", "[x]"), "[read]", "[{name: ' ', action: read}]"), "", "an entry of permissionMapping is an action"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			from := sources(t, map[string]string{"policy.csv": members, "conditions.yaml": tc.conditions, "app-config.yaml": fmt.Sprintf(config, tc.bounds)})
			from.Environ = []string{"ON=true"}
			m, err := RBAC(t.Context(), from)
			switch {
			case tc.want == "" && err != nil:
				t.Error(err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("the error is %v, want %s", err, tc.want)
			}
			if m != nil && strings.Contains(fmt.Sprint(m.Findings), "permission-disabled") {
				t.Error("it is enabled by a variable")
			}
		})
	}
}

// TestNumbersInParams writes the bundle of a condition with numbers in its params.
func TestNumbersInParams(t *testing.T) {
	m := migrated(t, map[string]string{"policy.csv": members, "conditions.yaml": reading("role:default/a", "catalog", "[1, 2.5, 12345678901234567890, .inf]")})
	files, err := m.Files(nil, false)
	if err != nil {
		t.Fatal(err)
	}
	if text := strings.Join(strings.Fields(string(files["data.json"])), ""); !strings.Contains(text, `"claims":[1,2.5,12345678901234567000,null]`) {
		t.Error(text)
	}
}

// TestAdminRoleForEverybody gives the role of administrators to everybody, and with it the
// lines that the plugin always has for it.
func TestAdminRoleForEverybody(t *testing.T) {
	m := migrated(t, map[string]string{"app-config.yaml": "permission: {enabled: true, rbac: {maxDepth: , admin: , defaultPermissions: {defaultRole: 'role:default/rbac_admin', basicPermissions: [{permission: x}]}}}"})
	if got := m.judgement.held.Permissions[adminRole]["policy-entity"]["delete"]; got != "allow" {
		t.Errorf("%q", got)
	}
}

// TestUserAsRole refuses a user in the place of a role. The plugin takes it for one, and
// then denies its members what their other roles and lines allow.
func TestUserAsRole(t *testing.T) {
	_, err := RBAC(t.Context(), sources(t, map[string]string{"policy.csv": members + "g, user:default/ann, user:default/bob\n"}))
	if err == nil || !strings.Contains(err.Error(), "policy.csv:4: error: user:default/bob is no role") {
		t.Error(err)
	}
}

// TestExportsAreWhole refuses an export of the catalog from which parents are missing: a
// denial that is bound to one of these would be lost.
func TestExportsAreWhole(t *testing.T) {
	for _, tc := range []struct{ name, groups, want string }{
		{"one page of several", "{items: [{kind: Group, metadata: {name: a}}], totalItems: 2, pageInfo: {nextCursor: x}}", "groups.yaml:1: error: one page of several"},
		{"the last page", "{items: [{kind: Group, metadata: {name: a}}], totalItems: 2, pageInfo: {prevCursor: x}}", "groups.yaml:1: error: one page of several"},
		{"fewer than there are", "{items: [{kind: Group, metadata: {name: a}}], totalItems: 2, pageInfo: {}}", "groups.yaml:1: error: 1 entities of 2"},
		{"a relation without target", "kind: Group\nmetadata: {name: a}\nrelations:\n  - {type: childOf}\n", "groups.yaml:4: error: a relation childOf without targetRef"},
		{"a parent that is no text", "kind: Group\nmetadata: {name: a}\nspec: {parent: [b]}\n", "groups.yaml:3: error: spec.parent of group:default/a is no text"},
		{"a child that is no text", "kind: Group\nmetadata: {name: a}\nspec:\n  children:\n    - {name: b}\n", "groups.yaml:5: error: a child of group:default/a is no text"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := RBAC(t.Context(), sources(t, map[string]string{"policy.csv": members, "groups.yaml": tc.groups}))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("the error is %v, want %s", err, tc.want)
			}
		})
	}
}

// TestRestrictionOfAGroup warns where a role that denies, or has conditions, is bound to a
// group and nothing says which groups have parents.
func TestRestrictionOfAGroup(t *testing.T) {
	const bound = "g, group:default/all, role:default/a\n"
	for _, tc := range []struct{ name, lines, conditions, want string }{
		{"it allows", "p, role:default/a, catalog-entity, read, allow\n", "", "note: roles that are bound to a parent"},
		{"it denies", "p, role:default/a, catalog-entity, read, deny\n", "", "warning: role:default/a denies or has conditions"},
		{"it has conditions", "", reading("role:default/a", "catalog", "[x]"), "warning: role:default/a denies or has conditions"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := migrated(t, map[string]string{"policy.csv": bound + tc.lines, "conditions.yaml": tc.conditions})
			var text strings.Builder
			for _, f := range m.Findings {
				fmt.Fprintln(&text, f)
			}
			if !strings.Contains(text.String(), tc.want) {
				t.Errorf("%q is not in %s", tc.want, &text)
			}
		})
	}
}

// TestReportHasEveryLine accounts for each line of the files.
func TestReportHasEveryLine(t *testing.T) {
	m := migrated(t, map[string]string{
		"policy.csv": members + "\n# the end\n",
		"conditions.yaml": "# first\n" + reading("role:default/a", "catalog", "[x]") + "...\n\n---\nresult: CONDITIONAL\nroleEntityRef: role:default/b\n# inside\npluginId: catalog\n" +
			"resourceType: catalog-entity\npermissionMapping: [read]\nconditions:\n  rule: IS_ENTITY_OWNER\n  resourceType: catalog-entity\n  params:\n    claims:\n      - |\n        x\n        y\n# last\n",
		"app-config.yaml": "permission:\n  enabled: true\n  rbac:\n    maxDepth: 3\n",
	})
	report := string(m.report())
	for _, want := range []string{
		"Blank, or a comment: 4-5.", "Blank, a comment, or between documents: 1-2, 5-7, 22.", "| 3-4 | condition of role:default/a",
		"| 8-21 | condition of role:default/b", "| 2 | permission.enabled | ", "| 4 | permission.rbac.maxDepth | ",
	} {
		if !strings.Contains(report, want) {
			t.Errorf("%q is not in\n%s", want, report)
		}
	}
}

// many are lines about permissions that nobody publishes, each of which might be meant for
// one that somebody does, and roles that nobody has.
func many(n int) string {
	var text strings.Builder
	text.WriteString(members)
	for i := range n {
		fmt.Fprintf(&text, "p, role:default/b, acme.entity.%d.read, read, allow\n", i)
	}
	return text.String()
}

// TestManyUnknownNames reads a policy with as many names as a large company has, of which
// the inventory knows none.
func TestManyUnknownNames(t *testing.T) {
	const n = 50_000
	m := migrated(t, map[string]string{"policy.csv": many(n)})
	unknown := 0
	for _, f := range m.Findings {
		if f.Code == "unknown-permission" {
			unknown++
		}
	}
	if unknown != n {
		t.Errorf("%d of %d were found", unknown, n)
	}
	if _, err := m.Files(nil, false); err != nil {
		t.Error(err)
	}
}

// TestMigrationStops ends with its context.
func TestMigrationStops(t *testing.T) {
	stopped := errors.New("told to end")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stopped)
	if _, err := RBAC(ctx, sources(t, map[string]string{"policy.csv": many(10)})); !errors.Is(err, stopped) {
		t.Error(err)
	}
}
