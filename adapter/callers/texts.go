package callers

import (
	"fmt"
	"maps"
	"strconv"

	"github.com/open-policy-agent/opa/v1/ast"
)

// readTexts looks for what a caller of no class can have: a claim that is no reference.
// Classes have references alone. Such a claim matters where it is compared with a text
// that is none. It matters too where a list of the data is looked up by it: OPA reads data
// by paths of text, where "1" is the second element.
//
// What is looked at is the user, the claims and the variables of one rule that are bound to
// them or may be, its arguments among them.
func (f *finder) readTexts(module *ast.Module, r *ast.Rule) {
	of := &texts{finder: f, imported: imports(module), vars: make(map[ast.Var]bool)}
	for _, arg := range r.Head.Args {
		if v, ok := arg.Value.(ast.Var); ok {
			of.vars[v] = true
		}
	}
	// A variable can be bound by another one that is bound below it.
	for known := -1; known < len(of.vars); {
		known = len(of.vars)
		eachCall(r, func(call []*ast.Term, _ *ast.Location) { of.bind(call) })
	}
	eachCall(r, func(call []*ast.Term, at *ast.Location) { of.compare(call, at) })
	ast.WalkTerms(r, func(t *ast.Term) bool {
		if ref, ok := t.Value.(ast.Ref); ok {
			of.lookUp(ref, t.Location)
		}
		return false
	})
}

// eachCall calls for each call of a rule, be it an expression or a term.
func eachCall(r *ast.Rule, do func(call []*ast.Term, at *ast.Location)) {
	ast.WalkTerms(r, func(t *ast.Term) bool {
		if call, ok := t.Value.(ast.Call); ok {
			do(call, t.Location)
		}
		return false
	})
	ast.WalkExprs(r, func(e *ast.Expr) bool {
		switch terms := e.Terms.(type) {
		case []*ast.Term:
			do(terms, e.Location)
		case *ast.SomeDecl:
			for _, symbol := range terms.Symbols {
				if call, ok := symbol.Value.(ast.Call); ok {
					do(call, e.Location)
				}
			}
		case *ast.Every:
			do([]*ast.Term{ast.NewTerm(ast.Member.Ref()), terms.Value, terms.Domain}, e.Location)
		}
		return false
	})
}

// texts are the user and the claims in one rule.
type texts struct {
	*finder
	imported map[ast.Var]ast.Ref
	vars     map[ast.Var]bool
}

// imports are what the names of a module's imports stand for.
func imports(module *ast.Module) map[ast.Var]ast.Ref {
	found := make(map[ast.Var]ast.Ref)
	for _, i := range module.Imports {
		if ref, ok := i.Path.Value.(ast.Ref); ok {
			found[i.Name()] = ref
		}
	}
	return found
}

// withoutAliases is a module in which what is imported of the input is called by its path:
// input.identity.claims where it says who.claims after import input.identity as who.
func withoutAliases(module *ast.Module) *ast.Module {
	aliases := imports(module)
	maps.DeleteFunc(aliases, func(name ast.Var, path ast.Ref) bool {
		return !path.HasPrefix(ast.InputRootRef) || name.Equal(ast.InputRootDocument.Value)
	})
	if len(aliases) == 0 {
		return module
	}
	module = module.Copy()
	ast.WalkTerms(module, func(t *ast.Term) bool {
		switch v := t.Value.(type) {
		case ast.Var:
			if path := aliases[v]; path != nil {
				t.Value = path.Copy()
			}
		case ast.Ref:
			if head, ok := v[0].Value.(ast.Var); ok && aliases[head] != nil {
				t.Value = aliases[head].Copy().Concat(v[1:])
			}
		}
		return false
	})
	return module
}

// isOf is whether a term is the user, the claims, or may be one of them.
func (t *texts) isOf(term *ast.Term) bool {
	switch v := term.Value.(type) {
	case ast.Var:
		return t.vars[v]
	case ast.Ref:
		if head, ok := v[0].Value.(ast.Var); ok && t.vars[head] {
			return true
		}
		return len(v) > 2 && partsOf(v)&readsAll != 0
	case ast.Call: // such as the lower case of it
		for _, arg := range v[1:] {
			if t.isOf(arg) {
				return true
			}
		}
	}
	return false
}

// pair are the two sides of a comparison, or an element and what it is in.
func pair(call []*ast.Term) (a, b *ast.Term, ok bool) {
	switch call[0].Value.String() {
	case ast.Equality.Name, ast.Equal.Name, ast.NotEqual.Name, ast.Assign.Name, ast.Member.Name:
		if len(call) == 3 {
			return call[1], call[2], true
		}
	case ast.MemberWithKey.Name:
		if len(call) == 4 {
			return call[2], call[3], true
		}
	}
	return nil, nil, false
}

// bind notes a variable that is, or is in, something of the caller's.
func (t *texts) bind(call []*ast.Term) {
	a, b, ok := pair(call)
	if !ok {
		return
	}
	if v, is := a.Value.(ast.Var); is && t.isOf(b) {
		t.vars[v] = true
	}
	if v, is := b.Value.(ast.Var); is && t.isOf(a) && call[0].Value.String() == ast.Equality.Name {
		t.vars[v] = true
	}
}

// compare tells of a text that is no reference, and that the caller's are compared with.
func (t *texts) compare(call []*ast.Term, at *ast.Location) {
	a, b, ok := pair(call)
	if !ok {
		return
	}
	for _, sides := range [][2]*ast.Term{{a, b}, {b, a}} {
		if text, odd := oddText(sides[1]); odd && t.isOf(sides[0]) {
			t.other("the policy compares claims with %q, which is no reference: %s:%d", text, at.File, at.Row)
		}
	}
}

// oddText is a text in a constant that is no reference.
func oddText(t *ast.Term) (string, bool) {
	text, odd := "", false
	eachConstant(t, func(t *ast.Term) {
		if s, ok := t.Value.(ast.String); ok && !isRef(string(s)) {
			text, odd = string(s), true
		}
	})
	return text, odd
}

// eachConstant calls for a constant and, where it is a list or a set, for what is in it.
func eachConstant(t *ast.Term, see func(*ast.Term)) {
	see(t)
	switch v := t.Value.(type) {
	case *ast.Array:
		v.Foreach(see)
	case ast.Set:
		v.Foreach(see)
	}
}

// lookUp tells of a list in the data, or of an object with a key that is no reference,
// that is looked up by something of the caller's.
func (t *texts) lookUp(ref ast.Ref, at *ast.Location) {
	if head, ok := ref[0].Value.(ast.Var); ok && t.imported[head] != nil {
		ref = t.imported[head].Concat(ref[1:])
	}
	if !ref.HasPrefix(ast.DefaultRootRef) || at == nil {
		return
	}
	for i, key := range ref[1:] {
		if !t.isOf(key) {
			continue
		}
		for _, data := range append([]any{t.sources.Data}, t.sources.Each...) {
			for _, value := range valuesAt(data, ref[1:i+1]) {
				t.lookUpIn(value, at)
			}
		}
	}
}

func (t *texts) lookUpIn(value any, at *ast.Location) {
	switch value := value.(type) {
	case []any:
		t.other("the policy looks up a list by a claim, which may be a number: %s:%d", at.File, at.Row)
	case map[string]any:
		for name := range value {
			if !isRef(name) {
				t.other("the policy looks up claims among names that are no references: %s:%d", at.File, at.Row)
			}
		}
	}
}

// valuesAt are what stands in the data at a path, of which some steps may be any.
func valuesAt(data any, path ast.Ref) []any {
	if len(path) == 0 {
		return []any{data}
	}
	var found []any
	name, known := path[0].Value.(ast.String)
	each := func(key string, value any) {
		if !known || key == string(name) {
			found = append(found, valuesAt(value, path[1:])...)
		}
	}
	switch data := data.(type) {
	case map[string]any:
		for key, value := range data {
			each(key, value)
		}
	case []any:
		for i, value := range data {
			each(strconv.Itoa(i), value)
		}
	}
	return found
}

// other notes why there may be callers of no class.
func (f *finder) other(format string, args ...any) {
	if f.others == "" {
		f.others = fmt.Sprintf(format, args...)
	}
}
