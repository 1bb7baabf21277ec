package callers

import (
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// readPlaces looks for an element of a list that is asked for by its place: by a number,
// or by a variable that is compared or reckoned with. The list may be made of claims, and
// then callers differ who have the same claims in another order. It may be one of data, and
// then references in it differ that are taken for alike.
func (f *finder) readPlaces(module *ast.Module, r *ast.Rule) {
	if f.ordered {
		f.readOrder(module, r)
	}
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

// numbers are the builtins that make the number of an element.
var numbers = map[string]bool{
	ast.Count.Name: true, ast.Plus.Name: true, ast.Minus.Name: true, ast.Multiply.Name: true, ast.Divide.Name: true,
	ast.Rem.Name: true, ast.Abs.Name: true, ast.Floor.Name: true, ast.Ceil.Name: true, ast.Round.Name: true,
	ast.ToNumber.Name: true, ast.IndexOf.Name: true, ast.Sum.Name: true, ast.Max.Name: true, ast.Min.Name: true,
}

// readIndexes notes the variables of a reference, and tells of a number.
func (f *finder) readIndexes(ref ast.Ref, at *ast.Location, indexes map[ast.Var]*ast.Location) {
	if ref.HasPrefix(ast.InputRootRef) && partsOf(ref) == 0 {
		return
	}
	if call, ok := ref[0].Value.(ast.Call); ok && strings.HasPrefix(call[0].Value.String(), "time.") {
		return // such as the hour of time.clock
	}
	for i, part := range ref[1:] {
		switch v := part.Value.(type) {
		case ast.Number:
			f.place(at)
		case ast.Call:
			if numbers[v[0].Value.String()] {
				f.place(at)
			}
		case ast.Ref:
			list := ref[:i+1]
			if partsOf(list)&readsClaims != 0 || list.HasPrefix(ast.DefaultRootRef) && f.mayBeList(list) {
				f.place(at)
			}
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

// orders are the builtins by which the place of an element counts.
var orders = map[string]bool{
	ast.ArraySlice.Name: true, ast.ArrayReverse.Name: true, ast.ArrayFlatten.Name: true, ast.Sort.Name: true,
	ast.WalkBuiltin.Name: true, ast.Max.Name: true, ast.Min.Name: true, ast.JSONMarshal.Name: true,
}

// readOrder looks for what may ask for the place of a reference in a list of data: a builtin,
// a pattern such as [first, _], or an index that stands somewhere else, too.
func (f *finder) readOrder(module *ast.Module, r *ast.Rule) {
	imported := imports(module)
	times := make(map[ast.Var]int) // that a variable occurs
	ast.WalkVars(r, func(v ast.Var) bool {
		times[v]++
		return false
	})
	eachCall(r, func(call []*ast.Term, at *ast.Location) {
		if orders[call[0].Value.String()] {
			f.place(at)
		}
		a, b, ok := pair(call)
		if !ok {
			return
		}
		for _, side := range []*ast.Term{a, b} {
			if list, is := side.Value.(*ast.Array); is && !list.IsGround() && list.Len() > 1 {
				f.place(at)
			}
		}
	})
	ast.WalkTerms(r, func(t *ast.Term) bool {
		ref, ok := t.Value.(ast.Ref)
		if !ok || t.Location == nil {
			return false
		}
		if head, is := ref[0].Value.(ast.Var); is && imported[head] != nil {
			ref = imported[head].Concat(ref[1:])
		}
		for i, part := range ref[1:] {
			v, is := part.Value.(ast.Var)
			if is && !v.IsWildcard() && times[v] > 1 && f.mayBeList(ref[:i+1]) {
				f.place(t.Location)
			}
		}
		return false
	})
}

// mayBeList is whether a reference may be to a list of references in the data.
func (f *finder) mayBeList(ref ast.Ref) bool {
	if ref.HasPrefix(ast.InputRootRef) {
		return false
	}
	if ref.HasPrefix(ast.DefaultRootRef) {
		return slices.ContainsFunc(append([]any{f.sources.Data}, f.sources.Each...), func(data any) bool {
			return slices.ContainsFunc(valuesAt(data, ref[1:]), isOrdered)
		})
	}
	head, is := ref[0].Value.(ast.Var)
	return !is || !f.objects[string(head)]
}

// isOrdered is whether a value is a list of several references.
func isOrdered(value any) bool {
	list, is := value.([]any)
	refs := 0
	for _, element := range list {
		if text, is := element.(string); is && isRef(text) {
			refs++
		}
	}
	return is && refs > 1
}

// hasOrdered is whether there is such a list anywhere in a value.
func hasOrdered(value any) bool {
	if isOrdered(value) {
		return true
	}
	switch value := value.(type) {
	case []any:
		return slices.ContainsFunc(value, hasOrdered)
	case map[string]any:
		for _, member := range value {
			if hasOrdered(member) {
				return true
			}
		}
	}
	return false
}

// readObjects notes the rules that are objects and sets, whose keys are no places.
func (f *finder) readObjects(module *ast.Module) {
	for _, r := range module.Rules {
		object := r.Head.Key != nil || len(r.Head.Ref()) > 1
		if !object && r.Head.Value != nil {
			switch r.Head.Value.Value.(type) {
			case ast.Object, ast.Set, *ast.ObjectComprehension, *ast.SetComprehension:
				object = true
			}
		}
		if object {
			f.objects[r.Head.Ref()[0].Value.String()] = true
		}
	}
}
