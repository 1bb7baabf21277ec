package trial

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/types"

	"github.com/stagedoor/stagedoor/adapter/inventory"
	"github.com/stagedoor/stagedoor/adapter/offline"
	"github.com/stagedoor/stagedoor/adapter/reading"
)

// A world evaluates the policy under given answers to its questions about the
// resource, and sees which rules hold. It says nothing about decisions, which are the
// engine's; it finds rules that never hold, or that change nothing.
type world struct {
	compiler *ast.Compiler
	entry    ast.Ref
	store    storage.Store
	query    ast.Body
	alone    ast.Body               // what is evaluated instead; nil for the entrypoint
	watched  map[*ast.Rule]*watched // as compiled
	byRow    map[rowKey]*watched    // by the lines of its body
	all      []*watched
	builtins map[string]*topdown.Builtin
	types    map[string]string              // the resource type of each permission rule, by its path
	guards   map[*watched]map[string]string // permissions for which a rule asks about another resource type

	// The evaluation under way.
	permission inventory.Permission
	answers    map[string]bool
	asked      []string            // questions without an answer
	parents    map[uint64]uint64   // by query
	queries    map[uint64]*watched // the rules whose bodies they are
	tainted    map[uint64]bool     // what asked a rule of another resource type
	exits      []*watched
	off        *watched // the rule that is taken for absent
}

type rowKey struct {
	file string
	row  int
}

// watched is a rule of the author's.
type watched struct {
	index    int
	rule     *ast.Rule // as parsed
	held     bool
	resource bool // whether it depends on the resource
	identity bool
	data     bool
	context  bool // whether some rule that leads to it depends on data
	pending  bool // whether it is looked at
	// failed is the expression that failed after most others, for questions that came
	// that far.
	failed  *ast.Expr
	basic   bool // whether that was for a basic permission, about the resource
	matters bool // whether an answer is another without it
}

var (
	answerDecl = &ast.Builtin{
		Name: "stagedoor.check_answer",
		Decl: types.NewFunction(types.Args(types.S, types.A), types.B),
	}
	onDecl = &ast.Builtin{
		Name: "stagedoor.check_on",
		Decl: types.NewFunction(types.Args(types.N), types.B),
	}
)

// newWorld compiles the policy so that permission rules ask, and each of the
// author's rules can be taken away.
func newWorld(p *offline.Policy, sources *offline.Sources, rules map[string]*reading.Rule, data map[string]any,
) (*world, error) {
	w := &world{
		watched: map[*ast.Rule]*watched{}, byRow: map[rowKey]*watched{}, types: map[string]string{},
		guards: map[*watched]map[string]string{},
	}
	for path, rule := range rules {
		w.types[path] = rule.ResourceType
	}
	modules := offline.Library()
	for name, module := range p.Modules() {
		modules[name] = module.Copy()
	}
	byPlace := map[string]*watched{}
	for _, name := range slices.Sorted(maps.Keys(modules)) {
		_, authors := sources.Modules[name]
		w.prepare(modules[name], rules, authors, byPlace)
	}
	w.compiler = ast.NewCompiler().WithCapabilities(p.Capabilities(answerDecl, onDecl))
	if w.compiler.Compile(modules); w.compiler.Failed() {
		return nil, w.compiler.Errors
	}
	for _, module := range w.compiler.Modules {
		for _, rule := range module.Rules {
			for ; rule != nil; rule = rule.Else {
				if seen := byPlace[placeOf(rule)]; seen != nil {
					w.watched[rule] = seen
				}
			}
		}
	}
	w.depend()
	w.store = inmem.NewFromObject(data)
	w.entry = ast.MustParseRef("data." + dotted(p.Entrypoint()))
	w.query = ast.NewBody(ast.Equality.Expr(ast.VarTerm("answer"), ast.NewTerm(w.entry)))
	w.builtins = map[string]*topdown.Builtin{
		answerDecl.Name: {Decl: answerDecl, Func: w.answer},
		onDecl.Name:     {Decl: onDecl, Func: w.on},
	}
	return w, nil
}

func dotted(entrypoint string) string {
	ref := ast.Ref{ast.DefaultRootDocument}
	start := 0
	for i := range len(entrypoint) + 1 {
		if i == len(entrypoint) || entrypoint[i] == '/' {
			ref = append(ref, ast.StringTerm(entrypoint[start:i]))
			start = i + 1
		}
	}
	return ref.String()[len("data."):]
}

func placeOf(r *ast.Rule) string {
	if r.Location == nil {
		return ""
	}
	return fmt.Sprintf("%s:%d:%d:%s", r.Location.File, r.Location.Row, r.Location.Col, r.Head.Name)
}

func (w *world) prepare(module *ast.Module, rules map[string]*reading.Rule, authors bool,
	byPlace map[string]*watched) {
	done := map[string]bool{}
	var kept []*ast.Rule
	for _, rule := range module.Rules {
		path := rule.Ref().GroundPrefix().String()
		if rules[path] != nil {
			if !done[path] {
				done[path] = true
				kept = append(kept, asking(rule, path))
			}
			continue
		}
		kept = append(kept, rule)
		if !authors {
			continue
		}
		for each := rule; each != nil; each = each.Else {
			if each.Default || len(each.Head.Args) > 0 || placeOf(each) == "" {
				continue
			}
			seen := &watched{index: len(w.all), rule: each.Copy()}
			w.all = append(w.all, seen)
			byPlace[placeOf(each)] = seen
			for _, e := range each.Body {
				w.byRow[rowKey{e.Location.File, e.Location.Row}] = seen
			}
			on := ast.NewExpr([]*ast.Term{ast.NewTerm(onDecl.Ref()), ast.IntNumberTerm(seen.index)})
			on.Location, on.Index = each.Location, len(each.Body)
			each.Body.Append(on)
		}
	}
	module.Rules = kept
}

// asking is a permission rule that asks.
func asking(rule *ast.Rule, path string) *ast.Rule {
	rule = rule.Copy()
	resource, params := ast.VarTerm("resource"), ast.VarTerm("params")
	rule.Head.Args = []*ast.Term{resource, params}
	rule.Head.Value = ast.BooleanTerm(true)
	rule.Else = nil
	expr := ast.NewExpr([]*ast.Term{ast.NewTerm(answerDecl.Ref()), ast.StringTerm(path), params})
	expr.Location = rule.Location
	rule.Body = ast.NewBody(expr)
	return rule
}

// tellsCallers is whether a rule can tell apart two callers who are signed in: it reads
// something of the identity, or hands on the whole of it. Whether there is one is asked of
// every policy.
func tellsCallers(rule *ast.Rule) bool {
	tells := false
	identity := ast.InputRootRef.Append(ast.StringTerm("identity"))
	ast.NewGenericVisitor(func(x any) bool {
		switch x := x.(type) {
		case *ast.Expr:
			is, alone := x.Terms.(*ast.Term)
			return alone && identity.Equal(is.Value)
		case ast.Ref:
			if x.HasPrefix(ast.InputRootRef) {
				_, named := x[min(1, len(x)-1)].Value.(ast.String)
				tells = tells || !named || x.HasPrefix(identity)
			}
		}
		return false
	}).Walk(rule)
	return tells
}

// depend finds what each rule depends on, itself or through others.
func (w *world) depend() {
	type reach struct{ resource, identity, data bool }
	known := map[*ast.Rule]*reach{}
	var visit func(rule *ast.Rule) *reach
	visit = func(rule *ast.Rule) *reach {
		if r := known[rule]; r != nil {
			return r
		}
		r := &reach{}
		known[rule] = r
		r.identity = tellsCallers(rule)
		ast.WalkRefs(rule, func(ref ast.Ref) bool {
			switch {
			case ref.HasPrefix(ast.InputRootRef) && len(ref) > 1 && ref[1].Equal(ast.StringTerm("resource")):
				r.resource = true
			case ref.HasPrefix(ast.DefaultRootRef) && len(w.compiler.GetRules(ref)) == 0:
				r.data = true
			}
			return false
		})
		ast.WalkExprs(rule, func(e *ast.Expr) bool {
			if b := ast.BuiltinMap[operator(e)]; b != nil && b.IsNondeterministic() {
				r.data = true // the clock and the network are no better known than data
			}
			return false
		})
		for dependency := range w.compiler.Graph.Dependencies(rule) {
			if other, ok := dependency.(*ast.Rule); ok {
				o := visit(other)
				r.resource, r.identity, r.data = r.resource || o.resource, r.identity || o.identity, r.data || o.data
			}
		}
		return r
	}
	for rule, seen := range w.watched {
		r := visit(rule)
		seen.resource, seen.identity, seen.data = r.resource, r.identity, r.data
	}
	var lead func(rule *ast.Rule, done map[*ast.Rule]bool) bool
	lead = func(rule *ast.Rule, done map[*ast.Rule]bool) bool {
		for dependent := range w.compiler.Graph.Dependents(rule) {
			other, ok := dependent.(*ast.Rule)
			if !ok || done[other] {
				continue
			}
			done[other] = true
			if visit(other).data || lead(other, done) {
				return true
			}
		}
		return false
	}
	for rule, seen := range w.watched {
		seen.context = lead(rule, map[*ast.Rule]bool{})
	}
}

func operator(e *ast.Expr) string {
	if !e.IsCall() {
		return ""
	}
	return e.Operator().String()
}

func (w *world) answer(bctx topdown.BuiltinContext, args []*ast.Term, yield func(*ast.Term) error) error {
	text, ok := args[0].Value.(ast.String)
	if !ok { // we wrote it
		return nil
	}
	path := string(text)
	if of := w.types[path]; of != w.permission.ResourceType {
		w.taint(bctx.QueryID, of)
		return yield(ast.BooleanTerm(false))
	}
	question := path + " " + args[1].String()
	answer, known := w.answers[question]
	if !known && !slices.Contains(w.asked, question) {
		w.asked = append(w.asked, question)
	}
	return yield(ast.BooleanTerm(answer))
}

// taint marks the bodies that ask about another type of resource than there is:
// production allows nothing by them.
func (w *world) taint(query uint64, of string) {
	told := false
	for id := query; ; {
		w.tainted[id] = true
		if seen := w.queries[id]; seen != nil && !told && w.off == nil {
			told = true
			if w.guards[seen] == nil {
				w.guards[seen] = map[string]string{}
			}
			w.guards[seen][w.permission.Name] = of
		}
		up, ok := w.parents[id]
		if !ok || up == id {
			return
		}
		id = up
	}
}

func (w *world) on(_ topdown.BuiltinContext, args []*ast.Term, yield func(*ast.Term) error) error {
	on := w.off == nil || !args[0].Equal(ast.IntNumberTerm(w.off.index))
	return yield(ast.BooleanTerm(on))
}

// Enabled, Config and TraceEvent make a world the tracer of its evaluations.
func (w *world) Enabled() bool { return true }

// Config asks for nothing beside the events.
func (w *world) Config() topdown.TraceConfig { return topdown.TraceConfig{} }

// TraceEvent notes which rules hold, and where others fail.
func (w *world) TraceEvent(event topdown.Event) {
	switch event.Op {
	case topdown.EnterOp:
		w.parents[event.QueryID] = event.ParentID
		if rule, ok := event.Node.(*ast.Rule); ok {
			w.queries[event.QueryID] = w.watched[rule]
		}
	case topdown.FailOp:
		w.fail(event)
	case topdown.ExitOp:
		if rule, ok := event.Node.(*ast.Rule); ok {
			if seen := w.watched[rule]; seen != nil && w.off == nil && !w.tainted[event.QueryID] {
				seen.held = true
				if !slices.Contains(w.exits, seen) {
					w.exits = append(w.exits, seen)
				}
			}
		}
	}
}

// fail notes the expression of a rule that failed after most others.
func (w *world) fail(event topdown.Event) {
	e, ok := event.Node.(*ast.Expr)
	if !ok || e.Location == nil || w.off != nil {
		return
	}
	seen := w.byRow[rowKey{e.Location.File, e.Location.Row}]
	if seen == nil || seen.held || seen.failed != nil && seen.failed.Location.Row >= e.Location.Row {
		return
	}
	seen.failed, seen.basic = e, w.permission.Type == "basic" && strings.Contains(string(e.Location.Text),
		"input.resource")
}

// reach are the rules that the entrypoint can come to.
func (w *world) reach() map[*watched]bool {
	reached := map[*watched]bool{}
	done := map[*ast.Rule]bool{}
	next := w.compiler.GetRules(w.entry)
	for len(next) > 0 {
		rule := next[0]
		next = next[1:]
		for ; rule != nil; rule = rule.Else {
			if done[rule] {
				continue
			}
			done[rule] = true
			if seen := w.watched[rule]; seen != nil {
				reached[seen] = true
			}
			for dependency := range w.compiler.Graph.Dependencies(rule) {
				if other, ok := dependency.(*ast.Rule); ok {
					next = append(next, other)
				}
			}
		}
	}
	return reached
}

// without evaluates the same without the rule.
func (w *world) without(ctx context.Context, txn storage.Transaction, input *ast.Term, answers map[string]bool,
	rule *watched) evaluation {
	w.off = rule
	defer func() { w.off = nil }()
	return w.evaluate(ctx, txn, input, answers)
}

// by evaluates a rule by itself from now on.
func (w *world) by(rule *watched) {
	w.alone = nil
	if rule != nil {
		ref := rule.rule.Ref().GroundPrefix()
		w.alone = ast.NewBody(ast.Equality.Expr(ast.VarTerm("answer"), ast.NewTerm(ref)))
	}
}

func cmpQuery(alone, query ast.Body) ast.Body {
	if alone != nil {
		return alone
	}
	return query
}

// evaluation is the outcome of one evaluation.
type evaluation struct {
	value ast.Value // nil where it is undefined
	asked []string
	held  []*watched
	err   error
}

// same is whether two evaluations answer alike.
func (e evaluation) same(other evaluation) bool {
	if (e.err != nil) != (other.err != nil) || (e.value == nil) != (other.value == nil) {
		return false
	}
	return e.value == nil || e.value.Compare(other.value) == 0
}

func (w *world) evaluate(ctx context.Context, txn storage.Transaction, input *ast.Term,
	answers map[string]bool) evaluation {
	w.answers, w.asked, w.exits = answers, nil, nil
	w.parents, w.queries, w.tainted = map[uint64]uint64{}, map[uint64]*watched{}, map[uint64]bool{}
	query := topdown.NewQuery(cmpQuery(w.alone, w.query)).WithCompiler(w.compiler).WithStore(w.store).WithTransaction(txn).
		WithInput(input).WithBuiltins(w.builtins).WithQueryTracer(w).WithEarlyExit(false).WithTime(time.Now()).
		WithStrictBuiltinErrors(false)
	results, err := query.Run(ctx)
	e := evaluation{asked: w.asked, held: w.exits, err: err}
	if err == nil && len(results) > 0 {
		for _, t := range results[0] {
			e.value = t.Value
		}
	}
	return e
}

// maxEvaluations bounds the answers that are tried for one question.
const maxEvaluations = 96

// explore evaluates the question under all answers that matter to it, as far as the
// bound allows, and reports whether it did.
func (w *world) explore(ctx context.Context, txn storage.Transaction, input *ast.Term,
	see func(map[string]bool, evaluation)) bool {
	stack := []map[string]bool{nil}
	for n := 0; len(stack) > 0; n++ {
		if n == maxEvaluations || ctx.Err() != nil {
			return false
		}
		answers := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		e := w.evaluate(ctx, txn, input, answers)
		see(answers, e)
		if len(e.asked) == 0 {
			continue
		}
		for _, answer := range []bool{true, false} {
			more := maps.Clone(answers)
			if more == nil {
				more = map[string]bool{}
			}
			more[e.asked[0]] = answer
			stack = append(stack, more)
		}
	}
	return true
}
