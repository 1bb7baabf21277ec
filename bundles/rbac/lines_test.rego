package rbac_test

import data.rbac

# The meaning of the RBAC plugin: the caller has the roles r and s, and asks for catalog.entity.read.

test_lines[note] if {
	some note, tc in {
		"allow by name": {"lines": {"r": _by_name("allow")}, "want": "ALLOW"},
		"allow by type": {"lines": {"r": _by_type("allow")}, "want": "ALLOW"},
		"allow by name, deny by type": {"lines": {"r": _both("allow", "deny")}, "want": "ALLOW"},
		"deny by name, allow by type": {"lines": {"r": _both("deny", "allow")}, "want": "DENY"},
		"name in one role, type in another": {"lines": {"r": _by_name("allow"), "s": _by_type("deny")}, "want": "ALLOW"},
		"denied name in one role": {"lines": {"r": _by_name("deny"), "s": _by_type("allow")}, "want": "DENY"},
		"two roles, one denies by name": {"lines": {"r": _by_name("deny"), "s": _by_name("allow")}, "want": "DENY"},
		"two roles, one denies by type": {"lines": {"r": _by_type("deny"), "s": _by_type("allow")}, "want": "DENY"},
		"another action": {"lines": {"r": {"catalog-entity": {"update": "allow"}}}, "want": "DENY"},
		"another role": {"lines": {"t": _by_name("allow")}, "want": "DENY"},
		"names in another case": {"lines": {"r": {"Catalog.Entity.Read": {"read": "allow"}}}, "want": "DENY"},
		"no lines": {"lines": {}, "want": "DENY"},
		"a line about the user": {"lines": {"user:default/u": _by_type("allow")}, "want": "DENY"},
		"a denial about the user": {
			"lines": {"r": _by_name("allow"), "user:default/u": _both("deny", "deny")},
			"want": "ALLOW",
		},
	}
	some precedence in ["conditional", "basic"]
	_outcome(rbac.decision) == tc.want with input as {"permission": _read, "identity": _rs}
		with rbac.permissions as tc.lines
		with rbac.precedence as precedence
		with data.rbac_members as _of_r_and_s
}

test_basic_permissions_have_no_type[note] if {
	some note, tc in {
		"by name": {"lines": {"r": {"catalog.location.create": {"create": "allow"}}}, "want": "ALLOW"},
		"denied by name": {"lines": {"r": {"catalog.location.create": {"create": "deny"}}}, "want": "DENY"},
		"by type": {"lines": {"r": {"catalog-location": {"create": "allow"}}}, "want": "DENY"},
	}
	_outcome(rbac.decision) == tc.want with input as _basic("catalog.location.create")
		with rbac.permissions as tc.lines
		with rbac.conditions as {"r": {"catalog-location": [_policy(["create"], {"rule": "R"})]}}
		with data.rbac_members as _of_r_and_s
}

test_use_is_the_action_where_there_is_none if {
	rbac.decision == {"result": "ALLOW"} with input as {"permission": {"name": "kubernetes.proxy"}, "identity": _rs}
		with rbac.permissions as {"r": {"kubernetes.proxy": {"use": "allow"}}}
		with data.rbac_members as _of_r_and_s
}

# Creating a policy is a basic permission, and lines about its old type of resource still count.
test_policy_is_created[note] if {
	some note, tc in {
		"by name": {"lines": {"r": {"policy.entity.create": {"create": "allow"}}}, "want": "ALLOW"},
		"by type": {"lines": {"r": {"policy-entity": {"create": "allow"}}}, "want": "ALLOW"},
		"denied by name": {
			"lines": {"r": {"policy-entity": {"create": "allow"}, "policy.entity.create": {"create": "deny"}}},
			"want": "DENY",
		},
		"by another action": {"lines": {"r": {"policy-entity": {"read": "allow"}}}, "want": "DENY"},
	}
	some precedence in ["conditional", "basic"]
	_outcome(rbac.decision) == tc.want with input as _basic("policy.entity.create")
		with rbac.permissions as tc.lines
		with rbac.precedence as precedence
		with data.rbac_members as _of_r_and_s
}

test_condition_for_what_has_no_resource_denies if {
	rbac.decision.result == "DENY" with input as _basic("policy.entity.create")
		with rbac.permissions as {"r": {"policy-entity": {"create": "allow"}}}
		with rbac.conditions as {"r": {"policy-entity": [_policy(["create"], {"rule": "R"})]}}
		with data.rbac_members as _of_r_and_s
}

test_malformed_line_denies[note] if {
	some note, lines in {
		"unknown effect": {"catalog.entity.read": {"read": "Allow"}},
		"effect that is no text": {"catalog.entity.read": {"read": true}},
		"false": {"catalog.entity.read": {"read": false}},
		"effect without an action": {"catalog.entity.read": "allow"},
		"unknown action": {"catalog.entity.read": {"read": "allow", "raed": "deny"}},
		"list of lines": [{"catalog.entity.read": {"read": "allow"}}],
		"text": "allow",
	}
	rbac.decision.result == "DENY" with input as {"permission": _read, "identity": _rs}
		with rbac.permissions as {"r": {"catalog.entity.read": {"read": "allow"}}, "s": lines}
		with data.rbac_members as _of_r_and_s
}

test_unknown_precedence_denies if {
	decision := rbac.decision with input as {"permission": _read, "identity": _rs}
		with rbac.permissions as {"r": _by_name("allow")}
		with rbac.precedence as "basci"
		with data.rbac_members as _of_r_and_s
	decision == {"result": "DENY", "reason": "data.rbac.precedence is neither conditional nor basic"}
}

test_superusers[note] if {
	some note, tc in {
		"the user": {"superusers": ["user:default/u"], "want": "ALLOW"},
		"a group of the user": {"superusers": ["user:default/x", "group:default/web"], "want": "ALLOW"},
		"somebody else": {"superusers": ["user:default/x"], "want": "DENY"},
		"in another case": {"superusers": ["user:default/U"], "want": "DENY"},
	}
	_outcome(rbac.decision) == tc.want with input as {"permission": _read, "identity": _rs}
		with rbac.permissions as {"r": _both("deny", "deny")}
		with rbac.roles as {"r": {"*": [{"effect": "deny"}]}}
		with rbac.superusers as tc.superusers
		with data.rbac_members as _of_r_and_s
}

# Nobody here has a role. Lines about resources are looked up by their type alone, and only with `conditional`.
test_lines_about_those_without_role[note] if {
	some note, tc in {
		"about the user": {"lines": {"user:default/u": _by_type("allow")}, "conditional": "ALLOW"},
		"about a group": {"lines": {"group:default/web": _by_type("allow")}, "conditional": "ALLOW"},
		"about a parent": {"lines": {"group:default/all": _by_type("allow")}, "conditional": "ALLOW"},
		"by name": {"lines": {"user:default/u": _by_name("allow")}, "conditional": "DENY"},
		"about somebody else": {"lines": {"user:default/x": _by_type("allow")}, "conditional": "DENY"},
		"a group denies, the user is allowed": {
			"lines": {"group:default/web": _by_type("deny"), "user:default/u": _by_type("allow")},
			"conditional": "DENY",
		},
	}
	_outcome(rbac.decision) == tc.conditional with input as {"permission": _read, "identity": _rs}
		with rbac.permissions as tc.lines
		with data.rbac_members.groups as {"group:default/web": ["group:default/all"]}
		with data.rbac_members.bindings as {}
	_outcome(rbac.decision) == "DENY" with input as {"permission": _read, "identity": _rs}
		with rbac.permissions as tc.lines
		with rbac.precedence as "basic"
		with data.rbac_members.groups as {"group:default/web": ["group:default/all"]}
		with data.rbac_members.bindings as {}
}

test_basic_permission_of_those_without_role[note] if {
	some note in ["conditional", "basic"]
	rbac.decision == {"result": "ALLOW"} with input as {"permission": {"name": "kubernetes.proxy"}, "identity": _rs}
		with rbac.permissions as {"user:default/u": {"kubernetes.proxy": {"use": "allow"}}}
		with rbac.precedence as note
		with data.rbac_members as {}
}

_basic(name) := {
	"permission": {"name": name, "type": "basic", "attributes": {"action": "create"}},
	"identity": _rs,
}
