package engine

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"unique"

	"github.com/maypok86/otter/v2"

	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/vetted"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// memo remembers the decisions of deterministic policies, by caller and then by
// permission. The caller's key stands for the state that decided and for every part
// of the identity that this state's policy reads, so that a new policy needs no
// clearing and an old answer is never served.
//
// It is bounded by bytes and safe for concurrent use.
type memo struct {
	cache *otter.Cache[callerKey, *remembered]
	// plain are the outcomes that say ALLOW or DENY and nothing else, as most do. All
	// callers have the same two.
	plain map[wire.Result]*decision.Outcome
	// reasoned are those that say a reason beside, by what they say: a reason is often
	// about the permission, and the same for all callers.
	reasoned sharedOutcomes
	// apart stands for a decision that callers of a kind do not share.
	apart *decision.Outcome
	// evicted counts what was forgotten for want of room.
	evicted atomic.Uint64
}

// remembered is what one policy decided for one caller. It is immutable: what is
// decided later makes another one.
type remembered struct {
	// Most callers ask the same few questions; a map would have room for eight at least.
	few     []answered
	many    map[question]*decision.Outcome // all, where they are not few
	answers []*decision.Outcome            // that are not plain, each once, however many questions have it
	weight  uint32
}

// answered is the outcome of one question.
type answered struct {
	question question
	outcome  *decision.Outcome
}

// question is what of a permission matters to a decision. Those that several callers
// ask are in memory once.
type question = unique.Handle[wire.Permission]

// outcome returns what was decided, or nil.
func (r *remembered) outcome(of question) *decision.Outcome {
	if r == nil {
		return nil
	}
	for _, a := range r.few {
		if a.question == of {
			return a.outcome
		}
	}
	return r.many[of]
}

// all are the outcomes of all questions, which the caller may add to.
func (r *remembered) all() map[question]*decision.Outcome {
	all := maps.Clone(r.many)
	if all == nil {
		all = make(map[question]*decision.Outcome, len(r.few))
	}
	for _, a := range r.few {
		all[a.question] = a.outcome
	}
	return all
}

const (
	// defaultMemo bounds the memo as a whole, in bytes, as if no two callers asked the same.
	defaultMemo = 96 << 20
	// memoPermissions bounds what is remembered of one caller, who can make up
	// permissions. Backstage's plugins together have some hundreds.
	memoPermissions = 2048
	// memoFew is how many questions are looked through as fast as found in a map.
	memoFew = 8
	// What a caller, a question and an answer cost, roughly: so many bytes besides
	// their texts.
	callerOverhead   = 400
	questionOverhead = 300
	answerOverhead   = 400
)

func newMemo(bytes int64) (*memo, error) {
	m := &memo{plain: map[wire.Result]*decision.Outcome{}, apart: &decision.Outcome{}}
	var err error
	m.cache, err = otter.New(&otter.Options[callerKey, *remembered]{
		MaximumWeight: uint64(bytes), //nolint:gosec // it is not negative
		Weigher:       func(_ callerKey, r *remembered) uint32 { return r.weight + callerOverhead },
		OnAtomicDeletion: func(e otter.DeletionEvent[callerKey, *remembered]) {
			if e.WasEvicted() {
				m.evicted.Add(1)
			}
		},
	})
	if err != nil {
		return nil, fmt.Errorf("memo of decisions: %w", err)
	}
	for _, result := range []wire.Result{wire.Allow, wire.Deny} {
		m.plain[result] = &decision.Outcome{Decision: wire.Decision{Result: result}, Remembered: true}
	}
	return m, nil
}

// sharedOutcomes are outcomes that callers share. Safe for concurrent use.
type sharedOutcomes struct {
	mu sync.Mutex
	by map[saying]*decision.Outcome
}

// maxShared is how many outcomes are shared, and maxReason the length of their reasons.
// Beyond, the sharing begins anew, since reasons may differ from caller to caller.
const (
	maxShared = 256
	maxReason = 2_048
)

// remember returns the outcome as it is remembered: one that other callers have, where
// it is ALLOW or DENY for a reason and nothing else.
func (s *sharedOutcomes) remember(o *decision.Outcome) *decision.Outcome {
	if o.Remembered {
		return o // with all callers of a kind
	}
	remembered := *o
	remembered.Remembered = true
	if o.Decision.Result == wire.Conditional || len(o.Excluded)+len(o.RuleLabels) > 0 || len(o.Reason) > maxReason {
		return &remembered
	}
	says := sayingOf(o)
	s.mu.Lock()
	defer s.mu.Unlock()
	if shared := s.by[says]; shared != nil {
		return shared
	}
	if s.by == nil || len(s.by) == maxShared {
		s.by = make(map[saying]*decision.Outcome)
	}
	s.by[says] = &remembered
	return &remembered
}

// of returns what was decided for the caller of that key; nil for nothing.
func (m *memo) of(key callerKey) *remembered {
	r, _ := m.cache.GetIfPresent(key)
	return r
}

// add remembers what was decided beside what is known already. Of two that do so
// for one caller at a time one may get lost, and is decided again.
func (m *memo) add(key callerKey, known *remembered, decided map[question]*decision.Outcome) {
	r, all := &remembered{}, map[question]*decision.Outcome{}
	if known != nil && len(known.few)+len(known.many)+len(decided) <= memoPermissions {
		all = known.all()
		r.answers, r.weight = slices.Clone(known.answers), known.weight
	}
	said := make(map[saying][]*decision.Outcome, len(r.answers))
	for _, answer := range r.answers {
		says := sayingOf(answer)
		said[says] = append(said[says], answer)
	}
	for of, outcome := range decided {
		if outcome.Err != nil || len(all) == memoPermissions {
			continue
		}
		r.weight += weight(questionOverhead + len(of.Value().Name) + len(of.Value().ResourceType))
		if outcome == m.apart {
			all[of] = outcome
			continue
		}
		if isPlain(outcome) {
			all[of] = m.plain[outcome.Decision.Result]
			continue
		}
		says := sayingOf(outcome)
		at := slices.IndexFunc(said[says], func(other *decision.Outcome) bool { return foundAlike(outcome, other) })
		if at < 0 {
			answer := m.reasoned.remember(outcome)
			at = len(said[says])
			said[says] = append(said[says], answer)
			r.answers = append(r.answers, answer)
			r.weight += weight(answerOverhead + answer.Size())
		}
		all[of] = said[says][at]
	}
	if len(all) > memoFew {
		r.many = all
	} else {
		for of, outcome := range all {
			r.few = append(r.few, answered{of, outcome})
		}
	}
	if len(all) > 0 {
		m.cache.Set(key, r)
	}
}

// isPlain reports whether the outcome is ALLOW or DENY, without a reason and a note of
// how it was found.
func isPlain(o *decision.Outcome) bool {
	return o.Decision.Result != wire.Conditional && o.Reason == "" && len(o.Excluded)+len(o.RuleLabels) == 0
}

// saying is what an outcome says. The rest is how it was found.
type saying struct{ decision, reason string }

func sayingOf(o *decision.Outcome) saying { return saying{o.Decision.Text(), o.Reason} }

// foundAlike reports whether two outcomes that say the same were found in the same way.
func foundAlike(o, other *decision.Outcome) bool {
	return len(o.Excluded)+len(other.Excluded) == 0 && reflect.DeepEqual(o.RuleLabels, other.RuleLabels)
}

// weight is a number of bytes as the cache takes it.
func weight(bytes int) uint32 {
	return uint32(min(bytes, math.MaxUint32/2)) //nolint:gosec // it is bounded
}

// callerKey is the memo's key for what a state decides for a caller: the SHA-256 of
// the state's number and of what its policy reads of the caller.
type callerKey [sha256.Size]byte

func callerKeyOf(s *vetted.State, c decision.Caller) callerKey {
	b := make([]byte, 0, 512)
	b = binary.AppendUvarint(b, s.Number)
	if s.Reads(vetted.PartAnonymous) {
		b = appendBool(b, c.Anonymous)
	}
	if s.Reads(vetted.PartUser) {
		b = appendString(b, c.User)
	}
	if s.Reads(vetted.PartActor) {
		b = appendString(b, c.Actor)
	}
	if s.Reads(vetted.PartClaims) {
		b = binary.AppendUvarint(b, uint64(len(c.Claims)))
		for _, claim := range c.Claims {
			b = appendString(b, claim)
		}
	}
	return sha256.Sum256(b)
}

// questionOf is the permission as far as it matters to a state's decision: what its
// policy reads, and the kind of resource, which conditions have to fit.
func questionOf(s *vetted.State, p wire.Permission) question {
	if !s.Reads(vetted.PartName) {
		p.Name = ""
	}
	if !s.Reads(vetted.PartAction) {
		p.Action = ""
	}
	return unique.Make(p)
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}
