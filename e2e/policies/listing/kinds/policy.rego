# METADATA
# title: Everybody sees people and systems, and of the rest what they own and what is not frozen
package listing

import data.backstage.catalog

# METADATA
# entrypoint: true
# scope: document
default allow := false

allow if catalog.is_entity_kind(input.resource, {"kinds": ["user", "GROUP", "System"]})

allow if {
	input.permission.attributes.action == "read"
	catalog.is_entity_owner(input.resource, {"claims": input.identity.claims})
	not catalog.has_label(input.resource, {"label": "Frozen", "value": "TRUE"})
}
