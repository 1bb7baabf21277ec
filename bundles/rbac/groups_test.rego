package rbac_test

import data.rbac

# The caller is in web, web in shop and team, shop in all. A role of which group counts?
test_groups[note] if {
	line := {
		"group:default/web": ["group:default/shop", "group:default/team"],
		"group:default/shop": ["group:default/all"],
	}
	some note, tc in {
		"own": {"bound": "group:default/web", "groups": line, "want": "ALLOW"},
		"parent": {"bound": "group:default/shop", "groups": line, "want": "ALLOW"},
		"other parent": {"bound": "group:default/team", "groups": line, "want": "ALLOW"},
		"grandparent": {"bound": "group:default/all", "groups": line, "want": "ALLOW"},
		"child": {"bound": "group:default/child", "groups": {"group:default/child": ["group:default/web"]}, "want": "DENY"},
		"no hierarchy": {"bound": "group:default/all", "groups": {}, "want": "DENY"},
		"everybody": {"bound": "*", "groups": line, "want": "ALLOW"},
		"depth 0, own": {"bound": "group:default/web", "groups": line, "depth": 0, "want": "ALLOW"},
		"depth 0, parent": {"bound": "group:default/shop", "groups": line, "depth": 0, "want": "DENY"},
		"depth 1, parent": {"bound": "group:default/shop", "groups": line, "depth": 1, "want": "ALLOW"},
		"depth 1, grandparent": {"bound": "group:default/all", "groups": line, "depth": 1, "want": "DENY"},
		"depth 2, grandparent": {"bound": "group:default/all", "groups": line, "depth": 2, "want": "ALLOW"},
		"circle": {"bound": "group:default/web", "groups": _circle, "want": "DENY"},
		"circle, everybody": {"bound": "*", "groups": _circle, "want": "DENY"},
		"circle, the user": {"bound": "user:default/u", "groups": _circle, "want": "DENY"},
		"circle above": {
			"bound": "user:default/u",
			"groups": object.union(_circle, {"group:default/web": ["group:default/a"]}),
			"want": "DENY",
		},
		"circle elsewhere": {
			"bound": "group:default/web",
			"groups": {"group:default/x": ["group:default/x"]},
			"want": "ALLOW",
		},
		"circle beyond the depth": {"bound": "group:default/web", "groups": _circle, "depth": 2, "want": "ALLOW"},
		"circle within the depth": {"bound": "group:default/web", "groups": _circle, "depth": 3, "want": "DENY"},
		"its own parent": {
			"bound": "group:default/web",
			"groups": {"group:default/web": ["group:default/web"]},
			"want": "DENY",
		},
		"groups that are a list": {"bound": "group:default/web", "groups": [], "want": "DENY"},
		"depth that is a text": {"bound": "group:default/web", "groups": line, "depth": "1", "want": "DENY"},
		"parents without brackets": {
			"bound": "group:default/web",
			"groups": {"group:default/web": "group:default/shop"},
			"want": "DENY",
		},
	}
	_outcome(rbac.decision) == tc.want with input as {"permission": _read, "identity": _rs}
		with rbac.permissions as {"r": _by_name("allow")}
		with rbac.maxDepth as object.get(tc, "depth", false)
		with data.rbac_members as {"bindings": {tc.bound: ["r"]}, "groups": tc.groups}
}

# In a circle the roles of the caller's own references count with useOwnershipEntityRefs, and without any role the lines
# about the user.
test_circle[note] if {
	some note, tc in {
		"own reference": {"own": true, "bound": "group:default/web", "lines": {"r": _by_type("allow")}, "want": "ALLOW"},
		"the user": {"own": true, "bound": "user:default/u", "lines": {"r": _by_type("allow")}, "want": "ALLOW"},
		"parent": {"own": true, "bound": "group:default/a", "lines": {"r": _by_type("allow")}, "want": "DENY"},
		"everybody": {"own": true, "bound": "*", "lines": {"r": _by_type("allow")}, "want": "DENY"},
		"line about the user": {
			"own": false,
			"bound": "group:default/web",
			"lines": {"r": _by_type("deny"), "user:default/u": _by_type("allow")},
			"want": "ALLOW",
		},
		"line about the group": {
			"own": false,
			"bound": "group:default/web",
			"lines": {"group:default/web": _by_type("allow")},
			"want": "DENY",
		},
	}
	_outcome(rbac.decision) == tc.want with input as {"permission": _read, "identity": _rs}
		with rbac.permissions as tc.lines
		with rbac.useOwnershipEntityRefs as tc.own
		with data.rbac_members as {"bindings": {tc.bound: ["r"]}, "groups": _circle}
}

# A token need not have the user among its references. The roles that are bound to the user count
# then only where there is no circle.
test_user_who_is_no_reference[note] if {
	some note, tc in {
		"in a circle": {"claims": ["group:default/web"], "want": "DENY"},
		"in a circle, with no reference": {"claims": [], "want": "ALLOW"},
		"in no circle": {"claims": ["group:default/c"], "want": "ALLOW"},
	}
	_outcome(rbac.decision) == tc.want with input as {
		"permission": _read,
		"identity": {"user": "user:default/u", "claims": tc.claims},
	}
		with rbac.permissions as {"r": _by_type("allow")}
		with rbac.useOwnershipEntityRefs as true
		with data.rbac_members as {"bindings": {"user:default/u": ["r"]}, "groups": _circle}
}

_circle := {
	"group:default/web": ["group:default/a"],
	"group:default/a": ["group:default/b"],
	"group:default/b": ["group:default/a", "group:default/web"],
}
