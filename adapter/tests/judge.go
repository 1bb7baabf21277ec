package tests

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/inventory"
	"github.com/stagedoor/stagedoor/adapter/offline"
	"github.com/stagedoor/stagedoor/adapter/wire"
	"github.com/stagedoor/stagedoor/adapter/words"
)

// judge decides what tests evaluated once more, as production does.
type judge struct {
	policy  *offline.Policy
	inputs  *inputs
	known   map[string]answer // by question
	changed map[string]replaced
}

// replaced is the policy with other data, or why there is none.
type replaced struct {
	policy *offline.Policy
	err    error
}

// answer is what came of one observation.
type answer struct {
	once    bool
	code    string // empty where both agree
	problem string
}

type verdict struct {
	twice, once int
	findings    []Finding
}

func newJudge(p *offline.Policy, known *inventory.Inventory) (*judge, error) {
	in, err := newInputs(known)
	if err != nil {
		return nil, err
	}
	return &judge{policy: p, inputs: in, known: map[string]answer{}, changed: map[string]replaced{}}, nil
}

func (j *judge) close(ctx context.Context) {
	for _, r := range j.changed {
		if r.policy != nil {
			_ = r.policy.Close(ctx) // nothing of it is on disk
		}
	}
}

func (j *judge) judge(ctx context.Context, observed []observation) (verdict, error) {
	var v verdict
	told := map[Finding]bool{}
	for _, o := range observed {
		a, err := j.answer(ctx, o)
		if err != nil {
			return v, err
		}
		switch {
		case a.once:
			v.once++
		case a.code != CodeInput:
			v.twice++
		}
		if f := failure(o.site.at, a.code, a.problem); a.code != "" && !told[f] {
			told[f] = true
			v.findings = append(v.findings, f)
		}
	}
	return v, nil
}

// answer decides one observation, or finds it decided.
func (j *judge) answer(ctx context.Context, o observation) (answer, error) {
	key := o.key()
	if a, ok := j.known[key]; ok {
		return a, nil
	}
	a, err := j.decide(ctx, o)
	if err == nil {
		j.known[key] = a
	}
	return a, err
}

func (o observation) key() string {
	var key strings.Builder
	fmt.Fprintln(&key, o.input, o.site.mocked)
	for i, path := range o.site.replaced {
		fmt.Fprintln(&key, path, o.replaced[i])
	}
	return key.String()
}

func (j *judge) decide(ctx context.Context, o observation) (answer, error) {
	input := map[string]any{}
	if o.input != nil {
		value, err := ast.JSON(o.input)
		if err != nil {
			return answer{}, err
		}
		var ok bool
		if input, ok = value.(map[string]any); !ok {
			return answer{
				code: CodeInput, problem: "the input is no object; Backstage sends one with permission and identity",
			}, nil
		}
	}
	if problem := j.inputs.check(input); problem != "" {
		return answer{code: CodeInput, problem: problem}, nil
	}
	if o.site.mocked != "" {
		return answer{once: true}, nil
	}
	p, path, err := j.policyFor(ctx, o)
	if ctx.Err() != nil {
		return answer{}, context.Cause(ctx)
	}
	if err != nil {
		return answer{once: true}, nil //nolint:nilerr // production has no counterpart of this with
	}
	return j.compare(ctx, p, path, input)
}

// withPackage is the package of the module that decides with other data.
const withPackage = "stagedoor_with"

// policyFor is the policy with the data that the observation's with puts in, and the
// path of the rule that decides.
func (j *judge) policyFor(ctx context.Context, o observation) (*offline.Policy, string, error) {
	if len(o.site.replaced) == 0 {
		return j.policy, j.policy.Entrypoint(), nil
	}
	var key strings.Builder
	for i, path := range o.site.replaced {
		fmt.Fprintln(&key, path, o.replaced[i])
	}
	path := withPackage + "/decision"
	if r, ok := j.changed[key.String()]; ok {
		return r.policy, path, r.err
	}
	var r replaced
	r.policy, r.err = j.policy.With(ctx, map[string]string{withPackage + ".rego": withModule(j.policy, o)}, path)
	j.changed[key.String()] = r
	return r.policy, path, r.err
}

// withModule is a module whose rule decision is the entrypoint with other data. It is
// built as a syntax tree, since the values are a test's.
func withModule(p *offline.Policy, o observation) string {
	entrypoint := ast.Ref{ast.DefaultRootDocument}
	for step := range strings.SplitSeq(p.Entrypoint(), "/") {
		entrypoint = append(entrypoint, ast.StringTerm(step))
	}
	answer := ast.VarTerm("answer") // a boolean or a document
	head := ast.NewHead("decision", nil, answer)
	head.Assign = true
	expr := ast.Assign.Expr(answer, ast.NewTerm(entrypoint))
	for i, path := range o.site.replaced {
		expr.With = append(expr.With, &ast.With{Target: ast.NewTerm(path), Value: ast.NewTerm(o.replaced[i])})
	}
	module := &ast.Module{
		Package: &ast.Package{Path: ast.Ref{ast.DefaultRootDocument, ast.StringTerm(withPackage)}},
		Rules:   []*ast.Rule{{Head: head, Body: ast.NewBody(expr)}},
	}
	return module.String()
}

// compare evaluates as opa test does, decides as production does, and tells where the
// two differ.
func (j *judge) compare(ctx context.Context, p *offline.Policy, path string, input map[string]any) (answer, error) {
	inRego, err := j.inRego(ctx, p, path, input)
	if err != nil {
		return answer{}, err
	}
	inProduction, err := j.inProduction(ctx, p, input)
	if err != nil || inRego.allows == inProduction.allows && inRego.failed == inProduction.failed {
		return answer{}, err
	}
	subject := fmt.Sprintf("%s for %s", nameOf(input), whoIn(input))
	return answer{
		code:    CodeTwice,
		problem: fmt.Sprintf("%s: in Rego, %s; in production, %s", subject, inRego.text, inProduction.text),
	}, nil
}

// side is one of the two answers.
type side struct {
	allows, failed bool
	text           string
}

func (j *judge) inRego(ctx context.Context, p *offline.Policy, path string, input map[string]any) (side, error) {
	value, defined, err := p.Evaluate(ctx, path, input)
	switch {
	case ctx.Err() != nil:
		return side{}, context.Cause(ctx)
	case err != nil:
		return side{failed: true, text: "it fails: " + err.Error()}, nil //nolint:nilerr // failing is its answer
	case !defined:
		return side{text: "DENY (undefined)"}, nil
	}
	answer, _, err := wire.ParseDecision(value)
	if err != nil {
		return side{failed: true, text: err.Error()}, nil //nolint:nilerr // failing is its answer
	}
	return j.applied(ctx, p, answer, input), nil
}

func (j *judge) inProduction(ctx context.Context, p *offline.Policy, input map[string]any) (side, error) {
	outcome, err := p.DecideDocument(ctx, j.inputs.complete(input))
	if err != nil {
		return side{}, err
	}
	if outcome.Err != nil {
		return side{failed: true, text: "it fails: " + cause(outcome.Err)}, nil //nolint:nilerr // failing is its answer
	}
	return j.applied(ctx, p, outcome.Decision, input), nil
}

func cause(err error) string {
	if f, ok := err.(*decision.Failure); ok { //nolint:errorlint // that is what an outcome has
		return f.Cause.Error()
	}
	return err.Error()
}

// applied is what a decision comes to for the input's resource.
func (j *judge) applied(ctx context.Context, p *offline.Policy, d wire.Decision, input map[string]any) side {
	if d.Result != wire.Conditional {
		return side{allows: d.Result == wire.Allow, text: d.Result.String()}
	}
	text := "CONDITIONAL (" + p.Vocabulary().Condition(d.Conditions, callerIn(input)) + ")"
	resource, given := input["resource"]
	if !given {
		return side{failed: true, text: text + ", for which the test has no resource"}
	}
	allows, err := p.Applies(ctx, d, resource)
	switch {
	case err != nil:
		return side{failed: true, text: text + ": " + err.Error()}
	case allows:
		return side{allows: true, text: text + ", so ALLOW for this resource"}
	}
	return side{text: text + ", so DENY for this resource"}
}

func nameOf(input map[string]any) string {
	permission, _ := input["permission"].(map[string]any)
	return fmt.Sprint(permission["name"])
}

func whoIn(input map[string]any) string {
	if who := callerIn(input).User; who != "" {
		return who
	}
	return "nobody who is signed in"
}

func callerIn(input map[string]any) words.Caller {
	identity, _ := input["identity"].(map[string]any)
	var who words.Caller
	who.User, _ = identity["user"].(string)
	claims, _ := identity["claims"].([]any)
	for _, claim := range claims {
		if text, ok := claim.(string); ok {
			who.Claims = append(who.Claims, text)
		}
	}
	return who
}

// text is a value as JSON, for a message.
func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(b)
}
