package explain

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/types"

	"github.com/stagedoor/stagedoor/adapter/criteria"
	"github.com/stagedoor/stagedoor/adapter/explore"
	"github.com/stagedoor/stagedoor/adapter/offline"
	"github.com/stagedoor/stagedoor/adapter/reading/ruleindex"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// trials are stock evaluations of a policy for one question, in which a builtin
// answers for the permission rules.
type trials struct {
	policy   *offline.Policy
	question offline.Question
	rules    map[string]*explore.PermissionRule // by path
	compiler *ast.Compiler
	titles   map[place]string
	bodies   map[place]ast.Body // as the author wrote them
	leftOut  map[place]bool     // rules that OPA's index leaves out, so that they never hold
}

// place is where a rule begins.
type place struct {
	file string
	line int
}

var answerDecl = &ast.Builtin{
	Name: "stagedoor.answer", Decl: types.NewFunction(types.Args(types.S, types.S, types.A), types.B),
	Nondeterministic: true,
}

func newTrials(p *offline.Policy, q offline.Question) (*trials, error) {
	t := &trials{
		policy: p, question: q, rules: map[string]*explore.PermissionRule{},
		titles: map[place]string{}, bodies: map[place]ast.Body{}, leftOut: map[place]bool{},
	}
	for _, r := range p.Rules() {
		t.rules[r.Function.String()] = r
	}
	var err error
	t.compiler, err = t.compile(nil)
	if err != nil {
		return nil, err
	}
	for name := range p.Modules() {
		ast.WalkRules(t.compiler.Modules[name], func(r *ast.Rule) bool {
			if ruleindex.LeftOut(t.compiler, r) != nil {
				t.leftOut[placeOf(r)] = true
			}
			return false
		})
	}
	if len(t.leftOut) > 0 {
		if t.compiler, err = t.compile(t.leftOut); err != nil {
			return nil, err
		}
	}
	for _, module := range p.Modules() {
		titles(module, t.titles)
		for _, rule := range module.Rules {
			for r := rule; r != nil; r = r.Else {
				t.bodies[placeOf(r)] = r.Body
			}
		}
	}
	return t, nil
}

// titles notes the titles of a module's rules: the rule's own, or that of all rules
// at the path, which stands above the first of them.
func titles(module *ast.Module, into map[place]string) {
	documents := map[string]string{}
	for _, a := range module.Annotations {
		if a.Title == "" {
			continue
		}
		if a.Scope == "document" {
			documents[a.GetTargetPath().String()] = a.Title
		}
	}
	for _, rule := range module.Rules {
		title := documents[rule.Ref().GroundPrefix().String()]
		for _, a := range rule.Annotations {
			if a.Title != "" && (a.Scope == "rule" || title == "") {
				title = a.Title
			}
		}
		for r := rule; r != nil; r = r.Else {
			if title != "" {
				into[placeOf(r)] = title
			}
		}
	}
}

func placeOf(r *ast.Rule) place {
	if r.Location == nil {
		return place{}
	}
	return place{r.Location.File, r.Location.Row}
}

// compile compiles the policy without some of its rules: their bodies begin with false. The
// rest of a body stays, since the rule's head may have variables of it.
func (t *trials) compile(without map[place]bool) (*ast.Compiler, error) {
	modules := map[string]*ast.Module{}
	for _, of := range []map[string]*ast.Module{offline.Library(), t.policy.Modules()} {
		for name, module := range of {
			copied := module.Copy()
			t.answered(copied)
			for _, rule := range copied.Rules {
				for r := rule; r != nil; r = r.Else {
					if without[placeOf(r)] {
						r.Body = append(ast.NewBody(ast.NewExpr(ast.BooleanTerm(false))), r.Body...)
						for i, e := range r.Body {
							e.Index = i
						}
						if r.Default {
							r.Default = false
						}
					}
				}
			}
			modules[name] = copied
		}
	}
	c := ast.NewCompiler().WithCapabilities(t.policy.Capabilities(answerDecl))
	if c.Compile(modules); c.Failed() {
		return nil, c.Errors
	}
	return c, nil
}

// answered gives each permission rule the one body that asks for its answer.
func (t *trials) answered(m *ast.Module) {
	done := map[string]bool{}
	m.Rules = slices.DeleteFunc(m.Rules, func(r *ast.Rule) bool {
		path := r.Ref().String()
		rule, ok := t.rules[path]
		if !ok || done[path] {
			return ok
		}
		done[path] = true
		resource, params := ast.VarTerm("resource"), ast.VarTerm("params")
		r.Head.Args = ast.Args{resource, params}
		r.Head.Value = ast.BooleanTerm(true)
		ask := ast.NewExpr([]*ast.Term{
			ast.NewTerm(answerDecl.Ref()), ast.StringTerm(rule.Name), ast.StringTerm(rule.ResourceType), params,
		})
		ask.Location = r.Location
		r.Body, r.Else, r.Default = ast.NewBody(ask), nil, false
		return false
	})
}

// answers tells whether a permission rule holds.
type answers func(ctx context.Context, r criteria.Rule) (bool, error)

// run is one evaluation.
type run struct {
	value   any
	defined bool
	err     error
	frames  map[uint64]*frame
	order   []*frame
	asked   []criteria.Rule
	answers answers
}

// frame is the evaluation of a rule, or of a body within one.
type frame struct {
	rule   *ast.Rule // the author's; nil for a body and for rules of the library
	own    *frame    // the frame of the rule that it is a part of
	parent *frame
	exited bool
	values []string // of the rule, as JSON
	exprs  []*exprSeen
}

// exprSeen is an expression as it was evaluated, possibly several times.
type exprSeen struct {
	expr  *ast.Expr
	leaf  *criteria.Rule
	holds bool
	of    []*frame
}

// evaluate runs the policy once.
func (t *trials) evaluate(ctx context.Context, c *ast.Compiler, answer answers, traced bool) (*run, error) {
	r := &run{frames: map[uint64]*frame{}, answers: answer}
	input := t.question.Input()
	if t.question.Permission.Resource && t.question.Resource == nil {
		input["resource"] = map[string]any{}
	} else if !t.question.Permission.Resource {
		delete(input, "resource")
	}
	value, err := ast.InterfaceToValue(input)
	if err != nil {
		return nil, err
	}
	var fatal error
	ask := func(_ topdown.BuiltinContext, operands []*ast.Term, iter func(*ast.Term) error) error {
		rule, err := ruleOf(operands)
		if err != nil {
			return err
		}
		if !slices.Contains(r.asked, rule) {
			r.asked = append(r.asked, rule)
		}
		holds, err := answer(ctx, rule)
		if err != nil {
			fatal = err
			return topdown.Halt{Err: err}
		}
		return iter(ast.BooleanTerm(holds))
	}
	store := t.policy.Data()
	txn, err := store.NewTransaction(ctx, storage.TransactionParams{})
	if err != nil {
		return nil, err
	}
	defer store.Abort(ctx, txn)
	result := ast.VarTerm("result")
	query := topdown.NewQuery(ast.NewBody(ast.Equality.Expr(result, ast.NewTerm(t.entrypoint())))).
		WithCompiler(c).WithStore(store).WithTransaction(txn).WithInput(ast.NewTerm(value)).
		WithBuiltins(map[string]*topdown.Builtin{answerDecl.Name: {Decl: answerDecl, Func: ask}}).
		WithStrictBuiltinErrors(true)
	if traced {
		query = query.WithQueryTracer(&tracer{run: r, trials: t}).WithIndexing(false).WithEarlyExit(false)
	}
	r.err = query.Iter(ctx, func(found topdown.QueryResult) error {
		r.defined = true
		r.value, err = ast.JSON(found[ast.Var("result")].Value)
		return err
	})
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return r, fatal
}

func (t *trials) entrypoint() ast.Ref {
	ref := ast.Ref{ast.DefaultRootDocument}
	for step := range strings.SplitSeq(t.policy.Entrypoint(), "/") {
		ref = append(ref, ast.StringTerm(step))
	}
	return ref
}

// ruleOf is the rule that the builtin was asked about.
func ruleOf(operands []*ast.Term) (criteria.Rule, error) {
	name, _ := operands[0].Value.(ast.String)
	of, _ := operands[1].Value.(ast.String)
	return newRule(string(name), string(of), operands[2])
}

func newRule(name, resourceType string, params *ast.Term) (criteria.Rule, error) {
	value, err := ast.JSON(params.Value)
	if err != nil {
		return criteria.Rule{}, err
	}
	parsed, err := criteria.Parse(map[string]any{"rule": name, "resourceType": resourceType, "params": value})
	if err != nil {
		return criteria.Rule{}, err
	}
	return parsed.Rule, nil
}

// mostRuns bounds the ways in which the rules of a condition are answered.
const mostRuns = 34

// runs evaluate the question: once where the resource is known, and else with the
// rules of the condition answered in several ways: none, all, and each alone or alone
// not.
func (t *trials) runs(ctx context.Context, c criteria.Criteria) ([]*run, error) {
	if t.question.Resource != nil {
		r, err := t.evaluate(ctx, t.compiler, func(ctx context.Context, r criteria.Rule) (bool, error) {
			return t.policy.RuleHolds(ctx, r, t.question.Resource)
		}, true)
		return []*run{r}, err
	}
	var runs []*run
	try := func(holds func(criteria.Rule) bool) (*run, error) {
		ask := func(_ context.Context, r criteria.Rule) (bool, error) { return holds(r), nil }
		r, err := t.evaluate(ctx, t.compiler, ask, true)
		if err == nil {
			runs = append(runs, r)
		}
		return r, err
	}
	none, err := try(func(criteria.Rule) bool { return false })
	if err != nil {
		return nil, err
	}
	all, err := try(func(criteria.Rule) bool { return true })
	if err != nil {
		return nil, err
	}
	asked := none.asked
	for _, r := range slices.AppendSeq(all.asked, c.Rules()) {
		if !slices.Contains(asked, r) {
			asked = append(asked, r)
		}
	}
	for _, one := range asked {
		if len(runs) >= mostRuns {
			break
		}
		for _, alone := range []bool{true, false} {
			if _, err := try(func(r criteria.Rule) bool { return (r == one) == alone }); err != nil {
				return nil, err
			}
		}
	}
	return runs, nil
}

// tracer builds the frames of a run.
type tracer struct {
	run    *run
	trials *trials
}

// Enabled is that of [topdown.QueryTracer].
func (*tracer) Enabled() bool { return true }

// Config is that of [topdown.QueryTracer].
func (*tracer) Config() topdown.TraceConfig { return topdown.TraceConfig{PlugLocalVars: true} }

// TraceEvent is that of [topdown.QueryTracer].
func (t *tracer) TraceEvent(e topdown.Event) {
	switch e.Op {
	case topdown.EnterOp:
		f := &frame{parent: t.run.frames[e.ParentID]}
		f.own = f
		if rule, ok := e.Node.(*ast.Rule); ok {
			if rule.Location != nil && !strings.HasPrefix(rule.Location.File, offline.LibraryPrefix) &&
				t.trials.rules[rule.Ref().String()] == nil {
				f.rule = rule
			}
		} else if f.parent != nil {
			f.own = f.parent.own
		}
		t.run.frames[e.QueryID] = f
		t.run.order = append(t.run.order, f)
		if f.rule != nil && f.parent != nil && f.parent.own.rule != nil {
			f.parent.own.refers(f)
		}
	case topdown.EvalOp:
		t.eval(e)
	case topdown.ExitOp:
		if f := t.run.frames[e.QueryID]; f != nil && f.rule != nil {
			if _, ok := e.Node.(*ast.Rule); ok {
				f.exited = true
				f.values = append(f.values, plugged(f.rule.Head.Value, e.Locals))
				for _, seen := range f.exprs {
					seen.holds = true
				}
			}
		}
	}
}

// eval notes an expression. That it is evaluated means that those before it in its
// body held.
func (t *tracer) eval(e topdown.Event) {
	expr, ok := e.Node.(*ast.Expr)
	f := t.run.frames[e.QueryID]
	if !ok || f == nil || f.own.rule == nil {
		return
	}
	seen := &exprSeen{expr: expr}
	if operator := expr.OperatorTerm(); operator != nil {
		if rule := t.trials.rules[operator.Value.String()]; rule != nil {
			params := ast.NewTerm(pluggedValue(expr.Operand(1), e.Locals))
			if leaf, err := newRule(rule.Name, rule.ResourceType, params); err == nil {
				seen.leaf = &leaf
			}
		}
	}
	own := f.own
	if f == own {
		for _, before := range own.exprs {
			if before.expr.Index < expr.Index && before.inBody(own.rule) {
				before.holds = true
			}
		}
	}
	for _, known := range own.exprs {
		if seen.leaf != nil && known.leaf != nil && *known.leaf == *seen.leaf && sameRow(known.expr, expr) {
			return
		}
		if known.expr == expr && (known.leaf == nil) == (seen.leaf == nil) &&
			(seen.leaf == nil || *known.leaf == *seen.leaf) {
			return
		}
	}
	if f == own || seen.leaf != nil {
		own.exprs = append(own.exprs, seen)
	}
}

func sameRow(a, b *ast.Expr) bool {
	return a.Location != nil && b.Location != nil && a.Location.Row == b.Location.Row
}

// inBody is whether an expression is one of the rule's own body.
func (s *exprSeen) inBody(rule *ast.Rule) bool { return slices.Contains(rule.Body, s.expr) }

// refers notes which expression refers to a rule that is being evaluated.
func (f *frame) refers(to *frame) {
	ref := to.rule.Ref().GroundPrefix()
	for i := len(f.exprs) - 1; i >= 0; i-- {
		e := f.exprs[i]
		if !e.inBody(f.rule) {
			continue
		}
		found := false
		ast.WalkRefs(e.expr, func(r ast.Ref) bool {
			found = found || r.HasPrefix(ref) || ref.HasPrefix(r.GroundPrefix())
			return false
		})
		if found {
			if !slices.Contains(e.of, to) {
				e.of = append(e.of, to)
			}
			return
		}
	}
}

// pluggedValue is a term with the values of its local variables.
func pluggedValue(term *ast.Term, locals *ast.ValueMap) ast.Value {
	out, err := ast.TransformVars(term.Copy().Value, func(v ast.Var) (ast.Value, error) {
		if locals != nil {
			if value := locals.Get(v); value != nil {
				return value, nil
			}
		}
		return v, nil
	})
	if value, ok := out.(ast.Value); err == nil && ok {
		return value
	}
	return term.Value
}

func plugged(term *ast.Term, locals *ast.ValueMap) string {
	if term == nil {
		return ""
	}
	value, err := ast.JSON(pluggedValue(term, locals))
	if err != nil {
		return ""
	}
	text, err := json.Marshal(value)
	if err != nil {
		return ""
	}
	return string(text)
}

// named are rules of the author's by their titles.
func (t *trials) named(rules ...*ast.Rule) []Rule {
	var named []Rule
	for _, r := range rules {
		at := placeOf(r)
		title := t.titles[at]
		if title == "" {
			title = lastName(r)
		}
		named = append(named, Rule{Title: title, File: at.file, Line: at.line})
	}
	return named
}

// foremost are those of the rules that decided which a person wants named first: the
// entrypoint's own, and else those that are no part of another one.
func (t *trials) foremost(rules []*ast.Rule) []*ast.Rule {
	own := slices.DeleteFunc(slices.Clone(rules), func(r *ast.Rule) bool {
		return !r.Ref().GroundPrefix().Equal(t.entrypoint())
	})
	if len(own) > 0 {
		return own
	}
	return slices.DeleteFunc(slices.Clone(rules), func(r *ast.Rule) bool {
		return slices.ContainsFunc(rules, func(other *ast.Rule) bool {
			refers := false
			ast.WalkRefs(other.Body, func(ref ast.Ref) bool {
				refers = refers || ref.HasPrefix(r.Ref().GroundPrefix())
				return false
			})
			return refers && other.Ref().GroundPrefix().String() != r.Ref().GroundPrefix().String()
		})
	})
}

func lastName(r *ast.Rule) string {
	ref := r.Ref().GroundPrefix()
	if name, ok := ref[len(ref)-1].Value.(ast.String); ok {
		return string(name)
	}
	return ref.String()
}

// from are the rules that ask for a part of the condition. Where none asks, since the
// policy answers with conditions, it is the rule whose value is the smallest that has
// the part in it.
func (t *trials) from(leaf criteria.Rule, runs []*run) []Rule {
	var asking []Rule
	var saying *ast.Rule
	smallest := 0
	for _, r := range runs {
		for _, f := range r.order {
			if f.rule == nil {
				continue
			}
			for _, seen := range f.exprs {
				if seen.leaf == nil || !t.covers(*seen.leaf, leaf) {
					continue
				}
				if rule := t.named(f.rule)[0]; !slices.Contains(asking, rule) {
					asking = append(asking, rule)
				}
			}
			for _, value := range f.values {
				if says(value, leaf) && (saying == nil || len(value) < smallest) {
					saying, smallest = f.rule, len(value)
				}
			}
		}
	}
	if len(asking) == 0 && saying != nil {
		return t.named(saying)
	}
	return asking
}

// says is whether a value, as JSON, has a rule of a condition in it.
func says(value string, leaf criteria.Rule) bool {
	var document any
	if json.Unmarshal([]byte(value), &document) != nil {
		return false
	}
	var params any
	if leaf.Params != "" && json.Unmarshal([]byte(leaf.Params), &params) != nil {
		return false
	}
	var find func(any) bool
	find = func(v any) bool {
		switch v := v.(type) {
		case map[string]any:
			if v["rule"] == leaf.Name && (v["params"] == nil && params == nil || reflect.DeepEqual(v["params"], params)) {
				return true
			}
			for _, member := range v {
				if find(member) {
					return true
				}
			}
		case []any:
			return slices.ContainsFunc(v, find)
		}
		return false
	}
	return find(document)
}

// covers is whether what a rule asks is a part of a leaf, whose lists that mean "any
// of" were joined.
func (t *trials) covers(asked, leaf criteria.Rule) bool {
	if asked == leaf {
		return true
	}
	if asked.Name != leaf.Name || asked.ResourceType != leaf.ResourceType {
		return false
	}
	name := ""
	for _, r := range t.rules {
		if r.Name == leaf.Name && r.ResourceType == leaf.ResourceType {
			name = r.AnyOf
		}
	}
	if name == "" {
		return false
	}
	var a, b map[string]any
	if json.Unmarshal([]byte(asked.Params), &a) != nil || json.Unmarshal([]byte(leaf.Params), &b) != nil {
		return false
	}
	list, _ := a[name].([]any)
	in, _ := b[name].([]any)
	return slices.ContainsFunc(list, func(x any) bool {
		return slices.ContainsFunc(in, func(y any) bool { return fmt.Sprint(x) == fmt.Sprint(y) })
	})
}

// answer is what an evaluation comes to, for comparison with another one's.
func (t *trials) answer(ctx context.Context, r *run) string {
	if r.err != nil {
		return "fails"
	}
	if !r.defined {
		return wire.Deny.String()
	}
	d, _, err := wire.ParseDecision(r.value)
	if err != nil {
		return "fails"
	}
	if t.question.Resource != nil && d.Result == wire.Conditional {
		allowed, err := t.policy.Applies(ctx, d, t.question.Resource)
		if err != nil {
			return "fails"
		}
		return result(allowed)
	}
	return d.Text()
}

// mostTried bounds the rules that are taken out to find which decided.
const mostTried = 40

// decided are the rules without which the answer is another one: each alone, else
// two together, else all of the entrypoint's that held.
func (t *trials) decided(ctx context.Context, runs []*run) ([]*ast.Rule, error) {
	var held, entry []*ast.Rule
	for _, r := range runs {
		for _, f := range r.order {
			if f.rule == nil || !f.exited || f.rule.Default ||
				slices.ContainsFunc(held, func(k *ast.Rule) bool { return placeOf(k) == placeOf(f.rule) }) {
				continue
			}
			held = append(held, f.rule)
			if f.rule.Ref().GroundPrefix().Equal(t.entrypoint()) {
				entry = append(entry, f.rule)
			}
		}
	}
	held = held[:min(len(held), mostTried)]
	turns := func(rules ...*ast.Rule) (bool, error) { return t.turns(ctx, runs, rules) }
	var found []*ast.Rule
	for _, rule := range held {
		is, err := turns(rule)
		if err != nil {
			return nil, err
		}
		if is {
			found = append(found, rule)
		}
	}
	if len(found) > 0 || len(held) < 2 {
		return found, nil
	}
	if len(entry) > 1 {
		is, err := turns(entry...)
		if err != nil {
			return nil, err
		}
		if is {
			return entry, nil
		}
	}
	const mostPairs = 12
	for i, a := range held[:min(len(held), mostPairs)] {
		for _, b := range held[:i] {
			is, err := turns(a, b)
			if err != nil {
				return nil, err
			}
			if is {
				return []*ast.Rule{b, a}, nil
			}
		}
	}
	return nil, nil
}

// turns is whether the answer is another one without some rules, in one of the runs.
func (t *trials) turns(ctx context.Context, runs []*run, rules []*ast.Rule) (bool, error) {
	without := map[place]bool{}
	for _, r := range rules {
		without[placeOf(r)] = true
	}
	c, err := t.compile(without)
	if err != nil { // a rule that others cannot do without
		return false, nil //nolint:nilerr // so it is not one that can be taken out
	}
	for _, r := range runs {
		again, err := t.evaluate(ctx, c, r.answers, false)
		if err != nil {
			return false, err
		}
		if t.answer(ctx, again) != t.answer(ctx, r) {
			return true, nil
		}
	}
	return false, nil
}
