package adapter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/stagedoor/stagedoor/adapter/audit"
	"github.com/stagedoor/stagedoor/adapter/conditions"
	"github.com/stagedoor/stagedoor/adapter/conditions/guard"
	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/identity"
	"github.com/stagedoor/stagedoor/adapter/metrics"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// authorize is POST {basePath}/authorize: one answer for each item, in order, or
// one error for the whole batch.
func (s *Server) authorize(w http.ResponseWriter, r *http.Request) error {
	ctx, x := r.Context(), exchangeOf(r)
	if x.caller.Kind == identity.Service {
		if err := wire.CheckBody(x.body); err != nil {
			return err
		}
		return wire.NotAllowedError("This endpoint answers users, and plugins on behalf of a user")
	}
	request, err := wire.DecodeRequest(x.body, s.options.Items)
	if err != nil {
		return err
	}
	if x.caller.Direct && !request.NamesResources() {
		return wire.InputError("Resource permissions require a resourceRef to be set. " +
			"Direct user requests without a resourceRef are not allowed.")
	}
	begun := time.Now()
	caller, err := s.policyCaller(ctx, x)
	begun = metrics.Took(s.metrics.Stages.UserInfo, begun)
	if err != nil {
		return err
	}
	permissions, unconditional, err := s.permissions(ctx, x, request.Items)
	if err != nil {
		return err
	}
	evaluating, end := x.trace.Start(ctx, "evaluate")
	batch, err := s.policy.Decide(evaluating, caller, permissions)
	end(err)
	var answers []wire.Answer
	var applied map[int]audit.Applied
	x.revision = batch.Revision
	metrics.Took(s.metrics.Stages.Evaluate, begun)
	if err == nil {
		answers, applied, err = s.answer(ctx, x, request.Items, unconditional, batch)
		err = cmp.Or(err, s.tooLarge(answers))
		if s.shadow != nil {
			s.shadow.Observe(caller, permissions, batch)
		}
	}
	s.logDenied(x)
	if err != nil {
		err = publicError(err)
	}
	if s.audit.Enabled() {
		begun = time.Now()
		record := audit.Record{
			RequestID: x.id, TraceID: x.trace.ID(), Time: time.Now(), Caller: caller, Permissions: permissions,
			Batch: batch, Answers: audit.Answers(request.Items, answers, applied), Err: err,
		}
		if unrecorded := s.audit.Record(ctx, record); unrecorded != nil && err == nil {
			err = unrecorded
		}
		metrics.Took(s.metrics.Stages.Log, begun)
	}
	if err != nil {
		return err
	}
	return s.writeAnswers(w, x, answers)
}

// policyCaller is the caller as the policy sees it, claims included.
func (s *Server) policyCaller(ctx context.Context, x *exchange) (decision.Caller, error) {
	caller := x.caller
	if caller.Kind == identity.None {
		return decision.Caller{Anonymous: true}, nil
	}
	ctx, end := x.trace.Start(ctx, "userinfo")
	claims, err := s.userInfo(ctx, x)
	end(err)
	if err != nil {
		return decision.Caller{}, err
	}
	actor := ""
	if caller.Actor != "" {
		actor = "plugin:" + caller.Actor // as Backstage names the subject of a service
	}
	return decision.Caller{User: caller.User, Claims: claims, Actor: actor}, nil
}

// permissions are what is asked about, as the policy sees it. Some callers ask about
// every permission as a basic one; where a plugin's metadata knows that it is about a
// resource, it becomes that in items, too, and the answer must be unconditional.
func (s *Server) permissions(
	ctx context.Context, x *exchange, items []wire.Item,
) (permissions []wire.Permission, unconditional []bool, err error) {
	permissions = wire.PermissionsOf(items)
	if !s.options.FromMetadata {
		return permissions, nil, nil
	}
	unconditional, unknown := s.conditions.Hydrate(permissions)
	if len(unknown) > 0 {
		learn := func() error { s.conditions.Learn(ctx, unknown); return nil }
		if err := s.aside(x, learn); err != nil {
			return nil, nil, err
		}
		permissions = wire.PermissionsOf(items)
		unconditional, _ = s.conditions.Hydrate(permissions)
	}
	for i, is := range unconditional {
		if is {
			items[i].Permission = permissions[i]
		}
	}
	return permissions, unconditional, nil
}

// aside lets the request wait for somebody else: it holds no slot meanwhile, but a place among those that wait.
func (s *Server) aside(x *exchange, wait func() error) error {
	if !s.asking.Take(x.party, 1) {
		return errAsking
	}
	defer s.asking.Give(x.party, 1)
	s.leave(x)
	if err := wait(); err != nil {
		return err
	}
	return s.enter(x)
}

// userInfo is what the caller owns.
func (s *Server) userInfo(ctx context.Context, x *exchange) ([]string, error) {
	if s.identity.Knows(x.caller) {
		claims, stale, err := s.identity.UserInfo(ctx, x.caller)
		x.stale = stale
		return claims, ofUserInfo(err)
	}
	var claims []string
	err := s.aside(x, func() (err error) {
		claims, x.stale, err = s.identity.UserInfo(ctx, x.caller)
		return ofUserInfo(err)
	})
	return claims, err
}

// ofUserInfo is the error with its place.
func ofUserInfo(err error) error {
	if err == nil {
		return nil
	}
	e := wire.AsError(err)
	return e.Because(fmt.Errorf("%w: %w", errUserInfo, cmp.Or(e.Cause, err)))
}

// answer makes the answers of what the policy decided: failures as onError says,
// and conditions on given resources by asking their plugins; where the answer must be
// unconditional, conditions deny. What the plugins said is returned by item. With an
// error there are no answers, but for the log.
func (s *Server) answer(
	ctx context.Context, x *exchange, items []wire.Item, unconditional []bool, batch decision.Batch,
) ([]wire.Answer, map[int]audit.Applied, error) {
	answers := make([]wire.Answer, len(items))
	var questions []conditions.Question
	var asked []int // the item of each question
	var failed error
	conditional := make(map[*decision.Outcome]error) // many items have the same
	for i := range items {
		answers[i].ID = items[i].ID
		batch.Outcomes[i] = s.checked(items[i].Permission, batch.Outcomes[i], conditional)
		s.metrics.Decision(items[i].Permission.Name, batch.Outcomes[i])
		if err := batch.Outcomes[i].Err; err != nil {
			failed = cmp.Or(failed, s.failed(x, items[i].Permission, err, publicError(err)))
			continue
		}
		decided := &batch.Outcomes[i].Decision
		if decided.Result == wire.Conditional && unconditional != nil && unconditional[i] {
			continue // who asks about any resource is not told which
		}
		if decided.Result == wire.Conditional && items[i].Ref.Given() {
			questions = append(questions, conditions.Question{Decision: *decided, Refs: items[i].Ref.Of})
			asked = append(asked, i)
			continue
		}
		answers[i].Decision = decided
	}
	if failed != nil || len(questions) == 0 {
		return answers, nil, failed
	}
	s.leave(x) // the rest is the plugins' work
	applying, end := x.trace.Start(ctx, "apply-conditions")
	begun := time.Now()
	applied := make(map[int]audit.Applied, len(questions))
	for q, outcome := range s.conditions.Apply(applying, s.pluginCaller(x), questions) {
		i := asked[q]
		applied[i] = audit.Applied(outcome)
		failed = cmp.Or(failed, s.applied(ctx, x, &answers[i], items[i], outcome))
	}
	end(failed)
	metrics.Took(s.metrics.Stages.Apply, begun)
	return answers, applied, failed
}

// checked is the outcome, held against what was asked and against the rules that
// the plugin publishes: as it is, or as a failure. What these say of each outcome with
// conditions is kept in conditional.
func (s *Server) checked(
	p wire.Permission, outcome *decision.Outcome, conditional map[*decision.Outcome]error,
) *decision.Outcome {
	if outcome.Err != nil {
		return outcome
	}
	err := outcome.Decision.Fits(p)
	if err == nil && outcome.Decision.Result == wire.Conditional {
		var checked bool
		if err, checked = conditional[outcome]; !checked {
			err = s.conditions.Check(outcome.Decision)
			conditional[outcome] = err
		}
	}
	if err == nil {
		return outcome
	}
	failed := *outcome // which may be remembered
	failed.Err = &decision.Failure{Kind: decision.FailureAnswer, Cause: err}
	return &failed
}

// applied puts what a plugin decided into the answer.
func (s *Server) applied(
	ctx context.Context, x *exchange, answer *wire.Answer, item wire.Item, outcome conditions.Outcome,
) error {
	switch {
	case outcome.Err != nil:
		return s.failed(x, item.Permission, outcome.Err, s.refused(ctx, x.caller, outcome.Err))
	case item.Ref.List:
		answer.Results = outcome.Results
	default:
		answer.Decision = &wire.Decision{Result: outcome.Results[0]}
	}
	return nil
}

// failed is what becomes of a failure: nil, so that the item is denied, where
// onError says so, and else the public error for the request.
func (s *Server) failed(x *exchange, p wire.Permission, err error, public *wire.Error) error {
	s.metrics.Failed()
	x.permission = cmp.Or(x.permission, p.Name)
	if !s.options.DenyOnError || public.Name == "AuthenticationError" {
		return public
	}
	x.denied.note(p.Name, err)
	return nil
}

// refused is the public error of conditions that a plugin did not decide. A plugin's 401
// is the caller's where the caller's token is good no more; it is else about stagedoor's
// own token, which the caller cannot mend.
func (s *Server) refused(ctx context.Context, caller identity.Caller, err error) *wire.Error {
	if e, ok := errors.AsType[*guard.RefusedError](err); ok && e.Status == http.StatusUnauthorized {
		if invalid := s.identity.Valid(ctx, caller); invalid != nil {
			return wire.AsError(invalid)
		}
	}
	return publicError(err)
}

// pluginCaller is on whose behalf plugins are asked.
func (s *Server) pluginCaller(x *exchange) conditions.Caller {
	caller := x.caller
	return conditions.Caller{
		Subject: caller.Fingerprint(),
		Party:   x.party,
		Took:    s.metrics.Asked,
		Log:     s.logOf(x),
		Token: func(ctx context.Context, pluginID string) (string, error) {
			return s.identity.PluginToken(ctx, pluginID, caller)
		},
	}
}
