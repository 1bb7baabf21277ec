// Package audit is the decision log: one event for each decision, written to OPA's
// decision-log plugin as opa.decision_logs configures it.
//
// A request that is to be recorded waits in a queue that is bounded by its number and
// by its bytes. One goroutine writes what is queued, masked by the policy's own
// system.log, and makes room in OPA's buffer by sending before events would be
// dropped. Where recording is required, a request is answered after the receiver has
// its events; else it never waits for the receiver.
package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/plugins/logs"
	"github.com/open-policy-agent/opa/v1/server"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/sirupsen/logrus"

	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/opa"
	"github.com/stagedoor/stagedoor/adapter/peer"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// Record is one request as the decision log tells it.
type Record struct {
	RequestID, TraceID string
	Time               time.Time
	Caller             decision.Caller
	Batch              decision.Batch
	// Permissions and Answers are those of the request, item by item. They must
	// not share memory with its body. Without outcomes in the Batch, for a request
	// that the policy did not look at, there are no Answers.
	Permissions []wire.Permission
	Answers     []Answer
	// Err is why the request was not answered; nil where it was.
	Err error
	// ByOperator is whether an operator asked, about whomever, and no plugin.
	ByOperator bool
}

// Answer is what became of one item after the policy had decided.
type Answer struct {
	// Refs are the resources that the plugin was asked about; nil where it was not.
	Refs []string
	// Results are the plugin's answers to Refs.
	Results []wire.Result
	// Err is why the plugin did not answer.
	Err error
	// Final is what the caller was told, or FinalList where it asked about a list of
	// resources and was told of each.
	Final     wire.Result
	FinalList []wire.Result
}

// ErrUnrecorded is the error of a decision that had to be recorded and was not.
var ErrUnrecorded = errors.New("the decision could not be recorded (stagedoor.audit.required)")

// Log writes decisions to OPA's decision log, as opa.decision_logs configures
// it. It is safe for concurrent use.
type Log struct {
	manager  *opa.Manager
	counters metrics.Metrics
	required bool
	callers  bool
	told     told
	errors   *logrus.Entry
	queue    chan *recording
	backlog  backlog
	sender   *sender
	hangs    atomic.Int64 // until when a receiver that hangs is left alone, in nanoseconds since 1970; else 0
	stop     context.CancelFunc
	stopped  chan struct{} // closed when nothing is written any more
	// rest is until when the receiver, which did not answer, is left to OPA's own
	// schedule. It belongs to the goroutine that writes.
	rest time.Time
}

// recording is a record on its way. Who waits for it gets the error, or nil.
type recording struct {
	record Record
	size   int64
	result chan<- error
}

const (
	// So many requests may wait to be written. When they are more, requests write
	// themselves before they are answered: none is dropped for their number.
	auditQueue = 1024
	// So many events are written within one transaction, or fewer with so many bytes.
	auditSlice      = 1000
	auditSliceBytes = 1 << 20
	// A receiver hangs for which a request waits longer than this, and in vain.
	patience = time.Second
)

// Options say how decisions are recorded.
type Options struct {
	// Required makes a decision fail that cannot be recorded (stagedoor.audit.required).
	// The manager must know of it too ([opa.Options.AuditRequired]).
	Required bool
	// Callers writes one more event for each distinct set of claims
	// (stagedoor.audit.callers).
	Callers bool
}

// New returns the decision log of the manager, whose plugins it writes to once they
// are started. What goes wrong goes to the other log. Close must be called before the
// plugins are stopped.
func New(o Options, manager *opa.Manager, log *logrus.Entry) *Log {
	a := &Log{
		manager: manager, counters: manager.Counters, required: o.Required, callers: o.Callers, errors: log,
		queue: make(chan *recording, auditQueue), stopped: make(chan struct{}),
	}
	a.sender = &sender{
		manager: manager, backlog: &a.backlog, hangs: &a.hangs, asked: make(chan chan<- error), ended: make(chan struct{}),
	}
	ctx, stop := context.WithCancel(context.Background())
	a.stop = stop
	sending, end := context.WithCancel(context.Background())
	go a.sender.run(sending)
	go func() {
		defer end()
		a.run(ctx)
	}()
	return a
}

// Close writes what is queued, and sends what was written. Each takes ten seconds at most
// with a receiver that hangs. What is recorded later is not written.
func (a *Log) Close() {
	a.stop()
	<-a.stopped
	<-a.sender.ended
}

// Enabled reports whether there is a decision log, so that a Record is worth making.
func (a *Log) Enabled() bool { return a.required || logs.Lookup(a.manager.Manager) != nil }

// Fails reports whether the receiver did not take what was sent last.
func (a *Log) Fails() bool { return a.manager.LogFails() }

// Record records the decisions of a request. Where recording is required, and the
// request is to be answered, it returns after the log's receiver has them, or with
// [ErrUnrecorded]; else it returns nil, at once unless very many wait.
func (a *Log) Record(ctx context.Context, r Record) error {
	next := &recording{record: r, size: r.size()}
	err := a.backlog.enqueue(next.size)
	if a.required && r.Err == nil {
		if err != nil {
			return fmt.Errorf("%w: %w", ErrUnrecorded, err)
		}
		return a.insist(ctx, next)
	}
	if err != nil {
		a.complain(r, a.forgo(len(r.Permissions), err))
		return nil
	}
	select {
	case a.queue <- next:
	default:
		defer a.backlog.written(next.size)
		a.complain(r, a.write(ctx, logs.Lookup(a.manager.Manager), r, a.takeRoom))
	}
	return nil
}

// ErrHangs is that the receiver of the decision log hangs.
var ErrHangs = errors.New("the receiver of the decision log does not answer")

// insist waits until the record, for which there is room, is received. While the receiver
// hangs it fails at once, since whoever waits holds a slot, and one tries from time to time.
// A receiver that refuses costs nobody time, and is asked each time.
func (a *Log) insist(ctx context.Context, next *recording) (err error) {
	begun := time.Now()
	if until := a.hangs.Load(); until != 0 &&
		(begun.UnixNano() < until || !a.hangs.CompareAndSwap(until, begun.Add(uploadRest).UnixNano())) {
		a.backlog.written(next.size)
		return fmt.Errorf("%w: %w", ErrUnrecorded, ErrHangs)
	}
	defer func() {
		switch late := time.Since(begun) >= patience; {
		case err == nil:
			a.hangs.Store(0)
		case errors.Is(err, errTooLarge): // which can take long to find out
		case late && !errors.Is(ctx.Err(), context.Canceled): // who leaves says nothing of the receiver
			a.hangs.Store(time.Now().Add(uploadRest).UnixNano())
		}
	}()
	result := make(chan error, 1)
	next.result = result
	select {
	case a.queue <- next:
	case <-ctx.Done():
		a.backlog.written(next.size)
		return fmt.Errorf("%w: %w", ErrUnrecorded, ctx.Err())
	}
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrUnrecorded, ctx.Err())
	case <-a.stopped:
		return fmt.Errorf("%w: stagedoor stops", ErrUnrecorded)
	}
}

// run writes what is queued, as much at a time as is waiting, until it is stopped
// and the queue is empty.
func (a *Log) run(ctx context.Context) {
	defer close(a.stopped)
	for {
		select {
		case first := <-a.queue:
			a.writeAll(context.WithoutCancel(ctx), a.waiting(first))
		case <-ctx.Done():
			if len(a.queue) == 0 {
				return
			}
			a.writeAll(context.WithoutCancel(ctx), a.waiting(<-a.queue))
		}
	}
}

// waiting returns first and what waits behind it.
func (a *Log) waiting(first *recording) []*recording {
	batch := []*recording{first}
	for len(batch) < auditQueue && len(a.queue) > 0 {
		batch = append(batch, <-a.queue)
	}
	return batch
}

func (a *Log) writeAll(ctx context.Context, batch []*recording) {
	log, lost := logs.Lookup(a.manager.Manager), a.lost()
	written := make([]error, len(batch))
	for i, r := range batch {
		written[i] = a.write(ctx, log, r.record, a.makeRoom)
	}
	if !a.required {
		for i, r := range batch {
			a.complain(r.record, written[i])
			a.backlog.written(r.size)
		}
		return
	}
	sent := a.sender.now(ctx)
	if log == nil {
		sent = errors.New("there is no decision log")
	}
	if sent == nil && a.lost() != lost {
		sent = errors.New("OPA's decision log lost an event, which its own log line tells more of")
	}
	for i, r := range batch {
		a.backlog.written(r.size)
		err := cmp.Or(written[i], sent)
		if err != nil {
			err = fmt.Errorf("%w: %w", ErrUnrecorded, err)
		}
		if r.result == nil {
			a.complain(r.record, err)
			continue
		}
		r.result <- err
	}
}

func (a *Log) complain(r Record, err error) {
	if err != nil {
		a.errors.WithField("error", peer.WithoutSecrets(err.Error())).WithField("request_id", r.RequestID).
			Error("a decision was not recorded")
	}
}

// forgo gives up events because of err. It is nil where that is no more than a
// matter of a metric, for which OPA's for the same is taken.
func (a *Log) forgo(events int, err error) error {
	if a.required {
		return err
	}
	a.counters.Counter(droppedForBytes).Add(uint64(events)) //nolint:gosec // a number of events
	return nil
}

// OPA's names for what it counts.
const (
	droppedForBytes  = "decision_logs_dropped_buffer_size_limit_bytes_exceeded"
	failedToBeLogged = "decision_logs_encoding_failure"
)

// lost counts the events that OPA's plugin was given and lost, and where recording
// is not required those that were kept from it.
func (a *Log) lost() (n uint64) {
	for _, name := range []string{
		"decision_logs_dropped_rate_limit_exceeded", "decision_logs_dropped_buffer_size_limit_exceeded",
		droppedForBytes, failedToBeLogged,
	} {
		count, _ := a.counters.Counter(name).Value().(uint64)
		n += count
	}
	return n
}

// portion are events that are written together.
type portion struct {
	events         []*server.Info
	bytes, largest int64
}

func (p *portion) add(info *server.Info, size int64) {
	p.events = append(p.events, info)
	p.bytes += size
	p.largest = max(p.largest, size)
}

// makeRoom makes room in OPA's buffer for a portion, and takes it. It sends what is
// buffered where the portion would drop the oldest, or half of the bytes are taken,
// so that who has no time for that finds room too. Where events may be dropped, that
// is tried once in a while.
func (a *Log) makeRoom(ctx context.Context, log *logs.Plugin, p *portion) error {
	limit := log.Config().Reporting.BufferSizeLimitEvents
	full := func() bool {
		kind, size := log.BufferSize()
		return kind == "event" && limit != nil && size+int64(len(p.events)) > *limit
	}
	crowded := func() bool { return a.backlog.buffered(log)+p.bytes > opa.BufferBytes/2 }
	if !sends(log) || !full() && !crowded() || !a.required && time.Now().Before(a.rest) {
		return a.takeRoom(ctx, log, p)
	}
	if err := a.sender.now(ctx); err != nil {
		a.rest = time.Now().Add(uploadRest)
		if a.required {
			return err
		}
	}
	if a.required && full() {
		return errors.New("the buffer of the decision log has no room")
	}
	return a.takeRoom(ctx, log, p) // OPA counts what it drops
}

// takeRoom takes the room that there is.
func (a *Log) takeRoom(_ context.Context, log *logs.Plugin, p *portion) error {
	return a.backlog.hold(log, p.bytes, p.largest)
}

// write hands one event for each item to OPA's decision log, in order, and has
// room made before.
func (a *Log) write(
	ctx context.Context, log *logs.Plugin, r Record, room func(context.Context, *logs.Plugin, *portion) error,
) (err error) {
	if log == nil {
		return nil
	}
	batch, identity := uuid.NewString(), decision.Identity(r.Caller)
	most := auditSlice
	if limit := log.Config().Reporting.BufferSizeLimitEvents; limit != nil {
		most = min(most, int(*limit))
	}
	var problems []error
	var p portion
	if hash := r.claimsHash(); a.callers && hash != "" && a.told.first(hash) {
		defer func() {
			if err != nil {
				a.told.forget(hash)
			}
		}()
		info, err := callerEvent(r, hash)
		if err == nil {
			err = a.fit(log, info, &p)
		}
		problems = append(problems, err)
	}
	for i := range r.Permissions {
		info, err := event(r, i, identity)
		if err == nil {
			info.BatchDecisionID = batch
			err = a.fit(log, info, &p)
		}
		problems = append(problems, err)
		if len(p.events) < most && p.bytes < auditSliceBytes && i < len(r.Permissions)-1 || len(p.events) == 0 {
			continue
		}
		if err := room(ctx, log, &p); err != nil {
			if err = a.forgo(len(p.events), err); err != nil {
				return errors.Join(append(problems, err)...)
			}
		} else {
			problems = append(problems, a.writePortion(ctx, log, &p))
		}
		p = portion{}
	}
	return errors.Join(problems...)
}

// fit adds the event to the portion, unless it is one that OPA could not send.
func (a *Log) fit(log *logs.Plugin, info *server.Info, p *portion) error {
	size := eventSize(info)
	if err := a.fits(log, info, size); err != nil {
		if !a.required {
			a.counters.Counter(failedToBeLogged).Incr()
		}
		return err
	}
	p.add(info, size)
	return nil
}

// writePortion writes events for which there is room, in one transaction for their
// masks.
func (a *Log) writePortion(ctx context.Context, log *logs.Plugin, p *portion) error {
	defer a.backlog.hand(p.bytes)
	txn, err := a.manager.Store.NewTransaction(ctx, storage.TransactionParams{})
	if err != nil {
		return err
	}
	defer a.manager.Store.Abort(ctx, txn)
	var problems []error
	for _, info := range p.events {
		info.Txn = txn
		problems = append(problems, a.log(ctx, log, info))
	}
	return errors.Join(problems...)
}

// log hands over one event. Where recording is required it must get through: OPA
// says nothing of an event that a mask could not be applied to or that a drop rule took.
func (a *Log) log(ctx context.Context, log *logs.Plugin, info *server.Info) error {
	if !a.required {
		return log.Log(ctx, info)
	}
	witnessed, seen := opa.Witnessed(ctx)
	if err := log.Log(witnessed, info); err != nil {
		return err
	}
	if !*seen {
		return errors.New("the policy's own system.log dropped the event, or could not mask it")
	}
	return nil
}
