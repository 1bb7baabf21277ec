// Package criteria is the algebra of Backstage permission criteria: trees of
// rules joined by allOf, anyOf and not, as a CONDITIONAL decision carries them
// and apply-conditions evaluates them.
//
// A tree is read from foreign JSON by [Parse], which accepts only what every
// Backstage reader understands in one way, brought to a small canonical form by
// [Criteria.Normalise], written by [Criteria.AppendJSON] and decided by
// [Criteria.Eval]. The package is pure: no I/O, no clock, no other package of
// stagedoor.
//
// The shape is that of PermissionCriteria in @backstage/plugin-permission-common
// 0.9.13.
package criteria

// Op says what a [Criteria] node is.
type Op uint8

const (
	// Never holds for no resource. It is the zero Op, so that a tree that was
	// forgotten denies.
	Never Op = iota
	// Always holds for every resource.
	Always
	// Leaf holds where its rule does.
	Leaf
	// Not holds where its one child does not.
	Not
	// AllOf holds where every child does.
	AllOf
	// AnyOf holds where some child does.
	AnyOf
)

// Rule is a permission rule of a plugin with its parameters. Two rules that are
// == ask the same question.
type Rule struct {
	// Name is the rule's name, such as IS_ENTITY_OWNER.
	Name string
	// ResourceType is the type of resource it judges, such as catalog-entity.
	ResourceType string
	// Params is the params object as compact JSON with sorted member names, or
	// empty where the rule came without params.
	Params string
}

// Criteria is one node of a tree, immutable once made and so safe for
// concurrent use. The zero Criteria is [Never].
type Criteria struct {
	Op   Op
	Rule Rule       // of a Leaf
	Of   []Criteria // the child of a Not, the children of an AllOf or AnyOf
}
