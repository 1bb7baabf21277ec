package backstage.rbac_test

import data.backstage.rbac

test_is_owner_passes[note] if {
	some note, role in {
		"owner": {"owner": "user:default/ann", "isDefault": false},
		"owner where default is not said": {"owner": "user:default/ann"},
		"default role": {"owner": "user:default/eve", "isDefault": true},
		"default role without an owner": {"isDefault": true},
	}
	rbac.is_owner(role, {"owners": ["group:default/web", "user:default/ann"]})
}

test_is_owner_fails[note] if {
	some note, role in {
		"another": {"owner": "user:default/eve"},
		"another case": {"owner": "user:default/Ann"},
		"no owner": {"isDefault": false},
		"empty owner": {"owner": ""},
	}
	not rbac.is_owner(role, {"owners": ["user:default/ann", ""]})
}
