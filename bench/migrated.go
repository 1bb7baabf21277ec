//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// How large the RBAC policy is that is brought over.
const (
	rbacRoles      = 500
	rbacBindings   = 10_000
	rbacLines      = 2_000
	rbacConditions = 200
)

// migrated measures how long `stagedoor migrate rbac` takes for a large policy, and
// then asks the policy that comes out of it the same as the benchmark's own.
func migrated(ctx context.Context, b *bench) error {
	binary, backstage, err := b.buildAlone(ctx)
	if err != nil {
		return err
	}
	from, to := filepath.Join(b.dir, "rbac"), filepath.Join(b.dir, "migrated")
	if err := writeRBAC(from); err != nil {
		return err
	}
	began := time.Now()
	said, err := exec.CommandContext(ctx, binary, "migrate", "rbac", "--policy", filepath.Join(from, "policy.csv"),
		"--conditions", filepath.Join(from, "conditions.yaml"), "--app-config", filepath.Join(from, "app-config.yaml"), to).CombinedOutput()
	took := time.Since(began)
	// It finds permissions that no plugin publishes, since they are the benchmark's.
	if _, missing := os.Stat(filepath.Join(to, "data.json")); missing != nil {
		return fmt.Errorf("migrate rbac: %w\n%s", errors.Join(err, missing), said)
	}
	own, err := b.startStagedoor(ctx, "own policy", binary, backstage, b.root+"/bench/policy")
	if err != nil {
		return err
	}
	other, err := b.startStagedoor(ctx, "migrated policy", binary, backstage, to)
	if err != nil {
		return err
	}
	r := newReport(ctx, b)
	all, _, err := chosen(list{"fifty"})
	if err != nil {
		return err
	}
	for _, users := range b.users {
		for _, connections := range b.connections {
			one := &contest{
				bench: b, scenario: all[0], targets: []*target{own, other}, backstage: backstage, users: users, connections: connections,
			}
			o, err := one.run(ctx)
			if err != nil {
				return err
			}
			r.Outcomes = append(r.Outcomes, o)
		}
	}
	err = r.write()
	fmt.Printf("\nmigrate rbac of %d roles, %d bindings, %d lines and %d conditions: %.2f s\n",
		rbacRoles, rbacBindings, rbacLines, rbacConditions, took.Seconds())
	return err
}

// writeRBAC writes the files of an RBAC policy that answers the scenario fifty as the
// benchmark's own policy does, for whoever is in group:default/everybody.
func writeRBAC(dir string) error {
	var lines, conditions strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&lines, format+"\n", args...) }
	condition := func(role, action, rest string) {
		fmt.Fprintf(&conditions, "---\nresult: CONDITIONAL\nroleEntityRef: %s\npluginId: catalog\nresourceType: catalog-entity\n"+
			"permissionMapping: [%s]\nconditions:\n%s", role, action, rest)
	}
	const owned = "      - rule: IS_OWNER\n        resourceType: catalog-entity\n        params: { claims: [$ownerRefs] }\n"
	for n := range 25 {
		line("p, role:default/everybody, bench.task.create.%02d, create, allow", n)
	}
	line("p, role:default/everybody, catalog-entity, update, allow")
	line("g, group:default/everybody, role:default/everybody")
	condition("role:default/everybody", "update", "  anyOf:\n"+owned+"      - not:\n"+
		"          rule: HAS_LABEL\n          resourceType: catalog-entity\n          params: { label: example.com/confidential, value: 'true' }\n")
	for n := range rbacLines - 26 {
		line("p, role:default/role-%03d, bench.task.other.%04d, use, allow", n%(rbacRoles-1), n)
	}
	for n := range rbacConditions - 1 {
		role := fmt.Sprintf("role:default/role-%03d", n)
		line("p, %s, catalog-entity, delete, allow", role)
		condition(role, "delete", "  anyOf:\n"+owned)
	}
	for n := range rbacBindings - 1 {
		kind := "group:default/team"
		if n%2 == 1 {
			kind = "user:default/person"
		}
		line("g, %s-%04d, role:default/role-%03d", kind, n/2, n%(rbacRoles-1))
	}
	files := map[string]string{
		"policy.csv": lines.String(), "conditions.yaml": conditions.String(),
		"app-config.yaml": "permission:\n  enabled: true\n  rbac:\n    pluginsWithPermission: [catalog]\n",
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}
