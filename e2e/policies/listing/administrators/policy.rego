# METADATA
# title: Administrators of data.json see all, readers what they may, everybody else nothing
package listing

import data.backstage.catalog

# METADATA
# entrypoint: true
# scope: document
default allow := false

allow if some_claim_in(data.listing.administrators)

allow if {
	some_claim_in(object.keys(data.listing.readers))
	readable
}

readable if {
	some claim in input.identity.claims
	kinds := data.listing.readers[claim]
	catalog.is_entity_kind(input.resource, {"kinds": kinds})
}

some_claim_in(names) if {
	some claim in input.identity.claims
	claim in names
}
