package rbac_test

import data.rbac

# Conditions. What is not understood gives nothing, and denies where it denies.

test_aliases_are_filled_in[note] if {
	some note, tc in {
		"user": {"params": {"userId": "$currentUser"}, "want": {"userId": "user:default/u"}},
		"user in a list": {"params": {"a": ["$currentUser", "b"]}, "want": {"a": ["user:default/u", "b"]}},
		"claims in a list": {"params": {"a": ["x", "$ownerRefs"]}, "want": {"a": array.concat(["x"], _rs.claims)}},
		"two params": {
			"params": {"a": ["$ownerRefs"], "b": "$currentUser"},
			"want": {"a": _rs.claims, "b": "user:default/u"},
		},
		"a list in a list": {"params": {"a": [["x"], "$ownerRefs"]}, "want": {"a": array.concat([["x"]], _rs.claims)}},
		"a text": {"params": {"price": "$5", "a": {"b": "$"}}, "want": {"price": "$5", "a": {"b": "$"}}},
		"a number": {"params": {"max": 3}, "want": {"max": 3}},
		"null": {"params": {"a": null}, "want": {"a": null}},
	}
	decision := rbac.decision with input as _entity(_rs, "catalog.entity.read")
		with rbac.conditions as {"r": {"catalog-entity": [_policy(["read"], {"rule": "R", "params": tc.params})]}}
		with data.rbac_members as _of_r_and_s
	decision.conditions.anyOf == [{"rule": "R", "resourceType": "catalog-entity", "params": tc.want}]
}

test_condition_that_is_not_understood[note] if {
	some note, condition in {
		"unknown alias": {"rule": "R", "params": {"claims": ["$claim"]}},
		"alias in another case": {"rule": "R", "params": {"claims": ["$ownerrefs"]}},
		"claims as text": {"rule": "R", "params": {"claims": "$ownerRefs"}},
		"alias too deep": {"rule": "R", "params": {"claims": [["$ownerRefs"]]}},
		"alias with more behind it": {"rule": "R", "params": {"claims": ["$ownerRefs "]}},
		"alias in an object": {"rule": "R", "params": {"a": {"b": "$currentUser"}}},
		"unknown alias in a tree": {"allOf": [{"rule": "R"}, {"not": {"rule": "S", "params": {"a": "$me"}}}]},
		"nothing": {},
		"null": null,
		"text": "R",
		"list": [{"rule": "R"}],
		"rule that is no text": {"rule": 1},
		"params that are a list": {"rule": "R", "params": []},
		"unknown member": {"rule": "R", "parms": {}},
		"another type of resource": {"rule": "R", "resourceType": "todo-item"},
		"two criteria": {"allOf": [{"rule": "R"}], "anyOf": [{"rule": "S"}]},
		"criteria beside a rule": {"rule": "R", "not": {"rule": "S"}},
		"nothing to hold": {"anyOf": []},
		"all of nothing": {"allOf": []},
		"not of nothing": {"not": {}},
		"not of a list": {"not": [{"rule": "R"}]},
		"all of no list": {"allOf": {"rule": "R"}},
		"a list among conditions": {"anyOf": [[{"rule": "R"}]]},
		"an unknown criterion": {"noneOf": [{"rule": "R"}]},
	}

	# As a conditional policy it gives nothing, and lets no line through.
	rbac.decision.result == "DENY" with input as _entity(_rs, "catalog.entity.read")
		with rbac.permissions as {"r": _by_type("allow")}
		with rbac.conditions as {"r": {"catalog-entity": [_policy(["read"], condition)]}}
		with data.rbac_members as _of_r_and_s

	# As a permit it gives nothing, and as a denial it denies.
	rbac.decision.result == "DENY" with input as _entity(_rs, "catalog.entity.read")
		with rbac.roles as {"s": {"*": [{"effect": "allow", "when": condition}]}}
		with data.rbac_members as _of_r_and_s
	rbac.decision.result == "DENY" with input as _entity(_rs, "catalog.entity.read")
		with rbac.roles as {"s": {"*": [{"effect": "allow"}, {"effect": "deny", "when": condition}]}}
		with data.rbac_members as _of_r_and_s
}

test_condition_as_rbac_keeps_it if {
	tree := {"allOf": [
		{"anyOf": [
			{"rule": "A", "resourceType": "catalog-entity", "params": {"x": ["$ownerRefs"]}},
			{"rule": "B", "resourceType": "catalog-entity", "params": {"x": "$currentUser", "params": {"rule": "B"}}},
		]},
		{"not": {"rule": "C", "resourceType": "catalog-entity"}},
	]}
	want := {"allOf": [
		{"anyOf": [
			{"rule": "A", "resourceType": "catalog-entity", "params": {"x": _rs.claims}},
			{"rule": "B", "resourceType": "catalog-entity", "params": {"x": "user:default/u", "params": {"rule": "B"}}},
		]},
		{"not": {"rule": "C", "resourceType": "catalog-entity", "params": {}}},
	]}
	rbac.decision == _conditional({"anyOf": [want]}) with input as _entity(_rs, "catalog.entity.read")
		with rbac.conditions as {"r": {"catalog-entity": [_policy(["read"], tree)]}}
		with data.rbac_members as _of_r_and_s
}

# Conditional policies, as the RBAC plugin takes them: the caller has the roles r and s.

test_conditional_policies[note] if {
	some note, tc in _conditional_policies
	some precedence in ["conditional", "basic"]
	_outcome(rbac.decision) == tc[precedence] with input as {"permission": _read, "identity": _rs}
		with rbac.conditions as {role: {"catalog-entity": policies} | some role, policies in tc.conditions}
		with rbac.permissions as tc.lines
		with rbac.precedence as precedence
		with data.rbac_members as _of_r_and_s
}

_conditional_policies := {
	"of one role": {
		"conditions": {"r": [_policy(["read"], {"rule": "A"})]},
		"lines": {},
		"conditional": {"anyOf": [_rule("A")]},
		"basic": {"anyOf": [_rule("A")]},
	},
	"of two roles": {
		"conditions": {"r": [_policy(["read"], {"rule": "A"})], "s": [_policy(["read", "use"], {"rule": "B"})]},
		"lines": {},
		"conditional": {"anyOf": [_rule("A"), _rule("B")]},
		"basic": {"anyOf": [_rule("A"), _rule("B")]},
	},
	"with an allow by type": {
		"conditions": {"r": [_policy(["read"], {"rule": "A"})]},
		"lines": {"s": _by_type("allow")},
		"conditional": {"anyOf": [_rule("A")]},
		"basic": "ALLOW",
	},
	"with a denial by type": {
		"conditions": {"r": [_policy(["read"], {"rule": "A"})]},
		"lines": {"s": _by_type("deny")},
		"conditional": {"anyOf": [_rule("A")]},
		"basic": "DENY",
	},
	"with a denial by name": {
		"conditions": {"r": [_policy(["read"], {"rule": "A"})]},
		"lines": {"r": _by_name("deny")},
		"conditional": {"anyOf": [_rule("A")]},
		"basic": "DENY",
	},
	"with an allow by name and a denial by type": {
		"conditions": {"r": [_policy(["read"], {"rule": "A"})]},
		"lines": {"r": _both("allow", "deny")},
		"conditional": {"anyOf": [_rule("A")]},
		"basic": "ALLOW",
	},
	"two in one role": {
		"conditions": {"r": [_policy(["read"], {"rule": "A"}), _policy(["read"], {"rule": "B"})]},
		"lines": {},
		"conditional": "DENY",
		"basic": "DENY",
	},
	"two in one role, with an allow": {
		"conditions": {"r": [_policy(["read"], {"rule": "A"}), _policy(["read"], {"rule": "B"})]},
		"lines": {"s": _by_name("allow")},
		"conditional": "DENY",
		"basic": "ALLOW",
	},
	"two in one role, the other about another action": {
		"conditions": {"r": [_policy(["read"], {"rule": "A"}), _policy(["update"], {"rule": "B"})]},
		"lines": {},
		"conditional": {"anyOf": [_rule("A")]},
		"basic": {"anyOf": [_rule("A")]},
	},
	"by name": {
		"conditions": {"r": [_policy([{"name": "catalog.entity.read", "action": "read"}], {"rule": "A"})]},
		"lines": {},
		"conditional": {"anyOf": [_rule("A")]},
		"basic": {"anyOf": [_rule("A")]},
	},
	"by another name": {
		"conditions": {"r": [_policy([{"name": "jenkins.read", "action": "read"}], {"rule": "A"})]},
		"lines": {"r": _by_type("allow")},
		"conditional": "ALLOW",
		"basic": "ALLOW",
	},
	"without brackets": {
		"conditions": {"r": _policy(["read"], {"rule": "A"})},
		"lines": {"r": _by_type("allow")},
		"conditional": {"anyOf": [_rule("A")]},
		"basic": "ALLOW",
	},
	"not understood beside one that is": {
		"conditions": {"r": [_policy(["read"], {"rule": "A"})], "s": [_policy(["read"], {"rule": 1})]},
		"lines": {},
		"conditional": {"anyOf": [_rule("A")]},
		"basic": {"anyOf": [_rule("A")]},
	},
	"of two plugins": {
		"conditions": {
			"r": [_policy(["read"], {"rule": "A"})],
			"s": [object.union(_policy(["read"], {"rule": "B"}), {"pluginId": "todo"})],
		},
		"lines": {},
		"conditional": "DENY",
		"basic": "DENY",
	},
}

# With a line that allows, which must not count.
test_malformed_conditional_policy_gives_nothing[note] if {
	good := _policy(["read"], {"rule": "A"})
	some note, policies in {
		"no object": {"r": "deny"},
		"unknown action": {"r": {"catalog-entity": [object.union(good, {"permissionMapping": ["raed"]})]}},
		"no mapping": {"r": {"catalog-entity": [object.remove(good, ["permissionMapping"])]}},
		"empty mapping": {"r": {"catalog-entity": [object.union(good, {"permissionMapping": []})]}},
		"mapping without brackets": {"r": {"catalog-entity": [object.union(good, {"permissionMapping": "read"})]}},
		"mapping without a name": {"r": {"catalog-entity": [_policy([{"action": "read"}], {"rule": "A"})]}},
		"no plugin": {"r": {"catalog-entity": [object.remove(good, ["pluginId"])]}},
		"no conditions": {"r": {"catalog-entity": [object.remove(good, ["conditions"])]}},
		"unknown member": {"r": {"catalog-entity": [object.union(good, {"efect": "deny"})]}},
		"null": {"r": {"catalog-entity": [null]}},
	}
	rbac.decision.result == "DENY" with input as {"permission": _read, "identity": _rs}
		with rbac.permissions as {"r": _both("allow", "allow")}
		with rbac.conditions as policies
		with data.rbac_members as _of_r_and_s
}
