package migrate

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/stagedoor/stagedoor/adapter/criteria"
	"github.com/stagedoor/stagedoor/adapter/inventory"
	"github.com/stagedoor/stagedoor/adapter/words"
)

// The decision table, in the order in which it is written.
type (
	decisionTable struct {
		Callers map[string]tableCaller `yaml:"callers"`
		Rows    []tableRow             `yaml:"rows"`
	}
	tableCaller struct {
		User   string   `yaml:"user"`
		Groups []string `yaml:"groups,omitempty,flow"`
	}
	tableRow struct {
		May     string `yaml:"may"`
		Who     string `yaml:"who"`
		Expect  string `yaml:"expect"`
		Because string `yaml:"because"`
	}
)

// somebody is a user that no source names.
const somebody = "user:default/somebody-else"

// table is a decision table with a row for every line, role and condition that counts
// and can be asked about. What it expects is the plugin's meaning, from meaning.go.
func (m *Migration) table(vocabulary words.Vocabulary) ([]byte, error) {
	t := tabled{judgement: m.judgement, vocabulary: vocabulary, of: decisionTable{Callers: map[string]tableCaller{}}}
	t.membersByRole()
	for _, l := range t.keptLines {
		if permission, ok := t.permissionOf(l.object, l.action); ok {
			if err := t.row(t.callerOf(l.subject), permission, l.at, l.String()); err != nil {
				return nil, err
			}
		}
	}
	for _, p := range t.held.policies {
		for _, mapped := range p.mapping {
			permission, ok := t.permissionOf(cmp.Or(mapped.name, p.resourceType), mapped.action)
			if !ok {
				continue
			}
			if err := t.row(t.callerOf(p.role), permission, p.at, p.String()); err != nil {
				return nil, err
			}
			break
		}
	}
	for _, b := range t.keptBindings {
		if permission, ok := t.oneOf(b.role); ok {
			if err := t.row(memberCaller(b.member), permission, b.at, b.String()); err != nil {
				return nil, err
			}
		}
	}
	var text bytes.Buffer
	text.WriteString("# What the RBAC plugin would answer, a row for every line of its sources. Made by stagedoor migrate rbac.\n")
	encoder := yaml.NewEncoder(&text)
	encoder.SetIndent(2)
	err := encoder.Encode(t.of)
	return text.Bytes(), err
}

type tabled struct {
	*judgement

	vocabulary words.Vocabulary
	of         decisionTable
	// members are those of a role, the one with the fewest roles first.
	members map[string][]string
	asks    map[string]inventory.Permission
}

func (t *tabled) membersByRole() {
	t.members, t.asks = map[string][]string{}, map[string]inventory.Permission{}
	for _, member := range slices.Sorted(maps.Keys(t.held.roles)) {
		for _, role := range t.held.roles[member] {
			t.members[role] = append(t.members[role], member)
		}
	}
	for role, members := range t.members {
		slices.SortStableFunc(members, func(a, b string) int {
			return cmp.Compare(len(t.held.roles[a]), len(t.held.roles[b]))
		})
		t.members[role] = members
	}
	for _, l := range t.keptLines {
		if permission, ok := t.permissionOf(l.object, l.action); ok {
			if _, taken := t.asks[l.subject]; !taken {
				t.asks[l.subject] = permission
			}
		}
	}
}

// oneOf is a permission that a role has something about.
func (t *tabled) oneOf(role string) (inventory.Permission, bool) {
	if permission, ok := t.asks[role]; ok {
		return permission, true
	}
	for _, p := range t.held.policies {
		if p.role != role {
			continue
		}
		for _, mapped := range p.mapping {
			if permission, ok := t.permissionOf(cmp.Or(mapped.name, p.resourceType), mapped.action); ok {
				return permission, true
			}
		}
	}
	return inventory.Permission{}, false
}

// permissionOf is a published permission of that name, or the first of that type with
// the action, of the plugin that owns the type where that has one.
func (t *tabled) permissionOf(object, action string) (inventory.Permission, bool) {
	if permission, ok := t.known.byName[object]; ok {
		return permission, true
	}
	var found inventory.Permission
	for _, permission := range t.known.ofType[object] {
		switch {
		case actionOf(permission) != action:
		case slices.Contains(t.known.owners[object], permission.PluginID):
			return permission, true
		case found.Name == "":
			found = permission
		}
	}
	return found, found.Name != ""
}

// callerOf is a caller with a role, or one that lines are about. Of a role that nobody
// has, it is somebody else.
func (t *tabled) callerOf(subject string) caller {
	switch {
	case !strings.HasPrefix(subject, "role:"):
		return memberCaller(subject)
	case len(t.members[subject]) > 0:
		return memberCaller(t.members[subject][0])
	}
	return memberCaller(somebody)
}

func memberCaller(member string) caller {
	if strings.HasPrefix(member, "user:") {
		return caller{user: member, claims: []string{member}}
	}
	return caller{user: somebody, claims: []string{somebody, member}}
}

func (t *tabled) row(who caller, permission inventory.Permission, at Place, what string) error {
	name := strings.TrimPrefix(who.claims[len(who.claims)-1], "user:")
	t.of.Callers[name] = tableCaller{User: who.user, Groups: who.claims[1:]}
	expect, err := t.expected(who, permission)
	if err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	t.of.Rows = append(t.of.Rows, tableRow{May: permission.Name, Who: name, Expect: expect, Because: fmt.Sprintf("%s: %s", at, what)})
	return nil
}

func (t *tabled) expected(who caller, permission inventory.Permission) (string, error) {
	answer := t.held.decide(who, permission)
	if answer.result != "CONDITIONAL" {
		return answer.result, nil
	}
	condition, err := criteria.Parse(map[string]any{"anyOf": answer.conditions})
	if err != nil {
		return "", err
	}
	return t.vocabulary.Condition(condition, words.Caller{User: who.user, Claims: who.claims}), nil
}
