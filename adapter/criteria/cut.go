package criteria

import "slices"

const (
	// maxWidth is how many different functions a diagram may lead to below a cut.
	maxWidth = 64
	// minCut is how many variables a function must have to be cut.
	minCut = 4
	// maxLeaves is how many leaves a cut may come to. "30 of 60" has 209,856.
	maxLeaves = 250_000
)

// cut writes a function from its diagram, divided at the middle of its variables. The
// upper variables lead to functions of the lower ones, of which there are few where a
// policy counts: all that matters is how many of the upper rules hold. With f below
// for each of these functions,
//
//	function = (the upper variables lead to f, or to a function that f implies, and f)
//	           or the same of the next one, and so on
//
// Both sides are written in the same way again. So "k of n" is "i of the first half,
// and k-i of the second", for every i.
//
// It reports false where there are too few variables, too many functions, too many
// leaves or no steps left.
func (d *diagram) cut(e edge) (t tree, ok bool) {
	if d.cutting {
		return d.halves(e)
	}
	d.cutting = true
	if !d.within(func() { t, ok = d.halves(e) }) {
		ok = false
	}
	d.cutting = false
	d.cuts = d.cuts || ok
	return t, ok
}

func (d *diagram) halves(e edge) (tree, bool) {
	levels := d.levels(e)
	if len(levels) < minCut {
		return tree{}, false
	}
	at := levels[len(levels)/2]
	below, ok := d.below(e, at)
	if !ok {
		return tree{}, false
	}
	var of []tree
	leaves := 0
	for _, f := range below {
		implied := make(map[edge]bool) // the functions that f implies, and f
		stronger := no                 // what the functions that imply f come to
		for _, g := range below {
			switch {
			case d.and(f, g.not()) == no:
				implied[g] = true
			case d.and(g, f.not()) == no:
				stronger = d.or(stronger, g)
			}
		}
		if stronger == f { // Wherever f holds one of them does, and they are written.
			continue
		}
		upper, err := d.write(d.leading(e, at, implied, make(map[edge]edge)))
		if err != nil {
			return tree{}, false
		}
		lower, err := d.write(f)
		if err != nil {
			return tree{}, false
		}
		of = append(of, list(AllOf, []tree{upper, lower}))
		if leaves += upper.leaves() + lower.leaves(); leaves > maxLeaves {
			return tree{}, false
		}
	}
	return list(AnyOf, of), true
}

// levels are those that a function depends on, in ascending order.
func (d *diagram) levels(e edge) []int {
	var levels []int
	seen := make(map[edge]bool)
	var visit func(edge)
	visit = func(e edge) {
		e &^= 1
		if e == no || seen[e] {
			return
		}
		seen[e] = true
		n := d.nodes[e>>1]
		levels = append(levels, n.level)
		visit(n.lo)
		visit(n.hi)
	}
	visit(e)
	slices.Sort(levels)
	return slices.Compact(levels)
}

// below are the functions that the variables above a level lead to, but for the one
// that never holds, in the order in which they are met. It reports false where there
// are too many.
func (d *diagram) below(e edge, level int) ([]edge, bool) {
	var below []edge
	seen := make(map[edge]bool)
	var visit func(edge) bool
	visit = func(e edge) bool {
		if e == no || seen[e] {
			return true
		}
		seen[e] = true
		at := d.bdd.level(e)
		if at >= level {
			below = append(below, e)
			return len(below) <= maxWidth
		}
		lo, hi := d.cofactors(e, at)
		return d.step(1) && visit(lo) && visit(hi)
	}
	return below, visit(e)
}

// leading is where the variables above a level lead to one of some functions.
func (d *diagram) leading(e edge, level int, to map[edge]bool, known map[edge]edge) edge {
	at := d.bdd.level(e)
	if at >= level {
		if to[e] {
			return yes
		}
		return no
	}
	f, ok := known[e]
	if !ok {
		lo, hi := d.cofactors(e, at)
		f = d.node(at, d.leading(lo, level, to, known), d.leading(hi, level, to, known))
		known[e] = f
	}
	return f
}
