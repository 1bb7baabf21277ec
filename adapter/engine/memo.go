package engine

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"math"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

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
// Callers of a kind share what is remembered of the kind (package alike), which has a key
// of its own. Of the caller there is the rest: what becomes of outcomes with placeholders,
// and what is decided for each.
//
// It is bounded by bytes and safe for concurrent use.
type memo struct {
	cache *otter.Cache[callerKey, *remembered]
	// plain are the outcomes that say ALLOW or DENY and nothing else, as most do. All
	// callers have the same two.
	plain map[wire.Result]*decision.Outcome
	// reasoned are those that say a reason beside, by what they say: a reason is often
	// about the permission, and the same for all callers.
	reasoned shelf[saying, decision.Outcome]
	// asked are the questions that callers share, and read what data was read for them.
	asked shelf[wire.Permission, wire.Permission]
	read  shelf[touch.Read, touch.Read]
	seed  maphash.Seed
	// apart stands for a decision that callers of a kind do not share.
	apart *decision.Outcome
	// evicted counts what was forgotten for want of room.
	evicted atomic.Uint64
}

// remembered is what one policy decided for one caller. It is immutable: what is
// decided later makes another one.
type remembered struct {
	answered []answered          // in the order of their hashes
	answers  []*decision.Outcome // that are not plain, each once, however many questions have it
	reads    []*touch.Read       // each once
	weight   uint32
	// kind is the key of the caller's kind where some of it was decided for that: it is
	// right as long as the caller is of the kind. It is zero where nothing was.
	kind callerKey
	// common are those outcomes of a kind that are the same for all callers of it; others
	// have placeholders. Of what is remembered of a caller there are none.
	common []*decision.Outcome
	// own are the caller's own outcomes, by those of the kind of which they are made.
	own       []owned
	ownWeight uint32
	// It is right by all states from the number from up to the number to.
	from uint64
	to   atomic.Uint64
}

// question is what of a permission matters to a decision, with a hash of it.
//
// Questions are compared by what they say. A handle of package unique would be shorter to
// keep, but to make one waits for the end of a collection that is about to end.
type question struct {
	wire.Permission
	hash uint64
}

// answer is an outcome, and what data it was made of; nil where nobody knows.
type answer struct {
	outcome *decision.Outcome
	read    *touch.Read
	// asked is the question as it is remembered; nil where it is not yet.
	asked *wire.Permission
	// ofKind is whether it is remembered of the caller's kind, or made of what is.
	ofKind bool
}

// owned is an outcome of a kind with placeholders, and the one that a caller has in its place.
// It is right for as long as there is one of the kind.
type owned struct{ ofKind, own *decision.Outcome }

// known is whether it is known what data the answer was made of. Of a decision that came to
// no end nobody knows what it would have read.
func (a answer) known() bool { return a.read != nil && *a.read != (touch.Read{}) }

// answered is the answer to one question, in as few bytes as can be: there are as many as
// callers by permissions.
type answered struct {
	hash    uint64
	asked   *wire.Permission
	outcome *decision.Outcome
	read    *touch.Read
}

// find returns the answer to a question, or nil.
func (r *remembered) find(of question) *answered {
	if r == nil {
		return nil
	}
	at, _ := slices.BinarySearchFunc(r.answered, of.hash, func(a answered, hash uint64) int {
		return cmp.Compare(a.hash, hash)
	})
	for ; at < len(r.answered) && r.answered[at].hash == of.hash; at++ {
		if *r.answered[at].asked == of.Permission {
			return &r.answered[at]
		}
	}
	return nil
}

// outcome returns what was decided, or nil.
func (r *remembered) outcome(of question) *decision.Outcome {
	if a := r.find(of); a != nil {
		return a.outcome
	}
	return nil
}

// outcomeOf returns what was decided for the kind of the caller, as the caller has it; or nil.
func (r *remembered) outcomeOf(kind *remembered, of question) *decision.Outcome {
	a := kind.find(of)
	switch {
	case a == nil:
		return nil
	case slices.Contains(kind.common, a.outcome):
		return a.outcome
	}
	for _, o := range r.own {
		if o.ofKind == a.outcome {
			return o.own
		}
	}
	return nil
}

// keep has r remember what the caller has in place of outcomes of the kind.
func (r *remembered) keep(own []owned) *remembered {
	r.own = own
	for _, o := range own {
		r.ownWeight += weight(2*answerOverhead + o.ofKind.Size() + o.own.Size())
	}
	return r
}

// unreached are those of the answers that the changes do not reach.
func (r *remembered) unreached(c touch.Changes) map[question]answer {
	gone := make(map[touch.Read]bool, len(r.reads))
	for _, read := range r.reads {
		gone[*read] = c.Reach(*read)
	}
	left := make(map[question]answer, len(r.answered))
	for _, a := range r.answered {
		if !gone[*a.read] {
			left[question{*a.asked, a.hash}] = answer{outcome: a.outcome, read: a.read, asked: a.asked}
		}
	}
	return left
}

const (
	// defaultMemo bounds the memo as a whole, in bytes, as if no two callers asked the same.
	defaultMemo = 96 << 20
	// memoPermissions bounds what is remembered of one caller, who can make up
	// permissions. Backstage's plugins together have some hundreds.
	memoPermissions = 2048
	// maxCommon is of how many questions to a kind its callers rely on one another. One who
	// makes up more has the kind's forgotten, but not what others remember themselves.
	maxCommon = memoPermissions / 2
	// What a caller, a question and an answer cost, roughly: so many bytes besides
	// their texts.
	callerOverhead   = 400
	questionOverhead = 300
	answerOverhead   = 400
	readOverhead     = 100
)

func newMemo(bytes int64) (*memo, error) {
	m := &memo{plain: map[wire.Result]*decision.Outcome{}, apart: &decision.Outcome{}, seed: maphash.MakeSeed()}
	var err error
	m.cache, err = otter.New(&otter.Options[callerKey, *remembered]{
		MaximumWeight: uint64(bytes), //nolint:gosec // it is not negative
		Weigher:       func(_ callerKey, r *remembered) uint32 { return r.weight + r.ownWeight + callerOverhead },
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

// shelf has one of each thing that callers share in memory, by what it says. It saves room
// and nothing else: of what is too long there are several, and the sharing begins anew where
// there is too much. Safe for concurrent use.
type shelf[K comparable, V any] struct {
	mu sync.Mutex
	by map[K]*V
}

// maxShared is how many of a kind are shared, and maxSharedText how many bytes each may
// say: callers can make up what they say.
const (
	maxShared     = 1024
	maxSharedText = 2048
)

// find returns what is shared of what says so, or nil.
func (s *shelf[K, V]) find(says K) *V {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.by[says]
}

// put shares v, which says so in as many bytes, and returns it; or what is shared already.
func (s *shelf[K, V]) put(says K, size int, v *V) *V {
	if size > maxSharedText {
		return v
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if shared := s.by[says]; shared != nil {
		return shared
	}
	if s.by == nil || len(s.by) == maxShared {
		s.by = make(map[K]*V)
	}
	s.by[says] = v
	return v
}

// shareQuestion returns what is asked as it is remembered: without the body of the request.
func (m *memo) shareQuestion(asked wire.Permission) *wire.Permission {
	if shared := m.asked.find(asked); shared != nil {
		return shared
	}
	p := wire.Permission{
		Name: strings.Clone(asked.Name), Action: strings.Clone(asked.Action),
		Resource: asked.Resource, ResourceType: strings.Clone(asked.ResourceType),
	}
	return m.asked.put(p, len(p.Name)+len(p.ResourceType), &p)
}

// shareReasoned returns an outcome as it is remembered: one that other callers have, where
// it is ALLOW or DENY for a reason and nothing else.
func (m *memo) shareReasoned(o *decision.Outcome) *decision.Outcome {
	if o.Remembered {
		return o // with all callers of a kind
	}
	remembered := *o
	remembered.Remembered = true
	if o.Decision.Result == wire.Conditional || len(o.Excluded)+len(o.RuleLabels) > 0 {
		return &remembered
	}
	return m.reasoned.put(sayingOf(o), len(o.Reason), &remembered)
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
	if !slices.ContainsFunc(r.reads, func(read *touch.Read) bool { return changes.Reach(*read) }) {
		r.to.CompareAndSwap(to, s.Number)
		return r
	}
	kept := m.assemble(s.Number, r.kind, nil, r.unreached(changes)).keep(r.own)
	kept.common = r.common
	m.set(key, kept)
	return kept
}

// ofKind returns what is remembered of the kind of a caller of whom that is known, as far as
// it is right by the state; nil for nothing.
func (m *memo) ofKind(known *remembered, s *vetted.State) *remembered {
	if known == nil || known.kind == (callerKey{}) {
		return nil
	}
	return m.of(known.kind, s, nil)
}

// add remembers what was decided by the state of a number beside what is known already.
// Of two that do so for one caller at a time one may get lost, and is decided again. Own is
// what the caller has in place of outcomes of the kind.
func (m *memo) add(
	key callerKey, number uint64, kind callerKey, known *remembered, decided map[question]answer, own []owned,
) {
	m.set(key, m.assemble(number, kind, known, decided).keep(own))
}

// addOfKind does so for a kind. Common is whether an outcome is the same for all callers of
// it.
func (m *memo) addOfKind(
	key callerKey, number uint64, known *remembered, decided map[question]answer, common func(*decision.Outcome) bool,
) {
	r := m.assemble(number, callerKey{}, known, decided)
	for _, outcome := range slices.Concat(r.answers, []*decision.Outcome{m.plain[wire.Allow], m.plain[wire.Deny]}) {
		if common(outcome) {
			r.common = append(r.common, outcome)
		}
	}
	m.set(key, r)
}

func (m *memo) set(key callerKey, r *remembered) {
	if len(r.answered) > 0 || r.kind != (callerKey{}) {
		m.cache.Set(key, r)
	}
}

// assemble makes what is remembered of what is known and decided.
func (m *memo) assemble(number uint64, kind callerKey, known *remembered, decided map[question]answer) *remembered {
	r := &remembered{from: number, kind: kind}
	r.to.Store(number)
	if known != nil && len(known.answered)+len(decided) <= memoPermissions {
		r.answered = slices.DeleteFunc(slices.Clone(known.answered), func(a answered) bool {
			_, again := decided[question{*a.asked, a.hash}]
			return again
		})
		r.answers, r.reads, r.weight = slices.Clone(known.answers), slices.Clone(known.reads), known.weight
	}
	r.answered = slices.Grow(r.answered, min(len(decided), memoPermissions-len(r.answered)))
	said := make(map[saying][]*decision.Outcome, len(r.answers))
	for _, answer := range r.answers {
		says := sayingOf(answer)
		said[says] = append(said[says], answer)
	}
	for of, a := range decided {
		if a.outcome.Err != nil || !a.known() || len(r.answered) == memoPermissions {
			continue
		}
		if a.asked == nil {
			a.asked = m.shareQuestion(of.Permission)
		}
		r.weight += weight(questionOverhead + len(of.Name) + len(of.ResourceType))
		r.answered = append(r.answered, answered{of.hash, a.asked, m.share(r, said, a.outcome), m.shareRead(r, a.read)})
	}
	slices.SortFunc(r.answered, func(a, b answered) int { return cmp.Compare(a.hash, b.hash) })
	return r
}

// shareRead is what was read as it is remembered beside what was read already.
func (m *memo) shareRead(r *remembered, read *touch.Read) *touch.Read {
	if at := slices.IndexFunc(r.reads, func(other *touch.Read) bool { return other == read || *other == *read }); at >= 0 {
		return r.reads[at]
	}
	shared := m.read.find(*read)
	if shared == nil {
		kept := *read
		shared = m.read.put(kept, kept.Size(), &kept)
	}
	r.reads = append(r.reads, shared)
	r.weight += weight(readOverhead + read.Size())
	return shared
}

// share is an outcome as it is remembered beside what was said already.
func (m *memo) share(r *remembered, said map[saying][]*decision.Outcome, o *decision.Outcome) *decision.Outcome {
	switch {
	case o == m.apart:
		return o
	case isPlain(o):
		return m.plain[o.Decision.Result]
	case o.Remembered && slices.Contains(r.answers, o):
		return o // to another question of the same batch
	}
	says := sayingOf(o)
	at := slices.IndexFunc(said[says], func(other *decision.Outcome) bool { return foundAlike(o, other) })
	if at < 0 {
		o = m.shareReasoned(o)
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

// question is the permission as far as it matters to a state's decision: what its
// policy reads, and the kind of resource, which conditions have to fit.
func (m *memo) question(s *vetted.State, p wire.Permission) question {
	if !s.Reads(vetted.PartName) {
		p.Name = ""
	}
	if !s.Reads(vetted.PartAction) {
		p.Action = ""
	}
	return question{p, maphash.Comparable(m.seed, p)}
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
