package datafiles

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/stagedoor/stagedoor/adapter/inventory"
)

// listedIn looks for a text that no list has, such as a role that nobody has.
func (v keywords) listedIn(paths []any) func(any) []mistake {
	objects, where := v.objectsAt(paths)
	listed := make(map[string]bool)
	for _, object := range objects {
		for _, list := range object {
			elements, _ := list.([]any)
			for _, element := range elements {
				text, _ := element.(string)
				listed[text] = true
			}
		}
	}
	return func(value any) []mistake {
		name, ok := value.(string)
		if !ok || len(objects) == 0 || listed[name] { // without objects they are in a bundle that is not known here
			return nil
		}
		return []mistake{{
			text:     fmt.Sprintf("nothing in %s has %s, so that this counts for nobody", strings.Join(where, ", "), name),
			doubtful: true,
		}}
	}
}

// about are the permissions that a name with or without a * names, or that are about a type
// of resource.
func (v keywords) about(name string) []inventory.Permission {
	parts := strings.Split(name, "*")
	var all []inventory.Permission
	for _, p := range v.known.Permissions {
		if p.Name == name || p.ResourceType == name || len(parts) > 1 && fits(p.Name, parts) {
			all = append(all, p)
		}
	}
	return all
}

// fits is whether a name has the parts in their order, any text between them.
func fits(name string, parts []string) bool {
	rest, ok := strings.CutPrefix(name, parts[0])
	last := parts[len(parts)-1]
	for _, part := range parts[1 : len(parts)-1] {
		at := strings.Index(rest, part)
		if at < 0 {
			return false
		}
		rest = rest[at+len(part):]
	}
	return ok && strings.HasSuffix(rest, last)
}

// rbacActions are the actions that RBAC knows.
var rbacActions = []string{"create", "read", "update", "delete", "use"}

// actionsOf are the actions of permissions as RBAC calls them: use where there is none.
// Creating a policy was about the type policy-entity, and RBAC still takes lines for that.
func actionsOf(name string, permissions []inventory.Permission) []string {
	var all []string
	if name == "policy-entity" {
		all = append(all, "create")
	}
	for _, p := range permissions {
		if action := p.Attributes.Action; action != "" {
			all = append(all, action)
		} else {
			all = append(all, "use")
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// without says that what is named has no permission of an action.
func without(name, action string, actions []string) mistake {
	return mistake{
		text: fmt.Sprintf("no permission of %s has the action %s, so that this counts for none; it has %s", name, action,
			strings.Join(actions, ", ")),
		doubtful: true,
	}
}

// lines looks for actions that none of the permissions has.
func (v keywords) lines(value any) []mistake {
	targets, _ := value.(map[string]any)
	var found []mistake
	for _, name := range slices.Sorted(maps.Keys(targets)) {
		if strings.Contains(name, "*") {
			found = append(found, mistake{at: []string{name}, text: name +
				" is compared letter for letter, and no permission is called so; write a permission, or a type of resource"})
			continue
		}
		actions := actionsOf(name, v.about(name))
		effects, _ := targets[name].(map[string]any)
		for _, action := range slices.Sorted(maps.Keys(effects)) {
			if len(actions) > 0 && !slices.Contains(actions, action) && slices.Contains(rbacActions, action) {
				m := without(name, action, actions)
				m.at = []string{name, action}
				found = append(found, m)
			}
		}
	}
	return found
}

// policies looks for actions that no permission about the type has, and for two conditional
// policies for the same permission.
func (v keywords) policies(value any) []mistake {
	types, _ := value.(map[string]any)
	var found []mistake
	for _, name := range slices.Sorted(maps.Keys(types)) {
		permissions := v.about(name)
		list, _ := types[name].([]any)
		first := make(map[string]int) // the policy by permission
		for i, policy := range list {
			members, _ := policy.(map[string]any)
			mapping, _ := members["permissionMapping"].([]any)
			for j, mapped := range mapping {
				at := []string{name, strconv.Itoa(i), "permissionMapping", strconv.Itoa(j)}
				concerned, m := v.mapped(name, permissions, mapped)
				if m != nil {
					m.at = at
					found = append(found, *m)
				}
				for _, p := range concerned {
					if before, ok := first[p.Name]; ok && before != i {
						found = append(found, mistake{
							text: fmt.Sprintf("%s has a conditional policy of this role already, number %d, and two deny it; join them "+
								"by anyOf or allOf", p.Name, before+1),
							at: at,
						})
						break
					}
					first[p.Name] = i
				}
			}
		}
	}
	return found
}

// mapped are the permissions that an element of a permissionMapping is about.
func (v keywords) mapped(
	name string, permissions []inventory.Permission, mapped any,
) (concerned []inventory.Permission, found *mistake) {
	action, isAction := mapped.(string)
	if object, ok := mapped.(map[string]any); ok {
		name, _ = object["name"].(string)
		action, isAction = object["action"].(string)
		permissions = slices.DeleteFunc(slices.Clone(permissions), func(p inventory.Permission) bool {
			return p.Name != name
		})
	}
	if !isAction || len(v.about(name)) == 0 {
		return nil, nil
	}
	if len(permissions) == 0 {
		return nil, &mistake{text: name + " is not about this type of resource, so that this counts for none", doubtful: true}
	}
	for _, p := range permissions {
		if slices.Contains(actionsOf("", []inventory.Permission{p}), action) {
			concerned = append(concerned, p)
		}
	}
	if len(concerned) == 0 {
		m := without(name, action, actionsOf(name, permissions))
		found = &m
	}
	return concerned, found
}

// grants looks for conditions where no permission that is named is about a resource, and
// for types of resources whose plugin is not said.
func (v keywords) grants(path string) func(any) []mistake {
	objects, where := v.objectsAt([]any{path})
	return func(value any) []mistake {
		patterns, _ := value.(map[string]any)
		var found []mistake
		for _, pattern := range slices.Sorted(maps.Keys(patterns)) {
			list, _ := patterns[pattern].([]any)
			permissions := v.about(pattern)
			if _, named := v.known.Permission(pattern); !named && slices.Contains(v.known.ResourceTypes(), pattern) {
				found = append(found, mistake{at: []string{pattern}, text: pattern +
					" is a type of resource, and grants go by the names of permissions, so that this counts for none"})
				continue
			}
			for i, grant := range list {
				members, _ := grant.(map[string]any)
				when, conditional := members["when"]
				if !conditional || len(permissions) == 0 {
					continue
				}
				at := []string{pattern, strconv.Itoa(i), "when"}
				types := v.typesOf(when, permissions)
				if len(types) == 0 && !slices.ContainsFunc(permissions, isResource) {
					found = append(found, mistake{at: at, text: pattern +
						" is about no resource, so that a condition allows nothing and fails; leave when out"})
				}
				for _, resourceType := range types {
					if !slices.ContainsFunc(objects, func(o map[string]any) bool { return o[resourceType] != nil }) {
						found = append(found, mistake{at: at, text: fmt.Sprintf(
							"%s does not say which plugin owns %s, so that nothing is allowed by this; write %q: %q",
							strings.Join(where, ", "), resourceType, resourceType, v.known.Owners(resourceType)[0])})
					}
				}
			}
		}
		return found
	}
}

func isResource(p inventory.Permission) bool { return p.ResourceType != "" }

// typesOf are the types of resources that some permissions are about, and that have the
// rules of a condition.
func (v keywords) typesOf(condition any, permissions []inventory.Permission) []string {
	names := make(map[string]bool)
	var visit func(any)
	visit = func(c any) {
		switch c := c.(type) {
		case []any:
			for _, of := range c {
				visit(of)
			}
		case map[string]any:
			if name, ok := c["rule"].(string); ok {
				names[name] = true
			}
			for _, name := range []string{"allOf", "anyOf", "not"} {
				visit(c[name])
			}
		}
	}
	visit(condition)
	var types []string
	for _, p := range permissions {
		if slices.ContainsFunc(v.known.RulesOf(p.ResourceType), func(r inventory.Rule) bool { return names[r.Name] }) {
			types = append(types, p.ResourceType)
		}
	}
	slices.Sort(types)
	return slices.Compact(types)
}

// acyclic looks for members that are their own parents, by however many steps.
func acyclic(value any) []mistake {
	parents, _ := value.(map[string]any)
	var found []mistake
	var path []string
	place := make(map[string]int) // on the path, from 1; -1 where all above was looked at
	var above func(name string)
	above = func(name string) {
		switch at := place[name]; {
		case at > 0:
			found = append(found, mistake{
				text: fmt.Sprintf("%s goes round in a circle (%s), and whose groups do has no role by them", name,
					strings.Join(append(slices.Clone(path[at-1:]), name), ", ")),
				at: []string{name}, doubtful: true,
			})
			return
		case at < 0:
			return
		}
		path = append(path, name)
		place[name] = len(path)
		list, _ := parents[name].([]any)
		for _, parent := range list {
			text, _ := parent.(string)
			above(text)
		}
		path = path[:len(path)-1]
		place[name] = -1
	}
	for _, name := range slices.Sorted(maps.Keys(parents)) {
		above(name)
	}
	return found
}
