# METADATA
# title: A policy of which nothing may be remembered
# description: It reads the clock, so that every decision is evaluated.
# schemas:
#   - input: schema.input
package rbac_policy

# METADATA
# title: The decision
# description: Asked for every permission.
# entrypoint: true
default decision := {"result": "DENY"}

decision := {"result": "ALLOW"} if {
	data.rbac_policy.grants[input.permission.name].to == "users"
	input.identity.user
	time.now_ns() > data.rbac_policy.since
}
