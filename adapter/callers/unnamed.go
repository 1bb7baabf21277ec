package callers

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// readUnnamed looks for what tells callers apart by claims that the policy does not name:
// that there is one, that there is no other ("every claim is one of these"), or that one is
// not among some. Where nothing does, a claim more that is not named changes no answer. The
// examples of classes all have one, their user. A sign-in resolver of Backstage can leave
// that one out, so where something does, there may be callers of no class.
//
// What is positive in each claim is passed over: that it is equal to something, is in
// something, or is a key of something. All else is noted, rather too much than too little.
func (f *finder) readUnnamed() {
	of := &claimed{
		finder: f, functions: make(map[string]kinds), rules: make(map[string]kinds), asUser: make(map[*ast.Term]bool),
	}
	for known := -1; known < of.noted; {
		known = of.noted
		for _, module := range f.sources.Modules {
			of.in(module, func(in *inRule, r *ast.Rule) { in.flow(r) })
		}
	}
	for _, name := range slices.Sorted(maps.Keys(f.sources.Modules)) {
		of.in(f.sources.Modules[name], func(in *inRule, r *ast.Rule) { in.look(r) })
	}
	if f.reads&readsUser != 0 && f.reads&readsClaims != 0 {
		of.namedUsers()
	}
}

// namedUsers tells of users whom the policy or its data names, but where the caller's user
// alone is compared with them: a claim may be compared there, too, and it is not always the
// caller's own user that is among the claims.
func (c *claimed) namedUsers() {
	for _, name := range slices.Sorted(maps.Keys(c.sources.Modules)) {
		module := c.sources.Modules[name]
		ast.WalkTerms(module, func(t *ast.Term) bool {
			if text, ok := t.Value.(ast.String); ok && isUser(strings.ToLower(string(text))) && !c.asUser[t] {
				at := cmp.Or(t.Location, module.Package.Location)
				c.other("the policy reads claims and the user, and names %s: %s:%d", text, at.File, at.Row)
			}
			return false
		})
	}
	var users []string
	seen := func(text, _ string) {
		if isRef(text) && isUser(strings.ToLower(text)) {
			users = append(users, text)
		}
	}
	(&references{seen, false}).read("data", c.sources.Data)
	if len(users) > 0 {
		c.other("the policy reads claims and the user, and its data names %q", slices.Min(users))
	}
}

// kinds is a set of what a term can be.
type kinds uint8

const (
	oneClaim   kinds = 1 << iota // such as input.identity.claims[_]
	manyClaims                   // such as input.identity.claims, or a set made of them
	theUser

	someClaims = oneClaim | manyClaims
)

// claimed is where claims go in a policy: into functions and rules, by their names.
type claimed struct {
	*finder
	functions, rules map[string]kinds
	noted            int // how often something was added to these
	// asUser are the constants with which the user is compared, and no claim.
	asUser map[*ast.Term]bool
}

func (c *claimed) note(in map[string]kinds, name string, k kinds) {
	if in[name]|k != in[name] {
		in[name] |= k
		c.noted++
	}
}

// in calls for each rule of a module, where its variables are known.
func (c *claimed) in(module *ast.Module, do func(*inRule, *ast.Rule)) {
	ast.WalkRules(module, func(r *ast.Rule) bool {
		in := &inRule{claimed: c, vars: make(map[ast.Var]kinds)}
		for _, arg := range r.Head.Args {
			in.is(arg, c.functions[lastOf(r.Head.Ref())])
		}
		for again := true; again; {
			again = false
			eachCall(r, func(call []*ast.Term, _ *ast.Location) { again = in.bind(call) || again })
		}
		do(in, r)
		return false
	})
}

// inRule is one rule, and what its variables can be.
type inRule struct {
	*claimed
	vars map[ast.Var]kinds
}

// is notes what the variables of a term can be, and reports whether that is new.
func (in *inRule) is(t *ast.Term, k kinds) (added bool) {
	ast.WalkVars(t, func(v ast.Var) bool {
		added = added || in.vars[v]|k != in.vars[v]
		in.vars[v] |= k
		return false
	})
	return added
}

// bind notes what a variable is made equal to, or is one of.
func (in *inRule) bind(call []*ast.Term) bool {
	a, b, ok := pair(call)
	if !ok {
		return false
	}
	var added bool
	set := func(t *ast.Term, k kinds) {
		switch t.Value.(type) {
		case ast.Var, *ast.Array:
			added = in.is(t, k) || added
		}
	}
	switch call[0].Value.String() {
	case ast.Member.Name, ast.MemberWithKey.Name:
		set(a, elementsOf(in.kinds(b)))
	case ast.Assign.Name, ast.Equality.Name:
		set(a, in.kinds(b))
		set(b, in.kinds(a))
	}
	return added
}

// elementsOf is what is in something.
func elementsOf(k kinds) kinds {
	if k&someClaims != 0 {
		k = k&^someClaims | oneClaim
	}
	return k
}

// kinds is what a term can be. What is looked up by a claim is none.
func (in *inRule) kinds(t *ast.Term) (k kinds) {
	switch v := t.Value.(type) {
	case ast.Var:
		return in.vars[v] | in.rules[string(v)]
	case ast.Ref:
		return in.ofRef(v)
	case ast.Call:
		if part := gotten(v); part != nil {
			return in.ofRef(part)
		}
		if name, ok := v[0].Value.(ast.Ref); ok && ast.BuiltinMap[name.String()] == nil {
			return in.rules[lastOf(name)]
		}
		for _, arg := range v[1:] {
			k |= in.kinds(arg)
		}
	case *ast.Array: // made of one at a time, so it is like one
		v.Foreach(func(t *ast.Term) { k |= in.kinds(t) })
	case ast.Set:
		v.Foreach(func(t *ast.Term) { k |= in.kinds(t) })
	case ast.Object:
		v.Foreach(func(key, value *ast.Term) { k |= in.kinds(key) | in.kinds(value) })
	case *ast.ArrayComprehension:
		return in.many(v.Term)
	case *ast.SetComprehension:
		return in.many(v.Term)
	case *ast.ObjectComprehension:
		return in.many(v.Key) | in.many(v.Value)
	}
	return k
}

// many is what a collection of that term can be.
func (in *inRule) many(t *ast.Term) kinds {
	k := in.kinds(t)
	if k&someClaims != 0 {
		k |= manyClaims
	}
	return k
}

func (in *inRule) ofRef(ref ast.Ref) (k kinds) {
	switch parts := partsOf(ref); {
	case parts&readsClaims != 0 && len(ref) <= 3:
		return manyClaims // or what has them
	case parts&readsClaims != 0:
		return oneClaim
	case parts&readsUser != 0:
		return theUser
	case parts != 0:
		return 0
	}
	if head, ok := ref[0].Value.(ast.Var); ok {
		k = in.vars[head] | in.rules[string(head)]
	}
	if k == 0 {
		if k = in.rules[lastOf(ref)]; k != 0 {
			return k
		}
		for n := 2; n < len(ref); n++ { // a rule's elements
			k |= elementsOf(in.rules[lastOf(ref[:n])])
		}
		return k
	}
	if len(ref) > 1 {
		k |= elementsOf(k)
	}
	return k
}

// lastOf is the last name in a reference; empty where it ends otherwise.
func lastOf(ref ast.Ref) string {
	switch v := ref[len(ref)-1].Value.(type) {
	case ast.String:
		return string(v)
	case ast.Var:
		if len(ref) == 1 {
			return string(v)
		}
	}
	return ""
}

// flow notes which functions and rules the claims of this one go to.
func (in *inRule) flow(r *ast.Rule) {
	eachCall(r, func(call []*ast.Term, _ *ast.Location) {
		ref, ok := call[0].Value.(ast.Ref)
		if !ok || ast.BuiltinMap[ref.String()] != nil {
			return
		}
		for _, arg := range call[1:] {
			in.note(in.functions, lastOf(ref), in.kinds(arg))
		}
	})
	if r.Head.Key != nil {
		in.note(in.rules, r.Head.Name.String(), in.many(r.Head.Key))
	}
	if r.Head.Value != nil {
		in.note(in.rules, r.Head.Name.String(), in.kinds(r.Head.Value))
	}
	for _, t := range r.Head.Ref()[1:] {
		in.note(in.rules, r.Head.Ref()[0].Value.String(), in.many(t))
	}
}

// look looks for what is not positive in each claim.
func (in *inRule) look(r *ast.Rule) {
	times := make(map[ast.Var]int) // that a variable occurs
	ast.WalkVars(r, func(v ast.Var) bool {
		times[v]++
		return false
	})
	unused := func(t *ast.Term) bool {
		v, ok := t.Value.(ast.Var)
		return ok && (v.IsWildcard() || times[v] == 1)
	}
	if taken := in.functions[lastOf(r.Head.Ref())]; len(r.Head.Args) > 0 && taken&someClaims != 0 {
		in.unnamed(r.Default || r.Else != nil || slices.ContainsFunc(r.Head.Args, unused), r.Location)
	}
	ast.WalkExprs(r, func(e *ast.Expr) bool {
		in.unnamed(e.Negated && in.hasClaim(e), e.Location)
		switch terms := e.Terms.(type) {
		case *ast.Term: // whether there is one
			in.unnamed(in.kinds(terms)&oneClaim != 0 && !terms.IsGround(), e.Location)
		case *ast.Every:
			in.unnamed(in.kinds(terms.Domain)&someClaims != 0, e.Location)
		case *ast.SomeDecl:
			for _, symbol := range terms.Symbols {
				if call, ok := symbol.Value.(ast.Call); ok && len(call) > 2 {
					from := in.kinds(call[len(call)-1])
					in.unnamed(from&someClaims != 0 && unused(call[len(call)-2]), e.Location)
				}
			}
		}
		return false
	})
	eachCall(r, in.call)
}

// hasClaim is whether a variable in an expression can be a claim.
func (in *inRule) hasClaim(e *ast.Expr) (has bool) {
	ast.WalkVars(e, func(v ast.Var) bool {
		has = has || in.vars[v]&oneClaim != 0
		return has
	})
	return has
}

func (in *inRule) call(call []*ast.Term, at *ast.Location) {
	var each []kinds
	var all kinds
	for _, arg := range call[1:] {
		each = append(each, in.kinds(arg))
		all |= each[len(each)-1]
	}
	if all == theUser {
		for _, arg := range call[1:] {
			eachConstant(arg, func(t *ast.Term) { in.asUser[t] = true })
		}
	}
	if all&someClaims == 0 {
		return
	}
	if all&theUser != 0 {
		in.other("the policy compares the user with claims: %s:%d", at.File, at.Row)
	}
	for _, arg := range call[1:] {
		in.usersIn(arg, at)
	}
	switch name := call[0].Value.String(); name {
	case ast.Assign.Name, ast.Lower.Name, ast.Upper.Name, ast.And.Name, ast.Or.Name, ast.Print.Name:
	case ast.Member.Name, ast.MemberWithKey.Name:
		in.unnamed(each[len(each)-2]&manyClaims != 0, at)
	case ast.Equality.Name, ast.Equal.Name:
		if name == ast.Equality.Name && (binds(call[1], each[1]) || binds(call[2], each[0])) {
			return
		}
		in.unnamed(all&manyClaims != 0 || each[0]&each[1] != 0, at)
	case ast.NotEqual.Name:
		in.unnamed(true, at)
	default:
		in.unnamed(ast.BuiltinMap[name] != nil && gotten(call) == nil, at)
	}
}

// unnamed notes where a claim counts that is not named.
func (f *finder) unnamed(does bool, at *ast.Location) {
	if does {
		f.other("the policy asks for claims that it does not name: %s:%d", at.File, at.Row)
	}
}

// usersIn tells of a user that claims are compared with, where the user is read too: it may
// be another's claim.
func (in *inRule) usersIn(t *ast.Term, at *ast.Location) {
	eachConstant(t, func(t *ast.Term) {
		if text, ok := t.Value.(ast.String); ok && isUser(strings.ToLower(string(text))) && in.reads&readsUser != 0 {
			in.other("the policy compares claims with %s, and reads the user: %s:%d", text, at.File, at.Row)
		}
	})
}

// binds is whether a variable is made equal to something that has claims, or to another one.
func binds(t *ast.Term, other kinds) bool {
	_, ok := t.Value.(ast.Var)
	return ok && other != 0
}

// gotten is what object.get gets of the identity, as a reference; nil where it gets
// something else.
func gotten(call []*ast.Term) ast.Ref {
	if call[0].Value.String() != ast.ObjectGet.Name || len(call) < 3 {
		return nil
	}
	ref, ok := call[1].Value.(ast.Ref)
	if !ok || partsOf(ref) == 0 {
		return nil
	}
	if path, ok := call[2].Value.(*ast.Array); ok {
		path.Foreach(func(t *ast.Term) { ref = ref.Append(t) })
		return ref
	}
	return ref.Append(call[2])
}
