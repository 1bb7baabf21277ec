# METADATA
# title: The house rules
# description: |
#   Administrators do everything. Everybody reads what is not confidential, and what is their own. Owners change what
#   is not frozen. Open items of the todo plugin are everybody's to read.
package acme.authz

import data.acme.todo
import data.backstage.catalog

# METADATA
# entrypoint: true
# scope: document
default allow := false

allow if "group:default/admins" in input.identity.claims

allow if {
	input.permission.name == "catalog.entity.read"
	not catalog.has_label(input.resource, {"label": "confidential", "value": "true"})
}

allow if {
	input.permission.name == "catalog.entity.read"
	catalog.is_entity_owner(input.resource, {"claims": input.identity.claims})
}

allow if {
	input.permission.name in {"catalog.entity.delete", "catalog.entity.refresh"}
	catalog.is_entity_owner(input.resource, {"claims": input.identity.claims})
	not catalog.has_label(input.resource, {"label": "frozen", "value": "true"})
}

allow if {
	input.permission.name == "todo.item.read"
	todo.is_owner(input.resource, {"userId": input.identity.user})
}

allow if {
	input.permission.name == "todo.item.read"
	todo.has_status(input.resource, {"statuses": ["open"]})
}

allow if {
	input.permission.name == "todo.item.update"
	todo.is_owner(input.resource, {"userId": input.identity.user})
	not todo.has_status(input.resource, {"statuses": ["archived"]})
}

allow if {
	input.permission.name == "todo.item.create"
	some claim in input.identity.claims
	startswith(claim, "group:")
}
