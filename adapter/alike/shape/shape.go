// Package shape has what a data flow can know of a value: a [Shape], which stands for all
// values that a term can have. It says whether a text of the caller can be in the value, and
// where. Shapes are a lattice: [Shape.Join] is the least one above two others. Package flow
// interprets a policy with shapes in place of values (Cousot and Cousot, Abstract
// interpretation, 1977).
package shape

import (
	"maps"
	"slices"
)

// A Shape is what is known of a value: whether it can be a text of the caller, and where
// in it such a text can be. The nil shape is of no value at all. Shapes are immutable,
// and a lattice: [Shape.Join] goes up.
type Shape struct {
	// Known is a value all of whose texts are in the policy or its data; Other is one
	// with texts from elsewhere, such as a permission's name, or made of others.
	Known, Other bool
	// Constant is the text that it is, where it can be no other value.
	Constant string
	// User and claim are a text: the user's, or one of the claims.
	User, Claim bool
	// Alone is where a claim was taken out of its collection, as the depth of the scope;
	// 0 is nowhere. A claim alone has one value for each claim.
	Alone int
	// Picked is a claim that its position chose, or the position, and Amount how many
	// elements there are in what the claims are in.
	Picked, Amount bool
	// Of is what a collection has in it, where that is more than Known or Other.
	Of *Collection
	// Anywhere is of what can be put anywhere into a value that is Known or Other, or in
	// its place.
	Anywhere *Shape
	// Opaque is a value that the flow does not see through.
	Opaque bool
}

// Collection is an array, set or object that the claims have to do with.
type Collection struct {
	// Array, Set and Object are what it can be.
	Array, Set, Object bool
	// Members are those with a constant key, and Rest the others, with Keys.
	Members map[string]*Shape
	// Rest is whatever else is in it.
	Rest *Shape
	// Keys are those of Rest.
	Keys *Shape
	// Numbered is where the claims decide how many elements there are, or in which order.
	Numbered bool
	// Merges is where they do so only because equal elements of a set are one.
	Merges bool
	// Lone is where an element is a claim that was taken out of a collection.
	Lone bool
	// Repeats is where something else than a claim occurs once for each claim.
	Repeats bool
	// Crossed is where claims occur once for each of something else.
	Crossed bool
}

// The shapes of what is in no collection, and of the input.
var (
	// Known is of texts that are in the policy or its data.
	Known = &Shape{Known: true}
	// Other is of texts that are in neither.
	Other = &Shape{Other: true}
	// Resource is of the resource, which only permission rules look at.
	Resource = &Shape{Other: true, Constant: "input.resource"}
	// Opaque is of what the flow does not see through.
	Opaque = &Shape{Opaque: true}
	// Picked is of a claim that its position chose.
	Picked = &Shape{Picked: true}
	// Amount is of how many claims there are.
	Amount = &Shape{Amount: true}
	// Input is of the input.
	Input = ObjectOf(map[string]*Shape{
		`"permission"`: Other,
		`"resource"`:   Resource,
		`"identity"`:   ObjectOf(map[string]*Shape{`"user"`: userShape, `"claims"`: claimsShape, `"actor"`: Other}),
	})

	userShape   = &Shape{User: true}
	claimShape  = &Shape{Claim: true}
	claimsShape = &Shape{Of: &Collection{Array: true, Rest: claimShape, Numbered: true}}
)

// MaxDepth is how deep a shape is followed: functions can nest values without end.
const MaxDepth = 16

// ObjectOf is the shape of an object with these members.
func ObjectOf(members map[string]*Shape) *Shape {
	return (&Shape{Of: &Collection{Object: true, Members: members}}).Normal()
}

// Touched is whether a text of the caller has to do with the value.
func (s *Shape) Touched() bool {
	return s != nil && (s.User || s.Claim || s.Picked || s.Amount || s.Of != nil || s.Anywhere != nil || s.Opaque)
}

// IsText is whether what of the value is the caller's is a text alone.
func (s *Shape) IsText() bool {
	return s.Of == nil && s.Anywhere == nil && !s.Opaque && !s.Picked && !s.Amount
}

// Clean is a shape of which a part of the caller's is left out.
func (s *Shape) Clean() *Shape {
	switch {
	case s == nil || !s.Known && !s.Other:
		return nil
	case s.Touched():
		return &Shape{Known: s.Known, Other: s.Other}
	}
	return s
}

// Normal is a collection that has nothing of the caller's as what it is made of.
func (s *Shape) Normal() *Shape {
	if s == nil || s.Of == nil || s.Of.Numbered || s.Of.Repeats {
		return s
	}
	parts := (*Shape)(nil)
	for _, m := range s.Of.Members {
		parts = parts.Join(m)
	}
	parts = parts.Join(s.Of.Rest).Join(s.Of.Keys)
	if parts.Touched() {
		return s
	}
	plain := *s
	plain.Of, plain.Constant = nil, ""
	plain.Known, plain.Other = s.Known || parts == nil || parts.Known, s.Other || parts != nil && parts.Other
	return &plain
}

// each calls f for the shapes of what is in a collection.
func (c *Collection) each(f func(*Shape)) {
	for _, m := range c.Members {
		f(m)
	}
	f(c.Rest)
	f(c.Keys)
}

// Element is any element of a collection, nil for none.
func (c *Collection) Element() *Shape {
	whichever := c.Rest
	for _, m := range c.Members {
		whichever = whichever.Join(m)
	}
	return whichever
}

// Join is the shape of what has one of two shapes.
func (s *Shape) Join(t *Shape) *Shape {
	switch {
	case s == nil || s == t:
		return t
	case t == nil:
		return s
	case s.Opaque:
		return s
	case t.Opaque:
		return t
	}
	j := &Shape{
		Known: s.Known || t.Known, Other: s.Other || t.Other,
		User: s.User || t.User, Claim: s.Claim || t.Claim, Alone: Outermost(s.Alone, t.Alone),
		Picked: s.Picked || t.Picked, Amount: s.Amount || t.Amount,
		Anywhere: s.Anywhere.Join(t.Anywhere), Of: s.Of.join(t.Of),
	}
	if s.Constant == t.Constant {
		j.Constant = s.Constant
	}
	if j.Depth() > MaxDepth {
		return Opaque
	}
	return j
}

// Outermost is the outer one of two scopes of which one may be nowhere.
func Outermost(a, b int) int {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

func (c *Collection) join(d *Collection) *Collection {
	switch {
	case c == nil:
		return d
	case d == nil || c == d:
		return c
	}
	j := &Collection{
		Array: c.Array || d.Array, Set: c.Set || d.Set, Object: c.Object || d.Object,
		Rest: c.Rest.Join(d.Rest), Keys: c.Keys.Join(d.Keys),
		Numbered: c.Numbered || d.Numbered, Merges: (c.Merges || !c.Numbered) && (d.Merges || !d.Numbered), Lone: c.Lone ||
			d.Lone,
		Repeats: c.Repeats || d.Repeats, Crossed: c.Crossed || d.Crossed,
	}
	if len(c.Members)+len(d.Members) > 0 {
		j.Members = maps.Clone(c.Members)
		if j.Members == nil {
			j.Members = make(map[string]*Shape)
		}
		for key, m := range d.Members {
			j.Members[key] = j.Members[key].Join(m)
		}
	}
	return j
}

// Depth is how deep what is known of the value is nested.
func (s *Shape) Depth() int {
	if s == nil {
		return 0
	}
	deepest := 0
	if s.Anywhere != nil {
		deepest = s.Anywhere.Depth() + 1
	}
	if s.Of != nil {
		s.Of.each(func(m *Shape) { deepest = max(deepest, m.Depth()) })
		deepest++
	}
	return deepest
}

// Equal is whether two shapes say the same.
func (s *Shape) Equal(t *Shape) bool {
	if s == nil || t == nil || s == t {
		return s == t
	}
	return s.Known == t.Known && s.Other == t.Other && s.Constant == t.Constant && s.User == t.User &&
		s.Claim == t.Claim &&
		s.Alone == t.Alone && s.Picked == t.Picked && s.Amount == t.Amount && s.Opaque == t.Opaque &&
		s.Anywhere.Equal(t.Anywhere) && s.Of.equal(t.Of)
}

func (c *Collection) equal(d *Collection) bool {
	if c == nil || d == nil || c == d {
		return c == d
	}
	return c.Array == d.Array && c.Set == d.Set && c.Object == d.Object && c.Numbered == d.Numbered &&
		c.Merges == d.Merges && c.Lone == d.Lone &&
		c.Repeats == d.Repeats && c.Crossed == d.Crossed && c.Rest.Equal(d.Rest) && c.Keys.Equal(d.Keys) &&
		maps.EqualFunc(c.Members, d.Members, (*Shape).Equal)
}

// Moved is the shape with each claim alone said to be so since another scope.
func (s *Shape) Moved(to func(int) int) *Shape {
	if !s.Touched() {
		return s
	}
	m := *s
	m.Alone = to(s.Alone)
	m.Anywhere = s.Anywhere.Moved(to)
	if s.Of != nil {
		of := *s.Of
		of.Rest, of.Keys, of.Members = s.Of.Rest.Moved(to), s.Of.Keys.Moved(to), nil
		if len(s.Of.Members) > 0 {
			of.Members = make(map[string]*Shape, len(s.Of.Members))
			for key, member := range s.Of.Members {
				of.Members[key] = member.Moved(to)
			}
		}
		m.Of = &of
	}
	return &m
}

// AloneSince is whether a claim in it is alone since that scope.
func (s *Shape) AloneSince(scope int) bool {
	return s.Some(func(s *Shape) bool { return s.Claim && s.Alone == scope })
}

// IsCrossed is whether a collection in it is.
func (s *Shape) IsCrossed() bool {
	return s.Some(func(s *Shape) bool { return s.Of != nil && s.Of.Crossed })
}

// Some is whether a condition holds for the shape or for one in it.
func (s *Shape) Some(holds func(*Shape) bool) bool {
	if s == nil {
		return false
	}
	if holds(s) || s.Anywhere.Some(holds) {
		return true
	}
	if s.Of == nil {
		return false
	}
	found := false
	s.Of.each(func(m *Shape) { found = found || m.Some(holds) })
	return found
}

// OrEmpty is the shape of a collection of what has the shape, which is known where there
// is nothing in it.
func (s *Shape) OrEmpty() *Shape {
	if s == nil {
		return Known
	}
	return &Shape{Known: s.Known, Other: s.Other}
}

// WhyNoAnswer says why a value cannot be part of an answer in which the texts of the
// caller are put back; it is empty where it can.
func (s *Shape) WhyNoAnswer() string {
	switch {
	case s == nil:
		return ""
	case s.Opaque:
		return NotFollowed
	case s.Amount:
		return "the answer says how many claims there are"
	case s.Picked:
		return "the answer has a claim that its position chose"
	case s.Claim:
		return "the answer has one claim by itself, not in the list of all"
	}
	if why := s.Anywhere.WhyNoAnswer(); why != "" || s.Of == nil {
		return why
	}
	switch {
	case s.Of.Lone:
		return "the answer has one claim by itself, not in the list of all"
	case s.Of.Repeats:
		return "the answer has something for each claim"
	case s.Of.Keys != nil && s.Of.Keys.Touched():
		return "the answer has names that are the caller's"
	}
	rest := s.Of.Rest
	if rest != nil && rest.Claim {
		others := *rest
		others.Claim, others.Alone = false, 0
		rest = &others
	}
	if why := rest.WhyNoAnswer(); why != "" {
		return why
	}
	for _, key := range slices.Sorted(maps.Keys(s.Of.Members)) {
		if why := s.Of.Members[key].WhyNoAnswer(); why != "" {
			return why
		}
	}
	return ""
}

// TakenOut is the shape of an element that is taken out of a collection in a scope.
func (s *Shape) TakenOut(scope int, lone bool) *Shape {
	if s == nil || !s.Claim || lone {
		return s
	}
	alone := *s
	alone.Alone = scope
	return &alone
}

// IsDocument is whether the value is an object whose members are all known by name.
func (s *Shape) IsDocument() bool {
	return s.Of.Object && !s.Of.Array && !s.Of.Set && s.Of.Rest == nil && s.Anywhere == nil && !s.Opaque
}

// OrKnown is the shape, or Known where there is none.
func (s *Shape) OrKnown() *Shape {
	if s == nil {
		return Known
	}
	return s
}

// AloneIn is the outermost scope in which a claim in the value was taken out of its
// collection.
func (s *Shape) AloneIn() int {
	found := 0
	s.Some(func(s *Shape) bool {
		found = Outermost(found, s.Alone)
		return false
	})
	return found
}

// IsAmount is whether what of the value is the caller's is how many elements there are.
func (s *Shape) IsAmount() bool {
	return s.Amount && !s.User && !s.Claim && !s.Picked && s.Of == nil && s.Anywhere == nil
}

// Content is any element of a value.
func (s *Shape) Content() *Shape {
	if s == nil {
		return nil
	}
	found := s.Clean()
	if s.Of != nil {
		found = found.Join(s.Of.Element())
	}
	if s.Anywhere != nil {
		found = found.Join(s)
	}
	return found
}

// Together are two arrays one behind the other, or the union of two sets.
func Together(a, b *Shape, set bool) *Shape {
	c := &Collection{Array: !set, Set: set, Rest: a.Content().Join(b.Content()), Merges: true}
	for _, s := range []*Shape{a, b} {
		if s != nil && s.Of != nil {
			c.Numbered, c.Lone = c.Numbered || s.Of.Numbered, c.Lone || s.Of.Lone
			c.Merges = c.Merges && (s.Of.Merges || !s.Of.Numbered)
			c.Repeats, c.Crossed = c.Repeats || s.Of.Repeats, c.Crossed || s.Of.Crossed
		}
		if s != nil && s.Anywhere != nil {
			c.Numbered, c.Merges = true, false
		}
	}
	if set {
		c.Numbered = true // equal elements are one
	}
	return &Shape{Of: c}
}

// NotFollowed is said where nothing is known of a value.
const NotFollowed = "what becomes of the claims here is not followed"
