package backstage.catalog_test

import data.backstage.catalog

test_is_entity_owner_passes_for_claim[note] if {
	some note, claims in {
		"only claim": ["group:default/web"],
		"one of many": ["user:default/ann", "group:default/web"],
		"second owner": ["user:other/bob"],
	}
	catalog.is_entity_owner(_storefront, {"claims": claims})
}

test_is_entity_owner_fails_for_claim[note] if {
	some note, claims in {
		"none": [],
		"a stranger": ["user:default/ann"],
		"another case": ["Group:default/web"],
		"a short name": ["web"],
		"the raw owner of the spec": ["Web"],
		"the target of another relation": ["system:default/shop"],
	}
	not catalog.is_entity_owner(_storefront, {"claims": claims})
}

test_is_entity_owner_fails_without_relations[note] if {
	some note, entity in {
		"no member": _minimal,
		"none": object.union(_minimal, {"relations": []}),
		"no target": object.union(_minimal, {"relations": [{"type": "ownedBy"}]}),
	}
	not catalog.is_entity_owner(entity, {"claims": ["group:default/web"]})
}

test_is_entity_kind_passes[note] if {
	some note, kinds in {
		"same": ["Component"],
		"another case": ["cOMPONENT"],
		"one of many": ["API", "component"],
	}
	catalog.is_entity_kind(_storefront, {"kinds": kinds})
}

test_is_entity_kind_fails[note] if {
	some note, kinds in {
		"none": [],
		"another": ["API"],
		"a part": ["Comp"],
	}
	not catalog.is_entity_kind(_storefront, {"kinds": kinds})
}

test_has_label_passes[note] if {
	some note, params in {
		"key": {"label": "team"},
		"key in another case": {"label": "TEAM"},
		"key of an empty value": {"label": "empty"},
		"value": {"label": "team", "value": "Web"},
		"value in another case": {"label": "Team", "value": "wEB"},
		"empty value": {"label": "empty", "value": ""},
		"long value": {"label": "long", "value": upper(_text(201))},
	}
	catalog.has_label(_storefront, params)
}

test_has_label_fails[note] if {
	some note, params in {
		"another key": {"label": "tea"},
		"another value": {"label": "team", "value": "shop"},
		"no value": {"label": "team", "value": ""},
		"an annotation": {"label": "example.com/repo"},
	}
	not catalog.has_label(_storefront, params)
}

test_has_label_fails_without_labels if not catalog.has_label(_minimal, {"label": "team"})

test_has_annotation_passes[note] if {
	some note, params in {
		"key": {"annotation": "example.com/repo"},
		"key in another case": {"annotation": "Example.com/Repo"},
		"value": {"annotation": "example.com/repo", "value": "Shop/Storefront"},
		"value in another case": {"annotation": "example.com/repo", "value": "shop/storefront"},
		"long value": {"annotation": "long", "value": _text(201)},
	}
	catalog.has_annotation(_storefront, params)
}

test_has_annotation_fails[note] if {
	some note, params in {
		"another key": {"annotation": "example.com"},
		"another value": {"annotation": "example.com/repo", "value": "shop"},
		"a label": {"annotation": "team"},
	}
	not catalog.has_annotation(_storefront, params)
}

test_has_annotation_fails_without_annotations if {
	not catalog.has_annotation(_minimal, {"annotation": "example.com/repo"})
}

# The catalog refuses such an entity; what is not text equals no value.
test_has_annotation_fails_for_number if {
	entity := {"metadata": {"annotations": {"tier": 1}}}
	catalog.has_annotation(entity, {"annotation": "tier"})
	not catalog.has_annotation(entity, {"annotation": "tier", "value": "1"})
}

test_has_metadata_passes[note] if {
	some note, params in {
		"name": {"key": "name", "value": "STOREFRONT"},
		"namespace by default": {"key": "namespace", "value": "default"},
		"uid that is not given": {"key": "uid"},
		"label": {"key": "labels.team", "value": "web"},
		"annotation": {"key": "annotations.Example.com/repo", "value": "shop/storefront"},
		"element": {"key": "tags", "value": "java"},
		"second element": {"key": "tags", "value": "go"},
		"element as key": {"key": "tags.java"},
		"element as key with value": {"key": "tags.java", "value": "true"},
		"element with a dot as key": {"key": "tags.node.js", "value": "true"},
		"member of an element": {"key": "links.url", "value": "http://docs.example.com"},
		"member of another element": {"key": "links.title", "value": "Docs"},
		"200 characters": {"key": "labels.limit", "value": _text(200)},
		"key of a long value": {"key": "labels.long"},
		"key of 200 characters": {"key": _text(191)},
	}
	catalog.has_metadata(_storefront, params)
}

test_has_metadata_fails[note] if {
	some note, params in {
		"etag": {"key": "etag"},
		"uid that is not given": {"key": "uid", "value": ""},
		"namespace": {"key": "namespace", "value": "other"},
		"object": {"key": "labels"},
		"empty key": {"key": ""},
		"part of a key": {"key": "nam"},
		"index of an element": {"key": "tags.0"},
		"element that is not text": {"key": "ports.80"},
		"empty list": {"key": "nothing"},
		"empty object": {"key": "nobody"},
		"201 characters": {"key": "labels.long", "value": _text(201)},
		"key of 201 characters": {"key": _text(192)},
		"spec": {"key": "lifecycle"},
	}
	not catalog.has_metadata(_storefront, params)
}

test_has_metadata_passes_for_namespace[note] if {
	some note, tc in {
		"given": {"namespace": "Other", "value": "other"},
		"empty": {"namespace": "", "value": ""},
		"empty means default": {"namespace": "", "value": "default"},
		"null means default": {"namespace": null, "value": "default"},
	}
	entity := {"metadata": {"name": "a", "namespace": tc.namespace}}
	catalog.has_metadata(entity, {"key": "namespace"})
	catalog.has_metadata(entity, {"key": "namespace", "value": tc.value})
}

test_has_metadata_fails_for_default_of_given_namespace if {
	entity := {"metadata": {"name": "a", "namespace": "other"}}
	not catalog.has_metadata(entity, {"key": "namespace", "value": "default"})
}

test_has_metadata_counts_utf16_units if {
	# 100 code points outside the basic plane are 200 units.
	entity := {"metadata": {
		"fits": concat("", [letter | some _ in numbers.range(1, 100); letter := "😀"]),
		"long": concat("", [letter | some _ in numbers.range(1, 101); letter := "😀"]),
	}}
	catalog.has_metadata(entity, {"key": "fits", "value": entity.metadata.fits})
	not catalog.has_metadata(entity, {"key": "long", "value": entity.metadata.long})
}

test_has_spec_passes[note] if {
	some note, params in {
		"text": {"key": "lifecycle", "value": "production"},
		"text in another case": {"key": "Lifecycle", "value": "PRODUCTION"},
		"owner as written": {"key": "owner", "value": "web"},
		"number": {"key": "replicas", "value": "3"},
		"whole number with a fraction": {"key": "whole", "value": "2"},
		"negative number": {"key": "offset", "value": "-7"},
		"fraction": {"key": "ratio", "value": "0.25"},
		"small number": {"key": "tiny", "value": "1e-7"},
		"large number": {"key": "huge", "value": "1e21"},
		"boolean": {"key": "public", "value": "TRUE"},
		"false": {"key": "frozen", "value": "false"},
		"null": {"key": "system"},
		"list in a list": {"key": "matrix", "value": "b"},
		"list in a list as key": {"key": "matrix.b"},
		"number in a list": {"key": "ports", "value": "80"},
		"nested": {"key": "deploy.region.name", "value": "eu"},
		"dotted": {"key": "deploy.cloud.zone", "value": "b"},
	}
	catalog.has_spec(_storefront, params)
}

test_has_spec_fails[note] if {
	some note, params in {
		"another value": {"key": "lifecycle", "value": "prod"},
		"text as key": {"key": "lifecycle.production"},
		"owner as a reference": {"key": "owner", "value": "group:default/web"},
		"null as text": {"key": "system", "value": "null"},
		"number in a list as key": {"key": "ports.80"},
		"object": {"key": "deploy"},
		"metadata": {"key": "name"},
	}
	not catalog.has_spec(_storefront, params)
}

test_has_spec_fails_without_spec if not catalog.has_spec(_minimal, {"key": "owner"})

_minimal := {"apiVersion": "backstage.io/v1alpha1", "kind": "Component", "metadata": {"name": "minimal"}}

_storefront := {
	"apiVersion": "backstage.io/v1alpha1",
	"kind": "Component",
	"metadata": {
		"name": "storefront",
		"etag": "abc",
		"labels": {"team": "Web", "empty": "", "limit": _text(200), "long": _text(201)},
		"annotations": {"example.com/repo": "Shop/Storefront", "long": _text(201)},
		"tags": ["Java", "go", "node.js"],
		"links": [{"url": "http://docs.example.com"}, {"title": "Docs"}],
		"ports": [80],
		"nothing": [],
		"nobody": {},
		_text(191): "fits",
		_text(192): "long",
	},
	"spec": {
		"type": "website",
		"lifecycle": "production",
		"owner": "Web",
		"system": null,
		"replicas": 3,
		"whole": 2.0,
		"offset": -7,
		"ratio": 0.25,
		"tiny": 1e-7,
		"huge": 1e21,
		"public": true,
		"frozen": false,
		"matrix": [["a", "B"], ["c"]],
		"ports": [80],
		"deploy": {"region": {"name": "EU"}, "cloud.zone": "b"},
	},
	"relations": [
		{"type": "ownedBy", "targetRef": "group:default/web"},
		{"type": "ownedBy", "targetRef": "user:other/bob"},
		{"type": "partOf", "targetRef": "system:default/shop"},
	],
}

_text(length) := concat("", [letter | some _ in numbers.range(1, length); letter := "x"])
