# METADATA
# title: Roles
# description: |
#   Role-based access control. Who has which role, and what a role may do, is data. This policy decides by it, and
#   answers with a decision document. `data.schema.json` describes the data; `stagedoor check` holds it to that.
#
#   `data.rbac_members.bindings` lists the roles of a subject: a user's or group's entity reference in lower case, or
#   `*` for everybody who is signed in. `data.rbac_members.groups` lists the parents of a group, so that a role that is
#   bound to a parent is the children's too. Both change often. They have a root of their own, and so they can be a
#   bundle of their own.
#
#       "group:default/web": ["role:default/developer"]
#
#   There are two ways to say what a role may do.
#
#   **As the community RBAC plugin does**, with its meaning. `data.rbac.permissions` holds its lines: by role, by
#   permission name or resource type, by action (`use` where a permission has none), the effect.
#
#       "role:default/developer": {"catalog-entity": {"read": "allow"}, "catalog.entity.delete": {"delete": "deny"}}
#
#   A line by name beats lines by type, whichever of the caller's roles has it. Beyond that, a denial wins. A line may
#   be about a user or group instead of a role; it counts for those who have no role.
#
#   `data.rbac.conditions` holds its conditional policies by role and resource type, with `pluginId`,
#   `permissionMapping` and `conditions` as there. Those of several roles are alternatives; two of one role for the same
#   permission deny it. Where there are conditions and lines, `data.rbac.precedence` says which count: the conditions
#   (`conditional`, the default), or the lines (`basic`).
#
#   `data.rbac.superusers` may do everything. `data.rbac.maxDepth` limits how many parents up a group's roles are looked
#   for. Where a caller's groups go round in a circle, the caller has no role; with `data.rbac.useOwnershipEntityRefs`,
#   the roles that are bound to the caller's own references.
#
#   **As grants**, the simpler way. `data.rbac.roles` lists the grants of a role by the permission's name, in which `*`
#   stands for any text. A grant with `when` holds where its condition does; several are alternatives; a denial wins.
#
#       "developer": {"catalog.entity.*": [{"effect": "allow", "when": {"rule": "IS_ENTITY_OWNER", "params": …}}]}
#
#   `data.rbac.plugins` says which plugin owns a type of resource that grants are about. Where both ways are used,
#   either is enough to allow, and either is enough to deny.
#
#   A condition is a rule with its params, or `allOf`, `anyOf` or `not` of conditions. In params, `$currentUser` stands
#   for the user, as a text or in a list; `$ownerRefs` in a list stands for all of the caller's references.
#
#   What is not understood never allows: an effect other than `allow` denies, a denial whose condition is not understood
#   denies, a permit whose condition is not understood gives nothing. An alias that is not known is not understood.
#
#   A decision looks up the caller's own references, so it takes as long as they are many, however large the data is.
# schemas:
#   - input: schema.input
package rbac

# METADATA
# title: The decision
# description: Asked by stagedoor for every item of an authorize request.
# entrypoint: true
default decision := {"result": "DENY", "reason": "no role grants it"}

decision := {"result": "DENY", "reason": "nobody is signed in"} if {
	not input.identity.user
} else := {"result": "ALLOW"} if {
	_is_superuser
} else := {"result": "DENY", "reason": "data.rbac.precedence is neither conditional nor basic"} if {
	not _precedence in {"conditional", "basic"}
} else := {"result": "DENY", "reason": "a role denies it"} if {
	_is_denied
} else := {"result": "ALLOW"} if {
	_is_allowed
	count(_denials) == 0
} else := {
	"result": "CONDITIONAL",
	"pluginId": _plugin_id,
	"resourceType": input.permission.resourceType,
	"conditions": _criteria,
}

_is_superuser if {
	some ref in _list(data.rbac.superusers)
	ref in ({input.identity.user} | {claim | some claim in input.identity.claims})
}

default _precedence := "conditional"

_precedence := data.rbac.precedence

_is_denied if _lines_deny

_is_denied if {
	some policies in _policies
	_conditions_decide
	count(policies) > 1
}

_is_denied if {
	some grant in _grants
	_effect(grant) == "deny"
	not _condition(grant)
}

_is_allowed if _lines_allow

_is_allowed if {
	some grant in _grants
	_effect(grant) == "allow"
	not "when" in object.keys(grant)
}

# METADATA
# description: The conditions under which the permission is granted.
_criteria := {"not": {"anyOf": _denials}} if {
	_is_allowed
} else := {"anyOf": _permits} if {
	count(_denials) == 0
	count(_permits) > 0
} else := {"allOf": [{"anyOf": _permits}, {"not": {"anyOf": _denials}}]} if {
	count(_permits) > 0
}

# METADATA
# description: The plugin of the resource. Undefined, so that no condition is answered, where two are named.
_plugin_id := plugin_id if {
	count(_plugin_ids) == 1
	some plugin_id in _plugin_ids
}

_plugin_ids contains policy.pluginId if some policy in _deciding

_plugin_ids contains data.rbac.plugins[_type] if count(_granted) + count(_denials) > 0

# METADATA
# description: The conditions of which one must hold.
_permits := array.concat([policy.conditions | some policy in _deciding], _granted)

_granted := [condition |
	some grant in _grants
	_effect(grant) == "allow"
	condition := _condition(grant)
]

# METADATA
# description: The conditions of which none may hold.
_denials := [condition |
	some grant in _grants
	_effect(grant) == "deny"
	condition := _condition(grant)
]

# METADATA
# description: The grants of the caller's roles for the permission that is asked for.
_grants contains grant if {
	some role in _roles
	is_object(data.rbac.roles[role])
	some pattern, grants in data.rbac.roles[role]
	_fits(pattern)
	some grant in _list(grants)
}

# METADATA
# description: A role that is no object may deny anything, and so it denies.
_grants contains null if {
	some role in _roles
	grants := data.rbac.roles[role]
	not is_object(grants)
}

_fits(pattern) if pattern == input.permission.name

_fits(pattern) if {
	contains(pattern, "*")
	texts := [glob.quote_meta(text) | some text in split(pattern, "*")]
	glob.match(concat("*", texts), null, input.permission.name)
}

# METADATA
# description: What a grant does. One with a member that is not known may mean anything, and so it denies.
_effect(grant) := "allow" if {
	grant.effect == "allow"
	count(object.keys(grant) - {"effect", "when"}) == 0
} else := "deny"

_condition(grant) := _filled_in(grant.when)

_lines_deny if {
	not _conditions_decide
	"deny" in _effects(_holders, _target)
}

_lines_allow if {
	not _conditions_decide
	_effects(_holders, _target) == {"allow"}
}

# METADATA
# description: Whose lines count, the caller's roles or, without any, the user and the groups.
_holders := _roles if {
	count(_roles) > 0
} else := _subjects if {
	not _needs_role
}

# METADATA
# description: With the precedence `basic`, only roles have lines about resources.
_needs_role if {
	_precedence == "basic"
	_type
}

# METADATA
# description: What the lines that decide are about, the name of the permission or its resource type.
_target := input.permission.name if {
	_is_named
} else := _type

_target := input.permission.name if {
	not _is_named
	not _type
}

_is_named if count(_effects(_roles, input.permission.name)) > 0

# METADATA
# description: The resource type. Creating a policy is a basic permission now, and lines about its old type still count.
_type := type if {
	type := input.permission.resourceType
} else := "policy-entity" if {
	input.permission.name == "policy.entity.create"
	not _is_named
}

_action := object.get(input.permission, ["attributes", "action"], "use")

_actions := {"create", "delete", "read", "update", "use"}

_effects(holders, target) := {effect |
	some holder in holders
	effect := _line(holder, target)
}

# METADATA
# description: The effect of a line. What is not a line may mean anything, and so it denies.
_line(holder, target) := "deny" if {
	lines := data.rbac.permissions[holder]
	not is_object(lines)
} else := "deny" if {
	effects := data.rbac.permissions[holder][target]
	not _are_effects(effects)
} else := "allow" if {
	data.rbac.permissions[holder][target][_action] == "allow"
} else := "deny" if {
	_action in object.keys(data.rbac.permissions[holder][target])
}

_are_effects(effects) if {
	is_object(effects)
	count(object.keys(effects) - _actions) == 0
}

# METADATA
# description: |
#   True when conditional policies decide: where a role of the caller has one, unless the precedence is `basic` and
#   there is a line by name or type.
_conditions_decide if {
	count(_policies) > 0
	_precedence == "conditional"
}

_conditions_decide if {
	count(_policies) > 0
	not _is_named
	count(_effects(_roles, _type)) == 0
}

# METADATA
# description: The conditional policies that decide and are understood, with their aliases filled in.
_deciding := [{"pluginId": policy.pluginId, "conditions": conditions} |
	_conditions_decide
	some policies in _policies
	some policy in policies
	is_object(policy)
	object.keys(policy) == {"conditions", "permissionMapping", "pluginId"}
	_is_mapped(policy)
	conditions := _filled_in(policy.conditions)
]

# METADATA
# description: The conditional policies about the permission, by role.
_policies[role] := policies if {
	some role in _roles
	of_type := _list(data.rbac.conditions[role][_type])
	policies := [policy | some policy in of_type; _concerns(policy)]
	count(policies) > 0
}

_policies[role] := [null] if {
	some role in _roles
	types := data.rbac.conditions[role]
	not is_object(types)
}

# METADATA
# description: True when a conditional policy is about the permission, or may be.
_concerns(policy) if not _is_mapped(policy)

_concerns(policy) if _action in policy.permissionMapping

_concerns(policy) if {"name": input.permission.name, "action": _action} in policy.permissionMapping

_is_mapped(policy) if {
	is_array(policy.permissionMapping)
	count(policy.permissionMapping) > 0
	every permission in policy.permissionMapping { _is_permission(permission) }
}

_is_permission(permission) if permission in _actions

_is_permission(permission) if {
	is_object(permission)
	object.keys(permission) == {"action", "name"}
	is_string(permission.name)
	permission.action in _actions
}

# METADATA
# description: |
#   A condition with its aliases filled in, and with the type of resource in each of its rules. Undefined where it is
#   not understood.
_filled_in(condition) := json.patch(tree, patches).whole if {
	tree := {"whole": condition}
	nodes := {path: node |
		walk(tree, [path, node])
		path != []
		every step in array.slice(path, 1, count(path)) { _is_step(step) }
	}
	every path, node in nodes { _is_understood(path, node) }
	patches := [{"op": "replace", "path": path, "value": rule} |
		some path, node in nodes
		is_string(node.rule)
		rule := {"rule": node.rule, "resourceType": _type, "params": _params(node)}
	]
}

_is_step(step) if is_number(step)

_is_step(step) if step in {"allOf", "anyOf", "not"}

_is_understood(path, node) if {
	_is_list(path)
	is_array(node)
	count(node) > 0
} else if {
	not _is_list(path)
	is_object(node)
	object.keys(node) in {{"allOf"}, {"anyOf"}, {"not"}}
} else if {
	not _is_list(path)
	is_object(node)
	count(object.keys(node) - {"params", "resourceType", "rule"}) == 0
	is_string(node.rule)
	object.get(node, "resourceType", _type) == _type
	is_object(object.get(node, "params", {}))
	count(_unknown_aliases(object.get(node, "params", {}))) == 0
}

_is_list(path) if path[count(path) - 1] in {"allOf", "anyOf"}

# METADATA
# description: The params of a rule with their aliases filled in.
_params(node) := {name: _filled_value(value) | some name, value in object.get(node, "params", {})}

_filled_value(value) := input.identity.user if {
	value == "$currentUser"
} else := [filled |
	some item in value
	some filled in object.get(_aliases, item, [item])
] if {
	is_array(value)
} else := value

_aliases := {"$currentUser": [input.identity.user], "$ownerRefs": input.identity.claims}

# METADATA
# description: The texts in a rule's params that look like an alias, and stand where no such alias is filled in.
_unknown_aliases(params) := {value |
	walk(params, [path, value])
	is_string(value)
	regex.match(`^\$[A-Za-z]`, value)
	not _is_alias(params, path, value)
}

_is_alias(_, path, "$currentUser") if count(path) == 1

_is_alias(params, path, value) if {
	count(path) == 2
	is_array(params[path[0]])
	value in object.keys(_aliases)
}

# METADATA
# description: The caller's roles, none where the caller's groups go round in a circle.
_roles contains role if {
	some subject in _bound
	some role in _list(data.rbac_members.bindings[subject])
}

default _bound := set()

_bound := _subjects | {"*"} if {
	input.identity.user
	not _is_circular
} else := _owners if {
	data.rbac.useOwnershipEntityRefs == true
}

# METADATA
# description: The caller's own references, among which the user need not be; without any it is the user.
_owners := {lower(claim) | some claim in input.identity.claims} if {
	count(input.identity.claims) > 0
} else := {lower(input.identity.user)}

# METADATA
# description: Whom lines can be about, the user and the groups.
_subjects := _refs | _ancestors if {
	not _is_circular
} else := {lower(input.identity.user)}

# METADATA
# description: What the caller claims to be, in lower case, as the bindings are.
_refs contains lower(input.identity.user)

_refs contains lower(claim) if some claim in input.identity.claims

_ancestors contains parent if {
	some parents in _family
	some parent in parents
}

# METADATA
# description: The parents of each of those.
_family[group] := parents if {
	some group in _children
	parents := data.rbac_members.groups[group]
	is_array(parents)
}

# METADATA
# description: The caller's groups, and as many generations of their parents as have parents within `maxDepth`.
default _children := set()

_children := {group |
	some path in graph.reachable_paths(data.rbac_members.groups, _refs)
	some height, group in path
	height < data.rbac.maxDepth
} if {
	is_object(data.rbac_members.groups)
	is_number(data.rbac.maxDepth)
} else := graph.reachable(data.rbac_members.groups, _refs) if {
	is_object(data.rbac_members.groups)
}

# METADATA
# description: True when the caller's groups go round in a circle, or it cannot be told.
_is_circular if {
	some group, parents in _family
	group in graph.reachable(_family, parents)
}

_is_circular if {
	some group in _children
	not is_array(data.rbac_members.groups[group])
}

_is_circular if {
	groups := data.rbac_members.groups
	not is_object(groups)
}

_is_circular if {
	data.rbac.maxDepth
	not is_number(data.rbac.maxDepth)
}

# METADATA
# description: One that was written without brackets is a list too, lest a denial is overlooked.
_list(value) := value if {
	is_array(value)
} else := [value]
