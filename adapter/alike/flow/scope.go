package flow

import (
	"maps"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/adapter/alike/shape"
)

// scope is a body that is looked at: of a rule, or within one.
type scope struct {
	*flow
	depth int
	vars  map[ast.Var]*shape.Shape
	at    *ast.Location // of the expression that is looked at
	// multiple is whether the claims decide how many solutions the body has, and merging
	// whether they do because equal elements of a set are one. By so many generators, which
	// are expressions, it has several.
	multiple, merging bool
	generators        int
}

// within is a scope in this one, which it adds nothing to.
func (s *scope) within() *scope {
	return &scope{flow: s.flow, depth: s.depth + 1, vars: maps.Clone(s.vars), at: s.at}
}

func (s *scope) apart(format string, args ...any) { s.flow.apart(s.at, format, args...) }

// expression looks at one expression of a body.
func (s *scope) expression(e *ast.Expr) {
	if e.Location != nil {
		s.at = e.Location
	}
	if len(e.With) > 0 {
		s.apart("with changes what the policy sees")
	}
	if e.Negated {
		s = s.within()
	}
	switch terms := e.Terms.(type) {
	case *ast.Term:
		s.eval(terms)
	case []*ast.Term:
		if e.IsEquality() {
			s.equal(terms[1], terms[2])
			return
		}
		s.call(terms)
	case *ast.Every:
		s.every(terms)
	case *ast.SomeDecl:
	default:
		s.apart("stagedoor does not know this construct (%T)", terms)
	}
}

func (s *scope) every(e *ast.Every) {
	domain := s.eval(e.Domain)
	inner := s.within()
	key, value := inner.iterate(domain)
	if e.Key != nil {
		inner.unify(e.Key, key)
	}
	inner.unify(e.Value, value)
	for _, e := range e.Body {
		inner.expression(e)
	}
}

// equal is a unification. What is not bound yet becomes so.
func (s *scope) equal(a, b *ast.Term) {
	switch {
	case s.isFree(a):
		s.unify(a, s.eval(b))
	case s.isFree(b):
		s.unify(b, s.eval(a))
	case s.binds(a):
		s.unify(a, s.eval(b))
	default:
		s.unify(b, s.eval(a))
	}
}

// isFree is whether a term is a variable without a value yet.
func (s *scope) isFree(t *ast.Term) bool {
	v, is := t.Value.(ast.Var)
	return is && !s.isBound(v)
}

func (s *scope) isBound(v ast.Var) bool {
	_, bound := s.vars[v]
	return bound || v.Equal(ast.InputRootDocument.Value) || v.Equal(ast.DefaultRootDocument.Value)
}

// binds is whether a term is an array or object with a variable without a value in it.
func (s *scope) binds(t *ast.Term) bool {
	switch v := t.Value.(type) {
	case ast.Var:
		return !s.isBound(v)
	case *ast.Array:
		return v.Until(s.binds)
	case ast.Object:
		return v.Until(func(_, value *ast.Term) bool { return s.binds(value) })
	}
	return false
}

// unify gives a term a value: a variable without one has it from now on, and anything
// else is compared with it.
func (s *scope) unify(t *ast.Term, value *shape.Shape) {
	if v, is := t.Value.(ast.Var); is && !s.isBound(v) {
		s.vars[v] = value
		return
	}
	if !s.binds(t) {
		s.compare(s.eval(t), value)
		return
	}
	switch v := t.Value.(type) {
	case *ast.Array:
		s.takeApart(value)
		for i := range v.Len() {
			s.unify(v.Elem(i), s.member(value, ast.InternedTerm(i)))
		}
	case ast.Object:
		s.takeApart(value)
		v.Foreach(func(key, member *ast.Term) {
			if !ast.IsConstant(key.Value) {
				s.apart("a pattern has a key that is no constant")
			}
			s.unify(member, s.member(value, key))
		})
	}
}

// takeApart looks at a value that a pattern takes apart, which compares how many
// elements there are.
func (s *scope) takeApart(value *shape.Shape) {
	if value.Some(func(s *shape.Shape) bool { return s.Opaque }) || value != nil && value.Anywhere != nil ||
		value != nil && value.Of != nil && (value.Of.Numbered || value.Of.Rest != nil) {
		s.apart("a pattern takes claims apart by how many there are")
	}
}

// compare looks at two values that are compared.
func (s *scope) compare(a, b *shape.Shape) {
	if !a.Touched() {
		a, b = b, a
	}
	switch {
	case !a.Touched():
	case b.Touched():
		s.apart("claims or the user are compared with each other")
	default:
		s.compareWith(a, b)
	}
}

// compareWith looks at what has to do with the caller's texts, compared with what has not.
func (s *scope) compareWith(a, clean *shape.Shape) {
	switch {
	case clean == nil:
	case a.Amount && clean.Constant != "0":
		s.apart("how many claims there are is compared")
	case a.Picked:
		s.apart("a claim is chosen by its position")
	case a.Opaque:
		s.apart(shape.NotFollowed)
	case (a.User || a.Claim) && clean.Other:
		s.apart("a claim or the user is compared with a text that is neither in the policy nor its data")
	case (a.Of != nil || a.Anywhere != nil) && clean.Constant == "":
		s.apart("a list or object of claims is compared as a whole")
	}
}

// eval is the shape of a term, whose variables without a value get one.
func (s *scope) eval(t *ast.Term) *shape.Shape {
	switch v := t.Value.(type) {
	case ast.Null, ast.Boolean, ast.Number, ast.String:
		return &shape.Shape{Known: true, Constant: v.String()}
	case ast.Var:
		switch value, bound := s.vars[v]; {
		case bound:
			return value
		case v.Equal(ast.InputRootDocument.Value):
			return shape.Input
		case v.Equal(ast.DefaultRootDocument.Value):
			s.apart("all data is looked at as a whole")
			return shape.Other
		}
		s.vars[v] = shape.Known // one that nothing is known of, and nothing can be
		s.apart("stagedoor does not follow the variable %v", v)
		return shape.Opaque
	case ast.Ref:
		return s.reference(v)
	case *ast.Array:
		return s.literal(v.Len(), v.Elem, func(i int) string { return ast.InternedTerm(i).String() },
			&shape.Collection{Array: true})
	case ast.Set:
		elements := v.Slice()
		return s.literal(len(elements), func(i int) *ast.Term { return elements[i] }, nil, &shape.Collection{Set: true})
	case ast.Object:
		return s.object(v)
	case *ast.ArrayComprehension:
		inner := s.body(v.Body)
		return inner.collected(inner.eval(v.Term), false)
	case *ast.SetComprehension:
		inner := s.body(v.Body)
		return inner.collected(inner.eval(v.Term), true)
	case *ast.ObjectComprehension:
		return s.objectComprehension(v)
	}
	s.apart("stagedoor does not know this construct (%T)", t.Value)
	return shape.Opaque
}

// body is the scope of a comprehension's body, looked at.
func (s *scope) body(body ast.Body) *scope {
	inner := s.within()
	for _, e := range body {
		inner.expression(e)
	}
	return inner
}

// literal is an array or set of so many terms.
func (s *scope) literal(n int, term func(int) *ast.Term, key func(int) string, c *shape.Collection) *shape.Shape {
	members := make(map[string]*shape.Shape, n)
	whole := (*shape.Shape)(nil)
	for i := range n {
		member := s.eval(term(i))
		c.Lone = c.Lone || member != nil && member.Claim
		whole = whole.Join(member)
		if key != nil {
			members[key(i)] = member
		}
	}
	if !whole.Touched() {
		return whole.OrEmpty()
	}
	if c.Members = members; key == nil {
		c.Members, c.Rest, c.Numbered, c.Merges = nil, whole, true, !c.Lone
	}
	return &shape.Shape{Of: c}
}

func (s *scope) object(o ast.Object) *shape.Shape {
	c := &shape.Collection{Object: true, Members: make(map[string]*shape.Shape)}
	o.Foreach(func(key, value *ast.Term) {
		member := s.eval(value)
		c.Lone = c.Lone || member != nil && member.Claim
		if ast.IsConstant(key.Value) {
			c.Members[key.String()] = member
			return
		}
		named := s.eval(key)
		if named.Touched() {
			s.apart("the caller's texts are keys of an object")
		}
		c.Keys, c.Rest = c.Keys.Join(named), c.Rest.Join(member)
	})
	return (&shape.Shape{Of: c}).Normal()
}

func (s *scope) objectComprehension(v *ast.ObjectComprehension) *shape.Shape {
	inner := s.body(v.Body)
	keys, value := inner.eval(v.Key), inner.eval(v.Value)
	_, variable := v.Key.Value.(ast.Var)
	switch {
	case value.AloneSince(inner.depth):
		inner.apart("a key of an object has one claim as its value, and there may be one value only")
	case keys.Touched() && !keys.IsText():
		inner.apart("the caller's claims are in a key")
	case keys.Touched() && value.Touched():
		inner.apart("an object has the caller's texts as keys and in its values")
	case value.IsCrossed() && !variable:
		inner.apart("lists of claims that are repeated are compared, as a key has one value only")
	}
	outward := func(alone int) int { return min(alone, outside) }
	if !keys.Touched() && !value.Touched() {
		return keys.Join(value).OrEmpty()
	}
	return &shape.Shape{Of: &shape.Collection{
		Object: true, Keys: keys.Moved(outward), Rest: value.Moved(outward), Numbered: keys.Touched(),
		Lone: value != nil && value.Claim,
	}}
}

// reference is the value at a reference.
func (s *scope) reference(ref ast.Ref) *shape.Shape {
	var value *shape.Shape
	rest := ref[1:]
	switch head := ref[0].Value.(type) {
	case ast.Var:
		if head.Equal(ast.DefaultRootDocument.Value) {
			value, rest = s.data(ref)
			break
		}
		value = s.eval(ref[0])
	default:
		s.apart("stagedoor does not know this construct (%v)", ref)
		return shape.Opaque
	}
	for _, part := range rest {
		value = s.step(value, part)
	}
	return value
}

// data is what a reference to data begins with, and what leads on from there.
func (s *scope) data(ref ast.Ref) (*shape.Shape, []*ast.Term) {
	n := s.root
	for i, part := range ref[1:] {
		if len(n.children) == 0 {
			break
		}
		if _, constant := part.Value.(ast.String); !constant {
			s.apart("%v can be any of several rules", ref)
			return shape.Opaque, nil
		}
		child := n.children[part.String()]
		if child == nil {
			return shape.Known, ref[1+i:] // of data alone
		}
		n = child
		if len(n.rules) > 0 && len(n.children) == 0 {
			s.reach(n)
			return s.values[n], ref[2+i:]
		}
		if len(n.rules) > 0 {
			break // and others below them
		}
	}
	if len(n.rules) > 0 || len(n.children) > 0 {
		s.apart("%v is several rules at once", ref)
		return shape.Opaque, nil
	}
	return shape.Known, nil
}

// step is what a part of a reference leads to.
func (s *scope) step(value *shape.Shape, part *ast.Term) *shape.Shape {
	if value == nil {
		s.bindAll(part)
		return nil
	}
	if s.isFree(part) {
		key, element := s.iterate(value)
		s.unify(part, key)
		return element
	}
	if ast.IsConstant(part.Value) {
		return s.member(value, part)
	}
	if s.binds(part) {
		if value.Touched() {
			s.apart("a pattern looks for something among claims")
		}
		s.bindAll(part)
		return value
	}
	key := s.eval(part)
	if !value.Touched() {
		s.compare(key, value)
		return value
	}
	return s.lookUp(value, key)
}

// bindAll gives the variables of a pattern a value that has nothing of the caller's.
func (s *scope) bindAll(t *ast.Term) {
	ast.WalkVars(t, func(v ast.Var) bool {
		if !s.isBound(v) {
			s.vars[v] = shape.Other
		}
		return false
	})
}

// lookUp is what a key that is no constant leads to in a value of the caller's.
func (s *scope) lookUp(value, key *shape.Shape) *shape.Shape {
	switch {
	case key.Touched():
		s.apart("claims or the user are compared with each other")
	case value.Opaque:
		s.apart(shape.NotFollowed)
		return shape.Opaque
	case value.Of != nil:
		if value.Of.Array && value.Of.Numbered {
			s.apart("a claim is chosen by its position")
		}
		if value.Of.Set {
			s.compare(value.Of.Rest, key)
		}
		s.compare(value.Of.Keys, key)
	}
	found := value.Clean()
	if value.Of != nil {
		found = found.Join(value.Of.Element())
	}
	if value.Anywhere != nil {
		whole := &shape.Shape{Known: value.Known, Other: value.Other, Anywhere: value.Anywhere}
		found = found.Join(whole).Join(s.lookUp(value.Anywhere, key))
	}
	return found
}

// member is what a constant leads to in a value.
func (s *scope) member(value *shape.Shape, key *ast.Term) *shape.Shape {
	if value == nil || !value.Touched() {
		return value.Clean()
	}
	if value.Opaque {
		s.apart(shape.NotFollowed)
		return shape.Opaque
	}
	found := value.Clean()
	if c := value.Of; c != nil {
		named := &shape.Shape{Known: true, Constant: key.Value.String()}
		m, is := c.Members[key.String()]
		if is {
			found = found.Join(m)
		}
		_, number := key.Value.(ast.Number)
		if c.Array && number && c.Rest != nil {
			if c.Numbered {
				s.apart("a claim is chosen by its position")
			}
			found = found.Join(c.Rest)
		}
		if c.Set {
			s.compare(c.Rest, named)
			found = found.Join(named)
		}
		if c.Object && !is && c.Rest != nil {
			s.compare(c.Keys, named)
			found = found.Join(c.Rest)
		}
	}
	if value.Anywhere != nil {
		within := &shape.Shape{Known: value.Known, Other: value.Other, Anywhere: value.Anywhere}
		found = found.Join(within).Join(s.member(value.Anywhere, key))
	}
	return found
}

// iterate is any key and element of a value that is gone through.
func (s *scope) iterate(value *shape.Shape) (key, element *shape.Shape) {
	s.generators++
	if value == nil {
		return nil, nil
	}
	if !value.Touched() {
		return value.Clean(), value.Clean()
	}
	if value.Opaque {
		s.apart(shape.NotFollowed)
		return shape.Opaque, shape.Opaque
	}
	key, element = value.Clean(), value.Clean()
	if c := value.Of; c != nil {
		s.multiple = s.multiple || c.Numbered && !c.Merges
		s.merging = s.merging || c.Numbered && c.Merges
		whichever := c.Element().TakenOut(s.depth, c.Lone)
		if c.Array {
			if c.Numbered {
				key = key.Join(shape.Picked)
			} else {
				key = key.Join(shape.Known)
			}
		}
		if c.Set {
			key = key.Join(whichever)
		}
		if c.Object {
			if len(c.Members) > 0 {
				key = key.Join(shape.Known)
			}
			key = key.Join(c.Keys.TakenOut(s.depth, false))
		}
		element = element.Join(whichever)
	}
	if value.Anywhere != nil {
		k, e := s.iterate(value.Anywhere)
		s.generators--
		key = key.Join(k)
		element = element.Join(e).Join(&shape.Shape{Known: value.Known, Other: value.Other, Anywhere: value.Anywhere})
	}
	return key, element
}

// collected is the shape of an array or set of all solutions of a body in a scope, each
// of which is an element: a claim that was alone in the scope is in it for each claim.
func (s *scope) collected(element *shape.Shape, set bool) *shape.Shape {
	if !element.Touched() && (set || !s.multiple && !s.merging) {
		return element.OrEmpty()
	}
	c := &shape.Collection{Array: !set, Set: set, Numbered: element.Touched() && set || s.multiple || s.merging,
		Merges: !s.multiple}
	if element != nil && element.Claim {
		c.Lone = element.Alone != s.depth && element.Alone != 0
		c.Crossed, c.Merges = s.generators > 1, false
		if !c.Lone {
			alone := *element
			alone.Alone, alone.Constant = 0, ""
			element = &alone
		}
		c.Numbered = true
	} else if !set {
		c.Repeats = s.multiple
	}
	c.Rest = element.Moved(func(alone int) int { return min(alone, outside) })
	if c.Rest.Depth() >= shape.MaxDepth {
		return shape.Opaque
	}
	return (&shape.Shape{Of: c}).Normal()
}

// The depths of scopes.
const (
	outside   = 1 // the arguments of a function, and what came by a collection
	ruleScope = 2 // the body of a rule; what is nested in it is deeper
)
