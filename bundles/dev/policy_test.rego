package backstage.authz_todo_test

import data.backstage.authz

_update := {
	"permission": {
		"name": "todo.item.update", "type": "resource",
		"attributes": {"action": "update"}, "resourceType": "todo-item",
	},
	"identity": {"user": "user:default/alice", "claims": ["user:default/alice"]},
}

_on(todo) := object.union(_update, {"resource": todo})

test_owner_may_update if authz.allow with input as _on({"owner": "user:default/alice", "status": "open"})

test_other_may_not if not authz.allow with input as _on({"owner": "user:default/bob", "status": "open"})

test_archived_stays if not authz.allow with input as _on({"owner": "user:default/alice", "status": "archived"})
