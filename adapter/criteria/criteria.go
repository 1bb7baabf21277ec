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

import (
	"iter"
	"slices"
	"strconv"
)

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

// Eval decides the tree, given the answer to each of its rules. A node is asked
// no more than its operator needs: the first false child ends an AllOf, the first
// true one an AnyOf.
//
// It panics on a node that neither [Parse] nor [Criteria.Normalise] makes, one
// with an unknown Op or a Not without its one child: under a Not, any guess there
// could allow.
func (c Criteria) Eval(answer func(Rule) bool) bool {
	holds := func(c Criteria) bool { return c.Eval(answer) }
	switch c.Op {
	case Never:
		return false
	case Always:
		return true
	case Leaf:
		return answer(c.Rule)
	case Not:
		return !holds(c.child())
	case AllOf:
		return !slices.ContainsFunc(c.Of, func(c Criteria) bool { return !holds(c) })
	case AnyOf:
		return slices.ContainsFunc(c.Of, holds)
	}
	panic(c.unknown())
}

// Rules yields the rules of the tree from left to right, one for each leaf, and
// so with repetitions.
func (c Criteria) Rules() iter.Seq[Rule] {
	return func(yield func(Rule) bool) { c.eachRule(yield) }
}

// eachRule is the walk of Rules; it reports whether to go on.
func (c Criteria) eachRule(yield func(Rule) bool) bool {
	if c.Op == Leaf {
		return yield(c.Rule)
	}
	for _, child := range c.Of {
		if !child.eachRule(yield) {
			return false
		}
	}
	return true
}

// Equal reports whether both trees are the same node for node, children in the
// same order. Trees that differ may still mean the same.
func (c Criteria) Equal(other Criteria) bool {
	return c.Op == other.Op && c.Rule == other.Rule && slices.EqualFunc(c.Of, other.Of, Criteria.Equal)
}

// child is the one child of a Not.
func (c Criteria) child() Criteria {
	if len(c.Of) != 1 {
		panic("criteria: a Not with " + strconv.Itoa(len(c.Of)) + " children")
	}
	return c.Of[0]
}

func (c Criteria) unknown() string { return "criteria: unknown Op " + strconv.Itoa(int(c.Op)) }
