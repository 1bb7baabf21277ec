package criteria

import (
	"cmp"
	"errors"
	"slices"
)

const (
	// maxWork is how many steps a function may take to be minimised. A step is the
	// conjunction of two nodes of a diagram, or a look at a product to factor a sum;
	// all of them take some tenths of a second.
	maxWork = 2_000_000
	// maxLooking is how many steps it may take to find out whether a function holds
	// anywhere.
	maxLooking = 200_000
	// treeWork is how many steps a node of the tree is worth, written without being
	// minimised.
	treeWork = 40
	// maxLiterals is how many literals a sum of products may have, which is what
	// functions that share rules are read from.
	maxLiterals = 50_000
	// maxFactored is how many times the literals may be more than the leaves of a cut for
	// the sum to be factored at all.
	maxFactored = 2
	// maxPruned is how many leaves a tree may have for what can be dropped to be looked
	// for. What counts rules alone has nothing to drop, however large it is.
	maxPruned = 2_000
	// literalsOfStep is how many literals of a sum are written in the time of a step.
	literalsOfStep = 20
)

// ErrTooLarge is that a function of many rules is too intertwined to be written as
// criteria of a sensible size.
var ErrTooLarge = errors.New("the condition is too intertwined to be written as criteria")

// Minimise writes a function as criteria: a constant where it is one, or else a
// tree of which no branch and no leaf could be dropped, factored, with lists
// neither empty nor of one element nor within lists of the same kind.
//
// Leaves of one rule that a list holds together are joined to one where the rule
// has a parameter that means "any of". The tree depends on the function and not
// on how it was put together, up to the bounds of what is tried; the order of the
// leaves is that of their rules.
//
// The error is [ErrTooLarge], where even that takes too long.
func (s *Space) Minimise(f Function) (Criteria, error) {
	m := minimiser{space: s, work: maxWork}
	t, err := m.tree(f)
	if err != nil {
		return Criteria{}, err
	}
	if atoms := m.atoms(f); len(atoms) > 0 {
		if other, err := m.tree(m.substitute(f, atoms)); err == nil && other.leaves() < t.leaves() {
			t = other
		}
	}
	return t.settled(make(map[Rule]bool)).criteria(), nil
}

// Possible is whether a function holds under some answers. Where that takes too long
// to find out, it says that it does.
func (s *Space) Possible(f Function) bool {
	d, e := s.whole(f)
	return e != no || d.over
}

// Model returns answers under which a function holds: whether other functions do.
// It returns false where there are none, or finding them takes too long.
func (s *Space) Model(f Function) (answers func(Function) bool, ok bool) {
	d, e := s.whole(f)
	if e == no || d.over {
		return nil, false
	}
	known := make(map[Function]bool)
	for e != yes {
		level := d.bdd.level(e)
		lo, hi := d.cofactors(e, level)
		variable := s.byRule[s.variables[d.order[level]].rule]
		known[variable] = lo == no
		if e = lo; lo == no {
			e = hi
		}
	}
	return func(f Function) bool { return s.holds(f, known) }, true
}

// whole is a function as a diagram.
func (s *Space) whole(f Function) (*diagram, edge) {
	m := minimiser{space: s, work: maxWork}
	d := m.diagram(m.support(f))
	d.work = maxLooking
	e := d.build(f)
	return d, e
}

// holds is whether a function holds, given where some do. Rules that are not among
// those do not.
func (s *Space) holds(f Function, known map[Function]bool) bool {
	if f == Denied || f == Granted {
		return f == Granted
	}
	positive := f &^ 1
	value, ok := known[positive]
	if !ok {
		if n := s.nodes[f>>1]; n.of != nil {
			value = !slices.ContainsFunc(n.of, func(f Function) bool { return !s.holds(f, known) })
		}
		known[positive] = value
	}
	return value != f.negated()
}

type minimiser struct {
	space *Space
	work  int // what is left of maxWork
}

// tree writes a function. A conjunction falls apart into groups that share no
// rule; what is least for each is least for all.
func (m *minimiser) tree(f Function) (tree, error) {
	if m.work -= treeWork; m.work < 0 {
		return tree{}, ErrTooLarge
	}
	if f == Denied || f == Granted {
		return constant(f == Granted), nil
	}
	n := m.space.nodes[f>>1]
	if n.variable >= 0 {
		return m.leaf(n.variable, f.negated()), nil
	}
	parts, possible := m.flatten(f &^ 1)
	if !possible {
		return constant(f.negated()), nil
	}
	groups := m.groups(parts)
	of := make([]tree, len(groups))
	for i, group := range groups {
		var err error
		if len(group) == 1 {
			of[i], err = m.tree(group[0])
		} else {
			of[i], err = m.shared(group)
		}
		if err != nil {
			return tree{}, err
		}
	}
	t := list(AllOf, of)
	if f.negated() {
		t = t.not()
	}
	return t, nil
}

func (m *minimiser) leaf(variable int, negated bool) tree {
	v := m.space.variables[variable]
	return tree{op: Leaf, rule: v.rule, list: v.list, negated: negated, variables: []int{variable}}
}

// flatten returns the functions whose conjunction f is, none of them a
// conjunction itself. It reports false where two of them exclude each other.
func (m *minimiser) flatten(f Function) (parts []Function, possible bool) {
	seen := make(map[Function]bool)
	var visit func(Function) bool
	visit = func(f Function) bool {
		if seen[f] {
			return true
		}
		seen[f] = true
		m.work--
		n := m.space.nodes[f>>1]
		if n.variable >= 0 || f.negated() {
			parts = append(parts, f)
			return !seen[f.Not()]
		}
		for _, part := range n.of {
			if !visit(part) {
				return false
			}
		}
		return true
	}
	possible = visit(f)
	return parts, possible
}

// groups are the parts that share rules, directly or by way of other parts.
func (m *minimiser) groups(parts []Function) [][]Function {
	owner := make(map[int]int) // the part that first had the variable
	of := newPartition(len(parts))
	for i, part := range parts {
		for _, v := range m.support(part) {
			if first, ok := owner[v]; ok {
				of.join(first, i)
			} else {
				owner[v] = i
			}
		}
	}
	var groups [][]Function
	for _, members := range of.groups() {
		group := make([]Function, len(members))
		for i, member := range members {
			group[i] = parts[member]
		}
		groups = append(groups, group)
	}
	return groups
}

// support are the variables that a function is put together from, in ascending
// order.
func (m *minimiser) support(of ...Function) []int {
	var support []int
	seen := make(map[Function]bool)
	var visit func(Function)
	visit = func(f Function) {
		f &^= 1
		if seen[f] {
			return
		}
		seen[f] = true
		m.work--
		n := m.space.nodes[f>>1]
		if n.variable >= 0 {
			support = append(support, n.variable)
		}
		for _, part := range n.of {
			visit(part)
		}
	}
	for _, f := range of {
		visit(f)
	}
	slices.Sort(support)
	return support
}

// shared writes the conjunction of parts that share rules. Where it is too large
// to be looked at as one function, it is written as it was put together, its parts
// looked at each by itself. So that there is work left for them, no function takes
// more than a quarter of what is left.
func (m *minimiser) shared(parts []Function) (tree, error) {
	asked := m.support(parts...)
	for _, order := range [][]int{m.sorted(asked), asked} {
		d := m.diagram(order)
		t, err := d.minimal(d.conjunction(parts))
		m.work -= m.work/4 - max(d.work, 0)
		if err == nil {
			return t, nil
		}
	}
	of := make([]tree, len(parts))
	for i, part := range parts {
		var err error
		if of[i], err = m.tree(part); err != nil {
			return tree{}, err
		}
	}
	return list(AllOf, of), nil
}

// sorted are variables in the order of their rules.
func (m *minimiser) sorted(variables []int) []int {
	return slices.SortedFunc(slices.Values(variables), func(a, b int) int {
		return m.space.variables[a].rule.compare(m.space.variables[b].rule)
	})
}

func (r Rule) compare(other Rule) int {
	return cmp.Or(cmp.Compare(r.Name, other.Name), cmp.Compare(r.ResourceType, other.ResourceType),
		cmp.Compare(r.Params, other.Params))
}

// diagram is a bdd whose levels are variables of a space.
type diagram struct {
	*bdd
	m     *minimiser
	order []int       // the variable of each level
	level map[int]int // and back
	built map[Function]edge

	written map[edge]tree
	cutting bool // whether a function is being cut
	cuts    bool // whether one was
}

func (m *minimiser) diagram(order []int) *diagram {
	d := &diagram{bdd: newBDD(m.work / 4), m: m, order: order, level: make(map[int]int, len(order)),
		built: make(map[Function]edge), written: make(map[edge]tree)}
	for i, v := range order {
		d.level[v] = i
	}
	return d
}

func (d *diagram) conjunction(parts []Function) edge {
	of := make([]edge, len(parts))
	for i, part := range parts {
		of[i] = d.build(part)
	}
	slices.SortStableFunc(of, func(a, b edge) int { return cmp.Compare(d.bdd.level(a), d.bdd.level(b)) })
	return d.all(of)
}

func (d *diagram) build(f Function) edge {
	if f == Denied || f == Granted {
		return edge(f)
	}
	positive := f &^ 1
	e, ok := d.built[positive]
	if !ok {
		if n := d.m.space.nodes[f>>1]; n.variable >= 0 {
			e = d.variable(d.level[n.variable])
		} else {
			e = d.conjunction(n.of)
		}
		d.built[positive] = e
	}
	return e ^ edge(f&1)
}

// minimal writes a function as a tree of which no branch and no leaf could be
// dropped.
func (d *diagram) minimal(e edge) (tree, error) {
	t, err := d.write(e)
	if err == nil && d.cuts && t.size() <= maxPruned {
		d.within(func() { t = d.pruned(t) })
	}
	return t, err
}

// write writes a function, read from an irredundant sum of products of its own or of
// its complement. Where the products fall apart into groups that share no variable,
// so does the function, into a disjunction or a conjunction; what does not is
// factored, or cut where that is smaller.
func (d *diagram) write(e edge) (tree, error) {
	switch {
	case d.over:
		return tree{}, ErrTooLarge
	case e == no || e == yes:
		return constant(e == yes), nil
	case e&1 != 0: // A function and its complement are written alike.
		t, err := d.write(e.not())
		return t.not(), err
	}
	t, ok := d.written[e]
	if !ok {
		var err error
		if t, err = d.smallest(e); err != nil {
			return tree{}, err
		}
		d.written[e] = t
	}
	return t, nil
}

// smallest is the smallest of the ways in which a function is written.
func (d *diagram) smallest(e edge) (tree, error) {
	sum, err := d.products(e)
	if err == nil {
		if groups := components(sum); len(groups) > 1 {
			return d.split(groups)
		}
	}
	nots, errNots := d.products(e.not())
	if errNots == nil {
		if groups := components(nots); len(groups) > 1 {
			t, err := d.split(groups)
			return t.not(), err
		}
	}
	least, ok := d.cut(e)
	for _, way := range []struct {
		cubes   []cube
		negated bool
		err     error
	}{{sum, false, err}, {nots, true, errNots}} {
		if way.err != nil || ok && literals(way.cubes) > maxFactored*least.leaves() {
			continue
		}
		t := d.factor(way.cubes)
		if d.over {
			return tree{}, ErrTooLarge
		}
		if way.negated {
			t = t.not()
		}
		if !ok || t.leaves() <= least.leaves() && !way.negated || t.leaves() < least.leaves() {
			least, ok = t, true
		}
	}
	if !ok {
		return tree{}, ErrTooLarge
	}
	return least, nil
}

// literals is how many literals cubes have.
func literals(cubes []cube) int {
	n := 0
	for _, c := range cubes {
		n += len(c)
	}
	return n
}

// split writes the disjunction of groups of cubes that share no variable.
func (d *diagram) split(groups [][]cube) (tree, error) {
	of := make([]tree, len(groups))
	for i, group := range groups {
		if len(group) == 1 {
			of[i] = d.product(group[0])
			continue
		}
		var err error
		if of[i], err = d.write(d.sum(group)); err != nil {
			return tree{}, err
		}
	}
	return list(AnyOf, of), nil
}

// sum is the function that is the disjunction of the cubes.
func (d *diagram) sum(cubes []cube) edge {
	nots := make([]edge, len(cubes))
	for i, c := range cubes {
		literals := make([]edge, len(c))
		for j, l := range c {
			literals[j] = d.variable(int(l>>1)) ^ edge(l&1)
		}
		nots[i] = d.all(literals).not()
	}
	return d.all(nots).not()
}

func (d *diagram) product(c cube) tree {
	of := make([]tree, len(c))
	for i, l := range c {
		of[i] = d.m.leaf(d.order[l>>1], l&1 != 0)
	}
	return list(AllOf, of)
}

// components are the cubes that share variables, directly or by way of others.
func components(cubes []cube) [][]cube {
	owner := make(map[literal]int)
	of := newPartition(len(cubes))
	for i, c := range cubes {
		for _, l := range c {
			if first, ok := owner[l>>1]; ok {
				of.join(first, i)
			} else {
				owner[l>>1] = i
			}
		}
	}
	var groups [][]cube
	for _, members := range of.groups() {
		group := make([]cube, len(members))
		for i, member := range members {
			group[i] = cubes[member]
		}
		groups = append(groups, group)
	}
	return groups
}

// factor writes a sum of products by algebraic factoring: no literal is written
// more often than the sum has it.
func (d *diagram) factor(cubes []cube) tree {
	if !d.step(len(cubes)) {
		return tree{}
	}
	if len(cubes) == 1 {
		return d.product(cubes[0])
	}
	if groups := components(cubes); len(groups) > 1 {
		of := make([]tree, len(groups))
		for i, group := range groups {
			of[i] = d.factor(group)
		}
		return list(AnyOf, of)
	}
	common, cubes := commonCube(cubes)
	if len(common) > 0 {
		return list(AllOf, []tree{d.product(common), d.factor(cubes)})
	}
	l, ok := mostFrequent(cubes)
	if !ok {
		of := make([]tree, len(cubes))
		for i, c := range cubes {
			of[i] = d.product(c)
		}
		return list(AnyOf, of)
	}
	var with []cube
	for _, c := range cubes {
		if i, ok := slices.BinarySearch(c, l); ok {
			with = append(with, slices.Delete(slices.Clone(c), i, i+1))
		}
	}
	_, divisor := commonCube(with)
	if !d.step(len(divisor) * len(cubes)) {
		return tree{}
	}
	quotient, rest := divide(cubes, divisor)
	t := list(AllOf, []tree{d.factor(quotient), d.factor(divisor)})
	if len(rest) == 0 {
		return t
	}
	return list(AnyOf, []tree{t, d.factor(rest)})
}

// commonCube are the literals that all cubes have, and the cubes without them.
func commonCube(cubes []cube) (cube, []cube) {
	common := slices.Clone(cubes[0])
	for _, c := range cubes[1:] {
		if len(common) == 0 {
			return nil, cubes
		}
		common = slices.DeleteFunc(common, func(l literal) bool { return !has(c, l) })
	}
	if len(common) == 0 {
		return nil, cubes
	}
	without := make([]cube, len(cubes))
	for i, c := range cubes {
		without[i] = minus(c, common)
	}
	return common, without
}

func has(c cube, l literal) bool {
	_, ok := slices.BinarySearch(c, l)
	return ok
}

func minus(c, other cube) cube {
	return slices.DeleteFunc(slices.Clone(c), func(l literal) bool { return has(other, l) })
}

// mostFrequent is the literal that most cubes have, if two or more have it.
func mostFrequent(cubes []cube) (literal, bool) {
	count := make(map[literal]int)
	var most literal
	for _, c := range cubes {
		for _, l := range c {
			count[l]++
		}
	}
	for l, n := range count {
		if n > count[most] || n == count[most] && l < most {
			most = l
		}
	}
	return most, count[most] > 1
}

// divide returns the cubes whose products with every cube of the divisor are
// among the cubes, and the cubes that are not such a product.
func divide(cubes, divisor []cube) (quotient, rest []cube) {
	count := make(map[string]int)
	byKey := make(map[string]cube)
	var order []string
	for _, by := range divisor {
		for _, c := range cubes {
			q := minus(c, by)
			if len(q) != len(c)-len(by) {
				continue
			}
			k := keyOf(q)
			if count[k]++; count[k] == 1 {
				byKey[k] = q
				order = append(order, k)
			}
		}
	}
	product := make(map[string]bool)
	for _, k := range order {
		if count[k] < len(divisor) {
			continue
		}
		q := byKey[k]
		quotient = append(quotient, q)
		for _, by := range divisor {
			whole := slices.Concat(q, by)
			slices.Sort(whole)
			product[keyOf(whole)] = true
		}
	}
	for _, c := range cubes {
		if !product[keyOf(c)] {
			rest = append(rest, c)
		}
	}
	return quotient, rest
}

// partition is a set of numbers that fall into groups.
type partition []int

func newPartition(n int) partition {
	p := make(partition, n)
	for i := range p {
		p[i] = i
	}
	return p
}

func (p partition) find(i int) int {
	for p[i] != i {
		p[i] = p[p[i]]
		i = p[i]
	}
	return i
}

func (p partition) join(i, j int) {
	i, j = p.find(i), p.find(j)
	p[max(i, j)] = min(i, j)
}

// groups are the groups in the order of their least members.
func (p partition) groups() [][]int {
	var groups [][]int
	number := make(map[int]int)
	for i := range p {
		root := p.find(i)
		n, ok := number[root]
		if !ok {
			n = len(groups)
			number[root] = n
			groups = append(groups, nil)
		}
		groups[n] = append(groups[n], i)
	}
	return groups
}
