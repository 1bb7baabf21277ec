package supply

import (
	"context"

	"github.com/open-policy-agent/opa/v1/bundle"
)

// ActivateLocal takes in a bundle as one that was read from Path.
func (s *Supply) ActivateLocal(ctx context.Context, b *bundle.Bundle) error {
	return s.activateLocal(ctx, b)
}

// Settle is how long no file may change before a changed policy is taken in.
const Settle = settle

// LocalBundle is the name under which a policy on this machine is activated.
const LocalBundle = localBundle
