// Package reading follows the values of a policy through its source: what is compared
// with what, handed on to whom and looked up where, over rules, functions and data.
package reading

import (
	"maps"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/adapter/datafiles"
	"github.com/stagedoor/stagedoor/adapter/findings"
)

// A Reading is what the source of a policy says, found by following its values: each
// expression that compares, looks up or hands on makes one node of what it names.
// Functions are read anew for each call, as far as the bounds allow, so that what one
// caller hands in is not taken for what another does.
type Reading struct {
	Modules map[string]*ast.Module // the author's, without the tests
	Tests   map[string]*ast.Module
	Rules   map[string]*Rule
	Files   *datafiles.Files
	input   *Node
	data    *Node
	Defined map[string][]*ast.Rule // by path
	Parts   map[string]bool        // every prefix of a path in defined

	Constants []*Constant
	Patterns  []Pattern
	Calls     []RuleCall
	Accesses  []Access
	loose     [][2]*Node
	Documents []*DocumentUse
	// Lookups are values that are looked into, and Comparisons pairs that are compared.
	Lookups     []Lookup
	Comparisons []Comparison
	Refs        []DataRef

	replaced []ast.Ref // by the withs of the expression that is read
	budget   int       // of function bodies that may still be read anew
	test     bool
}

// A RuleCall is a call of a permission rule.
type RuleCall struct {
	Rule   *Rule
	Params *Node
	At     findings.Position
	Test   bool
	In     *ast.Rule
}

// An Access is a step to a member.
type Access struct {
	Of   *Node
	Name string
	At   findings.Position
	Test bool
}

// A DocumentUse is an object that may be a decision or a condition.
type DocumentUse struct {
	Object ast.Object
	Node   *Node
	At     findings.Position
	Test   bool
	In     *ast.Rule
}

// A Lookup looks into a value, which has to be a list or an object.
type Lookup struct {
	In   *Node
	At   findings.Position
	Term *ast.Term
	// Every is whether something has to hold for each that is in it.
	Every bool
}

// A Comparison holds what the input or the data has against what is written out. Its
// types never meet.
type Comparison struct {
	At         findings.Position
	Term       *ast.Term
	Is, Wanted JSONTypes
}

// compare notes a comparison of something known with a literal of another type.
func (r *Reading) compare(at *ast.Location, args []*ast.Term, nodes []*Node) {
	for i, arg := range args[:2] {
		other := args[1-i]
		known, ok := arg.Value.(ast.Ref)
		if !ok || !ast.IsScalar(other.Value) || r.test {
			continue
		}
		is, wanted := nodes[i].Root(), nodes[1-i].Root().JSONTypes
		if of := is.JSONTypes; of != 0 && of&wanted == 0 && (is.Schema != nil || r.inFiles(known)) {
			r.Comparisons = append(r.Comparisons, Comparison{At: findings.At(at), Term: arg, Is: of, Wanted: wanted})
		}
	}
}

// inFiles is whether a reference leads into the data of the bundle.
func (r *Reading) inFiles(ref ast.Ref) bool {
	if !ref.HasPrefix(ast.DefaultRootRef) || !ref.IsGround() {
		return false
	}
	var steps []string
	for _, step := range ref[1:] {
		name, _ := step.Value.(ast.String)
		steps = append(steps, string(name))
	}
	has, _ := r.Files.Has(steps)
	return has
}

// kinds says what the members of a decision or a condition are.
func (use *DocumentUse) kinds() {
	has := func(name string) bool { return use.Object.Get(ast.StringTerm(name)) != nil }
	is := func(name string, k Kind) {
		if has(name) {
			use.Node.Field(name).Kinds |= k
		}
	}
	switch {
	case has("rule") && (has("params") || has("resourceType")):
		is("rule", RuleName)
		is("resourceType", ResourceType)
	case has("result") && (has("conditions") || has("pluginId") || has("reason") || use.Object.Len() == 1):
		is("result", Result)
		is("pluginId", PluginID)
		is("resourceType", ResourceType)
	}
}

// A DataRef is a reference to data.
type DataRef struct {
	Path    []string // its ground part
	At      findings.Position
	Negated bool
	List    bool // whether a comprehension reads it
	Rule    *ast.Rule
}

// Bounds of reading functions anew.
const (
	maxCallDepth = 4
	maxBodies    = 50_000
)

// scope is the variables that are known at a place.
type scope struct {
	up      *scope
	vars    map[ast.Var]*Node
	module  *ast.Module
	rule    *ast.Rule
	depth   int
	negated bool
	list    bool
	free    bool
}

func (s *scope) inner() *scope {
	return &scope{up: s, vars: map[ast.Var]*Node{}, module: s.module, rule: s.rule, depth: s.depth, negated: s.negated,
		list: s.list, free: s.free}
}

func (s *scope) find(v ast.Var) *Node {
	for ; s != nil; s = s.up {
		if n := s.vars[v]; n != nil {
			return n
		}
	}
	return nil
}

// New is the reading of a policy before any of its parts is read: its modules and its
// tests by file, the rules that may be called, and its data.
func New(modules, tests map[string]*ast.Module, rules []*Rule, data *datafiles.Files) *Reading {
	r := &Reading{
		Modules: modules, Tests: tests, Files: data, Rules: map[string]*Rule{}, input: inputSchema().node(), data: &Node{},
		Defined: map[string][]*ast.Rule{}, Parts: map[string]bool{}, budget: maxBodies,
	}
	for _, rule := range rules {
		r.Rules[rule.Function.String()] = rule
	}
	for _, of := range []map[string]*ast.Module{modules, tests} {
		for _, name := range slices.Sorted(maps.Keys(of)) {
			for _, rule := range of[name].Rules {
				path := rule.Ref().GroundPrefix()
				r.Defined[path.String()] = append(r.Defined[path.String()], rule)
				for i := 1; i <= len(path); i++ {
					r.Parts[path[:i].String()] = true
				}
			}
			for i := 1; i <= len(of[name].Package.Path); i++ {
				r.Parts[of[name].Package.Path[:i].String()] = true
			}
		}
	}
	r.readData(data)
	for _, name := range slices.Sorted(maps.Keys(modules)) {
		r.module(modules[name])
	}
	r.test = true
	for _, name := range slices.Sorted(maps.Keys(tests)) {
		r.module(tests[name])
	}
	for _, use := range r.Documents {
		use.kinds()
	}
	for changed := true; changed; {
		changed = false
		for _, pair := range r.loose {
			made, of := pair[0].Root(), pair[1].Root()
			if kinds := of.Loose | made.Kinds | made.Loose; kinds != of.Loose {
				of.Loose, changed = kinds, true
			}
			if kinds := made.Loose | of.Kinds | of.Loose; kinds != made.Loose {
				made.Loose, changed = kinds, true
			}
		}
	}
	return r
}

func (r *Reading) module(m *ast.Module) {
	for _, rule := range m.Rules {
		for each := rule; each != nil; each = each.Else {
			r.readRule(m, each)
		}
	}
}

// readRule reads a rule by itself. A function's arguments are unknown then.
func (r *Reading) readRule(m *ast.Module, rule *ast.Rule) {
	s := &scope{vars: map[ast.Var]*Node{}, module: m, rule: rule}
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
func (r *Reading) head(s *scope, rule *ast.Rule) {
	ref := rule.Ref()
	n := r.data
	for _, step := range ref[1:] {
		if name, ok := step.Value.(ast.String); ok {
			n = n.Field(string(name))
			continue
		}
		unify(n.keys(), r.keyed(s, step))
		n = n.member()
	}
	if rule.Head.Key != nil && rule.Head.Value == nil { // contains
		n.Root().isSet = true
		unify(n.Element(), r.member(s, rule.Head.Key))
		return
	}
	if rule.Head.Value != nil {
		unify(n, r.value(s, rule))
	}
}

// value is the value of a rule. A text that stands beside values from elsewhere is
// what the author falls back to, and need not be one of theirs.
func (r *Reading) value(s *scope, rule *ast.Rule) *Node {
	if _, ok := rule.Head.Value.Value.(ast.String); ok && r.computed(rule.Ref().GroundPrefix().String()) {
		s = s.inner()
		s.free = true
	}
	return r.term(s, rule.Head.Value)
}

// computed is whether some rule at the path has a value that is not written out.
func (r *Reading) computed(path string) bool {
	for _, rule := range r.Defined[path] {
		for ; rule != nil; rule = rule.Else {
			if rule.Head.Value != nil && !ast.IsConstant(rule.Head.Value.Value) {
				return true
			}
		}
	}
	return false
}

func (r *Reading) body(s *scope, body ast.Body) {
	for _, e := range body {
		r.expr(s, e)
	}
}

func (r *Reading) expr(s *scope, e *ast.Expr) {
	if e.Negated {
		s = s.inner()
		s.negated = true
	}
	before := r.replaced
	defer func() { r.replaced = before }()
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
		if !r.test {
			r.Lookups = append(r.Lookups, Lookup{In: domain, At: findings.At(terms.Domain.Location), Term: terms.Domain,
				Every: true})
		}
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
		s.vars[v] = &Node{}
		return false
	})
}

// with reads what stands for a document for the time of an expression.
func (r *Reading) with(s *scope, with *ast.With) {
	value := r.term(s, with.Value)
	target, ok := with.Target.Value.(ast.Ref)
	if ok && target.HasPrefix(ast.DefaultRootRef) {
		r.replaced = append(r.replaced[:len(r.replaced):len(r.replaced)], target)
	}
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

func (r *Reading) access(n *Node, name string, at *ast.Location) *Node {
	r.Accesses = append(r.Accesses, Access{n, name, findings.At(at), r.test})
	return n.Field(name)
}

// keyed is a term that is a key, and member one that is an element.
func (r *Reading) keyed(s *scope, t *ast.Term) *Node {
	n := r.term(s, t)
	if _, ok := t.Value.(ast.String); ok {
		r.Constants[len(r.Constants)-1].Key = true
	}
	return n
}

func (r *Reading) member(s *scope, t *ast.Term) *Node {
	n := r.term(s, t)
	if _, ok := t.Value.(ast.String); ok {
		r.Constants[len(r.Constants)-1].Member = true
	}
	return n
}

func (r *Reading) term(s *scope, t *ast.Term) *Node {
	switch v := t.Value.(type) {
	case ast.String:
		n := &Node{JSONTypes: isString}
		r.Constants = append(r.Constants, &Constant{Text: string(v), At: findings.At(t.Location), Node: n, Free: s.free,
			Test: r.test})
		return n
	case ast.Number:
		return &Node{JSONTypes: IsNumber}
	case ast.Boolean:
		return &Node{JSONTypes: IsBoolean}
	case ast.Null:
		return &Node{JSONTypes: isNull}
	case ast.Var:
		return r.variable(s, v, t)
	case ast.Ref:
		return r.ref(s, v, t)
	case *ast.Array:
		n := &Node{JSONTypes: IsList}
		v.Foreach(func(item *ast.Term) { unify(n.Element(), r.member(s, item)) })
		return n.Root()
	case ast.Set:
		n := &Node{JSONTypes: IsList, isSet: true}
		for _, item := range v.Slice() {
			unify(n.Element(), r.member(s, item))
		}
		return n.Root()
	case ast.Object:
		return r.object(s, v, t)
	case ast.Call:
		return r.call(s, v[0], v[1:], t.Location)
	case *ast.ArrayComprehension:
		return r.list(s, v.Body, v.Term, &Node{JSONTypes: IsList})
	case *ast.SetComprehension:
		return r.list(s, v.Body, v.Term, &Node{JSONTypes: IsList, isSet: true})
	case *ast.ObjectComprehension:
		in := s.inner()
		r.body(in, v.Body)
		n := &Node{JSONTypes: IsObject}
		unify(n.keys(), r.keyed(in, v.Key))
		unify(n.member(), r.term(in, v.Value))
		return n.Root()
	}
	return &Node{}
}

func (r *Reading) list(s *scope, body ast.Body, item *ast.Term, n *Node) *Node {
	in := s.inner()
	in.negated, in.list = false, true
	r.body(in, body)
	unify(n.Element(), r.term(in, item))
	return n.Root()
}

func (r *Reading) object(s *scope, object ast.Object, t *ast.Term) *Node {
	n := &Node{JSONTypes: IsObject, Literals: []*ast.Term{t}}
	use := &DocumentUse{object, n, findings.At(t.Location), r.test, s.rule}
	object.Foreach(func(k, v *ast.Term) {
		value := r.term(s, v)
		if name, ok := k.Value.(ast.String); ok {
			unify(r.access(n, string(name), k.Location), value)
			unify(n.Root().keys(), r.keyed(s, k))
			return
		}
		unify(n.Root().keys(), r.keyed(s, k))
		unify(n.Root().member(), value)
	})
	r.Documents = append(r.Documents, use)
	return n.Root()
}

// variable is a local variable, an import, or a rule of the package.
func (r *Reading) variable(s *scope, v ast.Var, t *ast.Term) *Node {
	if v.IsWildcard() {
		return &Node{}
	}
	if n := s.find(v); n != nil {
		return n.Root()
	}
	if ref := r.resolve(s, v); ref != nil {
		return r.path(s, ref, t)
	}
	n := &Node{}
	s.vars[v] = n
	return n
}

// resolve is what a variable stands for that is no local one.
func (r *Reading) resolve(s *scope, v ast.Var) ast.Ref {
	if v.Equal(ast.InputRootDocument.Value) || v.Equal(ast.DefaultRootDocument.Value) {
		return ast.Ref{ast.NewTerm(v)}
	}
	own := s.module.Package.Path.Append(ast.StringTerm(string(v)))
	if r.Parts[own.String()] && r.Defined[own.String()] != nil {
		return own
	}
	for _, imported := range s.module.Imports {
		if imported.Name().Equal(v) {
			if ref, ok := imported.Path.Value.(ast.Ref); ok {
				return ref
			}
		}
	}
	if r.Parts[own.String()] {
		return own
	}
	return nil
}

func (r *Reading) ref(s *scope, ref ast.Ref, t *ast.Term) *Node {
	switch head := ref[0].Value.(type) {
	case ast.Var:
		if n := s.find(head); n != nil {
			return r.steps(s, n, ref[1:])
		}
		if to := r.resolve(s, head); to != nil {
			return r.path(s, to.Concat(ref[1:]), t)
		}
		n := &Node{}
		s.vars[head] = n
		return r.steps(s, n, ref[1:])
	default:
		return r.steps(s, r.term(s, ref[0]), ref[1:])
	}
}

// path is a reference that begins with input or data.
func (r *Reading) path(s *scope, ref ast.Ref, t *ast.Term) *Node {
	if ref[0].Equal(ast.InputRootDocument) {
		return r.steps(s, r.input, ref[1:])
	}
	if ref[0].Equal(ast.DefaultRootDocument) {
		if !r.test {
			r.noteData(s, ref, t)
		}
		return r.steps(s, r.data, ref[1:])
	}
	return &Node{}
}

func (r *Reading) noteData(s *scope, ref ast.Ref, t *ast.Term) {
	if slices.ContainsFunc(r.replaced, func(by ast.Ref) bool { return ref.HasPrefix(by) || by.HasPrefix(ref) }) {
		return
	}
	use := DataRef{At: findings.At(t.Location), Negated: s.negated, List: s.list, Rule: s.rule}
	for _, step := range ref[1:] {
		name, ok := step.Value.(ast.String)
		if !ok {
			break
		}
		use.Path = append(use.Path, string(name))
	}
	r.Refs = append(r.Refs, use)
}

func (r *Reading) steps(s *scope, n *Node, steps []*ast.Term) *Node {
	for _, step := range steps {
		name, ok := step.Value.(ast.String)
		switch {
		case n.Root().isSet:
			unify(n.Element(), r.member(s, step))
			n = n.Element()
		case ok && n.Root().key != nil && n.Root().Schema == nil:
			unify(n.keys(), r.keyed(s, step))
			n = r.access(n, string(name), step.Location)
		case ok:
			n = r.access(n, string(name), step.Location)
		default:
			k := r.term(s, step)
			if n.Root().Schema == nil || n.Root().JSONTypes == IsList {
				unify(n.Root().keys(), k)
			}
			n = n.member()
		}
	}
	return n.Root()
}

// call is a call of a builtin or a function.
func (r *Reading) call(s *scope, operator *ast.Term, args []*ast.Term, at *ast.Location) *Node {
	ref, ok := operator.Value.(ast.Ref)
	if !ok {
		return &Node{}
	}
	name := ref.String()
	if head, isVar := ref[0].Value.(ast.Var); isVar && s.find(head) == nil {
		if to := r.resolve(s, head); to != nil && !to[0].Equal(ast.InputRootDocument) {
			return r.function(s, to.Concat(ref[1:]), args, at)
		}
	}
	return r.builtin(s, name, args, at)
}

func (r *Reading) function(s *scope, path ast.Ref, args []*ast.Term, at *ast.Location) *Node {
	nodes := make([]*Node, len(args))
	for i, arg := range args {
		nodes[i] = r.term(s, arg)
	}
	if rule := r.Rules[path.String()]; rule != nil {
		if len(args) >= 2 {
			r.Calls = append(r.Calls, RuleCall{rule, nodes[1], findings.At(at), r.test, s.rule})
		}
		return &Node{JSONTypes: IsBoolean}
	}
	value := &Node{}
	rules := r.Defined[path.String()]
	if s.depth >= maxCallDepth || r.budget < len(rules) {
		return value
	}
	r.budget -= len(rules)
	for _, rule := range rules {
		if len(rule.Head.Args) == 0 || len(rule.Head.Args) > len(args) {
			continue
		}
		for ; rule != nil; rule = rule.Else {
			in := &scope{vars: map[ast.Var]*Node{}, module: rule.Module, rule: rule, depth: s.depth + 1, negated: s.negated}
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
	return value.Root()
}

func (r *Reading) builtin(s *scope, name string, args []*ast.Term, at *ast.Location) *Node {
	if name == "object.get" && len(args) == 3 {
		return r.objectGet(s, args)
	}
	nodes := make([]*Node, len(args))
	for i, arg := range args {
		if name == "internal.member_2" && i == 0 {
			nodes[i] = r.member(s, arg)
			if _, ok := arg.Value.(ast.String); ok {
				r.Constants[len(r.Constants)-1].Member = false
			}
			continue
		}
		nodes[i] = r.term(s, arg)
	}
	value := &Node{JSONTypes: resultTypes[name]}
	switch name {
	case "eq", "assign", "equal", "neq", "lt", "lte", "gt", "gte":
		if len(nodes) >= 2 {
			if name != "lt" && name != "lte" && name != "gt" && name != "gte" {
				r.compare(at, args, nodes)
			}
			unify(nodes[0], nodes[1])
		}
		return &Node{JSONTypes: IsBoolean}
	case "internal.member_2":
		if !r.test {
			r.Lookups = append(r.Lookups, Lookup{In: nodes[1], At: findings.At(args[1].Location), Term: args[1]})
		}
		unify(nodes[0], nodes[1].member())
	case "internal.member_3":
		if n := nodes[2].Root(); n.Schema == nil || n.JSONTypes == IsList {
			unify(nodes[0], n.keys())
		}
		unify(nodes[1], nodes[2].member())
	case "lower", "upper", "trim_space":
		r.loose = append(r.loose, [2]*Node{value, nodes[0]})
	case "object.keys":
		value.isSet = true
		unify(value.Element(), nodes[0].keys())
	case "array.concat", "or", "and", "minus", "intersection", "union", "object.union", "array.flatten", "sort",
		"array.slice", "array.reverse":
		for i, n := range nodes {
			if name == "array.slice" && i > 0 {
				break
			}
			if name == "union" || name == "intersection" || name == "array.flatten" {
				n = n.Element()
			}
			unify(value, n)
		}
		value.Root().Literals = nil // what is put together is not written out
	case "startswith", "endswith", "contains":
		r.Patterns = append(r.Patterns, Pattern{name, nodes[1], nodes[0], findings.At(at)})
	case "strings.any_prefix_match", "strings.any_suffix_match":
		op := map[string]string{"strings.any_prefix_match": "startswith", "strings.any_suffix_match": "endswith"}[name]
		r.Patterns = append(r.Patterns, Pattern{op, nodes[1], nodes[0], findings.At(at)},
			Pattern{op, nodes[1].member(), nodes[0], findings.At(at)})
	case "regex.match":
		r.Patterns = append(r.Patterns, Pattern{name, nodes[0], nodes[1], findings.At(at)})
	case "glob.match":
		if len(nodes) >= 3 {
			r.Patterns = append(r.Patterns, Pattern{name, nodes[0], nodes[2], findings.At(at)})
		}
	}
	if b := ast.BuiltinMap[name]; b != nil && len(args) == len(b.Decl.FuncArgs().Args)+1 { // likewise
		unify(value, nodes[len(nodes)-1])
	}
	return value.Root()
}

// objectGet is a reference that falls back to a value.
func (r *Reading) objectGet(s *scope, args []*ast.Term) *Node {
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
	value := &Node{}
	unify(value, n)
	unify(value, r.term(free, args[2]))
	return value.Root()
}
