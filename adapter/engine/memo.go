package engine

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"unique"

	"github.com/maypok86/otter/v2"

	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/document/touch"
	"github.com/stagedoor/stagedoor/adapter/vetted"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// memo remembers the decisions of deterministic policies, by caller and then by
// permission. The caller's key stands for the policy that decided and for every part
// of the identity that it reads, so that a new policy needs no clearing and an old
// answer is never served. Where the data of a policy changes, what was decided is kept
// that read nothing of what has changed.
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
	many    map[question]answer // all, where they are not few
	answers []*decision.Outcome // that are not plain, each once, however many questions have it
	reads   []touch.Read        // each once
	weight  uint32
	// kind is the key of the caller's kind where some of it was decided for that: it is
	// right as long as the caller is of the kind. It is zero where nothing was.
	kind callerKey
	// It is right by all states from the number from up to the number to.
	from uint64
	to   atomic.Uint64
}

// answer is an outcome, and what data it was made of.
type answer struct {
	outcome *decision.Outcome
	read    touch.Read
}

// answered is the answer to one question.
type answered struct {
	question question
	answer
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
	return r.many[of].outcome
}

// readBy is what data was read for a question.
func (r *remembered) readBy(of question) touch.Read {
	for _, a := range r.few {
		if a.question == of {
			return a.read
		}
	}
	return r.many[of].read
}

// all are the answers to all questions, which the caller may add to.
func (r *remembered) all() map[question]answer {
	all := maps.Clone(r.many)
	if all == nil {
		all = make(map[question]answer, len(r.few))
	}
	for _, a := range r.few {
		all[a.question] = a.answer
	}
	return all
}

// unreached are those of the answers that the changes do not reach.
func (r *remembered) unreached(c touch.Changes) map[question]answer {
	gone := make(map[touch.Read]bool, len(r.reads))
	for _, read := range r.reads {
		gone[read] = c.Reach(read)
	}
	all := r.all()
	maps.DeleteFunc(all, func(_ question, a answer) bool { return gone[a.read] })
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
	readOverhead     = 100
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

// of returns what the policy of a state decided for the caller of that key, as far as it
// is right by the state; nil for nothing. Kind is the key of the caller's kind by that state,
// zero where there is none.
func (m *memo) of(key callerKey, s *vetted.State, kind func() callerKey) *remembered {
	r, _ := m.cache.GetIfPresent(key)
	if r == nil || s.Number < r.from {
		return nil
	}
	to := r.to.Load()
	if s.Number <= to {
		return r
	}
	changes, known := s.ChangesSince(to)
	if !known || r.kind != (callerKey{}) && r.kind != kind() {
		return nil
	}
	if !slices.ContainsFunc(r.reads, changes.Reach) {
		r.to.CompareAndSwap(to, s.Number)
		return r
	}
	kept := m.assemble(s.Number, r.kind, nil, r.unreached(changes))
	m.set(key, kept)
	return kept
}

// add remembers what was decided by the state of a number beside what is known already.
// Of two that do so for one caller at a time one may get lost, and is decided again.
func (m *memo) add(key callerKey, number uint64, kind callerKey, known *remembered, decided map[question]answer) {
	m.set(key, m.assemble(number, kind, known, decided))
}

func (m *memo) set(key callerKey, r *remembered) {
	if len(r.few)+len(r.many) > 0 {
		m.cache.Set(key, r)
	}
}

// assemble makes what is remembered of what is known and decided.
func (m *memo) assemble(number uint64, kind callerKey, known *remembered, decided map[question]answer) *remembered {
	r, all := &remembered{from: number, kind: kind}, map[question]answer{}
	r.to.Store(number)
	if known != nil && len(known.few)+len(known.many)+len(decided) <= memoPermissions {
		all = known.all()
		r.answers, r.reads, r.weight = slices.Clone(known.answers), slices.Clone(known.reads), known.weight
	}
	said := make(map[saying][]*decision.Outcome, len(r.answers))
	for _, answer := range r.answers {
		says := sayingOf(answer)
		said[says] = append(said[says], answer)
	}
	for of, a := range decided {
		// Of a decision that came to no end nobody knows what it would have read.
		if a.outcome.Err != nil || a.read == (touch.Read{}) || len(all) == memoPermissions {
			continue
		}
		r.weight += weight(questionOverhead + len(of.Value().Name) + len(of.Value().ResourceType))
		if !slices.Contains(r.reads, a.read) {
			r.reads = append(r.reads, a.read)
			r.weight += weight(readOverhead + len(a.read.Value()))
		}
		all[of] = answer{m.share(r, said, a.outcome), a.read}
	}
	if len(all) > memoFew {
		r.many = all
		return r
	}
	for of, a := range all {
		r.few = append(r.few, answered{of, a})
	}
	return r
}

// share is an outcome as it is remembered beside what was said already.
func (m *memo) share(r *remembered, said map[saying][]*decision.Outcome, o *decision.Outcome) *decision.Outcome {
	switch {
	case o == m.apart:
		return o
	case isPlain(o):
		return m.plain[o.Decision.Result]
	}
	says := sayingOf(o)
	at := slices.IndexFunc(said[says], func(other *decision.Outcome) bool { return foundAlike(o, other) })
	if at < 0 {
		o = m.reasoned.remember(o)
		at = len(said[says])
		said[says] = append(said[says], o)
		r.answers = append(r.answers, o)
		r.weight += weight(answerOverhead + o.Size())
	}
	return said[says][at]
}

// isPlain reports whether the outcome is ALLOW or DENY, without a reason and a note of
// how it was found.
func isPlain(o *decision.Outcome) bool {
	return o.Decision.Result != wire.Conditional && o.Reason == "" &&
		len(o.Excluded)+len(o.RuleLabels)+len(o.Rules) == 0
}

// saying is what an outcome says. The rest is how it was found.
type saying struct{ decision, reason, rules string }

func sayingOf(o *decision.Outcome) saying {
	var rules strings.Builder
	for _, rule := range o.Rules {
		rules.WriteString(rule.Place + "\n")
	}
	return saying{o.Decision.Text(), o.Reason, rules.String()}
}

// foundAlike reports whether two outcomes that say the same were found in the same way.
func foundAlike(o, other *decision.Outcome) bool {
	return len(o.Excluded)+len(other.Excluded) == 0 && reflect.DeepEqual(o.RuleLabels, other.RuleLabels)
}

// weight is a number of bytes as the cache takes it.
func weight(bytes int) uint32 {
	return uint32(min(bytes, math.MaxUint32/2)) //nolint:gosec // it is bounded
}

// callerKey is the memo's key for what a state decides for a caller: the SHA-256 of
// the policy's number and of what it reads of the caller.
type callerKey [sha256.Size]byte

func callerKeyOf(s *vetted.State, c decision.Caller) callerKey {
	b := make([]byte, 0, 512)
	b = binary.AppendUvarint(b, s.Policy)
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
