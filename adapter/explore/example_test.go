package explore_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"

	"github.com/stagedoor/stagedoor/adapter/explore"
	"github.com/stagedoor/stagedoor/rego"
)

// modules are a policy and the rule library, parsed with their annotations.
func modules(policy string) map[string]*ast.Module {
	parsed := make(map[string]*ast.Module)
	sources := rego.Modules()
	sources["policy.rego"] = policy
	for name, source := range sources {
		m, err := ast.ParseModuleWithOpts(name, source, ast.ParserOptions{ProcessAnnotation: true})
		if err != nil {
			log.Fatal(err)
		}
		parsed[name] = m
	}
	return parsed
}

// decide asks about deleting catalog entities.
func decide(p *explore.Policy) explore.Result {
	ctx := context.Background()
	store := inmem.New()
	txn := storage.NewTransactionOrDie(ctx, store)
	result, err := p.Decide(ctx, explore.Query{
		Store: store, Txn: txn, ResourceType: "catalog-entity", Time: time.Now(),
		Input: ast.MustParseTerm(`{
			"permission": {"name": "catalog.entity.delete", "attributes": {"action": "delete"}},
			"identity": {"user": "user:default/ann", "claims": ["user:default/ann"]}}`).Value.(ast.Object),
	})
	store.Abort(ctx, txn)
	if err != nil {
		log.Fatal(err)
	}
	return result
}

// A policy that is a boolean about the resource becomes the conditions under which it
// is true.
func Example() {
	p, err := explore.Compile(explore.Options{
		Modules: modules(`package authz

import data.backstage.catalog

allow if {
	catalog.is_entity_owner(input.resource, {"claims": input.identity.claims})
	not catalog.has_label(input.resource, {"label": "frozen"})
}`),
		Entrypoint: ast.MustParseRef("data.authz.allow"),
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", decide(p).Criteria.AppendJSON(nil))
	// Output:
	// {"allOf":[{"rule":"IS_ENTITY_OWNER","resourceType":"catalog-entity","params":{"claims":["user:default/ann"]}},{"not":{"rule":"HAS_LABEL","resourceType":"catalog-entity","params":{"label":"frozen"}}}]}
}

// A policy may answer with documents. They are joined, each where it is the answer.
func ExamplePolicy_Decide_documents() {
	p, err := explore.Compile(explore.Options{
		Modules: modules(`package authz

import data.backstage.catalog

decision := {"result": "DENY", "reason": "frozen"} if {
	catalog.has_label(input.resource, {"label": "frozen"})
} else := {"result": "ALLOW", "reason": "not frozen"}`),
		Entrypoint: ast.MustParseRef("data.authz.decision"),
	})
	if err != nil {
		log.Fatal(err)
	}
	result := decide(p)
	fmt.Println(result.Decision.Text())
	fmt.Println(result.Reason)
	// Output:
	// {"result":"CONDITIONAL","pluginId":"catalog","resourceType":"catalog-entity","conditions":{"not":{"rule":"HAS_LABEL","resourceType":"catalog-entity","params":{"label":"frozen"}}}}
	// not frozen; frozen
}

// What looks into the resource is refused, with what to write instead.
func ExampleCompile_refused() {
	_, err := explore.Compile(explore.Options{
		Modules: modules(`package authz

allow if input.resource.spec.lifecycle == "production"`),
		Entrypoint: ast.MustParseRef("data.authz.allow"),
	})
	fmt.Println(err)
	// Output:
	// policy.rego:3:10: input.resource.spec.lifecycle == "production": a policy sees the resource only through permission rules (hint: catalog.has_spec(input.resource, {"key": "lifecycle", "value": "production"}))
}
