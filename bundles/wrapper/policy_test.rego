package rbac_policy_test

import data.rbac_policy

test_maintainer_may_do_everything[note] if {
	some note in ["catalog.entity.read", "catalog.entity.delete", "kubernetes.proxy"]
	rbac_policy.decision == {"result": "ALLOW"} with input as _asked(note, _max)
}

test_everybody_is_allowed[note] if {
	some note in [
		"catalog.location.read",
		"scaffolder.task.create",
		"scaffolder.action.execute",
		"scaffolder.template.parameter.read",
		"scaffolder.template.step.read",
	]
	rbac_policy.decision == {"result": "ALLOW"} with input as _asked(note, _ann)
}

test_everybody_is_denied[note] if {
	some note in ["catalog.entity.create", "catalog.entity.delete", "kubernetes.proxy"]
	rbac_policy.decision == {"result": "DENY"} with input as _asked(note, _ann)
}

test_nobody_is_allowed_without_identity[note] if {
	some note in [
		"catalog.location.read",
		"catalog.entity.read",
		"catalog.entity.refresh",
		"scaffolder.task.create",
		"scaffolder.task.read",
		"scaffolder.template.step.read",
	]
	rbac_policy.decision == {"result": "DENY"} with input as {"permission": {"name": note}}
}

test_confidential_entity_is_read_by_owner if {
	confidential := {
		"rule": "HAS_LABEL",
		"resourceType": "catalog-entity",
		"params": {"label": "example.com/confidential", "value": "true"},
	}
	rbac_policy.decision == {
		"result": "CONDITIONAL",
		"pluginId": "catalog",
		"resourceType": "catalog-entity",
		"conditions": {"anyOf": [_owner, {"not": confidential}]},
	} with input as _asked("catalog.entity.read", _ann)
}

test_entity_is_refreshed_by_owner if {
	decision := rbac_policy.decision with input as _asked("catalog.entity.refresh", _ann)
	decision.result == "CONDITIONAL"
	decision.conditions == _owner
}

test_task_is_seen_by_creator[note] if {
	some note in ["scaffolder.task.read", "scaffolder.task.cancel"]
	rbac_policy.decision == {
		"result": "CONDITIONAL",
		"pluginId": "scaffolder",
		"resourceType": "scaffolder-task",
		"conditions": {
			"rule": "IS_TASK_OWNER",
			"resourceType": "scaffolder-task",
			"params": {"createdBy": ["user:default/ann"]},
		},
	} with input as _asked(note, _ann)
}

_asked(name, identity) := {"permission": {"name": name}, "identity": identity}

_owner := {"rule": "IS_ENTITY_OWNER", "resourceType": "catalog-entity", "params": {"claims": _ann.claims}}

_ann := {"user": "user:default/ann", "claims": ["user:default/ann", "group:default/web"]}

_max := {"user": "user:default/max", "claims": ["user:default/max", "group:default/maintainers"]}
