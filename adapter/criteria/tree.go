package criteria

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// tree is criteria in the making: negation stands at the leaves alone, and a list
// holds neither constants nor a list of its own kind.
type tree struct {
	op      Op // Never, Always, Leaf, AllOf or AnyOf
	rule    Rule
	list    *anyList
	negated bool
	of      []tree

	variables []int // of a leaf: those whose leaves were joined to this one
}

func constant(holds bool) tree {
	if holds {
		return tree{op: Always}
	}
	return tree{op: Never}
}

func dual(op Op) Op {
	switch op {
	case Never:
		return Always
	case Always:
		return Never
	case AllOf:
		return AnyOf
	case AnyOf:
		return AllOf
	}
	return op
}

// not is the tree that holds where t does not.
func (t tree) not() tree {
	t.op = dual(t.op)
	t.negated = t.op == Leaf && !t.negated
	of := make([]tree, len(t.of))
	for i, child := range t.of {
		of[i] = child.not()
	}
	t.of = of
	return t
}

// list joins trees by op.
func list(op Op, of []tree) tree {
	neutral, absorbing := Always, Never
	if op == AnyOf {
		neutral, absorbing = Never, Always
	}
	flat := make([]tree, 0, len(of))
	for _, t := range of {
		switch t.op {
		case absorbing:
			return t
		case neutral:
		case op:
			flat = append(flat, t.of...)
		default:
			flat = append(flat, t)
		}
	}
	flat = joinLeaves(op, flat)
	switch len(flat) {
	case 0:
		return tree{op: neutral}
	case 1:
		return flat[0]
	}
	return tree{op: op, of: flat}
}

// settled drops leaves whose rule a leaf around them has settled: what an allOf asks
// holds in its other branches, and what an anyOf asks does not. Joining leaves can
// have made a leaf that is asked around it already.
func (t tree) settled(known map[Rule]bool) tree {
	if t.op == Leaf {
		if holds, ok := known[t.rule]; ok {
			return constant(holds != t.negated)
		}
		return t
	}
	if t.op != AllOf && t.op != AnyOf {
		return t
	}
	of := slices.Clone(t.of)
	var own []Rule
	for i, child := range of {
		if of[i] = child; child.op == Leaf {
			if of[i] = child.settled(known); of[i].op == Leaf {
				known[child.rule] = child.negated != (t.op == AllOf)
				own = append(own, child.rule)
			}
		}
	}
	for i, child := range of {
		if child.op == AllOf || child.op == AnyOf {
			of[i] = child.settled(known)
		}
	}
	for _, rule := range own {
		delete(known, rule)
	}
	return list(t.op, of)
}

func (t tree) leaves() int {
	if t.op == Leaf {
		return 1
	}
	n := 0
	for _, child := range t.of {
		n += child.leaves()
	}
	return n
}

// joinLeaves replaces leaves of a rule that differ only in the list which means
// "any of" by one with the union of the lists: they stand in an anyOf, or negated
// in an allOf.
func joinLeaves(op Op, of []tree) []tree {
	first := make(map[alike]int)
	kept := of[:0:0]
	for _, t := range of {
		if t.op != Leaf || t.list == nil || t.negated != (op == AllOf) {
			kept = append(kept, t)
			continue
		}
		k := alike{t.rule.Name, t.rule.ResourceType, t.list.before, t.list.after}
		if i, ok := first[k]; ok {
			kept[i].list = kept[i].list.union(t.list)
			kept[i].variables = slices.Concat(kept[i].variables, t.variables)
			continue
		}
		first[k] = len(kept)
		kept = append(kept, t)
	}
	for _, i := range first {
		kept[i].rule.Params = kept[i].list.params()
	}
	return kept
}

// anyList is params as JSON with a list in them that means "any of".
type anyList struct {
	before, after string
	elements      []string // sorted, each there once
}

func newAnyList(params map[string]any, name string, list []any) (*anyList, error) {
	var p parser
	elements := make([]string, len(list))
	for i, element := range list {
		b, err := p.appendValue(nil, element, 1)
		if err != nil {
			return nil, within("."+name+"["+strconv.Itoa(i)+"]", err)
		}
		elements[i] = string(b)
	}
	slices.Sort(elements)
	l := &anyList{elements: slices.Compact(elements)}
	b := []byte{'{'}
	for i, member := range slices.Sorted(maps.Keys(params)) {
		if i > 0 {
			b = append(b, ',')
		}
		var err error
		if b, err = appendString(b, member); err != nil {
			return nil, err
		}
		b = append(b, ':')
		if member == name {
			l.before, b = string(b), nil
		} else if b, err = p.appendValue(b, params[member], 2); err != nil {
			return nil, within("."+member, err)
		}
	}
	l.after = string(append(b, '}'))
	return l, nil
}

func (l *anyList) params() string {
	return l.before + "[" + strings.Join(l.elements, ",") + "]" + l.after
}

func (l *anyList) union(other *anyList) *anyList {
	elements := slices.Concat(l.elements, other.elements)
	slices.Sort(elements)
	return &anyList{l.before, l.after, slices.Compact(elements)}
}

// criteria writes the tree. Negated members of a list stand together under one
// not; leaves come before nots and lists, each in the order of their text.
func (t tree) criteria() Criteria {
	switch t.op {
	case Leaf:
		c := Criteria{Op: Leaf, Rule: t.rule}
		if t.negated {
			return Criteria{Op: Not, Of: []Criteria{c}}
		}
		return c
	case AllOf, AnyOf:
		return t.listed()
	}
	return Criteria{Op: t.op}
}

// listed writes a list.
func (t tree) listed() Criteria {
	var of, nots []Criteria
	for _, child := range t.of {
		if child.op == Leaf && child.negated {
			nots = append(nots, Criteria{Op: Leaf, Rule: child.rule})
		} else {
			of = append(of, child.criteria())
		}
	}
	if len(nots) == 1 {
		of = append(of, Criteria{Op: Not, Of: nots})
	} else if len(nots) > 1 {
		sortCriteria(nots)
		of = append(of, Criteria{Op: Not, Of: []Criteria{{Op: dual(t.op), Of: nots}}})
	}
	if len(of) == 1 {
		return of[0]
	}
	sortCriteria(of)
	return Criteria{Op: t.op, Of: of}
}

func sortCriteria(of []Criteria) { slices.SortFunc(of, Criteria.compare) }

func (c Criteria) compare(other Criteria) int {
	return cmp.Or(cmp.Compare(c.Op, other.Op), c.Rule.compare(other.Rule),
		slices.CompareFunc(c.Of, other.Of, Criteria.compare))
}
