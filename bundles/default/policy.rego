# METADATA
# title: The default policy
# description: |
#   What one would start with. Signed-in users read; the owners of a catalog entity change and delete it; the users and
#   groups listed in `data.backstage.authz.admins` may do everything; everything else is denied.
#
#   So creating (`catalog.entity.create`, `catalog.location.create`, `scaffolder.task.create`, …) and whatever has no
#   action (`scaffolder.action.execute`, `kubernetes.proxy`, …) is for admins until a rule of yours says otherwise, and
#   so is what shows how Backstage is run rather than what it holds: the devtools, policies, ingestion and the like have
#   permissions with the action `read` too.
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

# METADATA
# title: Admins may do everything
allow if _is_admin

# METADATA
# title: Whoever is signed in reads
allow if {
	input.permission.attributes.action == "read"
	not _is_administrative
	_is_signed_in
}

# METADATA
# title: Owners change and delete what is theirs
allow if {
	input.permission.resourceType == "catalog-entity"
	input.permission.attributes.action in {"update", "delete"}
	_is_signed_in
	catalog.is_entity_owner(input.resource, {"claims": _claims})
}

# METADATA
# title: What only administrators read
# description: |
#   Permissions with the action `read` that show how Backstage is run rather than what it holds: configuration,
#   policies, ingestion, usage.
# scope: document
_is_administrative if startswith(input.permission.name, "devtools.")

_is_administrative if startswith(input.permission.name, "policy.")

_is_administrative if input.permission.name in {
	"adoption-insights.events.read",
	"catalog.entities.unprocessed.read",
	"catalog.ingestion.read",
	"extensions.plugin.configuration.read",
	"orchestrator.instanceAdminView",
	"orchestrator.workflowAdminView",
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
