package engine

import (
	"cmp"
	"context"
	"fmt"
	"maps"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/flight"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// DecideDocument answers an input document that a caller made itself, as OPA's
// data API takes them: for the policy module of a stock permission backend that
// expects an OPA server. A member resource is ignored, since a decision is made
// before the resource is known. Nothing is remembered.
//
// The Batch has one outcome, whose error it is where the policy fails; beside it
// is the permission as far as the document says. The error is why no policy serves,
// the context's, or that of an input that is none.
func (e *Engine) DecideDocument(ctx context.Context, document map[string]any) (decision.Batch, wire.Permission, error) {
	p := statedPermission(document)
	s, err := e.serving()
	if err := cmp.Or(err, ctx.Err()); err != nil {
		return decision.Batch{}, p, err
	}
	members := maps.Clone(document)
	delete(members, "resource")
	value, err := ast.InterfaceToValue(members)
	if err != nil {
		return decision.Batch{}, p, fmt.Errorf("input: %w", err)
	}
	input, ok := value.(ast.Object)
	if !ok {
		input = ast.NewObject()
	}
	f, flying := flight.New[made](ctx)
	go e.fly(flying, f, s, world{now: e.options.Now()}, p, input)
	select {
	case <-f.Done():
	case <-ctx.Done():
		f.Cancel()
		return decision.Batch{}, p, ctx.Err()
	}
	return decision.Batch{
		Outcomes: []*decision.Outcome{&f.Value().Outcome}, Input: input,
		Revision: s.Revision, Revisions: s.Revisions, Entrypoint: s.Entrypoint,
	}, p, nil
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
