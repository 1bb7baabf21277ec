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
//
// # Boolean functions
//
// Criteria are a boolean function of the answers to their rules. A [Space] holds
// such functions while a decision is put together: [Space.Rule] makes a variable,
// and [Space.All], [Space.Any], [Function.Not] and [Space.If] join functions. The
// Space shares equal parts, and so keeps a graph and no tree: an and-inverter graph,
// in which a disjunction is the complement of a conjunction. A [Function] is a
// number, twice that of its node, and one more where it is the complement of the
// node.
//
// Putting functions together costs little and finds out nothing. [Space.Minimise]
// finds out: what a function comes to, and how to say it in few words. It takes one
// way all along:
//
//	the function     (owner and open) or (owner and not open and tier1)
//	the diagram      owner? open? yes : tier1? yes : no : no
//	its products     owner and open, or owner and tier1
//	factored         owner and (open or tier1)
//	criteria         {allOf: [owner, {anyOf: [open, tier1]}]}
//
// First a conjunction falls apart into groups of parts that share no rule. What is
// smallest for each group is smallest for the whole, so a policy with hundreds of
// independent rules is never looked at as one function.
//
// The diagram of a group is a reduced ordered binary decision diagram (BDD): each
// node asks one rule and leads to one function where the rule holds and to another
// where it does not, by Shannon's expansion
//
//	f = (x and f where x holds) or (not x and f where x does not)
//
// The rules are asked in one order on every path, and equal functions are one node.
// So two functions are equal exactly where their nodes are, however they were put
// together. This is also how functions are compared. A complement costs nothing,
// being a bit of the edge that leads to the node.
//
// From the diagram comes an irredundant sum of products by the method of Minato and
// Morreale: each product is as short as it can be, and none can be left out. Where
// the products fall into groups that share no rule, the function is the disjunction
// of these, each written by itself. Where those of the complement do, it is the
// conjunction. Otherwise the sum is factored as a polynomial is: what the products
// have in common is taken out, the sum is divided by what is left, and no rule is
// written more often than before.
//
// Some functions have very many products: "5 of 12" has 792. Such a function is cut.
// The diagram is divided at the middle of its rules. The upper half leads to few
// different functions of the lower half, because only the number of rules that hold
// matters. The function is the disjunction over these: the upper half leads there,
// and the lower function holds. Each side is written in the same way. "2 of n" takes
// about n log n leaves then, and "5 of 12" takes 164. A branch or leaf that a cut
// leaves without effect is pruned.
//
// The smallest of these ways is taken. The work is bounded; a diagram that outgrows
// it is tried in the order in which the rules were put together, and then each part
// of it by itself. Where all of that outgrows it too, the error is [ErrTooLarge].
//
// # Lists that mean "any of"
//
// IS_ENTITY_OWNER with two claims holds where it holds with one of them. Such a list
// makes rules that are not independent. So [Space.Minimise] also tries the function
// with rules whose lists do not overlap, and leaves that stand in one anyOf are
// joined to one leaf.
//
// # Comparing
//
// [Space.Difference] is where one function holds and another does not,
// [Space.Implies] and [Space.Equal] say whether there is such a place, and
// [Space.Witness] gives answers under which a function holds. [Space.Assume] notes
// what is known of all resources, such as that no entity has two kinds; comparisons
// leave out the answers that it makes impossible.
//
// # References
//
// Randal E. Bryant, "Graph-Based Algorithms for Boolean Function Manipulation", 1986.
// Shin-ichi Minato, "Binary Decision Diagrams and Applications for VLSI CAD", 1996.
// Robert K. Brayton and others, "MIS: A Multiple-Level Logic Optimization System",
// 1987, for factoring.
package criteria

import (
	"encoding/json"
	"iter"
	"slices"
	"strconv"
	"strings"
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

// Decoded is the params as encoding/json decodes them, with numbers as they are written;
// nil where the rule came without.
func (r Rule) Decoded() any {
	d := json.NewDecoder(strings.NewReader(r.Params))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil {
		return nil
	}
	return v
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
