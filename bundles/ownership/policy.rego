# METADATA
# title: Ownership
# description: |
#   A policy about the resource, for a company in which teams own what they build.
#
#   - An entity annotated `example.com/visibility: private` is seen by its owners alone, every other one by everybody.
#   - An entity is changed by its owners, and by a team that its label `example.com/maintainer` names. Users, groups and
#     whatever else `org_kinds` lists come from elsewhere, so nobody changes them.
#   - What is in production is not deleted, and not changed at all while `change_freeze` is true.
#   - Everybody runs templates, sees and cancels the tasks that are his own, does not see steps and parameters tagged
#     `internal`, and does not run the `restricted_actions`.
#   - Every other thing can be read, but for what shows how Backstage is run. Admins may do everything.
#
#   The settings are in `data.ownership.config`. In production the rules of the catalog and the scaffolder become
#   conditions that the plugins apply; in `opa test` they judge the whole resource in `input.resource`.
# schemas:
#   - input: schema.input
package ownership

import data.backstage.catalog
import data.backstage.scaffolder

# METADATA
# title: Is the caller allowed
# description: Asked by stagedoor for every item of an authorize request.
# entrypoint: true
default allow := false

# METADATA
# title: Admins may do everything
allow if _is_admin

# METADATA
# title: Every other thing is read
allow if {
	input.permission.attributes.action == "read"
	not _has_own_rule
	not _is_administrative
	_is_signed_in
}

# METADATA
# title: Entities are seen by everybody, private ones by their owners
allow if {
	input.permission.resourceType == "catalog-entity"
	input.permission.attributes.action == "read"
	_is_signed_in
	_is_visible
}

# METADATA
# title: Entities are changed by their owners and maintainers
allow if {
	input.permission.resourceType == "catalog-entity"
	input.permission.attributes.action in {"update", "delete"}
	_is_signed_in
	_is_maintained
	not _is_org
	not _is_frozen
}

# METADATA
# title: Everybody runs templates
allow if {
	input.permission.name == "scaffolder.task.create"
	_is_signed_in
}

# METADATA
# title: Tasks are for whoever created them
allow if {
	input.permission.resourceType == "scaffolder-task"
	_is_signed_in
	scaffolder.is_task_owner(input.resource, {"createdBy": [input.identity.user]})
}

# METADATA
# title: Internal steps and parameters are hidden
allow if {
	input.permission.resourceType == "scaffolder-template"
	_is_signed_in
	not scaffolder.has_tag(input.resource, {"tag": "internal"})
}

# METADATA
# title: Restricted actions are not run
allow if {
	input.permission.name == "scaffolder.action.execute"
	_is_signed_in
	not _is_restricted_action
}

# METADATA
# description: |
#   True for resources of which it depends who reads them. Not written into the rule above, since a basic permission has
#   no resourceType, and `not` over an undefined argument is undefined.
_has_own_rule if input.permission.resourceType in {"catalog-entity", "scaffolder-task", "scaffolder-template"}

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

_is_visible if not catalog.has_annotation(input.resource, {"annotation": "example.com/visibility", "value": "private"})

_is_visible if _is_maintained

_is_maintained if catalog.is_entity_owner(input.resource, {"claims": _claims})

_is_maintained if {
	some team in _teams
	catalog.has_label(input.resource, {"label": "example.com/maintainer", "value": team})
}

_is_org if catalog.is_entity_kind(input.resource, {"kinds": data.ownership.config.org_kinds})

# METADATA
# title: What is in production is frozen
_is_frozen if {
	_is_frozen_in_production
	catalog.has_spec(input.resource, {"key": "lifecycle", "value": "production"})
}

_is_frozen_in_production if input.permission.attributes.action == "delete"

_is_frozen_in_production if data.ownership.config.change_freeze

_is_restricted_action if {
	some id in data.ownership.config.restricted_actions
	scaffolder.has_action_id(input.resource, {"actionId": id})
}

_is_signed_in if input.identity.user

_is_admin if {
	some ref in data.ownership.config.admins
	lower(ref) in _claims
}

# METADATA
# description: |
#   The names of the caller's groups in the default namespace: a label's value cannot be a whole reference.
_teams := [name |
	some claim in _claims
	startswith(claim, "group:default/")
	name := trim_prefix(claim, "group:default/")
]

# METADATA
# description: What the caller claims to be, in lower case, as entity references are.
_claims := [lower(claim) | some claim in input.identity.claims]
