package engine

import (
	"errors"
	"fmt"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/stagedoor/stagedoor/adapter/decision"
)

// overran remembers for a while which decisions ran into a limit, so that who asks
// again and again does not have it found out again and again. It is safe for
// concurrent use.
type overran struct {
	cache *otter.Cache[asked, overrun]
}

// overrun is a decision that ran into a limit.
type overrun struct {
	outcome *decision.Outcome
	until   time.Time
}

const (
	// overranFor is how long it is remembered. A policy that overran under a passing
	// load is asked again soon.
	overranFor = 2 * time.Second
	// overranMost is how many are remembered.
	overranMost = 4096
)

func newOverran() (*overran, error) {
	cache, err := otter.New(&otter.Options[asked, overrun]{MaximumSize: overranMost})
	if err != nil {
		return nil, fmt.Errorf("memo of decisions that overran: %w", err)
	}
	return &overran{cache}, nil
}

// last is the failure of a decision that ran into a limit a moment ago; nil where it
// did not.
func (o *overran) last(a asked, now time.Time) *decision.Outcome {
	found, known := o.cache.GetIfPresent(a)
	if !known || !now.Before(found.until) {
		return nil
	}
	return found.outcome
}

// note remembers the outcome where it is one that ran into a limit.
func (o *overran) note(a asked, outcome *decision.Outcome, now time.Time) {
	f, failed := errors.AsType[*decision.Failure](outcome.Err)
	if !failed || f.Kind != decision.FailureDeadline && f.Kind != decision.FailureBounds {
		return
	}
	again := *outcome
	again.Remembered = true
	o.cache.Set(a, overrun{&again, now.Add(overranFor)})
}
