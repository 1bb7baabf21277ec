package vetted

import "github.com/open-policy-agent/opa/v1/ast"

// indexes find the members of the wide objects of a snapshot. They are immutable,
// as what they are of must be.
//
// A look-up in OPA's object goes through its table to the pair, to the term of the
// key, to its text, and from the value's term to the value and what that holds,
// each somewhere else in memory. Among a million members none of it is in a
// processor's cache, and looking up 500 claims so took nearly as long as all the
// rest of the decision. Here there is the table, which holds the key and the value,
// and the key's text; and of values that are the same to the letter there is one.
type indexes map[ast.Object]map[string]ast.Value

const (
	// wide is how many members an object has at least that is indexed. With fewer it
	// stays in the cache as it is.
	wide = 10_000
	// sharedValues is how many values of an object are looked out for to be shared,
	// such as the few lists of roles that bindings have. More of them would not stay
	// in a cache either.
	sharedValues = 4096
)

// indexWide returns the indexes of what is wide in a document, those of previous
// where the object is still the same.
func indexWide(document ast.Value, previous indexes) indexes {
	found := indexes{}
	var visit func(ast.Value)
	visit = func(v ast.Value) {
		switch v := v.(type) {
		case ast.Object:
			if v.Len() >= wide {
				if found[v] = previous[v]; found[v] == nil {
					found[v] = newIndex(v)
				}
			}
			v.Foreach(func(_, value *ast.Term) { visit(value.Value) })
		case *ast.Array:
			v.Foreach(func(element *ast.Term) { visit(element.Value) })
		}
	}
	visit(document)
	return found
}

func newIndex(object ast.Object) map[string]ast.Value {
	index := make(map[string]ast.Value, object.Len())
	shared := map[string]ast.Value{}
	object.Foreach(func(key, value *ast.Term) {
		name, ok := key.Value.(ast.String)
		if !ok {
			return // no step of a path leads there
		}
		// Equal is not enough: 1 and 1.0 are, and a policy can tell them apart.
		text := value.Value.String()
		same, ok := shared[text]
		if !ok {
			same = value.Value
			if len(shared) < sharedValues {
				shared[text] = same
			}
		}
		index[string(name)] = same
	})
	return index
}
