package soundness

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/adapter/anyone"
	"github.com/stagedoor/stagedoor/adapter/anyone/evaluation"
	"github.com/stagedoor/stagedoor/adapter/anyone/valuation"
	"github.com/stagedoor/stagedoor/adapter/criteria"
	answered "github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// TestAnyone holds the formula about every caller to stock OPA: of a random policy, caller and resource, whether the
// formula holds is whether stock OPA allows.
func TestAnyone(t *testing.T) {
	leaves := newLeafEvaluator(t)
	run := anyoneRun{leaves: leaves, outside: map[string]int{}}
	for i := max(*only, 1); run.trials < *trialsWanted && (*only == 0 || i == *only); i++ {
		r := rand.New(rand.NewPCG(*seed, i))
		tr := newTrial(r)
		if i%3 != 0 {
			tr = newCallerTrial(r)
		}
		if *only != 0 {
			t.Log(tr)
		}
		if err := run.check(t.Context(), tr); err != nil {
			t.Errorf("seed %d, policy %d: %v\n%v", *seed, i, err, tr)
			if *findings--; *findings <= 0 {
				break
			}
		}
	}
	t.Logf("seed %d: %d policies, %d of them outside; %d trials, %d of them allowed", *seed, run.policies, run.left, run.trials, run.allowed)
	for _, why := range slices.SortedFunc(maps.Keys(run.outside), func(a, b string) int { return run.outside[b] - run.outside[a] }) {
		t.Logf("outside %5d: %s", run.outside[why], why)
	}
}

type anyoneRun struct {
	leaves                          leafEvaluator
	policies, left, trials, allowed int
	outside                         map[string]int
	why                             string // the last policy is outside; empty where it is not
}

// callerOf reads the identity of an input.
func callerOf(input map[string]any) answered.Caller {
	identity, ok := input["identity"].(map[string]any)
	if !ok {
		return answered.Caller{Anonymous: true}
	}
	c := answered.Caller{User: identity["user"].(string)}
	c.Actor, _ = identity["actor"].(string)
	switch claims := identity["claims"].(type) {
	case []string:
		c.Claims = claims
	case []any:
		for _, claim := range claims {
			c.Claims = append(c.Claims, claim.(string))
		}
	}
	return c
}

func permissionOf(input map[string]any) wire.Permission {
	p := input["permission"].(map[string]any)
	asked := wire.Permission{Name: p["name"].(string), Resource: p["type"] == "resource"}
	asked.ResourceType, _ = p["resourceType"].(string)
	if attributes, ok := p["attributes"].(map[string]any); ok {
		asked.Action, _ = attributes["action"].(string)
	}
	return asked
}

func (run *anyoneRun) check(ctx context.Context, tr trial) error {
	if tr.policy.hidden || tr.policy.foreign {
		return nil
	}
	modules, err := parse(tr.policy.source)
	if err != nil {
		return err
	}
	maps.DeleteFunc(modules, func(name string, m *ast.Module) bool { // what the policy does not use
		of := m.Package.Path.String()
		return strings.HasPrefix(of, "data.backstage.") && of != "data.backstage."+tr.policy.plugin.module
	})
	stock, err := newStockPolicy(ctx, modules, tr.world.data)
	if err != nil {
		return nil //nolint:nilerr // a draw that is no policy
	}
	stock.leaves = run.leaves
	policy, err := anyone.Compile(anyone.Options{Modules: modules, Entrypoint: "authz/allow", Store: stock.store})
	if err != nil {
		return err
	}
	run.policies++
	answers := map[string]*anyone.Answer{}
	out := false
	for _, input := range tr.world.inputs {
		permission := permissionOf(input)
		answer, ok := answers[permission.Name]
		if !ok {
			answer, err = policy.May(ctx, permission)
			if outside, is := errors.AsType[*evaluation.OutsideError](err); is {
				run.outside[reason(outside.Message)]++
				run.why = outside.Message
				if *only != 0 {
					fmt.Println(outside)
				}
				out = true
				continue
			}
			if err != nil {
				return err
			}
			answers[permission.Name] = answer
		}
		for _, resource := range tr.world.resources {
			run.trials++
			said, err := answer.Holds(callerOf(input), run.ask(ctx, resource))
			if err != nil {
				return fmt.Errorf("caller %s, resource %s: %w", compact(input["identity"]), compact(resource), err)
			}
			is, failure := stock.decide(ctx, input, resource)
			if said {
				run.allowed++
			}
			if said != (is == allow) {
				return fmt.Errorf("%s for %s: formula %v, stock OPA %v (%w), of %s", permission.Name, compact(input["identity"]), said, is, failure, compact(resource))
			}
		}
	}
	if out {
		run.left++
	}
	return nil
}

func (run *anyoneRun) ask(ctx context.Context, resource any) valuation.Asker {
	term := ast.NewTerm(ast.MustInterfaceToValue(resource))
	return func(rule criteria.Rule) (bool, error) { return run.leaves.holds(ctx, rule, term) }
}

// reason is a message without what is the policy's own in it.
func reason(message string) string {
	if i := strings.Index(message, ":"); i > 0 {
		message = message[:i]
	}
	return message
}
