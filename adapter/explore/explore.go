package explore

import (
	"crypto/rand"
	"fmt"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/topdown/cache"

	"github.com/stagedoor/stagedoor/adapter/criteria"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// Options are what a policy is compiled from.
type Options struct {
	// Modules are the parsed modules by file name, the bundle's and the rule
	// library's, with their annotations. They are not changed.
	Modules map[string]*ast.Module
	// Compiled is what was compiled of the Modules; nil where that is still to be done.
	// Of a policy about the resource the rules that the entrypoint reaches are changed:
	// nobody else may evaluate them by it.
	Compiled *ast.Compiler
	// Capabilities are those that Modules are compiled with; nil is all of OPA's.
	Capabilities *ast.Capabilities
	// Entrypoint is the rule that decides, such as data.backstage.authz.allow, or any
	// document of rules, such as the package of decision.result and decision.reason.
	Entrypoint ast.Ref
	// Limits bound each decision; zero members stand for the defaults.
	Limits Limits
}

// A Policy is a compiled policy. It is immutable and safe for concurrent use.
type Policy struct {
	compiler   *ast.Compiler
	entrypoint ast.Ref
	at         *ast.Location // of a rule at the entrypoint
	limits     Limits
	about      bool
	resource   *ast.Term // what stands for the resource; nothing else is equal to it
	builtins   map[string]*topdown.Builtin
	rules      []*PermissionRule

	plan   *plan
	titles map[*ast.Rule]string // of the rules at the entrypoint
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
	compiler := o.Compiled
	if compiler == nil {
		compiler = ast.NewCompiler().WithCapabilities(o.Capabilities)
		if compiler.Compile(o.Modules); compiler.Failed() {
			return nil, compiler.Errors
		}
	}
	reached := newReach(compiler, rules, o.Entrypoint)
	entries := reached.rulesAt(o.Entrypoint)
	if len(entries) == 0 {
		return nil, fmt.Errorf("there is no rule %v", o.Entrypoint)
	}
	p := &Policy{
		compiler:   compiler,
		entrypoint: o.Entrypoint,
		at:         entries[0].Location,
		rules:      rules,
		limits:     o.Limits.withDefaults(),
		resource:   ast.StringTerm("resource " + rand.Text()),
	}
	p.builtins = map[string]*topdown.Builtin{
		premiseDecl.Name: {Decl: premiseDecl, Func: p.suppose},
		thereDecl.Name:   {Decl: thereDecl, Func: there},
	}
	f := newFlow(reached, rules)
	f.selfContained(rules)
	if p.about = f.aboutResource; p.about {
		f.decides(o.Entrypoint, entries)
		err = f.problems.err()
	}
	if err != nil {
		return nil, err
	}
	if !p.about && o.Compiled != nil {
		return p, nil // and the compiled policy stays as it is
	}
	p.direct(f)
	p.plan, p.titles = newPlan(reached, f.questions), titlesOf(entries)
	return p, nil
}

// AboutResource is whether the decision depends on the resource at all. Where it
// does not, the policy is not for this package: its entrypoint can be evaluated as
// it stands, and can be any document.
func (p *Policy) AboutResource() bool { return p.about }

// Rules are the permission rules that the modules declare, in the order of their
// paths. They must not be changed.
func (p *Policy) Rules() []*PermissionRule { return p.rules }

// direct lets the calls that ask about the resource ask us, and those that ask
// whether there is one.
func (p *Policy) direct(f *flow) {
	there := ast.NewTerm(thereDecl.Ref())
	for _, e := range f.exists {
		if e.IsEquality() {
			e.Terms = []*ast.Term{there, e.Operand(0)}
		} else {
			e.Terms = []*ast.Term{there}
		}
	}
	names := make(map[*PermissionRule]ast.Ref)
	for i, rule := range p.rules {
		decl := &ast.Builtin{Name: fmt.Sprintf("stagedoor.%s_%d", rule.Name, i), Decl: askType}
		names[rule] = decl.Ref()
		p.builtins[decl.Name] = &topdown.Builtin{Decl: decl, Func: p.ask(rule)}
	}
	for e, rule := range f.questions {
		if terms, ok := e.Terms.([]*ast.Term); ok {
			terms[0] = ast.NewTerm(names[rule])
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
	// Cancel says at each step whether the decision must end; nil is with the context.
	Cancel topdown.Cancel
}

// A Result is the outcome of a decision.
type Result struct {
	// Decision is the answer: ALLOW, DENY, or CONDITIONAL with the Criteria. Where the
	// policy gave one document whatever the resource is, it is that document.
	Decision wire.Decision
	// Reason is what the documents of the decision say under "reason": those that
	// allow for an ALLOW, those that do not for a DENY, all for a CONDITIONAL.
	Reason string
	// Criteria is the condition under which the policy allows: Never, Always or a
	// tree without constants.
	Criteria criteria.Criteria
	// Rules are those of the entrypoint that the decision comes from, in the order of the
	// source: those that allow, or of a DENY those that deny. None is told of a default,
	// and of an entrypoint that was explored.
	Rules []DecidingRule
	// Either lists the rules that nobody can be asked about and whose answer would have
	// changed the result: where each stands, and why. What is allowed is allowed by
	// either answer to them.
	Either []string
	// Errors are those of the branches in which the evaluation failed. Criteria
	// does not hold there.
	Errors []error
	// Method is how the function was found.
	Method Method
	// Evaluations is how many times OPA evaluated.
	Evaluations int
}

// A DecidingRule is a rule that a decision comes from.
type DecidingRule struct {
	// Title is that of its METADATA, or of its document's; empty where there is none.
	Title string
	// File and Line are where it stands.
	File string
	Line int
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
