package vetted

import "github.com/open-policy-agent/opa/v1/ast"

// Wide is how many members an object has at least that is indexed.
const Wide = wide

// Indexed is how many objects of the state's data are indexed.
func (s *State) Indexed() int { return len(s.data.indexes) }

// IndexOf is the index of an object of the state's data; nil where it has none.
func (s *State) IndexOf(object ast.Object) map[string]ast.Value { return s.data.indexes[object] }
