package explore

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

// flowThrough lets shapes flow through one expression, and is whether that added to
// what is known of a variable.
func (f *flow) flowThrough(e *ast.Expr) bool {
	switch terms := e.Terms.(type) {
	case []*ast.Term:
		args := terms[1:]
		if e.IsEquality() {
			return f.flowEqual(e, args[0], args[1])
		}
		if len(args) == 0 {
			return false
		}
		out := args[len(args)-1]
		if picked := f.picks(e); picked != nil && len(args) > 3 {
			return f.flowInto(out, e, f.picked(picked))
		}
		function := refOf(terms[0])
		if function.HasPrefix(ast.DefaultRootRef) && len(args) > f.compiler.GetArity(function) {
			return f.flowInto(out, e, f.values[function.String()])
		}
	case *ast.Every:
		return f.flowInto(terms.Value, e, f.shapeOf(terms.Domain).member(ast.VarTerm("_")))
	}
	return false
}

// flowEqual lets shapes flow both ways between terms that are unified.
func (f *flow) flowEqual(e *ast.Expr, a, b *ast.Term) bool {
	x, ok := a.Value.(ast.Var)
	y, both := b.Value.(ast.Var)
	if ok && both && !isInput(a) && !isInput(b) {
		return f.classes.join(x, y)
	}
	flowed := f.flowInto(a, e, f.shapeOf(b))
	return f.flowInto(b, e, f.shapeOf(a)) || flowed
}

// flowInto lets a shape flow into the variables of a term, from an expression or an
// argument.
func (f *flow) flowInto(t *ast.Term, from any, s *shape) bool {
	if s == nil {
		return false
	}
	flowed := false
	switch v := t.Value.(type) {
	case ast.Var:
		f.aboutResource = f.aboutResource || s.resource
		return !isInput(t) && f.classes.add(v, from, s)
	case *ast.Array:
		for i := range v.Len() {
			flowed = f.flowInto(v.Elem(i), from, s.member(ast.InternedTerm(i))) || flowed
		}
	case ast.Object:
		v.Foreach(func(key, value *ast.Term) { flowed = f.flowInto(value, from, s.member(key)) || flowed })
	}
	return flowed
}

// shapeOf is the shape of a term.
func (f *flow) shapeOf(t *ast.Term) *shape {
	if isInput(t) {
		return inputShape
	}
	members := make(map[string]*shape)
	switch v := t.Value.(type) {
	case ast.Var:
		return f.classes.shape(v)
	case ast.Ref:
		return f.projected(v)
	case *ast.Array:
		for i := range v.Len() {
			members[ast.InternedTerm(i).String()] = f.shapeOf(v.Elem(i))
		}
	case ast.Object:
		v.Foreach(func(key, value *ast.Term) { members[key.String()] = f.shapeOf(value) })
	case *ast.ArrayComprehension:
		return builtOf(f.shapeOf(v.Term))
	case *ast.ObjectComprehension:
		return builtOf(f.shapeOf(v.Value))
	default:
		return nil
	}
	return built(members)
}

// projected is the shape of a reference; nil where it leads into the resource, which
// is a problem.
func (f *flow) projected(ref ast.Ref) *shape {
	s, rest, _ := f.base(ref)
	for _, part := range rest {
		if s.holds() && s.resource {
			return nil
		}
		part = f.constant(part)
		constant := ast.IsConstant(part.Value)
		if s.holds() && s.whole && !constant {
			return nil
		}
		if s = s.member(part); s.is() && constant {
			f.aboutResource = true
		}
	}
	return s
}

// constant is the term that a part of a path is known to be: itself, or what its
// variable is from the first expression on that has it. A rule that is constant is
// none, since a with can replace it.
func (f *flow) constant(t *ast.Term) *ast.Term {
	v, ok := t.Value.(ast.Var)
	if !ok {
		return t
	}
	first := slices.IndexFunc(f.rule.Body, func(e *ast.Expr) bool { return varsOf(e).Contains(v) })
	if first < 0 {
		return t
	}
	e := f.rule.Body[first]
	if !e.IsEquality() || e.Negated || len(e.With) > 0 {
		return t
	}
	for i := range 2 {
		if e.Operand(i).Equal(t) && ast.IsConstant(e.Operand(1-i).Value) {
			return e.Operand(1 - i)
		}
	}
	return t
}

// picked is the shape of what object.get finds at a path, or of its default where the
// path may not be there.
func (f *flow) picked(path ast.Ref) *shape {
	s := f.projected(path)
	if of := f.projected(path[:len(path)-1]); of != nil && !of.unseen {
		if _, ok := of.members[path[len(path)-1].String()]; !ok {
			return s.join(nil)
		}
	}
	return s
}

// base is the shape of what a reference begins with, the rest of the reference, and
// whether that says all: where it is of data, rules below the reference may hold the
// resource, or some that it can enter.
func (f *flow) base(ref ast.Ref) (s *shape, rest ast.Ref, known bool) {
	switch head := ref[0]; {
	case head.Equal(ast.InputRootDocument):
		return inputShape, ref[1:], true
	case !head.Equal(ast.DefaultRootDocument):
		return f.shapeOf(head), ref[1:], true
	}
	for i := range ref {
		if s, ok := f.values[ref[:i+1].String()]; ok {
			return s, ref[i+1:], true
		}
	}
	return nil, nil, false
}

// unequal is whether unifying two terms compares the resource with something else.
func (f *flow) unequal(a, b *ast.Term) bool {
	switch x := a.Value.(type) {
	case *ast.Array:
		y, ok := b.Value.(*ast.Array)
		if !ok {
			return f.differs(a, f.shapeOf(b))
		}
		for i := range min(x.Len(), y.Len()) {
			if x.Len() == y.Len() && f.unequal(x.Elem(i), y.Elem(i)) {
				return true
			}
		}
		return false
	case ast.Object:
		y, ok := b.Value.(ast.Object)
		if !ok {
			return f.differs(a, f.shapeOf(b))
		}
		return x.Until(func(key, value *ast.Term) bool {
			other := y.Get(key)
			return other != nil && f.unequal(value, other)
		})
	}
	return f.differs(b, f.shapeOf(a))
}

// differs is whether unifying a term with a value of a shape compares the resource
// with something else.
func (f *flow) differs(t *ast.Term, s *shape) bool {
	if s != nil && s.unseen {
		return false
	}
	own := f.shapeOf(t)
	if own != nil && own.unseen {
		return false
	}
	switch v := t.Value.(type) {
	case *ast.Array:
		if s != nil && s.resource {
			return true
		}
		for i := range v.Len() {
			if f.differs(v.Elem(i), s.member(ast.InternedTerm(i))) {
				return true
			}
		}
		return false
	case ast.Object:
		if s != nil && s.resource {
			return true
		}
		return v.Until(func(key, value *ast.Term) bool { return f.differs(value, s.member(key)) })
	}
	return own.differs(s)
}

// differs is whether one of two values holds the resource where the other does not.
func (s *shape) differs(other *shape) bool {
	if !s.holds() || !other.holds() {
		return s.holds() != other.holds()
	}
	if s.resource != other.resource || s.rest.differs(other.rest) {
		return true
	}
	for _, from := range []*shape{s, other} {
		for key := range from.members {
			if s.at(key).differs(other.at(key)) {
				return true
			}
		}
	}
	return false
}
