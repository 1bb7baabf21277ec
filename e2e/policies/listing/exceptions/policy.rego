# METADATA
# title: All but what one of several exceptions names, written with else, every and negation
package listing

import data.backstage.catalog

# METADATA
# entrypoint: true
# scope: document
allow if {
	catalog.is_entity_owner(input.resource, {"claims": input.identity.claims})
} else := false if {
	exception
} else if {
	every label in data.listing.forbidden_labels {
		not catalog.has_label(input.resource, {"label": label})
	}
}

exception if catalog.is_entity_kind(input.resource, {"kinds": ["Location"]})

exception if {
	not "group:default/data" in input.identity.claims
	catalog.has_spec(input.resource, {"key": "system", "value": "lake"})
	not catalog.has_metadata(input.resource, {"key": "tags.python"})
}
