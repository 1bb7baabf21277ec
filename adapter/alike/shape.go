package alike

import (
	"maps"
	"slices"
)

// A shape is what is known of a value: whether it can be a text of the caller, and where
// in it such a text can be. The nil shape is of no value at all. Shapes are immutable,
// and a lattice: [shape.join] goes up.
type shape struct {
	// known is a value all of whose texts are in the policy or its data; other is one
	// with texts from elsewhere, such as a permission's name, or made of others.
	known, other bool
	// constant is the text that it is, where it can be no other value.
	constant string
	// user and claim are a text: the user's, or one of the claims.
	user, claim bool
	// alone is where a claim was taken out of its collection, as the depth of the scope;
	// 0 is nowhere. A claim alone has one value for each claim.
	alone int
	// picked is a claim that its position chose, or the position, and amount how many
	// elements there are in what the claims are in.
	picked, amount bool
	// of is what a collection has in it, where that is more than known or other.
	of *collection
	// anywhere is of what can be put anywhere into a value that is known or other, or in
	// its place.
	anywhere *shape
	// opaque is a value that the flow does not see through.
	opaque bool
}

// collection is an array, set or object that the claims have to do with.
type collection struct {
	array, set, object bool
	// members are those with a constant key, and rest the others, with the keys.
	members map[string]*shape
	rest    *shape
	keys    *shape
	// numbered is where the claims decide how many elements there are, or in which order.
	numbered bool
	// merges is where they do so only because equal elements of a set are one.
	merges bool
	// lone is where an element is a claim that was taken out of a collection.
	lone bool
	// repeats is where something else than a claim occurs once for each claim.
	repeats bool
	// crossed is where claims occur once for each of something else.
	crossed bool
}

// The depths of scopes.
const (
	outside   = 1 // the arguments of a function, and what came by a collection
	ruleScope = 2 // the body of a rule; what is nested in it is deeper
)

var (
	knownShape = &shape{known: true}
	otherShape = &shape{other: true}
	// resourceShape is of the resource, which only permission rules look at.
	resourceShape = &shape{other: true, constant: "input.resource"}
	opaqueShape   = &shape{opaque: true}
	userShape     = &shape{user: true}
	claimShape    = &shape{claim: true}
	pickedShape   = &shape{picked: true}
	amountShape   = &shape{amount: true}
	claimsShape   = &shape{of: &collection{array: true, rest: claimShape, numbered: true}}
	inputShape    = objectOf(map[string]*shape{
		`"permission"`: otherShape,
		`"resource"`:   resourceShape,
		`"identity"`:   objectOf(map[string]*shape{`"user"`: userShape, `"claims"`: claimsShape, `"actor"`: otherShape}),
	})
)

// maxDepth is how deep a shape is followed: functions can nest values without end.
const maxDepth = 16

func objectOf(members map[string]*shape) *shape {
	return (&shape{of: &collection{object: true, members: members}}).normal()
}

// touched is whether a text of the caller has to do with the value.
func (s *shape) touched() bool {
	return s != nil && (s.user || s.claim || s.picked || s.amount || s.of != nil || s.anywhere != nil || s.opaque)
}

// isText is whether what of the value is the caller's is a text alone.
func (s *shape) isText() bool {
	return s.of == nil && s.anywhere == nil && !s.opaque && !s.picked && !s.amount
}

// clean is a shape of which a part of the caller's is left out.
func (s *shape) clean() *shape {
	switch {
	case s == nil || !s.known && !s.other:
		return nil
	case s.touched():
		return &shape{known: s.known, other: s.other}
	}
	return s
}

// normal is a collection that has nothing of the caller's as what it is made of.
func (s *shape) normal() *shape {
	if s == nil || s.of == nil || s.of.numbered || s.of.repeats {
		return s
	}
	parts := (*shape)(nil)
	for _, m := range s.of.members {
		parts = parts.join(m)
	}
	parts = parts.join(s.of.rest).join(s.of.keys)
	if parts.touched() {
		return s
	}
	plain := *s
	plain.of, plain.constant = nil, ""
	plain.known, plain.other = s.known || parts == nil || parts.known, s.other || parts != nil && parts.other
	return &plain
}

// each calls f for the shapes of what is in a collection.
func (c *collection) each(f func(*shape)) {
	for _, m := range c.members {
		f(m)
	}
	f(c.rest)
	f(c.keys)
}

// element is any element of a collection, nil for none.
func (c *collection) element() *shape {
	whichever := c.rest
	for _, m := range c.members {
		whichever = whichever.join(m)
	}
	return whichever
}

// join is the shape of what has one of two shapes.
func (s *shape) join(t *shape) *shape {
	switch {
	case s == nil || s == t:
		return t
	case t == nil:
		return s
	case s.opaque:
		return s
	case t.opaque:
		return t
	}
	j := &shape{
		known: s.known || t.known, other: s.other || t.other,
		user: s.user || t.user, claim: s.claim || t.claim, alone: outermost(s.alone, t.alone),
		picked: s.picked || t.picked, amount: s.amount || t.amount,
		anywhere: s.anywhere.join(t.anywhere), of: s.of.join(t.of),
	}
	if s.constant == t.constant {
		j.constant = s.constant
	}
	if j.depth() > maxDepth {
		return opaqueShape
	}
	return j
}

// outermost is the outer one of two scopes of which one may be nowhere.
func outermost(a, b int) int {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

func (c *collection) join(d *collection) *collection {
	switch {
	case c == nil:
		return d
	case d == nil || c == d:
		return c
	}
	j := &collection{
		array: c.array || d.array, set: c.set || d.set, object: c.object || d.object,
		rest: c.rest.join(d.rest), keys: c.keys.join(d.keys),
		numbered: c.numbered || d.numbered, merges: (c.merges || !c.numbered) && (d.merges || !d.numbered), lone: c.lone ||
			d.lone,
		repeats: c.repeats || d.repeats, crossed: c.crossed || d.crossed,
	}
	if len(c.members)+len(d.members) > 0 {
		j.members = maps.Clone(c.members)
		if j.members == nil {
			j.members = make(map[string]*shape)
		}
		for key, m := range d.members {
			j.members[key] = j.members[key].join(m)
		}
	}
	return j
}

func (s *shape) depth() int {
	if s == nil {
		return 0
	}
	deepest := 0
	if s.anywhere != nil {
		deepest = s.anywhere.depth() + 1
	}
	if s.of != nil {
		s.of.each(func(m *shape) { deepest = max(deepest, m.depth()) })
		deepest++
	}
	return deepest
}

func (s *shape) equal(t *shape) bool {
	if s == nil || t == nil || s == t {
		return s == t
	}
	return s.known == t.known && s.other == t.other && s.constant == t.constant && s.user == t.user &&
		s.claim == t.claim &&
		s.alone == t.alone && s.picked == t.picked && s.amount == t.amount && s.opaque == t.opaque &&
		s.anywhere.equal(t.anywhere) && s.of.equal(t.of)
}

func (c *collection) equal(d *collection) bool {
	if c == nil || d == nil || c == d {
		return c == d
	}
	return c.array == d.array && c.set == d.set && c.object == d.object && c.numbered == d.numbered &&
		c.merges == d.merges && c.lone == d.lone &&
		c.repeats == d.repeats && c.crossed == d.crossed && c.rest.equal(d.rest) && c.keys.equal(d.keys) &&
		maps.EqualFunc(c.members, d.members, (*shape).equal)
}

// moved is the shape with each claim alone said to be so since another scope.
func (s *shape) moved(to func(int) int) *shape {
	if !s.touched() {
		return s
	}
	m := *s
	m.alone = to(s.alone)
	m.anywhere = s.anywhere.moved(to)
	if s.of != nil {
		of := *s.of
		of.rest, of.keys, of.members = s.of.rest.moved(to), s.of.keys.moved(to), nil
		if len(s.of.members) > 0 {
			of.members = make(map[string]*shape, len(s.of.members))
			for key, member := range s.of.members {
				of.members[key] = member.moved(to)
			}
		}
		m.of = &of
	}
	return &m
}

// aloneSince is whether a claim in it is alone since that scope.
func (s *shape) aloneSince(scope int) bool {
	return s.some(func(s *shape) bool { return s.claim && s.alone == scope })
}

// crossed is whether a collection in it is.
func (s *shape) isCrossed() bool {
	return s.some(func(s *shape) bool { return s.of != nil && s.of.crossed })
}

// some is whether a condition holds for the shape or for one in it.
func (s *shape) some(holds func(*shape) bool) bool {
	if s == nil {
		return false
	}
	if holds(s) || s.anywhere.some(holds) {
		return true
	}
	if s.of == nil {
		return false
	}
	found := false
	s.of.each(func(m *shape) { found = found || m.some(holds) })
	return found
}

// collected is the shape of an array or set of all solutions of a body in a scope, each
// of which is an element: a claim that was alone in the scope is in it for each claim.
func (s *scope) collected(element *shape, set bool) *shape {
	if !element.touched() && (set || !s.multiple && !s.merging) {
		return element.orEmpty()
	}
	c := &collection{array: !set, set: set, numbered: element.touched() && set || s.multiple || s.merging,
		merges: !s.multiple}
	if element != nil && element.claim {
		c.lone = element.alone != s.depth && element.alone != 0
		c.crossed, c.merges = s.generators > 1, false
		if !c.lone {
			alone := *element
			alone.alone, alone.constant = 0, ""
			element = &alone
		}
		c.numbered = true
	} else if !set {
		c.repeats = s.multiple
	}
	c.rest = element.moved(func(alone int) int { return min(alone, outside) })
	if c.rest.depth() >= maxDepth {
		return opaqueShape
	}
	return (&shape{of: c}).normal()
}

// orEmpty is the shape of a collection of what has the shape, which is known where there
// is nothing in it.
func (s *shape) orEmpty() *shape {
	if s == nil {
		return knownShape
	}
	return &shape{known: s.known, other: s.other}
}

// whyNoAnswer says why a value cannot be part of an answer in which the texts of the
// caller are put back; it is empty where it can.
func (s *shape) whyNoAnswer() string {
	switch {
	case s == nil:
		return ""
	case s.opaque:
		return notFollowed
	case s.amount:
		return "the answer says how many claims there are"
	case s.picked:
		return "the answer has a claim that its position chose"
	case s.claim:
		return "the answer has one claim by itself, not in the list of all"
	}
	if why := s.anywhere.whyNoAnswer(); why != "" || s.of == nil {
		return why
	}
	switch {
	case s.of.lone:
		return "the answer has one claim by itself, not in the list of all"
	case s.of.repeats:
		return "the answer has something for each claim"
	case s.of.keys != nil && s.of.keys.touched():
		return "the answer has names that are the caller's"
	}
	rest := s.of.rest
	if rest != nil && rest.claim {
		others := *rest
		others.claim, others.alone = false, 0
		rest = &others
	}
	if why := rest.whyNoAnswer(); why != "" {
		return why
	}
	for _, key := range slices.Sorted(maps.Keys(s.of.members)) {
		if why := s.of.members[key].whyNoAnswer(); why != "" {
			return why
		}
	}
	return ""
}

// takenOut is the shape of an element that is taken out of a collection in a scope.
func (s *shape) takenOut(scope int, lone bool) *shape {
	if s == nil || !s.claim || lone {
		return s
	}
	alone := *s
	alone.alone = scope
	return &alone
}
