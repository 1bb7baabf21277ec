package policy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/open-policy-agent/opa/v1/ast"
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
	// not share memory with its body.
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
	// Final is the answer to the item where there are no Refs.
	Final wire.Result
}

// ErrUnrecorded is the error of a decision that had to be recorded and was not.
var ErrUnrecorded = errors.New("the decision could not be recorded (stagedoor.audit.required)")

// Audit writes decisions to OPA's decision log, as opa.decision_logs configures
// it. It is safe for concurrent use.
type Audit struct {
	manager  *plugins.Manager
	required bool
	errors   *logrus.Entry
	queue    chan Record
	done     sync.WaitGroup

	// recording lets one request at a time into the buffer where decisions must be
	// recorded, so that the room that it was promised is still there.
	recording sync.Mutex
}

// auditQueue is how many requests may wait to be written. When they are more,
// requests write themselves before they are answered: nothing is dropped here.
const auditQueue = 1024

func newAudit(manager *plugins.Manager, required bool, log *logrus.Entry) *Audit {
	a := &Audit{manager: manager, required: required, errors: log, queue: make(chan Record, auditQueue)}
	a.done.Go(func() {
		for record := range a.queue {
			a.writeOrLog(context.Background(), logs.Lookup(a.manager), record)
		}
	})
	return a
}

// close writes what is queued. Record must not be called any more.
func (a *Audit) close() {
	close(a.queue)
	a.done.Wait()
}

// Enabled reports whether there is a decision log, so that a Record is worth making.
func (a *Audit) Enabled() bool { return a.required || logs.Lookup(a.manager) != nil }

// Record records the decisions of a request. Where recording is required it
// returns after the log's receiver has them, or with [ErrUnrecorded]; else it
// returns nil, at once unless very many wait.
func (a *Audit) Record(ctx context.Context, r Record) error {
	log := logs.Lookup(a.manager)
	if a.required {
		return a.insist(ctx, log, r)
	}
	if log == nil {
		return nil
	}
	select {
	case a.queue <- r:
	default:
		a.writeOrLog(ctx, log, r)
	}
	return nil
}

func (a *Audit) writeOrLog(ctx context.Context, log *logs.Plugin, r Record) {
	if err := a.write(ctx, log, r); err != nil {
		a.errors.WithError(err).WithField("request_id", r.RequestID).Error("a decision was not recorded")
	}
}

// insist records and makes sure of it.
func (a *Audit) insist(ctx context.Context, log *logs.Plugin, r Record) error {
	if log == nil {
		return fmt.Errorf("%w: there is no decision log", ErrUnrecorded)
	}
	if err := a.admit(ctx, log, r); err != nil {
		return fmt.Errorf("%w: %w", ErrUnrecorded, err)
	}
	if err := upload(ctx, log); err != nil {
		return fmt.Errorf("%w: %w", ErrUnrecorded, err)
	}
	return nil
}

// admit puts the record into the buffer, where OPA would drop the oldest if there
// were no room.
func (a *Audit) admit(ctx context.Context, log *logs.Plugin, r Record) error {
	a.recording.Lock()
	defer a.recording.Unlock()
	if limit := log.Config().Reporting.BufferSizeLimitEvents; limit != nil && log.Config().Service != "" {
		full := func() bool {
			_, size := log.BufferSize()
			return size+int64(len(r.Permissions)) > *limit
		}
		if full() {
			if err := upload(ctx, log); err != nil {
				return err
			}
			if full() {
				return errors.New("the buffer of the decision log has no room")
			}
		}
	}
	return a.write(ctx, log, r)
}

// upload sends what is buffered. OPA's Trigger is nil when the context ended it.
func upload(ctx context.Context, log *logs.Plugin) error {
	return errors.Join(log.Trigger(ctx), ctx.Err())
}

// write hands one event for each item to OPA's decision log, in order.
func (a *Audit) write(ctx context.Context, log *logs.Plugin, r Record) error {
	if log == nil {
		return nil
	}
	txn, err := a.manager.Store.NewTransaction(ctx, storage.TransactionParams{})
	if err != nil {
		return err
	}
	defer a.manager.Store.Abort(ctx, txn)
	batch := uuid.NewString()
	identity := identityValue(r.Caller)
	var problems []error
	for i := range r.Permissions {
		info, err := a.event(r, i, identity)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		info.Txn, info.BatchDecisionID = txn, batch
		problems = append(problems, a.log(ctx, log, info))
	}
	return errors.Join(problems...)
}

// event is the decision-log event of item i.
func (a *Audit) event(r Record, i int, identity *ast.Term) (*server.Info, error) {
	id, err := uuid.NewRandom()
	if err != nil {
		return nil, err
	}
	input := inputValue(r.Permissions[i], identity)
	document, err := ast.JSON(input)
	if err != nil {
		return nil, err
	}
	outcome, answer := r.Batch.Outcomes[i], r.Answers[i]
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
	info := &server.Info{
		Bundles: map[string]server.BundleInfo{}, DecisionID: id.String(), TraceID: r.TraceID,
		Path: r.Batch.Entrypoint, Timestamp: r.Time.UTC(), Input: &document, InputAST: input,
		EvaluatedRuleLabels: outcome.RuleLabels, Custom: custom,
	}
	if outcome.Err != nil {
		info.Error = newEventError(outcome.Err)
	}
	for name, revision := range r.Batch.Revisions {
		info.Bundles[name] = server.BundleInfo{Revision: revision}
	}
	if outcome.Err == nil {
		info.Results = pointerTo(decisionDocument(outcome.Decision))
		if r.Err == nil {
			info.MappedResults = pointerTo(finalDocument(answer))
		}
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

// eventError is an error as the decision log shows it.
type eventError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (e *eventError) Error() string { return e.Message }

func newEventError(err error) error {
	e := &eventError{Code: string(FailureEvaluation), Message: err.Error()}
	if failure, ok := errors.AsType[*Failure](err); ok {
		e.Code = string(failure.Kind)
	}
	return e
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
	if a.Refs == nil {
		return a.Final.String()
	}
	return resultTexts(a.Results)
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
