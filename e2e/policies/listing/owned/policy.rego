# METADATA
# title: Everybody sees what they own
package listing

import data.backstage.catalog

# METADATA
# entrypoint: true
allow if catalog.is_entity_owner(input.resource, {"claims": input.identity.claims})
