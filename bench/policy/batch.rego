# METADATA
# description: |
#   The batch that an OPA server can answer: one query over many inputs.
package bench

import data.rbac_policy

# METADATA
# description: The decision on each of the permissions, for one caller.
decisions := [decision |
	some permission in input.permissions
	decision := rbac_policy.decision with input as {"permission": permission, "identity": input.identity}
]
