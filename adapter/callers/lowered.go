package callers

import (
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
)

// readCase looks for claims that are compared in lower case, and for those that are
// compared as they are. A policy that does both tells "Group:default/a" from
// "group:default/a" and from everything else, and classes are made of one form alone.
//
// What goes into a function is looked at there. What a rule of the library is asked with
// is compared with nothing here.
func (f *finder) readCase(r *ast.Rule) {
	c := &cases{finder: f, raw: make(map[ast.Var]bool)}
	for _, arg := range r.Head.Args {
		ast.WalkVars(arg, func(v ast.Var) bool {
			c.raw[v] = true
			return false
		})
	}
	for known := -1; known < len(c.raw); {
		known = len(c.raw)
		eachCall(r, func(call []*ast.Term, _ *ast.Location) { c.bind(call) })
	}
	c.walk(r)
}

// cases are the user and the claims in one rule, as nothing has changed them.
type cases struct {
	*finder
	raw map[ast.Var]bool
}

// isRaw is whether a term is the identity, a part of it, or may be made of one in another
// way than by lower or upper.
func (c *cases) isRaw(term *ast.Term) bool {
	switch v := term.Value.(type) {
	case ast.Var:
		return c.raw[v]
	case ast.Ref:
		head, ok := v[0].Value.(ast.Var)
		return ok && c.raw[head] || partsOf(v)&(readsUser|readsClaims) != 0
	case ast.Call:
		if folds(v) {
			return false
		}
		for _, arg := range v[1:] {
			if c.isRaw(arg) {
				return true
			}
		}
	}
	return false
}

// folds is whether a call changes the case of a text.
func folds(call []*ast.Term) bool {
	name := call[0].Value.String()
	return name == ast.Lower.Name || name == ast.Upper.Name
}

func (c *cases) bind(call []*ast.Term) {
	a, b, ok := pair(call)
	if !ok {
		return
	}
	for _, sides := range [][2]*ast.Term{{a, b}, {b, a}} {
		if v, is := sides[0].Value.(ast.Var); is && c.isRaw(sides[1]) {
			c.raw[v] = true
		}
	}
}

// walk notes where something raw is used, and where its case is changed.
func (c *cases) walk(x any) {
	ast.NewGenericVisitor(func(x any) bool {
		switch x := x.(type) {
		case *ast.Head:
			for _, t := range append([]*ast.Term{x.Key, x.Value}, x.Reference[min(1, len(x.Reference)):]...) {
				if t != nil {
					c.walk(t)
				}
			}
			return true
		case *ast.Every:
			c.binding(x.Domain)
			c.walk(x.Body)
			return true
		case *ast.SomeDecl:
			for _, symbol := range x.Symbols {
				if call, ok := symbol.Value.(ast.Call); ok {
					c.binding(call[len(call)-1])
				}
			}
			return true
		case *ast.Expr:
			c.expr(x)
			return true
		case *ast.Term:
			return c.term(x)
		}
		return false
	}).Walk(x)
}

func (c *cases) expr(x *ast.Expr) {
	switch terms := x.Terms.(type) {
	case *ast.Term: // whether there is one
		c.binding(terms)
	case []*ast.Term:
		c.call(terms)
	default: // some, every
		c.walk(terms)
	}
	for _, with := range x.With {
		c.walk(with.Value)
	}
}

// term reports whether all of a term was looked at.
func (c *cases) term(x *ast.Term) bool {
	switch v := x.Value.(type) {
	case ast.Call:
		c.call(v)
		return true
	case ast.Var:
		c.uses(x)
	case ast.Ref:
		c.uses(x)
		for _, step := range v[1:] {
			c.walk(step)
		}
		return true
	}
	return false
}

func (c *cases) uses(x *ast.Term) {
	if c.asIs == "" && c.isRaw(x) && x.Location != nil {
		c.asIs = fmt.Sprintf("%s:%d", x.Location.File, x.Location.Row)
	}
}

// binding looks at what a variable goes over.
func (c *cases) binding(x *ast.Term) {
	if _, ok := x.Value.(ast.Call); ok || !c.isRaw(x) {
		c.walk(x)
	}
}

func (c *cases) call(call []*ast.Term) {
	args := call[1:]
	switch name := call[0].Value.String(); {
	case folds(call):
		for _, arg := range args {
			if !c.isRaw(arg) {
				c.walk(arg)
			} else if c.lowered == "" && arg.Location != nil {
				c.lowered = fmt.Sprintf("%s at %s:%d", name, arg.Location.File, arg.Location.Row)
			}
		}
	case name == ast.Assign.Name && len(args) == 2:
		if _, ok := args[0].Value.(ast.Var); ok {
			c.binding(args[1])
			return
		}
		c.walk(args[1])
	case ast.BuiltinMap[name] == nil:
		for _, arg := range args {
			c.given(arg)
		}
	default:
		for _, arg := range args {
			c.walk(arg)
		}
	}
}

// given looks at what goes into a function.
func (c *cases) given(arg *ast.Term) {
	switch v := arg.Value.(type) {
	case ast.Var, ast.Ref:
		if !c.isRaw(arg) {
			c.walk(arg)
		}
	case *ast.Array:
		v.Foreach(c.given)
	case ast.Object:
		v.Foreach(func(key, value *ast.Term) {
			c.walk(key)
			c.given(value)
		})
	default:
		c.walk(arg)
	}
}
