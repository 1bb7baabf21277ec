// Package scope has what an expression sees as input and data. A with replaces parts of
// them, and what replaces them may depend on the caller.
package scope

import (
	"context"
	"errors"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"

	"github.com/stagedoor/stagedoor/adapter/anyone/theory"
)

// A Scope is what input and data are: withs change them.
type Scope struct {
	source
	Input    *ast.Term // nil where it is not defined
	replaced []replacement
	Key      string // tells scopes apart
}

// source is the data of a policy, in one transaction.
type source struct {
	*theory.Theory
	compiler *ast.Compiler
	store    storage.Store
	txn      storage.Transaction
	base     map[string]*ast.Term // what was read, by path
}

// New is what an input and the data are, before any with.
func New(
	t *theory.Theory, compiler *ast.Compiler, store storage.Store, txn storage.Transaction, input *ast.Term,
) *Scope {
	return &Scope{source: source{t, compiler, store, txn, make(map[string]*ast.Term)}, Input: input}
}

type replacement struct {
	path  ast.Ref
	value *ast.Term
}

// Child is a scope of the same, to replace something in.
func (s *Scope) Child() *Scope {
	return &Scope{source: s.source, Input: s.Input, replaced: slices.Clone(s.replaced), Key: s.Key}
}

// ReplacedAt is what a with has put in the place of the data at a path, and later ones
// below it.
func (s *Scope) ReplacedAt(path ast.Ref) (v *ast.Term, is bool, err error) {
	for _, r := range s.replaced {
		switch {
		case r.path.Equal(path):
			v, is = r.value, true
		case is && r.path.HasPrefix(path):
			if v, err = s.upsert(v, r.path[len(path):], r.value); err != nil {
				return nil, false, err
			}
		}
	}
	return v, is, nil
}

// Replace replaces a part of the input or the data.
func (s *Scope) Replace(target ast.Ref, value *ast.Term) error {
	s.Key += "\n" + target.String() + " as " + s.TextOf(value)
	for _, part := range target[1:] {
		if _, ok := part.Value.(ast.String); !ok {
			return errors.New("with replaces something whose place is not constant")
		}
	}
	switch {
	case target[0].Equal(ast.InputRootDocument):
		input, err := s.upsert(s.Input, target[1:], value)
		s.Input = input
		return err
	case target[0].Equal(ast.DefaultRootDocument):
		node := s.compiler.RuleTree.Find(target)
		if node != nil && slices.ContainsFunc(node.Values, func(r *ast.Rule) bool { return len(r.Head.Args) > 0 }) {
			return errors.New("with replaces a function")
		}
		s.replaced = append(s.replaced, replacement{target, value})
		return nil
	}
	return errors.New("with replaces a function")
}

// ReplacesData is whether a with has replaced a part of the data.
func (s *Scope) ReplacesData() bool { return len(s.replaced) > 0 }

// upsert is a value with another one at a path in it.
func (w source) upsert(in *ast.Term, at ast.Ref, value *ast.Term) (*ast.Term, error) {
	if len(at) == 0 {
		return value, nil
	}
	object := ast.NewObject()
	if in != nil {
		if s := w.SymbolOf(in); s != nil && !s.IsText() {
			return nil, errors.New("with replaces a part of something that is made of the caller")
		}
		if o, ok := in.Value.(ast.Object); ok {
			o.Foreach(object.Insert)
		}
	}
	inner, err := w.upsert(object.Get(at[0]), at[1:], value)
	if err != nil {
		return nil, err
	}
	object.Insert(at[0], inner)
	return ast.NewTerm(object), nil
}

// Read is what stands in the data at a path, or nil.
func (s *Scope) Read(ctx context.Context, path ast.Ref) (*ast.Term, error) {
	key := path.String()
	v, ok := s.base[key]
	if !ok {
		at, err := storage.NewPathForRef(path)
		if err != nil {
			return nil, err
		}
		switch read, err := s.store.Read(ctx, s.txn, at); {
		case storage.IsNotFound(err):
		case err != nil:
			return nil, err
		default:
			value, isValue := read.(ast.Value)
			if !isValue {
				if value, err = ast.InterfaceToValue(read); err != nil {
					return nil, err
				}
			}
			v = ast.NewTerm(value)
		}
		s.base[key] = v
	}
	for _, r := range s.replaced {
		var err error
		switch {
		case path.HasPrefix(r.path):
			v, err = s.within(r.value, path[len(r.path):])
		case r.path.HasPrefix(path):
			v, err = s.upsert(v, r.path[len(path):], r.value)
		}
		if err != nil {
			return nil, err
		}
	}
	return v, nil
}

// within is what stands in a value at a path, or nil.
func (s *Scope) within(v *ast.Term, path ast.Ref) (*ast.Term, error) {
	for _, key := range path {
		if s.SymbolOf(v) != nil {
			return nil, errors.New("with puts something there that depends on the caller, and this looks into it")
		}
		found, err := v.Value.Find(ast.Ref{key})
		if err != nil {
			return nil, nil //nolint:nilnil,nilerr // there is none
		}
		v = ast.NewTerm(found)
	}
	return v, nil
}
