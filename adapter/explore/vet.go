package explore

import (
	"fmt"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/adapter/wire"
)

// flow follows the resource through the compiled rules that the entrypoint
// reaches. The resource may be named, handed to functions and, at last, be the
// first argument of a permission rule; whatever else happens to it is a problem.
//
// It looks at OPA's compiled form, in which every call and every reference that
// needs evaluation stands in an expression of its own and every local variable has
// a name of its own in its rule. Two variables that are unified are one class; a
// class that a source of the resource is in is the resource.
type flow struct {
	*reach
	bodyRefs []ast.Ref // what the bodies of permission rules read and call

	taken   map[string][]bool // arguments of functions that some call hands the resource to
	asked   map[string][]bool // arguments of functions that a permission rule is asked about
	aliases map[string]bool   // rules whose value is the resource
	changed bool              // whether the last round added to one of these three

	aboutResource bool                          // whether any reached rule speaks of the resource
	questions     map[*ast.Expr]*PermissionRule // the calls that ask about the resource
	exists        []*ast.Expr                   // those that ask whether there is one
	problems      problems

	rule    *ast.Rule // the one being looked at
	classes classes   // of its variables
	uses    map[ast.Var][]*ast.Expr
}

// newFlow follows the resource from the rules at the entrypoint.
func newFlow(r *reach, rules []*PermissionRule) *flow {
	f := &flow{
		reach:     r,
		taken:     make(map[string][]bool),
		asked:     make(map[string][]bool),
		aliases:   make(map[string]bool),
		questions: make(map[*ast.Expr]*PermissionRule),
	}
	for _, rule := range rules {
		f.eachBodyRef(rule, func(_ *ast.Rule, ref ast.Ref) { f.bodyRefs = append(f.bodyRefs, ref) })
	}
	for f.changed = true; f.changed; {
		f.changed, f.problems, f.exists = false, problems{}, nil
		for _, rule := range f.reached {
			f.look(rule)
		}
	}
	return f
}

// look looks at one rule, its else branches not included.
func (f *flow) look(rule *ast.Rule) {
	f.rule = rule
	f.classes = classes{}
	f.uses = make(map[ast.Var][]*ast.Expr)
	f.eachExpr(rule.Body, f.classify)
	for i, arg := range rule.Head.Args {
		if !at(f.taken[path(rule)], i) {
			continue
		}
		if v, ok := arg.Value.(ast.Var); ok {
			f.classes.addParam(v, i)
		} else {
			f.problem(nil, arg, "the resource can only be handed on, not be taken apart", "")
		}
	}
	f.body(rule.Body)
	f.head(rule)
}

// eachExpr visits the expressions of a body, nested ones included.
func (f *flow) eachExpr(body ast.Body, visit func(*ast.Expr)) {
	ast.WalkExprs(body, func(e *ast.Expr) bool {
		visit(e)
		return false
	})
}

func (f *flow) classify(e *ast.Expr) {
	for v := range ownVars(e) {
		f.uses[v] = append(f.uses[v], e)
	}
	if !e.IsEquality() {
		return
	}
	a, b := e.Operand(0), e.Operand(1)
	x, isVar := a.Value.(ast.Var)
	y, bothVars := b.Value.(ast.Var)
	switch {
	case isVar && bothVars:
		f.classes.join(x, y)
	case isVar && f.isSource(b):
		f.classes.addSource(x)
	case bothVars && f.isSource(a):
		f.classes.addSource(y)
	}
}

// isSource is whether a term is a reference to the resource: input.resource, or a
// rule whose value it is.
func (f *flow) isSource(t *ast.Term) bool {
	ref, ok := t.Value.(ast.Ref)
	return ok && (isInputResource(ref) && len(ref) == 2 || f.aliases[ref.String()])
}

// isInputResource is whether a reference is to input.resource or below it.
func isInputResource(ref ast.Ref) bool {
	return len(ref) >= 2 && ref[0].Equal(ast.InputRootDocument) && ref[1].Equal(resourceKey)
}

var resourceKey = ast.StringTerm("resource")

// isResource is whether a term is the resource itself.
func (f *flow) isResource(t *ast.Term) bool {
	if v, ok := t.Value.(ast.Var); ok {
		return f.classes.isResource(v)
	}
	if f.isSource(t) {
		f.aboutResource = true
		return true
	}
	return false
}

// head looks at what a rule makes of its variables. A rule without arguments and
// keys can have the resource as its value, and is another name of it then.
func (f *flow) head(rule *ast.Rule) {
	h := rule.Head
	for _, arg := range h.Args {
		if _, ok := arg.Value.(ast.Var); !ok {
			f.term(nil, arg, kept)
		}
	}
	for _, part := range h.Reference[min(1, len(h.Reference)):] {
		f.term(nil, part, kept)
	}
	if h.Key != nil {
		f.term(nil, h.Key, kept)
	}
	if h.Value == nil {
		return
	}
	complete := isComplete(rule) && alone(f.compiler, rule.Ref())
	switch {
	case complete && f.isResource(h.Value):
		if p := path(rule); !f.aliases[p] {
			f.aliases[p] = true
			f.changed = true
		}
	case complete && f.aliases[path(rule)]:
		f.problem(nil, h.Value, "another rule says that this is the resource, so it can be nothing else",
			"give the other value a name of its own")
	default:
		f.term(nil, h.Value, kept)
	}
}

func (f *flow) body(body ast.Body) {
	for _, e := range body {
		f.expr(e)
	}
}

func (f *flow) expr(e *ast.Expr) {
	for _, with := range e.With {
		f.with(e, with)
	}
	switch terms := e.Terms.(type) {
	case *ast.Term:
		switch { // Whether there is a resource can be asked.
		case isInputResource(refOf(terms)) && len(refOf(terms)) == 2:
			f.aboutResource = true
			f.exists = append(f.exists, e)
		case !f.isResource(terms):
			f.term(e, terms, kept)
		}
	case []*ast.Term:
		f.call(e, terms)
	case *ast.Every:
		f.term(e, terms.Domain, kept)
		if terms.Key != nil {
			f.term(e, terms.Key, kept)
		}
		f.term(e, terms.Value, kept)
		f.body(terms.Body)
	case *ast.Not:
		f.body(terms.Body)
	case *ast.LogicalAnd:
		f.body(terms.Lhs)
		f.body(terms.Rhs)
	case *ast.LogicalOr:
		f.body(terms.Lhs)
		f.body(terms.Rhs)
	case *ast.SomeDecl:
	default:
		f.problem(e, nil, fmt.Sprintf("stagedoor does not know this construct (%T)", terms), "")
	}
}

// What becomes of a term, for the messages.
const (
	kept     = "a policy sees the resource only through permission rules"
	compared = "the resource can only be handed to a permission rule, not be compared"
	asParams = "the params of a permission rule must not depend on the resource"
	notFirst = "the first argument of a permission rule must be input.resource"
)

func (f *flow) call(e *ast.Expr, terms []*ast.Term) {
	args := terms[1:]
	if e.IsEquality() {
		f.equality(e, args[0], args[1])
		return
	}
	function := refOf(terms[0])
	if rule := f.permissions[function.String()]; rule != nil {
		f.question(e, rule, args)
		return
	}
	if !function.HasPrefix(ast.DefaultRootRef) {
		for _, arg := range args {
			f.term(e, arg, kept)
		}
		f.wholeInput(args)
		return
	}
	f.function(e, function.String(), f.compiler.GetArity(function), args)
}

func (f *flow) equality(e *ast.Expr, a, b *ast.Term) {
	ra, rb := f.isResource(a), f.isResource(b)
	switch {
	case ra && rb:
		for _, t := range []*ast.Term{a, b} {
			if v, ok := t.Value.(ast.Var); ok && f.classes.ambiguous(v) {
				f.problem(e, nil, compared, "")
			}
		}
	case ra || rb:
		f.problem(e, nil, compared, "")
	default:
		f.term(e, a, kept)
		f.term(e, b, kept)
	}
}

// question looks at the call of a permission rule. About a constant the rule's own
// body answers, as anywhere in Rego.
func (f *flow) question(e *ast.Expr, rule *PermissionRule, args []*ast.Term) {
	f.aboutResource = true
	switch first := args[0]; {
	case f.isResource(first):
		f.questions[e] = rule
		f.markAsked(first)
	case ast.IsConstant(first.Value):
	case f.holdsResource(first):
		f.term(e, first, notFirst)
	default:
		f.problem(e, nil, notFirst, "")
	}
	for _, arg := range args[1:] {
		f.term(e, arg, asParams)
	}
}

// function looks at the call of a function of the policy's own.
func (f *flow) function(e *ast.Expr, function string, arity int, args []*ast.Term) {
	for i, arg := range args {
		switch {
		case i < arity && f.isResource(arg):
			f.mark(f.taken, function, i)
			if at(f.asked[function], i) {
				f.markAsked(arg)
			}
		case at(f.asked[function], i):
			f.problem(e, nil, fmt.Sprintf("%s asks a permission rule about its argument %d, which must be input.resource",
				function, i+1), "")
		default:
			f.term(e, arg, kept)
		}
	}
}

// markAsked marks the argument of the current function that a term is, if it is
// one, as one that a permission rule is asked about.
func (f *flow) markAsked(t *ast.Term) {
	v, ok := t.Value.(ast.Var)
	if !ok {
		return
	}
	for _, i := range f.classes.params(v) {
		f.mark(f.asked, path(f.rule), i)
	}
}

func (f *flow) mark(marks map[string][]bool, function string, i int) {
	for len(marks[function]) <= i {
		marks[function] = append(marks[function], false)
	}
	if !marks[function][i] {
		marks[function][i] = true
		f.changed = true
	}
}

func at(marks []bool, i int) bool { return i < len(marks) && marks[i] }

// wholeInput notices a call that picks the resource out of the whole input by its
// name, such as object.get(input, "resource", {}): a policy whose only use of the
// resource it is is still about the resource.
func (f *flow) wholeInput(args []*ast.Term) {
	var input, name bool
	for _, arg := range args {
		if v, ok := arg.Value.(ast.Var); ok {
			input = input || slices.ContainsFunc(f.uses[v], func(e *ast.Expr) bool {
				return e.IsEquality() && (isInput(e.Operand(0)) || isInput(e.Operand(1)))
			})
		}
		input = input || isInput(arg)
		ast.WalkTerms(arg, func(t *ast.Term) bool {
			name = name || t.Equal(resourceKey)
			return name
		})
	}
	if input && name {
		f.aboutResource = true
	}
}

func isInput(t *ast.Term) bool {
	ref, ok := t.Value.(ast.Ref)
	return t.Equal(ast.InputRootDocument) || ok && len(ref) == 1 && ref[0].Equal(ast.InputRootDocument)
}

// with looks at one modifier. What it replaces must not be the resource, nor the
// rules that ask about it.
func (f *flow) with(e *ast.Expr, with *ast.With) {
	f.term(e, with.Value, kept)
	target, ok := with.Target.Value.(ast.Ref)
	switch {
	case !ok || isInput(with.Target):
		if f.asksUnder(e) {
			f.problem(e, nil, "this replaces the resource together with the rest of the input",
				"replace a member, such as input.identity")
		}
	case isInputResource(target):
		f.aboutResource = true
		f.problem(e, nil, "the resource cannot be replaced", "")
	case target.HasPrefix(ast.DefaultRootRef):
		f.withData(e, target)
	default:
		f.withInside(e, target)
	}
	if value, ok := with.Value.Value.(ast.Ref); ok && f.permissions[value.String()] != nil {
		f.problem(e, nil, "a permission rule cannot stand in for another function", "")
	}
}

// withInside looks at a modifier of what the bodies of permission rules read or
// call. In stock evaluation the rules would mean something else under it, and for
// the plugin they do not.
func (f *flow) withInside(e *ast.Expr, target ast.Ref) {
	inside := slices.ContainsFunc(f.bodyRefs, func(ref ast.Ref) bool {
		return ref.HasPrefix(target) || target.HasPrefix(ref.GroundPrefix())
	})
	if inside && f.comesTo(e, f.isRule) {
		message := fmt.Sprintf("the bodies of permission rules use %v too, so that it cannot be replaced here", target)
		f.problem(e, nil, message, "")
	}
}

// withData looks at a modifier of data: a function that takes the resource, or a
// rule that is the resource, cannot be replaced.
func (f *flow) withData(e *ast.Expr, target ast.Ref) {
	for _, r := range f.permissions {
		if r.Function.HasPrefix(target) {
			f.problem(e, nil, "a permission rule cannot be replaced", "")
			return
		}
	}
	f.withInside(e, target)
	for _, rule := range f.rulesAt(target) {
		if p := path(rule); f.aliases[p] || slices.Contains(f.taken[p], true) {
			f.problem(e, nil, p+" has to do with the resource and cannot be replaced", "")
		}
	}
}

// asksUnder is whether the evaluation of an expression can come to a reference to
// the resource or to a permission rule.
func (f *flow) asksUnder(e *ast.Expr) bool {
	return f.comesTo(e, func(ref ast.Ref) bool { return isInputResource(ref) || f.isRule(ref) })
}

func (f *flow) isRule(ref ast.Ref) bool { return f.permissions[ref.String()] != nil }

// comesTo is whether the evaluation of an expression can come to such a reference.
func (f *flow) comesTo(e *ast.Expr, such func(ast.Ref) bool) bool {
	seen := make(map[*ast.Rule]bool)
	var comes func(x any) bool
	comes = func(x any) bool {
		found := false
		ast.WalkRefs(x, func(ref ast.Ref) bool {
			if found = found || such(ref); found {
				return true
			}
			for _, rule := range f.rulesAt(ref) {
				if !seen[rule] {
					seen[rule] = true
					found = found || comes(rule)
				}
			}
			return found
		})
		return found
	}
	return comes(e)
}

// holdsResource is whether the resource, or a part of it, is somewhere in a term.
func (f *flow) holdsResource(t *ast.Term) bool {
	found := false
	ast.WalkTerms(t, func(t *ast.Term) bool {
		if ref, ok := t.Value.(ast.Ref); ok {
			found = found || isInputResource(ref) || f.isResource(ref[0])
		}
		found = found || f.isResource(t)
		return found
	})
	return found
}

// term looks for the resource in a term that must not hold it.
func (f *flow) term(e *ast.Expr, t *ast.Term, message string) {
	if f.isResource(t) {
		f.problem(e, t, message, anyRuleHint)
		return
	}
	switch v := t.Value.(type) {
	case ast.Var, ast.Null, ast.Boolean, ast.Number, ast.String:
		if isInput(t) {
			f.ref(e, t, ast.Ref{t}, message)
		}
	case ast.Ref:
		f.ref(e, t, v, message)
	case ast.Call:
		for _, arg := range v {
			f.term(e, arg, message)
		}
	case *ast.Array:
		v.Foreach(func(t *ast.Term) { f.term(e, t, message) })
	case ast.Set:
		v.Foreach(func(t *ast.Term) { f.term(e, t, message) })
	case ast.Object:
		v.Foreach(func(key, value *ast.Term) {
			f.term(e, key, message)
			f.term(e, value, message)
		})
	case *ast.ArrayComprehension:
		f.term(e, v.Term, message)
		f.body(v.Body)
	case *ast.SetComprehension:
		f.term(e, v.Term, message)
		f.body(v.Body)
	case *ast.ObjectComprehension:
		f.term(e, v.Key, message)
		f.term(e, v.Value, message)
		f.body(v.Body)
	default:
		f.problem(e, t, fmt.Sprintf("stagedoor does not know this construct (%T)", v), "")
	}
}

func (f *flow) ref(e *ast.Expr, t *ast.Term, ref ast.Ref, message string) {
	for _, part := range ref[1:] {
		f.term(e, part, message)
	}
	switch {
	case isInputResource(ref):
		f.aboutResource = true
		f.problem(e, t, message, f.hint(ref[2:], f.useOf(e, t)))
	case f.isResource(ref[0]):
		f.problem(e, t, message, f.hint(ref[1:], f.useOf(e, t)))
	case ref[0].Equal(ast.InputRootDocument) && len(ref) == 1:
		f.problem(e, t, "the whole input holds the resource", wholeInputHint)
	case ref[0].Equal(ast.InputRootDocument) && !ast.IsConstant(ref[1].Value):
		f.problem(e, t, "this can be the resource", wholeInputHint)
	case ref.HasPrefix(ast.DefaultRootRef):
		for _, rule := range f.rulesAt(ref) {
			if p := path(rule); f.aliases[p] {
				f.problem(e, t, message, f.hint(ref[min(len(ref), len(rule.Ref())):], f.useOf(e, t)))
				return
			}
		}
	}
}

const wholeInputHint = "name a member: input.identity, input.permission, object.get(input.identity, …)"

// problem adds a problem with the author's own text and place: of the expression
// that an expression of the compiler's was taken out of, or else of the term.
func (f *flow) problem(e *ast.Expr, t *ast.Term, message, hint string) {
	where := f.rule.Location
	written, operand := f.written(e)
	switch {
	case written != nil && written.Location != nil:
		where = written.Location
	case e != nil && e.Location != nil:
		where = e.Location
	case t != nil && t.Location != nil:
		where = t.Location
	}
	if written != nil && written != e && f.permissions[written.Operator().String()] != nil {
		if message, hint = asParams, ""; operand == 0 {
			message = notFirst
		}
	}
	f.problems.add(where, string(where.Text), message, hint)
}

// written is the expression of the author's that an expression of the compiler's
// was taken out of, and which operand of it that was, or -1.
func (f *flow) written(e *ast.Expr) (*ast.Expr, int) {
	operand := -1
	seen := make(map[*ast.Expr]bool)
	for e != nil && e.Generated && !seen[e] {
		seen[e] = true
		v := defined(e)
		if e = f.user(e); e != nil {
			operand = slices.IndexFunc(e.Operands(), v.Equal)
		}
	}
	if e == nil || e.Generated {
		return nil, -1
	}
	return e, operand
}

// defined is what an expression of the compiler's was made to define.
func defined(e *ast.Expr) *ast.Term {
	switch terms := e.Terms.(type) {
	case []*ast.Term:
		if e.IsEquality() {
			return terms[1]
		}
		return terms[len(terms)-1]
	case *ast.Term:
		return terms
	}
	return ast.InternedTerm(true)
}

// user is the innermost expression that uses what e was made to define.
func (f *flow) user(e *ast.Expr) *ast.Expr {
	v, ok := defined(e).Value.(ast.Var)
	if !ok {
		return nil
	}
	return f.nextUse(e, v)
}

// nextUse is the first other expression that uses a variable.
func (f *flow) nextUse(e *ast.Expr, v ast.Var) *ast.Expr {
	for _, user := range f.uses[v] {
		if user != e {
			return user
		}
	}
	return nil
}

// selfContained adds a problem for every permission rule whose body sees more than
// its arguments: the plugin's own rule does not.
func (f *flow) selfContained(rules []*PermissionRule) {
	for _, r := range rules {
		f.eachBodyRef(r, func(rule *ast.Rule, ref ast.Ref) {
			if ref[0].Equal(ast.InputRootDocument) {
				f.problems.add(rule.Location, r.Function.String(), "a permission rule sees its arguments alone, not the input", "")
			}
		})
	}
}

// decides adds a problem for every rule at the entrypoint that can be seen to be no
// decision.
func (f *flow) decides(entrypoint ast.Ref, entries []*ast.Rule) {
	const hint = "allow if …, or a document {\"result\": \"ALLOW\", …}"
	for _, rule := range entries {
		for ; rule != nil; rule = rule.Else {
			f.rule = rule
			add := func(message string) { f.problems.add(rule.Location, string(rule.Location.Text), message, hint) }
			switch exact := len(rule.Ref().GroundPrefix()) <= len(entrypoint); {
			case f.aliases[path(rule)]:
				add("a decision cannot hold the resource")
			case !exact:
			case len(rule.Head.Args) > 0:
				add("a function cannot be the entrypoint")
			case rule.Head.RuleKind() == ast.MultiValue:
				add("a set is no decision")
			case isComplete(rule) && ast.IsConstant(rule.Head.Value.Value):
				if err := isDecision(rule.Head.Value.Value); err != nil {
					add(err.Error())
				}
			}
		}
	}
}

// isDecision reports why a constant is no decision.
func isDecision(v ast.Value) error {
	document, err := ast.JSON(v)
	if err == nil {
		_, _, err = wire.ParseDecision(document)
	}
	return err
}
