package soundness

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/adapter/anyone"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

var surveys = flag.Int("surveys", 60, "how many policies to ask which rules change nothing, and what everybody may")

// TestSurvey holds to stock OPA what check says of every caller there can be. Where a permission is anybody's, or
// nobody's, stock OPA allows it to each drawn caller, or to none. Where a rule is said to change nothing, stock OPA
// answers as it does without the rule.
func TestSurvey(t *testing.T) {
	run := surveyRun{leaves: newLeafEvaluator(t)}
	for i := 1; run.policies < *surveys; i++ {
		tr := newCallerTrial(rand.New(rand.NewPCG(*seed, uint64(i))))
		if err := run.check(t.Context(), tr); err != nil {
			t.Fatalf("seed %d, policy %d: %v\n%v", *seed, i, err, tr)
		}
	}
	t.Logf("%d policies, %d rules, %d of them change nothing; %d permissions are anybody's or nobody's; %d trials",
		run.policies, run.rules, run.idle, run.told, run.trials)
	if run.idle*100 < run.rules || run.told == 0 {
		t.Error("too little is told to show anything")
	}
}

type surveyRun struct {
	leaves                              leafEvaluator
	policies, rules, idle, told, trials int
}

func (run *surveyRun) check(ctx context.Context, tr trial) error {
	modules, err := parse(tr.policy.source)
	if err != nil {
		return err
	}
	maps.DeleteFunc(modules, func(_ string, m *ast.Module) bool { // what the policy does not use
		of := m.Package.Path.String()
		return strings.HasPrefix(of, "data.backstage.") && of != "data.backstage.catalog"
	})
	stock, err := newStockPolicy(ctx, modules, tr.world.data)
	if err != nil {
		return nil //nolint:nilerr // a draw that is no policy
	}
	stock.leaves = run.leaves
	var permissions []wire.Permission
	for _, input := range tr.world.inputs {
		if p := permissionOf(input); !slices.Contains(permissions, p) {
			permissions = append(permissions, p)
		}
	}
	surveyor, err := anyone.NewSurveyor(anyone.Options{Modules: modules, Entrypoint: "authz/allow", Store: stock.store}, permissions)
	if err != nil {
		return err
	}
	run.policies++
	survey, err := surveyor.Survey(ctx)
	if err != nil {
		return err
	}
	if err := run.holds(ctx, tr, stock, survey); err != nil {
		return err
	}
	var rules []*ast.Rule
	for _, m := range modules {
		for _, r := range m.Rules {
			if !strings.HasPrefix(m.Package.Path.String(), "data.backstage.") && !r.Default && len(r.Head.Args) == 0 {
				rules = append(rules, r)
			}
		}
	}
	idle, err := surveyor.Idle(ctx, rules, nil)
	if err != nil {
		return err
	}
	run.rules += len(rules)
	for i, rule := range rules {
		if idle[i] {
			run.idle++
			if err := run.without(ctx, tr, stock, modules, rule); err != nil {
				return fmt.Errorf("said to change nothing: %v: %w", rule, err)
			}
		}
	}
	return nil
}

func (run *surveyRun) holds(ctx context.Context, tr trial, stock *stockPolicy, s *anyone.Survey) error {
	run.told += len(s.Anybody) + len(s.SignedIn) + len(s.Nobody)
	for _, input := range tr.world.inputs {
		name, signedIn := permissionOf(input).Name, input["identity"] != nil
		for _, resource := range tr.world.resources {
			run.trials++
			is, _ := stock.decide(ctx, input, resource)
			all := slices.Contains(s.Anybody, name) || signedIn && slices.Contains(s.SignedIn, name)
			if all && is != allow || slices.Contains(s.Nobody, name) && is == allow {
				return fmt.Errorf("%+v, and %s for %s is %v", s, name, compact(input["identity"]), is)
			}
		}
	}
	return nil
}

// without compares a policy with itself without a rule.
func (run *surveyRun) without(
	ctx context.Context, tr trial, stock *stockPolicy, modules map[string]*ast.Module, rule *ast.Rule,
) error {
	changed := map[string]*ast.Module{}
	for name, m := range modules {
		changed[name] = m.Copy()
		for i, r := range m.Rules {
			if r == rule {
				changed[name].Rules[i].Body.Append(ast.NewExpr(ast.BooleanTerm(false)))
			}
		}
	}
	other, err := newStockPolicy(ctx, changed, tr.world.data)
	if err != nil {
		return err
	}
	other.leaves = run.leaves
	for _, input := range tr.world.inputs {
		for _, resource := range tr.world.resources {
			run.trials++
			a, _ := stock.decide(ctx, input, resource)
			b, _ := other.decide(ctx, input, resource)
			if (a == allow) != (b == allow) {
				return fmt.Errorf("%s is %v with it, %v without it, of %s", compact(input), a, b, compact(resource))
			}
		}
	}
	return nil
}
