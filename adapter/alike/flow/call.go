package flow

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/adapter/alike/shape"
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
	args := make([]*shape.Shape, arity)
	for i, operand := range operands {
		args[i] = s.eval(operand)
	}
	var result *shape.Shape
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
func (s *scope) function(operator ast.Ref, args []*shape.Shape) *shape.Shape {
	if p := s.permissions[operator.String()]; p != nil && args[0] != nil && args[0].Other {
		s.question(operator, p, args[1])
		if args[0].Constant == shape.Resource.Constant {
			return shape.Known
		}
	}
	n := s.root
	for _, part := range operator[1:] {
		if n = n.children[part.String()]; n == nil {
			s.apart("stagedoor does not know the function %v", operator)
			return shape.Opaque
		}
	}
	s.reach(n)
	params := s.params[n]
	if params == nil {
		params = make([]*shape.Shape, len(args))
		s.params[n] = params
	}
	claimed := 0
	for i, arg := range args {
		claimed = shape.Outermost(claimed, arg.AloneIn())
		if joined := params[i].Join(arg); !joined.Equal(params[i]) {
			params[i], s.grown = joined, true
		}
	}
	if claimed == 0 {
		claimed = outside
	}
	return s.values[n].Moved(func(alone int) int {
		if alone == 0 {
			return 0
		}
		return claimed
	})
}

// question looks at what a permission rule is asked about the resource.
func (s *scope) question(function ast.Ref, p *permission, params *shape.Shape) {
	if !params.Touched() {
		return
	}
	if why := params.WhyNoAnswer(); why != "" {
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
func (s *scope) builtin(name string, operands []*ast.Term, args []*shape.Shape) *shape.Shape {
	all := (*shape.Shape)(nil)
	for _, arg := range args {
		all = all.Join(arg)
	}
	switch {
	case !all.Touched() && slices.Contains(knowing, name):
		return all.OrEmpty()
	case !all.Touched():
		return shape.Other
	case all.Some(func(s *shape.Shape) bool { return s.Opaque }):
		s.apart(shape.NotFollowed)
		return shape.Opaque
	case slices.Contains(typing, name):
		return shape.Other
	}
	switch name {
	case ast.Equal.Name, ast.NotEqual.Name:
		s.compare(args[0], args[1])
		return shape.Known
	case ast.GreaterThan.Name, ast.GreaterThanEq.Name, ast.LessThan.Name, ast.LessThanEq.Name:
		s.order(name, args)
		return shape.Known
	case ast.Lower.Name:
		return s.lower(args[0])
	case ast.Count.Name:
		return s.count(args[0])
	case ast.Member.Name:
		s.compare(args[0], args[1].Content())
		return shape.Known
	case ast.ArrayConcat.Name, ast.Or.Name:
		return shape.Together(args[0], args[1], name == ast.Or.Name)
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
		if !args[0].Touched() {
			s.compare(args[1].Content(), args[0])
			return args[0].OrEmpty()
		}
	}
	s.apart("%s looks into a claim or the user, or at how many claims there are", name)
	return shape.Opaque
}

// order looks at a comparison by size. Only whether there are any claims is all right.
func (s *scope) order(name string, args []*shape.Shape) {
	a, bound := args[0], ""
	if args[1] != nil {
		bound = args[1].Constant
	}
	if !a.Touched() {
		a, bound = args[1], ""
		if args[0] != nil {
			bound = args[0].Constant
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
	if !a.IsAmount() || bound != none {
		s.apart("claims, the user or how many claims there are is compared by %s", name)
	}
}

// lower is the value in lower case.
func (s *scope) lower(value *shape.Shape) *shape.Shape {
	if value.Picked {
		s.apart("a claim is chosen by its position")
	}
	return &shape.Shape{Known: value.Known, Other: value.Other, User: value.User, Claim: value.Claim, Alone: value.Alone}
}

// count is how many elements a value has.
func (s *scope) count(value *shape.Shape) *shape.Shape {
	if value.User || value.Claim || value.Picked || value.Amount {
		s.apart("count looks into a claim or the user")
	}
	if value.Anywhere != nil || value.Of != nil && value.Of.Numbered {
		return shape.Amount
	}
	return shape.Other
}

// difference is the intersection of two sets, or what one has and the other has not, or
// the difference of two numbers.
func (s *scope) difference(name string, a, b *shape.Shape) *shape.Shape {
	if a == nil || b == nil {
		return nil
	}
	for _, operand := range []*shape.Shape{a, b} {
		if operand.Amount || operand.Picked {
			s.apart("how many claims there are is reckoned with")
			return shape.Opaque
		}
	}
	s.compare(a.Content(), b.Content())
	switch {
	case !a.Touched():
		return a
	case name == ast.And.Name && !b.Touched():
		return b
	}
	return a
}

// objectGet is what there is at a key or path, or else the default.
func (s *scope) objectGet(operands []*ast.Term, args []*shape.Shape) *shape.Shape {
	found, otherwise := args[0], args[2]
	if args[1].Touched() {
		s.apart("claims or the user are compared with each other")
		return shape.Opaque
	}
	if path, is := operands[1].Value.(*ast.Array); is && path.IsGround() {
		path.Foreach(func(key *ast.Term) { found = s.member(found, key) })
		return found.Join(otherwise)
	}
	if ast.IsConstant(operands[1].Value) {
		return s.member(found, operands[1]).Join(otherwise)
	}
	// The key can be a path, which leads to any depth.
	return s.deep(found, args[1]).Join(otherwise)
}

// deep is whatever is in a value, at any depth.
func (s *scope) deep(value, key *shape.Shape) *shape.Shape {
	if value == nil {
		return nil
	}
	found := value.Clean()
	if value.Anywhere != nil {
		found = found.Join(value).Join(s.deep(value.Anywhere, key))
	}
	if c := value.Of; c != nil {
		s.compare(c.Keys, key)
		whichever := c.Element()
		if c.Numbered && whichever != nil {
			if c.Set {
				s.compare(whichever, key)
			}
			whichever = whichever.Join(shape.Picked)
		}
		found = found.Join(whichever).Join(s.deep(whichever, key))
	}
	return found
}

// objectKeys are the keys of an object.
func (s *scope) objectKeys(value *shape.Shape) *shape.Shape {
	if value.Anywhere != nil {
		s.apart("stagedoor does not follow the keys of what json.patch made")
		return shape.Opaque
	}
	keys := value.Clean()
	if value.Of != nil {
		if len(value.Of.Members) > 0 {
			keys = keys.Join(shape.Known)
		}
		keys = keys.Join(value.Of.Keys)
	}
	if !keys.Touched() {
		return keys.OrEmpty()
	}
	return &shape.Shape{Of: &shape.Collection{Set: true, Rest: keys, Numbered: true}}
}

// patch is a value after json.patch. Only what is put into it may be the caller's.
func (s *scope) patch(tree, patches *shape.Shape) *shape.Shape {
	const tooMuch = "json.patch does more with the caller's texts than to put them in by add or replace"
	if tree.Touched() || patches.Of == nil || patches.Anywhere != nil || patches.Of.Numbered || patches.Of.Repeats ||
		!patches.Of.Array {
		s.apart(tooMuch)
		return shape.Opaque
	}
	element := patches.Of.Element()
	if element == nil || element.Known || element.Other || element.Of == nil || !element.IsDocument() {
		s.apart(tooMuch)
		return shape.Opaque
	}
	op, path, value := element.Of.Members[`"op"`], element.Of.Members[`"path"`], element.Of.Members[`"value"`]
	if op == nil || op.Constant != `"replace"` && op.Constant != `"add"` || path.Touched() {
		s.apart(tooMuch)
		return shape.Opaque
	}
	clean := tree.OrEmpty()
	return &shape.Shape{Known: clean.Known, Other: clean.Other, Anywhere: value}
}
