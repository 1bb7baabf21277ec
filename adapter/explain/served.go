package explain

import (
	"context"
	"errors"
	"runtime"

	"github.com/stagedoor/stagedoor/adapter/fair"
	"github.com/stagedoor/stagedoor/adapter/offline"
	"github.com/stagedoor/stagedoor/adapter/vetted"
)

// waiting is how many explanations wait for their turn.
const waiting = 32

// Served explains beside a policy that serves. One explanation compiles and evaluates the
// policy many times, so that few are made at a time, and callers take turns. It is safe for
// concurrent use.
type Served struct{ turns *fair.Line }

// NewServed returns a Served that takes a quarter of the processors, or one.
func NewServed() *Served { return &Served{fair.NewLine(max(1, runtime.GOMAXPROCS(0)/4), waiting)} }

// ErrBusy is that too many wait for an explanation.
var ErrBusy = errors.New("as many wait for explanations as may")

// Explain explains when it is the turn of the party. The error is [ErrBusy] where too many
// wait, and else that of ctx or of the policy.
func (s *Served) Explain(
	ctx context.Context, of fair.Party, state *vetted.State, q offline.Question,
) (*Explanation, error) {
	switch err := s.turns.Begin(ctx, of); {
	case errors.Is(err, fair.ErrFull):
		return nil, ErrBusy
	case err != nil:
		return nil, err
	}
	defer s.turns.End()
	p, err := offline.Of(state, offline.Options{})
	if err != nil {
		return nil, err
	}
	defer func() { _ = p.Close(ctx) }() // nothing of it is on disk
	return Explain(ctx, p, q, nil)
}
