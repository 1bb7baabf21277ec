package guard

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// RefusedError is the error of conditions that cannot be decided as they stand: the
// plugin said no for good, or there is no asking it. The policy is at fault, or
// the set-up; trying again does not help.
type RefusedError struct {
	PluginID string
	// Status is the plugin's HTTP status, or 0 where it was not asked: an id that
	// cannot be a plugin's, or more than fits into one call.
	Status int
	// Reason is for the log. It may hold text of the plugin's, with anything that
	// looks like a token removed.
	Reason string
}

// Error returns a text for the log.
func (e *RefusedError) Error() string {
	if e.Status == 0 {
		return fmt.Sprintf("plugin %q cannot be asked: %s", e.PluginID, e.Reason)
	}
	return fmt.Sprintf("plugin %q refused with status %d: %s", e.PluginID, e.Status, e.Reason)
}

// UnavailableError is the error of a plugin that gave no usable answer in time: it
// could not be reached, failed, or answered something that is no answer.
type UnavailableError struct {
	PluginID string
	// Status is the plugin's last HTTP status, or 0 where there was none.
	Status int
	// RetryAfter is for how long the plugin asked to be left alone, or 0.
	RetryAfter time.Duration
	// Cause is why.
	Cause error
}

// Error returns a text for the log.
func (e *UnavailableError) Error() string {
	return fmt.Sprintf("plugin %q is unavailable: %v", e.PluginID, e.Cause)
}

// Unwrap returns the cause.
func (e *UnavailableError) Unwrap() error { return e.Cause }

// errNoAnswer is that the time was up.
var errNoAnswer = errors.New("no answer in time")

// Ended is the error of a ctx that is done: running out of time is the plugin's
// failure, being cancelled is nobody's.
func Ended(ctx context.Context, pluginID string) error {
	if err := ctx.Err(); !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return &UnavailableError{PluginID: pluginID, Cause: errNoAnswer}
}
