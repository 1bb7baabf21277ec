package explore

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/util"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/stagedoor/stagedoor/adapter/criteria"
	"github.com/stagedoor/stagedoor/rego"
)

var update = flag.Bool("update", false, "write what the cases of testdata come to")

const (
	annInput = `{
		"permission": {"name": "catalog.entity.delete", "type": "resource", "attributes": {"action": "delete"},
			"resourceType": "catalog-entity"},
		"identity": {"user": "user:default/ann", "claims": ["user:default/ann", "group:default/web"]}}`
	entrypoint = "data.authz.allow"
)

// tb is what the helpers need of a test.
type tb interface {
	Helper()
	Fatal(...any)
	Cleanup(func())
	Context() context.Context
}

// library is the rule library, parsed once: compiling does not change it.
var library = sync.OnceValue(func() map[string]*ast.Module {
	modules := make(map[string]*ast.Module)
	for name, source := range rego.Modules() {
		m, err := ast.ParseModuleWithOpts(name, source, ast.ParserOptions{ProcessAnnotation: true})
		if err != nil {
			panic(err)
		}
		modules[name] = m
	}
	return modules
})

// parse parses a policy as a bundle's is, and adds the rule library.
func parse(t tb, policy string) map[string]*ast.Module {
	t.Helper()
	modules := maps.Clone(library())
	m, err := ast.ParseModuleWithOpts("policy.rego", policy, ast.ParserOptions{ProcessAnnotation: true})
	if err != nil {
		t.Fatal(err)
	}
	modules["policy.rego"] = m
	return modules
}

func compile(t tb, policy string) (*Policy, error) {
	t.Helper()
	return Compile(Options{
		Modules:    parse(t, policy),
		Entrypoint: ast.MustParseRef(entrypoint),
	})
}

// newQuery is a query over data in a store of its own.
func newQuery(t tb, input, data string) Query {
	t.Helper()
	var document map[string]any
	if err := util.UnmarshalJSON([]byte(data), &document); err != nil {
		t.Fatal(err)
	}
	store := inmem.NewFromObject(document)
	txn, err := store.NewTransaction(t.Context(), storage.TransactionParams{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Abort(context.Background(), txn) })
	q := Query{
		Store:        store,
		Txn:          txn,
		Input:        ast.MustParseTerm(input).Value.(ast.Object),
		ResourceType: "catalog-entity",
		Time:         time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC),
	}
	if v, err := q.Input.Find(ast.MustParseRef("input.permission.resourceType")[1:]); err == nil {
		q.ResourceType = string(v.(ast.String))
	}
	if v, err := q.Input.Find(ast.MustParseRef("input.permission.type")[1:]); err == nil && v.Compare(ast.String("basic")) == 0 {
		q.Basic, q.ResourceType = true, ""
	}
	return q
}

// outline writes criteria for people: a node a line, children indented.
func outline(c criteria.Criteria) string {
	var b strings.Builder
	var write func(c criteria.Criteria, indent string)
	write = func(c criteria.Criteria, indent string) {
		switch c.Op {
		case criteria.Never:
			b.WriteString("never\n")
		case criteria.Always:
			b.WriteString("always\n")
		case criteria.Leaf:
			fmt.Fprintf(&b, "%s %s\n", c.Rule.Name, c.Rule.Params)
		case criteria.Not:
			b.WriteString("not ")
			write(c.Of[0], indent)
		default:
			b.WriteString(map[criteria.Op]string{criteria.AllOf: "allOf\n", criteria.AnyOf: "anyOf\n"}[c.Op])
			for _, child := range c.Of {
				b.WriteString(indent + "  ")
				write(child, indent+"  ")
			}
		}
	}
	write(c, "")
	return b.String()
}

// answer is the plan of a policy and what it comes to: criteria, errors of
// branches, or the reason why there is no decision. What is refused has no plan.
func answer(t *testing.T, policy, input, data string) (plan, answer string) {
	p, err := compile(t, policy)
	if err != nil {
		if _, ok := errors.AsType[*VetError](err); ok {
			return "", "refused\n" + err.Error() + "\n"
		}
		return "", "does not compile\n" + err.Error() + "\n"
	}
	plan = p.plan.String()
	if !p.AboutResource() {
		return plan, "not about the resource\n"
	}
	r, err := p.Decide(t.Context(), newQuery(t, input, data))
	if err != nil {
		return plan, "error\n" + err.Error() + "\n"
	}
	var b strings.Builder
	b.WriteString(outline(r.Criteria))
	if r.Reason != "" {
		fmt.Fprintf(&b, "reason: %s\n", r.Reason)
	}
	for _, err := range r.Errors {
		fmt.Fprintf(&b, "except where %v\n", err)
	}
	for _, why := range r.Either {
		fmt.Fprintf(&b, "%s\n", why)
	}
	return plan, b.String()
}

// TestCases decides the policies in testdata. Each file has a policy, perhaps an
// input and data, the plan of how it is decided, and what must come of it.
func TestCases(t *testing.T) {
	for _, file := range cases(t) {
		name := strings.TrimSuffix(strings.TrimPrefix(file.name, "testdata/"), ".txtar")
		t.Run(name, func(t *testing.T) {
			parts := map[string]string{"input.json": annInput, "data.json": "{}"}
			for _, f := range file.archive.Files {
				parts[f.Name] = string(f.Data)
			}
			plan, got := answer(t, parts["policy.rego"], parts["input.json"], parts["data.json"])
			if *update {
				writeWant(t, file.name, file.archive, plan, got)
				return
			}
			if diff := cmp.Diff(parts["plan"], plan); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(parts["want"], got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

type caseFile struct {
	name    string
	archive *txtar.Archive
}

func cases(t tb) []caseFile {
	t.Helper()
	names, err := filepath.Glob("testdata/*/*.txtar")
	if err != nil || len(names) == 0 {
		t.Fatal("no cases", err)
	}
	files := make([]caseFile, len(names))
	for i, name := range names {
		archive, err := txtar.ParseFile(name)
		if err != nil {
			t.Fatal(err)
		}
		files[i] = caseFile{name, archive}
	}
	return files
}

func writeWant(t *testing.T, file string, archive *txtar.Archive, plan, got string) {
	t.Helper()
	files := archive.Files[:0:0]
	for _, f := range archive.Files {
		if f.Name != "want" && f.Name != "plan" {
			files = append(files, f)
		}
	}
	if plan != "" {
		files = append(files, txtar.File{Name: "plan", Data: []byte(plan)})
	}
	files = append(files, txtar.File{Name: "want", Data: []byte(got)})
	archive.Files = files
	if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
		t.Fatal(err)
	}
}
