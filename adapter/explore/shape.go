package explore

import "github.com/open-policy-agent/opa/v1/ast"

// A shape is what is known of where the resource is in a value: it is the value
// itself, or a member of it, at any depth. The nil shape is of a value that the
// resource is nowhere in.
//
// Shapes are a lattice: [shape.join] goes up, from unseen, of what was not looked at
// yet, by way of one source's shape, to what can be the resource or something else.
type shape struct {
	unseen   bool
	resource bool // the value can be the resource
	other    bool // and it can be something else
	// members are the shapes of some members by their key, and rest is that of all
	// others, of which there are some where it is open.
	members map[string]*shape
	rest    *shape
	open    bool
	whole   bool // it is the input as a whole
}

var (
	unseenShape   = &shape{unseen: true}
	resourceShape = &shape{resource: true}
	inputShape    = &shape{members: map[string]*shape{resourceKey.String(): resourceShape}, open: true, whole: true}
)

// maxDepth is how deep a shape is followed. Below, whatever holds the resource is
// something that can be it, or not, so that nothing can be done with it. That a shape
// cannot grow for ever is why following the resource ends.
const maxDepth = 8

// is is whether the value is certainly the resource.
func (s *shape) is() bool {
	return s != nil && s.resource && !s.other && len(s.members) == 0 && !s.open
}

// holds is whether the resource can be the value or in it.
func (s *shape) holds() bool {
	if s == nil {
		return false
	}
	if s.resource || s.rest.holds() {
		return true
	}
	for _, m := range s.members {
		if m.holds() {
			return true
		}
	}
	return false
}

// uncertain is whether somewhere there can be the resource or something else.
func (s *shape) uncertain() bool {
	if s == nil {
		return false
	}
	if s.resource && !s.is() || s.rest.uncertain() {
		return true
	}
	for _, m := range s.members {
		if m.uncertain() {
			return true
		}
	}
	return false
}

// member is the shape of the member with a key, or of any where the key is not known.
func (s *shape) member(key *ast.Term) *shape {
	if s == nil || s.unseen {
		return s
	}
	if ast.IsConstant(key.Value) {
		if m, ok := s.members[key.String()]; ok {
			return m
		}
		return s.rest
	}
	anything := unseenShape
	if s.open {
		anything = s.rest
	}
	for _, m := range s.members {
		anything = anything.join(m)
	}
	return anything
}

// normal is a shape, or nil where the resource is not in it.
func (s *shape) normal() *shape {
	if s.holds() || s != nil && s.unseen {
		return s
	}
	return nil
}

// join is the shape of what has one of two shapes.
func (s *shape) join(other *shape) *shape { return s.joinAt(other, 0) }

func (s *shape) joinAt(other *shape, depth int) *shape {
	switch {
	case s == other, other != nil && other.unseen:
		return s
	case s != nil && s.unseen:
		return other
	case s.equal(other):
		return s
	}
	a, b := s.orClean(), other.orClean()
	j := &shape{
		resource: a.resource || b.resource,
		other:    a.other || b.other || a.resource != b.resource,
		open:     a.open || b.open,
		whole:    a.whole && b.whole,
	}
	if depth == maxDepth {
		return (&shape{resource: true, other: true}).normal()
	}
	j.rest = a.rest.joinAt(b.rest, depth+1)
	for _, from := range []*shape{a, b} {
		for key := range from.members {
			if j.members == nil {
				j.members = make(map[string]*shape)
			}
			j.members[key] = a.at(key).joinAt(b.at(key), depth+1)
		}
	}
	return j.normal()
}

// orClean is a shape that can be read, of the nil shape too.
func (s *shape) orClean() *shape {
	if s == nil {
		return &shape{open: true}
	}
	return s
}

func (s *shape) at(key string) *shape {
	if m, ok := s.members[key]; ok {
		return m
	}
	return s.rest
}

func (s *shape) equal(other *shape) bool {
	if s == nil || other == nil || s == other {
		return s == other
	}
	if s.unseen != other.unseen || s.resource != other.resource || s.other != other.other || s.open != other.open ||
		s.whole != other.whole || len(s.members) != len(other.members) || !s.rest.equal(other.rest) {
		return false
	}
	for key, m := range s.members {
		if o, ok := other.members[key]; !ok || !m.equal(o) {
			return false
		}
	}
	return true
}

// built is the shape of an array or object that is built of members, which take up
// one level more.
func built(members map[string]*shape) *shape {
	s := &shape{members: members}
	if !s.holds() {
		for _, m := range members {
			if m != nil && m.unseen {
				return unseenShape
			}
		}
		return nil
	}
	if s.depth() > maxDepth {
		return &shape{resource: true, other: true}
	}
	return s
}

// builtOf is the shape of an array or object of which any member has the shape.
func builtOf(member *shape) *shape {
	if !member.holds() {
		return member
	}
	s := &shape{rest: member, open: true}
	if s.depth() > maxDepth {
		return &shape{resource: true, other: true}
	}
	return s
}

func (s *shape) depth() int {
	if s == nil {
		return 0
	}
	deepest := s.rest.depth()
	for _, m := range s.members {
		deepest = max(deepest, m.depth())
	}
	return deepest + 1
}

// classes are the variables of a rule, those that are unified with each other taken
// together, in a union-find structure, with the shape of each class.
type classes struct {
	parent map[ast.Var]ast.Var
	of     map[ast.Var]*class // by the root of a class
}

// class is what is known of the variables of one class.
type class struct {
	shape *shape
	from  map[any]bool // what the resource comes from: expressions, and numbers of arguments
}

func newClasses() classes {
	return classes{parent: make(map[ast.Var]ast.Var), of: make(map[ast.Var]*class)}
}

// root ends because a variable's parent is nearer to the root than it is.
func (c *classes) root(v ast.Var) ast.Var {
	for {
		up, ok := c.parent[v]
		if !ok {
			return v
		}
		v = up
	}
}

// join makes one class of two, and is whether that changed anything.
func (c *classes) join(a, b ast.Var) bool {
	a, b = c.root(a), c.root(b)
	if a == b {
		return false
	}
	c.parent[b] = a
	if from := c.of[b]; from != nil {
		for source := range from.from {
			c.add(a, source, from.shape)
		}
		delete(c.of, b)
	}
	return true
}

// add notes that the value of a variable has a shape, and from where, and is whether
// that is new.
func (c *classes) add(v ast.Var, from any, s *shape) bool {
	if s == nil {
		return false
	}
	v = c.root(v)
	of := c.of[v]
	if of == nil {
		of = &class{shape: unseenShape, from: make(map[any]bool)}
		c.of[v] = of
	}
	of.from[from] = true
	joined := of.shape.join(s)
	if joined.equal(of.shape) {
		return false
	}
	of.shape = joined
	return true
}

func (c *classes) shape(v ast.Var) *shape {
	if of := c.of[c.root(v)]; of != nil {
		return of.shape
	}
	return nil
}

// params are the numbers of the arguments that a variable has the resource from, and
// whether it has it from nothing else.
func (c *classes) params(v ast.Var) (numbers []int, alone bool) {
	of := c.of[c.root(v)]
	if of == nil {
		return nil, false
	}
	for from := range of.from {
		if i, ok := from.(int); ok {
			numbers = append(numbers, i)
		}
	}
	return numbers, len(numbers) == len(of.from)
}

// ambiguous is whether a class has the resource from several places of which one can
// be something else, so that unifying them compares.
func (c *classes) ambiguous(v ast.Var) bool {
	of := c.of[c.root(v)]
	return of != nil && len(of.from) > 1 && of.shape.uncertain()
}
