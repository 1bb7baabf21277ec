package explore

import "github.com/open-policy-agent/opa/v1/ast"

// tree holds things by the reference that they belong to.
type tree[T any] struct {
	children map[string]*tree[T]
	value    T
}

func (t *tree[T]) put(ref ast.Ref, value T) {
	for i := range ref {
		name, _ := nameAt(ref, i)
		child := t.children[name]
		if child == nil {
			child = &tree[T]{}
			if t.children == nil {
				t.children = make(map[string]*tree[T])
			}
			t.children[name] = child
		}
		t = child
	}
	t.value = value
}

// at is what belongs to exactly this reference, or the zero T.
func (t *tree[T]) at(ref ast.Ref) T {
	for i := range ref {
		if t = t.child(ref, i); t == nil {
			var zero T
			return zero
		}
	}
	return t.value
}

func (t *tree[T]) child(ref ast.Ref, i int) *tree[T] {
	name, ok := nameAt(ref, i)
	if !ok {
		return nil
	}
	return t.children[name]
}

// nameAt is the name that a part of a reference is, if it is one.
func nameAt(ref ast.Ref, i int) (string, bool) {
	switch v := ref[i].Value.(type) {
	case ast.Var:
		return string(v), i == 0
	case ast.String:
		return string(v), i > 0
	}
	return "", false
}

// refOf is the reference that a term is, or nil.
func refOf(t *ast.Term) ast.Ref {
	ref, _ := t.Value.(ast.Ref)
	return ref
}

// varOf is the variable that a term is, or the empty one.
func varOf(t *ast.Term) ast.Var {
	v, _ := t.Value.(ast.Var)
	return v
}

// intOf is the number that a term is, or 0.
func intOf(t *ast.Term) int {
	n, _ := t.Value.(ast.Number)
	i, _ := n.Int()
	return i
}
