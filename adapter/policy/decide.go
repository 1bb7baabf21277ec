package policy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/stagedoor/stagedoor/adapter/explore"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// Decide answers every permission for the caller, in order, all by the same
// policy. Equal permissions are decided once, and decisions of a deterministic
// policy are remembered. What fails for one item is in its Outcome; the error is
// for the whole batch: [ErrNoPolicy], or the context's.
func (e *Engine) Decide(ctx context.Context, caller Caller, permissions []wire.Permission) (Batch, error) {
	s := e.state.Load()
	if s == nil {
		return Batch{}, ErrNoPolicy
	}
	if err := e.fresh(s); err != nil {
		return Batch{}, err
	}
	w := world{now: e.now(), caller: caller}
	known, key := (*remembered)(nil), callerKey{}
	if s.Deterministic() {
		key = callerKeyOf(s, caller)
		known = e.memo.of(key)
	}
	outcomes := make([]*Outcome, len(permissions))
	var decided map[question]*Outcome
	for i, p := range permissions {
		of := questionOf(s, p)
		if outcomes[i] = known.outcome(of); outcomes[i] != nil {
			continue
		}
		if outcomes[i] = decided[of]; outcomes[i] != nil {
			continue
		}
		// A cheap evaluation does not notice that its context is done.
		if err := ctx.Err(); err != nil {
			return Batch{}, err
		}
		if decided == nil {
			decided = make(map[question]*Outcome)
		}
		outcome := e.ask(ctx, s, &w, p)
		outcomes[i], decided[of] = &outcome, &outcome
	}
	// A failure because the request ran out is the request's.
	if err := ctx.Err(); err != nil {
		return Batch{}, err
	}
	if len(decided) > 0 && s.Deterministic() {
		e.memo.add(key, known, decided)
	}
	return Batch{Outcomes: outcomes, Revision: s.Revision, Revisions: s.Revisions, Entrypoint: s.Entrypoint}, nil
}

// world is what all decisions of one batch share: one time, one caller.
type world struct {
	now      time.Time
	caller   Caller
	identity *ast.Term // made when the first decision needs it
}

// ask asks the policy about one permission of a batch. A policy that waits for
// nothing is asked by as many requests at a time as there are processors. All at
// once they would take longer together and, with many that nothing is remembered
// for, each of them could outlast the time for one decision.
func (e *Engine) ask(ctx context.Context, s *State, w *world, p wire.Permission) Outcome {
	if s.Deterministic() {
		select {
		case e.turns <- struct{}{}:
			defer func() { <-e.turns }()
		case <-ctx.Done():
			return Outcome{Err: failure(ctx.Err())}
		}
	}
	if w.identity == nil {
		w.identity = identityValue(w.caller)
	}
	return e.decide(ctx, s, w, p, inputValue(p, w.identity))
}

// decide decides within the time that one decision may take.
func (e *Engine) decide(ctx context.Context, s *State, w *world, p wire.Permission, input ast.Object) Outcome {
	ctx, cancel := context.WithTimeout(ctx, e.options.Decision)
	defer cancel()
	var outcome Outcome
	var err error
	if s.explorer != nil {
		outcome, err = e.explore(ctx, s, w, p, input)
	} else {
		outcome, err = e.evaluate(ctx, s, w, input)
	}
	if err == nil {
		err = checkConditions(s.rules, outcome.Decision)
	}
	if err != nil {
		return Outcome{Err: failure(err)}
	}
	return outcome
}

// evaluate asks a decision-style policy.
func (e *Engine) evaluate(ctx context.Context, s *State, w *world, input ast.Value) (Outcome, error) {
	var tracker topdown.EvaluatedRuleTracker
	results, err := s.query.Eval(ctx,
		rego.EvalEvaluatedRuleTracker(&tracker),
		rego.EvalParsedInput(input),
		rego.EvalTransaction(readTransaction{}),
		rego.EvalTime(w.now),
		rego.EvalInterQueryBuiltinCache(e.builtins.query),
		rego.EvalInterQueryBuiltinValueCache(e.builtins.value),
	)
	if err != nil {
		return Outcome{}, err
	}
	if len(results) == 0 {
		return Outcome{RuleLabels: tracker.Labels}, nil // undefined is DENY
	}
	decision, reason, err := wire.ParseDecision(results[0].Expressions[0].Value)
	if err != nil {
		return Outcome{}, &Failure{Kind: FailureAnswer, Cause: err}
	}
	return Outcome{Decision: decision, Reason: reason, RuleLabels: tracker.Labels}, nil
}

// explore asks a policy about the resource for the conditions under which it allows.
func (e *Engine) explore(
	ctx context.Context, s *State, w *world, p wire.Permission, input ast.Object,
) (Outcome, error) {
	result, err := s.explorer.Decide(ctx, explore.Query{
		Store:                       s.data,
		Txn:                         readTransaction{},
		Input:                       input,
		Basic:                       !p.Resource,
		ResourceType:                p.ResourceType,
		Time:                        w.now,
		InterQueryBuiltinCache:      e.builtins.query,
		InterQueryBuiltinValueCache: e.builtins.value,
	})
	if err != nil {
		return Outcome{}, err
	}
	for i, err := range result.Errors {
		result.Errors[i] = errors.New(wire.WithoutSecrets(err.Error()))
		e.options.Log.WithError(result.Errors[i]).WithField("permission", p.Name).
			Warn("a branch of the policy failed and is no part of the conditions")
	}
	reasons := result.Either
	if result.Reason != "" {
		reasons = append([]string{result.Reason}, reasons...)
	}
	for _, why := range result.Either {
		e.options.Log.WithField("permission", p.Name).WithField("rule", why).Info("decided by either answer to a rule")
	}
	return Outcome{
		Decision: result.Decision,
		Reason:   strings.Join(reasons, "; "),
		Excluded: result.Errors,
	}, nil
}

// checkConditions holds a conditional decision against the rules that the policy's
// modules declare. A rule that they do not declare may still exist in the plugin.
func checkConditions(rules map[ruleKey]*explore.PermissionRule, d wire.Decision) error {
	for leaf := range d.Conditions.Rules() {
		rule, known := rules[ruleKey{d.PluginID, leaf.Name}]
		if !known {
			continue
		}
		if err := checkParams(rule, leaf.Params); err != nil {
			return &Failure{Kind: FailureAnswer, Cause: fmt.Errorf("rule %s of %s: %w", leaf.Name, d.PluginID, err)}
		}
	}
	return nil
}

func checkParams(rule *explore.PermissionRule, text string) error {
	var params map[string]any
	if text != "" {
		decoder := json.NewDecoder(strings.NewReader(text))
		decoder.UseNumber()
		if err := decoder.Decode(&params); err != nil {
			return err
		}
	}
	return rule.CheckParams(params)
}

// failure gives an error of a decision its kind.
func failure(err error) *Failure {
	if f, ok := errors.AsType[*Failure](err); ok {
		return f
	}
	kind := FailureEvaluation
	switch _, answer := errors.AsType[*explore.AnswerError](err); {
	case answer:
		kind = FailureAnswer
	case topdown.IsCancel(err), errors.Is(err, context.DeadlineExceeded):
		kind = FailureDeadline
	case isLimit(err):
		kind = FailureBounds
	}
	return &Failure{Kind: kind, Cause: err}
}

func isLimit(err error) bool {
	_, is := errors.AsType[*explore.LimitError](err)
	return is
}
