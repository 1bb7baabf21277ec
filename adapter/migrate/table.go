package migrate

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/stagedoor/stagedoor/adapter/criteria"
	"github.com/stagedoor/stagedoor/adapter/inventory"
	"github.com/stagedoor/stagedoor/adapter/words"
)

// A tableRow asks for one permission by one caller. What it is about stands before it.
type tableRow struct {
	may, who, expect, about string
}

// somebody is a user that no source names.
const somebody = "user:default/somebody-else"

// table is a decision table with a row for every line, role and condition that counts
// and can be asked about. What it expects is the plugin's meaning, from meaning.go.
func (m *Migration) table(vocabulary words.Vocabulary) ([]byte, error) {
	t := tabled{judgement: m.judgement, vocabulary: vocabulary, callers: map[string]caller{}}
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
	return t.text(), nil
}

// text is the table in YAML, a line for each caller and row.
func (t *tabled) text() []byte {
	var text bytes.Buffer
	put := func(format string, args ...any) { fmt.Fprintf(&text, format, args...) }
	put("# What the RBAC plugin would answer, a row for every line of its sources. Made by stagedoor migrate rbac.\n")
	put("callers:\n")
	for _, name := range slices.Sorted(maps.Keys(t.callers)) {
		who := t.callers[name]
		put("  %q: {user: %q", name, who.user)
		if groups := who.claims[1:]; len(groups) > 0 {
			put(", groups: [%q]", groups[0])
		}
		put("}\n")
	}
	if len(t.callers) == 0 {
		put("  {}\n")
	}
	put("rows:\n")
	for _, row := range t.rows {
		put("  # %s\n  - {may: %q, who: %q, expect: %q}\n", strings.Join(strings.Fields(row.about), " "), row.may,
			row.who, row.expect)
	}
	if len(t.rows) == 0 {
		put("  []\n")
	}
	return text.Bytes()
}

type tabled struct {
	*judgement

	vocabulary words.Vocabulary
	callers    map[string]caller
	rows       []tableRow
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
	t.callers[name] = who
	expect, err := t.expected(who, permission)
	if err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	t.rows = append(t.rows, tableRow{permission.Name, name, expect, fmt.Sprintf("%s: %s", at, what)})
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
