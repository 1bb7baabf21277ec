# METADATA
# title: What a TypeScript policy said
# description: Administrators may do everything. Others read, and delete and refresh what they own.
# schemas:
#   - input: schema.input
package shop.authz

import data.backstage.catalog

# METADATA
# title: Whether it is allowed
# description: Asked for every permission.
# entrypoint: true
default allow := false

allow if "group:default/admins" in input.identity.claims

allow if {
	input.identity.user
	input.permission.attributes.action == "read"
}

allow if {
	input.permission.resourceType == "catalog-entity"
	input.permission.attributes.action in {"delete", "update"}
	catalog.is_entity_owner(input.resource, {"claims": input.identity.claims})
}
