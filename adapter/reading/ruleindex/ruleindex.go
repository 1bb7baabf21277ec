// Package ruleindex knows where OPA's index of rules is wrong.
//
// OPA looks up in an index which rules can hold for an input, and evaluates no others. It
// notes of `c in input.list`, where c is some value, that the list has to be there. From then
// on its index takes c for the list itself. So of `c == "a"` after it, it notes that the list
// must be "a", and the rule is never evaluated. A comparison that stands before is read right.
// OPA 1.22 has this fault. Production is what stock OPA says, so stagedoor names such rules
// and does not decide otherwise.
package ruleindex

import (
	"github.com/open-policy-agent/opa/v1/ast"
)

// LeftOut is an expression for which OPA 1.22 leaves out a rule that may hold, or nil where
// there is none in the rule's body. The rule is one of those that the compiler compiled.
func LeftOut(compiler *ast.Compiler, rule *ast.Rule) *ast.Expr {
	x := index{
		known: make(map[ast.Var]bool), base: make(map[ast.Var]bool), taken: make(map[ast.Var]bool),
		virtual: func(ref ast.Ref) bool { return len(compiler.GetRulesForVirtualDocument(ref)) > 0 },
	}
	for _, arg := range rule.Head.Args {
		if v, ok := arg.Value.(ast.Var); ok {
			x.known[v] = true
		}
	}
	for _, e := range rule.Body {
		if e.Negated || len(e.With) > 0 {
			continue
		}
		if x.leavesOut(e) {
			return e
		}
	}
	return nil
}

// index is what OPA's index notes of a body.
type index struct {
	known   map[ast.Var]bool // those that are taken for what they are
	base    map[ast.Var]bool // those of them that are a reference to what the index looks at
	taken   map[ast.Var]bool // those that are taken for a collection that they are in
	virtual func(ast.Ref) bool
}

func (x index) leavesOut(e *ast.Expr) bool {
	operator, operands := e.Operator(), e.Operands()
	switch {
	case operator == nil:
	case len(operands) == 2 && (operator.Equal(ast.Equality.Ref()) || operator.Equal(ast.Equal.Ref()) ||
		operator.Equal(ast.Assign.Ref())):
		return x.equal(operands[0], operands[1]) || x.equal(operands[1], operands[0])
	case operator.Equal(ast.Member.Ref()) && len(operands) == 2:
		v, ok := operands[0].Value.(ast.Var)
		switch {
		case !ok:
		case x.taken[v]:
			return isLiteral(operands[1])
		case !x.known[v] && x.isBase(operands[1]):
			x.taken[v] = true
		}
	case operator.Equal(ast.GlobMatch.Ref()) && len(operands) == 3:
		v, ok := operands[2].Value.(ast.Var)
		return ok && x.taken[v]
	}
	return false
}

func (x index) equal(a, b *ast.Term) bool {
	v, ok := a.Value.(ast.Var)
	if !ok {
		return false
	}
	if other, ok := b.Value.(ast.Var); ok {
		if x.taken[v] && !x.known[other] {
			x.taken[other] = true
		}
		x.known[v] = x.known[v] || x.known[other] && !x.taken[v]
		x.base[v] = x.base[v] || x.base[other]
		return false
	}
	if x.taken[v] {
		_, list := b.Value.(*ast.Array)
		return list || ast.IsScalar(b.Value)
	}
	x.base[v] = x.base[v] || x.isBase(b)
	x.known[v] = x.known[v] || x.base[v] || ast.IsConstant(b.Value)
	return false
}

// isBase is whether a term is a reference to what the index looks at: the input, or data
// that no rule defines.
func (x index) isBase(term *ast.Term) bool {
	switch v := term.Value.(type) {
	case ast.Var:
		return x.base[v]
	case ast.Ref:
		switch head, _ := v[0].Value.(ast.Var); {
		case !v.IsGround():
			return false
		case v.HasPrefix(ast.DefaultRootRef):
			return !x.virtual(v)
		default:
			return v.HasPrefix(ast.InputRootRef) || x.base[head]
		}
	}
	return false
}

func isLiteral(term *ast.Term) bool {
	switch term.Value.(type) {
	case *ast.Array, ast.Set, ast.Object:
		return true
	}
	return false
}
