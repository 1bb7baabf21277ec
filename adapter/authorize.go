package adapter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/stagedoor/stagedoor/adapter/conditions"
	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/identity"
	"github.com/stagedoor/stagedoor/adapter/supply"
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
	if x.caller.Direct && !resourcesGiven(request.Items) {
		return wire.InputError("Resource permissions require a resourceRef to be set. " +
			"Direct user requests without a resourceRef are not allowed.")
	}
	begun := time.Now()
	caller, err := s.policyCaller(ctx, x)
	if err != nil {
		return err
	}
	begun = took(s.metrics.stages.userInfo, begun)
	permissions, unconditional, err := s.permissions(ctx, x, request.Items)
	if err != nil {
		return err
	}
	evaluating, end := s.tracer.Start(ctx, "evaluate")
	batch, err := s.policy.Decide(evaluating, caller, permissions)
	end(err)
	var answers []wire.Answer
	var applied map[int]conditions.Outcome
	x.revision = batch.Revision
	took(s.metrics.stages.evaluate, begun)
	if err != nil {
		err = undecided(err)
	} else {
		answers, applied, err = s.answer(ctx, x, request.Items, unconditional, batch)
		err = cmp.Or(err, s.tooLarge(answers))
		if s.shadow != nil {
			s.shadow.Observe(caller, permissions, batch)
		}
	}
	s.logDenied(x)
	if s.audit.Enabled() {
		begun = time.Now()
		record := newRecord(x, caller, permissions, batch, answers, applied, request.Items, err)
		if unrecorded := s.audit.Record(ctx, record); unrecorded != nil && err == nil {
			err = unrecordedError(unrecorded)
		}
		took(s.metrics.stages.log, begun)
	}
	if err != nil {
		return err
	}
	return s.writeAnswers(w, x, answers)
}

// resourcesGiven reports whether every question about a resource says which. A
// user who asks without one would be told the conditions.
func resourcesGiven(items []wire.Item) bool {
	for i := range items {
		if items[i].Permission.Resource && !items[i].Ref.Given() {
			return false
		}
	}
	return true
}

// policyCaller is the caller as the policy sees it, claims included.
func (s *Server) policyCaller(ctx context.Context, x *exchange) (decision.Caller, error) {
	caller := x.caller
	if caller.Kind == identity.None {
		return decision.Caller{Anonymous: true}, nil
	}
	ctx, end := s.tracer.Start(ctx, "userinfo")
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
	permissions = permissionsOf(items)
	if !s.options.FromMetadata {
		return permissions, nil, nil
	}
	unconditional, unknown := s.conditions.Hydrate(permissions)
	if len(unknown) > 0 {
		learn := func() error { s.conditions.Learn(ctx, unknown); return nil }
		if err := s.aside(x, learn); err != nil {
			return nil, nil, err
		}
		permissions = permissionsOf(items)
		unconditional, _ = s.conditions.Hydrate(permissions)
	}
	for i, is := range unconditional {
		if is {
			items[i].Permission = permissions[i]
		}
	}
	return permissions, unconditional, nil
}

// aside lets the request wait for somebody else. It holds no slot meanwhile, but a
// place among those that wait.
func (s *Server) aside(x *exchange, wait func() error) error {
	if !s.asking.Take(x.party, 1) {
		return wire.ServiceUnavailableError(1, "Too many requests at once, try again").
			Because(fmt.Errorf("%w: as many requests as stagedoor.limits.inFlight wait for user info or metadata", errShed))
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

func permissionsOf(items []wire.Item) []wire.Permission {
	permissions := make([]wire.Permission, len(items))
	for i := range items {
		permissions[i] = items[i].Permission
	}
	return permissions
}

// answer makes the answers of what the policy decided: failures as onError says,
// and conditions on given resources by asking their plugins; where the answer must be
// unconditional, conditions deny. What the plugins said is returned by item. With an
// error there are no answers, but for the log.
func (s *Server) answer(
	ctx context.Context, x *exchange, items []wire.Item, unconditional []bool, batch decision.Batch,
) ([]wire.Answer, map[int]conditions.Outcome, error) {
	answers := make([]wire.Answer, len(items))
	var questions []conditions.Question
	var asked []int // the item of each question
	var failed error
	for i := range items {
		answers[i].ID = items[i].ID
		batch.Outcomes[i] = s.checked(items[i].Permission, batch.Outcomes[i])
		s.metrics.decision(items[i].Permission.Name, batch.Outcomes[i])
		if err := batch.Outcomes[i].Err; err != nil {
			failed = cmp.Or(failed, s.failed(x, items[i].Permission, err, policyFailed(err)))
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
	applying, end := s.tracer.Start(ctx, "apply-conditions")
	begun := time.Now()
	applied := make(map[int]conditions.Outcome, len(questions))
	for q, outcome := range s.conditions.Apply(applying, s.pluginCaller(x), questions) {
		i := asked[q]
		applied[i] = outcome
		failed = cmp.Or(failed, s.applied(ctx, x, &answers[i], items[i], outcome))
	}
	end(failed)
	took(s.metrics.stages.apply, begun)
	return answers, applied, failed
}

// checked is the outcome, held against what was asked and against the rules that
// the plugin publishes: as it is, or as a failure.
func (s *Server) checked(p wire.Permission, outcome *decision.Outcome) *decision.Outcome {
	if outcome.Err != nil {
		return outcome
	}
	err := fits(p, outcome.Decision)
	if err == nil {
		err = s.conditions.Check(outcome.Decision)
	}
	if err == nil {
		return outcome
	}
	failed := *outcome // which may be remembered
	failed.Err = &decision.Failure{Kind: decision.FailureAnswer, Cause: err}
	return &failed
}

// fits is nil where the decision can be the answer for the permission. Conditions
// are for a resource, and of the type that was asked about.
func fits(p wire.Permission, d wire.Decision) error {
	switch {
	case d.Result != wire.Conditional:
		return nil
	case !p.Resource:
		return errors.New("conditions for a basic permission")
	case d.ResourceType != p.ResourceType:
		return fmt.Errorf("conditions on resource type %q for a permission on %q", d.ResourceType, p.ResourceType)
	}
	return nil
}

// policyFailed is the public error of a policy that did not come to a decision.
func policyFailed(err error) *wire.Error {
	if f, ok := errors.AsType[*decision.Failure](err); ok && f.Kind == decision.FailureRemote {
		return wire.ServiceUnavailableError(1, "The policy server does not answer").Because(err)
	}
	return wire.InternalError("The permission policy failed").Because(err)
}

// applied puts what a plugin decided into the answer.
func (s *Server) applied(
	ctx context.Context, x *exchange, answer *wire.Answer, item wire.Item, outcome conditions.Outcome,
) error {
	switch {
	case outcome.Err != nil:
		return s.failed(x, item.Permission, outcome.Err, s.refusedConditions(ctx, x.caller, outcome.Err))
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
	s.metrics.failures.Inc()
	x.permission = cmp.Or(x.permission, p.Name)
	if !s.options.DenyOnError || public.Name == "AuthenticationError" {
		return public
	}
	x.denied.note(p.Name, err)
	return nil
}

// refusedConditions is the public error of conditions that a plugin did not decide. A
// plugin's 401 is the caller's where the caller's token is good no more; it is else
// about stagedoor's own token, which the caller cannot mend.
func (s *Server) refusedConditions(ctx context.Context, caller identity.Caller, err error) *wire.Error {
	if e, ok := errors.AsType[*conditions.RefusedError](err); ok && e.Status == http.StatusUnauthorized {
		if invalid := s.identity.Valid(ctx, caller); invalid != nil {
			return wire.AsError(invalid)
		}
	}
	if e, ok := errors.AsType[*wire.Error](err); ok {
		return e
	}
	if e, ok := errors.AsType[*conditions.UnavailableError](err); ok {
		return wire.ServiceUnavailableError(max(1, int(e.RetryAfter/time.Second)),
			"A plugin that has to decide does not answer").Because(err)
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return wire.ServiceUnavailableError(1, "The request took too long").Because(err)
	}
	return wire.InternalError("A plugin refused the conditions of the permission policy").Because(err)
}

// unrecordedError is the public error of a decision that had to be recorded.
func unrecordedError(err error) error {
	cause := fmt.Errorf("%w: %w", errUnrecorded, err)
	return wire.ServiceUnavailableError(1, "The decision could not be recorded").Because(cause)
}

// undecided is the public error of a batch that the policy did not look at.
func undecided(err error) error {
	switch {
	case errors.Is(err, decision.ErrTooLarge):
		return wire.PayloadTooLargeError("the decisions have more bytes than an answer may have " +
			"(stagedoor.limits.answer): ask about fewer permissions at a time")
	case errors.Is(err, supply.ErrNoPolicy), errors.Is(err, supply.ErrStale):
		return wire.ServiceUnavailableError(1, "No current permission policy is active").Because(err)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return wire.ServiceUnavailableError(1, "The request took too long").Because(err)
	}
	return err
}

// pluginCaller is on whose behalf plugins are asked.
func (s *Server) pluginCaller(x *exchange) conditions.Caller {
	caller := x.caller
	return conditions.Caller{
		Subject: caller.Fingerprint(),
		Party:   x.party,
		Took:    s.metrics.asked,
		Log:     s.logOf(x),
		Token: func(ctx context.Context, pluginID string) (string, error) {
			return s.identity.PluginToken(ctx, pluginID, caller)
		},
	}
}
