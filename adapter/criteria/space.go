package criteria

import (
	"encoding/binary"
	"slices"
)

// A Space holds boolean functions of the answers to rules, the way in which a
// decision is put together before it is written as criteria. Not safe for
// concurrent use.
type Space struct {
	nodes     []spaceNode         // the first is the constant
	index     map[string]Function // conjunctions by their key
	variables []variable
	byRule    map[Rule]Function
	assumed   []Function
	unknown   int // how many of the variables are
}

// A Function is a boolean function in a [Space]; [Denied] and [Granted] are the
// constants of every Space. Functions that are == are equal; others may still be.
type Function int

const (
	// Denied is the function that never holds. It is the zero Function.
	Denied Function = 0
	// Granted is the function that always holds.
	Granted Function = 1
)

// Not is the function that holds where f does not.
func (f Function) Not() Function { return f ^ 1 }

func (f Function) negated() bool { return f&1 != 0 }

// spaceNode is a variable, or the conjunction of functions; a disjunction is the
// complement of a conjunction.
type spaceNode struct {
	variable int // -1 where it is a conjunction
	of       []Function
}

type variable struct {
	rule Rule
	list *anyList // nil where the rule has none
	// unknown is whether it stands for no rule.
	unknown bool
}

// NewSpace returns a Space without rules.
func NewSpace() *Space {
	return &Space{
		nodes:  []spaceNode{{variable: -1}},
		index:  make(map[string]Function),
		byRule: make(map[Rule]Function),
	}
}

// Rule is the function that holds where a rule does, with params as encoding/json
// decodes an object with UseNumber.
//
// Of a rule with a list parameter that means "any of", anyOf is the parameter's
// name: the rule never holds with an empty list then, the order of the list and
// repetitions in it mean nothing, and [Space.Minimise] may join such leaves.
//
// The error is that params are no JSON, or pass the bounds of [Parse].
func (s *Space) Rule(name, resourceType string, params map[string]any, anyOf string) (Function, error) {
	v := variable{rule: Rule{Name: name, ResourceType: resourceType}}
	var err error
	if list, ok := params[anyOf].([]any); ok && anyOf != "" {
		if len(list) == 0 {
			return Denied, nil
		}
		if v.list, err = newAnyList(params, anyOf, list); err != nil {
			return Denied, within("params", err)
		}
		v.rule.Params = v.list.params()
	} else {
		var p parser
		b, err := p.appendObject(nil, params, 1)
		if err != nil {
			return Denied, within("params", err)
		}
		v.rule.Params = string(b)
	}
	return s.variable(v), nil
}

func (s *Space) variable(v variable) Function {
	f, ok := s.byRule[v.rule]
	if !ok {
		f = s.add(spaceNode{variable: len(s.variables)})
		s.variables = append(s.variables, v)
		s.byRule[v.rule] = f
	}
	return f
}

// Size is how many nodes all functions of the space have together. Each takes some
// hundred bytes, and they stay as long as the space.
func (s *Space) Size() int { return len(s.nodes) }

func (s *Space) add(n spaceNode) Function {
	s.nodes = append(s.nodes, n)
	return Function(len(s.nodes)-1) << 1
}

// All is the function that holds where all of them do.
func (s *Space) All(of ...Function) Function {
	kept := make([]Function, 0, len(of))
	for _, f := range of {
		switch f {
		case Denied:
			return Denied
		case Granted:
			continue
		}
		kept = append(kept, f)
	}
	slices.Sort(kept)
	kept = slices.Compact(kept)
	for i := 1; i < len(kept); i++ {
		if kept[i] == kept[i-1].Not() {
			return Denied
		}
	}
	switch len(kept) {
	case 0:
		return Granted
	case 1:
		return kept[0]
	}
	key := keyOf(kept)
	f, ok := s.index[key]
	if !ok {
		f = s.add(spaceNode{variable: -1, of: kept})
		s.index[key] = f
	}
	return f
}

// keyOf is the same for equal lists of numbers and for no others.
func keyOf[T ~int](list []T) string {
	b := make([]byte, 0, 3*len(list))
	for _, n := range list {
		b = binary.AppendVarint(b, int64(n))
	}
	return string(b)
}

// Any is the function that holds where some of them does.
func (s *Space) Any(of ...Function) Function {
	nots := make([]Function, len(of))
	for i, f := range of {
		nots[i] = f.Not()
	}
	return s.All(nots...).Not()
}

// If is the function that is then where cond holds and otherwise where it does
// not.
func (s *Space) If(cond, then, otherwise Function) Function {
	switch {
	case then == otherwise:
		return then
	case then == Granted:
		return s.Any(cond, otherwise)
	case then == Denied:
		return s.All(cond.Not(), otherwise)
	case otherwise == Granted:
		return s.Any(cond.Not(), then)
	case otherwise == Denied:
		return s.All(cond, then)
	}
	return s.Any(s.All(cond, then), s.All(cond.Not(), otherwise))
}
