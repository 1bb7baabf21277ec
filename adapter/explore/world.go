package explore

import (
	"context"
	"errors"
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/topdown/builtins"
	"github.com/open-policy-agent/opa/v1/types"

	"github.com/stagedoor/stagedoor/adapter/criteria"
)

// world is one decision: what every evaluation of it has in common. It belongs to
// one goroutine.
type world struct {
	ctx     context.Context
	policy  *Policy
	query   Query
	input   *ast.Term
	nd      builtins.NDBCache
	base    topdown.BaseCache
	cancel  topdown.Cancel
	metrics metrics.Metrics

	space       *criteria.Space
	questions   []question
	byParams    map[uint64][]asked
	asked       *PermissionRule // the first rule that was asked; others must be of its type
	evaluations int
	answers     int
}

// question is something that is not known while the policy is evaluated, and its
// possible outcomes. The first is taken until another one is tried.
type question struct {
	outcomes []outcome
}

// outcome is a value, or that there is none (nil), or an error, and where it is so.
type outcome struct {
	value *ast.Term
	err   error
	where criteria.Function
}

// newWorld begins a decision. The function that it returns ends it.
func newWorld(ctx context.Context, p *Policy, q Query) (*world, func() bool) {
	w := &world{
		ctx:      ctx,
		policy:   p,
		query:    q,
		input:    ast.NewTerm(q.Input),
		nd:       q.NDBuiltinCache,
		cancel:   topdown.NewCancel(),
		metrics:  metrics.NoOp(),
		space:    criteria.NewSpace(),
		byParams: make(map[uint64][]asked),
	}
	if w.nd == nil {
		w.nd = builtins.NDBCache{}
	}
	if !q.Basic {
		input, _ := q.Input.Merge(ast.NewObject(ast.Item(resourceKey, p.resource)))
		w.input = ast.NewTerm(input)
	}
	return w, context.AfterFunc(ctx, w.cancel.Cancel)
}

// A LimitError says that a decision would have cost more than its [Limits] allow.
type LimitError struct {
	Message string
}

// Error returns the message.
func (e *LimitError) Error() string { return e.Message }

// run is one evaluation.
type run struct {
	world *world
	// choice is which outcome of each question is tried.
	choice map[int]int
	// open are the questions without a choice that were asked, in order.
	open []int
	seen map[int]bool
	// fatal ends the decision, not this branch alone.
	fatal error
}

type runKey struct{}

// evaluate evaluates a query in the frozen world.
func (w *world) evaluate(body ast.Body, r *run, iter func(topdown.QueryResult) error) error {
	if err := w.ctx.Err(); err != nil {
		return fatal{err}
	}
	if w.evaluations++; w.evaluations > w.policy.limits.Evaluations {
		return fatal{&LimitError{fmt.Sprintf("the decision takes more than %d evaluations", w.policy.limits.Evaluations)}}
	}
	query := topdown.NewQuery(body).
		WithCompiler(w.policy.compiler).
		WithStore(w.query.Store).
		WithTransaction(w.query.Txn).
		WithInput(w.input).
		WithTime(w.query.Time).
		WithSeed(w.query.Seed).
		WithRuntime(w.query.Runtime).
		WithCancel(w.cancel).
		WithMetrics(w.metrics).
		WithBuiltins(w.policy.builtins).
		WithNDBuiltinCache(w.nd).
		WithInterQueryBuiltinCache(w.query.InterQueryBuiltinCache).
		WithInterQueryBuiltinValueCache(w.query.InterQueryBuiltinValueCache).
		WithStrictBuiltinErrors(true).
		WithQueryTracer(w.query.Tracer)
	err := query.Iter(context.WithValue(w.ctx, runKey{}, r), iter)
	switch {
	case r.fatal != nil:
		return fatal{r.fatal}
	case err != nil && w.ctx.Err() != nil:
		return fatal{context.Cause(w.ctx)}
	}
	return err
}

// fatal is an error that ends the decision.
type fatal struct{ error }

func (f fatal) Unwrap() error { return f.error }

// explore finds every outcome of a query that binds resultVar.
func (w *world) explore(body ast.Body) ([]outcome, error) {
	x := exploration{world: w, body: body, choice: make(map[int]int)}
	outcomes, err := x.branch()
	if f, ok := errors.AsType[fatal](err); ok {
		return nil, f.error
	}
	return outcomes, err
}

type exploration struct {
	*world
	body   ast.Body
	choice map[int]int
}

// branch explores what is left open by the choices made.
func (x *exploration) branch() ([]outcome, error) {
	r := &run{world: x.world, choice: x.choice, seen: make(map[int]bool)}
	leaf := outcome{where: criteria.Granted}
	leaf.err = x.evaluate(x.body, r, func(result topdown.QueryResult) error {
		leaf.value = result[resultVar.Value.(ast.Var)]
		return nil
	})
	if f, ok := leaf.err.(fatal); ok {
		return nil, f
	}
	if leaf.err != nil {
		leaf.value = nil
	}
	for _, q := range r.open {
		x.choice[q] = 0
	}
	outcomes := []outcome{leaf}
	for i := len(r.open) - 1; i >= 0; i-- {
		q := r.open[i]
		for choice := 1; choice < len(x.questions[q].outcomes); choice++ {
			x.choice[q] = choice
			other, err := x.branch()
			if err != nil {
				return nil, err
			}
			outcomes = x.choose(x.questions[q].outcomes[choice].where, other, outcomes)
		}
		delete(x.choice, q)
	}
	return outcomes, nil
}

// choose joins the outcomes where cond holds with those where it does not.
func (x *exploration) choose(cond criteria.Function, then, otherwise []outcome) []outcome {
	var joined []outcome
	for _, o := range otherwise {
		o.where = x.space.If(cond, whereIs(then, o), o.where)
		joined = append(joined, o)
	}
	for _, o := range then {
		if whereIs(otherwise, o) == criteria.Denied {
			o.where = x.space.All(cond, o.where)
			joined = append(joined, o)
		}
	}
	return joined
}

// whereIs is where the outcome is what another one is.
func whereIs(outcomes []outcome, other outcome) criteria.Function {
	for _, o := range outcomes {
		if o.same(other) {
			return o.where
		}
	}
	return criteria.Denied
}

func (o outcome) same(other outcome) bool {
	switch {
	case o.err != nil && other.err != nil:
		return o.err.Error() == other.err.Error()
	case o.err != nil || other.err != nil:
		return false
	case o.value == nil || other.value == nil:
		return o.value == other.value
	}
	return o.value.Equal(other.value)
}

// askType is the type of the functions that ask about the resource.
var askType = types.NewFunction(types.Args(types.A, types.A), types.B)

// ask answers a permission rule about the resource with what the run tries.
func (p *Policy) ask(rule *PermissionRule) topdown.BuiltinFunc {
	return func(bctx topdown.BuiltinContext, operands []*ast.Term, iter func(*ast.Term) error) error {
		r := bctx.Context.Value(runKey{}).(*run)
		q, err := r.world.question(rule, operands)
		if err != nil {
			return topdown.Halt{Err: &topdown.Error{Code: topdown.BuiltinErr, Message: err.Error(), Location: bctx.Location}}
		}
		if q < 0 {
			return nil
		}
		choice, err := r.answer(q)
		if err != nil {
			r.fatal = err
			return topdown.Halt{Err: err}
		}
		if choice == 0 {
			return nil
		}
		return iter(ast.InternedTerm(true))
	}
}

// answer returns the outcome of a question that is tried, and notes it where none
// was chosen.
func (r *run) answer(q int) (int, error) {
	if r.world.answers++; r.world.answers > r.world.policy.limits.Answers {
		return 0, &LimitError{fmt.Sprintf("the decision asks more than %d times", r.world.policy.limits.Answers)}
	}
	choice, ok := r.choice[q]
	if !ok && !r.seen[q] {
		r.seen[q] = true
		r.open = append(r.open, q)
	}
	return choice, nil
}

// asked is a question that was asked about the resource, with its number, or -1
// where it cannot hold.
type asked struct {
	rule   *PermissionRule
	params *ast.Term
	number int
}

// question returns the number of a question, or -1 for one that never holds.
func (w *world) question(rule *PermissionRule, operands []*ast.Term) (int, error) {
	resource, params := operands[0], operands[1]
	if !resource.Equal(w.policy.resource) {
		return 0, fmt.Errorf("%s is asked about something else than input.resource", rule.Name)
	}
	key := uint64(params.Hash())
	for _, a := range w.byParams[key] {
		if a.rule == rule && (a.params == params || a.params.Equal(params)) {
			return a.number, nil
		}
	}
	if err := w.fits(rule); err != nil {
		return 0, err
	}
	leaf, err := leafOf(rule, params)
	if err != nil {
		return 0, err
	}
	number := -1
	if is := w.space.Rule(leaf, rule.AnyOf); is != criteria.Denied {
		number = len(w.questions)
		w.questions = append(w.questions, question{outcomes: []outcome{
			{where: is.Not()}, {value: ast.InternedTerm(true), where: is},
		}})
	}
	w.byParams[key] = append(w.byParams[key], asked{rule, params, number})
	return number, nil
}

// fits reports why a rule cannot be part of the criteria.
func (w *world) fits(rule *PermissionRule) error {
	if want := w.query.ResourceType; want != "" && rule.ResourceType != want {
		return fmt.Errorf("%s is a rule about %s, and the permission is about %s", rule.Name, rule.ResourceType, want)
	}
	if w.asked == nil {
		w.asked = rule
	}
	if w.asked.ResourceType != rule.ResourceType || w.asked.PluginID != rule.PluginID {
		return fmt.Errorf("%s is a rule of %s about %s, and %s one of %s about %s",
			rule.Name, rule.PluginID, rule.ResourceType, w.asked.Name, w.asked.PluginID, w.asked.ResourceType)
	}
	return nil
}

// leafOf is the leaf of a call, if the rule takes the params.
func leafOf(rule *PermissionRule, params *ast.Term) (criteria.Rule, error) {
	value, err := ast.JSON(params.Value)
	if err != nil {
		return criteria.Rule{}, fmt.Errorf("%s: %w", rule.Name, err)
	}
	object, ok := value.(map[string]any)
	if !ok {
		return criteria.Rule{}, fmt.Errorf("%s takes an object of params, not %v", rule.Name, params)
	}
	if err := rule.CheckParams(object); err != nil {
		return criteria.Rule{}, fmt.Errorf("%s: %w", rule.Name, err)
	}
	leaf, err := criteria.Parse(map[string]any{"rule": rule.Name, "resourceType": rule.ResourceType, "params": object})
	if err != nil {
		return criteria.Rule{}, fmt.Errorf("%s: %w", rule.Name, err)
	}
	return leaf.Rule, nil
}
