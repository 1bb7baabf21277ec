package callers

import (
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
)

// readPlaces looks for an element of a list that is asked for by its place: by a number,
// or by a variable that is compared or reckoned with. The list may be made of claims, and
// then callers differ who have the same claims in another order.
func (f *finder) readPlaces(r *ast.Rule) {
	indexes := make(map[ast.Var]*ast.Location)
	ast.WalkTerms(r, func(t *ast.Term) bool {
		switch v := t.Value.(type) {
		case ast.Ref:
			f.readIndexes(v, t.Location, indexes)
		case ast.Call:
			noteKey(v, t.Location, indexes)
		}
		return false
	})
	ast.WalkExprs(r, func(e *ast.Expr) bool {
		if terms, ok := e.Terms.([]*ast.Term); ok {
			noteKey(terms, e.Location, indexes)
		}
		if every, ok := e.Terms.(*ast.Every); ok && every.Key != nil {
			if v, ok := every.Key.Value.(ast.Var); ok {
				indexes[v] = e.Location
			}
		}
		if some, ok := e.Terms.(*ast.SomeDecl); ok {
			for _, symbol := range some.Symbols {
				if call, ok := symbol.Value.(ast.Call); ok {
					noteKey(call, e.Location, indexes)
				}
			}
		}
		return false
	})
	reckoned := func(terms []*ast.Term) {
		if len(terms) < 2 || !reckons[terms[0].Value.String()] {
			return
		}
		for _, arg := range terms[1:] {
			if v, ok := arg.Value.(ast.Var); ok && indexes[v] != nil {
				f.place(indexes[v])
			}
		}
	}
	ast.WalkTerms(r, func(t *ast.Term) bool {
		if call, ok := t.Value.(ast.Call); ok {
			reckoned(call)
		}
		return false
	})
	ast.WalkExprs(r, func(e *ast.Expr) bool {
		if terms, ok := e.Terms.([]*ast.Term); ok {
			reckoned(terms)
		}
		return false
	})
}

// reckons are the builtins that look at a number.
var reckons = map[string]bool{
	"eq": true, "equal": true, "neq": true, "lt": true, "lte": true, "gt": true, "gte": true,
	"plus": true, "minus": true, "mul": true, "div": true, "rem": true,
}

// readIndexes notes the variables of a reference, and tells of a number.
func (f *finder) readIndexes(ref ast.Ref, at *ast.Location, indexes map[ast.Var]*ast.Location) {
	if ref.HasPrefix(ast.InputRootRef) && partsOf(ref) == 0 {
		return
	}
	for _, part := range ref[1:] {
		switch v := part.Value.(type) {
		case ast.Number:
			f.place(at)
		case ast.Var:
			if !v.IsWildcard() {
				indexes[v] = at
			}
		}
	}
}

// noteKey notes the key of "some key, value in list".
func noteKey(call []*ast.Term, at *ast.Location, indexes map[ast.Var]*ast.Location) {
	if len(call) != 4 || call[0].Value.String() != ast.MemberWithKey.Name {
		return
	}
	if v, ok := call[1].Value.(ast.Var); ok && !v.IsWildcard() {
		indexes[v] = at
	}
}

func (f *finder) place(at *ast.Location) {
	if f.placed == "" {
		f.placed = fmt.Sprintf("%s:%d", at.File, at.Row)
	}
}
