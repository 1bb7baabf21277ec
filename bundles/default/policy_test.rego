package backstage.authz_test

import data.backstage.authz

test_signed_in_user_reads[note] if {
	some note, permission in {
		"entities": _entity_permission("catalog.entity.read", "read"),
		"locations": _basic_permission("catalog.location.read", {"action": "read"}),
		"tasks": {
			"name": "scaffolder.task.read",
			"type": "resource",
			"attributes": {"action": "read"},
			"resourceType": "scaffolder-task",
		},
	}
	authz.allow with input as {"permission": permission, "identity": _bob}
}

test_nobody_reads_without_identity if {
	not authz.allow with input as {"permission": _entity_permission("catalog.entity.read", "read")}
}

test_devtools_are_denied[note] if {
	some note in ["devtools.administer", "devtools.config", "devtools.info", "catalog.ingestion.read"]
	permission := _basic_permission(note, {"action": "read"})
	not authz.allow with input as {"permission": permission, "identity": _bob}
	authz.allow with input as {"permission": permission, "identity": _root}
}

test_owner_changes_entity[note] if {
	some note, permission in _changes
	authz.allow with input as {"permission": permission, "identity": _ann, "resource": _storefront}
}

test_owner_of_another_case_changes_entity[note] if {
	identity := {"user": "user:default/ann", "claims": ["user:default/ann", "Group:Default/Web"]}
	some note, permission in _changes
	authz.allow with input as {"permission": permission, "identity": identity, "resource": _storefront}
}

test_others_do_not_change_entity[note] if {
	some note, permission in _changes
	not authz.allow with input as {"permission": permission, "identity": _bob, "resource": _storefront}
}

test_nobody_changes_entity_without_identity[note] if {
	some note, permission in _changes
	not authz.allow with input as {"permission": permission, "resource": _storefront}
}

test_nobody_changes_entity_without_owner[note] if {
	orphan := object.remove(_storefront, ["relations"])
	some note, permission in _changes
	not authz.allow with input as {"permission": permission, "identity": _ann, "resource": orphan}
}

test_admin_may_do_everything[note] if {
	some note, permission in object.union(_changes, _admin_only)
	authz.allow with input as {"permission": permission, "identity": _root, "resource": _storefront}
}

test_user_named_as_admin_may_do_everything[note] if {
	some note, permission in object.union(_changes, _admin_only)
	authz.allow with input as {"permission": permission, "identity": _bob, "resource": _storefront}
		with authz.admins as ["User:Default/Bob"]
}

test_everything_else_is_denied[note] if {
	some note, permission in _admin_only
	not authz.allow with input as {"permission": permission, "identity": _ann, "resource": _storefront}
}

test_nobody_is_admin_without_data if {
	input_of_root := {"permission": _admin_only.create, "identity": _root}
	not authz.allow with input as input_of_root with authz.admins as []
}

test_policies_are_not_read if {
	permission := {
		"name": "policy.entity.read",
		"type": "resource",
		"attributes": {"action": "read"},
		"resourceType": "policy-entity",
	}
	not authz.allow with input as {"permission": permission, "identity": _bob, "resource": {}}
	authz.allow with input as {"permission": permission, "identity": _root, "resource": {}}
}

_changes := {
	"delete": _entity_permission("catalog.entity.delete", "delete"),
	"refresh": _entity_permission("catalog.entity.refresh", "update"),
	"build": _entity_permission("jenkins.execute", "update"),
}

_admin_only := {
	"create": _basic_permission("catalog.entity.create", {"action": "create"}),
	"delete a location": _basic_permission("catalog.location.delete", {"action": "delete"}),
	"no action": _basic_permission("catalog.entity.validate", {}),
	"run a template": _basic_permission("scaffolder.task.create", {"action": "create"}),
	"run an action": {
		"name": "scaffolder.action.execute",
		"type": "resource",
		"attributes": {},
		"resourceType": "scaffolder-action",
	},
	"change another type": {
		"name": "policy.entity.update",
		"type": "resource",
		"attributes": {"action": "update"},
		"resourceType": "policy-entity",
	},
}

_entity_permission(name, action) := {
	"name": name,
	"type": "resource",
	"attributes": {"action": action},
	"resourceType": "catalog-entity",
}

_basic_permission(name, attributes) := {"name": name, "type": "basic", "attributes": attributes}

_ann := {"user": "user:default/ann", "claims": ["user:default/ann", "group:default/web"]}

_bob := {"user": "user:default/bob", "claims": ["user:default/bob", "group:default/sales"]}

_root := {"user": "user:default/root", "claims": ["user:default/root", "group:default/admins"]}

_storefront := {
	"apiVersion": "backstage.io/v1alpha1",
	"kind": "Component",
	"metadata": {"name": "storefront"},
	"spec": {"type": "website", "lifecycle": "production", "owner": "web"},
	"relations": [{"type": "ownedBy", "targetRef": "group:default/web"}],
}
