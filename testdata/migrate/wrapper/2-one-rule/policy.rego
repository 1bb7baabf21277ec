# METADATA
# title: The second step
# description: One branch asks about the resource itself. All others answer as they did.
# schemas:
#   - input: schema.input
package rbac_policy

import data.backstage.catalog

# METADATA
# title: The decision
# description: Asked by the wrapper module, or by stagedoor, for every permission.
# entrypoint: true
default decision := {"result": "DENY"}

# One chain, so that no two answers can disagree.
decision := {"result": "ALLOW"} if {
	is_maintainer
} else := {"result": "ALLOW"} if {
	permission in {"catalog.location.read", "scaffolder.task.create", "scaffolder.action.execute"}
	is_signed_in
} else := {"result": "ALLOW"} if {
	permission in {"scaffolder.template.parameter.read", "scaffolder.template.step.read"}
	is_signed_in
} else := conditional("catalog", "catalog-entity", {"anyOf": [is_owner, {"not": is_confidential}]}) if {
	permission == "catalog.entity.read"
} else := {"result": "ALLOW"} if {
	permission == "catalog.entity.refresh"
	catalog.is_entity_owner(input.resource, {"claims": claims})
} else := conditional("scaffolder", "scaffolder-task", is_creator) if {
	permission in {"scaffolder.task.read", "scaffolder.task.cancel"}
}

# METADATA
# description: The answer that leaves the resource to its plugin.
conditional(plugin_id, resource_type, conditions) := {
	"result": "CONDITIONAL",
	"pluginId": plugin_id,
	"resourceType": resource_type,
	"conditions": conditions,
}

# METADATA
# description: The condition under which the caller owns an entity.
is_owner := {
	"rule": "IS_ENTITY_OWNER",
	"resourceType": "catalog-entity",
	"params": {"claims": claims},
}

# METADATA
# description: The condition under which an entity is confidential.
is_confidential := {
	"rule": "HAS_LABEL",
	"resourceType": "catalog-entity",
	"params": {"label": "example.com/confidential", "value": "true"},
}

# METADATA
# description: The condition under which the caller created a task.
is_creator := {
	"rule": "IS_TASK_OWNER",
	"resourceType": "scaffolder-task",
	"params": {"createdBy": [input.identity.user]},
}

# METADATA
# description: True when the caller is one of the maintainers.
is_maintainer if {
	some ref in data.rbac_policy.maintainers
	ref in claims
}

# METADATA
# description: True when there is a caller.
is_signed_in if input.identity.user

# METADATA
# description: The name of the permission that is asked for.
permission := input.permission.name

# METADATA
# description: What the caller claims to be.
claims := input.identity.claims
