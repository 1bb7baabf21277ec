package criteria

import (
	"math"
	"slices"
)

// edge is a boolean function in a [bdd]: a node's number, shifted left by one,
// and in the lowest bit whether the function is the complement of the node's.
type edge int

const (
	no  edge = 0 // the terminal node
	yes edge = 1
)

func (e edge) not() edge { return e ^ 1 }

// bdd is a reduced ordered binary decision diagram with complement edges, so that
// equal functions are equal edges and the complement costs nothing. A variable is
// its level, counted from 0 at the root.
//
// Minato, "Binary Decision Diagrams and Applications for VLSI CAD", chapters 2
// and 5, describes the technique and the covers of isop.
type bdd struct {
	nodes  []bddNode
	unique map[bddNode]edge
	ands   map[[2]edge]edge
	isops  map[[2]edge]isop
	covers []coverNode
	sizes  []coverSize // of the first covers
	work   int         // how many steps are left
	over   bool        // whether they did not suffice; every edge is meaningless then
}

// bddNode is the function that is lo where the variable is false and hi where it
// is true. Its lo is never a complement.
type bddNode struct {
	level  int
	lo, hi edge
}

const terminal = math.MaxInt // the level of the terminal node, below all others

func newBDD(work int) *bdd {
	return &bdd{
		nodes:  []bddNode{{level: terminal}},
		unique: make(map[bddNode]edge),
		ands:   make(map[[2]edge]edge),
		isops:  make(map[[2]edge]isop),
		covers: []coverNode{{}, {}},
		sizes:  []coverSize{{}, {cubes: 1}},
		work:   work,
	}
}

func (b *bdd) level(e edge) int { return b.nodes[e>>1].level }

// cofactors are the functions that e is where the variable at level is false and
// where it is true.
func (b *bdd) cofactors(e edge, level int) (lo, hi edge) {
	n := &b.nodes[e>>1]
	if n.level != level {
		return e, e
	}
	return n.lo ^ e&1, n.hi ^ e&1
}

func (b *bdd) variable(level int) edge { return b.node(level, no, yes) }

func (b *bdd) node(level int, lo, hi edge) edge {
	if lo == hi {
		return lo
	}
	complement := lo & 1
	n := bddNode{level, lo ^ complement, hi ^ complement}
	e, ok := b.unique[n]
	if !ok {
		e = edge(len(b.nodes)) << 1
		b.nodes = append(b.nodes, n)
		b.unique[n] = e
	}
	return e ^ complement
}

func (b *bdd) and(x, y edge) edge {
	switch {
	case x == no || y == no || x == y.not():
		return no
	case x == yes || x == y:
		return y
	case y == yes:
		return x
	case !b.step(1):
		return no
	}
	if x > y {
		x, y = y, x
	}
	key := [2]edge{x, y}
	if e, ok := b.ands[key]; ok {
		return e
	}
	level := min(b.level(x), b.level(y))
	x0, x1 := b.cofactors(x, level)
	y0, y1 := b.cofactors(y, level)
	e := b.node(level, b.and(x0, y0), b.and(x1, y1))
	if !b.over {
		b.ands[key] = e
	}
	return e
}

// within does something with at most half of the steps that are left, and reports
// whether they sufficed. The other half is there afterwards.
func (b *bdd) within(do func()) bool {
	kept := b.work / 2
	b.work -= kept
	do()
	ok := !b.over
	b.work, b.over = max(b.work, 0)+kept, false
	return ok
}

// step takes steps and reports whether they sufficed.
func (b *bdd) step(n int) bool {
	b.work -= n
	b.over = b.over || b.work < 0
	return !b.over
}

func (b *bdd) or(x, y edge) edge { return b.and(x.not(), y.not()).not() }

// all is the conjunction of the functions. It halves the list, so that functions
// of variables one after the other cost no more than the variables.
func (b *bdd) all(of []edge) edge {
	switch len(of) {
	case 0:
		return yes
	case 1:
		return of[0]
	}
	half := len(of) / 2
	return b.and(b.all(of[:half]), b.all(of[half:]))
}

// literal is a variable's level, shifted left by one, and in the lowest bit
// whether it is negated.
type literal int

// cube is a product of literals in ascending order.
type cube []literal

// coverNode is a set of cubes: those of neg times the complement of the variable,
// those of pos times the variable, and those of rest. Of the first two, number 0
// is the empty set and number 1 the set of the empty cube.
type coverNode struct {
	level          int
	neg, pos, rest int
}

// isop is an irredundant sum of products and the function that it is.
type isop struct {
	cover int
	is    edge
}

// isop returns an irredundant sum of products, each product a prime, of some
// function between lower and upper.
func (b *bdd) isop(lower, upper edge) isop {
	switch {
	case lower == no || b.over:
		return isop{0, no}
	case upper == yes:
		return isop{1, yes}
	}
	key := [2]edge{lower, upper}
	if known, ok := b.isops[key]; ok {
		return known
	}
	level := min(b.level(lower), b.level(upper))
	l0, l1 := b.cofactors(lower, level)
	u0, u1 := b.cofactors(upper, level)
	neg := b.isop(b.and(l0, u1.not()), u0)
	pos := b.isop(b.and(l1, u0.not()), u1)
	rest := b.isop(b.or(b.and(l0, neg.is.not()), b.and(l1, pos.is.not())), b.and(u0, u1))
	found := isop{
		cover: b.coverNode(coverNode{level, neg.cover, pos.cover, rest.cover}),
		is:    b.node(level, b.or(neg.is, rest.is), b.or(pos.is, rest.is)),
	}
	if !b.over {
		b.isops[key] = found
	}
	return found
}

func (b *bdd) coverNode(n coverNode) int {
	if n.neg == 0 && n.pos == 0 {
		return n.rest
	}
	b.covers = append(b.covers, n)
	return len(b.covers) - 1
}

// products returns an irredundant sum of products of f, or ErrTooLarge where it
// would have more than maxLiterals literals.
func (b *bdd) products(f edge) ([]cube, error) {
	cover := b.isop(f, f).cover
	if b.over {
		return nil, ErrTooLarge
	}
	size := b.size(cover)
	if size.literals > maxLiterals || !b.step(size.literals/literalsOfStep) {
		return nil, ErrTooLarge
	}
	cubes := make([]cube, 0, size.cubes)
	var path cube
	var walk func(int)
	walk = func(cover int) {
		switch cover {
		case 0:
			return
		case 1:
			cubes = append(cubes, slices.Clone(path))
			return
		}
		n := b.covers[cover]
		path = append(path, literal(n.level<<1))
		walk(n.pos)
		path[len(path)-1] |= 1
		walk(n.neg)
		path = path[:len(path)-1]
		walk(n.rest)
	}
	walk(cover)
	return cubes, nil
}

// coverSize is how many cubes a cover has, and literals in them, each one more than
// maxLiterals where there are more.
type coverSize struct{ cubes, literals int }

// size counts the cubes of a cover without writing them.
func (b *bdd) size(cover int) coverSize {
	for len(b.sizes) < len(b.covers) { // A cover is made of earlier ones.
		n := b.covers[len(b.sizes)]
		neg, pos, rest := b.sizes[n.neg], b.sizes[n.pos], b.sizes[n.rest]
		cubes := neg.cubes + pos.cubes
		b.sizes = append(b.sizes, coverSize{
			cubes:    min(cubes+rest.cubes, maxLiterals+1),
			literals: min(cubes+neg.literals+pos.literals+rest.literals, maxLiterals+1),
		})
	}
	return b.sizes[cover]
}
