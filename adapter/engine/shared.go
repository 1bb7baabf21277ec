package engine

import (
	"context"
	"errors"
	"slices"

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
	decided map[question]answer
	own     map[*decision.Outcome]*decision.Outcome
	hits    int // of what was known of the kind
	// news is whether some of own was made of what was known of the kind, in so many bytes of
	// JSON.
	news bool
	made int64
}

// sharedBy are the decisions that the caller shares with others; nil for none.
func (e *Engine) sharedBy(s *vetted.State, w world) *shared {
	callers := s.Alike()
	if callers == nil {
		return nil
	}
	kind, ok := callers.Kind(s.Policy, w.caller)
	if !ok {
		return nil
	}
	w.standsFor = true
	return &shared{
		engine: e, state: s, kind: kind, world: w, known: e.memo.of(kind.Key, s, nil),
		decided: make(map[question]answer),
		own:     make(map[*decision.Outcome]*decision.Outcome),
	}
}

// kindKeyOf is the key of the caller's kind by a state; zero where there is none.
func kindKeyOf(s *vetted.State, caller decision.Caller) callerKey {
	if callers := s.Alike(); callers != nil {
		if kind, ok := callers.Kind(s.Policy, caller); ok {
			return kind.Key
		}
	}
	return callerKey{}
}

// key is the key of the kind; zero where there is none.
func (s *shared) key() callerKey {
	if s == nil {
		return callerKey{}
	}
	return s.kind.Key
}

// ask is the answer to one permission, without an outcome where it is to be decided for
// this caller.
func (s *shared) ask(ctx context.Context, of question, p wire.Permission) answer {
	if s == nil {
		return answer{}
	}
	var a answer
	last := s.known.find(of)
	if last != nil {
		a = answer{outcome: last.outcome, read: last.read, asked: last.asked, ofKind: len(s.known.answered) <= maxCommon}
	} else {
		if s.world.identity == nil {
			s.world.identity = decision.Identity(s.kind.Caller)
		}
		a = s.engine.ask(ctx, s.state, &s.world, s.kind.Key, of, p)
		if ctx.Err() != nil {
			return a
		}
		if f, failed := errors.AsType[*decision.Failure](a.outcome.Err); failed {
			if f.Kind == decision.FailureDeadline || f.Kind == decision.FailureBounds {
				return a // of a caller with as many texts or more it is no better
			}
			if !a.known() {
				return answer{} // it failed before it read anything, which says nothing of the kind
			}
			a.outcome = s.engine.memo.apart // what an error quotes must be the caller's own
		}
		if len(a.outcome.Excluded) > 0 {
			a.outcome = s.engine.memo.apart
		}
		s.decided[of] = a
	}
	if a.outcome == s.engine.memo.apart {
		return answer{}
	}
	own := s.own[a.outcome]
	if own == nil {
		var ok bool
		if own, ok = s.kind.Own(a.outcome); !ok {
			s.decided[of] = answer{outcome: s.engine.memo.apart, read: a.read, asked: a.asked}
			return answer{}
		}
		s.own[a.outcome] = own
		if a.ofKind && own != a.outcome {
			s.made += int64(len(own.Decision.Text()))
			s.news = true
		}
	}
	if last != nil {
		s.hits++
	}
	a.outcome = own
	return a
}

// ownOf are the outcomes that the caller of whom that is known has in place of those that are
// known of the kind.
func (s *shared) ownOf(known *remembered) []owned {
	if s == nil || s.known == nil {
		return nil
	}
	var own []owned
	if known != nil {
		own = slices.DeleteFunc(slices.Clone(known.own), func(o owned) bool {
			return !slices.Contains(s.known.answers, o.ofKind)
		})
	}
	for _, outcome := range s.known.answers {
		if of := s.own[outcome]; of != nil && of != outcome {
			own = append(own, owned{outcome, of})
		}
	}
	return own
}

// bytes is how much JSON was made of what was known of the kind.
func (s *shared) bytes() int64 {
	if s == nil {
		return 0
	}
	return s.made
}

// remember remembers what was decided for the kind.
func (s *shared) remember() {
	if s != nil && len(s.decided) > 0 {
		s.engine.memo.addOfKind(s.kind.Key, s.state.Number, s.known, s.decided, s.kind.Common)
	}
}
