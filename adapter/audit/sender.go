package audit

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/open-policy-agent/opa/v1/plugins"
	"github.com/open-policy-agent/opa/v1/plugins/logs"
	"github.com/open-policy-agent/opa/v1/util"

	"github.com/stagedoor/stagedoor/adapter/opa"
)

const (
	// A receiver may take so long for one upload, and is left alone for so long
	// when it failed.
	uploadTimeout = 10 * time.Second
	uploadRest    = 5 * time.Second
	// So long is tried to send what is left in the end, and after so long again.
	flushTimeout = 10 * time.Second
	flushRest    = time.Second
	// After a failure the receiver is tried again, at first after about so long.
	retryLeast = 100 * time.Millisecond
)

// sender has OPA's plugin send what is in its buffer, by the schedule of
// opa.decision_logs.reporting and whenever it is asked. It alone does: two uploads at
// once race for the plugin's status in OPA 1.22, which can end the process. So the
// plugin's own trigger is manual. Where configuration comes by discovery, which forces
// one trigger on all plugins, or says another trigger, the plugin sends by itself.
type sender struct {
	manager *opa.Manager
	backlog *backlog
	hangs   *atomic.Int64 // of the Log
	asked   chan chan<- error
	ended   chan struct{} // closed when nothing is sent any more
	retries int
}

// sends reports whether it is the sender that has the plugin send.
func sends(log *logs.Plugin) bool {
	return log != nil && log.Config().Service != "" && *log.Config().Reporting.Trigger == plugins.TriggerManual
}

// run sends until the context is done, and then what is left.
func (s *sender) run(ctx context.Context) {
	defer close(s.ended)
	next := time.NewTimer(s.pause(nil))
	defer next.Stop()
	for {
		select {
		case result := <-s.asked:
			result <- s.send(uploadTimeout)
		case <-next.C:
			next.Reset(s.pause(s.send(uploadTimeout)))
		case <-ctx.Done():
			s.flush()
			return
		}
	}
}

// pause is how long nothing is sent, unless asked for, after an upload with that result.
func (s *sender) pause(err error) time.Duration {
	log := logs.Lookup(s.manager.Manager)
	if !sends(log) {
		return uploadRest
	}
	reporting := log.Config().Reporting
	least, most := *reporting.MinDelaySeconds, *reporting.MaxDelaySeconds // OPA has made them nanoseconds
	if err == nil {
		s.retries = 0
		return time.Duration(least + rand.Int64N(most-least+1)) //nolint:gosec // no secret
	}
	s.retries++
	return util.DefaultBackoff(float64(retryLeast), float64(most), s.retries)
}

// send sends what is buffered, within so long.
func (s *sender) send(within time.Duration) error {
	log := logs.Lookup(s.manager.Manager)
	if !sends(log) {
		return nil
	}
	mark := s.backlog.mark()
	err := log.Trigger(opa.UploadWithin(context.Background(), within))
	if err == nil {
		s.hangs.Store(0)
		s.backlog.sent(mark)
	}
	return err
}

// flush sends what is left.
func (s *sender) flush() {
	for end := time.Now().Add(flushTimeout); ; time.Sleep(flushRest) {
		left := time.Until(end)
		if left <= 0 || s.send(left) == nil {
			return
		}
	}
}

// now sends what is buffered, all that was there when it was called.
func (s *sender) now(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*uploadTimeout) // It may be sending already.
	defer cancel()
	result := make(chan error, 1)
	select {
	case s.asked <- result:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
