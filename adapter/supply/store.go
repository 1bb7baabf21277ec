package supply

import (
	"context"
	"maps"
	"sync"
	"sync/atomic"

	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/plugins"
	"github.com/open-policy-agent/opa/v1/storage"

	"github.com/stagedoor/stagedoor/adapter/document"
	"github.com/stagedoor/stagedoor/adapter/vetted"
)

// store is the store that OPA's bundle plugin activates into. What is written
// becomes the serving policy only when it has been vetted, inside the write
// transaction; its commit publishes it.
//
// A write transaction excludes every other one until its state is published, so
// that states are published in order.
type store struct {
	*document.Store
	supply *Supply
	writer document.Turn
	write  atomic.Pointer[writing] // the transaction that holds writer
	holds  map[string]fingerprint  // of the bundles in it; guarded by writer
	// made is the state that was made of what is committed; nil where that has none. It is
	// guarded by writer too.
	made *vetted.State
}

// writing is a write transaction.
type writing struct {
	*document.Transaction
	context *storage.Context
	vetted  bool          // by activate, or written from outside
	state   *vetted.State // nil where a further bundle is awaited
	arrived map[string]fingerprint
	// unchanged is whether these serve already, and nothing is written.
	unchanged bool
}

func newStore(s *Supply) *store {
	return &store{Store: document.NewStore(), supply: s, writer: document.NewTurn(), holds: map[string]fingerprint{}}
}

// NewTransaction begins a transaction; one that writes waits for its turn, as long as the
// context lets it.
func (s *store) NewTransaction(ctx context.Context, params ...storage.TransactionParams) (storage.Transaction, error) {
	if len(params) == 0 || !params[0].Write {
		return s.Store.NewTransaction(ctx, params...)
	}
	if err := s.writer.Take(ctx); err != nil {
		return nil, err
	}
	txn, err := s.Store.NewTransaction(ctx, params...)
	if err != nil {
		s.writer.Give()
		return nil, err
	}
	t, _ := txn.(*document.Transaction) // there are no others
	s.write.Store(&writing{Transaction: t, context: params[0].Context})
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
	if w.state != nil && w.context != nil {
		// OPA has a new one for every bundle, in which nothing is where data alone changed.
		plugins.SetCompilerOnContext(w.context, w.state.Compiler())
	}
	written := w.Touched()
	if err := s.Store.Commit(ctx, txn); err != nil {
		return err
	}
	maps.Copy(s.holds, w.arrived)
	serves := s.supply.State()
	follows := serves != nil && serves == s.made
	if w.state != nil {
		w.state.Complete(vetted.Commit{Data: s.Document(), Written: written, Since: s.supply.now()}, serves, follows)
		s.supply.publish(w.state)
	}
	if w.state != nil || len(written) > 0 {
		s.made = w.state
	}
	return nil
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
	s.writer.Give()
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
