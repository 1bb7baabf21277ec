// Package bundles holds the ready policies, each a bundle in a folder of its
// own: .manifest with the roots, policy.rego, its tests, and data.json.
//
// The one that is compiled in is the default policy, which [Default] returns. It
// serves where the configuration names no other. [RBAC] is what a policy that comes
// over from the RBAC plugin decides by. They all are files to start from:
//
//	default     users read, owners change, admins may do everything
//	regulated   denials first: separate duties, confidential entities, a break-glass group
//	ownership   a larger policy about the resource: visibility, freezes, the scaffolder
//	rbac        roles and bindings as data: as the community RBAC plugin means them, or as grants
//	wrapper     in the form that users of the OPA wrapper module have
//
// Default, ownership and regulated are written about the resource and import the rule
// library, package rego; rbac and wrapper answer with a decision document. Each has
// tests and a decision table of every permission of the stock plugins.
package bundles

import (
	"embed"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

//go:embed default/.manifest default/policy.rego default/data.json
//go:embed rbac/policy.rego rbac/data.schema.json
var files embed.FS

//go:embed all:default all:ownership all:rbac all:regulated
var starts embed.FS

// Names are those of the policies to start from.
func Names() []string { return []string{"default", "ownership", "rbac", "regulated"} }

// Start returns the files of a policy to start from: .manifest at the root, policy,
// tests, data and decision tables. The error is that there is none of the name. It is
// safe for concurrent use.
func Start(name string) (fs.FS, error) {
	if !slices.Contains(Names(), name) {
		return nil, fmt.Errorf("there is no policy %q to start from: want %s", name, strings.Join(Names(), ", "))
	}
	return fs.Sub(starts, name)
}

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
