package policy

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/opa/v1/plugins/logs"

	"github.com/stagedoor/stagedoor/adapter/criteria"
	"github.com/stagedoor/stagedoor/adapter/wire"
	"github.com/stagedoor/stagedoor/rego"
)

// receiver takes decision logs in, as OPA sends them. It is safe for concurrent use.
type receiver struct {
	*httptest.Server
	down   atomic.Bool
	mutex  sync.Mutex
	events []loggedEvent
	raw    strings.Builder
}

// loggedEvent is an event of OPA's decision log as far as tests look at it.
type loggedEvent struct {
	DecisionID      string `json:"decision_id"`
	BatchDecisionID string `json:"batch_decision_id"`
	TraceID         string `json:"trace_id"`
	Path            string
	Bundles         map[string]struct{ Revision string }
	Input           struct {
		Permission struct{ Name, Type string }
		Identity   *struct {
			User   string
			Claims []string
			Actor  string
		}
	}
	Result       any
	MappedResult any `json:"mapped_result"`
	Erased       []string
	RuleLabels   []map[string]any `json:"rule_labels"`
	Custom       struct {
		RequestID  string `json:"request_id"`
		Item       int
		Remembered bool
		Reason     string
		Unanswered string
		Error      *struct{ Code, Message string }
	}
}

func newReceiver(t testing.TB) *receiver {
	r := &receiver{}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	if r.down.Load() {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	zip, err := gzip.NewReader(request.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var raw []json.RawMessage
	if err := json.NewDecoder(zip).Decode(&raw); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.mutex.Lock()
	defer r.mutex.Unlock()
	for _, text := range raw {
		var e loggedEvent
		if err := json.Unmarshal(text, &e); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		r.events = append(r.events, e)
		r.raw.Write(text)
	}
}

func (r *receiver) received() []loggedEvent {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return append([]loggedEvent(nil), r.events...)
}

// logTo is OPA's configuration for a decision log with the receiver.
func logTo(t testing.TB, r *receiver, reporting map[string]any) json.RawMessage {
	t.Helper()
	return toJSON(t, map[string]any{
		"services":      map[string]any{"log": map[string]any{"url": r.URL}},
		"decision_logs": map[string]any{"service": "log", "reporting": reporting},
	})
}

// audited is an engine with an embedded policy that allows x.
func audited(t testing.TB, opa json.RawMessage, required bool, more files) *Engine {
	t.Helper()
	f := allowing("rev", "x")
	if len(more) > 0 {
		f = f.with(more)
		f[".manifest"] = manifest("rev", "a", "system/log")
	}
	return newEngine(t, Options{OPA: opa, AuditRequired: required, Default: bundleFS(f), Mask: rego.Mask()})
}

// record decides about the permissions and records that for ann.
func (e *Engine) recordAll(t testing.TB, request string, names ...string) error {
	t.Helper()
	permissions := make([]wire.Permission, len(names))
	for i, name := range names {
		permissions[i] = basic(name)
	}
	batch, err := e.Decide(t.Context(), ann, permissions)
	if err != nil {
		t.Fatal(err)
	}
	answers := make([]RecordedAnswer, len(names))
	for i, outcome := range batch.Outcomes {
		answers[i].Final = outcome.Decision.Result
	}
	return e.Audit().Record(t.Context(), Record{
		RequestID: request, TraceID: "trace-" + request, Time: time.Now(), Caller: ann, Batch: batch,
		Permissions: permissions, Answers: answers,
	})
}

func TestEveryItemIsRecordedInOrder(t *testing.T) {
	r := newReceiver(t)
	e := audited(t, logTo(t, r, nil), false, nil)
	for n := range 3 {
		mustDo(t, e.recordAll(t, fmt.Sprint("r", n), "x", "y", "x"))
	}
	eventually(t, "all events", func() bool { return len(r.received()) == 9 })
	ids := map[string]bool{}
	for i, event := range r.received() {
		n := i / 3
		type seen struct {
			Request, Trace, Name, Path, Revision, User string
			Item                                       int
			Result, Mapped                             any
			Remembered                                 bool
		}
		allowed := "ALLOW"
		if i%3 == 1 {
			allowed = "DENY"
		}
		want := seen{
			fmt.Sprint("r", n), fmt.Sprint("trace-r", n), []string{"x", "y", "x"}[i%3], "a/allow", "rev", ann.User,
			i % 3, map[string]any{"result": allowed}, allowed, n > 0,
		}
		got := seen{
			event.Custom.RequestID, event.TraceID, event.Input.Permission.Name, event.Path, event.Bundles["local"].Revision,
			event.Input.Identity.User, event.Custom.Item, event.Result, event.MappedResult, event.Custom.Remembered,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("event %d (-want +got):\n%s", i, diff)
		}
		if event.Input.Identity.Claims != nil || !cmp.Equal(event.Erased, []string{"/input/identity/claims"}) {
			t.Errorf("event %d: claims %v, erased %v", i, event.Input.Identity.Claims, event.Erased)
		}
		if first := r.received()[n*3]; event.BatchDecisionID != first.BatchDecisionID || ids[event.DecisionID] {
			t.Errorf("event %d: ids %s of %s", i, event.DecisionID, event.BatchDecisionID)
		}
		ids[event.DecisionID] = true
	}
}

func TestFailuresAreRecorded(t *testing.T) {
	r := newReceiver(t)
	e := audited(t, logTo(t, r, nil), false, nil)
	failure := &Failure{Kind: FailureAnswer, Cause: errors.New("odd")}
	mustDo(t, e.Audit().Record(t.Context(), Record{
		RequestID: "one", Caller: Caller{Anonymous: true}, Permissions: []wire.Permission{basic("x")}, Err: errors.New("failed"),
		Batch: Batch{Outcomes: []*Outcome{{Err: failure}}, Entrypoint: "a/allow"}, Answers: make([]RecordedAnswer, 1),
	}))
	mustDo(t, e.Audit().Record(t.Context(), Record{
		RequestID: "two", Caller: ann, Permissions: []wire.Permission{basic("x"), basic("y")}, Err: ErrNoPolicy,
	}))
	eventually(t, "all events", func() bool { return len(r.received()) == 3 })
	events := r.received()
	if e := events[0]; e.Custom.Error == nil || e.Custom.Error.Code != "answer" || e.Result != nil || e.MappedResult != nil || e.Custom.Unanswered != "failed" || e.Input.Identity != nil {
		t.Errorf("failure of an item: %+v", e)
	}
	for _, e := range events[1:] {
		if e.Custom.Error == nil || e.Custom.Error.Message != ErrNoPolicy.Error() || e.Result != nil || e.Custom.Unanswered == "" || e.Path != "" {
			t.Errorf("failure of a request: %+v", e)
		}
	}
}

// A mask of the policy's own replaces the default, and a drop rule drops.
func TestMaskAndDropOfThePolicy(t *testing.T) {
	own := files{"log.rego": `package system.log

mask contains {"op": "upsert", "path": "/input/identity/user", "value": "somebody"}

drop if input.input.permission.name == "y"
`}
	r := newReceiver(t)
	e := audited(t, logTo(t, r, nil), false, own)
	mustDo(t, e.recordAll(t, "r", "y", "x"))
	eventually(t, "the event", func() bool { return len(r.received()) == 1 })
	got := r.received()[0]
	if got.Input.Permission.Name != "x" || got.Input.Identity.User != "somebody" || len(got.Input.Identity.Claims) != 2 {
		t.Errorf("event %+v", got)
	}
	// Where recording is required, what is dropped is not recorded.
	required := audited(t, logTo(t, r, nil), true, own)
	if err := required.recordAll(t, "r", "x", "y"); !errors.Is(err, ErrUnrecorded) {
		t.Errorf("dropped: error %v", err)
	}
	mustDo(t, required.recordAll(t, "r", "x"))
	broken := audited(t, logTo(t, r, nil), true, files{"log.rego": "package system.log\n\nmask := 1 if true\n\nmask := 2 if true\n"})
	if err := broken.recordAll(t, "r", "x"); !errors.Is(err, ErrUnrecorded) {
		t.Errorf("mask that fails: error %v", err)
	}
	// Where it is not, an event that cannot be masked is not sent either.
	before := len(r.received())
	lenient := audited(t, logTo(t, r, nil), false, files{"log.rego": "package system.log\n\nmask := 1 if true\n\nmask := 2 if true\n"})
	mustDo(t, lenient.recordAll(t, "r", "x"))
	lenient.Close(context.Background())
	if after := len(r.received()); after != before {
		t.Errorf("%d events were sent unmasked", after-before)
	}
}

func TestRequiredRecordIsReceivedBeforeItReturns(t *testing.T) {
	r := newReceiver(t)
	e := audited(t, logTo(t, r, nil), true, nil)
	var group sync.WaitGroup
	for n := range 20 {
		group.Go(func() {
			request := fmt.Sprint("r", n)
			if err := e.recordAll(t, request, "x", "y", "z"); err != nil {
				t.Error(err)
			}
			var items []int
			for _, event := range r.received() {
				if event.Custom.RequestID == request {
					items = append(items, event.Custom.Item)
				}
			}
			if !cmp.Equal(items, []int{0, 1, 2}) {
				t.Errorf("%s: received items %v when it returned", request, items)
			}
		})
	}
	group.Wait()
}

func TestRequiredRecordFailsWithoutReceiver(t *testing.T) {
	r := newReceiver(t)
	e := audited(t, logTo(t, r, map[string]any{"buffer_size_limit_events": 8}), true, nil)
	mustDo(t, e.recordAll(t, "before", "x"))
	r.down.Store(true)
	for n := range 20 { // more than the buffer takes
		if err := e.recordAll(t, fmt.Sprint("down", n), "x", "y"); !errors.Is(err, ErrUnrecorded) {
			t.Fatalf("receiver down: error %v", err)
		}
	}
	r.down.Store(false)
	mustDo(t, e.recordAll(t, "after", "x", "y"))
	seen := map[string]int{}
	for _, event := range r.received() {
		seen[event.Custom.RequestID]++
	}
	if seen["before"] != 1 || seen["after"] != 2 {
		t.Errorf("received %v", seen)
	}
	if lost := e.Audit().lost(); lost != 0 {
		t.Errorf("%d events lost of decisions that were refused", lost)
	}
	// A request that will not wait is told so.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := e.Audit().Record(ctx, Record{}); !errors.Is(err, ErrUnrecorded) || !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// More items than the buffer holds, and one that is larger than a chunk may be.
func TestLargeRecords(t *testing.T) {
	for name, required := range map[string]bool{"required": true, "not required": false} {
		t.Run(name, func(t *testing.T) {
			r := newReceiver(t)
			e := audited(t, logTo(t, r, map[string]any{"buffer_size_limit_events": 300}), required, nil)
			names := make([]string, 1200)
			for i := range names {
				names[i] = fmt.Sprint("p", i)
			}
			mustDo(t, e.recordAll(t, "r", names...))
			eventually(t, "all events", func() bool { return len(r.received()) == len(names) })
			for i, event := range r.received() {
				if event.Custom.Item != i || event.BatchDecisionID != r.received()[0].BatchDecisionID {
					t.Fatalf("event %d is of item %d, batch %s", i, event.Custom.Item, event.BatchDecisionID)
				}
			}
			if lost := e.Audit().lost(); lost != 0 {
				t.Errorf("%d lost", lost)
			}
		})
	}
	r := newReceiver(t)
	e := audited(t, logTo(t, r, map[string]any{"upload_size_limit_bytes": 600}), true, nil)
	if err := e.recordAll(t, "r", strings.Repeat("0123456789abcdefghijklmnopqrstuvwxyz", 1)+randomText(2000)); !errors.Is(err, ErrUnrecorded) {
		t.Errorf("larger than a chunk: error %v", err)
	}
	mustDo(t, e.recordAll(t, "r", "x"))
}

// randomText does not compress.
func randomText(n int) string {
	var b strings.Builder
	state := uint32(1)
	for range n {
		state = state*1664525 + 1013904223
		b.WriteByte("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_"[state>>26])
	}
	return b.String()
}

// With the receiver down nothing waits for the log, what it has no room for is
// counted, and what it has room for arrives in the end.
func TestReceiverDownAndBack(t *testing.T) {
	r := newReceiver(t)
	r.down.Store(true)
	e := audited(t, logTo(t, r, map[string]any{"buffer_size_limit_events": 50}), false, nil)
	const requests = 3000
	for n := range requests {
		started := time.Now()
		mustDo(t, e.recordAll(t, strconv.Itoa(n), "x"))
		if took := time.Since(started); took > uploadRest/2 {
			t.Errorf("recording %d took %v", n, took)
		}
	}
	eventually(t, "everything is written", func() bool { return len(e.Audit().queue) == 0 })
	log := logs.Lookup(e.manager)
	if _, size := log.BufferSize(); size > 50 {
		t.Errorf("%d events wait, more than the limit", size)
	}
	if e.Audit().lost() == 0 {
		t.Error("what was dropped is not counted")
	}
	r.down.Store(false)
	eventually(t, "what had room", func() bool { return len(r.received()) >= 50 })
	mustDo(t, e.recordAll(t, "afterwards", "x"))
	eventually(t, "an event of afterwards", func() bool {
		return slices.ContainsFunc(r.received(), func(e loggedEvent) bool { return e.Custom.RequestID == "afterwards" })
	})
}

func TestWhatWaitsIsSentAtTheEnd(t *testing.T) {
	r := newReceiver(t)
	e := audited(t, logTo(t, r, map[string]any{"min_delay_seconds": 60, "max_delay_seconds": 60}), false, nil)
	for n := range 500 {
		mustDo(t, e.recordAll(t, strconv.Itoa(n), "x"))
	}
	e.Close(context.Background())
	if n := len(r.received()); n != 500 {
		t.Errorf("%d events received, want 500", n)
	}
}

func TestConsole(t *testing.T) {
	log, text := newTestLog()
	e := newEngine(t, Options{
		Default: bundleFS(allowing("rev", "x")), Mask: rego.Mask(), Log: log, AuditRequired: true,
		OPA: json.RawMessage(`{"decision_logs": {"console": true}}`),
	})
	mustDo(t, e.recordAll(t, "r", "x"))
	mustContain(t, text.String(), `"type":"openpolicyagent.org/decision_logs"`, `"request_id":"r"`, `"user":"user:default/ann"`)
	if strings.Contains(text.String(), "group:default/web") {
		t.Error("claims are not masked on the console")
	}
}

func TestRequiredWithoutReceiverConfigured(t *testing.T) {
	_, err := tryEngine(t, Options{
		Default: bundleFS(allowing("rev", "x")), AuditRequired: true, OPA: json.RawMessage(`{"decision_logs": {}}`),
	})
	if err == nil || !strings.Contains(err.Error(), "names neither a service nor the console") {
		t.Errorf("error %v", err)
	}
}

// What cannot be sent, as it is too large, is the problem of who asked it alone:
// neither that of those who are written along with it nor of anybody later, however
// large what they ask is before it is compressed.
func TestTooLargeIsNobodyElsesProblem(t *testing.T) {
	r := newReceiver(t)
	e := audited(t, logTo(t, r, nil), true, nil)
	compressible := strings.Repeat("abcdefghij", 40_000)
	mustDo(t, e.recordAll(t, "before", compressible))
	large := randomText(300_000)
	var group sync.WaitGroup
	stop := make(chan struct{})
	for range 2 {
		group.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := e.recordAll(t, "too large", large); !errors.Is(err, ErrUnrecorded) {
					t.Errorf("what is too large: error %v", err)
					return
				}
			}
		})
	}
	var others sync.WaitGroup
	for n := range 8 {
		others.Go(func() {
			for i := range 25 {
				if err := e.recordAll(t, fmt.Sprint(n, "-", i), "x"); err != nil {
					t.Errorf("somebody else: error %v", err)
				}
			}
		})
	}
	others.Wait()
	close(stop)
	group.Wait()
	mustDo(t, e.recordAll(t, "after", compressible))
	for _, event := range r.received() {
		if event.Custom.RequestID == "too large" {
			t.Error("it is recorded and yet was refused")
		}
	}
}

// Where recording is not required, what is too large is dropped, counted and told
// of, and nothing else is.
func TestTooLargeIsDropped(t *testing.T) {
	r := newReceiver(t)
	log, text := newTestLog()
	e := newEngine(t, Options{OPA: logTo(t, r, nil), Default: bundleFS(allowing("rev", "x")), Log: log})
	compressible := strings.Repeat("abcdefghij", 40_000)
	mustDo(t, e.recordAll(t, "mixed", "x", randomText(200_000), compressible))
	mustDo(t, e.recordAll(t, "after", compressible))
	e.Close(context.Background())
	var got []string
	for _, event := range r.received() {
		got = append(got, fmt.Sprint(event.Custom.RequestID, event.Custom.Item))
	}
	if diff := cmp.Diff([]string{"mixed0", "mixed2", "after0"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if lost := e.Audit().lost(); lost != 1 {
		t.Errorf("%d are counted, want 1", lost)
	}
	mustContain(t, text.String(), `"request_id":"mixed"`, "upload_size_limit_bytes")
}

// TestErrorsCostNoOtherEvents has events that OPA takes apart again, since they do
// not fit into one upload, and one of them is of a failure.
func TestErrorsCostNoOtherEvents(t *testing.T) {
	r := newReceiver(t)
	e := newEngine(t, Options{OPA: logTo(t, r, nil), Default: bundleFS(allowing("rev", "x"))})
	compressible := strings.Repeat("abcdefghij", 40_000)
	var names []string
	for n := range 6 {
		name := compressible
		if n >= 3 {
			name = randomText(90_000)
		}
		names = append(names, name)
	}
	batch, err := e.Decide(t.Context(), ann, []wire.Permission{basic("x"), basic("x"), basic("x"), basic("x"), basic("x"), basic("x")})
	mustDo(t, err)
	batch.Outcomes[3] = &Outcome{Err: &Failure{Kind: FailureEvaluation, Cause: errors.New("two values")}}
	record := Record{RequestID: "r", Time: time.Now(), Caller: ann, Batch: batch, Answers: make([]RecordedAnswer, len(names))}
	for _, name := range names {
		record.Permissions = append(record.Permissions, basic(name))
	}
	mustDo(t, e.Audit().Record(t.Context(), record))
	e.Close(context.Background())
	events := r.received()
	if len(events) != len(names) || e.Audit().lost() != 0 {
		t.Fatalf("%d events of %d, %d counted as lost", len(events), len(names), e.Audit().lost())
	}
	if failed := events[3].Custom.Error; failed == nil || failed.Code != "evaluation" || failed.Message == "" {
		t.Errorf("the failure is %+v", failed)
	}
}

// hangingReceiver takes nothing in until it is released.
func hangingReceiver(t testing.TB) (url string, release func()) {
	r := newReceiver(t)
	released := make(chan struct{})
	release = sync.OnceFunc(func() { close(released) })
	url = remoteServer(t, func(w http.ResponseWriter, request *http.Request) {
		select {
		case <-released:
			r.ServeHTTP(w, request)
		case <-request.Context().Done():
		}
	})
	t.Cleanup(release) // before the server is closed, which waits for it
	return url, release
}

// recordLarge records a request for a permission with a name of more than a megabyte.
func (e *Engine) recordLarge(ctx context.Context, n int) error {
	permission := basic(strconv.Itoa(n) + strings.Repeat("abcdefghij", 1<<17))
	return e.Audit().Record(ctx, Record{
		RequestID: strconv.Itoa(n), Caller: ann, Permissions: []wire.Permission{permission},
		Batch: Batch{Outcomes: []*Outcome{{}}, Entrypoint: "a/allow"}, Answers: make([]RecordedAnswer, 1),
	})
}

// waits is how much waits to be written and in OPA's buffer.
func (e *Engine) waits() (queued, buffered int64) {
	return e.Audit().backlog.queued.Load(), e.Audit().backlog.buffered(logs.Lookup(e.manager))
}

// With a receiver that hangs, what waits for it is bounded by its size too.
func TestWhatWaitsIsBoundedInBytes(t *testing.T) {
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc >> 20
	}
	url, release := hangingReceiver(t)
	before := heap()
	e := audited(t, toJSON(t, map[string]any{
		"services":      map[string]any{"log": map[string]any{"url": url}},
		"decision_logs": map[string]any{"service": "log"},
	}), false, nil)
	for n := range 300 {
		mustDo(t, e.recordLarge(t.Context(), n))
		if queued, buffered := e.waits(); queued > queueBytes || buffered > bufferBytes {
			t.Fatalf("%d bytes wait to be written and %d in OPA's buffer", queued, buffered)
		}
	}
	if after := heap(); after-before > 150 {
		t.Errorf("%d MiB are held, and were %d", after, before)
	}
	if e.Audit().lost() == 0 {
		t.Error("what was dropped is not counted")
	}
	release()
	eventually(t, "nothing waits", func() bool {
		queued, buffered := e.waits()
		return queued == 0 && buffered == 0
	})
	lost := e.Audit().lost()
	mustDo(t, e.recordLarge(t.Context(), 0))
	eventually(t, "nothing waits", func() bool {
		queued, buffered := e.waits()
		return queued == 0 && buffered == 0
	})
	if now := e.Audit().lost(); now != lost {
		t.Errorf("%d are dropped afterwards", now-lost)
	}
}

// Where recording is required, what finds no room is refused at once.
func TestRequiredIsRefusedBeyondTheBound(t *testing.T) {
	url, release := hangingReceiver(t)
	e := audited(t, toJSON(t, map[string]any{
		"services":      map[string]any{"log": map[string]any{"url": url}},
		"decision_logs": map[string]any{"service": "log"},
	}), true, nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	const requests = 100
	results := make(chan error, requests)
	for n := range requests {
		go func() { results <- e.recordLarge(ctx, n) }()
	}
	refused := 0
	for refused < requests-queueBytes>>20 {
		err := <-results
		if !errors.Is(err, errNoRoom) || !errors.Is(err, ErrUnrecorded) {
			t.Fatalf("error %v", err)
		}
		refused++
	}
	if queued, _ := e.waits(); queued > queueBytes {
		t.Errorf("%d bytes wait", queued)
	}
	cancel() // who waits is gone, and what it asked is written yet
	for range requests - refused {
		if err := <-results; !errors.Is(err, ErrUnrecorded) {
			t.Errorf("error %v", err)
		}
	}
	release()
	eventually(t, "nothing waits", func() bool {
		queued, buffered := e.waits()
		return queued == 0 && buffered == 0
	})
	mustDo(t, e.recordLarge(t.Context(), 0))
}

// A size is at least a sixth of the event's JSON, whatever is in it, so that what
// is measured no further does fit.
func TestSizesOfEvents(t *testing.T) {
	nasty := strings.Repeat("\x00\xff<\u2028\"", 1000)
	rule := criteria.Criteria{Op: criteria.Leaf, Rule: criteria.Rule{Name: nasty, ResourceType: nasty, Params: `{"a":[1,2,{"b":null}]}`}}
	outcome := &Outcome{
		Decision: wire.NewConditional(nasty, nasty, criteria.Criteria{Op: criteria.AnyOf, Of: []criteria.Criteria{rule, {Op: criteria.Not, Of: []criteria.Criteria{rule}}}}),
		Reason:   nasty, Excluded: []error{errors.New(nasty), errors.New(nasty)},
		RuleLabels: []map[string]any{{nasty: []any{json.Number("1"), true, nil, map[string]any{"x": 1.5}}}},
	}
	for name, r := range map[string]Record{
		"small": {Permissions: []wire.Permission{basic("x")}, Batch: Batch{Outcomes: []*Outcome{{}}}, Answers: make([]RecordedAnswer, 1)},
		"everything": {
			RequestID: nasty, TraceID: nasty, Caller: Caller{User: nasty, Claims: []string{nasty, "", ""}, Actor: nasty},
			Permissions: []wire.Permission{{Name: nasty, Action: nasty, Resource: true, ResourceType: nasty}},
			Batch:       Batch{Outcomes: []*Outcome{outcome}, Entrypoint: nasty, Revisions: map[string]string{nasty: nasty}},
			Answers: []RecordedAnswer{{
				Refs: []string{nasty, "", ""}, Results: make([]wire.Result, 1000), FinalList: make([]wire.Result, 1000),
			}},
		},
		"failures": {
			Permissions: []wire.Permission{basic("")}, Err: errors.New(nasty), Caller: Caller{Anonymous: true},
			Batch:   Batch{Outcomes: []*Outcome{{Err: &Failure{Kind: FailureAnswer, Cause: errors.New(nasty)}}}},
			Answers: []RecordedAnswer{{Refs: []string{""}, Err: errors.New(nasty)}},
		},
	} {
		info, err := event(r, 0, identityValue(r.Caller))
		mustDo(t, err)
		text := toJSON(t, loggedAs(info, nil))
		if size := eventSize(info); size*6 < int64(len(text)) || name == "small" && size*6 > logChunkBytes/2 {
			t.Errorf("%s: a size of %d for %d bytes of JSON", name, size, len(text))
		}
	}
}
