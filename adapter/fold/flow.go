package fold

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/types"

	"github.com/stagedoor/stagedoor/adapter/offline"
)

// A taint says what of a caller a value can be made of.
type taint uint8

const (
	// text: it can be a text of the caller.
	text taint = 1 << iota
	// whole: it can be a collection that has texts of the caller.
	whole
	// place: it can be the place of an element in a list of them.
	place
	// made: it can be a text, or have one, that the policy makes of texts which are not the
	// caller's. Neither source nor data need have it, so that nobody knows whether it is one
	// of the caller's.
	made
)

// A shape is what a value can hold: itself, its keys, and whatever is in it. Of keys,
// place says that they may be the places of a list.
type shape struct{ self, key, in taint }

func (s shape) join(o shape) shape { return shape{s.self | o.self, s.key | o.key, s.in | o.in} }
func (s shape) touched() bool      { return (s.self|s.key|s.in)&^made != 0 }
func (s shape) isMade() bool       { return (s.self|s.key|s.in)&made != 0 }

// left is what a value of which nothing is the caller's leaves in what it is put into, or
// picked out of.
func (s shape) left() shape {
	if s.isMade() {
		return anew
	}
	return shape{}
}

// content is what a collection has in it that has the value in it.
func (s shape) content() taint { return s.self | s.in | s.key&^place }

// element is what is in a collection. A collection in it can be a list.
func (s shape) element() shape {
	of := shape{self: s.in, key: s.in &^ place, in: s.in}
	if s.in&whole != 0 {
		of.key |= place
	}
	return of
}

// keyShape is one of the keys.
func (s shape) keyShape() shape { return shape{s.key, s.key &^ place, s.key} }

// anew is a value all of whose texts may be made.
var anew = shape{made, made, made}

func list(of shape) shape {
	if !of.touched() {
		return of.left()
	}
	return shape{whole, place, of.content()}
}

func set(of shape) shape {
	if !of.touched() {
		return of.left()
	}
	return shape{whole, of.content(), of.content()}
}

func object(key, value shape) shape {
	if !key.touched() && !value.touched() {
		return key.join(value).left()
	}
	return shape{whole, key.content(), value.content()}
}

var identity = map[string]shape{"user": {self: text}, "actor": {self: text}, "claims": {whole, place, text}}

// all is the shape of the whole identity.
var all = shape{whole, 0, text | whole}

// group is the rules of one path.
type group struct {
	path  ast.Ref
	rules []*ast.Rule
	// aboutCaller and aboutMore are whether they depend on the caller, and on something
	// else of the input.
	aboutCaller, aboutMore bool
	seen                   bool
}

// flow follows what is of the caller through the rules that decide.
type flow struct {
	compiler   *ast.Compiler
	entrypoint ast.Ref
	// questions are permission rules, of which the resource answers each question.
	questions map[string]bool

	groups map[string]*group
	values map[string]shape
	params map[string][]shape
	grown  bool

	// about are the rules about the caller alone that the rest reads, reads the members
	// of the identity, and data the parts of the data.
	about, reads, data map[string]bool
	known              map[string]bool
	why                string
}

func newFlow(c *ast.Compiler, p *offline.Policy) *flow {
	f := &flow{
		compiler: c, questions: make(map[string]bool), groups: make(map[string]*group),
		values: make(map[string]shape), params: make(map[string][]shape),
		about: make(map[string]bool), reads: make(map[string]bool), data: make(map[string]bool), known: make(map[string]bool),
	}
	for _, r := range p.Rules() {
		f.questions[r.Function.String()] = true
	}
	f.entrypoint = ast.Ref{ast.DefaultRootDocument}
	for step := range strings.SplitSeq(p.Entrypoint(), "/") {
		f.entrypoint = append(f.entrypoint, ast.StringTerm(step))
	}
	return f
}

// read follows the flow until nothing new comes of it, and says what tells any two
// callers apart.
func (f *flow) read() string {
	entry := f.group(f.entrypoint)
	if entry == nil {
		return "the entrypoint has no rules"
	}
	for f.grown = true; f.grown && f.why == ""; {
		f.grown = false
		for _, name := range slices.Sorted(maps.Keys(f.groups)) { // so that the same is told each time
			if g := f.groups[name]; g.seen {
				f.follow(g)
			}
		}
		if !entry.seen {
			entry.seen, f.grown = true, true
		}
	}
	return f.why
}

func (f *flow) because(at *ast.Location, format string, args ...any) {
	if f.why != "" {
		return
	}
	f.why = fmt.Sprintf(format, args...)
	if at != nil {
		f.why += fmt.Sprintf(" at %s:%d", at.File, at.Row)
	}
}

// group is the group that a reference leads to, nil for none.
func (f *flow) group(ref ast.Ref) *group {
	rules := f.compiler.GetRulesDynamicWithOpts(ref, ast.RulesOptions{IncludeHiddenModules: true})
	if len(rules) == 0 {
		return nil
	}
	path := rules[0].Ref().GroundPrefix()
	for _, r := range rules {
		if p := r.Ref().GroundPrefix(); !p.Equal(path) {
			f.because(r.Location, "%s can be one of several rules, such as that", ref)
			return nil
		}
	}
	if len(ref) < len(path) || !ref[:len(path)].IsGround() {
		f.because(rules[0].Location, "%s is a whole package, with the rule", ref)
		return nil
	}
	name := path.String()
	if g := f.groups[name]; g != nil {
		return g
	}
	g := &group{path: path, rules: rules}
	f.groups[name] = g
	f.depends(g)
	return g
}

// depends finds out what the rules of a group depend on.
func (f *flow) depends(g *group) {
	var visit func(t *ast.Term) bool
	visit = func(t *ast.Term) bool {
		switch v := t.Value.(type) {
		case ast.Var:
			g.aboutMore = g.aboutMore || v.Equal(ast.InputRootDocument.Value)
		case ast.Ref:
			switch {
			case v.HasPrefix(ast.InputRootRef) && len(v) > 1 && v[1].Equal(ast.StringTerm("identity")):
				g.aboutCaller = true
			case v.HasPrefix(ast.InputRootRef):
				g.aboutMore = true
			case v.HasPrefix(ast.DefaultRootRef) && !f.questions[v.String()]:
				if of := f.group(v); of != nil && of != g {
					g.aboutCaller = g.aboutCaller || of.aboutCaller
					g.aboutMore = g.aboutMore || of.aboutMore
				}
			}
			for _, part := range v[1:] {
				ast.WalkTerms(part, visit)
			}
			return true
		}
		return false
	}
	for _, rule := range g.rules {
		ast.WalkTerms(rule, visit)
		ast.WalkExprs(rule, func(e *ast.Expr) bool {
			g.aboutMore = g.aboutMore || len(e.With) > 0
			return false
		})
	}
}

// isAbout is whether the rules are about the caller alone, and can be asked for.
func (g *group) isAbout() bool {
	return g.aboutCaller && !g.aboutMore && len(g.rules[0].Head.Args) == 0
}

// follow follows the flow through the rules of a group.
func (f *flow) follow(g *group) {
	name := g.path.String()
	for _, rule := range g.rules {
		for r := rule; r != nil; r = r.Else {
			of := f.rule(g, r)
			if joined := f.values[name].join(of); joined != f.values[name] {
				f.values[name], f.grown = joined, true
			}
		}
	}
}

// rule is what the value of a rule can hold.
func (f *flow) rule(g *group, r *ast.Rule) shape {
	s := &scope{flow: f, vars: make(map[ast.Var]shape)}
	params := f.params[g.path.String()]
	for i, arg := range r.Head.Args {
		of := shape{}
		if i < len(params) {
			of = params[i]
		}
		s.unify(arg, of)
	}
	s.body(r.Body)
	keys := shape{}
	for _, part := range r.Ref()[len(g.path):] {
		keys = keys.join(s.of(part))
	}
	if r.Head.Key != nil && r.Head.Value == nil {
		return set(s.of(r.Head.Key))
	}
	value := shape{}
	if r.Head.Value != nil {
		value = s.of(r.Head.Value)
	}
	if len(r.Ref()) > len(g.path) {
		return object(keys, value)
	}
	return value
}

// scope has the variables of a rule's body.
type scope struct {
	flow *flow
	vars map[ast.Var]shape
	at   *ast.Location
}

func (s *scope) because(format string, args ...any) { s.flow.because(s.at, format, args...) }

func (s *scope) body(body ast.Body) {
	for _, e := range body {
		s.expr(e)
	}
}

// within looks into a body of its own, in which the variables outside are known.
func (s *scope) within(body ast.Body) *scope {
	inner := &scope{flow: s.flow, vars: make(map[ast.Var]shape, len(s.vars)), at: s.at}
	for v, of := range s.vars {
		inner.vars[v] = of
	}
	inner.body(body)
	return inner
}

func (s *scope) expr(e *ast.Expr) {
	s.at = e.Location
	if len(e.With) > 0 {
		s.because("with is not followed")
		return
	}
	switch terms := e.Terms.(type) {
	case *ast.Term:
		s.of(terms)
	case []*ast.Term:
		s.call(terms)
	case *ast.Every:
		domain := s.of(terms.Domain)
		inner := s.within(nil)
		if terms.Key != nil {
			inner.unify(terms.Key, domain.keyShape())
		}
		inner.unify(terms.Value, domain.element())
		inner.body(terms.Body)
	default:
		s.because("%v is not followed", e)
	}
}

// of is what a term can hold.
func (s *scope) of(t *ast.Term) shape {
	switch v := t.Value.(type) {
	case ast.String:
		s.flow.know(string(v))
	case ast.Var:
		if v.Equal(ast.InputRootDocument.Value) || v.Equal(ast.DefaultRootDocument.Value) {
			s.because("all of %s is read", v)
		}
		return s.vars[v]
	case ast.Ref:
		return s.ref(v)
	case *ast.Array:
		elements := shape{}
		v.Foreach(func(t *ast.Term) { elements = elements.join(s.of(t)) })
		return list(elements)
	case ast.Set:
		elements := shape{}
		v.Foreach(func(t *ast.Term) { elements = elements.join(s.of(t)) })
		s.compare(elements, elements) // equal ones are one
		return set(elements)
	case ast.Object:
		return s.object(v)
	case *ast.ArrayComprehension:
		inner := s.within(v.Body)
		return list(inner.of(v.Term))
	case *ast.SetComprehension:
		inner := s.within(v.Body)
		return set(inner.of(v.Term))
	case *ast.ObjectComprehension:
		inner := s.within(v.Body)
		return object(inner.of(v.Key), inner.of(v.Value))
	case ast.Number, ast.Boolean, ast.Null:
	default:
		s.because("%v is not followed", t)
	}
	return shape{}
}

func (s *scope) object(o ast.Object) shape {
	keys, values := shape{}, shape{}
	o.Foreach(func(k, v *ast.Term) {
		of := s.of(v)
		keys, values = keys.join(s.of(k)), values.join(of)
		if name, ok := k.Value.(ast.String); ok && (name == "path" || name == "from") && of.touched() {
			values.in |= place // json.patch would look into it
		}
	})
	return object(keys, values)
}

// ref is what a reference can hold.
func (s *scope) ref(ref ast.Ref) shape {
	of, rest := s.head(ref)
	for _, part := range rest {
		if v, ok := part.Value.(ast.Var); ok && !s.isBound(v) {
			s.vars[v] = of.keyShape()
		} else {
			index := s.of(part)
			s.meet(shape{self: of.key}, index)
			_, number := part.Value.(ast.Number)
			if index.self&place != 0 || of.key&place != 0 && (number || index.self == 0 && !isText(part)) {
				s.because("an element is asked for by its place")
			}
		}
		of = of.element()
	}
	return of
}

// isText is whether a term can be no place in a list.
func isText(t *ast.Term) bool {
	_, ok := t.Value.(ast.String)
	return ok
}

// head is what a reference begins with, and the rest of it.
func (s *scope) head(ref ast.Ref) (shape, []*ast.Term) {
	switch {
	case ref.HasPrefix(ast.InputRootRef):
		return s.input(ref)
	case ref.HasPrefix(ast.DefaultRootRef):
		if g := s.flow.group(ref); g != nil {
			name := g.path.String()
			if g.isAbout() {
				if !s.flow.about[name] {
					s.flow.about[name], s.flow.grown = true, true
				}
				return valueOf(g), ref[len(g.path):]
			}
			if !g.seen {
				g.seen, s.flow.grown = true, true
			}
			return s.flow.values[name], ref[len(g.path):]
		}
		ground := ref.GroundPrefix()
		s.flow.data[ground.String()] = true
		return shape{}, ref[len(ground):]
	}
	of := s.of(ref[0])
	return of, ref[1:]
}

func (s *scope) input(ref ast.Ref) (shape, []*ast.Term) {
	member := ""
	if len(ref) > 1 {
		name, _ := ref[1].Value.(ast.String)
		member = string(name)
	}
	switch member {
	case "":
		s.because("all of input is read")
		return all, ref[min(2, len(ref)):]
	case "identity":
		if len(ref) > 2 {
			name, _ := ref[2].Value.(ast.String)
			if of, ok := identity[string(name)]; ok {
				s.flow.reads[string(name)] = true
				return of, ref[3:]
			}
		}
		for name := range identity {
			s.flow.reads[name] = true
		}
		return all, ref[2:]
	}
	return shape{}, ref[2:]
}

// valueOf is what the value of a rule about the caller alone can hold.
func valueOf(g *group) shape {
	of := shape{}
	for _, rule := range g.rules {
		for r := rule; r != nil; r = r.Else {
			switch {
			case r.Head.Key != nil || len(r.Ref()) > len(g.path):
				of = of.join(shape{whole, text | whole, text | whole})
				continue
			case r.Head.Value == nil:
				continue
			}
			switch r.Head.Value.Value.(type) {
			case ast.Boolean, ast.Number, ast.Null:
			case ast.Set, *ast.SetComprehension, ast.Object, *ast.ObjectComprehension:
				of = of.join(shape{whole, text | whole, text | whole})
			case *ast.Array, *ast.ArrayComprehension:
				of = of.join(shape{whole, place, text | whole})
			default:
				of = of.join(shape{text | whole, text | whole | place, text | whole})
			}
		}
	}
	return of
}

func (f *flow) know(text string) { f.known[strings.ToLower(text)] = true }

func (s *scope) isBound(v ast.Var) bool {
	_, ok := s.vars[v]
	return ok
}

// unify binds the variables of a term to a value, or compares the two.
func (s *scope) unify(t *ast.Term, with shape) {
	switch v := t.Value.(type) {
	case ast.Var:
		if !s.isBound(v) {
			s.vars[v] = with
			return
		}
	case *ast.Array:
		v.Foreach(func(t *ast.Term) { s.unify(t, with.element()) })
		return
	case ast.Object:
		v.Foreach(func(k, v *ast.Term) {
			s.of(k)
			s.unify(v, with.element())
		})
		return
	}
	s.compare(s.of(t), with)
}

// compare looks at a comparison of two values.
func (s *scope) compare(a, b shape) {
	s.meet(a, b)
	if (a.self|b.self)&place != 0 {
		s.because("the place of an element is compared")
	}
	if a.self&whole != 0 && b.self&whole != 0 && (a.key|b.key)&place != 0 {
		s.because("lists of the caller's references are compared")
	}
}

// meet looks at a comparison of the texts of two values. What the policy has made may be
// one of the caller's, and nothing of the source or the data would say so.
func (s *scope) meet(a, b shape) {
	if a.isMade() && b.touched() || b.isMade() && a.touched() {
		s.because("a text that the policy makes is compared with what is of the caller")
	}
}

// binds is whether a term has variables that nothing has bound yet.
func (s *scope) binds(t *ast.Term) bool {
	switch v := t.Value.(type) {
	case ast.Var:
		return !s.isBound(v)
	case *ast.Array:
		found := false
		v.Foreach(func(t *ast.Term) { found = found || s.binds(t) })
		return found
	case ast.Object:
		found := false
		v.Foreach(func(_, t *ast.Term) { found = found || s.binds(t) })
		return found
	}
	return false
}

// call looks at a call, or at a unification.
func (s *scope) call(terms []*ast.Term) {
	operator, ok := terms[0].Value.(ast.Ref)
	if !ok {
		s.because("%v is not followed", terms[0])
		return
	}
	name := operator.String()
	if name == ast.Equality.Name && len(terms) == 3 {
		a, b := terms[1], terms[2]
		if s.binds(b) && !s.binds(a) {
			a, b = b, a
		}
		of := s.of(b)
		if array, ok := b.Value.(*ast.Array); ok && !s.binds(a) && array.Len() > 0 && s.of(a).key&place != 0 {
			s.because("a list of the caller's references is compared")
		}
		s.unify(a, of)
		return
	}
	arity := s.flow.compiler.GetArity(operator)
	if arity < 0 || arity > len(terms)-1 {
		s.because("%s is not followed", name)
		return
	}
	args := make([]shape, arity)
	for i, t := range terms[1 : 1+arity] {
		args[i] = s.of(t)
	}
	var result shape
	if operator.HasPrefix(ast.DefaultRootRef) {
		result = s.function(operator, args)
	} else {
		result = s.builtin(name, args)
	}
	if len(terms) > 1+arity {
		s.unify(terms[1+arity], result)
	}
}

func (s *scope) function(operator ast.Ref, args []shape) shape {
	if s.flow.questions[operator.String()] {
		return shape{} // the answer is the resource's
	}
	g := s.flow.group(operator)
	if g == nil {
		s.because("%s is not followed", operator)
		return shape{}
	}
	if !g.seen {
		g.seen, s.flow.grown = true, true
	}
	name := g.path.String()
	params := s.flow.params[name]
	if params == nil {
		params = make([]shape, len(args))
		s.flow.params[name] = params
	}
	for i, arg := range args {
		if joined := params[i].join(arg); joined != params[i] {
			params[i], s.flow.grown = joined, true
		}
	}
	return s.flow.values[name]
}

// tells are builtins that answer the same whichever texts there are.
var tells = []string{
	"is_string", "is_array", "is_object", "is_set", "is_null", "is_number", "is_boolean", "type_name",
	"internal.member_2", "internal.member_3", "neq", "equal", "object.subset", "print", "internal.print",
}

// keeps are builtins that make nothing of a text but what they were given.
var keeps = []string{
	"and", "or", "minus", "union", "intersection", "object.keys", "object.union",
	"object.union_n", "object.remove", "object.filter", "graph.reachable", "json.patch", "json.filter", "json.remove",
}

// picks are builtins that make no text, beside those that keep: what they return is in what
// they were given, but for lower case, in which all that is known is known.
var picks = []string{
	"lower", "object.get", "walk", "array.concat", "array.slice", "array.reverse", "array.flatten", "sort", "min", "max",
	"numbers.range", "numbers.range_step", "graph.reachable_paths", "cast_array", "cast_set",
}

// makes is whether what a builtin returns may have texts that were not in what it was given.
func makes(name string) bool {
	if slices.Contains(picks, name) || slices.Contains(keeps, name) || slices.Contains(tells, name) {
		return false
	}
	builtin := ast.BuiltinMap[name]
	if builtin == nil || builtin.Decl == nil {
		return true
	}
	switch builtin.Decl.Result().(type) {
	case types.Boolean, types.Number, types.Null, nil:
		return false
	}
	return true
}

// builtin is what a builtin makes of its arguments.
func (s *scope) builtin(name string, args []shape) shape {
	of := shape{}
	for _, arg := range args {
		of = of.join(arg)
	}
	switch {
	case !of.touched() && makes(name):
		return anew
	case !of.touched():
		return of.left()
	case of.isMade():
		s.meet(of, of)
	case (of.self|of.in)&place != 0:
		s.because("the place of an element is looked at by %s", name)
	case name == "lower":
		return shape{self: text}
	case name == "count" && of.self&text == 0:
		return shape{}
	case slices.Contains(tells, name):
		if len(args) == 2 {
			s.compare(args[0], args[1])
		}
		return shape{}
	case name == "object.get":
		return args[0].element().join(args[2])
	case name == "walk":
		return shape{whole, 0, of.content() | whole | place}
	case name == "array.concat":
		return shape{whole, place, of.in}
	case slices.Contains(keeps, name):
		return shape{whole, of.content(), of.content()}
	default:
		s.because("%s looks into what is of the caller", name)
	}
	return shape{}
}
