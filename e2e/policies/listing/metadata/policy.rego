# METADATA
# title: Tags, namespaces, numbers and annotations that are there at all
package listing

import data.backstage.catalog

# METADATA
# entrypoint: true
# scope: document
allow if tagged("public")

allow if catalog.has_metadata(input.resource, {"key": "tags.kafka"})

allow if {
	"group:default/web" in input.identity.claims
	catalog.has_metadata(input.resource, {"key": "namespace", "value": "payments"})
	not catalog.has_spec(input.resource, {"key": "port", "value": "9443"})
}

allow if {
	"group:default/data" in input.identity.claims
	catalog.has_annotation(input.resource, {"annotation": "example.com/retention", "value": ""})
}

allow if {
	"group:default/admins" in input.identity.claims
	catalog.has_spec(input.resource, {"key": "public", "value": "false"})
}

tagged(tag) if catalog.has_metadata(input.resource, {"key": "tags", "value": tag})
