// Package enforcer answers as the community RBAC plugin of Backstage does.
//
// The plugin enforces by Casbin, and by conditional policies of its own beside it. An
// [Enforcer] holds what both go by: effects of lines, roles of members, parents of groups,
// conditional policies, and the settings. [Enforcer.Decide] does what the plugin's code
// does, in its order:
//
//  1. A superuser is allowed everything.
//  2. The caller's roles are those of the user, the groups, and the parents of the groups,
//     and the role of everybody.
//  3. Lines about the permission's name and about its type of resource are looked up for the
//     roles. Who has no role is looked up by user and groups in their place.
//  4. Conditional policies of the roles are taken before the lines or after them, as the
//     setting of precedence says.
//  5. A denial counts more than what else there is. Nothing at all denies.
//
// It judges nothing: what the plugin skips has been left out of it before.
package enforcer

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/stagedoor/stagedoor/adapter/inventory"
	"github.com/stagedoor/stagedoor/adapter/migrate/installation"
	"github.com/stagedoor/stagedoor/adapter/migrate/written"
)

// An Enforcer is what the plugin holds, and decides by.
type Enforcer struct {
	installation.Settings

	// Permissions are effects by subject, by permission name or resource type, by action.
	Permissions map[string]map[string]map[string]string
	// Roles are those of a member.
	Roles    map[string][]string
	Policies []installation.Policy
	Groups   map[string][]string
}

// A Caller is one who asks.
type Caller struct {
	User   string
	Claims []string
}

// A Decision is the plugin's answer. Conditions are alternatives.
type Decision struct {
	Result     string
	Conditions []any
}

var (
	allowed = Decision{Result: "ALLOW"}
	denied  = Decision{Result: "DENY"}
)

// Decide answers as the plugin does: what it does, in its order.
func (e *Enforcer) Decide(c Caller, p inventory.Permission) Decision {
	for _, s := range e.Superusers {
		if s.Name == c.User || slices.Contains(c.Claims, s.Name) {
			return allowed
		}
	}
	family, ok := e.family(c)
	roles := e.rolesOf(c, family, ok)
	action, resourceType := ActionOf(p), p.ResourceType
	byName := e.effects(roles, p.Name, action)
	if p.Name == "policy.entity.create" && len(byName) == 0 {
		resourceType = "policy-entity"
	}
	byType := e.effects(roles, resourceType, action)
	if resourceType == "" {
		return judged(e.effects(e.holders(c, family, ok, roles), p.Name, action))
	}
	lines := len(byName) > 0 || len(byType) > 0
	if conditions, found := e.conditions(c, roles, p.Name, resourceType, action); found &&
		(e.Precedence == "conditional" || !lines) {
		if len(conditions) == 0 || p.ResourceType == "" {
			return denied
		}
		return Decision{Result: "CONDITIONAL", Conditions: conditions}
	}
	switch {
	case len(byName) > 0:
		return judged(byName)
	case len(roles) > 0 || e.Precedence == "basic":
		return judged(byType)
	}
	return judged(e.effects(e.holders(c, family, ok, nil), resourceType, action))
}

// judged is the answer to the effects of lines: some allow, and none denies.
func judged(effects []string) Decision {
	if len(effects) == 0 || slices.Contains(effects, "deny") {
		return denied
	}
	return allowed
}

func (e *Enforcer) effects(holders []string, target, action string) []string {
	var effects []string
	for _, holder := range holders {
		if effect := e.Permissions[holder][target][action]; effect != "" && target != "" {
			effects = append(effects, effect)
		}
	}
	return effects
}

// holders are whose lines count: the roles, or without any the user and the groups.
func (e *Enforcer) holders(c Caller, family []string, ok bool, roles []string) []string {
	switch {
	case len(roles) > 0:
		return roles
	case !ok:
		return []string{strings.ToLower(c.User)}
	}
	return family
}

func (e *Enforcer) rolesOf(c Caller, family []string, ok bool) []string {
	bound := family
	if !ok {
		bound = nil
		if e.UseOwnershipEntities {
			bound = ownersOf(c)
		}
	}
	roles := map[string]bool{}
	for _, ref := range bound {
		for _, role := range e.Roles[ref] {
			roles[role] = true
		}
	}
	if ok && e.DefaultRole != "" {
		roles[e.DefaultRole] = true
	}
	return slices.Sorted(maps.Keys(roles))
}

// ownersOf are the caller's own references, among which the user need not be.
func ownersOf(c Caller) []string {
	if len(c.Claims) > 0 {
		return refsOf(Caller{User: c.Claims[0], Claims: c.Claims})
	}
	return refsOf(c)
}

func refsOf(c Caller) []string {
	refs := []string{strings.ToLower(c.User)}
	for _, claim := range c.Claims {
		refs = append(refs, strings.ToLower(claim))
	}
	slices.Sort(refs)
	return slices.Compact(refs)
}

// family are the caller's references with the parents of groups, as far up as maxDepth
// says. It is not ok where they go round in a circle.
func (e *Enforcer) family(c Caller) ([]string, bool) {
	refs := refsOf(c)
	height := map[string]int{}
	for _, ref := range refs {
		height[ref] = 0
	}
	parents := map[string][]string{}
	for queue := refs; len(queue) > 0; queue = queue[1:] {
		group := queue[0]
		if e.MaxDepth != nil && height[group] >= *e.MaxDepth {
			continue
		}
		parents[group] = e.Groups[group]
		for _, parent := range e.Groups[group] {
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
func (e *Enforcer) conditions(c Caller, roles []string, name, resourceType, action string) (all []any, found bool) {
	count := map[string]int{}
	plugins := map[string]bool{}
	for _, p := range e.Policies {
		if !slices.Contains(roles, p.Role) || p.ResourceType != resourceType || !p.Covers(name, action) {
			continue
		}
		if count[p.Role]++; count[p.Role] > 1 {
			return nil, true
		}
		found = true
		if p.Understood() {
			all = append(all, filled(p.Condition, c))
			plugins[p.PluginID] = true
		}
	}
	if len(plugins) > 1 {
		return nil, true
	}
	return all, found
}

// filled is the condition with the caller in place of the aliases.
func filled(c installation.Condition, who Caller) any {
	list := func(of []installation.Condition) []any {
		all := make([]any, len(of))
		for i, part := range of {
			all[i] = filled(part, who)
		}
		return all
	}
	switch {
	case c.AllOf != nil:
		return map[string]any{"allOf": list(c.AllOf)}
	case c.AnyOf != nil:
		return map[string]any{"anyOf": list(c.AnyOf)}
	case c.Not != nil:
		return map[string]any{"not": filled(*c.Not, who)}
	}
	params, ok := Fill(c.Params, who).(map[string]any)
	if !ok {
		params = map[string]any{}
	}
	return map[string]any{"rule": c.Rule, "resourceType": c.ResourceType, "params": params}
}

// Fill is the params of a rule with the caller in place of the aliases; nil where there are
// none.
func Fill(params written.Value, who Caller) any {
	all, ok := params.Plain().(map[string]any)
	if !ok {
		return nil
	}
	for name, v := range all {
		switch v := v.(type) {
		case string:
			if v == installation.CurrentUser {
				all[name] = who.User
			}
		case []any:
			filled := []any{}
			for _, item := range v {
				switch item {
				case installation.CurrentUser:
					filled = append(filled, who.User)
				case installation.OwnerRefs:
					for _, claim := range who.Claims {
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

// ActionOf is the action of a permission as the plugin names it.
func ActionOf(p inventory.Permission) string { return cmp.Or(p.Attributes.Action, "use") }
