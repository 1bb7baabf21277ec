package backstage.scaffolder_test

import data.backstage.scaffolder

test_has_tag_passes if scaffolder.has_tag(_step, {"tag": "danger"})

test_has_tag_fails[note] if {
	some note, step in {
		"another case": {"backstage:permissions": {"tags": ["Danger"]}},
		"no tags": {"backstage:permissions": {"tags": []}},
		"no list of tags": {"backstage:permissions": {}},
		"no permissions": {"id": "publish"},
	}
	not scaffolder.has_tag(step, {"tag": "danger"})
}

test_has_action_id_passes if scaffolder.has_action_id(_publish, {"actionId": "publish:github"})

test_has_action_id_fails[note] if {
	some note, id in {
		"another": "publish:gitlab",
		"another case": "Publish:GitHub",
		"a part": "publish",
	}
	not scaffolder.has_action_id(_publish, {"actionId": id})
}

test_has_string_property_passes[note] if {
	some note, params in {
		"any text": {"key": "description"},
		"value": {"key": "description", "value": "A Shop"},
		"empty value": {"key": "homepage", "value": ""},
		"nested": {"key": "access.team", "value": "web"},
		"element": {"key": "topics[1]", "value": "go"},
		"element as a name": {"key": "topics.1", "value": "go"},
		"member of an element": {"key": "collaborators[0].user", "value": "ann"},
		"character": {"key": "year[3]", "value": "6"},
		"character of a character": {"key": "year[1][0].0", "value": "0"},
		"character of an element": {"key": "topics[1][1]", "value": "o"},
		"double quotes": {"key": `labels["a.b"]`, "value": "dotted"},
		"single quotes": {"key": `labels['a.b']`, "value": "dotted"},
		"escaped quote": {"key": `labels["a\"b"]`, "value": "quoted"},
		"escaped backslash": {"key": `labels["a\\b"]`, "value": "backslash"},
		"whole key first": {"key": "access.level", "value": "whole"},
		"whole key with brackets": {"key": "topics[0]", "value": "whole"},
		"not a path": {"key": "odd]", "value": "bracket"},
		"empty name at the end": {"key": "access.", "value": "empty"},
		"empty name in the middle": {"key": "access[]"},
		"empty name at the start": {"key": ".access", "value": "start"},
	}
	scaffolder.has_string_property(_publish, params)
}

test_has_string_property_fails[note] if {
	some note, params in {
		"no member": {"key": "title"},
		"no member below text": {"key": "description.text"},
		"another value": {"key": "description", "value": "A Store"},
		"another case": {"key": "description", "value": "a shop"},
		"number": {"key": "retries"},
		"boolean": {"key": "private"},
		"null": {"key": "license"},
		"list": {"key": "topics"},
		"object": {"key": "access"},
		"place beyond the end": {"key": "topics[2]"},
		"place that is not plain": {"key": "topics[01]"},
		"place before the start": {"key": "topics[-1]"},
		"fraction of a place": {"key": "topics[1.5]"},
		"hidden by the whole key": {"key": "access.level", "value": "nested"},
		"character beyond the end": {"key": "year[4]"},
		"second character of a character": {"key": "year[0][1]"},
		"character at a place that is not plain": {"key": "year[01]"},
		"character of a number": {"key": "retries[0]"},
		"brackets that are not closed": {"key": "topics[1"},
	}
	not scaffolder.has_string_property(_publish, params)
}

test_has_string_property_fails_without_input if {
	not scaffolder.has_string_property({"action": "publish:github"}, {"key": "owner"})
}

test_has_string_property_is_lenient_for_identifier[note] if {
	some note, tc in {
		"owner": {"action": "publish:github", "input": {"owner": "ACME"}, "value": "acme"},
		"value in another case": {"action": "publish:github", "input": {"owner": "acme"}, "value": "ACME"},
		"name": {"action": "github:repo:create", "input": {"repoName": "Shop"}, "value": "shop"},
		"address": {"action": "publish:bitbucketCloud", "input": {"repoUrl": "B.org/A"}, "value": "b.org/a"},
		"server": {"action": "publish:bitbucketServer", "input": {"repoUrl": "B.org/A"}, "value": "b.org/a"},
		"digits": {"action": "gitlab:issues:create", "input": {"projectId": "042"}, "value": "42"},
		"digits of the value": {"action": "gitlab:issues:create", "input": {"projectId": "42"}, "value": "042"},
		"zeros": {"action": "gitlab:issues:create", "input": {"projectId": "0"}, "value": "000"},
		"number": {"action": "gitlab:issues:create", "input": {"projectId": 42}, "value": "042"},
		"fraction": {"action": "gitlab:issues:create", "input": {"projectId": 4.5}, "value": "4.5"},
		"group": {"action": "gitlab:group:ensureExists", "input": {"path": "Web"}, "value": "web"},
	}
	some key in object.keys(tc.input)
	scaffolder.has_string_property({"action": tc.action, "input": tc.input}, {"key": key, "value": tc.value})
}

test_has_string_property_is_strict_elsewhere[note] if {
	some note, tc in {
		"another property": {"action": "publish:github", "input": {"description": "A"}, "value": "a"},
		"another integration": {"action": "publish:azure", "input": {"owner": "A"}, "value": "a"},
		"a part of the id": {"action": "publish:github-pages", "input": {"owner": "A"}, "value": "a"},
		"another case of the id": {"action": "publish:GitHub", "input": {"owner": "A"}, "value": "a"},
		"path without a group": {"action": "publish:gitlab", "input": {"path": "A"}, "value": "a"},
		"digits of another property": {"action": "publish:gitlab", "input": {"branch": "042"}, "value": "42"},
		"number of another property": {"action": "publish:gitlab", "input": {"branch": 42}, "value": "42"},
		"digits and text": {"action": "publish:gitlab", "input": {"owner": "042"}, "value": "42a"},
	}
	some key in object.keys(tc.input)
	not scaffolder.has_string_property({"action": tc.action, "input": tc.input}, {"key": key, "value": tc.value})
}

test_has_string_property_takes_any_identifier[note] if {
	some note, value in {"number": 42, "text": "shop"}
	resource := {"action": "publish:gitlab", "input": {"projectId": value}}
	scaffolder.has_string_property(resource, {"key": "projectId"})
	scaffolder.has_string_property(resource, {"key": "['projectId']"})
}

test_has_number_property_passes[note] if {
	some note, params in {
		"any number": {"key": "retries"},
		"value": {"key": "retries", "value": 3},
		"value with a fraction": {"key": "retries", "value": 3.0},
		"zero": {"key": "delay", "value": 0},
		"member called length": {"key": "box.length", "value": 7},
		"length of a list": {"key": "topics.length", "value": 2},
		"length of a text": {"key": "emblem.length", "value": 3},
		"length of a character": {"key": "year[0].length", "value": 1},
	}
	scaffolder.has_number_property(_publish, params)
}

test_has_number_property_fails[note] if {
	some note, params in {
		"no member": {"key": "title"},
		"another value": {"key": "retries", "value": 4},
		"text": {"key": "year"},
		"boolean": {"key": "private"},
		"length of an object": {"key": "access.length"},
		"length of a number": {"key": "retries.length"},
	}
	not scaffolder.has_number_property(_publish, params)
}

test_has_number_property_passes_for_identifier[note] if {
	some note, found in {"number": 42, "digits": "42", "leading zeros": "0042"}
	resource := {"action": "gitlab:issues:create", "input": {"projectId": found}}
	scaffolder.has_number_property(resource, {"key": "projectId"})
	scaffolder.has_number_property(resource, {"key": "projectId", "value": 42})
	not scaffolder.has_number_property(resource, {"key": "projectId", "value": 43})
}

test_has_number_property_fails_for_identifier[note] if {
	some note, found in {"text": "web", "fraction": "4.5", "sign": "-4", "empty": "", "null": null}
	resource := {"action": "gitlab:issues:create", "input": {"projectId": found}}
	not scaffolder.has_number_property(resource, {"key": "projectId"})
}

test_has_boolean_property_passes[note] if {
	some note, params in {
		"any": {"key": "private"},
		"true": {"key": "private", "value": true},
		"any, being false": {"key": "wiki"},
		"false": {"key": "wiki", "value": false},
	}
	scaffolder.has_boolean_property(_publish, params)
}

test_has_boolean_property_fails[note] if {
	some note, params in {
		"no member": {"key": "title"},
		"not true": {"key": "wiki", "value": true},
		"not false": {"key": "private", "value": false},
		"text": {"key": "description"},
		"number": {"key": "delay"},
		"null": {"key": "license"},
	}
	not scaffolder.has_boolean_property(_publish, params)
}

test_is_task_owner_passes if {
	task := {"id": "1", "createdBy": "user:default/ann"}
	scaffolder.is_task_owner(task, {"createdBy": ["user:default/bob", "user:default/ann"]})
}

test_is_task_owner_fails[note] if {
	some note, task in {
		"another": {"createdBy": "user:default/eve"},
		"another case": {"createdBy": "user:default/Ann"},
		"no creator": {"id": "1"},
		"null": {"createdBy": null},
		"empty": {"createdBy": ""},
	}
	not scaffolder.is_task_owner(task, {"createdBy": ["user:default/ann", ""]})
}

_step := {"id": "publish", "action": "publish:github", "backstage:permissions": {"tags": ["internal", "danger"]}}

_publish := {
	"action": "publish:github",
	"input": {
		"description": "A Shop",
		"homepage": "",
		"license": null,
		"private": true,
		"wiki": false,
		"retries": 3,
		"delay": 0,
		"year": "2026",
		"box": {"length": 7},
		"emblem": "a😀",
		"topics": ["java", "go"],
		"topics[0]": "whole",
		"odd]": "bracket",
		"collaborators": [{"user": "ann"}],
		"access": {"team": "web", "level": "nested", "": "empty"},
		"access.level": "whole",
		"": {"access": "start"},
		"labels": {"a.b": "dotted", `a"b`: "quoted", `a\b`: "backslash"},
	},
}
