package alike

import (
	"maps"

	"github.com/open-policy-agent/opa/v1/ast"
)

// scope is a body that is looked at: of a rule, or within one.
type scope struct {
	*flow
	depth int
	vars  map[ast.Var]*shape
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
func (s *scope) unify(t *ast.Term, value *shape) {
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
func (s *scope) takeApart(value *shape) {
	if value.some(func(s *shape) bool { return s.opaque }) || value != nil && value.anywhere != nil ||
		value != nil && value.of != nil && (value.of.numbered || value.of.rest != nil) {
		s.apart("a pattern takes claims apart by how many there are")
	}
}

// compare looks at two values that are compared.
func (s *scope) compare(a, b *shape) {
	if !a.touched() {
		a, b = b, a
	}
	switch {
	case !a.touched():
	case b.touched():
		s.apart("claims or the user are compared with each other")
	default:
		s.compareWith(a, b)
	}
}

// compareWith looks at what has to do with the caller's texts, compared with what has not.
func (s *scope) compareWith(a, clean *shape) {
	switch {
	case clean == nil:
	case a.amount && clean.constant != "0":
		s.apart("how many claims there are is compared")
	case a.picked:
		s.apart("a claim is chosen by its position")
	case a.opaque:
		s.apart(notFollowed)
	case (a.user || a.claim) && clean.other:
		s.apart("a claim or the user is compared with a text that is neither in the policy nor its data")
	case (a.of != nil || a.anywhere != nil) && clean.constant == "":
		s.apart("a list or object of claims is compared as a whole")
	}
}

// eval is the shape of a term, whose variables without a value get one.
func (s *scope) eval(t *ast.Term) *shape {
	switch v := t.Value.(type) {
	case ast.Null, ast.Boolean, ast.Number, ast.String:
		return &shape{known: true, constant: v.String()}
	case ast.Var:
		switch value, bound := s.vars[v]; {
		case bound:
			return value
		case v.Equal(ast.InputRootDocument.Value):
			return inputShape
		case v.Equal(ast.DefaultRootDocument.Value):
			s.apart("all data is looked at as a whole")
			return otherShape
		}
		s.vars[v] = knownShape // one that nothing is known of, and nothing can be
		s.apart("stagedoor does not follow the variable %v", v)
		return opaqueShape
	case ast.Ref:
		return s.reference(v)
	case *ast.Array:
		return s.literal(v.Len(), v.Elem, func(i int) string { return ast.InternedTerm(i).String() },
			&collection{array: true})
	case ast.Set:
		elements := v.Slice()
		return s.literal(len(elements), func(i int) *ast.Term { return elements[i] }, nil, &collection{set: true})
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
	return opaqueShape
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
func (s *scope) literal(n int, term func(int) *ast.Term, key func(int) string, c *collection) *shape {
	members := make(map[string]*shape, n)
	whole := (*shape)(nil)
	for i := range n {
		member := s.eval(term(i))
		c.lone = c.lone || member != nil && member.claim
		whole = whole.join(member)
		if key != nil {
			members[key(i)] = member
		}
	}
	if !whole.touched() {
		return whole.orEmpty()
	}
	if c.members = members; key == nil {
		c.members, c.rest, c.numbered, c.merges = nil, whole, true, !c.lone
	}
	return &shape{of: c}
}

func (s *scope) object(o ast.Object) *shape {
	c := &collection{object: true, members: make(map[string]*shape)}
	o.Foreach(func(key, value *ast.Term) {
		member := s.eval(value)
		c.lone = c.lone || member != nil && member.claim
		if ast.IsConstant(key.Value) {
			c.members[key.String()] = member
			return
		}
		named := s.eval(key)
		if named.touched() {
			s.apart("the caller's texts are keys of an object")
		}
		c.keys, c.rest = c.keys.join(named), c.rest.join(member)
	})
	return (&shape{of: c}).normal()
}

func (s *scope) objectComprehension(v *ast.ObjectComprehension) *shape {
	inner := s.body(v.Body)
	keys, value := inner.eval(v.Key), inner.eval(v.Value)
	_, variable := v.Key.Value.(ast.Var)
	switch {
	case value.aloneSince(inner.depth):
		inner.apart("a key of an object has one claim as its value, and there may be one value only")
	case keys.touched() && !keys.isText():
		inner.apart("the caller's claims are in a key")
	case keys.touched() && value.touched():
		inner.apart("an object has the caller's texts as keys and in its values")
	case value.isCrossed() && !variable:
		inner.apart("lists of claims that are repeated are compared, as a key has one value only")
	}
	outward := func(alone int) int { return min(alone, outside) }
	if !keys.touched() && !value.touched() {
		return keys.join(value).orEmpty()
	}
	return &shape{of: &collection{
		object: true, keys: keys.moved(outward), rest: value.moved(outward), numbered: keys.touched(),
		lone: value != nil && value.claim,
	}}
}

// reference is the value at a reference.
func (s *scope) reference(ref ast.Ref) *shape {
	var value *shape
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
		return opaqueShape
	}
	for _, part := range rest {
		value = s.step(value, part)
	}
	return value
}

// data is what a reference to data begins with, and what leads on from there.
func (s *scope) data(ref ast.Ref) (*shape, []*ast.Term) {
	n := s.root
	for i, part := range ref[1:] {
		if len(n.children) == 0 {
			break
		}
		if _, constant := part.Value.(ast.String); !constant {
			s.apart("%v can be any of several rules", ref)
			return opaqueShape, nil
		}
		child := n.children[part.String()]
		if child == nil {
			return knownShape, ref[1+i:] // of data alone
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
		return opaqueShape, nil
	}
	return knownShape, nil
}

// step is what a part of a reference leads to.
func (s *scope) step(value *shape, part *ast.Term) *shape {
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
		if value.touched() {
			s.apart("a pattern looks for something among claims")
		}
		s.bindAll(part)
		return value
	}
	key := s.eval(part)
	if !value.touched() {
		s.compare(key, value)
		return value
	}
	return s.lookUp(value, key)
}

// bindAll gives the variables of a pattern a value that has nothing of the caller's.
func (s *scope) bindAll(t *ast.Term) {
	ast.WalkVars(t, func(v ast.Var) bool {
		if !s.isBound(v) {
			s.vars[v] = otherShape
		}
		return false
	})
}

// lookUp is what a key that is no constant leads to in a value of the caller's.
func (s *scope) lookUp(value, key *shape) *shape {
	switch {
	case key.touched():
		s.apart("claims or the user are compared with each other")
	case value.opaque:
		s.apart(notFollowed)
		return opaqueShape
	case value.of != nil:
		if value.of.array && value.of.numbered {
			s.apart("a claim is chosen by its position")
		}
		if value.of.set {
			s.compare(value.of.rest, key)
		}
		s.compare(value.of.keys, key)
	}
	found := value.clean()
	if value.of != nil {
		found = found.join(value.of.element())
	}
	if value.anywhere != nil {
		whole := &shape{known: value.known, other: value.other, anywhere: value.anywhere}
		found = found.join(whole).join(s.lookUp(value.anywhere, key))
	}
	return found
}

// member is what a constant leads to in a value.
func (s *scope) member(value *shape, key *ast.Term) *shape {
	if value == nil || !value.touched() {
		return value.clean()
	}
	if value.opaque {
		s.apart(notFollowed)
		return opaqueShape
	}
	found := value.clean()
	if c := value.of; c != nil {
		named := &shape{known: true, constant: key.Value.String()}
		m, is := c.members[key.String()]
		if is {
			found = found.join(m)
		}
		_, number := key.Value.(ast.Number)
		if c.array && number && c.rest != nil {
			if c.numbered {
				s.apart("a claim is chosen by its position")
			}
			found = found.join(c.rest)
		}
		if c.set {
			s.compare(c.rest, named)
			found = found.join(named)
		}
		if c.object && !is && c.rest != nil {
			s.compare(c.keys, named)
			found = found.join(c.rest)
		}
	}
	if value.anywhere != nil {
		within := &shape{known: value.known, other: value.other, anywhere: value.anywhere}
		found = found.join(within).join(s.member(value.anywhere, key))
	}
	return found
}

// iterate is any key and element of a value that is gone through.
func (s *scope) iterate(value *shape) (key, element *shape) {
	s.generators++
	if value == nil {
		return nil, nil
	}
	if !value.touched() {
		return value.clean(), value.clean()
	}
	if value.opaque {
		s.apart(notFollowed)
		return opaqueShape, opaqueShape
	}
	key, element = value.clean(), value.clean()
	if c := value.of; c != nil {
		s.multiple = s.multiple || c.numbered && !c.merges
		s.merging = s.merging || c.numbered && c.merges
		whichever := c.element().takenOut(s.depth, c.lone)
		if c.array {
			if c.numbered {
				key = key.join(pickedShape)
			} else {
				key = key.join(knownShape)
			}
		}
		if c.set {
			key = key.join(whichever)
		}
		if c.object {
			if len(c.members) > 0 {
				key = key.join(knownShape)
			}
			key = key.join(c.keys.takenOut(s.depth, false))
		}
		element = element.join(whichever)
	}
	if value.anywhere != nil {
		k, e := s.iterate(value.anywhere)
		s.generators--
		key = key.join(k)
		element = element.join(e).join(&shape{known: value.known, other: value.other, anywhere: value.anywhere})
	}
	return key, element
}
