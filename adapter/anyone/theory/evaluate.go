package theory

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/topdown/builtins"
)

// Evaluate is what a deterministic builtin makes of operands, or nil.
func Evaluate(name string, args []*ast.Term) (v *ast.Term, err error) {
	err = Run(context.Background(), time.Time{}, name, args, func(t *ast.Term) { v = t })
	return v, err
}

var capabilities = sync.OnceValue(func() *ast.Capabilities { return ast.CapabilitiesForThisVersion() })

// Run calls a builtin, and found for each of its values.
func Run(ctx context.Context, now time.Time, name string, args []*ast.Term, found func(*ast.Term)) error {
	f := topdown.GetBuiltin(name)
	if f == nil {
		return fmt.Errorf("%s is no function that stagedoor knows", name)
	}
	return f(topdown.BuiltinContext{
		Context: ctx, Metrics: metrics.NoOp(), Cancel: topdown.NewCancel(), Cache: builtins.Cache{},
		Time: ast.NumberTerm(json.Number(strconv.FormatInt(now.UnixNano(), 10))), Capabilities: capabilities(),
	}, args, func(t *ast.Term) error {
		found(t)
		return nil
	})
}
