# METADATA
# title: Rules of the RBAC plugin
# description: |
#   The permission rule of Backstage's RBAC plugin, whose plugin id is `permission`, as a Rego function that means what
#   the rule's `apply` in @backstage-community/plugin-rbac-backend 8.1.3 means. The resource is the metadata of a role,
#   with its `owner` and whether it `isDefault`. The function is true or undefined.
package backstage.rbac

# METADATA
# title: Role owner
# description: True when the role's owner is one of the owners, letter for letter, and for default roles always.
# scope: document
# custom:
#   backstage:
#     pluginId: permission
#     resourceType: policy-entity
#     rule: IS_OWNER
#     words: owned by {owners}
#     paramsSchema:
#       type: object
#       properties:
#         owners:
#           description: List of entity refs to match against
#           type: array
#           items: {type: string}
#       required: [owners]
#       $schema: http://json-schema.org/draft-07/schema#
is_owner(resource, _) if resource.isDefault == true

is_owner(resource, params) if {
	resource.owner != ""
	resource.owner in params.owners
}
