package criteria

import "slices"

// Normalise returns a tree that holds for the same resources and that every
// Backstage reader accepts: a constant, or a tree without constants and without
// empty lists.
//
// An empty anyOf is [Never] and an empty allOf [Always], as in Backstage's own
// evaluation; constants are folded into what holds them, equal siblings become
// one, and a list of one becomes its element. Nothing else changes: the order
// stays, and so do double negations and lists within lists, so that authors find
// in the answer what they wrote.
func (c Criteria) Normalise() Criteria {
	switch c.Op {
	case Not:
		return negate(c.child().Normalise())
	case AllOf:
		return join(AllOf, c.Of, Always, Never)
	case AnyOf:
		return join(AnyOf, c.Of, Never, Always)
	default:
		return c
	}
}

// Degenerate reports whether there is a constant or an empty list in the tree, which
// Backstage's readers refuse.
func (c Criteria) Degenerate() bool {
	switch c.Op {
	case Leaf:
		return false
	case Not, AllOf, AnyOf:
		return len(c.Of) == 0 || slices.ContainsFunc(c.Of, Criteria.Degenerate)
	default:
		return true
	}
}

func negate(c Criteria) Criteria {
	switch c.Op {
	case Never:
		return Criteria{Op: Always}
	case Always:
		return Criteria{Op: Never}
	default:
		return Criteria{Op: Not, Of: []Criteria{c}}
	}
}

// join builds a list of op from children that are not normal yet. Of the two
// constants, neutral changes nothing in the list and absorbing decides it.
func join(op Op, children []Criteria, neutral, absorbing Op) Criteria {
	of := make([]Criteria, 0, len(children))
	seen := make(map[identity]bool, len(children))
	for _, child := range children {
		child = child.Normalise()
		switch child.Op {
		case neutral:
			continue
		case absorbing:
			return child
		}
		if id := child.identity(); !seen[id] {
			seen[id] = true
			of = append(of, child)
		}
	}
	switch len(of) {
	case 0:
		return Criteria{Op: neutral}
	case 1:
		return of[0]
	default:
		return Criteria{Op: op, Of: of}
	}
}

// identity is the same for equal trees and for no others: a leaf's rule, or the
// JSON of a larger tree.
type identity struct {
	rule Rule
	tree string
}

func (c Criteria) identity() identity {
	if c.Op == Leaf {
		return identity{rule: c.Rule}
	}
	return identity{tree: string(c.AppendJSON(nil))}
}
