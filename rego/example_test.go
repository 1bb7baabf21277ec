package rego_test

import (
	"context"
	"fmt"
	"log"

	opa "github.com/open-policy-agent/opa/v1/rego"

	"github.com/stagedoor/stagedoor/rego"
)

// A policy and the library are plain Rego: with a whole entity as input.resource, stock
// OPA answers as opa test would.
func Example() {
	options := []func(*opa.Rego){
		opa.Query("data.authz.allow"),
		opa.Module("policy.rego", `package authz

import data.backstage.catalog

allow if {
	catalog.is_entity_owner(input.resource, {"claims": input.identity.claims})
	not catalog.has_label(input.resource, {"label": "frozen"})
}`),
		opa.Input(map[string]any{
			"identity": map[string]any{"claims": []string{"user:default/ann", "group:default/web"}},
			"resource": map[string]any{
				"kind":      "Component",
				"metadata":  map[string]any{"name": "shop", "labels": map[string]any{"tier": "gold"}},
				"relations": []any{map[string]any{"type": "ownedBy", "targetRef": "group:default/web"}},
			},
		}),
	}
	for name, source := range rego.Modules() {
		options = append(options, opa.Module(name, source))
	}
	results, err := opa.New(options...).Eval(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(results.Allowed())
	// Output: true
}
