// Package certificate writes a decision with its proof: every way in which the
// permission rules can be answered, and what stock evaluation says then.
//
// The decision is that of the engine that serves. The branches are found without it,
// by OPA's evaluation alone: the first rule that is asked and has no answer yet is
// answered both ways, until no question is open. So the branches are the leaves of a
// tree in which every answer leads to exactly one of them.
//
// A checker needs to trust nothing of this. tools/certify asks `opa eval` for the
// outcome of every branch, and holds the decision to the outcomes.
package certificate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/types"

	"github.com/stagedoor/stagedoor/adapter/explore"
	"github.com/stagedoor/stagedoor/adapter/offline"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// Resource is what stands for the resource in the input of a certificate. A policy that
// was vetted only hands it to permission rules.
const Resource = "any resource"

// A Certificate is a decision and its branches.
type Certificate struct {
	Policy     string `json:"policy"`
	Revision   string `json:"revision"`
	Entrypoint string `json:"entrypoint"`
	// Input is what the policy sees, with [Resource] where the permission is about one.
	Input    map[string]any `json:"input"`
	Decision wire.Decision  `json:"decision"`
	// Branches are the leaves of the tree of answers, those where a rule holds first.
	Branches []Branch `json:"branches"`
	// Supposed are those where a resource is supposed though the permission is about none. What
	// is allowed is allowed in each of them, too.
	Supposed []Branch `json:"supposed,omitempty"`
}

// A Branch is what stock evaluation says under some answers. No other rule is asked.
type Branch struct {
	// Answers are in the order in which they were asked for.
	Answers []Answer `json:"answers"`
	// Outcome is the value of the entrypoint; absent where it is undefined.
	Outcome json.RawMessage `json:"outcome,omitempty"`
}

// An Answer is whether a permission rule holds for the resource.
type Answer struct {
	// Function is the path of the rule's function, such as
	// data.backstage.catalog.has_label.
	Function string          `json:"function"`
	Params   json.RawMessage `json:"params"`
	Holds    bool            `json:"holds"`
}

// mostBranches bounds a certificate: beyond it nobody wants to read or check it.
const mostBranches = 10_000

// A Certifier writes certificates of one policy. It is safe for concurrent use.
type Certifier struct {
	policy   *offline.Policy
	compiler *ast.Compiler
	query    ast.Body
	rules    []*explore.PermissionRule
}

// result is the variable of the query.
const result = ast.Var("result")

// New prepares to certify decisions of a policy. The error says why a policy has none
// that can be certified.
func New(p *offline.Policy) (*Certifier, error) {
	if sources := p.Nondeterministic(); len(sources) > 0 {
		return nil, fmt.Errorf("%s: no decision can be certified, since answers differ from one time to the next: %s at %s",
			p.Path, sources[0].Builtin, sources[0].Location)
	}
	c := &Certifier{policy: p, rules: p.Rules()}
	modules := offline.Library()
	for name, module := range p.Modules() {
		modules[name] = module.Copy()
	}
	capabilities := p.Capabilities()
	for i := range c.rules {
		capabilities.Builtins = append(capabilities.Builtins, asking(i))
	}
	c.compiler = ast.NewCompiler().WithCapabilities(capabilities)
	if c.compiler.Compile(modules); c.compiler.Failed() {
		return nil, c.compiler.Errors
	}
	entrypoint := ast.Ref{ast.DefaultRootDocument}
	for step := range strings.SplitSeq(p.Entrypoint(), "/") {
		entrypoint = append(entrypoint, ast.StringTerm(step))
	}
	query := ast.Equality.Expr(ast.NewTerm(result), ast.NewTerm(entrypoint))
	for i, rule := range c.rules {
		query.With = append(query.With, &ast.With{
			Target: ast.NewTerm(rule.Function), Value: ast.NewTerm(asking(i).Ref()),
		})
	}
	var err error
	c.query, err = c.compiler.QueryCompiler().Compile(ast.NewBody(query))
	return c, err
}

// asking is the builtin that stands for a permission rule.
func asking(rule int) *ast.Builtin {
	return &ast.Builtin{
		Name: fmt.Sprintf("stagedoor.certificate_%d", rule), Decl: types.NewFunction(types.Args(types.A, types.A), types.B),
	}
}

// Certify decides a question and writes the certificate of the decision.
//
// The error is the context's; or it says why the decision cannot be certified: there
// is none, a branch of the policy fails, or there are too many branches.
func (c *Certifier) Certify(ctx context.Context, q offline.Question) (*Certificate, error) {
	outcome, err := c.policy.Decide(ctx, q.Caller, q.Permission)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(append(outcome.Excluded, outcome.Err)...); err != nil {
		return nil, fmt.Errorf("%s: the decision cannot be certified, since the policy fails: %w", q.Permission.Name, err)
	}
	q.Resource = nil
	if q.Permission.Resource {
		q.Resource = Resource
	}
	certificate := &Certificate{
		Policy: c.policy.Path, Revision: c.policy.Revision(), Entrypoint: c.policy.Entrypoint(),
		Input: q.Input(), Decision: outcome.Decision,
	}
	if certificate.Branches, err = c.branches(ctx, certificate.Input); err == nil && !q.Permission.Resource {
		q.Resource = Resource
		certificate.Supposed, err = c.branches(ctx, q.Input())
	}
	if err != nil {
		return nil, fmt.Errorf("%s: the decision cannot be certified: %w", q.Permission.Name, err)
	}
	return certificate, nil
}

// branches are those for an input.
func (c *Certifier) branches(ctx context.Context, sees map[string]any) ([]Branch, error) {
	input, err := ast.InterfaceToValue(sees)
	if err != nil {
		return nil, err
	}
	store := c.policy.Data()
	txn, err := store.NewTransaction(ctx, storage.TransactionParams{})
	if err != nil {
		return nil, err
	}
	defer store.Abort(ctx, txn)
	t := &tree{Certifier: c, input: ast.NewTerm(input), store: store, txn: txn}
	err = t.grow(ctx, nil)
	return t.branches, err
}

// tree is the tree of answers for one question.
type tree struct {
	*Certifier
	input    *ast.Term
	store    storage.Store
	txn      storage.Transaction
	branches []Branch
}

// grow evaluates the policy under some answers, and under both answers to the first
// question beyond them.
func (t *tree) grow(ctx context.Context, answers []Answer) error {
	if len(t.branches) == mostBranches {
		return fmt.Errorf("it has more than %d branches", mostBranches)
	}
	outcome, open, err := t.evaluate(ctx, answers)
	switch {
	case err != nil:
		return err
	case open == nil:
		t.branches = append(t.branches, Branch{append([]Answer{}, answers...), outcome})
		return nil
	}
	for _, open.Holds = range []bool{true, false} {
		if err := t.grow(ctx, append(answers, *open)); err != nil {
			return err
		}
	}
	return nil
}

// evaluate returns the value of the entrypoint under some answers, or the first
// question that is not among them.
func (t *tree) evaluate(ctx context.Context, answers []Answer) (outcome json.RawMessage, open *Answer, err error) {
	builtins := make(map[string]*topdown.Builtin, len(t.rules))
	for i, rule := range t.rules {
		function := rule.Function.String()
		ask := func(_ topdown.BuiltinContext, operands []*ast.Term, iter func(*ast.Term) error) error {
			params, err := text(operands[1])
			if err != nil {
				return topdown.Halt{Err: err}
			}
			for _, a := range answers {
				if a.Function == function && string(a.Params) == string(params) {
					if a.Holds {
						return iter(ast.InternedTerm(true))
					}
					return nil
				}
			}
			open = &Answer{Function: function, Params: params}
			return topdown.Halt{Err: errOpen}
		}
		builtins[asking(i).Name] = &topdown.Builtin{Decl: asking(i), Func: ask}
	}
	err = topdown.NewQuery(t.query).
		WithCompiler(t.compiler).WithStore(t.store).WithTransaction(t.txn).WithInput(t.input).
		WithBuiltins(builtins).WithStrictBuiltinErrors(true).
		Iter(ctx, func(found topdown.QueryResult) error {
			var err error
			outcome, err = text(found[result])
			return err
		})
	if open != nil {
		return nil, open, nil
	}
	return outcome, nil, err
}

var errOpen = errors.New("a question is open")

// text is a value as JSON, with members in order.
func text(t *ast.Term) (json.RawMessage, error) {
	value, err := ast.JSON(t.Value)
	if err != nil {
		return nil, err
	}
	return json.Marshal(value)
}
