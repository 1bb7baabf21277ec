package ownership_test

import data.ownership

test_everybody_sees_entity[note] if {
	some note, identity in {"owner": _ann, "maintainer": _moe, "stranger": _bob, "admin": _root}
	ownership.allow with input as _read(identity, _storefront)
}

test_private_entity_is_seen[note] if {
	private := _with_annotation(_storefront, "private")
	some note, identity in {"owner": _ann, "maintainer": _moe, "admin": _root}
	ownership.allow with input as _read(identity, private)
}

test_private_entity_is_not_seen_by_stranger if {
	not ownership.allow with input as _read(_bob, _with_annotation(_storefront, "private"))
}

test_public_entity_is_seen_by_stranger if {
	ownership.allow with input as _read(_bob, _with_annotation(_storefront, "public"))
}

test_nothing_is_allowed_without_identity[note] if {
	some note, permission in {
		"entity": _entity_permission("catalog.entity.read", "read"),
		"change": _entity_permission("catalog.entity.refresh", "update"),
		"location": {"name": "catalog.location.read", "type": "basic", "attributes": {"action": "read"}},
		"template": _scaffolder_permission("scaffolder.template.step.read", "scaffolder-template"),
		"task": _scaffolder_permission("scaffolder.task.read", "scaffolder-task"),
		"run": _scaffolder_permission("scaffolder.action.execute", "scaffolder-action"),
		"create": {"name": "scaffolder.task.create", "type": "basic", "attributes": {"action": "create"}},
	}
	not ownership.allow with input as {"permission": permission, "resource": _storefront}
}

test_entity_is_changed_by[note] if {
	some note, identity in {"owner": _ann, "maintainer": _moe, "admin": _root}
	some action in ["update", "delete"]
	ownership.allow with input as _change(action, identity, _prototype)
}

test_entity_is_not_changed_by_stranger if {
	not ownership.allow with input as _change("update", _bob, _prototype)
	not ownership.allow with input as _change("delete", _bob, _prototype)
}

test_production_is_updated_but_not_deleted if {
	ownership.allow with input as _change("update", _ann, _storefront)
	not ownership.allow with input as _change("delete", _ann, _storefront)
}

test_production_is_deleted_by_admin if ownership.allow with input as _change("delete", _root, _storefront)

test_freeze_stops_changes_in_production if {
	ownership.allow with input as _change("update", _ann, _storefront) with ownership.config.change_freeze as false
	not ownership.allow with input as _change("update", _ann, _storefront) with ownership.config.change_freeze as true
}

test_freeze_leaves_the_rest_alone if {
	ownership.allow with input as _change("update", _ann, _prototype) with ownership.config.change_freeze as true
}

test_freeze_does_not_stop_admin if {
	ownership.allow with input as _change("update", _root, _storefront) with ownership.config.change_freeze as true
}

test_org_is_not_changed[note] if {
	some note in ["User", "group", "Domain"]
	entity := object.union(_prototype, {"kind": note})
	not ownership.allow with input as _change("update", _ann, entity)
}

test_task_is_cancelled_by_creator if {
	permission := _scaffolder_permission("scaffolder.task.cancel", "scaffolder-task")
	task := {"id": "1", "createdBy": "user:default/ann"}
	ownership.allow with input as {"permission": permission, "identity": _ann, "resource": task}
	not ownership.allow with input as {"permission": permission, "identity": _bob, "resource": task}
	ownership.allow with input as {"permission": permission, "identity": _root, "resource": task}
}

test_internal_step_is_hidden if {
	permission := _scaffolder_permission("scaffolder.template.step.read", "scaffolder-template")
	hidden := {"action": "fetch:plain", "backstage:permissions": {"tags": ["internal"]}}
	not ownership.allow with input as {"permission": permission, "identity": _ann, "resource": hidden}
	ownership.allow with input as {"permission": permission, "identity": _root, "resource": hidden}
	ownership.allow with input as {"permission": permission, "identity": _ann, "resource": {"action": "fetch:plain"}}
}

test_restricted_action_is_not_run if {
	permission := _scaffolder_permission("scaffolder.action.execute", "scaffolder-action")
	restricted := {"action": "fs:delete", "input": {}}
	publish := {"action": "publish:github", "input": {}}
	not ownership.allow with input as {"permission": permission, "identity": _ann, "resource": restricted}
	ownership.allow with input as {"permission": permission, "identity": _root, "resource": restricted}
	ownership.allow with input as {"permission": permission, "identity": _ann, "resource": publish}
}

test_basic_permission_is_allowed[note] if {
	some note, permission in {
		"read locations": {"name": "catalog.location.read", "type": "basic", "attributes": {"action": "read"}},
		"run templates": {"name": "scaffolder.task.create", "type": "basic", "attributes": {"action": "create"}},
	}
	ownership.allow with input as {"permission": permission, "identity": _bob}
}

test_basic_permission_is_denied[note] if {
	some note, permission in {
		"ingestion": {"name": "catalog.ingestion.read", "type": "basic", "attributes": {"action": "read"}},
		"devtools": {"name": "devtools.config", "type": "basic", "attributes": {"action": "read"}},
		"create": {"name": "catalog.entity.create", "type": "basic", "attributes": {"action": "create"}},
		"no action": {"name": "kubernetes.proxy", "type": "basic", "attributes": {}},
	}
	not ownership.allow with input as {"permission": permission, "identity": _bob}
	ownership.allow with input as {"permission": permission, "identity": _root}
}

test_policies_are_not_read if {
	permission := {
		"name": "policy.entity.read",
		"type": "resource",
		"attributes": {"action": "read"},
		"resourceType": "policy-entity",
	}
	not ownership.allow with input as {"permission": permission, "identity": _bob, "resource": {}}
}

_read(identity, entity) := {
	"permission": _entity_permission("catalog.entity.read", "read"),
	"identity": identity,
	"resource": entity,
}

_change(action, identity, entity) := {
	"permission": _entity_permission(_permissions[action], action),
	"identity": identity,
	"resource": entity,
}

_permissions := {"update": "catalog.entity.refresh", "delete": "catalog.entity.delete"}

_entity_permission(name, action) := {
	"name": name,
	"type": "resource",
	"attributes": {"action": action},
	"resourceType": "catalog-entity",
}

_scaffolder_permission(name, resource_type) := {
	"name": name,
	"type": "resource",
	"attributes": _scaffolder_attributes(name),
	"resourceType": resource_type,
}

_scaffolder_attributes(name) := {"action": "read"} if {
	endswith(name, ".read")
} else := {}

_with_annotation(entity, visibility) := object.union(
	entity,
	{"metadata": {"annotations": {"example.com/visibility": visibility}}},
)

_ann := {"user": "user:default/ann", "claims": ["user:default/ann", "group:default/web"]}

_bob := {"user": "user:default/bob", "claims": ["user:default/bob", "group:default/sales"]}

_moe := {"user": "user:default/moe", "claims": ["user:default/moe", "group:default/platform"]}

_root := {"user": "user:default/root", "claims": ["user:default/root", "group:default/admins"]}

_storefront := {
	"apiVersion": "backstage.io/v1alpha1",
	"kind": "Component",
	"metadata": {"name": "storefront", "labels": {"example.com/maintainer": "platform"}},
	"spec": {"type": "website", "lifecycle": "production", "owner": "web"},
	"relations": [{"type": "ownedBy", "targetRef": "group:default/web"}],
}

_prototype := object.union(_storefront, {"spec": {"lifecycle": "experimental"}})
