package supply

import (
	"context"
	"maps"
	"slices"

	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/storage"

	"github.com/stagedoor/stagedoor/adapter/vetted"
)

// ActivateLocal takes in a bundle as one that was read from Path.
func (s *Supply) ActivateLocal(ctx context.Context, b *bundle.Bundle) error {
	return s.activateLocal(ctx, b)
}

// Held are the names of the bundles that the store has.
func (s *Supply) Held(ctx context.Context) (names []string, err error) {
	err = storage.Txn(ctx, s.store, storage.TransactionParams{}, func(txn storage.Transaction) error {
		active, err := vetted.Active(ctx, s.store, txn)
		names = slices.Sorted(maps.Keys(active))
		return err
	})
	return names, err
}

// Settle is how long no file may change before a changed policy is taken in.
const Settle = settle

// LocalBundle is the name under which a policy on this machine is activated.
const LocalBundle = localBundle
