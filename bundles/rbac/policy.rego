# METADATA
# title: Roles
# description: |
#   Role-based access control. Who has which role, and what a role may do, is data: data.json, or whatever the bundle is
#   built from. This policy decides by it and answers with a decision document.
#
#   `data.rbac.bindings` lists the roles of a subject, a user's or group's entity reference in lower case, or `*` for
#   everybody who is signed in:
#
#       "group:default/web": ["developer", "viewer"]
#
#   `data.rbac.roles` lists the grants of a role by the name of the permission, or `*` for every one:
#
#       "developer": {"catalog.entity.delete": [{"effect": "allow", "when": {"rule": "IS_ENTITY_OWNER", "params": …}}]}
#
#   A grant with `when` holds where the plugin's rule does; several are alternatives. In its params `$user` stands for
#   the user's own reference and `$claims` for all of the caller's, in a list or by itself. `data.rbac.plugins` says
#   which plugin owns a type of resource.
#
#   A denial wins over whatever allows. What is not understood denies: an effect other than `allow`, a denial whose
#   `when` makes no condition, a grant that is no object. What no role grants is denied.
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

decision := {"result": "DENY", "reason": "a role denies it"} if {
	_is_denied
} else := {"result": "ALLOW"} if {
	_is_allowed
	count(_denials) == 0
} else := {
	"result": "CONDITIONAL",
	"pluginId": data.rbac.plugins[input.permission.resourceType],
	"resourceType": input.permission.resourceType,
	"conditions": _conditions,
}

_is_denied if {
	some grant in _grants
	_effect(grant) == "deny"
	not _condition(grant)
}

_is_allowed if {
	some grant in _grants
	_effect(grant) == "allow"
	not "when" in object.keys(grant)
}

_conditions := {"not": {"anyOf": _denials}} if {
	_is_allowed
} else := {"anyOf": _permits} if {
	count(_denials) == 0
	count(_permits) > 0
} else := {"allOf": [{"anyOf": _permits}, {"not": {"anyOf": _denials}}]} if {
	count(_permits) > 0
}

# METADATA
# description: The conditions of which one must hold.
_permits := [condition |
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

_effect(grant) := "allow" if {
	grant.effect == "allow"
} else := "deny"

# METADATA
# description: The condition of a grant for the permission that is asked for. Undefined where the grant makes none.
_condition(grant) := {
	"rule": grant.when.rule,
	"resourceType": input.permission.resourceType,
	"params": {name: _filled_in(value) | some name, value in object.get(grant.when, "params", {})},
}

_filled_in(value) := _aliases[value] if {
	is_string(value)
} else := array.flatten([object.get(_aliases, item, item) | some item in value]) if {
	is_array(value)
} else := value

_aliases := {"$claims": _claims, "$user": input.identity.user}

# METADATA
# description: The grants of the caller's roles for the permission that is asked for.
_grants contains grant if {
	some role in _roles
	some name in [input.permission.name, "*"]
	some grant in _list(data.rbac.roles[role][name])
}

_roles contains role if {
	some claim in _claims
	some role in _list(data.rbac.bindings[claim])
}

_roles contains role if {
	input.identity.user
	some role in _list(data.rbac.bindings["*"])
}

# METADATA
# description: One that was written without brackets is a list too, lest a denial is overlooked.
_list(value) := value if {
	is_array(value)
} else := [value]

# METADATA
# description: What the caller claims to be, in lower case, as the bindings are.
_claims := [lower(claim) | some claim in input.identity.claims]
