package policy

import (
	"context"
	"fmt"
	"sync"

	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
)

// store is the store that OPA's bundle plugin activates into. What is written
// becomes the serving policy only when the activator has vetted it: activate
// prepares a state inside the write transaction, and commit publishes it.
type store struct {
	storage.Store
	activate func(*bundle.ActivateOpts) (*State, error)
	publish  func(*State)

	// commit makes publishing one step with committing, so that the snapshot of
	// a state is of its own transaction and states are published in order.
	commit  sync.Mutex
	pending sync.Map // transaction id to *State
}

func newStore(activate func(*bundle.ActivateOpts) (*State, error), publish func(*State)) *store {
	return &store{
		Store: inmem.NewWithOpts(
			inmem.OptReturnASTValuesOnRead(true),
			inmem.OptRoundTripOnWrite(false),
		),
		activate: activate,
		publish:  publish,
	}
}

// Commit commits the transaction and publishes the state that was activated in it.
func (s *store) Commit(ctx context.Context, txn storage.Transaction) error {
	vetted, activated := s.pending.LoadAndDelete(txn.ID())
	if !activated {
		return s.Store.Commit(ctx, txn)
	}
	s.commit.Lock()
	defer s.commit.Unlock()
	if err := s.Store.Commit(ctx, txn); err != nil {
		return err
	}
	state := vetted.(*State)
	snap, err := takeSnapshot(ctx, s.Store, state.roots)
	if err != nil {
		return fmt.Errorf("read the data of the new policy: %w", err)
	}
	*state.data = *snap
	s.publish(state)
	return nil
}

// Abort drops the transaction and what was activated in it.
func (s *store) Abort(ctx context.Context, txn storage.Transaction) {
	s.pending.Delete(txn.ID())
	s.Store.Abort(ctx, txn)
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
	if !ours || len(opts.Bundles) == 0 { // none: the plugin manager prepares the empty store
		return (&bundle.DefaultActivator{}).Activate(opts)
	}
	state, err := s.activate(opts)
	if err != nil {
		return err
	}
	if state != nil {
		s.pending.Store(opts.Txn.ID(), state)
	}
	return nil
}
