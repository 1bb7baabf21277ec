package criteria

import (
	"slices"
	"strconv"
)

// Unknown returns a variable of its own, for a question whose answer nobody will
// tell. [Space.Certain] takes it out again: a Function with unknown variables must
// not be minimised, since no criteria can ask about them.
func (s *Space) Unknown() Function {
	s.unknown++
	return s.variable(variable{rule: Rule{Params: "unknown " + strconv.Itoa(s.unknown)}, unknown: true})
}

// Certain is where f holds whatever the answers to the unknown variables are: the
// universal quantification of f over them. It has no unknown variables.
//
// The error is [ErrTooLarge].
func (s *Space) Certain(f Function) (Function, error) {
	if s.unknown == 0 {
		return f, nil
	}
	q := quantifier{Space: s, supports: make(map[int][]int), done: make(map[Function]Function)}
	certain := q.certain(f)
	if q.work > maxQuantified {
		return Denied, ErrTooLarge
	}
	return certain, nil
}

// Unknowns are the unknown variables that f is written with.
func (s *Space) Unknowns(f Function) []Function {
	var list []Function
	for _, v := range (&minimiser{space: s}).support(f) {
		if s.variables[v].unknown {
			list = append(list, s.byRule[s.variables[v].rule])
		}
	}
	return list
}

// maxQuantified is how many steps it may take to quantify.
const maxQuantified = 50_000

// quantifier takes unknown variables out of functions. It moves the quantifier
// inwards as far as it goes and splits into both answers, which is Shannon's
// expansion, only what remains together.
type quantifier struct {
	*Space
	supports map[int][]int // the unknown variables that nodes depend on, sorted
	done     map[Function]Function
	work     int
}

// unknowns are the unknown variables that a function depends on.
func (q *quantifier) unknowns(f Function) []int {
	node := int(f >> 1)
	if known, ok := q.supports[node]; ok {
		return known
	}
	var list []int
	if n := q.nodes[node]; n.variable >= 0 && q.variables[n.variable].unknown {
		list = []int{n.variable}
	} else {
		for _, child := range n.of {
			list = append(list, q.unknowns(child)...)
		}
		slices.Sort(list)
		list = slices.Compact(list)
	}
	q.supports[node] = list
	return list
}

// certain ends because what it calls itself for is a part of f, or has an unknown
// variable less.
func (q *quantifier) certain(f Function) Function {
	if q.work++; q.work > maxQuantified || len(q.unknowns(f)) == 0 {
		return f
	}
	if known, ok := q.done[f]; ok {
		return known
	}
	n := q.nodes[f>>1]
	certain := Denied // of an unknown variable, and of its negation
	switch {
	case n.variable >= 0:
	case f.negated():
		certain = q.anyOf(n.of)
	default:
		all := make([]Function, len(n.of))
		for i, child := range n.of {
			all[i] = q.certain(child)
		}
		certain = q.All(all...)
	}
	q.done[f] = certain
	return certain
}

// anyOf is where one of the functions certainly does not hold. The quantifier can
// be moved to each group of functions that share no unknown variable with others.
func (q *quantifier) anyOf(nots []Function) Function {
	group := make(map[int]int) // by unknown variable
	var groups [][]Function
	var anyOf []Function
	for _, not := range nots {
		f, unknowns := not.Not(), q.unknowns(not)
		if len(unknowns) == 0 {
			anyOf = append(anyOf, f)
			continue
		}
		into := len(groups)
		groups = append(groups, []Function{f})
		for _, v := range unknowns {
			if of, ok := group[v]; ok && of != into {
				groups[into], groups[of] = append(groups[into], groups[of]...), nil
				for u := range group {
					if group[u] == of {
						group[u] = into
					}
				}
			}
			group[v] = into
		}
	}
	for _, g := range groups {
		switch len(g) {
		case 0:
		case 1:
			anyOf = append(anyOf, q.certain(g[0]))
		default:
			anyOf = append(anyOf, q.both(g))
		}
	}
	return q.Any(anyOf...)
}

// both is where some of the functions certainly holds, by both answers to the
// unknown variable that most of them share.
func (q *quantifier) both(of []Function) Function {
	count := make(map[int]int)
	most := -1
	for _, f := range of {
		for _, v := range q.unknowns(f) {
			if count[v]++; most < 0 || count[v] > count[most] || count[v] == count[most] && v < most {
				most = v
			}
		}
	}
	sides := make([]Function, 2)
	for i, answer := range []Function{Denied, Granted} {
		answered := make(map[int]Function)
		parts := make([]Function, len(of))
		for j, f := range of {
			parts[j] = q.given(f, most, answer, answered)
		}
		sides[i] = q.certain(q.Any(parts...))
	}
	return q.All(sides...)
}

// given is f where a variable has an answer.
func (q *quantifier) given(f Function, v int, answer Function, answered map[int]Function) Function {
	if _, depends := slices.BinarySearch(q.unknowns(f), v); !depends {
		return f
	}
	node := int(f >> 1)
	is, ok := answered[node]
	if !ok {
		q.work++
		n := q.nodes[node]
		if is = answer; n.variable < 0 {
			all := make([]Function, len(n.of))
			for i, child := range n.of {
				all[i] = q.given(child, v, answer, answered)
			}
			is = q.All(all...)
		}
		answered[node] = is
	}
	return is ^ f&1
}
