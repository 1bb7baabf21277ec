// Package provenance finds the rules of a policy that a decision comes from, by file and
// line.
package provenance

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/types"

	"github.com/stagedoor/stagedoor/adapter/criteria"
	"github.com/stagedoor/stagedoor/adapter/explore"
	"github.com/stagedoor/stagedoor/adapter/offline"
	"github.com/stagedoor/stagedoor/adapter/words"
)

// mostRules is how many rules a change names.
const mostRules = 6

// A Tracer finds the rules of a policy that hold where a decision changes. It evaluates
// the policy by stock evaluation, with every permission rule answered as the witness of
// the change says. It is safe for concurrent use.
type Tracer struct {
	compiler *ast.Compiler
	store    storage.Store
	query    string
	rules    map[words.Rule]*explore.PermissionRule
}

// answerBuiltin is what the bodies of permission rules are replaced by. No policy can
// call it: it is known to the tracer's own compiler alone.
const answerBuiltin = "stagedoor.answer"

var answerType = types.NewFunction(types.Args(types.S, types.S, types.A), types.B)

// NewTracer returns a Tracer of a policy. The error is that of compiling it.
func NewTracer(p *offline.Policy) (*Tracer, error) {
	t := &Tracer{store: p.Data(), rules: make(map[words.Rule]*explore.PermissionRule)}
	byPath := make(map[string]*explore.PermissionRule)
	for _, r := range p.Rules() {
		t.rules[words.Rule{Name: r.Name, ResourceType: r.ResourceType}] = r
		byPath[r.Function.String()] = r
	}
	modules := make(map[string]*ast.Module)
	for _, of := range []map[string]*ast.Module{offline.Library(), p.Modules()} {
		for name, m := range of {
			modules[name] = answered(m.Copy(), byPath)
		}
	}
	t.compiler = ast.NewCompiler().WithCapabilities(p.Capabilities(&ast.Builtin{Name: answerBuiltin, Decl: answerType}))
	if t.compiler.Compile(modules); t.compiler.Failed() {
		return nil, t.compiler.Errors
	}
	ref := ast.Ref{ast.DefaultRootDocument}
	for step := range strings.SplitSeq(p.Entrypoint(), "/") {
		ref = append(ref, ast.StringTerm(step))
	}
	t.query = ref.String()
	return t, nil
}

// answered is a module whose permission rules have the one body that asks for the
// answer.
func answered(m *ast.Module, rules map[string]*explore.PermissionRule) *ast.Module {
	replaced := make(map[string]bool)
	m.Rules = slices.DeleteFunc(m.Rules, func(r *ast.Rule) bool {
		path := r.Ref().String()
		rule, ok := rules[path]
		if !ok {
			return false
		}
		if replaced[path] {
			return true
		}
		replaced[path] = true
		resource, params := ast.VarTerm("resource"), ast.VarTerm("params")
		r.Head.Args = ast.Args{resource, params}
		r.Head.Value = ast.BooleanTerm(true)
		name := ast.MustParseRef(answerBuiltin)
		ask := ast.NewExpr([]*ast.Term{
			ast.NewTerm(name), ast.StringTerm(rule.Name), ast.StringTerm(rule.ResourceType), params,
		})
		ask.Location = r.Location
		r.Body, r.Else, r.Default = ast.NewBody(ask), nil, false
		return false
	})
	return m
}

// held is a rule that held, by its text and its place, and whether it is one of the
// entrypoint's own.
type held struct {
	text, at string
	entry    bool
}

// rulesHeld are the rules of the policy that hold under answers to permission rules.
func (t *Tracer) rulesHeld(ctx context.Context, q offline.Question, answers map[criteria.Rule]bool) []held {
	input := q.Input()
	if q.Permission.Resource {
		input["resource"] = map[string]any{}
	}
	tracer := &exits{entry: t.query}
	_, err := rego.New(
		rego.Compiler(t.compiler), rego.Store(t.store), rego.Query(t.query), rego.Input(input), rego.QueryTracer(tracer),
		rego.Function3(&rego.Function{Name: answerBuiltin, Decl: answerType},
			func(_ rego.BuiltinContext, name, resourceType, params *ast.Term) (*ast.Term, error) {
				return ast.BooleanTerm(t.answer(answers, name, resourceType, params)), nil
			}),
	).Eval(ctx)
	if err != nil && len(tracer.held) == 0 {
		return nil
	}
	return tracer.held
}

// answer is what the witness says of a rule.
func (t *Tracer) answer(witness map[criteria.Rule]bool, name, resourceType, params *ast.Term) bool {
	n, _ := name.Value.(ast.String)
	of, _ := resourceType.Value.(ast.String)
	key := words.Rule{Name: string(n), ResourceType: string(of)}
	asked, err := ast.JSON(params.Value)
	if err != nil {
		return false
	}
	for rule, holds := range witness {
		if holds && rule.Name == key.Name && rule.ResourceType == key.ResourceType && t.covers(key, rule.Params, asked) {
			return true
		}
	}
	return false
}

// covers is whether a rule holds where it does with other params: they are equal, or
// their lists that mean "any of" have an element in common.
func (t *Tracer) covers(key words.Rule, known string, asked any) bool {
	have, ok := criteria.Rule{Params: known}.Decoded().(map[string]any)
	want, isObject := asked.(map[string]any)
	if !ok || !isObject {
		return known == "" && !isObject
	}
	name := ""
	if r := t.rules[key]; r != nil {
		name = r.AnyOf
	}
	a, isList := have[name].([]any)
	b, alsoList := want[name].([]any)
	if name == "" || !isList || !alsoList {
		return reflect.DeepEqual(have, want)
	}
	have, want = maps.Clone(have), maps.Clone(want)
	delete(have, name)
	delete(want, name)
	return reflect.DeepEqual(have, want) && slices.ContainsFunc(a, func(x any) bool {
		return slices.ContainsFunc(b, func(y any) bool { return reflect.DeepEqual(x, y) })
	})
}

// exits notes the rules that held.
type exits struct {
	entry string
	held  []held
}

// Enabled is that of [topdown.QueryTracer].
func (*exits) Enabled() bool { return true }

// Config is that of [topdown.QueryTracer].
func (*exits) Config() topdown.TraceConfig { return topdown.TraceConfig{} }

// TraceEvent is that of [topdown.QueryTracer].
func (e *exits) TraceEvent(event topdown.Event) {
	rule, ok := event.Node.(*ast.Rule)
	if event.Op != topdown.ExitOp || !ok || rule.Default || rule.Location == nil ||
		strings.HasPrefix(rule.Location.File, offline.LibraryPrefix) {
		return
	}
	h := held{rule.String(), fmt.Sprintf("%s:%d", rule.Location.File, rule.Location.Row),
		rule.Ref().GroundPrefix().String() == e.entry}
	if !slices.Contains(e.held, h) {
		e.held = append(e.held, h)
	}
}

// Decided names the rules that decide where a decision changes, each by file and line:
// those that hold by one of the policies and not by the other, and where there are none,
// the entrypoint's own rules that hold by both. Of one policy alone they are the
// entrypoint's own. The answers are those of a witness to permission rules.
func Decided(
	ctx context.Context, before, after *Tracer, q offline.Question, answers map[criteria.Rule]bool,
) []string {
	var sides [2][]held
	for i, t := range []*Tracer{before, after} {
		if t != nil {
			sides[i] = t.rulesHeld(ctx, q, answers)
		}
	}
	var at []string
	for i, side := range sides {
		for _, h := range side {
			if !slices.ContainsFunc(sides[1-i], func(other held) bool { return other.text == h.text }) {
				at = append(at, h.at)
			}
		}
	}
	if len(at) == 0 || before == nil {
		at = nil
		for _, side := range sides {
			for _, h := range side {
				if h.entry {
					at = append(at, h.at)
				}
			}
		}
	}
	slices.Sort(at)
	at = slices.Compact(at)
	return at[:min(len(at), mostRules)]
}
