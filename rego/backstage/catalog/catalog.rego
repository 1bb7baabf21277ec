# METADATA
# title: Rules of the catalog
# description: |
#   The permission rules of Backstage's catalog as Rego functions, each meaning what the rule's `apply` in
#   @backstage/plugin-catalog-backend 4.0.5 means. Every function takes the entity and the params object of the rule,
#   and is true or undefined. A policy imports `data.backstage.catalog` and calls them with `input.resource`: in
#   `opa test` that is a whole entity, in production stagedoor turns the calls into Backstage conditions.
#
#   Where Rego cannot mirror the plugin's JavaScript:
#
#   - lower case differs for 56 code points, such as the Turkish dotted capital I, and for a Greek sigma at the end
#     of a word;
#   - numbers that no JavaScript program wrote (beyond 2^53, or fractions such as 1.50) can have another text, which
#     has_metadata and has_spec compare;
#   - the plugin fails, and the request with it, where an entity has keys or types of relation that differ only in
#     case (has_metadata, has_spec), a label or annotation called `hasOwnProperty`, or a value of one that is not text.
#     Here these are answered;
#   - members that the catalog refuses in an entity (other members at the root, a name, namespace or uid that is not
#     text) have no search rows here.
#
#   Listing is done by the catalog's database, which differs from `apply` too: is_entity_owner ignores case there, so
#   lower the claims in a policy, and has_annotation does not see values over 200 characters.
# related_resources:
#   - description: How Backstage applies permission rules
#     ref: https://backstage.io/docs/permissions/concepts
package backstage.catalog

# METADATA
# title: Entity owner
# description: True when an `ownedBy` relation of the entity points to one of the claims, letter for letter.
# scope: document
# custom:
#   backstage:
#     pluginId: catalog
#     resourceType: catalog-entity
#     rule: IS_ENTITY_OWNER
#     words: owned by {claims}
#     anyOf: claims
#     paramsSchema:
#       type: object
#       properties:
#         claims:
#           description: List of claims to match at least one on within ownedBy
#           type: array
#           items: {type: string}
#       required: [claims]
#       additionalProperties: false
#       $schema: http://json-schema.org/draft-07/schema#
is_entity_owner(resource, params) if {
	some relation in resource.relations
	relation.type == "ownedBy"
	relation.targetRef in params.claims
}

# METADATA
# title: Entity kind
# description: True when the entity's kind is one of the kinds, in any case.
# scope: document
# custom:
#   backstage:
#     pluginId: catalog
#     resourceType: catalog-entity
#     rule: IS_ENTITY_KIND
#     words: of kind {kinds}
#     anyOf: kinds
#     paramsSchema:
#       type: object
#       properties:
#         kinds:
#           description: List of kinds to match at least one of
#           type: array
#           items: {type: string}
#       required: [kinds]
#       additionalProperties: false
#       $schema: http://json-schema.org/draft-07/schema#
is_entity_kind(resource, params) if {
	some kind in params.kinds
	lower(kind) == lower(resource.kind)
}

# METADATA
# title: Label
# description: True when the entity has the label and, where a value is asked for, with that value; both in any case.
# scope: document
# custom:
#   backstage:
#     pluginId: catalog
#     resourceType: catalog-entity
#     rule: HAS_LABEL
#     words: labelled {label}[={value}]
#     paramsSchema:
#       type: object
#       properties:
#         label: {description: Name of the label to match on, type: string}
#         value: {description: Value of the label to match on, type: string}
#       required: [label]
#       additionalProperties: false
#       $schema: http://json-schema.org/draft-07/schema#
has_label(resource, params) if {
	some label, value in resource.metadata.labels
	lower(label) == lower(params.label)
	_value_asked_for(value, params)
}

# METADATA
# title: Annotation
# description: |
#   True when the entity has the annotation and, where a value is asked for, with that value; both in any case.
# scope: document
# custom:
#   backstage:
#     pluginId: catalog
#     resourceType: catalog-entity
#     rule: HAS_ANNOTATION
#     words: annotated {annotation}[={value}]
#     paramsSchema:
#       type: object
#       properties:
#         annotation: {description: Name of the annotation to match on, type: string}
#         value: {description: Value of the annotation to match on, type: string}
#       required: [annotation]
#       additionalProperties: false
#       $schema: http://json-schema.org/draft-07/schema#
has_annotation(resource, params) if {
	some annotation, value in resource.metadata.annotations
	lower(annotation) == lower(params.annotation)
	_value_asked_for(value, params)
}

# METADATA
# title: Metadata
# description: |
#   True when the search rows of the entity have the key `metadata.<key>` and, where a value is asked for, with that
#   value; both in any case. Members are joined by dots, a list has a row for each element and for each text element
#   also `<key>.<element>` with the value `true`. Values over 200 characters leave the key without a value, keys over
#   200 characters no row at all. The etag is not among them; a namespace that is not given is `default`.
# scope: document
# custom:
#   backstage:
#     pluginId: catalog
#     resourceType: catalog-entity
#     rule: HAS_METADATA
#     words: with metadata.{key}[={value}]
#     paramsSchema:
#       type: object
#       properties:
#         key: {description: Property within the entities metadata to match on, type: string}
#         value: {description: Value of the given property to match on, type: string}
#       required: [key]
#       additionalProperties: false
#       $schema: http://json-schema.org/draft-07/schema#
has_metadata(resource, params) if _has_row("metadata", _indexed_metadata(resource.metadata), params)

has_metadata(resource, params) if {
	# A namespace that is there but empty has its own row and that of the default.
	resource.metadata.namespace in {"", null}
	_has_row("metadata", {"namespace": "default"}, params)
}

# METADATA
# title: Spec
# description: |
#   True when the search rows of the entity have the key `spec.<key>` and, where a value is asked for, with that
#   value, as has_metadata does. `spec.owner` is the text that the entity's file has, not a full entity reference.
# scope: document
# custom:
#   backstage:
#     pluginId: catalog
#     resourceType: catalog-entity
#     rule: HAS_SPEC
#     words: with spec.{key}[={value}]
#     paramsSchema:
#       type: object
#       properties:
#         key: {description: Property within the entities spec to match on, type: string}
#         value: {description: Value of the given property to match on, type: string}
#       required: [key]
#       additionalProperties: false
#       $schema: http://json-schema.org/draft-07/schema#
has_spec(resource, params) if _has_row("spec", resource.spec, params)

# METADATA
# description: True when params ask for no value, or for this one in any case.
_value_asked_for(_, params) if not params.value

_value_asked_for(value, params) if {
	is_string(value)
	lower(value) == lower(params.value)
}

# METADATA
# description: |
#   The metadata from which the catalog makes search rows: without the etag, and with the members that always have
#   a row.
_indexed_metadata(metadata) := object.union(
	{"name": null, "namespace": "default", "uid": null},
	object.remove(metadata, ["etag"]),
)

# METADATA
# description: |
#   True when the document below the root has a search row with the key and value that params ask for, of the rows that
#   buildEntitySearch of the catalog makes. A leaf has a row, and text in a list another one.
_has_row(root, document, params) if {
	wanted := _wanted_key(root, params.key)
	walk(document, [path, value])
	lower(_joined(root, path)) == wanted
	not is_object(value)
	not is_array(value)
	_value_asked_for(_indexed_value(value), params)
}

_has_row(root, document, params) if {
	_value_asked_for("true", params)
	wanted := _wanted_key(root, params.key)
	walk(document, [path, element])
	is_string(element)
	is_number(path[count(path) - 1])
	lower(_joined(_joined(root, path), [element])) == wanted
}

# METADATA
# description: The key in lower case. Undefined where it is too long for a row.
_wanted_key(root, key) := wanted if {
	wanted := lower(_joined(root, [key]))
	_length(wanted) <= 200
}

# METADATA
# description: The names of the path joined by dots; places in a list do not count.
_joined(root, path) := concat(".", array.concat([root], [name | some name in path; is_string(name)]))

# METADATA
# description: The value of a leaf's row, null where it has none.
_indexed_value(value) := text if {
	text := _text(value)
	_length(text) <= 200
} else := null

_text(value) := lower(value) if is_string(value)

_text(value) := json.marshal(value) if is_boolean(value)

_text(value) := _number_text(value) if is_number(value)

# METADATA
# description: The number as JavaScript writes it, so 1 for 1.0.
_number_text(number) := format_int(number, 10) if {
	abs(number) < 1e21
	floor(number) == number
} else := json.marshal(number)

# METADATA
# description: The length of a text as JavaScript counts it, in UTF-16 units.
_length(text) := count(text) + count(regex.find_n(`[\x{10000}-\x{10FFFF}]`, text, -1))
