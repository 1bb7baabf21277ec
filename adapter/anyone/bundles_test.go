package anyone

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/stagedoor/stagedoor/adapter/anyone/evaluation"
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
			if outside := sameDecisions(t, "../../bundles/"+name, ""); outside != nil {
				t.Error(outside)
			}
		})
	}
}

// TestManyRoles does so with bundles/rbac for twenty roles of eight groups each, as an
// installation has them. Some have denials and conditions.
func TestManyRoles(t *testing.T) {
	type object = map[string]any
	permissions, conditions, bindings := object{}, object{}, object{}
	names := []string{"admins", "developers", "contractors", "web", "break-glass", "cleared", "custodians", "maintainers"}
	for n := range 20 {
		role := fmt.Sprintf("role:default/r%d", n)
		lines := object{"catalog-entity": object{"read": "allow"}}
		switch n % 5 {
		case 1:
			lines["catalog.entity.delete"] = object{"delete": "allow"}
		case 2:
			lines["catalog.entity.refresh"] = object{"update": "deny"}
			conditions[role] = object{"catalog-entity": []object{{
				"pluginId": "catalog", "permissionMapping": []string{"delete", "update"},
				"conditions": object{"rule": "IS_ENTITY_OWNER", "resourceType": "catalog-entity", "params": object{"claims": []string{"$ownerRefs"}}},
			}}}
		}
		permissions[role] = lines
		for m := range 8 {
			ref := fmt.Sprintf("group:default/g%d-%d", n, m)
			if m == 0 {
				ref = "group:default/" + names[n%len(names)]
			}
			roles, _ := bindings[ref].([]string)
			bindings[ref] = append(roles, role)
		}
	}
	dir := t.TempDir()
	data, err := json.Marshal(object{
		"rbac": object{"permissions": permissions, "conditions": conditions}, "rbac_members": object{"bindings": bindings},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"policy.rego", ".manifest"} {
		text, err := os.ReadFile(filepath.Join("..", "..", "bundles", "rbac", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "data.json"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	if outside := sameDecisions(t, dir, ""); outside != nil {
		t.Error(outside)
	}
}

// TestServed does so with policies of one kind of answer each, for every permission. Those
// for which there is no formula say why.
func TestServed(t *testing.T) {
	archive, err := txtar.ParseFile("testdata/served.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range archive.Files {
		t.Run(file.Name, func(t *testing.T) {
			dir, text := t.TempDir(), string(file.Data)
			imports := "import data.backstage.catalog\nimport data.backstage.scaffolder\n"
			for name, text := range map[string]string{
				".manifest":   `{"roots": ["authz"]}`,
				"policy.rego": "package authz\n\n" + imports + "\n" + text,
			} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			said := ""
			if outside := sameDecisions(t, dir, "authz/allow"); outside != nil {
				said = outside.Message
			}
			_, want, _ := strings.Cut(text, "# outside: ")
			want, _, _ = strings.Cut(want, "\n")
			if (said == "") != (want == "") || !strings.Contains(said, want) {
				t.Errorf("outside since %q, want %q", said, want)
			}
		})
	}
}

// sameDecisions compares the formulas of a policy with what is served, for every permission.
// It returns what was outside last.
func sameDecisions(t *testing.T, dir, entrypoint string) *evaluation.OutsideError {
	t.Helper()
	served, err := offline.Open(t.Context(), dir, offline.Options{Entrypoint: entrypoint})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = served.Close(context.Background()) })
	policy, err := Open(served)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	var last *evaluation.OutsideError
	for _, listed := range inventory.Stock().Permissions {
		permission := offline.Permission(listed)
		answer, err := policy.May(t.Context(), permission)
		if outside, is := errors.AsType[*evaluation.OutsideError](err); is {
			last = outside
			continue
		}
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
	return last
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
			applicable(outcome.Decision, p) && outcome.Decision.Conditions.Eval(each))
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

// applicable is whether some plugin can apply the conditions of an answer: those of the
// permission's resources.
func applicable(d wire.Decision, p wire.Permission) bool {
	return d.Result == wire.Conditional && p.Resource && (p.ResourceType == "" || d.ResourceType == p.ResourceType)
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
	var params any = map[string]any{} // none are no others than empty ones
	_ = json.Unmarshal([]byte(rule.Params), &params)
	text, _ := json.Marshal(params)
	return ask(criteria.Rule{Name: rule.Name, ResourceType: rule.ResourceType, Params: string(text)})
}
