package conditions

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/sony/gobreaker/v2"

	"github.com/stagedoor/stagedoor/adapter/fair"
	"github.com/stagedoor/stagedoor/adapter/flight"
)

// How much one plugin may take of what all share.
const (
	// callsOfPlugin is how many calls of apply-conditions a plugin is asked at a time.
	callsOfPlugin = 256
	// waitingForPlugin is how many more may wait for one of these.
	waitingForPlugin = 1024
	// breakerFailures is how many calls in a row a plugin may leave without an answer
	// before it is left alone for breakerPause.
	breakerFailures = 5
	breakerPause    = 2 * time.Second
)

// errHasty is a call that ended without an answer before the plugin had a fair
// chance to give one, since its request was nearly over or its caller left. It says
// nothing of the plugin.
var errHasty = errors.New("the request was over before the plugin could answer")

// guard stands before one plugin. It is safe for concurrent use.
type guard struct {
	line    *fair.Line
	breaker *gobreaker.TwoStepCircuitBreaker[any]
	chance  time.Duration // in which a plugin may answer before it is to blame
}

func (g *guard) init(pluginID string, timeout time.Duration, log *logrus.Entry) {
	g.line = fair.NewLine(callsOfPlugin, waitingForPlugin)
	g.chance = min(timeout/2, time.Second)
	g.breaker = gobreaker.NewTwoStepCircuitBreaker[any](gobreaker.Settings{
		Name:        pluginID,
		Timeout:     breakerPause,
		ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= breakerFailures },
		IsExcluded:  func(err error) bool { return errors.Is(err, errHasty) },
		OnStateChange: func(_ string, from, to gobreaker.State) {
			entry := log.WithField("plugin", pluginID)
			switch {
			case to == gobreaker.StateOpen && from == gobreaker.StateClosed:
				entry.Errorf("circuit breaker open: the plugin gave no answer %d times in a row; "+
					"conditions for it fail at once until it answers", breakerFailures)
			case to == gobreaker.StateClosed:
				entry.Info("circuit breaker closed: the plugin answers again")
			}
		},
	})
}

// open reports whether the plugin is left alone.
func (g *guard) open() bool { return g.breaker.State() == gobreaker.StateOpen }

// pass makes a call when it is its turn, unless the plugin is left alone.
func (g *guard) pass(ctx context.Context, pluginID string, of fair.Party, call func() error) error {
	alone := &UnavailableError{
		PluginID: pluginID, RetryAfter: breakerPause, Cause: errors.New("its circuit breaker is open"),
	}
	if g.open() { // rather than in the end of the line
		return alone
	}
	if err := g.line.Begin(ctx, of); err != nil {
		if errors.Is(err, fair.ErrFull) {
			return &UnavailableError{PluginID: pluginID, RetryAfter: time.Second, Cause: err}
		}
		return ended(ctx, pluginID)
	}
	defer g.line.End()
	done, err := g.breaker.Allow()
	if err != nil {
		return alone
	}
	started := time.Now()
	err = call()
	if ctx.Err() != nil && (flight.TimeLeft(ctx) > 0 || time.Since(started) < g.chance) {
		done(errHasty)
	} else {
		done(verdict(err))
	}
	return err
}

// verdict is what the outcome of a call says of the plugin: an error where it is not
// there.
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
	return nil
}
