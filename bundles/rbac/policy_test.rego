package rbac_test

import data.rbac

test_viewer_reads if rbac.decision == {"result": "ALLOW"} with input as _entity(_bob, "catalog.entity.read")

test_nobody_reads_without_identity if {
	rbac.decision.result == "DENY" with input as {"permission": _entity(_bob, "catalog.entity.read").permission}
}

test_empty_input_is_denied if rbac.decision.result == "DENY" with input as {}

test_viewer_does_nothing_else[note] if {
	some note in ["catalog.entity.delete", "catalog.entity.create", "kubernetes.proxy", "*"]
	rbac.decision.result == "DENY" with input as _entity(_bob, note)
}

test_admin_may_do_everything[note] if {
	some note in ["catalog.entity.read", "catalog.entity.delete", "kubernetes.proxy"]
	rbac.decision == {"result": "ALLOW"} with input as _entity(_root, note)
}

test_developer_refreshes_what_he_owns if {
	conditions := {"anyOf": [_owner(_ann.claims)]}
	rbac.decision == _conditional(conditions) with input as _entity(_ann, "catalog.entity.refresh")
}

test_developer_does_not_delete_production if {
	conditions := {"allOf": [{"anyOf": [_owner(_ann.claims)]}, {"not": {"anyOf": [_production]}}]}
	rbac.decision == _conditional(conditions) with input as _entity(_ann, "catalog.entity.delete")
}

test_claims_are_compared_in_lower_case if {
	identity := {"user": "user:default/ann", "claims": ["User:default/Ann", "Group:default/Developers"]}
	conditions := {"anyOf": [_owner(["user:default/ann", "group:default/developers"])]}
	rbac.decision == _conditional(conditions) with input as _entity(identity, "catalog.entity.refresh")
}

test_developer_reads_his_tasks if {
	permission := {"name": "scaffolder.task.read", "type": "resource", "resourceType": "scaffolder-task"}
	decision := rbac.decision with input as {"permission": permission, "identity": _ann}
	decision.pluginId == "scaffolder"
	decision.resourceType == "scaffolder-task"
	decision.conditions == {"anyOf": [{
		"rule": "IS_TASK_OWNER",
		"resourceType": "scaffolder-task",
		"params": {"createdBy": ["user:default/ann"]},
	}]}
}

test_denial_wins_over_permit if {
	rbac.decision == {"result": "DENY", "reason": "a role denies it"} with input as _entity(_con, "catalog.entity.delete")
}

test_conditional_denial_wins_over_permit if {
	confidential := {
		"rule": "HAS_LABEL",
		"resourceType": "catalog-entity",
		"params": {"label": "example.com/confidential"},
	}
	conditions := {"not": {"anyOf": [confidential]}}
	rbac.decision == _conditional(conditions) with input as _entity(_con, "catalog.entity.read")
}

test_denial_alone_is_a_denial if {
	roles := {"viewer": {"catalog.entity.read": [{"effect": "deny", "when": {"rule": "HAS_LABEL"}}]}}
	rbac.decision.result == "DENY" with input as _entity(_ann, "catalog.entity.read") with rbac.roles as roles
}

test_several_permits_are_alternatives if {
	roles := {
		"viewer": {"catalog.entity.read": [{
			"effect": "allow",
			"when": {"rule": "IS_ENTITY_KIND", "params": {"kinds": ["API"]}},
		}]},
		"developer": {"catalog.entity.read": [{"effect": "allow", "when": {"rule": "HAS_PUBLIC"}}]},
	}
	decision := rbac.decision with input as _entity(_ann, "catalog.entity.read") with rbac.roles as roles
	decision.result == "CONDITIONAL"
	{condition | some condition in decision.conditions.anyOf} == {
		{"rule": "HAS_PUBLIC", "resourceType": "catalog-entity", "params": {}},
		{"rule": "IS_ENTITY_KIND", "resourceType": "catalog-entity", "params": {"kinds": ["API"]}},
	}
}

test_params_are_filled_in[note] if {
	some note, tc in {
		"user": {"params": {"userId": "$user"}, "want": {"userId": "user:default/ann"}},
		"claims": {"params": {"claims": "$claims"}, "want": {"claims": _ann.claims}},
		"claims in a list": {"params": {"claims": ["$claims", "a"]}, "want": {"claims": array.concat(_ann.claims, ["a"])}},
		"anything else": {"params": {"max": 3, "sub": {"a": "$user"}}, "want": {"max": 3, "sub": {"a": "$user"}}},
	}
	grant := {"effect": "allow", "when": {"rule": "R", "params": tc.params}}
	rbac.decision.conditions.anyOf[0].params == tc.want with input as _entity(_ann, "catalog.entity.read")
		with rbac.roles as {"viewer": {"catalog.entity.read": [grant]}}
}

# Every one of these comes with a plain permit, and denies all the same.
test_malformed_grant_denies[note] if {
	some note, grant in {
		"no effect": {},
		"no effect, with a condition that is none": {"when": {}},
		"unknown effect": {"effect": "Allow"},
		"denial without a rule": {"effect": "deny", "when": {"params": {}}},
		"denial with null": {"effect": "deny", "when": null},
		"denial with false": {"effect": "deny", "when": false},
		"text": "deny",
		"null": null,
	}
	rbac.decision.result == "DENY" with input as _entity(_ann, "catalog.entity.read")
		with rbac.roles as {
			"viewer": {"catalog.entity.read": [{"effect": "allow"}]},
			"developer": {"catalog.entity.read": [grant]},
		}
}

test_malformed_permit_does_not_allow[note] if {
	some note, grant in {
		"without a rule": {"effect": "allow", "when": {}},
		"with null": {"effect": "allow", "when": null},
		"with false": {"effect": "allow", "when": false},
	}
	rbac.decision.result == "DENY" with input as _entity(_ann, "catalog.entity.read")
		with rbac.roles as {"viewer": {"catalog.entity.read": [grant]}}
}

test_missing_brackets_do_not_hide_denial if {
	rbac.decision.result == "DENY" with input as _entity(_ann, "catalog.entity.read")
		with rbac.bindings as {"*": ["viewer"], "group:default/developers": "contractor"}
		with rbac.roles as {
			"viewer": {"catalog.entity.read": [{"effect": "allow"}]},
			"contractor": {"catalog.entity.read": {"effect": "deny"}},
		}
}

test_conditional_denial_of_basic_permission_denies if {
	permission := {"name": "catalog.location.read", "type": "basic", "attributes": {"action": "read"}}
	rbac.decision.result == "DENY" with input as {"permission": permission, "identity": _ann}
		with rbac.roles as {
			"viewer": {"catalog.location.read": [{"effect": "allow"}]},
			"developer": {"catalog.location.read": [{"effect": "deny", "when": {"rule": "HAS_LABEL"}}]},
		}
}

test_unknown_plugin_denies if {
	rbac.decision.result == "DENY" with input as _entity(_ann, "catalog.entity.refresh") with rbac.plugins as {}
}

_entity(identity, name) := {
	"permission": {"name": name, "type": "resource", "resourceType": "catalog-entity"},
	"identity": identity,
}

_conditional(conditions) := {
	"result": "CONDITIONAL",
	"pluginId": "catalog",
	"resourceType": "catalog-entity",
	"conditions": conditions,
}

_owner(claims) := {"rule": "IS_ENTITY_OWNER", "resourceType": "catalog-entity", "params": {"claims": claims}}

_production := {
	"rule": "HAS_SPEC",
	"resourceType": "catalog-entity",
	"params": {"key": "lifecycle", "value": "production"},
}

_ann := {"user": "user:default/ann", "claims": ["user:default/ann", "group:default/developers"]}

_bob := {"user": "user:default/bob", "claims": ["user:default/bob"]}

_con := {"user": "user:default/con", "claims": ["user:default/con", "group:default/contractors"]}

_root := {"user": "user:default/root", "claims": ["user:default/root", "group:default/admins"]}
