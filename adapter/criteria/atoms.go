package criteria

import (
	"cmp"
	"slices"
	"strings"
)

// alike is the same for rules that differ only in the list which means "any of".
type alike struct{ name, resourceType, before, after string }

func (v variable) alike() alike {
	return alike{v.rule.Name, v.rule.ResourceType, v.list.before, v.list.after}
}

// atoms are what rules whose lists overlap are made of: rules whose lists do not. A
// rule with a list that means "any of" is the disjunction of such rules with the
// parts of the list, so that two rules with overlapping lists are not independent of
// each other.
func (m *minimiser) atoms(of ...Function) map[Function]Function {
	lists := make(map[alike][]int)
	var order []alike
	for _, v := range m.support(of...) {
		if r := m.space.variables[v]; r.list != nil {
			k := r.alike()
			if lists[k] == nil {
				order = append(order, k)
			}
			lists[k] = append(lists[k], v)
		}
	}
	atoms := make(map[Function]Function)
	for _, k := range order {
		m.split(lists[k], atoms)
	}
	return atoms
}

// split adds what the variables are made of, of rules that differ only in their
// lists, where their lists overlap.
func (m *minimiser) split(variables []int, atoms map[Function]Function) {
	in := make(map[string][]int) // the variables that have an element
	overlap := false
	for _, v := range variables {
		for _, element := range m.space.variables[v].list.elements {
			in[element] = append(in[element], v)
			overlap = overlap || len(in[element]) > 1
		}
	}
	if !overlap {
		return
	}
	for _, v := range variables {
		elements := slices.Clone(m.space.variables[v].list.elements)
		slices.SortFunc(elements, func(a, b string) int {
			return cmp.Or(slices.Compare(in[a], in[b]), strings.Compare(a, b))
		})
		var parts []Function
		for len(elements) > 0 {
			n := 1
			for n < len(elements) && slices.Equal(in[elements[0]], in[elements[n]]) {
				n++
			}
			parts = append(parts, m.part(v, elements[:n]))
			elements = elements[n:]
		}
		if f := m.space.byRule[m.space.variables[v].rule]; m.space.Any(parts...) != f {
			atoms[f] = m.space.Any(parts...)
		}
	}
}

// part is the rule of a variable with a part of its list.
func (m *minimiser) part(v int, elements []string) Function {
	whole := m.space.variables[v]
	list := &anyList{whole.list.before, whole.list.after, slices.Sorted(slices.Values(elements))}
	return m.space.variable(variable{Rule{whole.rule.Name, whole.rule.ResourceType, list.params()}, list, false})
}

// substitute replaces variables.
func (m *minimiser) substitute(f Function, by map[Function]Function) Function {
	positive := f &^ 1
	g, ok := by[positive]
	if !ok {
		g = positive
		if of := m.space.nodes[f>>1].of; of != nil {
			replaced := make([]Function, len(of))
			for i, part := range of {
				replaced[i] = m.substitute(part, by)
			}
			g = m.space.All(replaced...)
		}
		by[positive] = g
	}
	return g ^ f&1
}
