# METADATA
# title: The house rules, decision style
# description: |
#   The policy of policies/house as users of the OPA wrapper module write it: nothing but `permission.name` and
#   `identity` in the input, and conditions spelled out.
package rbac_policy

import rego.v1

default decision := {"result": "DENY"}

decision := {"result": "ALLOW"} if is_admin

decision := conditional("catalog", "catalog-entity", {"anyOf": [
	is_entity_owner,
	{"not": has_label("confidential")},
]}) if {
	not is_admin
	input.permission.name == "catalog.entity.read"
}

decision := conditional("catalog", "catalog-entity", {"allOf": [
	is_entity_owner,
	{"not": has_label("frozen")},
]}) if {
	not is_admin
	input.permission.name in {"catalog.entity.delete", "catalog.entity.refresh"}
}

decision := conditional("todo", "todo-item", {"anyOf": [is_todo_owner, has_status(["open"])]}) if {
	not is_admin
	input.permission.name == "todo.item.read"
}

decision := conditional("todo", "todo-item", {"allOf": [is_todo_owner, {"not": has_status(["archived"])}]}) if {
	not is_admin
	input.permission.name == "todo.item.update"
}

decision := {"result": "ALLOW"} if {
	not is_admin
	input.permission.name == "todo.item.create"
	some claim in input.identity.claims
	startswith(claim, "group:")
}

is_admin if "group:default/admins" in input.identity.claims

is_entity_owner := condition("catalog-entity", "IS_ENTITY_OWNER", {"claims": input.identity.claims})

has_label(label) := condition("catalog-entity", "HAS_LABEL", {"label": label, "value": "true"})

is_todo_owner := condition("todo-item", "IS_OWNER", {"userId": input.identity.user})

has_status(statuses) := condition("todo-item", "HAS_STATUS", {"statuses": statuses})

condition(resource_type, rule, params) := {"resourceType": resource_type, "rule": rule, "params": params}

conditional(plugin_id, resource_type, conditions) := {
	"result": "CONDITIONAL",
	"pluginId": plugin_id,
	"resourceType": resource_type,
	"conditions": conditions,
}
