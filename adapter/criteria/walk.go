package criteria

import "slices"

// Variables are what f is written with, in the order in which they were first asked
// for: each a rule, or an unknown.
func (s *Space) Variables(f Function) []Function {
	var list []Function
	for _, v := range (&minimiser{space: s}).support(f) {
		list = append(list, s.byRule[s.variables[v].rule])
	}
	slices.Sort(list)
	return list
}

// Given is f where a variable has an answer.
func (s *Space) Given(f, variable Function, answer bool) Function {
	v := s.nodes[variable>>1].variable
	if variable.negated() || v < 0 {
		panic("criteria: Given is about a variable")
	}
	value := Denied
	if answer {
		value = Granted
	}
	return s.given(f, v, value, make(map[int]Function))
}

func (s *Space) given(f Function, v int, answer Function, answered map[int]Function) Function {
	node := int(f >> 1)
	is, ok := answered[node]
	if !ok {
		switch n := s.nodes[node]; {
		case n.variable == v:
			is = answer
		case n.variable >= 0 || node == 0:
			is = Function(node << 1)
		default:
			all := make([]Function, len(n.of))
			for i, child := range n.of {
				all[i] = s.given(child, v, answer, answered)
			}
			is = s.All(all...)
		}
		answered[node] = is
	}
	return is ^ f&1
}

// Holds is whether f does under answers to its variables.
func (s *Space) Holds(f Function, answer func(variable Function) bool) bool {
	return s.holdsBy(f, answer, make(map[int]bool))
}

func (s *Space) holdsBy(f Function, answer func(Function) bool, known map[int]bool) bool {
	node := int(f >> 1)
	is, ok := known[node]
	if !ok {
		if n := s.nodes[node]; n.variable >= 0 {
			is = answer(Function(node << 1))
		} else {
			is = node != 0
			for _, child := range n.of {
				is = is && s.holdsBy(child, answer, known)
			}
		}
		known[node] = is
	}
	return is != f.negated()
}
