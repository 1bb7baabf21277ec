// Package bundles holds the ready policies, each a bundle in a folder of its
// own: .manifest with the roots, policy.rego, its tests, and data.json.
//
// The one that is compiled in is the default policy, which [Default] returns. It
// serves where the configuration names no other. [RBAC] is what a policy that comes
// over from the RBAC plugin decides by. They all are files to start from:
//
//	default     users read, owners change, admins may do everything
//	ownership   a larger policy about the resource: visibility, freezes, the scaffolder
//	rbac        roles and bindings as data: as the community RBAC plugin means them, or as grants
//	wrapper     in the form that users of the OPA wrapper module have
//
// The first two are written about the resource and import the rule library,
// package rego; the last two answer with a decision document.
package bundles

import (
	"embed"
	"io/fs"
)

//go:embed default/.manifest default/policy.rego default/data.json
//go:embed rbac/policy.rego rbac/data.schema.json
var files embed.FS

// Default returns the files of the default bundle, .manifest at the root,
// without tests. It is safe for concurrent use.
func Default() fs.FS { return bundle("default") }

// RBAC returns policy.rego and data.schema.json of the bundle rbac, for data of one's
// own. It is safe for concurrent use.
func RBAC() fs.FS { return bundle("rbac") }

func bundle(name string) fs.FS {
	bundle, err := fs.Sub(files, name)
	if err != nil { // fs.Sub refuses invalid paths alone, and this one is a constant.
		panic(err)
	}
	return bundle
}
