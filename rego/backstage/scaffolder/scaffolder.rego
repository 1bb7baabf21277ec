# METADATA
# title: Rules of the scaffolder
# description: |
#   The permission rules of Backstage's scaffolder as Rego functions, each meaning what the rule's `apply` in
#   @backstage/plugin-scaffolder-backend 4.3.0 means. Every function takes the resource and the params object of the
#   rule, and is true or undefined.
#
#   There are three types of resource. A scaffolder-template is a step or a group of parameters of a template, as the
#   template's file has it, judged for `scaffolder.template.step.read` and `scaffolder.template.parameter.read`. A
#   scaffolder-action is `{"action": "publish:github", "input": {…}}`, judged for `scaffolder.action.execute`. A
#   scaffolder-task is a task with its `createdBy`, judged for `scaffolder.task.read` and `scaffolder.task.cancel`.
#
#   Where Rego cannot mirror the plugin's JavaScript:
#
#   - lower case differs for 56 code points, such as the Turkish dotted capital I, and for a Greek sigma at the end
#     of a word;
#   - numbers beyond 2^53 are exact here, and numbers that no JavaScript program wrote (such as 1.50) can have another
#     text;
#   - a key finds what the input has, the characters of a text (`owner[0]`), and the `length` of a list or text. In
#     JavaScript it also finds halves of characters beyond the basic plane, and what every value inherits
#     (`constructor.name`).
# related_resources:
#   - description: Authorizing what templates may do
#     ref: https://backstage.io/docs/features/software-templates/authorizing-scaffolder-template-details
package backstage.scaffolder

# METADATA
# title: Tag
# description: |
#   True when the step or group of parameters has the tag among its `backstage:permissions`, letter for letter.
# scope: document
# custom:
#   backstage:
#     pluginId: scaffolder
#     resourceType: scaffolder-template
#     rule: HAS_TAG
#     words: tagged {tag}
#     paramsSchema:
#       type: object
#       properties:
#         tag: {description: Name of the tag to match on, type: string}
#       required: [tag]
#       additionalProperties: false
#       $schema: http://json-schema.org/draft-07/schema#
has_tag(resource, params) if params.tag in resource["backstage:permissions"].tags

# METADATA
# title: Action id
# description: True when the action has the id, letter for letter.
# scope: document
# custom:
#   backstage:
#     pluginId: scaffolder
#     resourceType: scaffolder-action
#     rule: HAS_ACTION_ID
#     words: of the action {actionId}
#     paramsSchema:
#       type: object
#       properties:
#         actionId: {description: Name of the actionId to match on, type: string}
#       required: [actionId]
#       additionalProperties: false
#       $schema: http://json-schema.org/draft-07/schema#
has_action_id(resource, params) if resource.action == params.actionId

# METADATA
# title: Text property
# description: |
#   True when the action's input has text at the key, a path such as `owner` or `repos[0].name`, and, where a value is
#   asked for, this very text. The identifiers by which actions of GitHub, GitLab and Bitbucket know a repository or
#   group are more lenient. They are compared in any case, with numbers as text, and texts of digits as numbers.
# scope: document
# custom:
#   backstage:
#     pluginId: scaffolder
#     resourceType: scaffolder-action
#     rule: HAS_STRING_PROPERTY
#     words: with the text {key}[={value}]
#     paramsSchema:
#       type: object
#       properties:
#         key: {description: Property within the action parameters to match on, type: string}
#         value: {description: Value of the given property to match on, type: string}
#       required: [key]
#       additionalProperties: false
#       $schema: http://json-schema.org/draft-07/schema#
has_string_property(resource, params) if {
	found := _found_text(resource, params.key)
	object.get(params, "value", found) == found
}

has_string_property(resource, params) if {
	_is_identifier(resource.action, params.key)
	found := _found_text(resource, params.key)
	_canonical(params.value) == _canonical(found)
}

# METADATA
# title: Number property
# description: |
#   True when the action's input has a number at the key and, where a value is asked for, this one. A text of digits
#   counts as a number in the identifiers of has_string_property.
# scope: document
# custom:
#   backstage:
#     pluginId: scaffolder
#     resourceType: scaffolder-action
#     rule: HAS_NUMBER_PROPERTY
#     words: with the number {key}[={value}]
#     paramsSchema:
#       type: object
#       properties:
#         key: {description: Property within the action parameters to match on, type: string}
#         value: {description: Value of the given property to match on, type: number}
#       required: [key]
#       additionalProperties: false
#       $schema: http://json-schema.org/draft-07/schema#
has_number_property(resource, params) if {
	found := _found_number(resource, params.key)
	object.get(params, "value", found) == found
}

# METADATA
# title: Boolean property
# description: |
#   True when the action's input has true or false at the key and, where a value is asked for, this one.
# scope: document
# custom:
#   backstage:
#     pluginId: scaffolder
#     resourceType: scaffolder-action
#     rule: HAS_BOOLEAN_PROPERTY
#     words: with the switch {key}[={value}]
#     paramsSchema:
#       type: object
#       properties:
#         key: {description: Property within the action parameters to match on, type: string}
#         value: {description: Value of the given property to match on, type: boolean}
#       required: [key]
#       additionalProperties: false
#       $schema: http://json-schema.org/draft-07/schema#
has_boolean_property(resource, params) if {
	found := _found(resource, params.key)
	is_boolean(found)
	object.get(params, "value", found) == found
}

# METADATA
# title: Task owner
# description: True when the task was created by one of the users, letter for letter.
# scope: document
# custom:
#   backstage:
#     pluginId: scaffolder
#     resourceType: scaffolder-task
#     rule: IS_TASK_OWNER
#     words: created by {createdBy}
#     anyOf: createdBy
#     paramsSchema:
#       type: object
#       properties:
#         createdBy:
#           description: List of creator entity refs; only tasks created by these users will be viewable
#           type: array
#           items: {type: string}
#       required: [createdBy]
#       additionalProperties: false
#       $schema: http://json-schema.org/draft-07/schema#
is_task_owner(resource, params) if {
	resource.createdBy != ""
	resource.createdBy in params.createdBy
}

_found_text(resource, key) := found if {
	found := _found(resource, key)
	is_string(found)
}

_found_text(resource, key) := _number_text(found) if {
	_is_identifier(resource.action, key)
	found := _found(resource, key)
	is_number(found)
}

_found_number(resource, key) := found if {
	found := _found(resource, key)
	is_number(found)
}

_found_number(resource, key) := to_number(_canonical(found)) if {
	_is_identifier(resource.action, key)
	found := _found(resource, key)
	_is_digits(found)
}

# METADATA
# description: What the action's input has at the key.
_found(resource, key) := _value(resource.input, _path(resource.input, key))

_found(resource, key) := _length(_value(resource.input, array.slice(path, 0, last))) if {
	path := _path(resource.input, key)
	last := count(path) - 1
	path[last] == "length"
}

_value(arguments, path) := _at(arguments, path)

_value(arguments, path) := _character(_at(arguments, array.slice(path, 0, start)), places) if {
	some start, _ in path
	places := array.slice(path, start, count(path))
}

# METADATA
# description: The character of a text at the place. A character is a text of one, so places after the first are 0.
_character(text, places) := substring(text, to_number(places[0]), 1) if {
	is_string(text)
	every place in places { regex.match(`^(0|[1-9][0-9]{0,8})$`, place) }
	to_number(places[0]) < count(text)
	every place in array.slice(places, 1, count(places)) { place == "0" }
}

# METADATA
# description: |
#   What is at the path. The steps of a walk are names and places in a list; a place is named by its plain decimal text.
_at(arguments, path) := value if {
	walk(arguments, [steps, value])
	[sprintf("%v", [step]) | some step in steps] == path
}

# METADATA
# description: The length as JavaScript counts it, of a text in UTF-16 units.
_length(value) := count(value) if is_array(value)

_length(value) := count(value) + count(regex.find_n(`[\x{10000}-\x{10FFFF}]`, value, -1)) if is_string(value)

# METADATA
# description: |
#   The key as a path into the input, as get of lodash reads it: a member that is called like the whole key comes first.
_path(arguments, key) := [key] if {
	key in object.keys(arguments)
} else := _names(key) if {
	regex.match(`\.|\[[^\[\]]*\]`, key)
} else := [key]

# METADATA
# description: |
#   True when the key is one of the properties by which an action of GitHub, GitLab or Bitbucket identifies a
#   repository or group.
_is_identifier(action, key) if {
	segments := split(action, ":")
	concat(".", _names(key)) in _identifiers(segments)
	some integration in ["github", "gitlab", "bitbucket", "bitbucketCloud", "bitbucketServer"]
	integration in segments
}

_identifiers(segments) := {"owner", "repoName", "projectId", "repoUrl"} | {"path" | "group" in segments}

# METADATA
# description: |
#   The names in a path such as `a.b[0]["c d"]`, as toPath of lodash splits it. Two separators in a row, and one at
#   either end, have an empty name beside them.
_names(key) := array.concat(
	["" | startswith(key, ".")],
	[name |
		some i, token in tokens
		name := _name(token, tokens[i + 1][0])
	],
) if {
	# The end counts as a separator.
	tokens := array.concat(regex.find_all_string_submatch_n(_token, key, -1), [["."]])
}

# METADATA
# description: |
#   What a path is made of: a plain name, a place in brackets, a name in double or single quotes in brackets, and the
#   separators, lone brackets included. The groups are the place and the two kinds of quoted name.
_token := concat("|", [
	`[^.\[\]]+`,
	`\[(-?\d+(?:\.\d+)?)\]`,
	`\["((?:[^"\\]|\\[^\n\r\x{2028}\x{2029}])*)"\]`,
	`\['((?:[^'\\]|\\[^\n\r\x{2028}\x{2029}])*)'\]`,
	`\[\]`,
	`[.\[\]]`,
])

_name(token, _) := token[0] if not regex.match(`^[.\[\]]`, token[0])

_name(token, _) := token[1] if token[1] != ""

_name(token, _) := _unescaped(token[2]) if startswith(token[0], `["`)

_name(token, _) := _unescaped(token[3]) if startswith(token[0], `['`)

_name(token, following) := "" if {
	token[0] in {".", "[]"}
	following in {".", "[]"}
}

_unescaped(name) := regex.replace(name, `\\(\\)?`, "$1")

_is_digits(value) if {
	is_string(value)
	regex.match(`^[0-9]+$`, value)
}

# METADATA
# description: What identifiers are compared by, the text in lower case, or digits without leading zeros.
_canonical(text) := regex.replace(text, `^0+([0-9])`, "$1") if {
	_is_digits(text)
} else := lower(text)

# METADATA
# description: The number as JavaScript writes it, so 1 for 1.0.
_number_text(number) := format_int(number, 10) if {
	abs(number) < 1e21
	floor(number) == number
} else := json.marshal(number)
