package tests

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/tester"
	"github.com/open-policy-agent/opa/v1/types"

	"github.com/stagedoor/stagedoor/adapter/offline"
)

// observer notes with which inputs the tests of a policy evaluate its entrypoint.
// While the modules are compiled, it puts the call of a builtin before every
// expression that refers to the entrypoint, with the same with.
type observer struct {
	entrypoint ast.Ref
	sites      []site
	compiling  *ast.Compiler
}

// site is an expression that refers to the entrypoint.
type site struct {
	at *ast.Location
	// replaced are the paths below data that its with replaces, in order.
	replaced []ast.Ref
	// mocked is what its with replaces and production cannot; empty for nothing.
	mocked string
}

// observation is one evaluation of the entrypoint.
type observation struct {
	site     site
	input    ast.Value   // nil where there was none
	replaced []ast.Value // what replaced the site's paths
}

var observeDecl = &ast.Builtin{
	Name:             "stagedoor.observed",
	Decl:             types.NewFunction(types.Args(types.N, types.A, types.A), types.B),
	Nondeterministic: true,
}

func newObserver(entrypoint string) *observer {
	ref := ast.Ref{ast.DefaultRootDocument}
	for step := range strings.SplitSeq(entrypoint, "/") {
		ref = append(ref, ast.StringTerm(step))
	}
	return &observer{entrypoint: ref}
}

// compiler returns a compiler that puts the calls in.
func (o *observer) compiler(p *offline.Policy) *ast.Compiler {
	return ast.NewCompiler().
		WithCapabilities(p.Capabilities(observeDecl)).
		WithEnablePrintStatements(true).
		WithStageAfterID(ast.StageRewriteRefsInHead, ast.CompilerStageDefinition{
			Name: "Observe", MetricName: "observe", Stage: o.instrument,
		})
}

func (o *observer) instrument(c *ast.Compiler) *ast.Error {
	o.compiling = c
	for name, module := range c.Modules {
		if strings.HasPrefix(name, offline.LibraryPrefix) {
			continue
		}
		for _, rule := range module.Rules {
			for r := rule; r != nil; r = r.Else {
				r.Body = o.body(r.Body)
			}
		}
	}
	return nil
}

// body puts calls into a body and into those within it.
func (o *observer) body(body ast.Body) ast.Body {
	var out ast.Body
	for _, e := range body {
		ast.NewGenericVisitor(func(x any) bool {
			switch x := x.(type) {
			case *ast.ArrayComprehension:
				x.Body = o.body(x.Body)
			case *ast.SetComprehension:
				x.Body = o.body(x.Body)
			case *ast.ObjectComprehension:
				x.Body = o.body(x.Body)
			case *ast.Every:
				x.Body = o.body(x.Body)
			case ast.Body:
				return true
			default:
				return false
			}
			return true
		}).Walk(e)
		if o.refersTo(e) {
			out = append(out, o.calls(e)...)
		}
		out = append(out, e)
	}
	return ast.NewBody(out...)
}

// refersTo is whether an expression itself, not a body in it, refers to the
// entrypoint, to what is below it or to a package that it is in.
func (o *observer) refersTo(e *ast.Expr) bool {
	found := false
	ast.NewGenericVisitor(func(x any) bool {
		switch x := x.(type) {
		case *ast.With, *ast.ArrayComprehension, *ast.SetComprehension, *ast.ObjectComprehension, ast.Body:
			return true
		case ast.Ref:
			ground := x.GroundPrefix()
			found = found || ground.HasPrefix(o.entrypoint) ||
				len(ground) == len(x) && len(ground) > 1 && o.entrypoint.HasPrefix(ground)
		}
		return found
	}).Walk(e)
	return found
}

// calls are what notes the evaluation of an expression. What its with puts in place
// of data is taken outside of the with, as the with itself does.
func (o *observer) calls(e *ast.Expr) ast.Body {
	s := site{at: e.Location}
	var values []*ast.Term
	for _, with := range e.With {
		target, _ := with.Target.Value.(ast.Ref)
		switch {
		case len(target) == 0 || target[0].Equal(ast.InputRootDocument):
		case target[0].Equal(ast.DefaultRootDocument) && !o.isFunction(target):
			s.replaced = append(s.replaced, target)
			values = append(values, with.Value)
		default:
			s.mocked = target.String()
		}
	}
	n := len(o.sites)
	o.sites = append(o.sites, s)
	values = append([]*ast.Term(nil), values...)
	taken := ast.VarTerm(fmt.Sprintf("__stagedoor_with_%d__", n))
	input := ast.VarTerm("__stagedoor_input__")
	assign := ast.Equality.Expr(taken, ast.ArrayTerm(values...))
	call := ast.NewExpr([]*ast.Term{
		ast.NewTerm(observeDecl.Ref()),
		ast.InternedTerm(n),
		ast.ArrayComprehensionTerm(input, ast.NewBody(ast.Equality.Expr(input.Copy(), ast.NewTerm(ast.InputRootRef)))),
		taken.Copy(),
	})
	for _, with := range e.With {
		call.With = append(call.With, with.Copy())
	}
	for _, added := range []*ast.Expr{assign, call} {
		ast.WalkExprs(added, func(e *ast.Expr) bool {
			e.Location = nil
			return false
		})
		added.SetLoc(e.Location)
	}
	return ast.Body{assign, call}
}

// isFunction is whether there is a function at a path.
func (o *observer) isFunction(path ast.Ref) bool {
	for _, rule := range o.compiling.GetRulesExact(path) {
		if len(rule.Head.Args) > 0 {
			return true
		}
	}
	return false
}

// observations are those of one test.
type observations struct {
	mu   sync.Mutex
	seen map[string]bool
	all  []observation
}

type observationsKey struct{}

// note returns a context in which what is observed is noted.
func (o *observer) note(ctx context.Context) (*observations, context.Context) {
	noted := &observations{seen: map[string]bool{}}
	return noted, context.WithValue(ctx, observationsKey{}, noted)
}

func (o *observations) list() []observation {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.all
}

func (o *observer) builtin() *tester.Builtin {
	implementation := func(bctx rego.BuiltinContext, terms []*ast.Term) (*ast.Term, error) {
		if noted, ok := bctx.Context.Value(observationsKey{}).(*observations); ok {
			noted.add(o, terms)
		}
		return ast.InternedTerm(true), nil
	}
	function := &rego.Function{Name: observeDecl.Name, Decl: observeDecl.Decl, Nondeterministic: true}
	return &tester.Builtin{Decl: observeDecl, Func: rego.FunctionDyn(function, implementation)}
}

func (o *observations) add(by *observer, terms []*ast.Term) {
	n, _ := terms[0].Value.(ast.Number)
	at, ok := n.Int()
	if !ok || at >= len(by.sites) {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	key := terms[0].String() + terms[1].String() + terms[2].String()
	if o.seen[key] {
		return
	}
	o.seen[key] = true
	seen := observation{site: by.sites[at]}
	if inputs, ok := terms[1].Value.(*ast.Array); ok && inputs.Len() > 0 {
		seen.input = inputs.Elem(0).Value
	}
	if values, ok := terms[2].Value.(*ast.Array); ok {
		values.Foreach(func(v *ast.Term) { seen.replaced = append(seen.replaced, v.Value) })
	}
	o.all = append(o.all, seen)
}
