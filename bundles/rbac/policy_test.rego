package rbac_test

import data.rbac

# The data of the bundle: grants.

test_viewer_reads if rbac.decision == {"result": "ALLOW"} with input as _entity(_bob, "catalog.entity.read")

test_nobody_reads_without_identity if {
	rbac.decision == {"result": "DENY", "reason": "nobody is signed in"} with input as {"permission": _read}
}

test_viewer_does_nothing_else[note] if {
	some note in ["catalog.entity.delete", "catalog.entity.create", "kubernetes.proxy"]
	rbac.decision == {"result": "DENY", "reason": "no role grants it"} with input as _entity(_bob, note)
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

test_child_of_developers_is_developer if {
	identity := {"user": "user:default/web", "claims": ["user:default/web", "group:default/web"]}
	conditions := {"anyOf": [_owner(identity.claims)]}
	rbac.decision == _conditional(conditions) with input as _entity(identity, "catalog.entity.refresh")
}

test_claims_are_compared_in_lower_case if {
	identity := {"user": "user:default/ann", "claims": ["User:default/Ann", "Group:default/Developers"]}
	conditions := {"anyOf": [_owner(identity.claims)]}
	rbac.decision == _conditional(conditions) with input as _entity(identity, "catalog.entity.refresh")
}

test_user_without_claims_has_roles if {
	identity := {"user": "user:default/bob", "claims": []}
	rbac.decision == {"result": "ALLOW"} with input as _entity(identity, "catalog.entity.read")
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

# Grants. The caller has the roles r and s.

test_grants[note] if {
	permit := {"effect": "allow", "when": {"rule": "HAS_PUBLIC"}}
	public := {"rule": "HAS_PUBLIC", "resourceType": "catalog-entity", "params": {}}
	label := {"rule": "HAS_LABEL", "params": {"label": "a"}}
	full := {"rule": "HAS_LABEL", "resourceType": "catalog-entity", "params": {"label": "a"}}
	some note, tc in {
		"several permits are alternatives": {
			"roles": {"r": {"catalog.entity.read": [permit, {"effect": "allow", "when": label}]}},
			"want": {"anyOf": [full, public]},
		},
		"permits of two roles are alternatives": {
			"roles": {"r": {"catalog.*": [permit]}, "s": {"catalog.entity.read": [{"effect": "allow", "when": label}]}},
			"want": {"anyOf": [full, public]},
		},
		"denial alone denies": {
			"roles": {"r": {"catalog.entity.read": [{"effect": "deny", "when": label}]}},
			"want": "DENY",
		},
		"text in the middle": {"roles": {"r": {"catalog.*.read": [{"effect": "allow"}]}}, "want": "ALLOW"},
		"every reading permission": {"roles": {"r": {"*.read": [{"effect": "allow"}]}}, "want": "ALLOW"},
		"no other sign": {"roles": {"r": {"catalog.?ntity.*": [{"effect": "allow"}]}}, "want": "DENY"},
		"half a sign": {"roles": {"r": {"catalog.[entity.*": [{"effect": "allow"}]}}, "want": "DENY"},
		"another name": {"roles": {"r": {"catalog.entity.rea": [{"effect": "allow"}]}}, "want": "DENY"},
		"another beginning": {"roles": {"r": {"scaffolder.*": [{"effect": "allow"}]}}, "want": "DENY"},
		"denial by a pattern": {
			"roles": {"r": {"catalog.entity.read": [{"effect": "allow"}]}, "s": {"*.read": [{"effect": "deny"}]}},
			"want": "DENY",
		},
		"a tree": {
			"roles": {"r": {"*": [{"effect": "allow", "when": {"allOf": [label, {"not": {"anyOf": [permit.when]}}]}}]}},
			"want": {"anyOf": [{"allOf": [full, {"not": {"anyOf": [public]}}]}]},
		},
	}
	_outcome(rbac.decision) == tc.want with input as _entity(_rs, "catalog.entity.read")
		with rbac.roles as tc.roles
		with data.rbac_members as _of_r_and_s
}

# Every one of these comes with a plain permit, and denies all the same.
test_malformed_grant_denies[note] if {
	some note, grant in {
		"no effect": {},
		"misspelt effect": {"efect": "deny"},
		"misspelt condition": {"effect": "allow", "wehn": {"rule": "R"}},
		"no effect, with a condition that is none": {"when": {}},
		"unknown effect": {"effect": "Allow"},
		"denial without a rule": {"effect": "deny", "when": {"params": {}}},
		"denial with null": {"effect": "deny", "when": null},
		"denial with false": {"effect": "deny", "when": false},
		"denial with an unknown alias": {"effect": "deny", "when": {"rule": "R", "params": {"claims": ["$claim"]}}},
		"denial with an alias in a tree": {
			"effect": "deny",
			"when": {"anyOf": [{"rule": "R"}, {"not": {"rule": "S", "params": {"a": {"b": "$currentUser"}}}}]},
		},
		"text": "deny",
		"null": null,
	}
	rbac.decision.result == "DENY" with input as _entity(_rs, "catalog.entity.read")
		with rbac.roles as {"r": {"catalog.entity.read": [{"effect": "allow"}]}, "s": {"catalog.entity.read": [grant]}}
		with data.rbac_members as _of_r_and_s
}

test_malformed_role_denies[note] if {
	some note, role in {
		"list": [{"effect": "deny"}],
		"text": "deny",
		"grant without brackets": {"catalog.entity.read": {"effect": "deny"}},
	}
	rbac.decision.result == "DENY" with input as _entity(_rs, "catalog.entity.read")
		with rbac.roles as {"r": {"catalog.entity.read": [{"effect": "allow"}]}, "s": role}
		with data.rbac_members as {"bindings": {"user:default/u": ["r"], "group:default/web": "s"}}
}

test_malformed_permit_does_not_allow[note] if {
	some note, grant in {
		"without a rule": {"effect": "allow", "when": {}},
		"with null": {"effect": "allow", "when": null},
		"with false": {"effect": "allow", "when": false},
	}
	rbac.decision.result == "DENY" with input as _entity(_rs, "catalog.entity.read")
		with rbac.roles as {"r": {"catalog.entity.read": [grant]}}
		with data.rbac_members as _of_r_and_s
}

test_conditional_denial_of_basic_permission_denies if {
	permission := {"name": "catalog.location.read", "type": "basic", "attributes": {"action": "read"}}
	rbac.decision.result == "DENY" with input as {"permission": permission, "identity": _rs}
		with rbac.roles as {
			"r": {"catalog.location.read": [{"effect": "allow"}]},
			"s": {"catalog.location.read": [{"effect": "deny", "when": {"rule": "HAS_LABEL"}}]},
		}
		with data.rbac_members as _of_r_and_s
}

test_unknown_plugin_denies if {
	rbac.decision.result == "DENY" with input as _entity(_ann, "catalog.entity.refresh") with rbac.plugins as {}
}

# Lines and grants together: either allows, either denies.
test_both_ways[note] if {
	some note, tc in {
		"line allows": {"lines": _by_type("allow"), "grants": {}, "want": "ALLOW"},
		"grant allows": {"lines": {}, "grants": {"*": [{"effect": "allow"}]}, "want": "ALLOW"},
		"line denies": {"lines": _by_type("deny"), "grants": {"*": [{"effect": "allow"}]}, "want": "DENY"},
		"grant denies": {"lines": _by_type("allow"), "grants": {"*": [{"effect": "deny"}]}, "want": "DENY"},
		"grant denies some": {
			"lines": _by_type("allow"),
			"grants": {"*": [{"effect": "deny", "when": {"rule": "A"}}]},
			"want": {"not": {"anyOf": [_rule("A")]}},
		},
	}
	_outcome(rbac.decision) == tc.want with input as {"permission": _read, "identity": _rs}
		with rbac.permissions as {"r": tc.lines}
		with rbac.roles as {"s": tc.grants}
		with data.rbac_members as _of_r_and_s
}

test_condition_and_grant if {
	decision := rbac.decision with input as {"permission": _read, "identity": _rs}
		with rbac.conditions as {"r": {"catalog-entity": [_policy(["read"], {"rule": "A"})]}}
		with rbac.roles as {"s": {"*": [
			{"effect": "allow", "when": {"rule": "B"}},
			{"effect": "deny", "when": {"rule": "C"}},
		]}}
		with data.rbac_members as _of_r_and_s
	_outcome(decision) == {"allOf": [{"anyOf": [_rule("A"), _rule("B")]}, {"not": {"anyOf": [_rule("C")]}}]}
}

_outcome(decision) := decision.result if {
	decision.result in {"ALLOW", "DENY"}
} else := decision.conditions if {
	decision.pluginId == "catalog"
	decision.resourceType == "catalog-entity"
}

_entity(identity, name) := {"permission": _known[name], "identity": identity}

_known := {
	"catalog.entity.read": _about_entities("catalog.entity.read", "read"),
	"catalog.entity.refresh": _about_entities("catalog.entity.refresh", "update"),
	"catalog.entity.delete": _about_entities("catalog.entity.delete", "delete"),
	"catalog.entity.create": {"name": "catalog.entity.create", "type": "basic", "attributes": {"action": "create"}},
	"kubernetes.proxy": {"name": "kubernetes.proxy", "type": "basic", "attributes": {}},
}

_about_entities(name, action) := {
	"name": name,
	"type": "resource",
	"attributes": {"action": action},
	"resourceType": "catalog-entity",
}

_read := {
	"name": "catalog.entity.read",
	"type": "resource",
	"attributes": {"action": "read"},
	"resourceType": "catalog-entity",
}

_conditional(conditions) := {
	"result": "CONDITIONAL",
	"pluginId": "catalog",
	"resourceType": "catalog-entity",
	"conditions": conditions,
}

_rule(name) := {"rule": name, "resourceType": "catalog-entity", "params": {}}

_policy(mapping, conditions) := {"pluginId": "catalog", "permissionMapping": mapping, "conditions": conditions}

_by_name(effect) := {"catalog.entity.read": {"read": effect}}

_by_type(effect) := {"catalog-entity": {"read": effect}}

_both(by_name, by_type) := {"catalog.entity.read": {"read": by_name}, "catalog-entity": {"read": by_type}}

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

_rs := {"user": "user:default/u", "claims": ["user:default/u", "group:default/web"]}

_of_r_and_s := {"bindings": {"user:default/u": ["r"], "group:default/web": ["s"]}}
