package anyone

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stagedoor/stagedoor/adapter/criteria"
	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/inventory"
	"github.com/stagedoor/stagedoor/adapter/offline"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// TestBundles holds the formula of every ready bundle and permission to what the engine
// that serves decides, for callers who are in none, some or all of its groups.
func TestBundles(t *testing.T) {
	for _, name := range []string{"default", "ownership", "regulated", "wrapper", "rbac"} {
		t.Run(name, func(t *testing.T) {
			served, err := offline.Open(t.Context(), "../../bundles/"+name, offline.Options{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = served.Close(context.Background()) })
			modules := offline.Library()
			for n, m := range served.Modules() {
				modules[n] = m
			}
			policy, err := Compile(Options{Modules: modules, Entrypoint: served.Entrypoint(), Store: served.Data()})
			if err != nil {
				t.Fatal(err)
			}
			r := rand.New(rand.NewPCG(1, 2))
			for _, listed := range inventory.Stock().Permissions {
				permission := offline.Permission(listed)
				answer, err := policy.May(t.Context(), permission)
				if err != nil {
					t.Errorf("%s: %v", listed.Name, err)
					continue
				}
				for range 6 {
					c := someCaller(r)
					if err := sameDecision(t.Context(), r, served, answer, c, permission); err != nil {
						t.Errorf("%s for %v: %v", listed.Name, c, err)
					}
				}
			}
		})
	}
}

func someCaller(r *rand.Rand) decision.Caller {
	if r.IntN(10) == 0 {
		return decision.Caller{Anonymous: true}
	}
	c := decision.Caller{User: []string{"user:default/ann", "user:default/bob", "User:default/Ann"}[r.IntN(3)]}
	for _, group := range []string{"admins", "developers", "contractors", "web", "break-glass", "cleared", "custodians", "maintainers", "others"} {
		if r.IntN(3) == 0 {
			c.Claims = append(c.Claims, "group:default/"+group)
		}
	}
	if r.IntN(5) > 0 {
		c.Claims = append(c.Claims, c.User)
	}
	if r.IntN(5) == 0 {
		c.Actor = "plugin:catalog"
	}
	return c
}

// sameDecision compares an answer with what is served, under random answers to rules.
func sameDecision(
	ctx context.Context, r *rand.Rand, served *offline.Policy, answer *Answer, c decision.Caller, p wire.Permission,
) error {
	outcome, err := served.Decide(ctx, c, p)
	if err != nil {
		return err
	}
	for range 8 {
		seed := r.Uint64()
		ask := func(rule criteria.Rule) bool { // of one rule always the same
			h := seed
			for _, b := range []byte(rule.Name + rule.Params) {
				h = h*31 + uint64(b)
			}
			return h>>7&1 == 1
		}
		// A list means "any of": it is asked element by element.
		each := func(rule criteria.Rule) bool { return anyElement(served, rule, ask) }
		served := outcome.Err == nil && (outcome.Decision.Result == wire.Allow ||
			outcome.Decision.Result == wire.Conditional && outcome.Decision.Conditions.Eval(each))
		holds, err := answer.Holds(c, func(rule criteria.Rule) (bool, error) { return each(rule), nil })
		if err != nil {
			return err
		}
		if holds != served {
			return fmt.Errorf("the formula says %v, what serves %v %s", holds, outcome.Decision.Text(), fmt.Sprint(outcome.Err))
		}
	}
	return nil
}

func anyElement(p *offline.Policy, rule criteria.Rule, ask func(criteria.Rule) bool) bool {
	space := criteria.NewSpace()
	for _, known := range p.Rules() {
		if known.Name != rule.Name || known.ResourceType != rule.ResourceType {
			continue
		}
		f, err := space.Read(criteria.Criteria{Op: criteria.Leaf, Rule: rule}, func(criteria.Rule) string { return known.AnyOf })
		if err != nil || f == criteria.Denied {
			return false
		}
		var params map[string]any
		if json.Unmarshal([]byte(rule.Params), &params) != nil {
			return ask(rule)
		}
		list, ok := params[known.AnyOf].([]any)
		if !ok {
			break
		}
		for _, element := range list {
			params[known.AnyOf] = []any{element}
			text, _ := json.Marshal(params)
			if ask(criteria.Rule{Name: rule.Name, ResourceType: rule.ResourceType, Params: string(text)}) {
				return true
			}
		}
		return false
	}
	var params any
	_ = json.Unmarshal([]byte(rule.Params), &params)
	text, _ := json.Marshal(params)
	return ask(criteria.Rule{Name: rule.Name, ResourceType: rule.ResourceType, Params: string(text)})
}
