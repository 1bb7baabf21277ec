package alike

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

// call looks at a call of a builtin or a function.
func (s *scope) call(terms []*ast.Term) {
	operator, is := terms[0].Value.(ast.Ref)
	if !is {
		s.apart("stagedoor does not know this construct (%v)", terms[0])
		return
	}
	arity := s.compiler.GetArity(operator)
	if arity < 0 || arity > len(terms)-1 {
		s.apart("stagedoor does not know the function %v", operator)
		return
	}
	operands := terms[1 : 1+arity]
	args := make([]*shape, arity)
	for i, operand := range operands {
		args[i] = s.eval(operand)
	}
	var result *shape
	if operator.HasPrefix(ast.DefaultRootRef) {
		result = s.function(operator, args)
	} else {
		result = s.builtin(operator.String(), operands, args)
	}
	if len(terms) > 1+arity {
		s.unify(terms[1+arity], result)
	}
}

// function is what a function of the policy makes of its arguments.
func (s *scope) function(operator ast.Ref, args []*shape) *shape {
	if p := s.permissions[operator.String()]; p != nil && args[0] != nil && args[0].other {
		s.question(operator, p, args[1])
		if args[0].constant == resourceShape.constant {
			return knownShape
		}
	}
	n := s.root
	for _, part := range operator[1:] {
		if n = n.children[part.String()]; n == nil {
			s.apart("stagedoor does not know the function %v", operator)
			return opaqueShape
		}
	}
	s.reach(n)
	params := s.params[n]
	if params == nil {
		params = make([]*shape, len(args))
		s.params[n] = params
	}
	claimed := 0
	for i, arg := range args {
		claimed = outermost(claimed, arg.aloneIn())
		if joined := params[i].join(arg); !joined.equal(params[i]) {
			params[i], s.grown = joined, true
		}
	}
	if claimed == 0 {
		claimed = outside
	}
	return s.values[n].moved(func(alone int) int {
		if alone == 0 {
			return 0
		}
		return claimed
	})
}

// aloneIn is the outermost scope in which a claim in the value was taken out of its
// collection.
func (s *shape) aloneIn() int {
	found := 0
	s.some(func(s *shape) bool {
		found = outermost(found, s.alone)
		return false
	})
	return found
}

// question looks at what a permission rule is asked about the resource.
func (s *scope) question(function ast.Ref, p *permission, params *shape) {
	if !params.touched() {
		return
	}
	if why := params.whyNoAnswer(); why != "" {
		s.apart("%s, in the params of %v", why, function)
	}
	if p.choosy != "" {
		s.apart("the claims or the user are in the params of %v, and its paramsSchema says %s", function, p.choosy)
	}
}

// knowing are the builtins that make no text that was not in what they were given.
var knowing = []string{
	ast.Lower.Name, ast.ObjectGet.Name, ast.ObjectKeys.Name, ast.ObjectUnion.Name, ast.ArrayConcat.Name, ast.Or.Name,
	ast.And.Name,
	ast.Minus.Name, ast.ReachableBuiltin.Name, ast.ReachablePathsBuiltin.Name, ast.JSONPatch.Name, ast.Member.Name,
	ast.MemberWithKey.Name, ast.Count.Name,
}

// typing are the builtins that say of what type a value is.
var typing = []string{
	ast.IsString.Name, ast.IsArray.Name, ast.IsObject.Name, ast.IsSet.Name, ast.IsNumber.Name, ast.IsBoolean.Name,
	ast.IsNull.Name,
	ast.TypeNameBuiltin.Name,
}

// builtin is what a builtin makes of its arguments.
func (s *scope) builtin(name string, operands []*ast.Term, args []*shape) *shape {
	all := (*shape)(nil)
	for _, arg := range args {
		all = all.join(arg)
	}
	switch {
	case !all.touched() && slices.Contains(knowing, name):
		return all.orEmpty()
	case !all.touched():
		return otherShape
	case all.some(func(s *shape) bool { return s.opaque }):
		s.apart(notFollowed)
		return opaqueShape
	case slices.Contains(typing, name):
		return otherShape
	}
	switch name {
	case ast.Equal.Name, ast.NotEqual.Name:
		s.compare(args[0], args[1])
		return knownShape
	case ast.GreaterThan.Name, ast.GreaterThanEq.Name, ast.LessThan.Name, ast.LessThanEq.Name:
		s.order(name, args)
		return knownShape
	case ast.Lower.Name:
		return s.lower(args[0])
	case ast.Count.Name:
		return s.count(args[0])
	case ast.Member.Name:
		s.compare(args[0], args[1].content())
		return knownShape
	case ast.ArrayConcat.Name, ast.Or.Name:
		return together(args[0], args[1], name == ast.Or.Name)
	case ast.And.Name, ast.Minus.Name:
		return s.difference(name, args[0], args[1])
	case ast.ObjectGet.Name:
		return s.objectGet(operands, args)
	case ast.ObjectKeys.Name:
		return s.objectKeys(args[0])
	case ast.ObjectUnion.Name:
		return all
	case ast.JSONPatch.Name:
		return s.patch(args[0], args[1])
	case ast.ReachableBuiltin.Name, ast.ReachablePathsBuiltin.Name:
		if !args[0].touched() {
			s.compare(args[1].content(), args[0])
			return args[0].orEmpty()
		}
	}
	s.apart("%s looks into a claim or the user, or at how many claims there are", name)
	return opaqueShape
}

// order looks at a comparison by size. Only whether there are any claims is all right.
func (s *scope) order(name string, args []*shape) {
	a, bound := args[0], ""
	if args[1] != nil {
		bound = args[1].constant
	}
	if !a.touched() {
		a, bound = args[1], ""
		if args[0] != nil {
			bound = args[0].constant
		}
		name = map[string]string{
			ast.GreaterThan.Name: ast.LessThan.Name, ast.LessThan.Name: ast.GreaterThan.Name,
			ast.GreaterThanEq.Name: ast.LessThanEq.Name, ast.LessThanEq.Name: ast.GreaterThanEq.Name,
		}[name]
	}
	none := "0"
	if name == ast.GreaterThanEq.Name || name == ast.LessThan.Name {
		none = "1"
	}
	if !a.isAmount() || bound != none {
		s.apart("claims, the user or how many claims there are is compared by %s", name)
	}
}

// isAmount is whether what of the value is the caller's is how many elements there are.
func (s *shape) isAmount() bool {
	return s.amount && !s.user && !s.claim && !s.picked && s.of == nil && s.anywhere == nil
}

// lower is the value in lower case.
func (s *scope) lower(value *shape) *shape {
	if value.picked {
		s.apart("a claim is chosen by its position")
	}
	return &shape{known: value.known, other: value.other, user: value.user, claim: value.claim, alone: value.alone}
}

// count is how many elements a value has.
func (s *scope) count(value *shape) *shape {
	if value.user || value.claim || value.picked || value.amount {
		s.apart("count looks into a claim or the user")
	}
	if value.anywhere != nil || value.of != nil && value.of.numbered {
		return amountShape
	}
	return otherShape
}

// content is any element of a value.
func (s *shape) content() *shape {
	if s == nil {
		return nil
	}
	found := s.clean()
	if s.of != nil {
		found = found.join(s.of.element())
	}
	if s.anywhere != nil {
		found = found.join(s)
	}
	return found
}

// together are two arrays one behind the other, or the union of two sets.
func together(a, b *shape, set bool) *shape {
	c := &collection{array: !set, set: set, rest: a.content().join(b.content()), merges: true}
	for _, s := range []*shape{a, b} {
		if s != nil && s.of != nil {
			c.numbered, c.lone = c.numbered || s.of.numbered, c.lone || s.of.lone
			c.merges = c.merges && (s.of.merges || !s.of.numbered)
			c.repeats, c.crossed = c.repeats || s.of.repeats, c.crossed || s.of.crossed
		}
		if s != nil && s.anywhere != nil {
			c.numbered, c.merges = true, false
		}
	}
	if set {
		c.numbered = true // equal elements are one
	}
	return &shape{of: c}
}

// difference is the intersection of two sets, or what one has and the other has not, or
// the difference of two numbers.
func (s *scope) difference(name string, a, b *shape) *shape {
	if a == nil || b == nil {
		return nil
	}
	for _, operand := range []*shape{a, b} {
		if operand.amount || operand.picked {
			s.apart("how many claims there are is reckoned with")
			return opaqueShape
		}
	}
	s.compare(a.content(), b.content())
	switch {
	case !a.touched():
		return a
	case name == ast.And.Name && !b.touched():
		return b
	}
	return a
}

// objectGet is what there is at a key or path, or else the default.
func (s *scope) objectGet(operands []*ast.Term, args []*shape) *shape {
	found, otherwise := args[0], args[2]
	if args[1].touched() {
		s.apart("claims or the user are compared with each other")
		return opaqueShape
	}
	if path, is := operands[1].Value.(*ast.Array); is && path.IsGround() {
		path.Foreach(func(key *ast.Term) { found = s.member(found, key) })
		return found.join(otherwise)
	}
	if ast.IsConstant(operands[1].Value) {
		return s.member(found, operands[1]).join(otherwise)
	}
	// The key can be a path, which leads to any depth.
	return s.deep(found, args[1]).join(otherwise)
}

// deep is whatever is in a value, at any depth.
func (s *scope) deep(value, key *shape) *shape {
	if value == nil {
		return nil
	}
	found := value.clean()
	if value.anywhere != nil {
		found = found.join(value).join(s.deep(value.anywhere, key))
	}
	if c := value.of; c != nil {
		s.compare(c.keys, key)
		whichever := c.element()
		if c.numbered && whichever != nil {
			if c.set {
				s.compare(whichever, key)
			}
			whichever = whichever.join(pickedShape)
		}
		found = found.join(whichever).join(s.deep(whichever, key))
	}
	return found
}

// objectKeys are the keys of an object.
func (s *scope) objectKeys(value *shape) *shape {
	if value.anywhere != nil {
		s.apart("stagedoor does not follow the keys of what json.patch made")
		return opaqueShape
	}
	keys := value.clean()
	if value.of != nil {
		if len(value.of.members) > 0 {
			keys = keys.join(knownShape)
		}
		keys = keys.join(value.of.keys)
	}
	if !keys.touched() {
		return keys.orEmpty()
	}
	return &shape{of: &collection{set: true, rest: keys, numbered: true}}
}

// patch is a value after json.patch. Only what is put into it may be the caller's.
func (s *scope) patch(tree, patches *shape) *shape {
	const tooMuch = "json.patch does more with the caller's texts than to put them in by add or replace"
	if tree.touched() || patches.of == nil || patches.anywhere != nil || patches.of.numbered || patches.of.repeats ||
		!patches.of.array {
		s.apart(tooMuch)
		return opaqueShape
	}
	element := patches.of.element()
	if element == nil || element.known || element.other || element.of == nil || !element.isDocument() {
		s.apart(tooMuch)
		return opaqueShape
	}
	op, path, value := element.of.members[`"op"`], element.of.members[`"path"`], element.of.members[`"value"`]
	if op == nil || op.constant != `"replace"` && op.constant != `"add"` || path.touched() {
		s.apart(tooMuch)
		return opaqueShape
	}
	clean := tree.orEmpty()
	return &shape{known: clean.known, other: clean.other, anywhere: value}
}
