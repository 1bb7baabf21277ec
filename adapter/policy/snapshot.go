package policy

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
// of the bundles that it replaces; below them subtrees are exchanged whole. A
// snapshot therefore copies the objects down to the roots and shares the rest.
type snapshot struct {
	storage.WritesNotSupported
	storage.PolicyNotSupported
	root ast.Value
}

// takeSnapshot reads the data of store, which must return AST values on read.
// Paths are the roots of all bundles that it holds.
func takeSnapshot(ctx context.Context, store storage.Store, paths []storage.Path) (*snapshot, error) {
	txn, err := store.NewTransaction(ctx)
	if err != nil {
		return nil, err
	}
	defer store.Abort(ctx, txn)
	root, err := store.Read(ctx, txn, storage.RootPath)
	if err != nil {
		return nil, err
	}
	value, err := ast.InterfaceToValue(root)
	if err != nil {
		return nil, err
	}
	return &snapshot{root: copySpine(value, paths)}, nil
}

// copySpine copies the objects that lie on the paths, the last one included.
func copySpine(v ast.Value, paths []storage.Path) ast.Value {
	obj, ok := v.(ast.Object)
	if !ok || len(paths) == 0 {
		return v
	}
	below := map[string][]storage.Path{}
	for _, path := range paths {
		if len(path) > 0 {
			below[path[0]] = append(below[path[0]], path[1:])
		}
	}
	if len(below) == 0 {
		return v
	}
	members := make([][2]*ast.Term, 0, obj.Len())
	obj.Foreach(func(key, value *ast.Term) {
		if name, ok := key.Value.(ast.String); ok && below[string(name)] != nil {
			value = ast.NewTerm(copySpine(value.Value, below[string(name)]))
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
		term := member(v, step)
		if term == nil {
			return nil, &storage.Error{Code: storage.NotFoundErr, Message: path[:i+1].String()}
		}
		v = term.Value
	}
	return v, nil
}

func member(v ast.Value, step string) *ast.Term {
	switch v := v.(type) {
	case ast.Object:
		return v.Get(ast.InternedTerm(step))
	case *ast.Array:
		if i, err := strconv.Atoi(step); err == nil && 0 <= i && i < v.Len() {
			return v.Elem(i)
		}
	}
	return nil
}
