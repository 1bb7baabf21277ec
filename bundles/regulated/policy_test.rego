package regulated_test

import data.regulated

test_production_is_not_deleted if {
	not regulated.allow with input as _delete(_ann, _entity({}, "production"))
	regulated.allow with input as _delete(_ann, _entity({}, "experimental"))
}

test_owner_does_not_change_what_is_regulated if {
	not regulated.allow with input as _refresh(_ann, _entity(_is_regulated, "experimental"))
	regulated.allow with input as _refresh(_ann, _entity({}, "experimental"))
}

test_custodian_changes_what_is_regulated if {
	regulated.allow with input as _refresh(_cus, _entity(_is_regulated, "experimental"))
	not regulated.allow with input as _refresh(_cus, _entity({}, "experimental"))
}

test_custodian_who_owns_does_not if {
	both := {"user": "user:default/both", "claims": ["group:default/custodians", "group:default/web"]}
	not regulated.allow with input as _refresh(both, _entity(_is_regulated, "experimental"))
}

test_confidential_is_seen_by_the_cleared if {
	secret := _entity({"example.com/confidential": "true"}, "production")
	not regulated.allow with input as _read(_ann, secret)
	regulated.allow with input as _read({"user": "user:default/cleo", "claims": ["group:default/cleared"]}, secret)
	regulated.allow with input as _read(_ann, _entity({}, "production"))
}

test_task_is_for_its_creator[note] if {
	some note, permission in {
		"read": _task_permission("scaffolder.task.read", {"action": "read"}),
		"cancel": _task_permission("scaffolder.task.cancel", {}),
	}
	regulated.allow with input as {"permission": permission, "identity": _ann, "resource": _task}
	not regulated.allow with input as {"permission": permission, "identity": _cus, "resource": _task}
}

test_templates_are_run if regulated.allow with input as {
	"permission": {"name": "scaffolder.task.create", "type": "basic", "attributes": {"action": "create"}},
	"identity": _ann,
}

test_glass_is_broken if {
	regulated.allow with input as _delete(_bea, _entity(_is_regulated, "production"))
	not regulated.allow with input as _delete(_bea, _entity(_is_regulated, "production"))
		with regulated.break_glass as []
}

test_nothing_without_identity if not regulated.allow with input as {
	"permission": _permission("catalog.entity.read", "read"),
	"resource": _entity({}, "x"),
}

_task := {"id": "1", "createdBy": "user:default/ann"}

_task_permission(name, attributes) := {
	"name": name,
	"type": "resource",
	"attributes": attributes,
	"resourceType": "scaffolder-task",
}

_read(identity, entity) := _asked("catalog.entity.read", "read", identity, entity)

_refresh(identity, entity) := _asked("catalog.entity.refresh", "update", identity, entity)

_delete(identity, entity) := _asked("catalog.entity.delete", "delete", identity, entity)

_asked(name, action, identity, entity) := {
	"permission": _permission(name, action),
	"identity": identity,
	"resource": entity,
}

_permission(name, action) := {
	"name": name,
	"type": "resource",
	"attributes": {"action": action},
	"resourceType": "catalog-entity",
}

_ann := {"user": "user:default/ann", "claims": ["user:default/ann", "group:default/web"]}

_cus := {"user": "user:default/cus", "claims": ["user:default/cus", "group:default/custodians"]}

_bea := {"user": "user:default/bea", "claims": ["user:default/bea", "group:default/break-glass"]}

_is_regulated := {"example.com/regulated": "true"}

_entity(labels, lifecycle) := {
	"apiVersion": "backstage.io/v1alpha1",
	"kind": "Component",
	"metadata": {"name": "ledger", "labels": labels},
	"spec": {"type": "service", "lifecycle": lifecycle, "owner": "web"},
	"relations": [{"type": "ownedBy", "targetRef": "group:default/web"}],
}
