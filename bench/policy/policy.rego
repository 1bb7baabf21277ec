# METADATA
# title: The policy of the benchmark
# description: |
#   In the form of the OPA wrapper module, which all targets can run. What a permission takes is data: nothing but a
#   user, ownership, or a condition of twenty rules.
# schemas:
#   - input: schema.input
package rbac_policy

# METADATA
# title: The decision
# description: Asked for every permission.
# entrypoint: true
default decision := {"result": "DENY"}

decision := {"result": "ALLOW"} if {
	_grant.to == "users"
	input.identity.user
} else := _conditional({"anyOf": [_is_owner, {"not": _has_label("example.com/confidential", "true")}]}) if {
	_grant.to == "owners"
} else := _conditional({"anyOf": array.concat([_is_owner], _has_stage)}) if {
	_grant.to == "stages"
}

_grant := data.rbac_policy.grants[input.permission.name]

_conditional(conditions) := {
	"result": "CONDITIONAL",
	"pluginId": _grant.pluginId,
	"resourceType": _grant.resourceType,
	"conditions": conditions,
}

_is_owner := _rule("IS_OWNER", {"claims": input.identity.claims})

_has_stage := [_has_label("example.com/stage", stage) | some stage in data.rbac_policy.stages]

_has_label(label, value) := _rule("HAS_LABEL", {"label": label, "value": value})

_rule(name, params) := {"rule": name, "resourceType": _grant.resourceType, "params": params}
