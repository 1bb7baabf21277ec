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
	"github.com/stagedoor/stagedoor/adapter/migrate/enforcer"
	"github.com/stagedoor/stagedoor/adapter/migrate/written"
	"github.com/stagedoor/stagedoor/adapter/words"
)

// A tableRow asks for one permission by one caller. What it is about stands before it.
type tableRow struct {
	may, who, expect, about string
}

// somebody is a user that no source names.
const somebody = "user:default/somebody-else"

// table is a decision table with a row for every line, role and condition that counts
// and can be asked about; nil where there is none, since a table that asks nothing is
// refused. What it expects is the plugin's answer, by package enforcer.
func (m *Migration) table(vocabulary words.Vocabulary) ([]byte, error) {
	t := tabled{judgement: m.judgement, vocabulary: vocabulary, callers: map[string]enforcer.Caller{}}
	t.membersByRole()
	for _, l := range t.keptLines {
		if permission, ok := t.permissionOf(l.Object, l.Action); ok {
			if err := t.row(t.callerOf(l.Subject), permission, l.At, l.String()); err != nil {
				return nil, err
			}
		}
	}
	for _, p := range t.held.Policies {
		for _, mapped := range p.Mapping {
			permission, ok := t.permissionOf(cmp.Or(mapped.Name, p.ResourceType), mapped.Action)
			if !ok {
				continue
			}
			if err := t.row(t.callerOf(p.Role), permission, p.At, p.String()); err != nil {
				return nil, err
			}
			break
		}
	}
	for _, b := range t.keptBindings {
		if permission, ok := t.oneOf(b.Role); ok {
			if err := t.row(memberCaller(b.Member), permission, b.At, b.String()); err != nil {
				return nil, err
			}
		}
	}
	if len(t.rows) == 0 {
		return nil, nil
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
		put("  %q: {user: %q", name, who.User)
		if groups := who.Claims[1:]; len(groups) > 0 {
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
	return text.Bytes()
}

type tabled struct {
	*judgement

	vocabulary words.Vocabulary
	callers    map[string]enforcer.Caller
	rows       []tableRow
	// members are those of a role, the one with the fewest roles first.
	members map[string][]string
	asks    map[string]inventory.Permission
}

func (t *tabled) membersByRole() {
	t.members, t.asks = map[string][]string{}, map[string]inventory.Permission{}
	for _, member := range slices.Sorted(maps.Keys(t.held.Roles)) {
		for _, role := range t.held.Roles[member] {
			t.members[role] = append(t.members[role], member)
		}
	}
	for role, members := range t.members {
		slices.SortStableFunc(members, func(a, b string) int {
			return cmp.Compare(len(t.held.Roles[a]), len(t.held.Roles[b]))
		})
		t.members[role] = members
	}
	for _, l := range t.keptLines {
		if permission, ok := t.permissionOf(l.Object, l.Action); ok {
			if _, taken := t.asks[l.Subject]; !taken {
				t.asks[l.Subject] = permission
			}
		}
	}
}

// oneOf is a permission that a role has something about.
func (t *tabled) oneOf(role string) (inventory.Permission, bool) {
	if permission, ok := t.asks[role]; ok {
		return permission, true
	}
	for _, p := range t.held.Policies {
		if p.Role != role {
			continue
		}
		for _, mapped := range p.Mapping {
			if permission, ok := t.permissionOf(cmp.Or(mapped.Name, p.ResourceType), mapped.Action); ok {
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
		case enforcer.ActionOf(permission) != action:
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
func (t *tabled) callerOf(subject string) enforcer.Caller {
	switch {
	case !strings.HasPrefix(subject, "role:"):
		return memberCaller(subject)
	case len(t.members[subject]) > 0:
		return memberCaller(t.members[subject][0])
	}
	return memberCaller(somebody)
}

func memberCaller(member string) enforcer.Caller {
	if strings.HasPrefix(member, "user:") {
		return enforcer.Caller{User: member, Claims: []string{member}}
	}
	return enforcer.Caller{User: somebody, Claims: []string{somebody, member}}
}

func (t *tabled) row(who enforcer.Caller, permission inventory.Permission, at written.Place, what string) error {
	name := strings.TrimPrefix(who.Claims[len(who.Claims)-1], "user:")
	t.callers[name] = who
	expect, err := t.expected(who, permission)
	if err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	t.rows = append(t.rows, tableRow{permission.Name, name, expect, fmt.Sprintf("%s: %s", at, what)})
	return nil
}

func (t *tabled) expected(who enforcer.Caller, permission inventory.Permission) (string, error) {
	answer := t.held.Decide(who, permission)
	if answer.Result != "CONDITIONAL" {
		return answer.Result, nil
	}
	condition, err := criteria.Parse(map[string]any{"anyOf": answer.Conditions})
	if err != nil {
		return "", err
	}
	return t.vocabulary.Condition(condition, words.Caller{User: who.User, Claims: who.Claims}), nil
}
