package soundness

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/stagedoor/stagedoor/adapter/criteria"
	library "github.com/stagedoor/stagedoor/rego"
)

// parsedLibrary is the rule library as opa test loads it.
var parsedLibrary = sync.OnceValue(func() map[string]*ast.Module {
	modules := map[string]*ast.Module{}
	for path, source := range library.Modules() {
		modules[path] = ast.MustParseModuleWithOpts(source, ast.ParserOptions{ProcessAnnotation: true})
	}
	return modules
})

// parse returns the library and the modules of the policy.
func parse(source string) (map[string]*ast.Module, error) {
	modules := map[string]*ast.Module{}
	for i, text := range strings.Split("\n"+source, "\npackage ")[1:] {
		name := fmt.Sprintf("policy_%d.rego", i)
		m, err := ast.ParseModuleWithOpts(name, "package "+text, ast.ParserOptions{ProcessAnnotation: true})
		if err != nil {
			return nil, err
		}
		modules[name] = m
	}
	for path, module := range parsedLibrary() {
		modules[path] = module
	}
	return modules, nil
}

// An answer is what a side says about one resource.
type answer int

const (
	deny answer = iota
	allow
	failed // two values for one rule, or a builtin that fails
)

func (a answer) String() string { return [...]string{"DENY", "ALLOW", "an error"}[a] }

// A stockPolicy is the policy in stock OPA over the library's own bodies.
type stockPolicy struct {
	query   rego.PreparedEvalQuery
	store   storage.Store
	foreign bool          // whether it has a rule of another plugin
	leaves  leafEvaluator // for the conditions of documents
}

func newStockPolicy(ctx context.Context, modules map[string]*ast.Module, data map[string]any) (*stockPolicy, error) {
	compiler := ast.NewCompiler()
	if compiler.Compile(modules); compiler.Failed() {
		return nil, compiler.Errors
	}
	store := inmem.NewFromObject(data)
	query, err := rego.New(
		rego.Query("data.authz.allow"),
		rego.Compiler(compiler),
		rego.Store(store),
		rego.StrictBuiltinErrors(true),
	).PrepareForEval(ctx)
	return &stockPolicy{query: query, store: store}, err
}

// decide returns the answer for one resource, and the error where it is failed. Of a rule of another plugin every answer
// is tried: allowed is only what all of them allow.
func (p *stockPolicy) decide(ctx context.Context, input map[string]any, resource any) (answer, error) {
	if !p.foreign {
		return p.evaluate(ctx, withResource(input, resource))
	}
	count := map[answer]int{}
	var failure error
	for holds := range 1 << len(foreignTags) {
		var of []any
		for i, tag := range foreignTags {
			if holds>>i&1 == 1 {
				of = append(of, tag)
			}
		}
		members := maps.Clone(resource.(map[string]any))
		members["foreign"] = of
		a, err := p.evaluate(ctx, withResource(input, members))
		if count[a]++; err != nil {
			failure = err
		}
	}
	for _, a := range []answer{allow, failed} {
		if count[a] == 1<<len(foreignTags) {
			return a, failure
		}
	}
	return deny, nil
}

// evaluate returns the answer for one input.
func (p *stockPolicy) evaluate(ctx context.Context, input ast.Value) (answer, error) {
	results, err := p.query.Eval(ctx, rego.EvalParsedInput(input))
	if err != nil {
		if _, ok := errors.AsType[*topdown.Error](err); !ok {
			return failed, fmt.Errorf("evaluate: %w", err)
		}
		return failed, err
	}
	if len(results) == 0 {
		return deny, nil
	}
	switch value := results[0].Expressions[0].Value.(type) {
	case bool:
		if value {
			return allow, nil
		}
		return deny, nil
	case map[string]any:
		return p.document(ctx, value, input)
	default:
		return failed, fmt.Errorf("allow is %v", value)
	}
}

// document returns what a document says of the resource.
func (p *stockPolicy) document(ctx context.Context, document map[string]any, input ast.Value) (answer, error) {
	switch document["result"] {
	case "ALLOW":
		return allow, nil
	case "DENY":
		return deny, nil
	case "CONDITIONAL":
		conditions, err := criteria.Parse(document["conditions"])
		if err != nil {
			return failed, err
		}
		resource, err := input.Find(ast.MustParseRef("input.resource")[1:])
		if err != nil {
			return failed, err
		}
		holds := conditions.Eval(func(rule criteria.Rule) bool {
			holds, leafErr := p.leaves.holds(ctx, rule, ast.NewTerm(resource))
			err = errors.Join(err, leafErr)
			return holds
		})
		if err != nil || !holds {
			return deny, err
		}
		return allow, nil
	}
	return failed, fmt.Errorf("result is %v", document["result"])
}

// withResource returns the input as opa test has it.
func withResource(input map[string]any, resource any) ast.Value {
	whole := map[string]any{"resource": resource}
	for name, member := range input {
		whole[name] = member
	}
	return ast.MustInterfaceToValue(whole)
}

// A leafEvaluator answers rules by the library's own bodies: a query for each rule name and resource type.
type leafEvaluator map[[2]string]rego.PreparedEvalQuery

func newLeafEvaluator(t testing.TB) leafEvaluator {
	compiler := ast.NewCompiler()
	if compiler.Compile(parsedLibrary()); compiler.Failed() {
		t.Fatal(compiler.Errors)
	}
	e := leafEvaluator{}
	for _, ref := range compiler.GetAnnotationSet().Flatten() {
		rule, ok := ref.Annotations.Custom["backstage"].(map[string]any)
		if !ok {
			continue
		}
		query, err := rego.New(
			rego.Query(ref.Path.String()+"(input.resource, input.params)"),
			rego.Compiler(compiler),
			rego.Store(inmem.New()), // without one OPA asks for that of an activator's, of which stagedoor's has none
		).PrepareForEval(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		e[[2]string{rule["rule"].(string), rule["resourceType"].(string)}] = query
	}
	return e
}

// holds answers the rule for the resource.
func (e leafEvaluator) holds(ctx context.Context, rule criteria.Rule, resource *ast.Term) (bool, error) {
	query, ok := e[[2]string{rule.Name, rule.ResourceType}]
	if !ok {
		return false, fmt.Errorf("no rule %s of %s in the library", rule.Name, rule.ResourceType)
	}
	var params any
	if err := json.Unmarshal([]byte(rule.Params), &params); err != nil {
		return false, err
	}
	input := ast.NewObject(
		[2]*ast.Term{ast.InternedTerm("resource"), resource},
		[2]*ast.Term{ast.InternedTerm("params"), ast.NewTerm(ast.MustInterfaceToValue(params))},
	)
	results, err := query.Eval(ctx, rego.EvalParsedInput(input))
	return results.Allowed(), err
}
