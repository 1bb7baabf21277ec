package engine

import (
	"context"
	"errors"

	"github.com/stagedoor/stagedoor/adapter/alike"
	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/vetted"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// shared are the decisions of one batch that are made for all callers of a kind. They
// are made and remembered for who stands for them, and then become the caller's own.
type shared struct {
	engine *Engine
	state  *vetted.State
	kind   alike.Kind
	world  world
	known  *remembered
	// decided are the decisions made anew, and own what became of each.
	decided map[question]*decision.Outcome
	own     map[*decision.Outcome]*decision.Outcome
	hits    int // of what was known of the kind
}

// sharedBy are the decisions that the caller shares with others; nil for none.
func (e *Engine) sharedBy(s *vetted.State, w world) *shared {
	callers := s.Alike()
	if callers == nil {
		return nil
	}
	kind, ok := callers.Kind(s.Number, w.caller)
	if !ok {
		return nil
	}
	w.identity, w.standsFor = decision.Identity(kind.Caller), true
	return &shared{
		engine: e, state: s, kind: kind, world: w, known: e.memo.of(kind.Key),
		decided: make(map[question]*decision.Outcome),
		own:     make(map[*decision.Outcome]*decision.Outcome),
	}
}

// ask is the answer to one permission; nil where it is to be decided for this caller.
func (s *shared) ask(ctx context.Context, of question, p wire.Permission) *decision.Outcome {
	if s == nil {
		return nil
	}
	o := s.known.outcome(of)
	known := o != nil
	if !known {
		o = s.engine.ask(ctx, s.state, &s.world, s.kind.Key, of, p)
		if ctx.Err() != nil {
			return o
		}
		if f, failed := errors.AsType[*decision.Failure](o.Err); failed {
			if f.Kind == decision.FailureDeadline || f.Kind == decision.FailureBounds {
				return o // of a caller with as many texts or more it is no better
			}
			o = s.engine.memo.apart // what an error quotes must be the caller's own
		}
		if len(o.Excluded) > 0 {
			o = s.engine.memo.apart
		}
		s.decided[of] = o
	}
	if o == s.engine.memo.apart {
		return nil
	}
	own := s.own[o]
	if own == nil {
		var ok bool
		if own, ok = s.kind.Own(o); !ok {
			s.decided[of] = s.engine.memo.apart
			return nil
		}
		s.own[o] = own
	}
	if known {
		s.hits++
	}
	return own
}

// remember remembers what was decided for the kind.
func (s *shared) remember() {
	if s != nil && len(s.decided) > 0 {
		s.engine.memo.add(s.kind.Key, s.known, s.decided)
	}
}
