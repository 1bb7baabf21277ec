package explore

import (
	"context"
	"errors"
	"fmt"
	"slices"

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
	ctx      context.Context //nolint:containedctx // A world is one decision and ends with it.
	policy   *Policy
	query    Query
	resource presence
	input    *ast.Term
	nd       builtins.NDBCache
	base     baseDocuments
	rules    topdown.VirtualCache // values of rules that do not depend on the resource
	cancel   topdown.Cancel
	metrics  metrics.Metrics

	space     *criteria.Space
	questions []question
	byParams  map[int][]askedQuestion
	byRule    map[*document]int // the question that a document is
	known     map[knownKey][]knownOutcomes
	collected map[knownKey][]knownElements
	deciding  []decidingClause             // those of the entrypoint, where it was proved
	asked     *PermissionRule              // the first rule that was asked; criteria are about its type
	foreign   map[criteria.Function]string // what is decided by either answer, and why

	evaluations, branches, answers, asks, proved, explored int
	tasks                                                  []task
}

// question is something that is not known while the policy is evaluated, and its
// possible outcomes. The first is taken until another one is tried.
type question struct {
	name     string
	outcomes []outcome
}

// outcome is a value, or that there is none (nil), or an error, and where it is so.
type outcome struct {
	value *ast.Term
	err   error
	where criteria.Function
}

// presence is what a policy sees of the resource.
type presence int

const (
	// absent is a basic permission as stock evaluation sees it: input.resource is
	// undefined.
	absent presence = iota
	// supposed is a basic permission whose rules are asked all the same, by either
	// answer. Whether there is a resource is answered by no.
	supposed
	// present is a permission about a resource.
	present
)

// thereDecl is the function that stands for the question whether there is a resource.
var thereDecl = &ast.Builtin{Name: "stagedoor.there_is_a_resource", Decl: types.NewFunction(nil, types.B)}

// there answers whether there is a resource.
func there(bctx topdown.BuiltinContext, _ []*ast.Term, iter func(*ast.Term) error) error {
	if runOf(bctx).world.resource != present {
		return nil
	}
	return iter(ast.InternedTerm(true))
}

// newWorld begins a decision. The function that it returns ends it.
func newWorld(ctx context.Context, p *Policy, q Query, resource presence) (*world, func() bool) {
	w := &world{
		ctx:       ctx,
		policy:    p,
		query:     q,
		resource:  resource,
		input:     ast.NewTerm(q.Input),
		nd:        builtins.NDBCache{},
		rules:     topdown.NewVirtualCache(),
		cancel:    topdown.NewCancel(),
		metrics:   metrics.NoOp(),
		space:     criteria.NewSpace(),
		byParams:  make(map[int][]askedQuestion),
		byRule:    make(map[*document]int),
		known:     make(map[knownKey][]knownOutcomes),
		collected: make(map[knownKey][]knownElements),
		foreign:   make(map[criteria.Function]string),
	}
	if resource != absent {
		input := ast.NewObject()
		q.Input.Foreach(input.Insert)
		input.Insert(resourceKey, p.resource)
		w.input = ast.NewTerm(input)
	}
	if q.Cancel != nil {
		w.cancel = q.Cancel
		return w, func() bool { return true }
	}
	return w, context.AfterFunc(ctx, w.cancel.Cancel)
}

// method is how the decision was found.
func (w *world) method() Method {
	switch {
	case w.asks == 0:
		return Plain
	case w.explored == 0:
		return Proofs
	case w.proved == 0:
		return Exploration
	}
	return Composed
}

// run is one evaluation, either for the outcome under some choices or for proofs.
type run struct {
	world *world
	// goal is the document that is evaluated, if it is one.
	goal *document
	// choice is which outcome of each question is tried, or answers tells which;
	// both are nil for proofs.
	choice  map[int]int
	answers func(criteria.Function) bool
	// open are the questions without a choice that were asked, in order.
	open []int
	seen map[int]bool
	// path are the premises that the proof being looked for rests on so far.
	path []criteria.Function

	// fatal ends the decision, failed this branch. Both stop the evaluation.
	fatal, failed error
}

// proving is whether the run looks for proofs.
func (r *run) proving() bool { return r.choice == nil && r.answers == nil }

type runKey struct{}

// runOf is the run that a builtin is called in.
func runOf(bctx topdown.BuiltinContext) *run {
	r, _ := bctx.Context.Value(runKey{}).(*run) // Evaluations come from evaluate alone.
	return r
}

// Cancel does nothing: a run is cancelled with its world, or stops for an error.
func (r *run) Cancel() {}

// Cancelled is whether the evaluation must end.
func (r *run) Cancelled() bool {
	return r.fatal != nil || r.failed != nil || r.world.cancel.Cancelled()
}

// evaluate evaluates a query in the frozen world and calls iter for each solution.
// It returns the failure of this evaluation, and an error that ends the decision.
//
// What rules came to is kept for later evaluations where it does not depend on the
// resource, but only after the evaluation went well: before its end, OPA may not
// have seen that a rule has two values. So no evaluation is cut short either.
func (w *world) evaluate(body ast.Body, r *run, iter func(topdown.QueryResult)) (failure, err error) {
	if err := w.ctx.Err(); err != nil {
		return nil, err
	}
	if w.evaluations++; w.evaluations > w.policy.limits.Evaluations {
		return nil, w.limit(w.policy.limits.Evaluations, "evaluations")
	}
	values := &frames{VirtualCache: topdown.NewVirtualCache(), run: r}
	failure = topdown.NewQuery(body).
		WithCompiler(w.policy.compiler).
		WithStore(w.query.Store).
		WithTransaction(w.query.Txn).
		WithInput(w.input).
		WithTime(w.query.Time).
		WithCancel(r).
		WithMetrics(w.metrics).
		WithBuiltins(w.policy.builtins).
		WithVirtualCache(values).
		WithBaseCache(&w.base).
		WithNDBuiltinCache(w.nd).
		WithInterQueryBuiltinCache(w.query.InterQueryBuiltinCache).
		WithInterQueryBuiltinValueCache(w.query.InterQueryBuiltinValueCache).
		WithStrictBuiltinErrors(true).
		Iter(context.WithValue(w.ctx, runKey{}, r), func(result topdown.QueryResult) error {
			iter(result)
			return nil
		})
	switch {
	case r.fatal != nil:
		return nil, r.fatal
	case w.ctx.Err() != nil:
		return nil, context.Cause(w.ctx)
	case r.failed != nil:
		return r.failed, nil
	case failure != nil:
		return failure, nil
	}
	for _, rule := range values.fresh {
		w.rules.Put(rule.ref, rule.value)
	}
	return nil, nil
}

// frames is where a run keeps what rules came to. There a document that depends
// on the resource is a question of its own, but not under a with, where the world
// is another one.
type frames struct {
	topdown.VirtualCache
	run   *run
	depth int // of nested withs
	fresh []value
}

// value is what a rule came to, nil where it is undefined.
type value struct {
	ref   ast.Ref
	value *ast.Term
}

// Push begins a with.
func (f *frames) Push() {
	f.depth++
	f.VirtualCache.Push()
}

// Pop ends a with.
func (f *frames) Pop() {
	f.depth--
	f.VirtualCache.Pop()
}

// Get is what a rule came to, or is chosen to be.
func (f *frames) Get(ref ast.Ref) (*ast.Term, bool) {
	if f.depth > 0 {
		return f.VirtualCache.Get(ref)
	}
	w := f.run.world
	if doc := w.policy.plan.documents.at(ref); doc != nil && doc != f.run.goal && !doc.function {
		chosen := f.run.choose(doc)
		return chosen, chosen == nil
	}
	if v, undefined := f.VirtualCache.Get(ref); v != nil || undefined {
		return v, undefined
	}
	return w.rules.Get(ref)
}

// Put keeps what a rule came to.
func (f *frames) Put(ref ast.Ref, v *ast.Term) {
	f.VirtualCache.Put(ref, v)
	if f.depth == 0 && !f.run.world.policy.depends(ref) {
		f.fresh = append(f.fresh, value{ref.Copy(), v})
	}
}

// depends is whether the rule that a key of the cache is about depends on the
// resource. The key of a function begins with the reference to it.
func (p *Policy) depends(key ast.Ref) bool {
	if function, ok := key[0].Value.(ast.Ref); ok {
		key = function
	}
	t := &p.plan.dependent
	for i := range key {
		if t = t.child(key, i); t == nil {
			return false
		}
		if t.value {
			return true
		}
	}
	return true // Something below depends.
}

// choose is the value of a document in this run.
func (r *run) choose(doc *document) *ast.Term {
	w := r.world
	switch {
	case r.Cancelled():
		return nil
	case r.proving():
		r.fatal = fmt.Errorf("internal error: %v was evaluated amid a proof", doc.ref)
		return nil
	}
	outcomes, err := w.outcomes(doc, nil)
	if err != nil {
		r.fatal = err
		return nil
	}
	chosen := outcomes[0]
	if len(outcomes) > 1 {
		q, ok := w.byRule[doc]
		if !ok {
			q = len(w.questions)
			w.byRule[doc] = q
			w.questions = append(w.questions, question{doc.ref.String(), outcomes})
		}
		choice, err := r.answer(q)
		if err != nil {
			r.fatal = err
			return nil
		}
		chosen = outcomes[choice]
	}
	r.failed = chosen.err
	return chosen.value
}

// answer returns the outcome of a question that is tried, and notes the question
// where none was chosen.
func (r *run) answer(q int) (int, error) {
	if err := r.world.count(); err != nil {
		return 0, err
	}
	if r.answers != nil {
		choice := slices.IndexFunc(r.world.questions[q].outcomes, func(o outcome) bool { return r.answers(o.where) })
		if choice < 0 {
			return 0, fmt.Errorf("internal error: %s has no answer", r.world.questions[q].name)
		}
		return choice, nil
	}
	choice, ok := r.choice[q]
	if !ok && !r.seen[q] {
		r.seen[q] = true
		r.open = append(r.open, q)
	}
	return choice, nil
}

// count counts an answer.
func (w *world) count() error {
	if w.answers++; w.answers > w.policy.limits.Answers {
		return w.limit(w.policy.limits.Answers, "answers")
	}
	return nil
}

// askType is the type of the functions that ask about the resource.
var askType = types.NewFunction(types.Args(types.A, types.A), types.B)

// ask answers a permission rule about the resource with what the run tries.
func (p *Policy) ask(rule *PermissionRule) topdown.BuiltinFunc {
	return func(bctx topdown.BuiltinContext, operands []*ast.Term, iter func(*ast.Term) error) error {
		r := runOf(bctx)
		if r.Cancelled() {
			return nil
		}
		q, err := r.world.question(rule, operands, bctx.Location)
		if _, ok := errors.AsType[*LimitError](err); ok {
			r.fatal = err
		}
		if err != nil {
			return topdown.Halt{Err: located(bctx.Location, err)}
		}
		if q < 0 {
			return nil
		}
		if r.proving() {
			r.fatal = fmt.Errorf("internal error: %s was asked amid a proof", rule.Name)
			return topdown.Halt{Err: r.fatal}
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

// located is an error with its place, where that is known.
func located(at *ast.Location, err error) error {
	if at == nil {
		return err
	}
	return fmt.Errorf("%s:%d: %w", at.File, at.Row, err)
}

// askedQuestion is a question that was asked about the resource, with its number,
// or -1 where it cannot hold.
type askedQuestion struct {
	rule   *PermissionRule
	params *ast.Term
	number int
}

// question returns the number of a question, or -1 for one that never holds.
func (w *world) question(rule *PermissionRule, operands []*ast.Term, at *ast.Location) (int, error) {
	resource, params := operands[0], operands[1]
	if !w.query.Basic && !resource.Equal(w.policy.resource) {
		return 0, fmt.Errorf("%s is asked about something else than input.resource", rule.Name)
	}
	key := params.Hash()
	for _, a := range w.byParams[key] {
		if a.rule == rule && (a.params == params || a.params.Equal(params)) {
			return a.number, nil
		}
	}
	var is criteria.Function
	if why := w.misfit(rule); why != "" {
		is = w.space.Unknown()
		w.foreign[is] = located(at, errors.New(why)).Error()
	} else {
		var err error
		if is, err = w.rule(rule, params); err != nil {
			return 0, err
		}
	}
	number := -1
	if is != criteria.Denied {
		if w.asks++; w.asks > w.policy.limits.Questions {
			return 0, w.limit(w.policy.limits.Questions, "questions")
		}
		number = len(w.questions)
		w.questions = append(w.questions, question{rule.Name, []outcome{
			{where: is.Not()}, {value: ast.InternedTerm(true), where: is},
		}})
	}
	w.byParams[key] = append(w.byParams[key], askedQuestion{rule, params, number})
	return number, nil
}

// misfit says why a rule cannot be part of the criteria, or nothing where it can.
// What cannot is a question whose answer nobody will tell.
func (w *world) misfit(rule *PermissionRule) string {
	const eitherWay = "only what both of its answers allow is allowed"
	want := w.query.ResourceType
	switch {
	case w.query.Basic:
		return fmt.Sprintf("%s is a rule about %s, and the permission is about no resource: %s",
			rule.Name, rule.ResourceType, eitherWay)
	case want != "" && rule.ResourceType != want:
		return fmt.Sprintf("%s is a rule about %s, and the permission is about %s: %s",
			rule.Name, rule.ResourceType, want, eitherWay)
	case w.asked == nil:
		w.asked = rule
	case w.asked.ResourceType != rule.ResourceType || w.asked.PluginID != rule.PluginID:
		return fmt.Sprintf("%s is a rule of %s about %s, and %s one of %s about %s: %s", rule.Name,
			rule.PluginID, rule.ResourceType, w.asked.Name, w.asked.PluginID, w.asked.ResourceType, eitherWay)
	}
	return ""
}

// rule is where a permission rule holds, if it takes the params.
func (w *world) rule(rule *PermissionRule, params *ast.Term) (criteria.Function, error) {
	value, err := ast.JSON(params.Value)
	if err != nil {
		return criteria.Denied, fmt.Errorf("%s: %w", rule.Name, err)
	}
	object, ok := value.(map[string]any)
	if !ok {
		return criteria.Denied, fmt.Errorf("%s takes an object of params, not %v", rule.Name, params)
	}
	if err := rule.CheckParams(object); err != nil {
		return criteria.Denied, fmt.Errorf("%s: %w", rule.Name, err)
	}
	is, err := w.space.Rule(rule.Name, rule.ResourceType, object, rule.AnyOf)
	if err != nil {
		return criteria.Denied, fmt.Errorf("%s: %w", rule.Name, err)
	}
	return is, nil
}

// baseDocuments keeps documents of the store that were read, as OPA's values.
type baseDocuments struct {
	tree tree[ast.Value]
}

// Get is a document that was read.
func (b *baseDocuments) Get(ref ast.Ref) ast.Value { return b.tree.at(ref) }

// Put keeps a document that was read.
func (b *baseDocuments) Put(ref ast.Ref, v ast.Value) {
	for i := range ref {
		if _, ok := nameAt(ref, i); !ok {
			return
		}
	}
	b.tree.put(ref, v)
}
