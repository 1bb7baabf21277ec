package offline

import (
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
)

// Absent are the paths of data, such as data.roles.admins, that the rules which decide ask
// for, that neither a rule nor a file of the bundle has, and that are outside its roots.
// Another bundle may bring such data where the policy serves, or an operator. What is
// missing below a root is missing there too: nobody else may write it. The error is that
// of the manifest.
func (p *Policy) Absent() ([]string, error) {
	stock, err := p.stock()
	if err != nil {
		return nil, err
	}
	entrypoint := ast.Ref{ast.DefaultRootDocument}
	for step := range strings.SplitSeq(p.Entrypoint(), "/") {
		entrypoint = append(entrypoint, ast.StringTerm(step))
	}
	roots, err := p.roots()
	if err != nil {
		return nil, err
	}
	deciding := make(map[*ast.Rule]bool)
	absent := make(map[string]bool)
	for pending := stock.compiler.GetRules(entrypoint); len(pending) > 0; {
		rule := pending[0]
		pending = pending[1:]
		if deciding[rule] {
			continue
		}
		deciding[rule] = true
		for branch := rule; branch != nil; branch = branch.Else { // each of which is a node of its own
			for dependency := range stock.compiler.Graph.Dependencies(branch) {
				if other, ok := dependency.(*ast.Rule); ok {
					pending = append(pending, other)
				}
			}
		}
		asked(rule, func(ref ast.Ref) {
			if path := stock.brought(roots, ref); path != nil {
				absent[path.String()] = true
			}
		})
	}
	return slices.Sorted(maps.Keys(absent)), nil
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

// brought is the first part of a reference that another bundle than the one with these
// roots may bring; nil where there is none.
func (s *stock) brought(roots []string, of ast.Ref) ast.Ref {
	of = of.GroundPrefix()
	if end := slices.IndexFunc(of[1:], func(t *ast.Term) bool { _, is := t.Value.(ast.String); return !is }); end >= 0 {
		of = of[:end+1]
	}
	at := "" // the path so far, as roots are written
	overlaps := func(root string) bool { return bundle.RootPathsOverlap(root, at) }
	node := s.compiler.RuleTree.Child(of[0].Value)
	for n, step := range of {
		if name, is := step.Value.(ast.String); is {
			at = strings.TrimPrefix(at+"/"+string(name), "/")
			if node != nil {
				node = node.Child(name)
			}
		}
		switch {
		case bundle.RootPathsContain(roots, at):
			return nil
		case node != nil && len(node.Values) > 0:
			return nil // a rule of the library
		case n+1 == len(of), n > 0 && node == nil && !slices.ContainsFunc(roots, overlaps):
			return of[:n+1]
		}
	}
	return nil
}
