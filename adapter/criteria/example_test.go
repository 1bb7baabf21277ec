package criteria_test

import (
	"encoding/json"
	"fmt"

	"github.com/stagedoor/stagedoor/adapter/criteria"
)

// owner and label are the functions of two rules of the catalog.
func owner(s *criteria.Space, claims ...any) criteria.Function {
	f, err := s.Rule("IS_ENTITY_OWNER", "catalog-entity", map[string]any{"claims": claims}, "claims")
	if err != nil {
		panic(err)
	}
	return f
}

func label(s *criteria.Space, name string) criteria.Function {
	f, err := s.Rule("HAS_LABEL", "catalog-entity", map[string]any{"label": name}, "")
	if err != nil {
		panic(err)
	}
	return f
}

func Example() {
	var decoded any
	_ = json.Unmarshal([]byte(`{"allOf": [
		{"rule": "HAS_LABEL", "resourceType": "catalog-entity", "params": {"label": "open"}},
		{"anyOf": []}]}`), &decoded)
	c, err := criteria.Parse(decoded)
	if err != nil {
		panic(err)
	}
	fmt.Println(c.Normalise().Op == criteria.Never)
	// Output: true
}

func ExampleSpace_Minimise() {
	s := criteria.NewSpace()
	ann, web := owner(s, "user:default/ann"), owner(s, "group:default/web")
	frozen := label(s, "frozen")
	// Whoever owns an entity, by name or by group, while it is not frozen.
	f := s.Any(s.All(ann, frozen.Not()), s.All(web, frozen.Not()))
	c, err := s.Minimise(f)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(c.AppendJSON(nil)))
	// Output: {"allOf":[{"rule":"IS_ENTITY_OWNER","resourceType":"catalog-entity","params":{"claims":["group:default/web","user:default/ann"]}},{"not":{"rule":"HAS_LABEL","resourceType":"catalog-entity","params":{"label":"frozen"}}}]}
}

// What a change of a policy gains and loses is the difference of two conditions, one
// way and the other.
func ExampleSpace_Difference() {
	s := criteria.NewSpace()
	before := s.All(owner(s, "group:default/web"), label(s, "frozen").Not())
	after := owner(s, "group:default/web")
	gained, err := s.Difference(after, before)
	if err != nil {
		panic(err)
	}
	lost, err := s.Difference(before, after)
	if err != nil {
		panic(err)
	}
	for rule := range gained.Rules() {
		fmt.Println("gained:", rule.Name, rule.Params)
	}
	fmt.Println("anything lost:", lost.Op != criteria.Never)
	// Output:
	// gained: HAS_LABEL {"label":"frozen"}
	// gained: IS_ENTITY_OWNER {"claims":["group:default/web"]}
	// anything lost: false
}

// A label with a value is not there without the label.
func ExampleSpace_Assume() {
	s := criteria.NewSpace()
	tier, err := s.Rule("HAS_LABEL", "catalog-entity", map[string]any{"label": "tier", "value": "1"}, "")
	if err != nil {
		panic(err)
	}
	is, _ := s.Implies(tier, label(s, "tier"))
	fmt.Println(is)
	s.Assume(s.Any(tier.Not(), label(s, "tier")))
	is, _ = s.Implies(tier, label(s, "tier"))
	fmt.Println(is)
	// Output:
	// false
	// true
}
