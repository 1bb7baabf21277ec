package offline

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
)

// Absent are the paths of data, such as data.roles.admins, that the rules which decide ask
// for and that neither a rule nor a file of the bundle has. Another bundle may bring
// such data where the policy serves, or an operator. The error is that of the store.
func (p *Policy) Absent(ctx context.Context) ([]string, error) {
	stock, err := p.stock()
	if err != nil {
		return nil, err
	}
	entrypoint := ast.Ref{ast.DefaultRootDocument}
	for step := range strings.SplitSeq(p.Entrypoint(), "/") {
		entrypoint = append(entrypoint, ast.StringTerm(step))
	}
	deciding := make(map[*ast.Rule]bool)
	var problem error
	absent := make(map[string]bool)
	for pending := stock.compiler.GetRules(entrypoint); len(pending) > 0; {
		rule := pending[0]
		pending = pending[1:]
		if deciding[rule] {
			continue
		}
		deciding[rule] = true
		for dependency := range stock.compiler.Graph.Dependencies(rule) {
			if other, ok := dependency.(*ast.Rule); ok {
				pending = append(pending, other)
			}
		}
		asked(rule, func(ref ast.Ref) {
			path, err := stock.absent(ctx, ref)
			if problem == nil {
				problem = err
			}
			if path != nil {
				absent[path.String()] = true
			}
		})
	}
	return slices.Sorted(maps.Keys(absent)), problem
}

// asked shows every reference to data of a rule. What `with` replaces is not asked for.
func asked(in any, show func(ast.Ref)) {
	ast.NewGenericVisitor(func(x any) bool {
		switch x := x.(type) {
		case *ast.With:
			asked(x.Value, show)
			return true
		case ast.Ref:
			if x.HasPrefix(ast.DefaultRootRef) {
				show(x)
			}
		}
		return false
	}).Walk(in)
}

// absent is the first part of a reference that neither a rule nor the data has; nil where
// there is none.
func (s *stock) absent(ctx context.Context, of ast.Ref) (ast.Ref, error) {
	of = of.GroundPrefix()
	if end := slices.IndexFunc(of[1:], func(t *ast.Term) bool { _, is := t.Value.(ast.String); return !is }); end >= 0 {
		of = of[:end+1]
	}
	packages := 1 // how much of it is a package
	for node := s.compiler.RuleTree.Child(of[0].Value); ; packages++ {
		if node == nil {
			break
		}
		if len(node.Values) > 0 || packages == len(of) {
			return nil, nil
		}
		node = node.Child(of[packages].Value)
	}
	path, err := storage.NewPathForRef(of)
	if err != nil {
		return nil, err
	}
	for n := 1; n <= len(path); n++ {
		switch _, err := storage.ReadOne(ctx, s.store, path[:n]); {
		case storage.IsNotFound(err) && n+1 >= packages:
			return of[:n+1], nil
		case err != nil && !storage.IsNotFound(err):
			return nil, err
		}
	}
	return nil, nil
}
