# METADATA
# title: The third step
# description: Every branch asks about the resource itself. No condition is written by hand any more.
# schemas:
#   - input: schema.input
package rbac_policy

import data.backstage.catalog
import data.backstage.scaffolder

# METADATA
# title: The decision
# description: Asked for every permission.
# entrypoint: true
default decision := {"result": "DENY"}

decision := {"result": "ALLOW"} if {
	is_maintainer
} else := {"result": "ALLOW"} if {
	permission in {"catalog.location.read", "scaffolder.task.create", "scaffolder.action.execute"}
	is_signed_in
} else := {"result": "ALLOW"} if {
	permission in {"scaffolder.template.parameter.read", "scaffolder.template.step.read"}
	is_signed_in
} else := {"result": "ALLOW"} if {
	permission == "catalog.entity.read"
	is_readable
} else := {"result": "ALLOW"} if {
	permission == "catalog.entity.refresh"
	is_owner
} else := {"result": "ALLOW"} if {
	permission in {"scaffolder.task.read", "scaffolder.task.cancel"}
	is_creator
}

is_readable if is_owner

is_readable if {
	claims
	not catalog.has_label(input.resource, {"label": "example.com/confidential", "value": "true"})
}

is_owner if catalog.is_entity_owner(input.resource, {"claims": claims})

is_creator if scaffolder.is_task_owner(input.resource, {"createdBy": [input.identity.user]})

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
