# METADATA
# title: What is in production and not confidential, and all that is experimental for the web team
package listing

import data.backstage.catalog

# METADATA
# entrypoint: true
# scope: document
allow if {
	catalog.has_spec(input.resource, {"key": "lifecycle", "value": "production"})
	not confidential(input.resource)
}

allow if {
	"group:default/web" in input.identity.claims
	catalog.has_spec(input.resource, {"key": "lifecycle", "value": "experimental"})
}

confidential(entity) if catalog.has_label(entity, {"label": "confidential", "value": "true"})
