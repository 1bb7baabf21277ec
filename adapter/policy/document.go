package policy

import (
	"context"
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/adapter/wire"
)

// DecideDocument answers an input document that a caller made itself, as OPA's
// data API takes them: for the policy module of a stock permission backend that
// expects an OPA server. A member resource is ignored, since a decision is made
// before the resource is known. Nothing is remembered.
//
// The error is [ErrNoPolicy], [ErrStale], a [*Failure], or that of an input that
// is no object.
func (e *Engine) DecideDocument(ctx context.Context, document map[string]any) (Outcome, error) {
	s := e.state.Load()
	if s == nil {
		return Outcome{}, ErrNoPolicy
	}
	if err := e.fresh(s); err != nil {
		return Outcome{}, err
	}
	if err := ctx.Err(); err != nil {
		return Outcome{}, err
	}
	members := make(map[string]any, len(document))
	for name, value := range document {
		if name != "resource" {
			members[name] = value
		}
	}
	value, err := ast.InterfaceToValue(members)
	if err != nil {
		return Outcome{}, fmt.Errorf("input: %w", err)
	}
	input, _ := value.(ast.Object)
	outcome := e.decide(ctx, s, &world{now: e.now()}, statedPermission(document), input)
	return outcome, outcome.Err
}

// statedPermission is the permission of an input document as far as it says. The
// wrapper module's says the name alone, which leaves open what kind it is of.
func statedPermission(document map[string]any) wire.Permission {
	permission, _ := document["permission"].(map[string]any)
	p := wire.Permission{Resource: permission["type"] != "basic"}
	p.Name, _ = permission["name"].(string)
	p.ResourceType, _ = permission["resourceType"].(string)
	return p
}
