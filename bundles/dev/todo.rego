# METADATA
# title: The rules of the sample todo plugin
# description: |
#   What `stagedoor serve --dev` adds to the default policy: the permission rules of its todo plugin, as a team adds
#   those of its own plugins.
package backstage.authz.todo

# METADATA
# title: Owner
# description: True when the todo belongs to the user.
# scope: document
# custom:
#   backstage:
#     pluginId: todo
#     resourceType: todo-item
#     rule: IS_OWNER
#     words: owned by {userId}
#     paramsSchema:
#       type: object
#       required: [userId]
#       properties: {userId: {type: string}}
is_owner(resource, params) if resource.owner == params.userId

# METADATA
# title: Status
# description: True when the todo is in one of the statuses.
# scope: document
# custom:
#   backstage:
#     pluginId: todo
#     resourceType: todo-item
#     rule: HAS_STATUS
#     words: in the status {statuses}
#     anyOf: statuses
#     paramsSchema:
#       type: object
#       required: [statuses]
#       properties: {statuses: {type: array, items: {type: string}}}
has_status(resource, params) if resource.status in params.statuses
