// Package engine decides by the policy that serves.
//
// [Engine.Decide] takes the policy's state as it is at that moment, and answers every
// item of a request by it: from the memo where the policy is deterministic and was
// asked before, by exploration (package explore) where the entrypoint is about the
// resource, and by plain evaluation otherwise. Nothing is locked meanwhile.
package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/topdown/cache"
	"github.com/sirupsen/logrus"

	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/document/touch"
	"github.com/stagedoor/stagedoor/adapter/explore"
	"github.com/stagedoor/stagedoor/adapter/flight"
	"github.com/stagedoor/stagedoor/adapter/peer"
	"github.com/stagedoor/stagedoor/adapter/vetted"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// Options say how decisions are made. The zero value of a field is its default.
type Options struct {
	// Decision is how long one decision may take (stagedoor.limits.decision); one
	// second by default.
	Decision time.Duration
	// Answer is how many bytes the different decisions of a batch may have as JSON, as
	// many as an answer may have (stagedoor.limits.answer); 0 is no limit.
	Answer int64
	// Memo is how many bytes remembered decisions may take (stagedoor.caches.decisions); 96 MiB
	// by default.
	Memo int64
	// Caching is what builtins may keep between decisions (opa.caching); nil is OPA's
	// own default.
	Caching *cache.Config
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

const defaultDecision = time.Second

// Serving returns the policy that decides at this moment, or why there is none.
type Serving func() (*vetted.State, error)

// Engine decides in process. It is safe for concurrent use.
type Engine struct {
	options  Options
	serving  Serving
	log      *logrus.Entry
	builtins struct {
		query cache.InterQueryCache
		value cache.InterQueryValueCache
	}
	memo    *memo
	overran *overran
	flights flight.Group[asked, made]
	turns   *turns
	counts  counts
	stop    context.CancelFunc
	// batches are empty maps of the answers of a batch. They are large, for a moment.
	batches sync.Pool
}

// New returns an engine over the policy that serves. The log gets what the operator
// should know; it never sees an input. Close must be called in the end.
func New(o Options, serving Serving, log *logrus.Entry) (*Engine, error) {
	if o.Decision == 0 {
		o.Decision = defaultDecision
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Caching == nil {
		caching, err := cache.ParseCachingConfig(nil)
		if err != nil {
			return nil, err
		}
		o.Caching = caching
	}
	if o.Memo == 0 {
		o.Memo = defaultMemo
	}
	memo, err := newMemo(o.Memo)
	if err != nil {
		return nil, err
	}
	overran, err := newOverran()
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	e := &Engine{
		options: o, serving: serving, log: log, memo: memo, overran: overran,
		turns: newTurns(runtime.GOMAXPROCS(0)), stop: stop,
	}
	e.builtins.query = cache.NewInterQueryCacheWithContext(ctx, o.Caching)
	e.builtins.value = cache.NewInterQueryValueCache(ctx, o.Caching)
	return e, nil
}

// State is the policy that serves at this moment. The error is why there is none.
func (e *Engine) State() (*vetted.State, error) { return e.serving() }

// Close ends what New started.
func (e *Engine) Close() { e.stop() }

// Decide answers every permission for the caller, in order, all by the same
// policy. Equal permissions are decided once, and decisions of a deterministic
// policy are remembered. What fails for one item is in its Outcome; the error is
// for the whole batch: why no policy serves, [decision.ErrTooLarge], or the context's.
func (e *Engine) Decide(
	ctx context.Context, caller decision.Caller, permissions []wire.Permission,
) (decision.Batch, error) {
	s, err := e.serving()
	if err != nil {
		return decision.Batch{}, err
	}
	w := world{now: e.options.Now(), caller: caller}
	var known, ofKind *remembered
	var key callerKey
	if s.Deterministic() {
		key = callerKeyOf(s, caller)
		known = e.memo.of(key, s, func() callerKey { return kindKeyOf(s, caller) })
		ofKind = e.memo.ofKind(known, s)
	}
	outcomes := make([]*decision.Outcome, len(permissions))
	var decided map[question]answer
	var shared *shared
	defer func() {
		e.give(decided)
		e.remembered(w.begun)
		if shared != nil {
			e.remembered(shared.world.begun)
		}
	}()
	size, hits, others := int64(0), uint64(0), 0
	for i, p := range permissions {
		of := e.memo.question(s, p)
		if outcomes[i] = cmp.Or(known.outcome(of), known.outcomeOf(ofKind, of)); outcomes[i] != nil {
			hits++
			continue
		}
		if outcomes[i] = decided[of].outcome; outcomes[i] != nil {
			continue
		}
		// A cheap evaluation does not notice that its context is done.
		if err := ctx.Err(); err != nil {
			return decision.Batch{}, err
		}
		if others++; others == 1 {
			shared = e.sharedBy(s, w)
		}
		a := shared.ask(ctx, of, p)
		if a.outcome == nil {
			a = e.ask(ctx, s, &w, key, of, p)
		}
		if outcomes[i] = a.outcome; !a.ofKind {
			if decided == nil {
				decided = e.take(len(permissions) - i)
			}
			decided[of] = a
			size += int64(len(a.outcome.Decision.Text()))
		}
		if e.options.Answer > 0 && size+shared.bytes() > e.options.Answer {
			return decision.Batch{}, decision.ErrTooLarge
		}
	}
	// A failure because the request ran out is the request's.
	if err := ctx.Err(); err != nil {
		return decision.Batch{}, err
	}
	if s.Deterministic() && (len(decided) > 0 || shared != nil && (known == nil || shared.news)) {
		e.memo.add(key, s.Number, shared.key(), known, decided, shared.ownOf(known))
		shared.remember()
	}
	e.counts.add(hits, shared, others)
	return decision.Batch{Outcomes: outcomes, Revision: s.Revision, Revisions: s.Revisions, Entrypoint: s.Entrypoint}, nil
}

// take returns an empty map for the answers of a batch of that size.
func (e *Engine) take(size int) map[question]answer {
	if taken, found := e.batches.Get().(map[question]answer); found {
		return taken
	}
	return make(map[question]answer, size)
}

// give lets other batches have the map, unless it is a large one, which takes long to clear.
func (e *Engine) give(decided map[question]answer) {
	const most = 256
	if decided != nil && len(decided) <= most {
		clear(decided)
		e.batches.Put(decided)
	}
}

// asked is who asks what, of the state of which number.
type asked struct {
	caller   callerKey
	question question
	number   uint64
}

// made is a decision, with what data it was made of.
type made struct {
	decision.Outcome
	read touch.Read
}

// world is what all decisions of one batch share: one time, one caller.
type world struct {
	now      time.Time
	caller   decision.Caller
	identity *ast.Term // made when the first decision needs it
	// standsFor is whether the identity stands for all callers of a kind.
	standsFor bool
	begun     []*begun // by this batch
}

// begun is a flight that a batch has begun. What it has landed with is remembered with the
// rest of the batch, and may be joined until then: else many who come at once, before anything
// is remembered, would each decide what others have decided just now.
type begun struct {
	asked  asked
	flight *flight.Flight[made]
	// once is whether one of the two is past: the landing, or the end of the batch.
	once atomic.Bool
}

// past says that one of the two is past. With the second the flight is not to be joined any
// more.
func (e *Engine) past(b *begun) {
	if b.once.Swap(true) {
		e.flights.Landed(b.asked, b.flight)
	}
}

// remembered says that the batch that has begun the flights is at its end.
func (e *Engine) remembered(flights []*begun) {
	for _, b := range flights {
		e.past(b)
	}
}

// ask asks the policy about one permission of a batch. The same question of the same
// caller is evaluated once at a time, and one that ran into a limit is not evaluated
// again for a while: both only where the same evaluation comes to the same end.
func (e *Engine) ask(
	ctx context.Context, s *vetted.State, w *world, key callerKey, of question, p wire.Permission,
) answer {
	input := func() ast.Object {
		if w.identity == nil {
			w.identity = decision.Identity(w.caller)
		}
		return decision.Input(p, w.identity)
	}
	if !s.Deterministic() {
		f, flying := flight.New[made](ctx)
		go e.fly(flying, f, s, *w, p, input())
		select {
		case <-f.Done():
			return answerOf(f)
		case <-ctx.Done():
			f.Cancel()
			return answer{outcome: &decision.Outcome{Err: failure(ctx.Err())}}
		}
	}
	a := asked{key, of, s.Number}
	if last := e.overran.last(a, w.now); last != nil {
		return answer{outcome: last}
	}
	f, flying := e.flights.Join(ctx, a)
	if flying != nil {
		in, alone, b := input(), *w, &begun{asked: a, flight: f}
		w.begun = append(w.begun, b)
		go func() {
			e.fly(flying, f, s, alone, p, in)
			outcome := &f.Value().Outcome
			e.overran.note(a, outcome, e.options.Now())
			if outcome.Err != nil { // whoever asks again may fare better
				e.flights.Landed(a, f)
			}
			e.past(b)
		}()
	}
	select {
	case <-f.Done():
		return answerOf(f)
	case <-ctx.Done():
		e.flights.Leave(a, f)
		return answer{outcome: &decision.Outcome{Err: failure(ctx.Err())}}
	}
}

// answerOf is what a flight has landed with.
func answerOf(f *flight.Flight[made]) answer {
	return answer{outcome: &f.Value().Outcome, read: &f.Value().read}
}

// fly decides, in turn with others and within the time that one decision may take,
// and lands the flight. A builtin that cannot be cancelled may go on after that.
func (e *Engine) fly(
	ctx context.Context, f *flight.Flight[made], s *vetted.State, w world, p wire.Permission, input ast.Object,
) {
	defer f.Cancel()
	defer func() {
		if panicked := peer.Panic(recover()); panicked != nil {
			e.log.WithError(panicked).Error("a decision panicked")
			f.Land(made{Outcome: decision.Outcome{Err: failure(panicked)}})
		}
	}()
	overran := func() { f.Land(made{Outcome: decision.Outcome{Err: failure(context.DeadlineExceeded)}}) }
	t, err := e.turns.begin(ctx, w.caller.User+"\x00"+w.caller.Actor, e.options.Decision, s.Waits(), overran)
	if err != nil {
		f.Land(made{Outcome: decision.Outcome{Err: failure(err)}})
		return
	}
	defer t.end()
	f.Land(e.decide(t, s, &w, p, input))
}

// decide decides in its turn.
func (e *Engine) decide(t *turn, s *vetted.State, w *world, p wire.Permission, input ast.Object) made {
	var outcome decision.Outcome
	var err error
	deepen(0)
	store, view := s.Data()
	if s.AboutResource() {
		outcome, err = e.explore(t, s, store, view, w, p, input)
	} else {
		outcome, err = e.evaluate(t, s, view, w, input)
	}
	if err == nil {
		if err := s.CheckConditions(outcome.Decision); err != nil {
			outcome = decision.Outcome{Err: &decision.Failure{Kind: decision.FailureAnswer, Cause: err}}
		}
	}
	if err != nil {
		outcome = decision.Outcome{Err: failure(err)}
	}
	return made{outcome, view.Read()}
}

// deepen has the stack of this goroutine grow at once to what most evaluations take, while
// there is hardly anything on it. Go doubles a stack that is full and copies what is on it,
// with every frame adjusted. OPA's evaluator calls itself deeply: a fifth of the time of a
// decision of bundles/rbac went into that.
//
//go:noinline
func deepen(at int) byte {
	var frame [64 << 10]byte
	return frame[at]
}

// evaluate asks a decision-style policy.
func (e *Engine) evaluate(
	t *turn, s *vetted.State, txn storage.Transaction, w *world, input ast.Value,
) (decision.Outcome, error) {
	var tracker topdown.EvaluatedRuleTracker
	results, err := s.Query().Eval(t.ctx,
		rego.EvalExternalCancel(t),
		rego.EvalEvaluatedRuleTracker(&tracker),
		rego.EvalParsedInput(input),
		rego.EvalTransaction(txn),
		rego.EvalTime(w.now),
		rego.EvalInterQueryBuiltinCache(e.builtins.query),
		rego.EvalInterQueryBuiltinValueCache(e.builtins.value),
	)
	if err != nil {
		return decision.Outcome{}, err
	}
	if len(results) == 0 {
		return decision.Outcome{RuleLabels: tracker.Labels}, nil // undefined is DENY
	}
	answer, reason, err := wire.ParseDecision(results[0].Expressions[0].Value)
	if err != nil {
		return decision.Outcome{}, &decision.Failure{Kind: decision.FailureAnswer, Cause: err}
	}
	return decision.Outcome{Decision: answer, Reason: reason, RuleLabels: tracker.Labels}, nil
}

// explore asks a policy about the resource for the conditions under which it allows.
func (e *Engine) explore(
	t *turn, s *vetted.State, store storage.Store, txn storage.Transaction, w *world, p wire.Permission, input ast.Object,
) (decision.Outcome, error) {
	result, err := s.Explorer().Decide(t.ctx, explore.Query{
		Store:                       store,
		Txn:                         txn,
		Input:                       input,
		Basic:                       !p.Resource,
		ResourceType:                p.ResourceType,
		Time:                        w.now,
		InterQueryBuiltinCache:      e.builtins.query,
		InterQueryBuiltinValueCache: e.builtins.value,
		Cancel:                      t,
	})
	if err != nil {
		return decision.Outcome{}, err
	}
	if w.standsFor && len(result.Errors) > 0 {
		return decision.Outcome{Excluded: result.Errors}, nil // and it is decided for each caller
	}
	for i, err := range result.Errors {
		result.Errors[i] = errors.New(peer.WithoutSecrets(err.Error()))
		e.log.WithError(result.Errors[i]).WithField("permission", p.Name).
			Warn("a branch of the policy failed and is no part of the conditions")
	}
	reasons := result.Either
	if result.Reason != "" {
		reasons = append([]string{result.Reason}, reasons...)
	}
	for _, why := range result.Either {
		e.log.WithField("permission", p.Name).WithField("rule", why).Debug("decided by either answer to a rule")
	}
	return decision.Outcome{
		Decision: result.Decision,
		Reason:   strings.Join(reasons, "; "),
		Rules:    rulesOf(result),
		Excluded: result.Errors,
	}, nil
}

// rulesOf are the rules that a result comes from.
func rulesOf(r explore.Result) []decision.Rule {
	rules := make([]decision.Rule, len(r.Rules))
	for i, rule := range r.Rules {
		rules[i] = decision.Rule{Title: rule.Title, Place: fmt.Sprintf("%s:%d", rule.File, rule.Line)}
	}
	return rules
}

// failure gives an error of a decision its kind.
func failure(err error) *decision.Failure {
	if f, ok := errors.AsType[*decision.Failure](err); ok {
		return f
	}
	kind := decision.FailureEvaluation
	switch _, answer := errors.AsType[*explore.AnswerError](err); {
	case answer:
		kind = decision.FailureAnswer
	case topdown.IsCancel(err), errors.Is(err, context.DeadlineExceeded):
		kind = decision.FailureDeadline
	case isLimit(err):
		kind = decision.FailureBounds
	}
	return &decision.Failure{Kind: kind, Cause: err}
}

func isLimit(err error) bool {
	_, is := errors.AsType[*explore.LimitError](err)
	return is
}
