package adapter

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/stagedoor/stagedoor/adapter/audit"
	"github.com/stagedoor/stagedoor/adapter/conditions/guard"
	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/explain"
	"github.com/stagedoor/stagedoor/adapter/metrics"
	"github.com/stagedoor/stagedoor/adapter/supply"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// What goes wrong here, as a cause.
var (
	errShed     = errors.New("turned away for want of room")
	errInFlight = fmt.Errorf("%w: stagedoor.limits.inFlight is reached, or the share of this caller in it", errShed)
	errAsking   = fmt.Errorf("%w: as many requests as stagedoor.limits.inFlight wait for user info or metadata", errShed)
	errBodies   = fmt.Errorf("%w: bodies take the memory for requests under way (stagedoor.limits.memory)", errShed)
	errAnswers  = fmt.Errorf("%w: answers take the memory for requests under way (stagedoor.limits.memory)", errShed)
	errUserInfo = errors.New("user info") // what the caller owns could not be found out
	errGone     = errors.New("the caller left before the answer")
)

// cause is a row of the table: what its errors are in metrics and logs, and what the
// caller is told of them.
type cause struct {
	is      func(error) bool
	outcome string
	public  func(error) *wire.Error
}

// causes is the one table from what went wrong to what becomes of it. The first row that
// fits counts. An error that already is a public one keeps its text and status.
var causes = []cause{
	{one(errGone), metrics.Gone, wire.AsError},
	{one(errBodies), metrics.Shed, says(wire.ServiceUnavailableError(1, "Too many large requests at once, try again"))},
	{one(errAnswers), metrics.Shed, says(wire.ServiceUnavailableError(1, "Too many large answers at once, try again"))},
	{one(errShed, explain.ErrBusy), metrics.Shed,
		says(wire.ServiceUnavailableError(1, "Too many requests at once, try again"))},
	{one(errUserInfo), metrics.UserInfo, wire.AsError},
	{one(audit.ErrUnrecorded), metrics.Audit, says(wire.ServiceUnavailableError(1, "The decision could not be recorded"))},
	{one(supply.ErrNoPolicy, supply.ErrStale), metrics.NoPolicy,
		says(wire.ServiceUnavailableError(1, "No current permission policy is active"))},
	{one(decision.ErrTooLarge), metrics.TooLarge,
		says(wire.PayloadTooLargeError("the decisions have more bytes than an answer " +
			"may have (stagedoor.limits.answer): ask about fewer permissions at a time"))},
	{remoteFailed, metrics.Policy, says(wire.ServiceUnavailableError(1, "The policy server does not answer"))},
	{as[*decision.Failure], metrics.Policy, says(wire.InternalError("The permission policy failed"))},
	{with(http.StatusUnauthorized), metrics.Unauthenticated, wire.AsError},
	{as[*guard.UnavailableError], metrics.Plugin, pluginAway},
	{as[*guard.RefusedError], metrics.Plugin,
		says(wire.InternalError("A plugin refused the conditions of the permission policy"))},
	{with(http.StatusForbidden), metrics.Forbidden, wire.AsError},
	{with(http.StatusNotFound), metrics.NotFound, wire.AsError},
	{with(http.StatusRequestEntityTooLarge), metrics.TooLarge, wire.AsError},
	{func(err error) bool { e, is := public(err); return is && e.Status < 500 }, metrics.BadRequest, wire.AsError},
	{one(context.DeadlineExceeded, context.Canceled), metrics.Timeout,
		says(wire.ServiceUnavailableError(1, "The request took too long"))},
	// By whoever verifies credentials.
	{func(err error) bool { e, is := public(err); return is && e.Status == 503 && e.RetryAfter > 0 }, metrics.Shed,
		wire.AsError},
}

// publicError is what the caller is told. The cause stays within, for the log.
func publicError(err error) *wire.Error {
	if e, is := public(err); is {
		return e
	}
	for _, c := range causes {
		if c.is(err) {
			return c.public(err)
		}
	}
	return wire.AsError(err)
}

// outcomeOf names what came of a request, in metrics and logs.
func outcomeOf(err error, status int) string {
	switch {
	case err == nil && status == http.StatusNotFound:
		return metrics.NotFound
	case err == nil:
		return metrics.OK
	}
	for _, c := range causes {
		if c.is(err) {
			return c.outcome
		}
	}
	return metrics.Internal
}

func public(err error) (*wire.Error, bool) { return errors.AsType[*wire.Error](err) }

func one(known ...error) func(error) bool {
	return func(err error) bool {
		return slices.ContainsFunc(known, func(k error) bool { return errors.Is(err, k) })
	}
}

func as[E error](err error) bool {
	_, is := errors.AsType[E](err)
	return is
}

func with(status int) func(error) bool {
	return func(err error) bool {
		e, is := public(err)
		return is && e.Status == status
	}
}

func says(e *wire.Error) func(error) *wire.Error { return e.Because }

func remoteFailed(err error) bool {
	failure, is := errors.AsType[*decision.Failure](err)
	return is && failure.Kind == decision.FailureRemote
}

func pluginAway(err error) *wire.Error {
	after := 1
	if e, is := errors.AsType[*guard.UnavailableError](err); is {
		after = max(1, int(e.RetryAfter/time.Second))
	}
	return wire.ServiceUnavailableError(after, "A plugin that has to decide does not answer").Because(err)
}
