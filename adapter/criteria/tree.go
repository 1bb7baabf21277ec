package criteria

import (
	"bytes"
	"cmp"
	"encoding/json"
	"maps"
	"slices"
)

// tree is criteria in the making: negation stands at the leaves alone, and a list
// holds neither constants nor a list of its own kind.
type tree struct {
	op      Op // Never, Always, Leaf, AllOf or AnyOf
	rule    Rule
	anyOf   string
	negated bool
	of      []tree
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
	type alike struct {
		name, resourceType, anyOf, others string
	}
	first := make(map[alike]int)
	joined := make(map[int][]any)
	kept := of[:0:0]
	for _, t := range of {
		if t.op != Leaf || t.anyOf == "" || t.negated != (op == AllOf) {
			kept = append(kept, t)
			continue
		}
		elements, others, ok := splitParams(t.rule.Params, t.anyOf)
		if !ok {
			kept = append(kept, t)
			continue
		}
		k := alike{t.rule.Name, t.rule.ResourceType, t.anyOf, string(others)}
		i, ok := first[k]
		if !ok {
			first[k] = len(kept)
			joined[len(kept)] = elements
			kept = append(kept, t)
			continue
		}
		joined[i] = append(joined[i], elements...)
	}
	for i, elements := range joined {
		kept[i].rule.Params = withList(kept[i].rule.Params, kept[i].anyOf, elements)
	}
	return kept
}

// splitParams returns the elements of the list called name and the other params
// as JSON. It reports false where there is no such list.
func splitParams(params, name string) (elements []any, others []byte, ok bool) {
	object, err := decodeParams(params)
	if err != nil {
		return nil, nil, false
	}
	elements, ok = object[name].([]any)
	if !ok {
		return nil, nil, false
	}
	delete(object, name)
	var p parser
	others, err = p.appendObject(nil, object, 1)
	return elements, others, err == nil
}

// withList returns the params with another list called name, its elements sorted
// and each there once.
func withList(params, name string, elements []any) string {
	object, err := decodeParams(params)
	if err != nil {
		return params
	}
	var p parser
	texts := make(map[string]any, len(elements))
	for _, element := range elements {
		text, err := p.appendValue(nil, element, 1)
		if err != nil {
			return params
		}
		texts[string(text)] = element
	}
	sorted := make([]any, 0, len(texts))
	for _, text := range slices.Sorted(maps.Keys(texts)) {
		sorted = append(sorted, texts[text])
	}
	object[name] = sorted
	text, err := p.appendObject(nil, object, 1)
	if err != nil {
		return params
	}
	return string(text)
}

func decodeParams(params string) (map[string]any, error) {
	d := json.NewDecoder(bytes.NewReader([]byte(params)))
	d.UseNumber()
	var object map[string]any
	err := d.Decode(&object)
	return object, err
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
		return t.list()
	}
	return Criteria{Op: t.op}
}

func (t tree) list() Criteria {
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
	return cmp.Or(cmp.Compare(c.Op, other.Op), c.Rule.compare(other.Rule), slices.CompareFunc(c.Of, other.Of, Criteria.compare))
}
