// Package rego is the rule library: the permission rules of Backstage's plugins
// as Rego functions, and the JSON Schemas of what a policy sees.
//
// A policy imports the package of a plugin and calls its functions with the
// resource and the rule's params:
//
//	import data.backstage.catalog
//
//	allow if catalog.is_entity_owner(input.resource, {"claims": input.identity.claims})
//
// Each rule is a public function with two arguments, annotated by METADATA with
// the scope document and
//
//	custom:
//	  backstage:
//	    pluginId: catalog               the plugin that owns the resource type
//	    resourceType: catalog-entity    what the first argument is
//	    rule: IS_ENTITY_OWNER           the rule's name in Backstage
//	    anyOf: claims                   the list parameter that means "any of", where there is one
//	    words: owned by {claims}        how it is said (package adapter/words)
//	    paramsSchema: {…}               JSON Schema (draft-07) of the second argument
//
// Its body means exactly what the plugin's own rule means, so that a policy can
// be tested on whole resources by stock opa test. The plugins' versions, and the
// few places where Rego cannot mirror JavaScript, are in the METADATA of each
// package. A team's own rules are functions annotated alike, in its own bundle.
//
// The tree is meant to be used as files too:
//
//	opa test rego bundles/default
//	opa check --strict --schema rego/schemas rego bundles
//
// Package system.log is apart: what the decision log leaves out unless a bundle
// says otherwise, as OPA's own system packages do.
//
// The schemas bear the extension .jsonschema, not .json, since opa would load
// the latter as data.
package rego

import (
	"embed"
	"encoding/json"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
)

// Files is the tree: the modules below backstage, a folder for each plugin with
// tests beside, the mask of the decision log, and the schemas.
//
//go:embed backstage schemas system
var Files embed.FS

// Modules returns the library's modules without its tests: source by path, such
// as backstage/catalog/catalog.rego.
func Modules() map[string]string {
	modules := read("backstage", ".rego")
	for path := range modules {
		if strings.HasSuffix(path, "_test.rego") {
			delete(modules, path)
		}
	}
	return modules
}

// Manifest is the .manifest of the library as a bundle: its roots are the folders of
// the plugins. Beside it a policy has roots of its own, so that stock opa builds one
// bundle of both.
func Manifest() string {
	roots := map[string]bool{}
	for file := range Modules() {
		roots[path.Dir(file)] = true
	}
	text, err := json.Marshal(map[string]any{"roots": slices.Sorted(maps.Keys(roots)), "rego_version": 1})
	if err != nil { // It is made of texts.
		panic(err)
	}
	return string(text) + "\n"
}

// Mask returns the module that masks the decision log where no bundle does.
func Mask() string { return read("system/log", "mask.rego")["system/log/mask.rego"] }

// Schemas returns the JSON Schemas by the name that METADATA knows them by:
// input, the document that a policy sees; entity, a catalog entity as its
// resource; decision, the answer of a decision-style policy.
func Schemas() map[string]string {
	schemas := make(map[string]string)
	for path, source := range read("schemas", ".jsonschema") {
		name := strings.TrimSuffix(strings.TrimPrefix(path, "schemas/"), ".jsonschema")
		schemas[name] = source
	}
	return schemas
}

// read returns the embedded files below root whose names end in suffix.
func read(root, suffix string) map[string]string {
	found := make(map[string]string)
	err := fs.WalkDir(Files, root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, suffix) {
			return err
		}
		source, err := Files.ReadFile(path)
		found[path] = string(source)
		return err
	})
	if err != nil { // What is embedded can be read.
		panic(err)
	}
	return found
}
