package criteria

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
)

// Read returns the function that a tree is. The name of a rule's parameter whose
// list means "any of" is what anyOf returns, or empty where it has none; a nil anyOf
// says so of every rule. See [Space.Rule].
//
// The error is that params are no JSON object, or pass the bounds of [Parse].
func (s *Space) Read(c Criteria, anyOf func(Rule) string) (Function, error) {
	switch c.Op {
	case Never:
		return Denied, nil
	case Always:
		return Granted, nil
	case Leaf:
		return s.readLeaf(c.Rule, anyOf)
	}
	of := make([]Function, len(c.Of))
	for i, child := range c.Of {
		var err error
		if of[i], err = s.Read(child, anyOf); err != nil {
			return Denied, err
		}
	}
	switch c.Op {
	case Not:
		c.child()
		return of[0].Not(), nil
	case AllOf:
		return s.All(of...), nil
	case AnyOf:
		return s.Any(of...), nil
	}
	panic(c.unknown())
}

func (s *Space) readLeaf(rule Rule, anyOf func(Rule) string) (Function, error) {
	name := ""
	if anyOf != nil {
		name = anyOf(rule)
	}
	if rule.Params == "" {
		return s.variable(variable{rule: rule}), nil
	}
	var params map[string]any
	d := json.NewDecoder(bytes.NewReader([]byte(rule.Params)))
	d.UseNumber()
	if err := d.Decode(&params); err != nil {
		return Denied, fmt.Errorf("params of %s: %w", rule.Name, err)
	}
	return s.Rule(rule.Name, rule.ResourceType, params, name)
}

// Assume notes that a function holds for every resource there can be, such as that
// no entity has two kinds. [Space.Difference], [Space.Implies], [Space.Equal] and
// [Space.Witness] leave out the answers under which it does not. [Space.Minimise]
// knows nothing of it: criteria that are sent mean the same whatever is assumed.
func (s *Space) Assume(f Function) {
	if f != Granted {
		s.assumed = append(s.assumed, f)
	}
}

// Difference is where f holds and g does not, written as [Space.Minimise] writes it,
// and [Never] where there is no such place. Where answers are impossible by what is
// assumed, it is any shorter condition that is right for all others.
//
// So what a change of a condition from g to f gains is Difference(f, g), and what it
// loses is Difference(g, f).
//
// The error is [ErrTooLarge].
func (s *Space) Difference(f, g Function) (Criteria, error) {
	c, err := s.compared(s.All(f, g.Not()))
	if err != nil || c.difference == no {
		return Criteria{}, err
	}
	t, err := c.minimal(c.isop(c.difference, c.or(c.difference, c.impossible)).is)
	return t.criteria(), err
}

// Implies is whether g holds wherever f does. The error is [ErrTooLarge].
func (s *Space) Implies(f, g Function) (bool, error) {
	c, err := s.compared(s.All(f, g.Not()))
	return err == nil && c.difference == no, err
}

// Equal is whether f and g hold for the same resources. The error is [ErrTooLarge].
func (s *Space) Equal(f, g Function) (bool, error) {
	is, err := s.Implies(f, g)
	if err != nil || !is {
		return false, err
	}
	return s.Implies(g, f)
}

// Witness returns answers under which a function holds: rules with their answers, so
// few that the others do not matter to the function. It returns nil where there are
// no such answers.
//
// Of rules that have a list which means "any of", the answers are about parts of the
// lists that do not overlap. The error is [ErrTooLarge].
func (s *Space) Witness(f Function) (map[Rule]bool, error) {
	c, err := s.compared(f)
	if err != nil || c.difference == no {
		return nil, err
	}
	answers := make(map[Rule]bool)
	for e := c.difference; e != yes; {
		level := c.bdd.level(e)
		lo, hi := c.cofactors(e, level)
		holds := lo == no
		answers[s.variables[c.order[level]].rule] = holds
		if e = lo; holds {
			e = hi
		}
	}
	return answers, nil
}

// comparison is a function as a diagram, and the answers that are impossible by what
// is assumed.
type comparison struct {
	*diagram
	difference edge // the function where the answers are possible
	impossible edge
}

// compared makes a diagram of a function, with lists that do not overlap. It tries
// the order of the rules and then that in which they were put together, which suits
// a function that was put together of parts one after the other.
func (s *Space) compared(f Function) (comparison, error) {
	m := &minimiser{space: s, work: maxWork}
	assumed := m.about(f)
	if atoms := m.atoms(append(slices.Clone(assumed), f)...); len(atoms) > 0 {
		f = m.substitute(f, atoms)
		for i := range assumed {
			assumed[i] = m.substitute(assumed[i], atoms)
		}
	}
	asked := m.support(append(slices.Clone(assumed), f)...)
	for _, order := range [][]int{m.sorted(asked), asked} {
		d := m.diagram(order)
		e := d.build(f)
		possible := yes
		if e != no {
			possible = d.conjunction(assumed)
		}
		if c := (comparison{d, d.and(e, possible), possible.not()}); !d.over {
			return c, nil
		}
	}
	return comparison{}, ErrTooLarge
}

// about are the assumptions that can matter for a function: those that share rules
// with it, or with such an assumption. Rules share one where a list that means "any
// of" overlaps.
func (m *minimiser) about(f Function) []Function {
	if len(m.space.assumed) == 0 {
		return nil
	}
	parts := append([]Function{f}, m.space.assumed...)
	owner := make(map[any]int)
	of := newPartition(len(parts))
	for i, part := range parts {
		for _, v := range m.support(part) {
			for _, key := range m.space.variables[v].keys() {
				if first, ok := owner[key]; ok {
					of.join(first, i)
				} else {
					owner[key] = i
				}
			}
		}
	}
	var about []Function
	for i, part := range parts[1:] {
		if of.find(i+1) == of.find(0) {
			about = append(about, part)
		}
	}
	return about
}

// keys are the same for rules that are not independent of each other: a rule, or
// each element of its list.
func (v variable) keys() []any {
	if v.list == nil {
		return []any{v.rule}
	}
	keys := make([]any, len(v.list.elements))
	for i, element := range v.list.elements {
		keys[i] = listElement{v.alike(), element}
	}
	return keys
}

type listElement struct {
	of      alike
	element string
}
