// Package bundles holds the ready policies, each a bundle in a folder of its
// own: .manifest with the roots, policy.rego, its tests, and data.json.
//
// The one that is compiled in is the default policy, which [Default] returns. It
// serves where the configuration names no other. The rest are files to start
// from:
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
var files embed.FS

// Default returns the files of the default bundle, .manifest at the root,
// without tests. It is safe for concurrent use.
func Default() fs.FS {
	bundle, err := fs.Sub(files, "default")
	if err != nil { // fs.Sub refuses invalid paths alone, and this one is a constant.
		panic(err)
	}
	return bundle
}
