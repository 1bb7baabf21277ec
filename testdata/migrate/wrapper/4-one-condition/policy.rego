# METADATA
# title: The fourth step
# description: A boolean rule about the resource, a body for each reason to allow.
# schemas:
#   - input: schema.input
package rbac_policy

import data.backstage.catalog
import data.backstage.scaffolder

# METADATA
# title: Whether it is allowed
# description: Asked for every permission.
# entrypoint: true
default allow := false

allow if is_maintainer

allow if {
	permission in {"catalog.location.read", "scaffolder.task.create", "scaffolder.action.execute"}
	is_signed_in
}

allow if {
	permission in {"scaffolder.template.parameter.read", "scaffolder.template.step.read"}
	is_signed_in
}

allow if {
	permission in {"catalog.entity.read", "catalog.entity.refresh"}
	catalog.is_entity_owner(input.resource, {"claims": claims})
}

allow if {
	permission == "catalog.entity.read"
	is_signed_in
	not catalog.has_label(input.resource, {"label": "example.com/confidential", "value": "true"})
}

allow if {
	permission in {"scaffolder.task.read", "scaffolder.task.cancel"}
	scaffolder.is_task_owner(input.resource, {"createdBy": [input.identity.user]})
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
