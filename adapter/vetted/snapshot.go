package vetted

import (
	"context"
	"strconv"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
)

// snapshot is the data of one policy state as a read-only [storage.Store]. It
// has no lock: an evaluation that waits, for http.send say, holds nothing that
// an activation needs, and no activation changes what an evaluation reads.
//
// OPA's in-memory store changes its objects in place, but only above the roots
// of the bundles that it replaces, and in what it keeps of its own under system;
// below the roots subtrees are exchanged whole. What lies under no root now may lie
// above one of the next bundle's. A snapshot therefore copies all that is not at a
// root of its own, which is little, and shares the rest.
type snapshot struct {
	storage.WritesNotSupported
	storage.PolicyNotSupported
	root    ast.Value
	indexes indexes
}

// copyAbove copies a document, but for what is at the ends of the paths: that is
// shared.
func copyAbove(object ast.Object, paths []storage.Path) ast.Object {
	ends, below := map[ast.Value]bool{}, map[ast.Value][]storage.Path{}
	for _, path := range paths {
		switch name := ast.String(path[0]); len(path) {
		case 1:
			ends[name] = true
		default:
			below[name] = append(below[name], path[1:])
		}
	}
	members := make([][2]*ast.Term, 0, object.Len())
	object.Foreach(func(key, value *ast.Term) {
		if !ends[key.Value] {
			switch member := value.Value.(type) {
			case ast.Object:
				value = ast.NewTerm(copyAbove(member, below[key.Value]))
			case *ast.Array:
				value = ast.NewTerm(member.Copy())
			}
		}
		members = append(members, [2]*ast.Term{key, value})
	})
	return ast.NewObject(members...)
}

// readTransaction is the one transaction of a snapshot: there is nothing to isolate.
type readTransaction struct{}

func (readTransaction) ID() uint64 { return 0 }

func (*snapshot) NewTransaction(context.Context, ...storage.TransactionParams) (storage.Transaction, error) {
	return readTransaction{}, nil
}

func (*snapshot) Commit(context.Context, storage.Transaction) error { return nil }

func (*snapshot) Abort(context.Context, storage.Transaction) {}

func (*snapshot) Register(context.Context, storage.Transaction, storage.TriggerConfig) (storage.TriggerHandle, error) {
	return nil, &storage.Error{Code: storage.TriggersNotSupportedErr, Message: "a snapshot never changes"}
}

func (*snapshot) Truncate(context.Context, storage.Transaction, storage.TransactionParams, storage.Iterator) error {
	return &storage.Error{Code: storage.WritesNotSupportedErr, Message: "a snapshot never changes"}
}

// Read returns the value at path, or a not-found error as OPA's stores do.
func (s *snapshot) Read(_ context.Context, _ storage.Transaction, path storage.Path) (any, error) {
	v := s.root
	for i, step := range path {
		if v = s.member(v, step); v == nil {
			return nil, &storage.Error{Code: storage.NotFoundErr, Message: path[:i+1].String()}
		}
	}
	return v, nil
}

// member returns nil where there is none.
func (s *snapshot) member(v ast.Value, step string) ast.Value {
	switch v := v.(type) {
	case ast.Object:
		if index, ok := s.indexes[v]; ok {
			return index[step]
		}
		if term := v.Get(ast.InternedTerm(step)); term != nil {
			return term.Value
		}
	case *ast.Array:
		if i, err := strconv.Atoi(step); err == nil && 0 <= i && i < v.Len() {
			return v.Elem(i).Value
		}
	}
	return nil
}
