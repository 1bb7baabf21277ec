// Package wire is Backstage's contract on the wire: the authorize request and
// its answer, decisions, and the error body.
//
// The shapes and checks are those of @backstage/plugin-permission-backend
// 0.7.18 and @backstage/plugin-permission-common 0.9.13, with the differences
// that docs/differences.md names.
package wire

import (
	"github.com/stagedoor/stagedoor/adapter/criteria"
)

// Request is a decoded authorize request.
type Request struct {
	Items []Item
}

// Item is one question of a batch.
type Item struct {
	// ID is the id as the JSON string it came as, quotes included, so that it is
	// echoed as it stood. Ids need not be unique.
	ID         string
	Permission Permission
	Ref        Ref
}

// Permission is the permission asked for.
type Permission struct {
	Name string
	// Action is create, read, update or delete, or empty where none was given.
	Action string
	// Resource is whether the permission is about a resource (type "resource");
	// otherwise it is a basic one.
	Resource bool
	// ResourceType is the type of that resource; empty for a basic permission,
	// though the request may name one there.
	ResourceType string
}

// Ref is the resourceRef of an [Item]: absent, one, or a list.
type Ref struct {
	// Of holds the refs in the order given; it is nil where the member was absent.
	Of []string
	// List is whether the refs came as an array, and so are answered by one.
	List bool
}

// Result is what a decision comes to.
type Result uint8

const (
	// Deny is the zero Result, so that a decision that was forgotten denies.
	Deny Result = iota
	// Allow is an unconditional yes.
	Allow
	// Conditional is a yes for those resources that fulfil the conditions.
	Conditional
)

// Decision is a policy's answer for one permission and caller, already checked
// and in canonical form. It is immutable and safe for concurrent use.
type Decision struct {
	Result Result
	// PluginID, ResourceType and Conditions belong to Conditional alone.
	PluginID     string
	ResourceType string
	Conditions   criteria.Criteria
}
