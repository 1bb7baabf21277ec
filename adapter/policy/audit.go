package policy

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/plugins"
	"github.com/open-policy-agent/opa/v1/plugins/logs"
	"github.com/open-policy-agent/opa/v1/server"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/sirupsen/logrus"

	"github.com/stagedoor/stagedoor/adapter/wire"
)

// Record is one request as the decision log tells it.
type Record struct {
	RequestID, TraceID string
	Time               time.Time
	Caller             Caller
	Batch              Batch
	// Permissions and Answers are those of the request, item by item. They must
	// not share memory with its body. Without outcomes in the Batch, for a request
	// that the policy did not look at, there are no Answers.
	Permissions []wire.Permission
	Answers     []RecordedAnswer
	// Err is why the request was not answered; nil where it was.
	Err error
}

// RecordedAnswer is what became of one item after the policy had decided.
type RecordedAnswer struct {
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

// Audit writes decisions to OPA's decision log, as opa.decision_logs configures
// it. It is safe for concurrent use.
type Audit struct {
	manager  *plugins.Manager
	counters metrics.Metrics
	required bool
	errors   *logrus.Entry
	queue    chan *recording
	backlog  backlog
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
	// A receiver may take so long for one upload, and is left alone for so long
	// when it failed.
	uploadTimeout = 10 * time.Second
	uploadRest    = 5 * time.Second
)

// newAudit returns an Audit over OPA's decision log plugin, which counts in
// counters what it lost.
func newAudit(manager *plugins.Manager, o Options, counters metrics.Metrics) (*Audit, error) {
	log := logs.Lookup(manager)
	if o.AuditRequired && (log == nil || log.Config().Service == "" && !log.Config().ConsoleLogs) {
		return nil, errors.New("stagedoor.audit.required: opa.decision_logs names neither a service nor the console")
	}
	a := &Audit{
		manager: manager, counters: counters, required: o.AuditRequired, errors: o.Log,
		queue: make(chan *recording, auditQueue), stopped: make(chan struct{}),
	}
	ctx, stop := context.WithCancel(context.Background())
	a.stop = stop
	go a.run(ctx)
	return a, nil
}

// close writes what is queued. What is recorded later is not.
func (a *Audit) close() {
	a.stop()
	<-a.stopped
}

// Enabled reports whether there is a decision log, so that a Record is worth making.
func (a *Audit) Enabled() bool { return a.required || logs.Lookup(a.manager) != nil }

// Record records the decisions of a request. Where recording is required, and the
// request is to be answered, it returns after the log's receiver has them, or with
// [ErrUnrecorded]; else it returns nil, at once unless very many wait.
func (a *Audit) Record(ctx context.Context, r Record) error {
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
		a.complain(r, a.write(ctx, logs.Lookup(a.manager), r, a.takeRoom))
	}
	return nil
}

// insist waits until the record, for which there is room, is received.
func (a *Audit) insist(ctx context.Context, next *recording) error {
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
func (a *Audit) run(ctx context.Context) {
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
func (a *Audit) waiting(first *recording) []*recording {
	batch := []*recording{first}
	for len(batch) < auditQueue && len(a.queue) > 0 {
		batch = append(batch, <-a.queue)
	}
	return batch
}

func (a *Audit) writeAll(ctx context.Context, batch []*recording) {
	log, lost := logs.Lookup(a.manager), a.lost()
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
	sent := a.upload(ctx, log)
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

func (a *Audit) complain(r Record, err error) {
	if err != nil {
		a.errors.WithField("error", wire.WithoutSecrets(err.Error())).WithField("request_id", r.RequestID).
			Error("a decision was not recorded")
	}
}

// forgo gives up events because of err. It is nil where that is no more than a
// matter of a metric, for which OPA's for the same is taken.
func (a *Audit) forgo(events int, err error) error {
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
func (a *Audit) lost() (n uint64) {
	for _, name := range []string{
		"decision_logs_dropped_rate_limit_exceeded", "decision_logs_dropped_buffer_size_limit_exceeded",
		droppedForBytes, failedToBeLogged,
	} {
		count, _ := a.counters.Counter(name).Value().(uint64)
		n += count
	}
	return n
}

// upload sends what is buffered. OPA's Trigger is nil when the context ended it.
func (a *Audit) upload(ctx context.Context, log *logs.Plugin) error {
	if log == nil {
		return errors.New("there is no decision log")
	}
	ctx, cancel := context.WithTimeout(ctx, uploadTimeout)
	defer cancel()
	mark := a.backlog.mark()
	err := errors.Join(log.Trigger(ctx), ctx.Err())
	if err == nil {
		a.backlog.sent(log, mark)
	}
	return err
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
func (a *Audit) makeRoom(ctx context.Context, log *logs.Plugin, p *portion) error {
	limit := log.Config().Reporting.BufferSizeLimitEvents
	full := func() bool {
		kind, size := log.BufferSize()
		return kind == "event" && limit != nil && size+int64(len(p.events)) > *limit
	}
	crowded := func() bool { return a.backlog.buffered(log)+p.bytes > bufferBytes/2 }
	if log.Config().Service == "" || !full() && !crowded() || !a.required && time.Now().Before(a.rest) {
		return a.takeRoom(ctx, log, p)
	}
	if err := a.upload(ctx, log); err != nil {
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
func (a *Audit) takeRoom(_ context.Context, log *logs.Plugin, p *portion) error {
	return a.backlog.hold(log, p.bytes, p.largest)
}

// write hands one event for each item to OPA's decision log, in order, and has
// room made before.
func (a *Audit) write(
	ctx context.Context, log *logs.Plugin, r Record, room func(context.Context, *logs.Plugin, *portion) error,
) error {
	if log == nil {
		return nil
	}
	batch, identity := uuid.NewString(), identityValue(r.Caller)
	most := auditSlice
	if limit := log.Config().Reporting.BufferSizeLimitEvents; limit != nil {
		most = min(most, int(*limit))
	}
	var problems []error
	var p portion
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
func (a *Audit) fit(log *logs.Plugin, info *server.Info, p *portion) error {
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
func (a *Audit) writePortion(ctx context.Context, log *logs.Plugin, p *portion) error {
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

// event is the decision-log event of item i.
func event(r Record, i int, identity *ast.Term) (*server.Info, error) {
	id, err := uuid.NewRandom()
	if err != nil {
		return nil, err
	}
	input := r.Batch.document
	if input == nil {
		input = inputValue(r.Permissions[i], identity)
	}
	document, err := ast.JSON(input)
	if err != nil {
		return nil, err
	}
	var outcome Outcome
	var answer RecordedAnswer
	if i < len(r.Batch.Outcomes) {
		outcome, answer = *r.Batch.Outcomes[i], r.Answers[i]
	} else { // the policy did not look at the request
		outcome.Err = r.Err
	}
	custom := map[string]any{"request_id": r.RequestID, "item": i, "remembered": outcome.Remembered}
	if len(outcome.Excluded) > 0 {
		custom["excluded_branches"] = texts(outcome.Excluded)
	}
	if outcome.Reason != "" {
		custom["reason"] = outcome.Reason
	}
	if answer.Refs != nil {
		applied := map[string]any{"resource_refs": answer.Refs}
		if answer.Err != nil {
			applied["error"] = answer.Err.Error()
		} else {
			applied["results"] = resultTexts(answer.Results)
		}
		custom["apply_conditions"] = applied
	}
	if r.Err != nil {
		custom["unanswered"] = r.Err.Error()
	}
	if outcome.Err != nil {
		custom["error"] = eventError(outcome.Err)
	}
	info := &server.Info{
		Bundles: map[string]server.BundleInfo{}, DecisionID: id.String(), TraceID: r.TraceID,
		Path: r.Batch.Entrypoint, Timestamp: r.Time.UTC(), Input: &document, InputAST: input,
		EvaluatedRuleLabels: outcome.RuleLabels, Custom: custom,
	}
	for name, revision := range r.Batch.Revisions {
		info.Bundles[name] = server.BundleInfo{Revision: revision}
	}
	// A decision that stagedoor held to be a failure has both.
	if outcome.Err == nil || outcome.Decision.Result == wire.Conditional {
		info.Results = pointerTo(decisionDocument(outcome.Decision))
	}
	if r.Err == nil {
		info.MappedResults = pointerTo(finalDocument(answer))
	}
	return info, nil
}

// log hands over one event. Where recording is required it must get through: OPA
// says nothing of an event that a mask could not be applied to or that a drop rule took.
func (a *Audit) log(ctx context.Context, log *logs.Plugin, info *server.Info) error {
	if !a.required {
		return log.Log(ctx, info)
	}
	seen := false
	if err := log.Log(context.WithValue(ctx, witnessKey{}, &seen), info); err != nil {
		return err
	}
	if !seen {
		return errors.New("the policy's own system.log dropped the event, or could not mask it")
	}
	return nil
}

// witness is a decision-log plugin that sees which events get through mask and
// drop. It is in use where recording is required.
type witness struct{}

const witnessName = "stagedoor_witness"

type witnessKey struct{}

func (witness) Log(ctx context.Context, _ logs.EventV1) error {
	if seen, ok := ctx.Value(witnessKey{}).(*bool); ok {
		*seen = true
	}
	return nil
}

func (witness) Start(context.Context) error                    { return nil }
func (witness) Stop(context.Context)                           {}
func (witness) Reconfigure(context.Context, any)               {}
func (witness) Validate(*plugins.Manager, []byte) (any, error) { return struct{}{}, nil }
func (witness) New(m *plugins.Manager, _ any) plugins.Plugin {
	m.UpdatePluginStatus(witnessName, &plugins.Status{State: plugins.StateOK})
	return witness{}
}

// eventError is an error as the decision log shows it. OPA has a member for errors,
// but cannot read its own events with one again (logs.EventV1 of OPA 1.22.4), which
// it does where they turn out to be too large for one upload, and then loses all.
func eventError(err error) map[string]any {
	code := FailureEvaluation
	if failure, ok := errors.AsType[*Failure](err); ok {
		code = failure.Kind
	}
	return map[string]any{"code": string(code), "message": err.Error()}
}

func pointerTo(v any) *any { return &v }

// decisionDocument is the policy's own answer as JSON.
func decisionDocument(d wire.Decision) any {
	var document any
	if err := json.Unmarshal(d.AppendJSON(nil), &document); err != nil {
		return d.Result.String()
	}
	return document
}

// finalDocument is what the caller was told.
func finalDocument(a RecordedAnswer) any {
	if a.FinalList != nil {
		return resultTexts(a.FinalList)
	}
	return a.Final.String()
}

func resultTexts(results []wire.Result) []any {
	list := make([]any, len(results))
	for i, result := range results {
		list[i] = result.String()
	}
	return list
}

func texts(errs []error) []any {
	list := make([]any, len(errs))
	for i, err := range errs {
		list[i] = err.Error()
	}
	return list
}
