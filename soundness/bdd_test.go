package soundness

import (
	"math/rand/v2"
	"testing"

	"github.com/stagedoor/stagedoor/adapter/criteria"
)

// A bdd is a reduced ordered binary decision diagram over the leaves of criteria, in the order in which they are first
// met. Two criteria are the same function of their leaves if and only if they are the same node. It shares no code with
// the one by which exploration works, which is the point.
type bdd struct {
	rules []criteria.Rule
	index map[criteria.Rule]int
	nodes []bddNode
	ids   map[bddNode]int
	ites  map[[3]int]int
}

// A bddNode tests one rule: hi is the node where it holds, lo where it does not.
type bddNode struct{ rule, lo, hi int }

// The two constants, the first nodes of every bdd.
const (
	bddFalse = 0
	bddTrue  = 1
)

// terminal is the rule of the constants: after every rule.
const terminal = 1 << 30

func newBDD() *bdd {
	return &bdd{
		index: map[criteria.Rule]int{},
		nodes: []bddNode{{rule: terminal}, {rule: terminal}},
		ids:   map[bddNode]int{},
		ites:  map[[3]int]int{},
	}
}

func (b *bdd) node(rule, lo, hi int) int {
	if lo == hi {
		return lo
	}
	n := bddNode{rule, lo, hi}
	id, ok := b.ids[n]
	if !ok {
		id = len(b.nodes)
		b.nodes = append(b.nodes, n)
		b.ids[n] = id
	}
	return id
}

func (b *bdd) cofactors(id, rule int) (lo, hi int) {
	if n := b.nodes[id]; n.rule == rule {
		return n.lo, n.hi
	}
	return id, id
}

// ite is the node of: if f then g else h.
func (b *bdd) ite(f, g, h int) int {
	switch {
	case f == bddTrue || g == h:
		return g
	case f == bddFalse:
		return h
	}
	key := [3]int{f, g, h}
	if id, ok := b.ites[key]; ok {
		return id
	}
	rule := min(b.nodes[f].rule, b.nodes[g].rule, b.nodes[h].rule)
	fl, fh := b.cofactors(f, rule)
	gl, gh := b.cofactors(g, rule)
	hl, hh := b.cofactors(h, rule)
	id := b.node(rule, b.ite(fl, gl, hl), b.ite(fh, gh, hh))
	b.ites[key] = id
	return id
}

func (b *bdd) and(f, g int) int { return b.ite(f, g, bddFalse) }
func (b *bdd) or(f, g int) int  { return b.ite(f, bddTrue, g) }
func (b *bdd) not(f int) int    { return b.ite(f, bddFalse, bddTrue) }

// add returns the node of c.
func (b *bdd) add(c criteria.Criteria) int {
	switch c.Op {
	case criteria.Always:
		return bddTrue
	case criteria.Leaf:
		rule, ok := b.index[c.Rule]
		if !ok {
			rule = len(b.rules)
			b.index[c.Rule] = rule
			b.rules = append(b.rules, c.Rule)
		}
		return b.node(rule, bddFalse, bddTrue)
	case criteria.Not:
		return b.not(b.add(c.Of[0]))
	case criteria.AllOf:
		id := bddTrue
		for _, child := range c.Of {
			id = b.and(id, b.add(child))
		}
		return id
	case criteria.AnyOf:
		id := bddFalse
		for _, child := range c.Of {
			id = b.or(id, b.add(child))
		}
		return id
	}
	return bddFalse
}

// A sop is the size of a sum of products.
type sop struct{ products, literals int }

// isop returns the size of an irredundant sum of products of f, and f: no product and no literal of it could be
// dropped. S. Minato, "Fast generation of irredundant sum-of-products forms from binary decision diagrams", 1992:
// the sum lies between lower and upper, which are the same at the top.
func (b *bdd) isop(f int) sop {
	size, _ := b.isopBetween(f, f, map[[2]int]isopResult{})
	return size
}

type isopResult struct {
	size sop
	node int
}

func (b *bdd) isopBetween(lower, upper int, done map[[2]int]isopResult) (sop, int) {
	switch {
	case lower == bddFalse:
		return sop{}, bddFalse
	case upper == bddTrue:
		return sop{products: 1}, bddTrue
	}
	key := [2]int{lower, upper}
	if r, ok := done[key]; ok {
		return r.size, r.node
	}
	rule := min(b.nodes[lower].rule, b.nodes[upper].rule)
	ll, lh := b.cofactors(lower, rule)
	ul, uh := b.cofactors(upper, rule)
	negative, n := b.isopBetween(b.and(ll, b.not(uh)), ul, done)
	positive, p := b.isopBetween(b.and(lh, b.not(ul)), uh, done)
	rest := b.or(b.and(ll, b.not(n)), b.and(lh, b.not(p)))
	both, r := b.isopBetween(rest, b.and(ul, uh), done)
	size := sop{
		products: negative.products + positive.products + both.products,
		literals: negative.literals + negative.products + positive.literals + positive.products + both.literals,
	}
	node := b.or(b.node(rule, n, p), r)
	done[key] = isopResult{size, node}
	return size, node
}

// leaves returns the number of leaves of c, its size.
func leaves(c criteria.Criteria) int {
	if c.Op == criteria.Leaf {
		return 1
	}
	n := 0
	for _, child := range c.Of {
		n += leaves(child)
	}
	return n
}

// TestBDD holds the diagram to the truth table, on random criteria over five rules.
func TestBDD(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		b := newBDD()
		for _, name := range []string{"a", "b", "c", "d", "e"} {
			b.add(criteria.Criteria{Op: criteria.Leaf, Rule: criteria.Rule{Name: name}})
		}
		c := randomCriteria(r, 4)
		f := b.add(c)
		sum := b.isop(f)
		if _, node := b.isopBetween(f, f, map[[2]int]isopResult{}); node != f {
			t.Fatalf("%+v: the sum of products is another function", c)
		}
		if sum.products == 0 != (f == bddFalse) {
			t.Fatalf("%+v: a sum of %d products", c, sum.products)
		}
		for assignment := range 1 << len(b.rules) {
			id := f
			for id != bddTrue && id != bddFalse {
				n := b.nodes[id]
				id = n.lo
				if assignment&(1<<n.rule) != 0 {
					id = n.hi
				}
			}
			want := holds(c, func(r criteria.Rule) bool { return assignment&(1<<b.index[r]) != 0 })
			if got := id == bddTrue; got != want {
				t.Fatalf("%+v under %b: %v", c, assignment, got)
			}
		}
	}
}

// holds evaluates c by the definition of its nodes.
func holds(c criteria.Criteria, leaf func(criteria.Rule) bool) bool {
	switch c.Op {
	case criteria.Always:
		return true
	case criteria.Leaf:
		return leaf(c.Rule)
	case criteria.Not:
		return !holds(c.Of[0], leaf)
	case criteria.AllOf:
		for _, child := range c.Of {
			if !holds(child, leaf) {
				return false
			}
		}
		return true
	case criteria.AnyOf:
		for _, child := range c.Of {
			if holds(child, leaf) {
				return true
			}
		}
	}
	return false
}

func randomCriteria(r *rand.Rand, depth int) criteria.Criteria {
	op := []criteria.Op{criteria.AllOf, criteria.AnyOf, criteria.Not, criteria.Leaf, criteria.Leaf}[r.IntN(5)]
	if depth == 0 {
		op = criteria.Leaf
	}
	switch op {
	case criteria.Leaf:
		return criteria.Criteria{Op: op, Rule: criteria.Rule{Name: string(rune('a' + r.IntN(5)))}}
	case criteria.Not:
		return criteria.Criteria{Op: op, Of: []criteria.Criteria{randomCriteria(r, depth-1)}}
	}
	c := criteria.Criteria{Op: op}
	for range 1 + r.IntN(3) {
		c.Of = append(c.Of, randomCriteria(r, depth-1))
	}
	return c
}
