package anyone

import (
	"context"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"

	"github.com/stagedoor/stagedoor/adapter/anyone/call"
	"github.com/stagedoor/stagedoor/adapter/anyone/evaluation"
	"github.com/stagedoor/stagedoor/adapter/anyone/theory"
	"github.com/stagedoor/stagedoor/adapter/anyone/valuation"
	"github.com/stagedoor/stagedoor/adapter/anyone/verdict"
	"github.com/stagedoor/stagedoor/adapter/criteria"
	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/explore"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

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
	// WithoutResource is whether no rule about the resource is asked, so that the engine
	// that serves shows the policy none.
	WithoutResource bool
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
	bare        bool // the engine that serves shows it no resource
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
		entrypoint: ast.Ref{ast.DefaultRootDocument}, at: o.Now, bare: o.WithoutResource,
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
func (p *Policy) ask(
	ctx context.Context, t *theory.Theory, kind Kind, permission wire.Permission,
) (criteria.Function, error) {
	txn, err := p.store.NewTransaction(ctx)
	if err != nil {
		return criteria.Denied, err
	}
	defer p.store.Abort(ctx, txn)
	now := p.at
	if now.IsZero() {
		now = time.Now()
	}
	q := inquiry{p, t, txn, now, kind, permission}
	switch {
	case p.bare:
		return q.decide(ctx, absent)
	case permission.Resource:
		return q.decide(ctx, present)
	}
	// As the engine that serves: what is allowed without a resource, and by either
	// answer to rules about one.
	absent, err := q.decide(ctx, absent)
	if err != nil || absent == criteria.Denied {
		return absent, err
	}
	either, err := q.decide(ctx, supposed)
	return t.Space.All(absent, either), err
}

// presence is what a policy sees of the resource.
type presence uint8

const (
	absent presence = iota
	supposed
	present
)

// inquiry is what is asked of a policy.
type inquiry struct {
	*Policy
	*theory.Theory
	txn        storage.Transaction
	now        time.Time
	kind       Kind
	permission wire.Permission
}

// input is the input of the question, with symbols for the caller and the resource.
func (q inquiry) input(resource presence) *ast.Term {
	var identity *ast.Term
	if q.kind != Anonymous {
		members := [][2]*ast.Term{{ast.StringTerm("user"), q.User.Token}, {ast.StringTerm("claims"), q.Claims.Token}}
		if q.kind == Through {
			members = append(members, [2]*ast.Term{ast.StringTerm("actor"), q.Actor.Token})
		}
		identity = ast.ObjectTerm(members...)
	}
	input := ast.NewObject()
	decision.Input(q.permission, identity).Foreach(input.Insert)
	if resource != absent {
		input.Insert(ast.StringTerm("resource"), q.Resource.Token)
	}
	return ast.NewTerm(input)
}

// decisions say where the values of the entrypoint allow.
func (q inquiry) decisions(ctx context.Context) *verdict.Reader {
	return &verdict.Reader{
		Functions: call.Functions{Theory: q.Theory, Ctx: ctx, Now: q.now, Basic: !q.permission.Resource},
		Rules:     q.rules, ResourceType: q.permission.ResourceType,
	}
}

func (q inquiry) decide(ctx context.Context, resource presence) (criteria.Function, error) {
	d := q.decisions(ctx)
	allowed := criteria.Denied
	fails, err := evaluation.Question{
		Functions: d.Functions, Compiler: q.compiler, Permissions: q.Policy.permissions, Store: q.store, Txn: q.txn,
		Input: q.input(resource), ResourceType: q.permission.ResourceType,
	}.Values(q.entrypoint, func(v *ast.Term, where criteria.Function) error {
		holds, err := d.Allows(v)
		allowed = q.Space.Any(allowed, q.Space.All(where, holds))
		return err
	})
	if err != nil {
		return criteria.Denied, err
	}
	certain, err := q.Space.Certain(q.Space.All(allowed, fails.Not()))
	if err != nil {
		return criteria.Denied, &evaluation.OutsideError{Message: "the decision: " + err.Error()}
	}
	return certain, nil
}

// An Answer says where a policy allows a permission: of every caller, and of every
// resource. It belongs to one goroutine.
type Answer struct {
	theory *theory.Theory
	allows map[Kind]criteria.Function
}

// May asks where a policy allows a permission. The error is the context's, or an
// [*evaluation.OutsideError] where no formula is found.
func (p *Policy) May(ctx context.Context, permission wire.Permission) (*Answer, error) {
	return p.may(ctx, theory.New(), permission)
}

func (p *Policy) may(ctx context.Context, t *theory.Theory, permission wire.Permission) (*Answer, error) {
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
func (a *Answer) Holds(c decision.Caller, ask valuation.Asker) (bool, error) {
	return valuation.New(a.theory, c, ask).Holds(a.allows[kindOf(c)])
}

// Criteria is where a kind of caller is allowed. Rules about the caller have the resource
// type [theory.CallerType]. The error is [criteria.ErrTooLarge].
func (a *Answer) Criteria(kind Kind) (criteria.Criteria, error) {
	f := a.allows[kind]
	// By what is true of every caller it may never hold.
	if never, err := a.theory.Space.Implies(f, criteria.Denied); err == nil && never {
		return criteria.Criteria{Op: criteria.Never}, nil
	}
	return a.theory.Space.Minimise(f)
}
