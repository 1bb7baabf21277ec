# METADATA
# title: The default policy
# description: |
#   What one would start with. Signed-in users read; the owners of a catalog entity change and delete it; the users and
#   groups listed in `data.backstage.authz.admins` may do everything; everything else is denied.
#
#   So creating (`catalog.entity.create`, `catalog.location.create`, `scaffolder.task.create`, …) and whatever has no
#   action (`scaffolder.action.execute`, `kubernetes.proxy`, …) is for admins until a rule of yours says otherwise, and
#   so are the devtools: their permissions have the action `read`, yet show the configuration of the backend.
#
#   Who is an admin is data: put references such as `group:default/platform` or `user:default/ann` into data.json.
# schemas:
#   - input: schema.input
#   - input.resource: schema.entity
package backstage.authz

import data.backstage.catalog

# METADATA
# title: Is the caller allowed
# description: Asked by stagedoor for every item of an authorize request.
# entrypoint: true
default allow := false

allow if _is_admin

allow if {
	input.permission.attributes.action == "read"
	not startswith(input.permission.name, "devtools.")
	_is_signed_in
}

allow if {
	input.permission.resourceType == "catalog-entity"
	input.permission.attributes.action in {"update", "delete"}
	_is_signed_in
	catalog.is_entity_owner(input.resource, {"claims": _claims})
}

_is_signed_in if input.identity.user

_is_admin if {
	some ref in data.backstage.authz.admins
	lower(ref) in _claims
}

# METADATA
# description: |
#   What the caller claims to be: the user's own reference and those of the groups. In lower case, since the catalog
#   compares owners letter for letter when it judges one entity, and regardless of case when it lists.
_claims := [lower(claim) | some claim in input.identity.claims]
