# METADATA
# title: Regulated
# description: |
#   A policy for a company whose auditors ask who could do what. Denials come first, and what no rule names is denied.
#
#   - Nobody deletes what is in production.
#   - Duties are separate: what is labelled `example.com/regulated: "true"` is changed by custodians, and by none who
#     owns it. Everything else is changed by its owners.
#   - What is labelled `example.com/confidential: "true"` is seen by the cleared alone.
#   - Whoever is signed in reads the rest of the catalog and its documentation, runs templates, and sees the tasks that
#     are his own.
#   - The break-glass group may do everything. Keep it empty, and let somebody be told when it is not.
#
#   Who these are is data: `data.regulated`, which data.schema.json describes.
# schemas:
#   - input: schema.input
package regulated

import data.backstage.catalog
import data.backstage.scaffolder

# METADATA
# title: Is the caller allowed
# description: Asked by stagedoor for every item of an authorize request.
# entrypoint: true
default allow := false

# METADATA
# title: Breaking the glass
allow if _is_one_of(data.regulated.break_glass)

# METADATA
# title: Permitted and not denied
allow if {
	input.identity.user
	not _is_denied
	_is_permitted
}

# METADATA
# title: Nobody deletes what is in production
_is_denied if {
	input.permission.name == "catalog.entity.delete"
	catalog.has_spec(input.resource, {"key": "lifecycle", "value": "production"})
}

# METADATA
# title: Owners do not change what is regulated
_is_denied if {
	_changes_entity
	_is_regulated
	_is_owned
}

# METADATA
# title: Confidential entities are for the cleared
_is_denied if {
	input.permission.resourceType == "catalog-entity"
	not _is_one_of(data.regulated.cleared)
	catalog.has_label(input.resource, {"label": "example.com/confidential", "value": "true"})
}

# METADATA
# title: Everybody reads
_is_permitted if input.permission.name in {
	"catalog.entity.read",
	"catalog.location.read",
	"techdocs.actions.read",
}

# METADATA
# title: Owners change what is theirs
_is_permitted if {
	_changes_entity
	_is_owned
}

# METADATA
# title: Custodians change what is regulated
_is_permitted if {
	_changes_entity
	_is_one_of(data.regulated.custodians)
	_is_regulated
}

# METADATA
# title: Everybody runs templates
_is_permitted if input.permission.name in {
	"scaffolder.action.execute",
	"scaffolder.task.create",
	"scaffolder.template.parameter.read",
	"scaffolder.template.step.read",
}

# METADATA
# title: Everybody sees and cancels his own tasks
_is_permitted if {
	input.permission.name in {"scaffolder.task.read", "scaffolder.task.cancel"}
	scaffolder.is_task_owner(input.resource, {"createdBy": [input.identity.user]})
}

_changes_entity if input.permission.name in {"catalog.entity.delete", "catalog.entity.refresh"}

_is_owned if catalog.is_entity_owner(input.resource, {"claims": _claims})

_is_regulated if catalog.has_label(input.resource, {"label": "example.com/regulated", "value": "true"})

# METADATA
# description: True where the caller has one of the references among his claims.
_is_one_of(references) if {
	some ref in references
	lower(ref) in _claims
}

# METADATA
# description: What the caller claims to be, in lower case, as entity references are.
_claims := [lower(claim) | some claim in input.identity.claims]
