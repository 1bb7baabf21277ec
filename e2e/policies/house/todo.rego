# METADATA
# title: Rules of the todo plugin
# description: What a team writes so that policies can speak of its own plugin's resources.
package acme.todo

# METADATA
# title: Owner of the item
# description: True when the item belongs to the user.
# scope: document
# custom:
#   backstage: {pluginId: todo, resourceType: todo-item, rule: IS_OWNER}
is_owner(resource, params) if resource.owner == params.userId

# METADATA
# title: Status of the item
# description: True when the item has one of the statuses.
# scope: document
# custom:
#   backstage: {pluginId: todo, resourceType: todo-item, rule: HAS_STATUS}
has_status(resource, params) if resource.status in params.statuses
