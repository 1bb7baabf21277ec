package backstage.playlist_test

import data.backstage.playlist

test_is_owner_passes if {
	playlist.is_owner({"owner": "user:default/ann"}, {"owners": ["group:default/web", "user:default/ann"]})
}

test_is_owner_fails[note] if {
	some note, list in {
		"another": {"owner": "user:default/eve"},
		"another case": {"owner": "user:default/Ann"},
		"no owner": {"name": "Favourites"},
	}
	not playlist.is_owner(list, {"owners": ["user:default/ann"]})
}

test_is_public_passes if playlist.is_public({"public": true}, {})

test_is_public_fails[note] if {
	some note, list in {
		"private": {"public": false},
		"not said": {"name": "Favourites"},
	}
	not playlist.is_public(list, {})
}
