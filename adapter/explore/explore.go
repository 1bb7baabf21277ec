// Package explore turns a policy about a resource that is not known yet into the
// criteria under which it holds.
//
// A resource-style policy is a boolean rule that looks at the resource only by
// handing it to permission rules, functions that are annotated with the rule of a
// Backstage plugin that they mean ([PermissionRule]). So its decision is a boolean
// function of the answers to those calls, and OPA's own evaluation can be asked for
// that function.
//
// # The premise
//
// [Compile] follows the resource through the compiled modules and refuses every use
// of it but one, as the first argument of a permission rule ([VetError]). Those calls
// are directed to a builtin of ours then, which only this compiler knows; everything
// else is evaluated as it stands. The builtin checks the premise again: a first
// argument that is not the very resource is an error, and so are params that the
// rule's schema refuses.
//
// # The function
//
// [Policy.Decide] takes every rule and function that depends on the resource for a
// function of its own, and finds it in one of two ways, both exact.
//
// Exploration: evaluate with every answer false, take the first question that is
// open, and explore both of its answers, until no question is open. What the policy
// does with the answers does not matter. References to other rules are questions too,
// with as many answers as those have values.
//
// Proofs: all proofs of the bodies of a rule are enumerated in one evaluation. Each
// expression that depends on the resource is replaced by a call that notes it and goes
// on as if it held: a call of a permission rule, a reference to another rule or its
// value, a not, an every, an element of a set or the number of its elements, or some
// expressions that are explored by themselves. Long alternatives, independent rules
// and sets of reasons to deny cost what they are long. Where two rules differ, an
// evaluation under answers that lead there says how OPA fails.
//
// # Failure
//
// One decision is one frozen world: every evaluation has the same transaction, time,
// seed and cache of nondeterministic builtins. A branch in which the evaluation fails
// is never part of the criteria and is told in [Result.Errors]: two values for one
// rule, any builtin error (OPA's strict mode), a rule about another type of resource,
// params that do not fit. Where nothing else could allow, that is the error of the
// decision. Proofs that come to a failure are given up, and the rule is explored,
// since only the order of evaluation says which answers fail.
//
// What a decision may cost is bounded ([Limits]).
package explore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/topdown/cache"

	"github.com/stagedoor/stagedoor/adapter/criteria"
)

// Options are what a policy is compiled from.
type Options struct {
	// Modules are the parsed modules by file name, the bundle's and the rule
	// library's, with their annotations. They are not changed.
	Modules map[string]*ast.Module
	// Entrypoint is the rule that decides, such as data.backstage.authz.allow.
	Entrypoint ast.Ref
	// Limits bound each decision; zero members stand for the defaults.
	Limits Limits
}

// A Policy is a compiled policy. It is immutable and safe for concurrent use.
type Policy struct {
	compiler   *ast.Compiler
	entrypoint ast.Ref
	limits     Limits
	about      bool
	resource   *ast.Term // what stands for the resource; nothing else is equal to it
	builtins   map[string]*topdown.Builtin

	plan *plan
}

// Compile compiles the modules and proves that the policy looks at the resource
// only through permission rules.
//
// The error is a [*VetError] with every problem, those of [Rules] included, or
// OPA's own where the modules do not compile.
func Compile(o Options) (*Policy, error) {
	rules, err := Rules(o.Modules)
	if err != nil {
		return nil, err
	}
	compiler := ast.NewCompiler()
	if compiler.Compile(o.Modules); compiler.Failed() {
		return nil, compiler.Errors
	}
	entries := compiler.GetRulesExact(o.Entrypoint)
	if len(entries) == 0 {
		return nil, fmt.Errorf("there is no rule %v", o.Entrypoint)
	}
	p := &Policy{
		compiler:   compiler,
		entrypoint: o.Entrypoint,
		limits:     o.Limits.withDefaults(),
		resource:   ast.StringTerm("resource " + rand.Text()),
	}
	p.builtins = map[string]*topdown.Builtin{premiseDecl.Name: {Decl: premiseDecl, Func: p.suppose}}
	reached := newReach(compiler, rules, o.Entrypoint)
	f := newFlow(reached, rules)
	f.selfContained(rules)
	if p.about = f.aboutResource; p.about {
		f.boolean(entries)
		err = f.problems.err()
	}
	if err != nil {
		return nil, err
	}
	p.direct(f)
	p.plan = newPlan(reached, f.questions)
	return p, nil
}

// AboutResource is whether the decision depends on the resource at all. Where it
// does not, the policy is not for this package: its entrypoint can be evaluated as
// it stands, and can be any document.
func (p *Policy) AboutResource() bool { return p.about }

// direct lets the calls that ask about the resource ask us.
func (p *Policy) direct(f *flow) {
	names := make(map[*PermissionRule]ast.Ref)
	for e, rule := range f.questions {
		name, ok := names[rule]
		if !ok {
			decl := &ast.Builtin{Name: fmt.Sprintf("stagedoor.%s_%d", rule.Name, len(names)), Decl: askType}
			name = decl.Ref()
			names[rule] = name
			p.builtins[decl.Name] = &topdown.Builtin{Decl: decl, Func: p.ask(rule)}
		}
		if terms, ok := e.Terms.([]*ast.Term); ok {
			terms[0] = ast.NewTerm(name)
		}
	}
}

// A Query is what to decide.
type Query struct {
	// Store and Txn hold the data.
	Store storage.Store
	Txn   storage.Transaction
	// Input is what the policy sees, without a resource.
	Input ast.Object
	// Basic is whether the permission is a basic one: there is no resource then,
	// input.resource is undefined, and so is every question about it.
	Basic bool
	// ResourceType is the permission's; it is empty where it is not known.
	ResourceType string
	// Time is the time of the decision.
	Time time.Time
	// The caches that builtins share between decisions; nil for none.
	InterQueryBuiltinCache      cache.InterQueryCache
	InterQueryBuiltinValueCache cache.InterQueryValueCache
}

// A Result is the outcome of a decision.
type Result struct {
	// Criteria is the condition under which the policy allows: Never, Always or a
	// tree without constants.
	Criteria criteria.Criteria
	// PluginID and ResourceType are of the rules in the Criteria; they are empty
	// where it is a constant.
	PluginID, ResourceType string
	// Errors are those of the branches in which the evaluation failed. Criteria
	// does not hold there.
	Errors []error
	// Method is how the function was found.
	Method Method
	// Evaluations is how many times OPA evaluated.
	Evaluations int
}

// A Method is how a decision was found.
type Method string

const (
	// Plain is a decision that asked no question.
	Plain Method = "plain"
	// Proofs is a decision read from all proofs of its rules.
	Proofs Method = "proofs"
	// Exploration is a decision found by trying the answers one after the other.
	Exploration Method = "exploration"
	// Composed is a decision of which some rules were proved and some explored.
	Composed Method = "composed"
)

// Decide returns the condition under which the policy allows. It is safe for
// concurrent use.
//
// The error is that of the context, a [*LimitError], or that of the evaluation
// where no branch allows and one failed.
func (p *Policy) Decide(ctx context.Context, q Query) (Result, error) {
	w, stop := newWorld(ctx, p, q)
	defer stop()
	outcomes, err := w.entry()
	if err != nil {
		return Result{}, err
	}
	r := Result{Method: w.method(), Evaluations: w.evaluations}
	for _, o := range outcomes {
		if o.err == nil {
			o.err = p.odd(o.value)
		}
		switch {
		case o.err != nil && w.space.Possible(o.where): // Questions of different rules can exclude each other.
			r.Errors = append(r.Errors, o.err)
		case o.value != nil && ast.Boolean(true).Equal(o.value.Value):
			r.Criteria, err = w.space.Minimise(o.where)
		}
		if errors.Is(err, criteria.ErrTooLarge) {
			err = &LimitError{fmt.Sprintf("%v: %v%s", p.entrypoint, err, w.asking())}
		}
		if err != nil {
			return Result{}, err
		}
	}
	if r.Criteria.Op > criteria.Always {
		r.PluginID, r.ResourceType = w.asked.PluginID, w.asked.ResourceType
	}
	if r.Criteria.Op == criteria.Never && len(r.Errors) > 0 {
		return Result{}, errors.Join(r.Errors...)
	}
	return r, nil
}

// odd reports a value of the entrypoint that is no decision.
func (p *Policy) odd(value *ast.Term) error {
	if value == nil {
		return nil
	}
	if _, ok := value.Value.(ast.Boolean); ok {
		return nil
	}
	return fmt.Errorf("%v is %v, not a boolean", p.entrypoint, value)
}
