package supply

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/plugins"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"

	"github.com/stagedoor/stagedoor/adapter/vetted"
)

// store is the store that OPA's bundle plugin activates into. What is written
// becomes the serving policy only when it has been vetted, inside the write
// transaction; its commit publishes it.
//
// A write transaction excludes every other one until its snapshot is taken, so
// that the snapshot is of its own data and states are published in order.
type store struct {
	storage.Store
	supply *Supply
	writer sync.Mutex
	write  atomic.Pointer[writing] // the transaction that holds writer
	holds  map[string]fingerprint  // of the bundles in it; guarded by writer
}

// writing is a write transaction.
type writing struct {
	storage.Transaction
	context *storage.Context
	vetted  bool          // by activate
	state   *vetted.State // nil where a further bundle is awaited
	arrived map[string]fingerprint
	// unchanged is whether these serve already, and nothing is written.
	unchanged bool
}

func newStore(s *Supply) *store {
	return &store{
		Store: inmem.NewWithOpts(
			inmem.OptReturnASTValuesOnRead(true),
			inmem.OptRoundTripOnWrite(false),
		),
		supply: s,
		holds:  map[string]fingerprint{},
	}
}

// NewTransaction begins a transaction; one that writes waits for its turn.
func (s *store) NewTransaction(ctx context.Context, params ...storage.TransactionParams) (storage.Transaction, error) {
	if len(params) == 0 || !params[0].Write {
		return s.Store.NewTransaction(ctx, params...)
	}
	s.writer.Lock()
	txn, err := s.Store.NewTransaction(ctx, params...)
	if err != nil {
		s.writer.Unlock()
		return nil, err
	}
	s.write.Store(&writing{Transaction: txn, context: params[0].Context})
	return txn, nil
}

// Commit commits the transaction and publishes the state that was vetted in it.
func (s *store) Commit(ctx context.Context, txn storage.Transaction) error {
	w := s.write.Load()
	if w == nil || w.Transaction != txn {
		return s.Store.Commit(ctx, txn)
	}
	defer s.end()
	switch {
	case w.unchanged: // OPA has set a compiler that compiled nothing.
		plugins.SetCompilerOnContext(w.context, s.supply.manager.GetCompiler())
		return s.Store.Commit(ctx, txn)
	case !w.vetted:
		w.state = s.supply.changed(ctx, w)
	}
	if err := s.Store.Commit(ctx, txn); err != nil {
		return err
	}
	maps.Copy(s.holds, w.arrived)
	root, err := readRoot(ctx, s.Store)
	if err != nil {
		return fmt.Errorf("read the data of the new policy: %w", err)
	}
	sortKeys(root)
	if w.state != nil {
		w.state.Complete(root, s.supply.State(), s.supply.now())
		s.supply.publish(w.state)
	}
	return nil
}

// readRoot returns all data of a store that returns AST values on read.
func readRoot(ctx context.Context, store storage.Store) (ast.Object, error) {
	root, err := storage.ReadOne(ctx, store, storage.RootPath)
	if err != nil {
		return nil, err
	}
	object, ok := root.(ast.Object)
	if !ok {
		return nil, fmt.Errorf("the data of the store is of type %T", root)
	}
	return object, nil
}

// sortKeys lets the objects of a document sort their keys. They do it when they
// are first iterated, and OPA copies subtrees in its write transactions by ways
// that must not meet with that.
func sortKeys(v ast.Value) {
	switch v := v.(type) {
	case ast.Object:
		v.Foreach(func(_, value *ast.Term) { sortKeys(value.Value) })
	case *ast.Array:
		v.Foreach(func(element *ast.Term) { sortKeys(element.Value) })
	}
}

// Abort drops the transaction and what was vetted in it.
func (s *store) Abort(ctx context.Context, txn storage.Transaction) {
	if w := s.write.Load(); w != nil && w.Transaction == txn {
		defer s.end()
	}
	s.Store.Abort(ctx, txn)
}

func (s *store) end() {
	s.write.Store(nil)
	s.writer.Unlock()
}

// Register registers a trigger, which gets AST values: nobody but the plugin manager
// registers one, and it looks at data for WebAssembly only, which is refused. OPA's
// conversion for it took a quarter of the time of activating a million members.
func (s *store) Register(
	ctx context.Context, txn storage.Transaction, trigger storage.TriggerConfig,
) (storage.TriggerHandle, error) {
	trigger.SkipDataConversion = true
	return s.Store.Register(ctx, txn, trigger)
}

// MakeDir creates the objects down to path in the way of the in-memory store,
// which does without copying what lies beside.
func (s *store) MakeDir(ctx context.Context, txn storage.Transaction, path storage.Path) error {
	return storage.MakeDir(ctx, s.Store, txn, path)
}

// activator is registered with OPA as the default activator of every bundle, in
// whatever way it arrives. OPA's registry is global to the process, but the
// activator has no state of its own: the store that is activated into knows what
// to do. A store that is not ours is activated as OPA would.
type activator struct{}

// activatorID names the activator in OPA's registry.
const activatorID = "stagedoor"

var registerActivator = sync.OnceFunc(func() {
	bundle.RegisterActivator(activatorID, activator{})
	bundle.RegisterDefaultBundleActivator(activatorID)
})

func (activator) Activate(opts *bundle.ActivateOpts) error {
	s, ours := opts.Store.(*store)
	switch {
	case !ours:
		return (&bundle.DefaultActivator{}).Activate(opts)
	case len(opts.Bundles) == 0: // the plugin manager prepares the empty store
		opts.ExtraModules = s.supply.vetter.Mask()
		return (&bundle.DefaultActivator{}).Activate(opts)
	}
	return s.supply.activate(opts, s.write.Load())
}
