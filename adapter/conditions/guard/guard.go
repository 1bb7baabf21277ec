// Package guard stands before a plugin: a bulkhead of so many calls at a time, which
// callers share, and a circuit breaker that leaves a plugin alone which gave no answers.
//
// [Guard.Pass] makes a call when it is its turn. What goes wrong with a plugin is a
// [*RefusedError], for good, or an [*UnavailableError], for now.
package guard

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/sony/gobreaker/v2"

	"github.com/stagedoor/stagedoor/adapter/breaker"
	"github.com/stagedoor/stagedoor/adapter/fair"
	"github.com/stagedoor/stagedoor/adapter/flight"
)

// How much one plugin may take of what all share.
const (
	// Calls is how many calls of apply-conditions a plugin is asked at a time.
	Calls = 256
	// Waiting is how many more may wait for one of these.
	Waiting = 1024
	// Failures is how many calls in a row a plugin may leave without an answer
	// before it is left alone for Pause.
	Failures = 5
	Pause    = 2 * time.Second
)

// errHasty is a call that ended without an answer before the plugin had a fair
// chance to give one, since its request was nearly over, its caller left, or has no token
// for it. It says nothing of the plugin.
var errHasty = errors.New("the plugin was not asked, or had no time to answer")

// errPanicked is a call that came to no end.
var errPanicked = errors.New("it panicked")

// Guard stands before one plugin. It is safe for concurrent use.
type Guard struct {
	line    *fair.Line
	breaker *breaker.Breaker
	chance  time.Duration // in which a plugin may answer before it is to blame
}

// Init makes the guard of a plugin that may take that long for a call. The log is told
// when the breaker opens and closes.
func (g *Guard) Init(pluginID string, timeout time.Duration, log *logrus.Entry) {
	g.line = fair.NewLine(Calls, Waiting)
	g.chance = min(timeout/2, time.Second)
	g.breaker = breaker.New(gobreaker.Settings{
		Name:        pluginID,
		Timeout:     Pause,
		ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= Failures },
		IsExcluded:  func(err error) bool { return errors.Is(err, errHasty) },
		OnStateChange: func(_ string, from, to gobreaker.State) {
			entry := log.WithField("plugin", pluginID)
			switch {
			case to == gobreaker.StateOpen && from == gobreaker.StateClosed:
				entry.Errorf("circuit breaker open: the plugin gave no answer %d times in a row; "+
					"conditions for it fail at once until it answers", Failures)
			case to == gobreaker.StateClosed:
				entry.Info("circuit breaker closed: the plugin answers again")
			}
		},
	}, g.chance)
}

// Open reports whether the plugin is left alone.
func (g *Guard) Open() bool { return g.breaker.Open() }

// Closed reports whether calls pass as usual; not so while one tries again.
func (g *Guard) Closed() bool { return g.breaker.Closed() }

// InLine is how many calls wait for their turn.
func (g *Guard) InLine() int { return g.line.Waiting() }

// Pass makes a call when it is its turn, unless the plugin is left alone. A call that is to
// show whether a plugin is there again is to be made once: others wait for what comes of it.
func (g *Guard) Pass(ctx context.Context, pluginID string, of fair.Party, call func(once bool) error) error {
	alone := &UnavailableError{PluginID: pluginID, RetryAfter: Pause, Cause: breaker.ErrOpen}
	if g.Open() { // rather than in the end of the line
		return alone
	}
	if err := g.line.Begin(ctx, of); err != nil {
		if errors.Is(err, fair.ErrFull) {
			return &UnavailableError{PluginID: pluginID, RetryAfter: time.Second, Cause: err}
		}
		return Ended(ctx, pluginID)
	}
	defer g.line.End()
	done, err := g.breaker.Allow(ctx)
	switch {
	case errors.Is(err, breaker.ErrOpen):
		return alone
	case err != nil:
		return Ended(ctx, pluginID)
	}
	outcome := errPanicked
	defer func() { done(outcome) }()
	started := time.Now()
	err = call(!g.Closed())
	if outcome = verdict(err); ctx.Err() != nil && (flight.TimeLeft(ctx) > 0 || time.Since(started) < g.chance) {
		outcome = errHasty
	}
	return err
}

// verdict is what the outcome of a call says of the plugin: an error where it is not
// there, errHasty where it was not asked.
func verdict(err error) error {
	if unavailable, ok := errors.AsType[*UnavailableError](err); ok {
		switch unavailable.Status {
		case 0, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			return err
		}
	}
	if errors.Is(err, context.Canceled) { // the time was up, and nobody waits any more
		return err
	}
	if _, refused := errors.AsType[*RefusedError](err); err != nil && !refused && !asked(err) {
		return errHasty // there was no token for the plugin
	}
	return nil
}

func asked(err error) bool {
	_, unavailable := errors.AsType[*UnavailableError](err)
	return unavailable
}
