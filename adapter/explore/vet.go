package explore

import (
	"fmt"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/adapter/wire"
)

// flow follows the resource through the compiled rules that the entrypoint
// reaches. The resource may be named, handed to functions, be put into arrays and
// objects and taken out again and, at last, be the first argument of a permission
// rule; whatever else happens to it is a problem.
//
// It looks at OPA's compiled form, in which every call and every reference that
// needs evaluation stands in an expression of its own and every local variable has
// a name of its own in its rule. Two variables that are unified are one class, and
// every class has a [shape]. Arguments and values of rules have shapes too, which are
// joined over all calls and all rules at a path: a fixpoint of a data flow.
type flow struct {
	*reach
	bodyRefs []ast.Ref // what the bodies of permission rules read and call

	params  map[string][]*shape // what calls hand to the arguments of functions; unseen where none does
	values  map[string]*shape   // of rules and functions
	asked   map[string][]bool   // arguments of functions that a permission rule is asked about
	changed bool                // whether the last round added to one of these three

	aboutResource bool                          // whether any reached rule speaks of the resource
	questions     map[*ast.Expr]*PermissionRule // the calls that ask about the resource
	exists        []*ast.Expr                   // those that ask whether there is one
	problems      problems

	rule    *ast.Rule // the one being looked at
	classes classes   // of its variables
	uses    map[ast.Var][]*ast.Expr
}

// newFlow follows the resource from the rules at the entrypoint. It ends because
// every round but the last adds to what is known of an argument or a rule, and there
// is only so much to be known.
func newFlow(r *reach, rules []*PermissionRule) *flow {
	f := &flow{
		reach:     r,
		params:    make(map[string][]*shape),
		values:    make(map[string]*shape),
		asked:     make(map[string][]bool),
		questions: make(map[*ast.Expr]*PermissionRule),
	}
	for _, rule := range rules {
		f.eachBodyRef(rule, func(_ *ast.Rule, ref ast.Ref) { f.bodyRefs = append(f.bodyRefs, ref) })
	}
	for _, rule := range f.reached {
		if p := path(rule); f.isTracked(rule) && f.values[p] == nil {
			f.values[p] = unseenShape
			f.params[p] = slices.Repeat([]*shape{unseenShape}, len(rule.Head.Args))
		}
	}
	for f.changed = true; f.changed; {
		f.changed, f.problems, f.exists = false, problems{}, nil
		for _, rule := range f.reached {
			f.look(rule)
		}
	}
	return f
}

// isTracked is whether the value of a rule may hold the resource: it is complete, or
// a function, and all that there is at its path.
func (f *flow) isTracked(rule *ast.Rule) bool {
	return rule.Head.RuleKind() == ast.SingleValue && rule.Head.Reference.IsGround() && alone(f.compiler, rule.Ref())
}

// look looks at one rule, its else branches not included: first for what flows into
// its variables, until nothing more does, and then for what must not be.
func (f *flow) look(rule *ast.Rule) {
	f.rule = rule
	f.classes = newClasses()
	f.uses = make(map[ast.Var][]*ast.Expr)
	ast.WalkExprs(rule.Body, func(e *ast.Expr) bool {
		for v := range ownVars(e) {
			f.uses[v] = append(f.uses[v], e)
		}
		return false
	})
	params := f.params[path(rule)]
	for i, arg := range rule.Head.Args {
		if i >= len(params) {
			break
		}
		from := any(i)
		if _, ok := arg.Value.(ast.Var); !ok {
			from = arg // A member of the argument is not the argument.
		}
		f.flowInto(arg, from, params[i])
	}
	for flowed := true; flowed; {
		flowed = false
		ast.WalkExprs(rule.Body, func(e *ast.Expr) bool {
			flowed = f.flowThrough(e) || flowed
			return false
		})
	}
	for i, arg := range rule.Head.Args {
		if i < len(params) && f.differs(arg, params[i]) && !f.takenApart(nil, arg, params[i]) {
			f.problem(nil, arg, compared, anyRuleHint)
		}
	}
	f.body(rule.Body)
	f.head(rule)
}

// isInputResource is whether a reference is to input.resource or below it.
func isInputResource(ref ast.Ref) bool {
	return len(ref) >= 2 && ref[0].Equal(ast.InputRootDocument) && ref[1].Equal(resourceKey)
}

var resourceKey = ast.StringTerm("resource")

// head looks at what a rule makes of its variables. A rule or a function that has one
// value can have the resource in it.
func (f *flow) head(rule *ast.Rule) {
	h := rule.Head
	for _, part := range h.Reference[min(1, len(h.Reference)):] {
		f.term(nil, part, kept)
	}
	if h.Key != nil {
		f.term(nil, h.Key, kept)
	}
	switch {
	case h.Value == nil:
	case f.isTracked(rule):
		p := path(rule)
		if s := f.values[p].join(f.shapeOf(h.Value)); !s.equal(f.values[p]) {
			f.values[p], f.changed = s, true
		}
		f.hands(nil, h.Value)
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
		// Whether there is a resource can be asked, and an array or object is true.
		f.asksExistence(e, terms)
		f.hands(e, terms)
	case []*ast.Term:
		f.call(e, terms)
	case *ast.Every:
		f.hands(e, terms.Domain)
		if terms.Key != nil {
			f.term(e, terms.Key, kept)
		}
		f.hands(e, terms.Value)
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

// asksExistence notes an expression that only asks whether there is a resource, if the
// term is a reference to it.
func (f *flow) asksExistence(e *ast.Expr, t *ast.Term) {
	if ref := refOf(t); len(ref) == 2 && isInputResource(ref) {
		f.aboutResource = true
		f.exists = append(f.exists, e)
	}
}

// What becomes of a term, for the messages.
const (
	kept     = "a policy sees the resource only through permission rules"
	compared = "the resource can only be handed to a permission rule, not be compared"
	asParams = "the params of a permission rule must not depend on the resource"
	notFirst = "the first argument of a permission rule must be input.resource"
)

// Hints that do not depend on what is asked.
const (
	wholeInputHint = "name a member: input.identity, input.permission, object.get(input.identity, …)"
	uncertainHint  = "it can be something else too, by another call of the function or another rule of the name"
	noSetHint      = "use an array: [input.resource]"
)

func (f *flow) call(e *ast.Expr, terms []*ast.Term) {
	args := terms[1:]
	if e.IsEquality() {
		f.equality(e, args[0], args[1])
		return
	}
	function := refOf(terms[0])
	switch rule := f.permissions[function.String()]; {
	case rule != nil:
		f.question(e, rule, args)
	case function.HasPrefix(ast.DefaultRootRef):
		f.function(e, function, args)
	case f.picks(e) != nil:
		f.pick(e, args)
	case f.asksKind(e):
	case f.asksLength(e):
		for _, arg := range args {
			f.hands(e, arg)
		}
	default:
		for _, arg := range args {
			f.term(e, arg, kept)
		}
	}
}

// equality looks at what is unified: nothing may be learned of the resource by it.
func (f *flow) equality(e *ast.Expr, a, b *ast.Term) {
	for i, t := range []*ast.Term{a, b} {
		if f.shapeOf(t).is() && ast.NullTerm().Equal([]*ast.Term{b, a}[i]) {
			return // Nothing is learned: it never is.
		}
	}
	f.hands(e, a)
	f.hands(e, b)
	ambiguous := func(t *ast.Term) bool {
		v, ok := t.Value.(ast.Var)
		return ok && f.classes.ambiguous(v)
	}
	switch {
	case !f.unequal(a, b):
	case f.takenApart(e, a, f.shapeOf(b)), f.takenApart(e, b, f.shapeOf(a)):
		return
	default:
		f.problem(e, nil, compared, anyRuleHint)
		return
	}
	if ambiguous(a) || ambiguous(b) {
		f.problem(e, nil, compared, uncertainHint)
	}
}

// takenApart adds the problem of an object that is unified with the resource, if it is.
func (f *flow) takenApart(e *ast.Expr, t *ast.Term, s *shape) bool {
	pattern, ok := t.Value.(ast.Object)
	if !ok || !s.is() {
		return false
	}
	hint := anyRuleHint
	if keys := pattern.Keys(); len(keys) > 0 {
		u := use{}
		if value := pattern.Get(keys[0]); ast.IsConstant(value.Value) {
			u = use{op: "eq", other: value.String()}
		}
		hint = f.hint(ast.Ref{keys[0]}, u)
	}
	f.problem(e, t, "the resource can only be handed on, not be taken apart", hint)
	return true
}

// asksKind is whether a call only says that the resource is, or is not, null or an
// object: it is an object, wherever there is one.
func (f *flow) asksKind(e *ast.Expr) bool {
	args := e.Operands()
	var of *ast.Term
	operator := e.Operator().String()
	switch {
	case (operator == ast.IsNull.Name || operator == ast.IsObject.Name) && len(args) == 1:
		of = args[0]
	case (operator == ast.Equal.Name || operator == ast.NotEqual.Name) && len(args) == 2:
		if of = args[0]; ast.NullTerm().Equal(of) {
			of = args[1]
		} else if !ast.NullTerm().Equal(args[1]) {
			return false
		}
	}
	if of == nil || !f.shapeOf(of).is() {
		return false
	}
	if operator == ast.IsObject.Name {
		f.exists = append(f.exists, e)
		return true
	}
	if v, ok := of.Value.(ast.Var); ok && v.IsGenerated() && len(f.uses[v]) == 2 {
		if source := f.nextUse(e, v); source.IsEquality() {
			f.asksExistence(source, source.Operand(1))
		}
	}
	return true
}

// asksLength is whether a call only asks how many members an array or object has, or
// whether it has none. No member is looked at for that.
func (f *flow) asksLength(e *ast.Expr) bool {
	args := e.Operands()
	counts := func(t *ast.Term) bool {
		s := f.shapeOf(t)
		return s.holds() && !s.resource && !s.whole
	}
	empty := func(t *ast.Term) bool {
		switch v := t.Value.(type) {
		case *ast.Array:
			return v.Len() == 0
		case ast.Object:
			return v.Len() == 0
		}
		return false
	}
	switch e.Operator().String() {
	case ast.Count.Name:
		return counts(args[0])
	case ast.Equal.Name, ast.NotEqual.Name:
		return len(args) == 2 && (counts(args[0]) && empty(args[1]) || counts(args[1]) && empty(args[0]))
	}
	return false
}

// question looks at the call of a permission rule. About a constant the rule's own
// body answers, as anywhere in Rego.
func (f *flow) question(e *ast.Expr, rule *PermissionRule, args []*ast.Term) {
	f.aboutResource = true
	first := args[0]
	switch s := f.shapeOf(first); {
	case s.is():
		f.questions[e] = rule
		f.markAsked(first)
	case s != nil && s.unseen, ast.IsConstant(first.Value):
	case f.markAsked(first):
		f.questions[e] = rule // A call with something else is the problem.
	case s.holds() && s.resource:
		f.problem(e, nil, notFirst, uncertainHint)
	case s.holds():
		f.term(e, first, notFirst)
	default:
		f.problem(e, nil, notFirst, "")
	}
	for _, arg := range args[1:] {
		f.term(e, arg, asParams)
	}
}

// function looks at the call of a function of the policy's own.
func (f *flow) function(e *ast.Expr, function ast.Ref, args []*ast.Term) {
	name, arity := function.String(), f.compiler.GetArity(function)
	for i, arg := range args {
		s := f.shapeOf(arg)
		switch {
		case i >= arity:
			if f.differs(arg, f.values[name]) {
				f.problem(e, nil, compared, anyRuleHint)
			}
			continue
		case i < len(f.params[name]):
			if joined := f.params[name][i].join(s); !joined.equal(f.params[name][i]) {
				f.params[name][i], f.changed = joined, true
			}
		case s.holds():
			f.term(e, arg, kept)
		}
		if at(f.asked[name], i) && !s.is() && (s == nil || !s.unseen) && !f.markAsked(arg) {
			f.problem(e, nil, fmt.Sprintf("%s asks a permission rule about its argument %d, which must be input.resource",
				name, i+1), "")
			continue
		}
		f.hands(e, arg)
	}
}

// picks is the path of a call of object.get with a constant one, or nil.
func (f *flow) picks(e *ast.Expr) ast.Ref {
	args := e.Operands()
	if e.Operator().String() != ast.ObjectGet.Name || len(args) < 3 || !f.shapeOf(args[0]).holds() {
		return nil
	}
	at := f.constant(args[1])
	if list, ok := at.Value.(*ast.Array); ok && ast.IsConstant(list) {
		path := ast.Ref{args[0]}
		list.Foreach(func(t *ast.Term) { path = append(path, t) })
		return path
	}
	if ast.IsConstant(at.Value) {
		return ast.Ref{args[0], at}
	}
	return nil
}

// pick looks at object.get of something that holds the resource. What it is asked for
// is there, so that the default does not matter, or has nothing of the resource.
func (f *flow) pick(e *ast.Expr, args []*ast.Term) {
	f.ref(e, args[0], f.picks(e), kept)
	for _, arg := range args[1:] {
		f.hands(e, arg)
	}
	f.term(e, args[2], kept)
	if len(args) > 3 && f.differs(args[3], f.picked(f.picks(e))) {
		f.problem(e, nil, compared, anyRuleHint)
	}
}

// markAsked marks the arguments of the current function that a term is, if it is
// nothing else, as ones that a permission rule is asked about.
func (f *flow) markAsked(t *ast.Term) bool {
	v, ok := t.Value.(ast.Var)
	if !ok {
		return false
	}
	numbers, alone := f.classes.params(v)
	for _, i := range numbers {
		f.mark(f.asked, path(f.rule), i)
	}
	return alone && len(numbers) > 0 && f.classes.shape(v).resource
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
		if p := path(rule); f.values[p].holds() || slices.ContainsFunc(f.params[p], (*shape).holds) {
			f.problem(e, nil, p+" has to do with the resource and cannot be replaced", "")
		}
	}
}

// asksUnder is whether the evaluation of an expression can come to a reference to
// the resource or the whole input, or to a permission rule.
func (f *flow) asksUnder(e *ast.Expr) bool {
	return f.comesTo(e, func(ref ast.Ref) bool {
		return isInputResource(ref) || len(ref) == 1 && ref[0].Equal(ast.InputRootDocument) || f.isRule(ref)
	})
}

func (f *flow) isRule(ref ast.Ref) bool { return f.permissions[ref.String()] != nil }

// comesTo is whether the evaluation of an expression can come to such a reference.
// The target of a with is none.
func (f *flow) comesTo(e *ast.Expr, such func(ast.Ref) bool) bool {
	seen := make(map[*ast.Rule]bool)
	found := false
	var visit *ast.GenericVisitor
	visit = ast.NewGenericVisitor(func(x any) bool {
		switch x := x.(type) {
		case *ast.With:
			visit.Walk(x.Value)
			return true
		case ast.Ref:
			found = found || such(x)
			for _, rule := range f.rulesAt(x) {
				if !found && !seen[rule] {
					seen[rule] = true
					visit.Walk(rule)
				}
			}
		}
		return found
	})
	visit.Walk(e)
	return found
}

// term looks for the resource in a term that must not hold it.
func (f *flow) term(e *ast.Expr, t *ast.Term, message string) {
	if s := f.shapeOf(t); s.holds() {
		switch _, isVar := t.Value.(ast.Var); {
		case s.whole:
			f.problem(e, t, "the whole input holds the resource", wholeInputHint)
			return
		case s.resource, isVar, refOf(t) != nil:
			f.problem(e, t, message, anyRuleHint)
			return
		}
	}
	f.within(e, t, func(t *ast.Term) { f.term(e, t, message) }, message)
}

// hands looks at a term that may hold the resource: it must be built so that it can
// be taken apart again.
func (f *flow) hands(e *ast.Expr, t *ast.Term) {
	f.within(e, t, func(t *ast.Term) { f.hands(e, t) }, kept)
}

// within looks at the parts of a term. Members of an array or an object, and what
// comprehensions of these are built of, are for the caller to judge.
func (f *flow) within(e *ast.Expr, t *ast.Term, member func(*ast.Term), message string) {
	switch v := t.Value.(type) {
	case ast.Var, ast.Null, ast.Boolean, ast.Number, ast.String:
	case ast.Ref:
		f.ref(e, t, v, message)
	case ast.Call:
		for _, arg := range v {
			f.term(e, arg, message)
		}
	case *ast.Array:
		v.Foreach(member)
	case ast.Set:
		v.Foreach(func(t *ast.Term) { f.element(e, t, message) })
	case ast.Object:
		v.Foreach(func(key, value *ast.Term) {
			f.term(e, key, message)
			member(value)
		})
	case *ast.ArrayComprehension:
		member(v.Term)
		f.body(v.Body)
	case *ast.SetComprehension:
		f.element(e, v.Term, message)
		f.body(v.Body)
	case *ast.ObjectComprehension:
		f.term(e, v.Key, message)
		member(v.Value)
		f.body(v.Body)
	default:
		f.problem(e, t, fmt.Sprintf("stagedoor does not know this construct (%T)", v), "")
	}
}

// element looks at an element of a set. Sets compare their elements.
func (f *flow) element(e *ast.Expr, t *ast.Term, message string) {
	if s := f.shapeOf(t); s.holds() && !s.whole {
		f.problem(e, t, "the resource cannot be in a set, which compares its elements", noSetHint)
		return
	}
	f.term(e, t, message)
}

// ref looks at a reference, which must not lead into the resource.
func (f *flow) ref(e *ast.Expr, t *ast.Term, ref ast.Ref, message string) {
	for _, part := range ref[1:] {
		f.term(e, part, message)
	}
	s, rest, known := f.base(ref)
	for i, part := range rest {
		part = f.constant(part)
		switch {
		case s.holds() && s.resource:
			f.aboutResource = f.aboutResource || s.is()
			f.problem(e, t, message, f.hint(rest[i:], f.useOf(e, t)))
			return
		case s.holds() && s.whole && !ast.IsConstant(part.Value):
			f.problem(e, t, "this can be the resource", wholeInputHint)
			return
		}
		s = s.member(part)
	}
	if known {
		return
	}
	for _, rule := range f.rulesAt(ref) {
		if f.values[path(rule)].holds() {
			f.problem(e, t, path(rule)+" holds the resource, and this can be it", "name the rule itself")
			return
		}
	}
}

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
			case f.values[path(rule)].holds():
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
