# METADATA
# title: What carries the label or the on-call annotation of a team that one is in
package listing

import data.backstage.catalog

# METADATA
# entrypoint: true
# scope: document
allow if {
	some team in teams
	catalog.has_label(input.resource, {"label": "team", "value": team})
}

allow if {
	some team in teams
	catalog.has_annotation(input.resource, {"annotation": "example.com/on-call", "value": team})
}

# Who is in no team looks after what nobody else does.
teams contains "nobody" if not member

teams contains team if {
	some claim in input.identity.claims
	startswith(claim, "group:")
	team := split(claim, "/")[1]
}

member if {
	some claim in input.identity.claims
	startswith(claim, "group:")
}
