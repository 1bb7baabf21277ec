//go:build linux

package main

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/inventory"
)

// company is a company of a size, the same for the same numbers.
type company struct {
	people, groups, entities, bindings, roles int
	r                                         *rand.Rand
}

func newCompany(people, entities int) *company {
	return &company{
		people: people, groups: people, entities: entities, bindings: 2 * people, roles: 8,
		r: rand.New(rand.NewPCG(1, uint64(people))),
	}
}

func employee(i int) string { return fmt.Sprintf("user:default/user-%04d", i) }
func team(i int) string     { return fmt.Sprintf("group:default/group-%04d", i) }

// writeInventory writes people with a group of a few and one of many each, and entities of all kinds of owners.
func (c *company) writeInventory(dir string, withEntities bool) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	people := make(map[string]inventory.Person, c.people)
	for i := range c.people {
		claims := []string{employee(i), team(c.r.IntN(c.groups)), team(c.r.IntN(40))}
		people[employee(i)] = inventory.Person{Claims: slices.Compact(claims)}
	}
	text, err := json.Marshal(people)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "people.json"), text, 0o600); err != nil {
		return err
	}
	if !withEntities {
		return nil
	}
	file, err := os.Create(filepath.Join(dir, "entities.jsonl"))
	if err != nil {
		return err
	}
	defer file.Close()
	w := bufio.NewWriter(file)
	lines := json.NewEncoder(w)
	for i := range c.entities {
		if err := lines.Encode(c.entity(i)); err != nil {
			return err
		}
	}
	return w.Flush()
}

func (c *company) entity(i int) map[string]any {
	owner := team(c.r.IntN(c.groups))
	if i%3 == 0 {
		owner = team(c.r.IntN(40))
	}
	labels := map[string]any{"tier": strconv.Itoa(i % 4)}
	if i%17 == 0 {
		labels["frozen"] = "true"
	}
	return map[string]any{
		"apiVersion": "backstage.io/v1alpha1", "kind": []string{"Component", "API", "Resource", "System"}[i%4],
		"metadata": map[string]any{
			"name": fmt.Sprintf("entity-%05d", i), "namespace": "default", "labels": labels,
			"annotations": map[string]any{"example.com/cost": strconv.Itoa(i % 60)},
		},
		"spec":      map[string]any{"lifecycle": []string{"production", "experimental"}[i%2], "type": fmt.Sprintf("type-%d", i%60)},
		"relations": []any{map[string]any{"type": "ownedBy", "targetRef": owner}},
	}
}

// writeRBAC writes bundles/rbac with bindings for people and groups, before a change and after it: role-07 loses a
// denial, role-03 may delete what it owns, and one group has another role.
func (c *company) writeRBAC(root, before, after string) error {
	permissions := inventory.Stock().Permissions
	roles := make(map[string]map[string][]any, c.roles)
	owned := map[string]any{"rule": "IS_ENTITY_OWNER", "params": map[string]any{"claims": []any{"$ownerRefs"}}}
	production := map[string]any{"rule": "HAS_SPEC", "params": map[string]any{"key": "lifecycle", "value": "production"}}
	for i := range c.roles {
		grants := make(map[string][]any)
		for range 6 {
			p := permissions[c.r.IntN(len(permissions))]
			grant := map[string]any{"effect": "allow"}
			if p.ResourceType == "catalog-entity" {
				grant["when"] = owned
			}
			grants[p.Name] = append(grants[p.Name], grant)
		}
		grants["catalog.entity.delete"] = append(grants["catalog.entity.delete"], map[string]any{"effect": "deny", "when": production})
		if i%10 == 0 {
			grants["catalog.*"] = []any{map[string]any{"effect": "allow", "when": owned}}
		}
		roles[roleName(i)] = grants
	}
	bindings := make(map[string][]string, c.bindings)
	for i := range c.people {
		bindings[employee(i)] = []string{roleName(c.r.IntN(c.roles))}
	}
	for i := range c.bindings - c.people {
		bindings[team(i)] = []string{roleName(c.r.IntN(c.roles))}
	}
	write := func(dir string) error {
		policy, err := os.ReadFile(filepath.Join(root, "bundles", "rbac", "policy.rego"))
		if err != nil {
			return err
		}
		data, err := json.Marshal(map[string]any{
			"rbac_members": map[string]any{"bindings": bindings, "groups": map[string]any{}},
			"rbac":         map[string]any{"roles": roles, "plugins": map[string]any{"catalog-entity": "catalog"}},
		})
		if err != nil {
			return err
		}
		return writePolicy(dir, []string{"rbac", "rbac_members"}, string(policy), data)
	}
	if err := write(before); err != nil {
		return err
	}
	deletes := roles[roleName(7)]["catalog.entity.delete"]
	roles[roleName(7)]["catalog.entity.delete"] = deletes[:len(deletes)-1]
	roles[roleName(3)]["catalog.entity.delete"] = append(roles[roleName(3)]["catalog.entity.delete"],
		map[string]any{"effect": "allow", "when": owned})
	bindings[team(3)] = []string{roleName((slices.Index(roleNames(c.roles), bindings[team(3)][0]) + 1) % c.roles)}
	return write(after)
}

func roleName(i int) string { return fmt.Sprintf("role-%02d", i) }

func roleNames(n int) []string {
	names := make([]string, n)
	for i := range n {
		names[i] = roleName(i)
	}
	return names
}

// writeResource writes a policy about the resource with so many rules, before a change and after it: one guard is
// dropped, and one rule is for another group.
func (c *company) writeResource(rules int, before, after string) error {
	rule := func(i int, guard, group string) string {
		action := []string{"update", "delete", "read"}[i%3]
		conditions := []string{
			`catalog.is_entity_owner(input.resource, {"claims": input.identity.claims})`,
			fmt.Sprintf(`catalog.has_annotation(input.resource, {"annotation": "example.com/cost", "value": "%d"})`, i),
			fmt.Sprintf(`catalog.has_spec(input.resource, {"key": "type", "value": "type-%d"})`, i),
			fmt.Sprintf("some team in data.scale.teams[\"%d\"]\n\tteam in input.identity.claims\n\t"+
				`catalog.has_label(input.resource, {"label": "tier", "value": "%d"})`, i, i%4),
		}
		return fmt.Sprintf("allow if {\n\tinput.permission.resourceType == \"catalog-entity\"\n\tinput.permission.attributes.action == %q\n"+
			"\t%q in input.identity.claims\n%s\t%s\n}\n", action, group, guard, conditions[i%4])
	}
	policy := func(edited bool) string {
		var b strings.Builder
		b.WriteString("package scale\n\nimport data.backstage.catalog\n\n# METADATA\n# entrypoint: true\ndefault allow := false\n\n" +
			"allow if {\n\tinput.permission.attributes.action == \"read\"\n\tinput.identity.user\n\tnot startswith(input.permission.name, \"catalog.\")\n}\n")
		for i := range rules - 1 {
			guard, group := "", team(i%40)
			if i%2 == 0 {
				guard = "\tnot catalog.has_label(input.resource, {\"label\": \"frozen\"})\n"
			}
			if edited && i == 10 {
				guard = ""
			}
			if edited && i == 21 {
				group = team(39)
			}
			b.WriteString("\n" + rule(i, guard, group))
		}
		return b.String()
	}
	teams := make(map[string][]string)
	for i := range rules {
		teams[strconv.Itoa(i)] = []string{team(c.r.IntN(c.groups)), team(c.r.IntN(c.groups))}
	}
	data, err := json.Marshal(map[string]any{"scale": map[string]any{"teams": teams}})
	if err != nil {
		return err
	}
	if err := writePolicy(before, []string{"scale"}, policy(false), data); err != nil {
		return err
	}
	return writePolicy(after, []string{"scale"}, policy(true), data)
}

func writePolicy(dir string, roots []string, policy string, data []byte) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	manifest, err := json.Marshal(map[string]any{"roots": roots})
	if err != nil {
		return err
	}
	for name, text := range map[string]string{".manifest": string(manifest), "policy.rego": policy, "data.json": string(data)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// office is the policy that makes the log of writeLog.
const office = `package office

import data.backstage.catalog

# METADATA
# entrypoint: true
default allow := false

allow if {
	input.permission.attributes.action == "read"
	not input.permission.resourceType == "catalog-entity"
	input.identity.user
}

allow if {
	input.permission.resourceType == "catalog-entity"
	catalog.is_entity_owner(input.resource, {"claims": input.identity.claims})
}
`

// planted are how many events have another answer than office's, by what replaying them tells.
type planted struct{ Wider, Narrower int }

// writeLog writes a decision log of the people of an inventory, packed, in arrays as OPA uploads them. The answers are
// those of office, but for one event in so many.
func (c *company) writeLog(path, inventoryDir string, events, oneIn int) (found planted, err error) {
	inv, err := inventory.Load(inventoryDir)
	if err != nil {
		return found, err
	}
	file, err := os.Create(path)
	if err != nil {
		return found, err
	}
	defer file.Close()
	packed := gzip.NewWriter(file)
	w := bufio.NewWriterSize(packed, 1<<16)
	for i := range events {
		user := employee(c.r.IntN(c.people))
		p := inv.Permissions[c.r.IntN(len(inv.Permissions))]
		result, other := "false", "true" // the logged policy allowed what office does not
		switch claims, _ := json.Marshal(inv.People[user].Claims); {
		case p.ResourceType == "catalog-entity":
			result = `{"result":"CONDITIONAL","pluginId":"catalog","resourceType":"catalog-entity","conditions":{"anyOf":[{"rule":` +
				`"IS_ENTITY_OWNER","resourceType":"catalog-entity","params":{"claims":` + string(claims) + `}}]}}`
		case p.Attributes.Action == "read":
			result, other = "true", "false"
		}
		if i%oneIn == oneIn-1 {
			result = other
			if other == "true" {
				found.Narrower++
			} else {
				found.Wider++
			}
		}
		before, after := ",", ""
		if i%500 == 0 {
			before = "["
		}
		if i%500 == 499 || i == events-1 {
			after = "]\n"
		}
		caller := decision.Caller{User: user, Claims: inv.People[user].Claims}
		if _, err := fmt.Fprintf(w, `%s{"labels":{"id":"bench"},"decision_id":"id-%d","path":"office/allow","input":{"permission":{"name":%q,`+
			`"type":%q,"resourceType":%q,"attributes":{"action":%q}},"identity":{"user":%q}},"result":%s,"erased":["/input/identity/claims"],`+
			`"timestamp":"2026-11-01T00:00:00Z","custom":{"claims_sha256":%q}}%s`, before, i, p.Name, p.Type, p.ResourceType,
			p.Attributes.Action, user, result, caller.ClaimsHash(), after); err != nil {
			return found, err
		}
	}
	if err := w.Flush(); err != nil {
		return found, err
	}
	return found, packed.Close()
}
