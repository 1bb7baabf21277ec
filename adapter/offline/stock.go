package offline

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage"

	"github.com/stagedoor/stagedoor/adapter/criteria"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// stock is the policy as stock OPA evaluates it, the rules by their bodies.
type stock struct {
	compiler *ast.Compiler
	store    storage.Store

	mu      sync.Mutex
	queries map[string]rego.PreparedEvalQuery
}

func (p *Policy) openStock() (*stock, error) {
	modules := p.withLibrary()
	for name, module := range modules {
		modules[name] = module.Copy()
	}
	compiler := ast.NewCompiler().WithCapabilities(p.Capabilities())
	if compiler.Compile(modules); compiler.Failed() {
		return nil, compiler.Errors
	}
	return &stock{compiler: compiler, store: p.Data(), queries: map[string]rego.PreparedEvalQuery{}}, nil
}

// Data is a store with the bundle's data, to read.
func (p *Policy) Data() storage.Store {
	store, _ := p.state.Data()
	return store
}

// Document is the bundle's data as encoding/json decodes it. The error is that of the store.
func (p *Policy) Document(ctx context.Context) (any, error) {
	data, err := storage.ReadOne(ctx, p.Data(), storage.RootPath)
	if err != nil {
		return nil, err
	}
	if value, ok := data.(ast.Value); ok {
		return ast.JSON(value)
	}
	return data, nil
}

// Evaluate is what stock OPA answers at a path such as backstage/authz/allow, given
// an input with the whole resource. It is defined where there is an answer. As in opa
// test, a builtin that fails is undefined.
func (p *Policy) Evaluate(ctx context.Context, path string, input any) (value any, defined bool, err error) {
	s, err := p.stock()
	if err != nil {
		return nil, false, err
	}
	ref := ast.Ref{ast.DefaultRootDocument}
	for step := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		ref = append(ref, ast.StringTerm(step))
	}
	return s.evaluate(ctx, ref.String(), input, false)
}

func (s *stock) evaluate(ctx context.Context, query string, input any, strict bool) (any, bool, error) {
	prepared, err := s.prepare(ctx, query, strict)
	if err != nil {
		return nil, false, err
	}
	results, err := prepared.Eval(ctx, rego.EvalInput(input))
	if err != nil || len(results) == 0 {
		return nil, false, err
	}
	return results[0].Expressions[0].Value, true, nil
}

func (s *stock) prepare(ctx context.Context, query string, strict bool) (rego.PreparedEvalQuery, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := fmt.Sprint(strict, query)
	if prepared, ok := s.queries[key]; ok {
		return prepared, nil
	}
	prepared, err := rego.New(rego.Compiler(s.compiler), rego.Store(s.store), rego.Query(query),
		rego.StrictBuiltinErrors(strict)).PrepareForEval(ctx)
	if err == nil {
		s.queries[key] = prepared
	}
	return prepared, err
}

// Applies is whether a decision allows for a resource, by the bodies of its rules.
// The error names a rule that the policy does not know, or is that of a body.
func (p *Policy) Applies(ctx context.Context, d wire.Decision, resource any) (bool, error) {
	if d.Result != wire.Conditional {
		return d.Result == wire.Allow, nil
	}
	return p.Holds(ctx, d.Conditions, resource)
}

// Holds is whether a condition holds for a resource, by the bodies of its rules.
// The error is as that of [Policy.Applies].
func (p *Policy) Holds(ctx context.Context, c criteria.Criteria, resource any) (bool, error) {
	var failed error
	holds := c.Eval(func(r criteria.Rule) bool {
		answer, err := p.RuleHolds(ctx, r, resource)
		if err != nil && failed == nil {
			failed = err
		}
		return answer
	})
	return holds && failed == nil, failed
}

// RuleHolds is whether a rule of a condition holds for a resource, by its body.
func (p *Policy) RuleHolds(ctx context.Context, r criteria.Rule, resource any) (bool, error) {
	s, err := p.stock()
	if err != nil {
		return false, err
	}
	for _, rule := range p.rules {
		if rule.Name != r.Name || rule.ResourceType != r.ResourceType {
			continue
		}
		params := map[string]any{}
		if r.Params != "" {
			decoder := json.NewDecoder(strings.NewReader(r.Params))
			decoder.UseNumber()
			if err := decoder.Decode(&params); err != nil {
				return false, err
			}
		}
		query := rule.Function.String() + "(input.resource, input.params)"
		value, defined, err := s.evaluate(ctx, query, map[string]any{"resource": resource, "params": params}, true)
		return defined && value == true, err
	}
	return false, fmt.Errorf("there is no Rego function for the rule %s of %s, so it cannot be applied here",
		r.Name, r.ResourceType)
}
