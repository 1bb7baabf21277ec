package backstage.authz

import data.backstage.authz.todo

# METADATA
# title: Todos
# description: Users change their own todos, until those are archived.
allow if {
	input.permission.resourceType == "todo-item"
	input.permission.attributes.action in {"update", "delete"}
	todo.is_owner(input.resource, {"userId": input.identity.user})
	not todo.has_status(input.resource, {"statuses": ["archived"]})
}
