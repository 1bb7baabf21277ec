package simulation

import (
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/sirupsen/logrus"

	"github.com/stagedoor/stagedoor/adapter/engine"
	"github.com/stagedoor/stagedoor/adapter/supply"
	"github.com/stagedoor/stagedoor/adapter/vetted"
)

// source is the module of all revisions; they differ by their data.
const source = `package p

import rego.v1

# METADATA
# entrypoint: true
default decision := {"result": "DENY"}

decision := {"result": "ALLOW"} if {
	some group in input.identity.claims
	data.p.grants[input.permission.name][group]
}

decision := {"result": "ALLOW"} if input.permission.name == data.p.revision

decision := {
	"result": "CONDITIONAL", "pluginId": "todo", "resourceType": "todo-item",
	"conditions": {"rule": "IS_OWNER", "resourceType": "todo-item", "params": {"userId": input.identity.user}},
} if input.permission.name == "todo"
`

// module is one as OPA's bundle reader gives it: what is activated is kept as text too.
type module struct {
	text   string
	parsed *ast.Module
}

func moduleOf(t testing.TB, text string) module {
	t.Helper()
	parsed, err := ast.ParseModuleWithOpts("p.rego", text, ast.ParserOptions{ProcessAnnotation: true})
	if err != nil {
		t.Fatal(err)
	}
	return module{text, parsed}
}

// grants reports whether a revision grants a permission to a group.
func grants(revision, name, group int) bool {
	h := fnv.New32a()
	_, _ = fmt.Fprint(h, "revision ", revision, " grants ", name, " to ", group) // never fails
	return h.Sum32()>>7&3 == 0
}

func permissionOf(name int) string { return fmt.Sprint("n", name) }
func revisionOf(n int) string      { return fmt.Sprint("revision-", n) }

// bundleOf is the bundle of a revision.
func bundleOf(revision int, module module) *bundle.Bundle {
	granted := map[string]any{}
	for name := range names {
		to := map[string]any{}
		for group := range groups {
			if grants(revision, name, group) {
				to[fmt.Sprint("group:default/g", group)] = true
			}
		}
		granted[permissionOf(name)] = to
	}
	roots := []string{"p"}
	return &bundle.Bundle{
		Manifest: bundle.Manifest{Revision: revisionOf(revision), Roots: &roots},
		Data:     map[string]any{"p": map[string]any{"grants": granted, "revision": revisionOf(revision)}},
		Modules:  []bundle.ModuleFile{{Path: "p.rego", URL: "p.rego", Parsed: module.parsed, Raw: []byte(module.text)}},
	}
}

// decider is a store with what decides by it.
type decider struct {
	*supply.Supply
	engine *engine.Engine
}

func newDecider(t testing.TB) *decider {
	t.Helper()
	log := silent()
	vetter, err := vetted.New(vetted.Options{})
	if err != nil {
		t.Fatal(err)
	}
	policies := supply.New(supply.Options{}, vetter, log)
	e, err := engine.New(engine.Options{}, policies.Serving, log)
	if err != nil {
		t.Fatal(err)
	}
	return &decider{policies, e}
}

// activate activates a bundle as OPA's plugin does.
func (d *decider) activate(ctx context.Context, b *bundle.Bundle) error {
	params := storage.WriteParams
	params.Context = storage.NewContext()
	return storage.Txn(ctx, d.Store(), params, func(txn storage.Transaction) error {
		return bundle.Activate(&bundle.ActivateOpts{
			Ctx: ctx, Store: d.Store(), Txn: txn, TxnCtx: params.Context, Compiler: ast.NewCompiler(), Metrics: metrics.New(),
			Bundles: map[string]*bundle.Bundle{"b": b}, ParserOptions: ast.ParserOptions{ProcessAnnotation: true},
		})
	})
}

func silent() *logrus.Entry {
	log := logrus.New()
	log.SetOutput(io.Discard)
	log.SetLevel(logrus.PanicLevel)
	return logrus.NewEntry(log)
}
