// Package wire is Backstage's contract on the wire: the authorize request and
// its answer, decisions, and the error body.
//
// [ReadBody] takes a request's body off the connection and [DecodeRequest] reads
// it; both are strict and bounded. A policy's answer becomes a [Decision] in
// [ParseDecision], the only way in for foreign decisions. [AppendAnswers] writes
// the answer to a request, and [WriteError] is the one place that writes errors.
//
// The shapes and checks are those of @backstage/plugin-permission-backend
// 0.7.18 and @backstage/plugin-permission-common 0.9.13, with the differences
// that docs/differences.md names.
package wire

// Request is a decoded authorize request.
type Request struct {
	Items []Item
}

// NamesResources reports whether every question about a resource says which. A user who
// asks without one would be told the conditions.
func (r Request) NamesResources() bool {
	for i := range r.Items {
		if r.Items[i].Permission.Resource && !r.Items[i].Ref.Given() {
			return false
		}
	}
	return true
}

// PermissionsOf returns what the items ask about, in their order.
func PermissionsOf(items []Item) []Permission {
	permissions := make([]Permission, len(items))
	for i := range items {
		permissions[i] = items[i].Permission
	}
	return permissions
}

// Item is one question of a batch. ID and Ref share memory with the whole
// request; clone what is to outlive it.
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

// Given reports whether there is a resource to decide for: a list, or one ref
// that is not the empty string. Plugins may ask without; users may not, as they
// would be told the conditions.
func (r Ref) Given() bool {
	return r.List || len(r.Of) == 1 && r.Of[0] != ""
}
