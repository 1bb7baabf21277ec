package anyone

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"

	"github.com/stagedoor/stagedoor/adapter/criteria"
	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/explore"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// An OutsideError says that a policy does something for which no formula is found.
type OutsideError struct {
	// File and Line are where; empty where that is not known.
	File string
	Line int
	// Text is the expression, as its author wrote it.
	Text string
	// Message says what is outside.
	Message string
}

// Error returns place, expression and message.
func (o *OutsideError) Error() string {
	if o.File == "" {
		return o.Message
	}
	text, _, _ := strings.Cut(o.Text, "\n")
	return fmt.Sprintf("%s:%d: %s: %s", o.File, o.Line, strings.TrimSpace(text), o.Message)
}

// Options are what a policy is made of.
type Options struct {
	// Modules are the parsed modules by file name, the bundle's and the rule library's,
	// with their annotations. They are not changed.
	Modules map[string]*ast.Module
	// Entrypoint is the path of the rule that decides, such as backstage/authz/allow.
	Entrypoint string
	// Store has the data.
	Store storage.Store
	// Now is the time of questions; the zero time is that of the call.
	Now time.Time
}

// A Policy is one that can be asked about all callers at once. It is immutable and safe
// for concurrent use.
type Policy struct {
	compiler    *ast.Compiler
	rules       []*explore.PermissionRule
	permissions map[string]*explore.PermissionRule // by the path of their function
	entrypoint  ast.Ref
	store       storage.Store
	at          time.Time
}

// Compile compiles a policy. The error is that of [explore.Rules] or OPA's own.
func Compile(o Options) (*Policy, error) {
	rules, err := explore.Rules(o.Modules)
	if err != nil {
		return nil, err
	}
	modules := make(map[string]*ast.Module, len(o.Modules))
	for name, m := range o.Modules {
		modules[name] = m.Copy()
	}
	p := &Policy{
		compiler: ast.NewCompiler(), rules: rules, permissions: make(map[string]*explore.PermissionRule), store: o.Store,
		entrypoint: ast.Ref{ast.DefaultRootDocument}, at: o.Now,
	}
	if p.compiler.Compile(modules); p.compiler.Failed() {
		return nil, p.compiler.Errors
	}
	for _, r := range rules {
		p.permissions[r.Function.String()] = r
	}
	for step := range strings.SplitSeq(strings.Trim(o.Entrypoint, "/"), "/") {
		p.entrypoint = append(p.entrypoint, ast.StringTerm(step))
	}
	return p, nil
}

// Kind is a kind of caller. Their questions are different ones, since the policy sees
// other members of the input.
type Kind string

// The kinds. Service principals are none: nobody asks the policy about them.
const (
	SignedIn  Kind = "signed in"
	Through   Kind = "signed in, through a plugin"
	Anonymous Kind = "without credentials"
)

// Kinds are all kinds of callers.
var Kinds = []Kind{SignedIn, Through, Anonymous}

// kindOf is the kind of a caller.
func kindOf(c decision.Caller) Kind {
	switch {
	case c.Anonymous:
		return Anonymous
	case c.Actor != "":
		return Through
	}
	return SignedIn
}

// ask asks a policy for where it allows, of a kind of caller.
func (p *Policy) ask(ctx context.Context, t *theory, kind Kind, permission wire.Permission) (criteria.Function, error) {
	txn, err := p.store.NewTransaction(ctx)
	if err != nil {
		return criteria.Denied, err
	}
	defer p.store.Abort(ctx, txn)
	now := p.at
	if now.IsZero() {
		now = time.Now()
	}
	q := question{p, t, txn, now, kind, permission}
	if permission.Resource {
		return q.decide(ctx, present)
	}
	// As the engine that serves: what is allowed without a resource, and by either
	// answer to rules about one.
	absent, err := q.decide(ctx, absent)
	if err != nil || absent == criteria.Denied {
		return absent, err
	}
	either, err := q.decide(ctx, supposed)
	return t.space.All(absent, either), err
}

// presence is what a policy sees of the resource.
type presence uint8

const (
	absent presence = iota
	supposed
	present
)

type question struct {
	*Policy
	*theory
	txn        storage.Transaction
	now        time.Time
	kind       Kind
	permission wire.Permission
}

// input is the input of the question, with symbols for the caller and the resource.
func (q question) input(resource presence) *ast.Term {
	var identity *ast.Term
	if q.kind != Anonymous {
		members := [][2]*ast.Term{{ast.StringTerm("user"), q.user.token}, {ast.StringTerm("claims"), q.claims.token}}
		if q.kind == Through {
			members = append(members, [2]*ast.Term{ast.StringTerm("actor"), q.actor.token})
		}
		identity = ast.ObjectTerm(members...)
	}
	input := ast.NewObject()
	decision.Input(q.permission, identity).Foreach(input.Insert)
	if resource != absent {
		input.Insert(ast.StringTerm("resource"), q.resource.token)
	}
	return ast.NewTerm(input)
}

func (q question) world(ctx context.Context) *world {
	return &world{
		theory: q.theory, Policy: q.Policy, ctx: ctx, txn: q.txn, now: q.now,
		resourceType: q.permission.ResourceType, basic: !q.permission.Resource,
		foreign: make(map[string]criteria.Function), base: make(map[string]*ast.Term),
		docs: make(map[string][]outcome), sets: make(map[string]*ast.Term),
	}
}

func (q question) decide(ctx context.Context, resource presence) (criteria.Function, error) {
	w := q.world(ctx)
	f := w.frame(&scope{input: q.input(resource)})
	allowed := criteria.Denied
	err := f.data(q.entrypoint, criteria.Granted, func(v *ast.Term, where criteria.Function) error {
		holds, err := f.allows(v)
		allowed = f.space.Any(allowed, f.space.All(where, holds))
		return err
	})
	if err := f.wrong(err); err != nil {
		return criteria.Denied, err
	}
	certain, err := w.space.Certain(w.space.All(allowed, f.fails.Not()))
	if err != nil {
		return criteria.Denied, &OutsideError{Message: "the decision: " + err.Error()}
	}
	return certain, nil
}

// allows is where a value that the entrypoint has allows.
func (f *frame) allows(v *ast.Term) (criteria.Function, error) {
	if s := f.symbolOf(v); s != nil {
		if s.of != nil && s.of.shape == isObject {
			return f.allowsObject(s.of)
		}
		if s.is != nil && s.is.String() == "boolean" {
			return f.truth(v)
		}
		return criteria.Denied, nil // no decision, which allows nothing
	}
	if is, ok := v.Value.(ast.Boolean); ok {
		return known(bool(is)), nil
	}
	if f.symbolic(v) {
		return f.allowsDocument(v)
	}
	document, err := ast.JSON(v.Value)
	if err != nil {
		return criteria.Denied, nil //nolint:nilerr // no decision, which allows nothing
	}
	d, _, err := wire.ParseDecision(document)
	switch {
	case err != nil, d.Result == wire.Deny:
		return criteria.Denied, nil //nolint:nilerr // likewise
	case d.Result == wire.Allow:
		return criteria.Granted, nil
	}
	return f.conditions(d)
}

// allowsObject is where a document allows whose members depend on something.
func (f *frame) allowsObject(c *collection) (criteria.Function, error) {
	var optional []member
	var sure []member
	for _, m := range c.members {
		switch {
		case len(m.over) > 0 || f.symbolic(m.key):
			return criteria.Denied, f.outside("the members of the decision are claims")
		case m.where == criteria.Granted:
			sure = append(sure, m)
		default:
			optional = append(optional, m)
		}
	}
	if len(optional) > maxMaterialised {
		return criteria.Denied, f.outside("a decision of many members of which each may be there or not")
	}
	allowed := criteria.Denied
	for chosen := range 1 << len(optional) {
		where := criteria.Granted
		some := &collection{shape: isObject, members: slices.Clone(sure)}
		keys := make(map[string]bool)
		for i, m := range optional {
			if chosen>>i&1 == 0 {
				where = f.space.All(where, m.where.Not())
				continue
			}
			where = f.space.All(where, m.where)
			if keys[m.key.String()] {
				where = criteria.Denied
			}
			keys[m.key.String()] = true
			some.members = append(some.members, m)
		}
		if where == criteria.Denied {
			continue
		}
		holds, err := f.allows(some.term())
		if err != nil {
			return criteria.Denied, err
		}
		allowed = f.space.Any(allowed, f.space.All(where, holds))
	}
	return allowed, nil
}

// allowsDocument is where a document allows that has something of the caller in it.
func (f *frame) allowsDocument(v *ast.Term) (criteria.Function, error) {
	document, ok := v.Value.(ast.Object)
	if !ok {
		return criteria.Denied, nil // no decision, which allows nothing
	}
	member := func(name string) *ast.Term { return document.Get(ast.StringTerm(name)) }
	plain := ast.NewObject()
	document.Foreach(func(key, value *ast.Term) {
		if !key.Equal(ast.StringTerm("conditions")) {
			plain.Insert(key, value)
		}
	})
	result, conditions := member("result"), member("conditions")
	switch {
	case result == nil:
		return criteria.Denied, nil
	case result.Equal(ast.StringTerm("ALLOW")):
		return criteria.Granted, nil
	case result.Equal(ast.StringTerm("DENY")):
		return criteria.Denied, nil
	case !result.Equal(ast.StringTerm("CONDITIONAL")) || conditions == nil:
		return criteria.Denied, f.outside("the decision is something that is made of the caller")
	}
	plugin, about := member("pluginId"), member("resourceType")
	if plugin == nil || about == nil || !isPlainText(f.theory, plugin) || !isPlainText(f.theory, about) {
		return criteria.Denied, f.outside("whom the conditions are about is made of the caller")
	}
	d := wire.Decision{PluginID: textIn(plugin), ResourceType: textIn(about)}
	if f.basic || f.resourceType != "" && d.ResourceType != f.resourceType {
		return criteria.Denied, nil
	}
	return f.condition(d, conditions)
}

// condition is where a condition holds that has something of the caller in it.
func (f *frame) condition(d wire.Decision, v *ast.Term) (criteria.Function, error) {
	object, ok := v.Value.(ast.Object)
	if !ok {
		return criteria.Denied, f.outside("a condition is something that is made of the caller")
	}
	if rule := object.Get(ast.StringTerm("rule")); rule != nil {
		return f.conditionLeaf(d, object, rule)
	}
	if object.Len() != 1 {
		return criteria.Denied, f.outside("a condition that is none of rule, anyOf, allOf and not")
	}
	op := object.Keys()[0]
	of := object.Get(op)
	if op.Equal(ast.StringTerm("not")) {
		is, err := f.condition(d, of)
		return is.Not(), err
	}
	var s shape
	members, ok := f.membersOf(of, &s)
	isAny := op.Equal(ast.StringTerm("anyOf"))
	if !ok || s != isList || !isAny && !op.Equal(ast.StringTerm("allOf")) {
		return criteria.Denied, f.outside("a condition that is none of rule, anyOf, allOf and not")
	}
	found := criteria.Denied
	for _, m := range members {
		is, err := f.condition(d, m.value)
		if err != nil {
			return criteria.Denied, err
		}
		if !isAny { // as the negation of any that does not hold
			is = is.Not()
		}
		if is, err = f.some(m.over, f.space.All(m.where, is)); err != nil {
			return criteria.Denied, err
		}
		found = f.space.Any(found, is)
	}
	if !isAny {
		found = found.Not()
	}
	return found, nil
}

func (f *frame) conditionLeaf(d wire.Decision, object ast.Object, rule *ast.Term) (criteria.Function, error) {
	about, params := object.Get(ast.StringTerm("resourceType")), object.Get(ast.StringTerm("params"))
	if about == nil || !isPlainText(f.theory, about) || !isPlainText(f.theory, rule) {
		return criteria.Denied, f.outside("a rule of the conditions is made of the caller")
	}
	if params == nil {
		params = ast.ObjectTerm()
	}
	if textIn(about) != d.ResourceType {
		return criteria.Denied, f.outside("a rule about %s in conditions about %s", about, d.ResourceType)
	}
	return f.declaredRule(d, textIn(rule), textIn(about), params)
}

// conditions is where the conditions of a document hold.
func (f *frame) conditions(d wire.Decision) (criteria.Function, error) {
	if f.basic {
		return criteria.Denied, nil // conditions on nothing, which nobody can apply
	}
	if f.resourceType != "" && d.ResourceType != f.resourceType {
		return criteria.Denied, nil // no plugin applies them
	}
	return f.tree(d, d.Conditions)
}

func (f *frame) tree(d wire.Decision, c criteria.Criteria) (criteria.Function, error) {
	switch c.Op {
	case criteria.Never, criteria.Always:
		return known(c.Op == criteria.Always), nil
	case criteria.Leaf:
		return f.declared(d, c.Rule)
	}
	of := make([]criteria.Function, len(c.Of))
	for i, child := range c.Of {
		var err error
		if of[i], err = f.tree(d, child); err != nil {
			return criteria.Denied, err
		}
	}
	switch c.Op {
	case criteria.Not:
		return of[0].Not(), nil
	case criteria.AllOf:
		return f.space.All(of...), nil
	}
	return f.space.Any(of...), nil
}

// declared is where a rule of a document holds.
func (f *frame) declared(d wire.Decision, leaf criteria.Rule) (criteria.Function, error) {
	params := ast.ObjectTerm()
	if leaf.Params != "" {
		v, err := ast.ValueFromReader(strings.NewReader(leaf.Params))
		if err != nil {
			return criteria.Denied, err
		}
		params = ast.NewTerm(v)
	}
	return f.declaredRule(d, leaf.Name, leaf.ResourceType, params)
}

func (f *frame) declaredRule(d wire.Decision, name, about string, params *ast.Term) (criteria.Function, error) {
	a := &atom{kind: isRule, name: name, about: about}
	for _, r := range f.rules {
		if r.Name == name && r.ResourceType == about && r.PluginID == d.PluginID {
			a.rule = r
		}
	}
	return f.leaf(a, params)
}

// An Answer says where a policy allows a permission: of every caller, and of every
// resource. It belongs to one goroutine.
type Answer struct {
	*theory
	allows map[Kind]criteria.Function
}

// May asks where a policy allows a permission. The error is the context's, or an
// [*OutsideError] where no formula is found.
func (p *Policy) May(ctx context.Context, permission wire.Permission) (*Answer, error) {
	return p.may(ctx, newTheory(), permission)
}

func (p *Policy) may(ctx context.Context, t *theory, permission wire.Permission) (*Answer, error) {
	a := &Answer{theory: t, allows: make(map[Kind]criteria.Function)}
	for _, kind := range Kinds {
		var err error
		if a.allows[kind], err = p.ask(ctx, t, kind, permission); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// Holds is whether a caller may do what was asked with a resource, of which ask answers
// rules. The error is that of ask.
func (a *Answer) Holds(c decision.Caller, ask Asker) (bool, error) {
	r := &reading{theory: a.theory, caller: c, ask: ask, elements: make(map[int]*ast.Term),
		known: make(map[*symbol]*ast.Term)}
	holds := r.holds(a.allows[kindOf(c)])
	return holds && r.err == nil, r.err
}

// Criteria is where a kind of caller is allowed. Rules about the caller have the resource
// type [CallerType]. The error is [criteria.ErrTooLarge].
func (a *Answer) Criteria(kind Kind) (criteria.Criteria, error) {
	f := a.allows[kind]
	if never, err := a.space.Implies(f, criteria.Denied); err == nil && never { // by what is true of every caller
		return criteria.Criteria{Op: criteria.Never}, nil
	}
	return a.space.Minimise(f)
}
