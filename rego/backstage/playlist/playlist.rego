# METADATA
# title: Rules of the playlist plugin
# description: |
#   The permission rules of Backstage's playlist plugin as Rego functions, each meaning what the rule's `apply` in
#   @backstage-community/plugin-playlist-backend 0.25.0 means. The resource is a playlist with its `owner` and whether
#   it is `public`. Every function is true or undefined.
package backstage.playlist

# METADATA
# title: Playlist owner
# description: True when the playlist's owner is one of the owners, letter for letter.
# scope: document
# custom:
#   backstage:
#     pluginId: playlist
#     resourceType: playlist-list
#     rule: IS_OWNER
#     words: owned by {owners}
#     anyOf: owners
#     paramsSchema:
#       type: object
#       properties:
#         owners:
#           description: List of entity refs to match on
#           type: array
#           items: {type: string}
#       required: [owners]
#       additionalProperties: false
#       $schema: http://json-schema.org/draft-07/schema#
is_owner(resource, params) if resource.owner in params.owners

# METADATA
# title: Public playlist
# description: True when the playlist is public. The rule has no params, so they are an empty object.
# scope: document
# custom:
#   backstage:
#     pluginId: playlist
#     resourceType: playlist-list
#     rule: IS_PUBLIC
#     words: public
#     paramsSchema:
#       type: object
#       properties: {}
#       additionalProperties: false
#       $schema: http://json-schema.org/draft-07/schema#
is_public(resource, _) if resource.public == true
