package migrate

import (
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/stagedoor/stagedoor/adapter/inventory"
)

// A model is what the plugin holds, and decides by.
type model struct {
	settings

	// permissions are effects by subject, by permission name or resource type, by action.
	permissions map[string]map[string]map[string]string
	// roles are those of a member.
	roles    map[string][]string
	policies []policy
	groups   map[string][]string
}

// A caller is one who asks.
type caller struct {
	user   string
	claims []string
}

// A decision is the plugin's answer. Conditions are alternatives.
type decision struct {
	result     string
	conditions []any
}

var (
	allowed = decision{result: "ALLOW"}
	denied  = decision{result: "DENY"}
)

// decide answers as the plugin does: what it does, in its order.
func (m *model) decide(c caller, p inventory.Permission) decision {
	for _, s := range m.superusers {
		if s.name == c.user || slices.Contains(c.claims, s.name) {
			return allowed
		}
	}
	family, ok := m.family(c)
	roles := m.rolesOf(c, family, ok)
	action, resourceType := actionOf(p), p.ResourceType
	byName := m.effects(roles, p.Name, action)
	if p.Name == "policy.entity.create" && len(byName) == 0 {
		resourceType = "policy-entity"
	}
	byType := m.effects(roles, resourceType, action)
	if resourceType == "" {
		return judged(m.effects(m.holders(c, family, ok, roles), p.Name, action))
	}
	lines := len(byName) > 0 || len(byType) > 0
	if conditions, found := m.conditions(c, roles, p.Name, resourceType, action); found &&
		(m.precedence == "conditional" || !lines) {
		if len(conditions) == 0 || p.ResourceType == "" {
			return denied
		}
		return decision{result: "CONDITIONAL", conditions: conditions}
	}
	switch {
	case len(byName) > 0:
		return judged(byName)
	case len(roles) > 0 || m.precedence == "basic":
		return judged(byType)
	}
	return judged(m.effects(m.holders(c, family, ok, nil), resourceType, action))
}

// judged is the answer to the effects of lines: some allow, and none denies.
func judged(effects []string) decision {
	if len(effects) == 0 || slices.Contains(effects, "deny") {
		return denied
	}
	return allowed
}

func (m *model) effects(holders []string, target, action string) []string {
	var effects []string
	for _, holder := range holders {
		if effect := m.permissions[holder][target][action]; effect != "" && target != "" {
			effects = append(effects, effect)
		}
	}
	return effects
}

// holders are whose lines count: the roles, or without any the user and the groups.
func (m *model) holders(c caller, family []string, ok bool, roles []string) []string {
	switch {
	case len(roles) > 0:
		return roles
	case !ok:
		return []string{strings.ToLower(c.user)}
	}
	return family
}

func (m *model) rolesOf(c caller, family []string, ok bool) []string {
	bound := family
	if !ok {
		bound = nil
		if m.useOwnershipEntities {
			bound = refsOf(c)
		}
	}
	roles := map[string]bool{}
	for _, ref := range bound {
		for _, role := range m.roles[ref] {
			roles[role] = true
		}
	}
	if ok && m.defaultRole != "" {
		roles[m.defaultRole] = true
	}
	return slices.Sorted(maps.Keys(roles))
}

func refsOf(c caller) []string {
	refs := []string{strings.ToLower(c.user)}
	for _, claim := range c.claims {
		refs = append(refs, strings.ToLower(claim))
	}
	slices.Sort(refs)
	return slices.Compact(refs)
}

// family are the caller's references with the parents of groups, as far up as maxDepth
// says. It is not ok where they go round in a circle.
func (m *model) family(c caller) ([]string, bool) {
	refs := refsOf(c)
	height := map[string]int{}
	for _, ref := range refs {
		height[ref] = 0
	}
	parents := map[string][]string{}
	for queue := refs; len(queue) > 0; queue = queue[1:] {
		group := queue[0]
		if m.maxDepth != nil && height[group] >= *m.maxDepth {
			continue
		}
		parents[group] = m.groups[group]
		for _, parent := range m.groups[group] {
			if _, seen := height[parent]; !seen {
				height[parent] = height[group] + 1
				queue = append(queue, parent)
			}
		}
	}
	return slices.Sorted(maps.Keys(height)), !circular(parents)
}

// circular reports whether a group is among its own ancestors.
func circular(parents map[string][]string) bool {
	const doing, done = 1, 2
	state := map[string]int{}
	var visit func(group string) bool
	visit = func(group string) bool {
		switch state[group] {
		case doing:
			return true
		case done:
			return false
		}
		state[group] = doing
		if slices.ContainsFunc(parents[group], visit) {
			return true
		}
		state[group] = done
		return false
	}
	for group := range parents {
		if visit(group) {
			return true
		}
	}
	return false
}

// conditions are those of the roles for a permission, and whether there is any. Two of
// one role give nothing, and nothing gives one that is not understood.
func (m *model) conditions(c caller, roles []string, name, resourceType, action string) (all []any, found bool) {
	count := map[string]int{}
	plugins := map[string]bool{}
	for _, p := range m.policies {
		if !slices.Contains(roles, p.role) || p.resourceType != resourceType || !p.covers(name, action) {
			continue
		}
		if count[p.role]++; count[p.role] > 1 {
			return nil, true
		}
		found = true
		if p.understood() {
			all = append(all, p.condition.filled(c))
			plugins[p.pluginID] = true
		}
	}
	if len(plugins) > 1 {
		return nil, true
	}
	return all, found
}

func (p policy) covers(name, action string) bool {
	return slices.ContainsFunc(p.mapping, func(m mapped) bool {
		return m.action == action && (m.name == "" || m.name == name)
	})
}

func (p policy) understood() bool {
	return !slices.ContainsFunc(p.condition.rules(), func(c condition) bool {
		return c.resourceType != p.resourceType || len(unknownAliases(c)) > 0
	})
}

const (
	currentUser = "$currentUser"
	ownerRefs   = "$ownerRefs"
)

var aliasLike = regexp.MustCompile(`^\$[A-Za-z]`)

// unknownAliases are the texts in a rule's params that look like an alias, and stand
// where no such alias is filled in.
func unknownAliases(c condition) []value {
	var unknown []value
	var visit func(v value, depth int, inList bool)
	visit = func(v value, depth int, inList bool) {
		switch of := v.of.(type) {
		case list:
			for _, one := range of {
				visit(one, depth+1, depth == 1)
			}
		case *object:
			for _, name := range of.names {
				visit(of.members[name], depth+1, false)
			}
		case string:
			filled := of == currentUser && (depth == 1 || inList && depth == 2) || of == ownerRefs && inList && depth == 2
			if aliasLike.MatchString(of) && !filled {
				unknown = append(unknown, v)
			}
		}
	}
	visit(c.params, 0, false)
	return unknown
}

// filled is the condition with the caller in place of the aliases.
func (c condition) filled(who caller) any {
	list := func(of []condition) []any {
		all := make([]any, len(of))
		for i, part := range of {
			all[i] = part.filled(who)
		}
		return all
	}
	switch {
	case c.allOf != nil:
		return map[string]any{"allOf": list(c.allOf)}
	case c.anyOf != nil:
		return map[string]any{"anyOf": list(c.anyOf)}
	case c.not != nil:
		return map[string]any{"not": c.not.filled(who)}
	}
	params, ok := fill(c.params, who).(map[string]any)
	if !ok {
		params = map[string]any{}
	}
	return map[string]any{"rule": c.rule, "resourceType": c.resourceType, "params": params}
}

func fill(params value, who caller) any {
	all, ok := params.plain().(map[string]any)
	if !ok {
		return nil
	}
	for name, v := range all {
		switch v := v.(type) {
		case string:
			if v == currentUser {
				all[name] = who.user
			}
		case []any:
			filled := []any{}
			for _, item := range v {
				switch item {
				case currentUser:
					filled = append(filled, who.user)
				case ownerRefs:
					for _, claim := range who.claims {
						filled = append(filled, claim)
					}
				default:
					filled = append(filled, item)
				}
			}
			all[name] = filled
		}
	}
	return all
}

// bundleData is the model as data of bundles/rbac.
func (m *model) bundleData() (rbac, members map[string]any) {
	superusers := []string{}
	for _, s := range m.superusers {
		superusers = append(superusers, s.name)
	}
	conditions := map[string]map[string][]any{}
	for _, p := range m.policies {
		if conditions[p.role] == nil {
			conditions[p.role] = map[string][]any{}
		}
		mapping := make([]any, len(p.mapping))
		for i, entry := range p.mapping {
			mapping[i] = entry.action
			if entry.name != "" {
				mapping[i] = map[string]any{"name": entry.name, "action": entry.action}
			}
		}
		conditions[p.role][p.resourceType] = append(conditions[p.role][p.resourceType], map[string]any{
			"pluginId": p.pluginID, "permissionMapping": mapping, "conditions": p.condition.document(),
		})
	}
	rbac = map[string]any{
		"precedence": cmp.Or(m.precedence, "conditional"), "superusers": superusers,
		"permissions": m.permissions, "conditions": conditions,
	}
	if m.maxDepth != nil {
		rbac["maxDepth"] = *m.maxDepth
	}
	if m.useOwnershipEntities {
		rbac["useOwnershipEntityRefs"] = true
	}
	bindings := map[string][]string{}
	for member, roles := range m.roles {
		bindings[member] = slices.Sorted(slices.Values(roles))
	}
	if m.defaultRole != "" {
		bindings["*"] = []string{m.defaultRole}
	}
	groups := m.groups
	if groups == nil {
		groups = map[string][]string{}
	}
	return rbac, map[string]any{"bindings": bindings, "groups": groups}
}
