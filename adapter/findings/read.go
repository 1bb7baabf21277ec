package findings

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"

	"github.com/open-policy-agent/opa/v1/ast"
)

// A reading is what the source of a policy says, found by following its values: each
// expression that compares, looks up or hands on makes one node of what it names.
// Functions are read anew for each call, as far as the bounds allow, so that what one
// caller hands in is not taken for what another does.
type reading struct {
	modules map[string]*ast.Module // the author's, tests among them
	rules   map[string]*permissionRule
	input   *node
	data    *node
	defined map[string][]*ast.Rule // by path
	parts   map[string]bool        // every prefix of a path in defined

	constants []*constant
	patterns  []pattern
	calls     []ruleCall
	accesses  []access
	loose     [][2]*node
	documents []*documentUse
	refs      []dataRef

	budget int // of function bodies that may still be read anew
	test   bool
}

// A ruleCall is a call of a permission rule.
type ruleCall struct {
	rule   *permissionRule
	params *node
	at     position
	test   bool
	in     *ast.Rule
}

// An access is a step to a member.
type access struct {
	of   *node
	name string
	at   position
	test bool
}

// A documentUse is an object that may be a decision or a condition.
type documentUse struct {
	object ast.Object
	node   *node
	at     position
	test   bool
	in     *ast.Rule
}

// kinds says what the members of a decision or a condition are.
func (use *documentUse) kinds() {
	has := func(name string) bool { return use.object.Get(ast.StringTerm(name)) != nil }
	is := func(name string, k kind) {
		if has(name) {
			use.node.field(name).kinds |= k
		}
	}
	switch {
	case has("rule") && (has("params") || has("resourceType")):
		is("rule", ruleName)
		is("resourceType", resourceType)
	case has("result") && (has("conditions") || has("pluginId") || has("reason") || use.object.Len() == 1):
		is("result", result)
		is("pluginId", pluginID)
		is("resourceType", resourceType)
	}
}

// A dataRef is a reference to data.
type dataRef struct {
	path    []string // its ground part
	at      position
	negated bool
	list    bool // whether a comprehension reads it
	rule    *ast.Rule
}

// Bounds of reading functions anew.
const (
	maxCallDepth = 4
	maxBodies    = 50_000
)

// scope is the variables that are known at a place.
type scope struct {
	up      *scope
	vars    map[ast.Var]*node
	module  *ast.Module
	rule    *ast.Rule
	depth   int
	negated bool
	list    bool
	free    bool
}

func (s *scope) inner() *scope {
	return &scope{up: s, vars: map[ast.Var]*node{}, module: s.module, rule: s.rule, depth: s.depth, negated: s.negated,
		list: s.list, free: s.free}
}

func (s *scope) find(v ast.Var) *node {
	for ; s != nil; s = s.up {
		if n := s.vars[v]; n != nil {
			return n
		}
	}
	return nil
}

func newReading(modules, tests map[string]*ast.Module, rules []*permissionRule, data *dataFiles) *reading {
	r := &reading{
		modules: modules, rules: map[string]*permissionRule{}, input: inputSchema().node(), data: &node{},
		defined: map[string][]*ast.Rule{}, parts: map[string]bool{}, budget: maxBodies,
	}
	for _, rule := range rules {
		r.rules[rule.Function.String()] = rule
	}
	for _, of := range []map[string]*ast.Module{modules, tests} {
		for _, name := range slices.Sorted(maps.Keys(of)) {
			for _, rule := range of[name].Rules {
				path := rule.Ref().GroundPrefix()
				r.defined[path.String()] = append(r.defined[path.String()], rule)
				for i := 1; i <= len(path); i++ {
					r.parts[path[:i].String()] = true
				}
			}
			for i := 1; i <= len(of[name].Package.Path); i++ {
				r.parts[of[name].Package.Path[:i].String()] = true
			}
		}
	}
	data.read(r)
	for _, name := range slices.Sorted(maps.Keys(modules)) {
		r.module(modules[name])
	}
	r.test = true
	for _, name := range slices.Sorted(maps.Keys(tests)) {
		r.module(tests[name])
	}
	for _, use := range r.documents {
		use.kinds()
	}
	for changed := true; changed; {
		changed = false
		for _, pair := range r.loose {
			made, of := pair[0].root(), pair[1].root()
			if kinds := of.loose | made.kinds | made.loose; kinds != of.loose {
				of.loose, changed = kinds, true
			}
			if kinds := made.loose | of.kinds | of.loose; kinds != made.loose {
				made.loose, changed = kinds, true
			}
		}
	}
	return r
}

func (r *reading) module(m *ast.Module) {
	for _, rule := range m.Rules {
		for each := rule; each != nil; each = each.Else {
			r.readRule(m, each)
		}
	}
}

// readRule reads a rule by itself. A function's arguments are unknown then.
func (r *reading) readRule(m *ast.Module, rule *ast.Rule) {
	s := &scope{vars: map[ast.Var]*node{}, module: m, rule: rule}
	for _, arg := range rule.Head.Args {
		r.term(s, arg)
	}
	r.body(s, rule.Body)
	if len(rule.Head.Args) > 0 {
		if rule.Head.Value != nil {
			r.value(s, rule)
		}
		return
	}
	r.head(s, rule)
}

// head makes one node of a rule's value and what refers to it.
func (r *reading) head(s *scope, rule *ast.Rule) {
	ref := rule.Ref()
	n := r.data
	for _, step := range ref[1:] {
		if name, ok := step.Value.(ast.String); ok {
			n = n.field(string(name))
			continue
		}
		unify(n.keys(), r.keyed(s, step))
		n = n.member()
	}
	if rule.Head.Key != nil && rule.Head.Value == nil { // contains
		n.root().isSet = true
		unify(n.element(), r.member(s, rule.Head.Key))
		return
	}
	if rule.Head.Value != nil {
		unify(n, r.value(s, rule))
	}
}

// value is the value of a rule. A text that stands beside values from elsewhere is
// what the author falls back to, and need not be one of theirs.
func (r *reading) value(s *scope, rule *ast.Rule) *node {
	if _, ok := rule.Head.Value.Value.(ast.String); ok && r.computed(rule.Ref().GroundPrefix().String()) {
		s = s.inner()
		s.free = true
	}
	return r.term(s, rule.Head.Value)
}

// computed is whether some rule at the path has a value that is not written out.
func (r *reading) computed(path string) bool {
	for _, rule := range r.defined[path] {
		for ; rule != nil; rule = rule.Else {
			if rule.Head.Value != nil && !ast.IsConstant(rule.Head.Value.Value) {
				return true
			}
		}
	}
	return false
}

func (r *reading) body(s *scope, body ast.Body) {
	for _, e := range body {
		r.expr(s, e)
	}
}

func (r *reading) expr(s *scope, e *ast.Expr) {
	if e.Negated {
		s = s.inner()
		s.negated = true
	}
	for _, with := range e.With {
		r.with(s, with)
	}
	switch terms := e.Terms.(type) {
	case *ast.Term:
		r.term(s, terms)
	case []*ast.Term:
		r.call(s, terms[0], terms[1:], e.Location)
	case *ast.SomeDecl:
		for _, symbol := range terms.Symbols {
			if call, ok := symbol.Value.(ast.Call); ok {
				for _, arg := range call[1 : len(call)-1] {
					declare(s, arg)
				}
				r.call(s, call[0], call[1:], symbol.Location)
				continue
			}
			declare(s, symbol)
		}
	case *ast.Every:
		domain := r.term(s, terms.Domain)
		in := s.inner()
		if terms.Key != nil {
			declare(in, terms.Key)
			unify(r.term(in, terms.Key), domain.keys())
		}
		declare(in, terms.Value)
		unify(r.term(in, terms.Value), domain.member())
		r.body(in, terms.Body)
	}
}

func declare(s *scope, t *ast.Term) {
	ast.WalkVars(t, func(v ast.Var) bool {
		s.vars[v] = &node{}
		return false
	})
}

// with reads what stands for a document for the time of an expression.
func (r *reading) with(s *scope, with *ast.With) {
	value := r.term(s, with.Value)
	target, ok := with.Target.Value.(ast.Ref)
	if !ok || !target.HasPrefix(ast.InputRootRef) {
		return
	}
	n := r.input
	for _, step := range target[1:] {
		name, ok := step.Value.(ast.String)
		if !ok {
			return
		}
		n = r.access(n, string(name), step.Location)
	}
	unify(n, value)
}

func (r *reading) access(n *node, name string, at *ast.Location) *node {
	r.accesses = append(r.accesses, access{n, name, positionOf(at), r.test})
	return n.field(name)
}

// keyed is a term that is a key, and member one that is an element.
func (r *reading) keyed(s *scope, t *ast.Term) *node {
	n := r.term(s, t)
	if _, ok := t.Value.(ast.String); ok {
		r.constants[len(r.constants)-1].key = true
	}
	return n
}

func (r *reading) member(s *scope, t *ast.Term) *node {
	n := r.term(s, t)
	if _, ok := t.Value.(ast.String); ok {
		r.constants[len(r.constants)-1].member = true
	}
	return n
}

func (r *reading) term(s *scope, t *ast.Term) *node {
	switch v := t.Value.(type) {
	case ast.String:
		n := &node{jsonTypes: isString}
		r.constants = append(r.constants, &constant{text: string(v), at: positionOf(t.Location), node: n, free: s.free,
			test: r.test})
		return n
	case ast.Number:
		return &node{jsonTypes: isNumber}
	case ast.Boolean:
		return &node{jsonTypes: isBoolean}
	case ast.Null:
		return &node{jsonTypes: isNull}
	case ast.Var:
		return r.variable(s, v, t)
	case ast.Ref:
		return r.ref(s, v, t)
	case *ast.Array:
		n := &node{jsonTypes: isList}
		v.Foreach(func(item *ast.Term) { unify(n.element(), r.member(s, item)) })
		return n.root()
	case ast.Set:
		n := &node{jsonTypes: isList, isSet: true}
		for _, item := range v.Slice() {
			unify(n.element(), r.member(s, item))
		}
		return n.root()
	case ast.Object:
		return r.object(s, v, t)
	case ast.Call:
		return r.call(s, v[0], v[1:], t.Location)
	case *ast.ArrayComprehension:
		return r.list(s, v.Body, v.Term, &node{jsonTypes: isList})
	case *ast.SetComprehension:
		return r.list(s, v.Body, v.Term, &node{jsonTypes: isList, isSet: true})
	case *ast.ObjectComprehension:
		in := s.inner()
		r.body(in, v.Body)
		n := &node{jsonTypes: isObject}
		unify(n.keys(), r.keyed(in, v.Key))
		unify(n.member(), r.term(in, v.Value))
		return n.root()
	}
	return &node{}
}

func (r *reading) list(s *scope, body ast.Body, item *ast.Term, n *node) *node {
	in := s.inner()
	in.negated, in.list = false, true
	r.body(in, body)
	unify(n.element(), r.term(in, item))
	return n.root()
}

func (r *reading) object(s *scope, object ast.Object, t *ast.Term) *node {
	n := &node{jsonTypes: isObject, literals: []*ast.Term{t}}
	use := &documentUse{object, n, positionOf(t.Location), r.test, s.rule}
	object.Foreach(func(k, v *ast.Term) {
		value := r.term(s, v)
		if name, ok := k.Value.(ast.String); ok {
			unify(r.access(n, string(name), k.Location), value)
			unify(n.root().keys(), r.keyed(s, k))
			return
		}
		unify(n.root().keys(), r.keyed(s, k))
		unify(n.root().member(), value)
	})
	r.documents = append(r.documents, use)
	return n.root()
}

// variable is a local variable, an import, or a rule of the package.
func (r *reading) variable(s *scope, v ast.Var, t *ast.Term) *node {
	if v.IsWildcard() {
		return &node{}
	}
	if n := s.find(v); n != nil {
		return n.root()
	}
	if ref := r.resolve(s, v); ref != nil {
		return r.path(s, ref, t)
	}
	n := &node{}
	s.vars[v] = n
	return n
}

// resolve is what a variable stands for that is no local one.
func (r *reading) resolve(s *scope, v ast.Var) ast.Ref {
	if v.Equal(ast.InputRootDocument.Value) || v.Equal(ast.DefaultRootDocument.Value) {
		return ast.Ref{ast.NewTerm(v)}
	}
	own := s.module.Package.Path.Append(ast.StringTerm(string(v)))
	if r.parts[own.String()] && r.defined[own.String()] != nil {
		return own
	}
	for _, imported := range s.module.Imports {
		if imported.Name().Equal(v) {
			if ref, ok := imported.Path.Value.(ast.Ref); ok {
				return ref
			}
		}
	}
	if r.parts[own.String()] {
		return own
	}
	return nil
}

func (r *reading) ref(s *scope, ref ast.Ref, t *ast.Term) *node {
	switch head := ref[0].Value.(type) {
	case ast.Var:
		if n := s.find(head); n != nil {
			return r.steps(s, n, ref[1:])
		}
		if to := r.resolve(s, head); to != nil {
			return r.path(s, to.Concat(ref[1:]), t)
		}
		n := &node{}
		s.vars[head] = n
		return r.steps(s, n, ref[1:])
	default:
		return r.steps(s, r.term(s, ref[0]), ref[1:])
	}
}

// path is a reference that begins with input or data.
func (r *reading) path(s *scope, ref ast.Ref, t *ast.Term) *node {
	if ref[0].Equal(ast.InputRootDocument) {
		return r.steps(s, r.input, ref[1:])
	}
	if ref[0].Equal(ast.DefaultRootDocument) {
		if !r.test {
			r.noteData(s, ref, t)
		}
		return r.steps(s, r.data, ref[1:])
	}
	return &node{}
}

func (r *reading) noteData(s *scope, ref ast.Ref, t *ast.Term) {
	use := dataRef{at: positionOf(t.Location), negated: s.negated, list: s.list, rule: s.rule}
	for _, step := range ref[1:] {
		name, ok := step.Value.(ast.String)
		if !ok {
			break
		}
		use.path = append(use.path, string(name))
	}
	r.refs = append(r.refs, use)
}

func (r *reading) steps(s *scope, n *node, steps []*ast.Term) *node {
	for _, step := range steps {
		name, ok := step.Value.(ast.String)
		switch {
		case n.root().isSet:
			unify(n.element(), r.member(s, step))
			n = n.element()
		case ok && n.root().key != nil && n.root().schema == nil:
			unify(n.keys(), r.keyed(s, step))
			n = r.access(n, string(name), step.Location)
		case ok:
			n = r.access(n, string(name), step.Location)
		default:
			k := r.term(s, step)
			if n.root().schema == nil || n.root().jsonTypes == isList {
				unify(n.root().keys(), k)
			}
			n = n.member()
		}
	}
	return n.root()
}

// call is a call of a builtin or a function.
func (r *reading) call(s *scope, operator *ast.Term, args []*ast.Term, at *ast.Location) *node {
	ref, ok := operator.Value.(ast.Ref)
	if !ok {
		return &node{}
	}
	name := ref.String()
	if head, isVar := ref[0].Value.(ast.Var); isVar && s.find(head) == nil {
		if to := r.resolve(s, head); to != nil && !to[0].Equal(ast.InputRootDocument) {
			return r.function(s, to.Concat(ref[1:]), args, at)
		}
	}
	return r.builtin(s, name, args, at)
}

func (r *reading) function(s *scope, path ast.Ref, args []*ast.Term, at *ast.Location) *node {
	nodes := make([]*node, len(args))
	for i, arg := range args {
		nodes[i] = r.term(s, arg)
	}
	if rule := r.rules[path.String()]; rule != nil {
		if len(args) >= 2 {
			r.calls = append(r.calls, ruleCall{rule, nodes[1], positionOf(at), r.test, s.rule})
		}
		return &node{jsonTypes: isBoolean}
	}
	value := &node{}
	rules := r.defined[path.String()]
	if s.depth >= maxCallDepth || r.budget < len(rules) {
		return value
	}
	r.budget -= len(rules)
	for _, rule := range rules {
		if len(rule.Head.Args) == 0 || len(rule.Head.Args) > len(args) {
			continue
		}
		for ; rule != nil; rule = rule.Else {
			in := &scope{vars: map[ast.Var]*node{}, module: rule.Module, rule: rule, depth: s.depth + 1, negated: s.negated}
			for i, arg := range rule.Head.Args {
				unify(r.term(in, arg), nodes[i])
			}
			r.body(in, rule.Body)
			if rule.Head.Value != nil {
				unify(value, r.value(in, rule))
			}
		}
	}
	if n := len(rules); n > 0 && len(args) == len(rules[0].Head.Args)+1 { // the last one is the result
		unify(value, nodes[len(args)-1])
	}
	return value.root()
}

func (r *reading) builtin(s *scope, name string, args []*ast.Term, at *ast.Location) *node {
	if name == "object.get" && len(args) == 3 {
		return r.objectGet(s, args)
	}
	nodes := make([]*node, len(args))
	for i, arg := range args {
		if name == "internal.member_2" && i == 0 {
			nodes[i] = r.member(s, arg)
			if _, ok := arg.Value.(ast.String); ok {
				r.constants[len(r.constants)-1].member = false
			}
			continue
		}
		nodes[i] = r.term(s, arg)
	}
	value := &node{jsonTypes: resultTypes[name]}
	switch name {
	case "eq", "assign", "equal", "neq", "lt", "lte", "gt", "gte":
		if len(nodes) >= 2 {
			unify(nodes[0], nodes[1])
		}
		return &node{jsonTypes: isBoolean}
	case "internal.member_2":
		unify(nodes[0], nodes[1].member())
	case "internal.member_3":
		if n := nodes[2].root(); n.schema == nil || n.jsonTypes == isList {
			unify(nodes[0], n.keys())
		}
		unify(nodes[1], nodes[2].member())
	case "lower", "upper", "trim_space":
		r.loose = append(r.loose, [2]*node{value, nodes[0]})
	case "object.keys":
		value.isSet = true
		unify(value.element(), nodes[0].keys())
	case "array.concat", "or", "and", "minus", "intersection", "union", "object.union", "array.flatten", "sort",
		"array.slice", "array.reverse":
		for i, n := range nodes {
			if name == "array.slice" && i > 0 {
				break
			}
			if name == "union" || name == "intersection" || name == "array.flatten" {
				n = n.element()
			}
			unify(value, n)
		}
		value.root().literals = nil // what is put together is not written out
	case "startswith", "endswith", "contains":
		r.patterns = append(r.patterns, pattern{name, nodes[1], nodes[0], positionOf(at)})
	case "strings.any_prefix_match", "strings.any_suffix_match":
		op := map[string]string{"strings.any_prefix_match": "startswith", "strings.any_suffix_match": "endswith"}[name]
		r.patterns = append(r.patterns, pattern{op, nodes[1], nodes[0], positionOf(at)},
			pattern{op, nodes[1].member(), nodes[0], positionOf(at)})
	case "regex.match":
		r.patterns = append(r.patterns, pattern{name, nodes[0], nodes[1], positionOf(at)})
	case "glob.match":
		if len(nodes) >= 3 {
			r.patterns = append(r.patterns, pattern{name, nodes[0], nodes[2], positionOf(at)})
		}
	}
	if b := ast.BuiltinMap[name]; b != nil && len(args) == len(b.Decl.FuncArgs().Args)+1 { // likewise
		unify(value, nodes[len(nodes)-1])
	}
	return value.root()
}

// objectGet is a reference that falls back to a value.
func (r *reading) objectGet(s *scope, args []*ast.Term) *node {
	n := r.term(s, args[0])
	switch k := args[1].Value.(type) {
	case ast.String:
		n = r.steps(s, n, args[1:2])
	case *ast.Array:
		var steps []*ast.Term
		k.Foreach(func(t *ast.Term) { steps = append(steps, t) })
		n = r.steps(s, n, steps)
	default:
		n = r.steps(s, n, args[1:2])
	}
	free := s.inner()
	free.free = true
	value := &node{}
	unify(value, n)
	unify(value, r.term(free, args[2]))
	return value.root()
}

var identifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// pathText is a path as the author writes it.
func pathText(path []string) string {
	text := "data"
	for _, step := range path {
		_, err := strconv.Atoi(step)
		switch {
		case err == nil:
			text += "[" + step + "]"
		case identifier.MatchString(step):
			text += "." + step
		default:
			text += fmt.Sprintf("[%q]", step)
		}
	}
	return text
}
