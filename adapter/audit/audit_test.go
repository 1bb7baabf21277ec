package audit_test

import (
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
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/opa/v1/plugins/logs"

	"github.com/sirupsen/logrus"

	"github.com/stagedoor/stagedoor/adapter/audit"
	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/fixture"
	"github.com/stagedoor/stagedoor/adapter/opa"
	"github.com/stagedoor/stagedoor/adapter/supply"
	"github.com/stagedoor/stagedoor/adapter/wire"
	"github.com/stagedoor/stagedoor/rego"
)

// house is everything that decides, with ways to record.
type house struct{ *fixture.House }

// audited is an engine with an embedded policy that allows x.
func audited(t testing.TB, opa json.RawMessage, required bool, more fixture.Files) house {
	t.Helper()
	f := fixture.Allowing("rev", "x")
	if len(more) > 0 {
		f = f.With(more)
		f[".manifest"] = fixture.Manifest("rev", "a", "system/log")
	}
	return house{fixture.New(t, fixture.Options{OPA: opa, AuditRequired: required, Default: fixture.FS(f), Mask: rego.Mask()})}
}

// record decides about the permissions and records that for fixture.Ann().
func (e house) recordAll(t testing.TB, request string, names ...string) error {
	t.Helper()
	permissions := make([]wire.Permission, len(names))
	for i, name := range names {
		permissions[i] = fixture.Basic(name)
	}
	batch, err := e.Engine.Decide(t.Context(), fixture.Ann(), permissions)
	if err != nil {
		t.Fatal(err)
	}
	answers := make([]audit.Answer, len(names))
	for i, outcome := range batch.Outcomes {
		answers[i].Final = outcome.Decision.Result
	}
	return e.Decisions.Record(t.Context(), audit.Record{
		RequestID: request, TraceID: "trace-" + request, Time: time.Now(), Caller: fixture.Ann(), Batch: batch,
		Permissions: permissions, Answers: answers,
	})
}

func TestEveryItemIsRecordedInOrder(t *testing.T) {
	r := fixture.NewReceiver(t)
	e := audited(t, fixture.LogTo(t, r, nil), false, nil)
	for n := range 3 {
		fixture.Must(t, e.recordAll(t, fmt.Sprint("r", n), "x", "y", "x"))
	}
	fixture.Eventually(t, "all events", func() bool { return len(r.Received()) == 9 })
	ids := map[string]bool{}
	for i, event := range r.Received() {
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
			fmt.Sprint("r", n), fmt.Sprint("trace-r", n), []string{"x", "y", "x"}[i%3], "a/allow", "rev", fixture.Ann().User,
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
		if first := r.Received()[n*3]; event.BatchDecisionID != first.BatchDecisionID || ids[event.DecisionID] {
			t.Errorf("event %d: ids %s of %s", i, event.DecisionID, event.BatchDecisionID)
		}
		ids[event.DecisionID] = true
	}
}

func TestFailuresAreRecorded(t *testing.T) {
	r := fixture.NewReceiver(t)
	e := audited(t, fixture.LogTo(t, r, nil), false, nil)
	failure := &decision.Failure{Kind: decision.FailureAnswer, Cause: errors.New("odd")}
	fixture.Must(t, e.Decisions.Record(t.Context(), audit.Record{
		RequestID: "one", Caller: decision.Caller{Anonymous: true}, Permissions: []wire.Permission{fixture.Basic("x")}, Err: errors.New("failed"),
		Batch: decision.Batch{Outcomes: []*decision.Outcome{{Err: failure}}, Entrypoint: "a/allow"}, Answers: make([]audit.Answer, 1),
	}))
	fixture.Must(t, e.Decisions.Record(t.Context(), audit.Record{
		RequestID: "two", Caller: fixture.Ann(), Permissions: []wire.Permission{fixture.Basic("x"), fixture.Basic("y")}, Err: supply.ErrNoPolicy,
	}))
	fixture.Eventually(t, "all events", func() bool { return len(r.Received()) == 3 })
	events := r.Received()
	if e := events[0]; e.Custom.Error == nil || e.Custom.Error.Code != "answer" || e.Result != nil || e.MappedResult != nil || e.Custom.Unanswered != "failed" || e.Input.Identity != nil {
		t.Errorf("failure of an item: %+v", e)
	}
	for _, e := range events[1:] {
		if e.Custom.Error == nil || e.Custom.Error.Message != supply.ErrNoPolicy.Error() || e.Result != nil || e.Custom.Unanswered == "" || e.Path != "" {
			t.Errorf("failure of a request: %+v", e)
		}
	}
}

// A mask of the policy's own replaces the default, and a drop rule drops.
func TestMaskAndDropOfThePolicy(t *testing.T) {
	own := fixture.Files{"log.rego": `package system.log

mask contains {"op": "upsert", "path": "/input/identity/user", "value": "somebody"}

drop if input.input.permission.name == "y"
`}
	r := fixture.NewReceiver(t)
	e := audited(t, fixture.LogTo(t, r, nil), false, own)
	fixture.Must(t, e.recordAll(t, "r", "y", "x"))
	fixture.Eventually(t, "the event", func() bool { return len(r.Received()) == 1 })
	got := r.Received()[0]
	if got.Input.Permission.Name != "x" || got.Input.Identity.User != "somebody" || len(got.Input.Identity.Claims) != 2 {
		t.Errorf("event %+v", got)
	}
	// Where recording is required, what is dropped is not recorded.
	required := audited(t, fixture.LogTo(t, r, nil), true, own)
	if err := required.recordAll(t, "r", "x", "y"); !errors.Is(err, audit.ErrUnrecorded) {
		t.Errorf("dropped: error %v", err)
	}
	fixture.Must(t, required.recordAll(t, "r", "x"))
	broken := audited(t, fixture.LogTo(t, r, nil), true, fixture.Files{"log.rego": "package system.log\n\nmask := 1 if true\n\nmask := 2 if true\n"})
	if err := broken.recordAll(t, "r", "x"); !errors.Is(err, audit.ErrUnrecorded) {
		t.Errorf("mask that fails: error %v", err)
	}
	// Where it is not, an event that cannot be masked is not sent either.
	before := len(r.Received())
	lenient := audited(t, fixture.LogTo(t, r, nil), false, fixture.Files{"log.rego": "package system.log\n\nmask := 1 if true\n\nmask := 2 if true\n"})
	fixture.Must(t, lenient.recordAll(t, "r", "x"))
	lenient.Close()
	if after := len(r.Received()); after != before {
		t.Errorf("%d events were sent unmasked", after-before)
	}
}

// TestMaskMayAskThePolicy has a mask that asks a policy about the resource, as it
// stands and not as it is explored.
func TestMaskMayAskThePolicy(t *testing.T) {
	r := fixture.NewReceiver(t)
	e := audited(t, fixture.LogTo(t, r, nil), true, fixture.Files{
		"b.rego": "package a\n\nimport data.backstage.catalog\n\n" +
			"allow if catalog.has_label(input.resource, {\"label\": \"public\"})\n",
		"log.rego": "package system.log\n\npublic := {\"metadata\": {\"labels\": {\"public\": \"yes\"}}}\n\n" +
			"mask contains \"/input/identity/user\" if data.a.allow with input as {\"resource\": public}\n\n" +
			"mask contains \"/input/identity/claims\" if not data.a.allow with input as {\"resource\": {}}\n",
	})
	if !e.State().AboutResource() {
		t.Fatal("the policy is not about the resource")
	}
	fixture.Must(t, e.recordAll(t, "r", "x"))
	erased := []string{}
	for _, event := range r.Received() {
		erased = append(erased, event.Erased...)
	}
	slices.Sort(erased)
	if diff := cmp.Diff([]string{"/input/identity/claims", "/input/identity/user"}, erased); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRequiredRecordIsReceivedBeforeItReturns(t *testing.T) {
	r := fixture.NewReceiver(t)
	e := audited(t, fixture.LogTo(t, r, nil), true, nil)
	var group sync.WaitGroup
	for n := range 20 {
		group.Go(func() {
			request := fmt.Sprint("r", n)
			if err := e.recordAll(t, request, "x", "y", "z"); err != nil {
				t.Error(err)
			}
			var items []int
			for _, event := range r.Received() {
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
	r := fixture.NewReceiver(t)
	e := audited(t, fixture.LogTo(t, r, map[string]any{"buffer_size_limit_events": 8}), true, nil)
	fixture.Must(t, e.recordAll(t, "before", "x"))
	r.Down.Store(true)
	for n := range 20 { // more than the buffer takes
		if err := e.recordAll(t, fmt.Sprint("down", n), "x", "y"); !errors.Is(err, audit.ErrUnrecorded) {
			t.Fatalf("receiver down: error %v", err)
		}
	}
	r.Down.Store(false)
	fixture.Must(t, e.recordAll(t, "after", "x", "y"))
	seen := map[string]int{}
	for _, event := range r.Received() {
		seen[event.Custom.RequestID]++
	}
	if seen["before"] != 1 || seen["after"] != 2 {
		t.Errorf("received %v", seen)
	}
	if lost := e.Decisions.Lost(); lost != 0 {
		t.Errorf("%d events lost of decisions that were refused", lost)
	}
	// A request that will not wait is told so.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := e.Decisions.Record(ctx, audit.Record{}); !errors.Is(err, audit.ErrUnrecorded) || !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// A receiver that hangs costs a request its time once, and those after it none: they would hold
// slots that others need.
func TestRequiredRecordFailsAtOnceWhileTheReceiverHangs(t *testing.T) {
	r := fixture.NewReceiver(t)
	e := audited(t, fixture.LogTo(t, r, nil), true, nil)
	fixture.Must(t, e.recordAll(t, "before", "x"))
	r.Hangs.Store(true)
	record := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		batch, err := e.Engine.Decide(ctx, fixture.Ann(), []wire.Permission{fixture.Basic("x")})
		fixture.Must(t, err)
		return e.Decisions.Record(ctx, audit.Record{
			RequestID: "r", Time: time.Now(), Caller: fixture.Ann(), Batch: batch,
			Permissions: []wire.Permission{fixture.Basic("x")}, Answers: []audit.Answer{{Final: wire.Allow}},
		})
	}
	if err := record(); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	for range 10 {
		if err := record(); !errors.Is(err, audit.ErrHangs) || !errors.Is(err, audit.ErrUnrecorded) {
			t.Errorf("error %v", err)
		}
	}
	r.Hangs.Store(false)
	for begun := time.Now(); record() != nil; time.Sleep(50 * time.Millisecond) {
		if time.Since(begun) > time.Minute {
			t.Fatal("it is not asked again")
		}
	}
}

// More items than the buffer holds, and one that is larger than a chunk may be.
func TestLargeRecords(t *testing.T) {
	for name, required := range map[string]bool{"required": true, "not required": false} {
		t.Run(name, func(t *testing.T) {
			r := fixture.NewReceiver(t)
			e := audited(t, fixture.LogTo(t, r, map[string]any{"buffer_size_limit_events": 300}), required, nil)
			names := make([]string, 1200)
			for i := range names {
				names[i] = fmt.Sprint("p", i)
			}
			fixture.Must(t, e.recordAll(t, "r", names...))
			fixture.Eventually(t, "all events", func() bool { return len(r.Received()) == len(names) })
			for i, event := range r.Received() {
				if event.Custom.Item != i || event.BatchDecisionID != r.Received()[0].BatchDecisionID {
					t.Fatalf("event %d is of item %d, batch %s", i, event.Custom.Item, event.BatchDecisionID)
				}
			}
			if lost := e.Decisions.Lost(); lost != 0 {
				t.Errorf("%d lost", lost)
			}
		})
	}
	r := fixture.NewReceiver(t)
	e := audited(t, fixture.LogTo(t, r, map[string]any{"upload_size_limit_bytes": 600}), true, nil)
	if err := e.recordAll(t, "r", strings.Repeat("0123456789abcdefghijklmnopqrstuvwxyz", 1)+randomText(2000)); !errors.Is(err, audit.ErrUnrecorded) {
		t.Errorf("larger than a chunk: error %v", err)
	}
	fixture.Must(t, e.recordAll(t, "r", "x"))
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
	r := fixture.NewReceiver(t)
	r.Down.Store(true)
	e := audited(t, fixture.LogTo(t, r, map[string]any{"buffer_size_limit_events": 50}), false, nil)
	const requests = 3000
	slow := 0
	for n := range requests {
		started := time.Now()
		fixture.Must(t, e.recordAll(t, strconv.Itoa(n), "x"))
		if time.Since(started) > audit.UploadRest/2 {
			slow++
		}
	}
	if slow > 3 { // The machine may have held up one or the other.
		t.Errorf("%d recordings waited", slow)
	}
	fixture.Eventually(t, "everything is written", func() bool { return e.Decisions.Queued() == 0 })
	log := logs.Lookup(e.Manager.Manager)
	if _, size := log.BufferSize(); size > 50 {
		t.Errorf("%d events wait, more than the limit", size)
	}
	if e.Decisions.Lost() == 0 {
		t.Error("what was dropped is not counted")
	}
	r.Down.Store(false)
	fixture.Eventually(t, "what had room", func() bool { return len(r.Received()) >= 50 })
	fixture.Must(t, e.recordAll(t, "afterwards", "x"))
	fixture.Eventually(t, "an event of afterwards", func() bool {
		return slices.ContainsFunc(r.Received(), func(e fixture.Event) bool { return e.Custom.RequestID == "afterwards" })
	})
}

func TestWhatWaitsIsSentAtTheEnd(t *testing.T) {
	r := fixture.NewReceiver(t)
	e := audited(t, fixture.LogTo(t, r, map[string]any{"min_delay_seconds": 60, "max_delay_seconds": 60}), false, nil)
	for n := range 500 {
		fixture.Must(t, e.recordAll(t, strconv.Itoa(n), "x"))
	}
	e.Close()
	if n := len(r.Received()); n != 500 {
		t.Errorf("%d events received, want 500", n)
	}
}

func TestConsole(t *testing.T) {
	log, text := fixture.NewLog()
	e := house{fixture.New(t, fixture.Options{
		Default: fixture.FS(fixture.Allowing("rev", "x")), Mask: rego.Mask(), Log: log,
		OPA: json.RawMessage(`{"decision_logs": {"console": true}}`),
	})}
	log.Logger.SetLevel(logrus.ErrorLevel) // which is for other lines
	fixture.Must(t, e.recordAll(t, "r", "x"))
	fixture.Eventually(t, "an event", func() bool { return strings.Contains(text.String(), `"decision_id"`) })
	fixture.Contains(t, text.String(), `"type":"openpolicyagent.org/decision_logs"`, `"request_id":"r"`, `"user":"user:default/ann"`)
	if strings.Contains(text.String(), "group:default/web") {
		t.Error("claims are not masked on the console")
	}
}

func TestRequiredWithoutReceiverConfigured(t *testing.T) {
	for _, logs := range []string{`{}`, `{"console": true}`} {
		_, err := fixture.Try(t, fixture.Options{
			Default: fixture.FS(fixture.Allowing("rev", "x")), AuditRequired: true, OPA: json.RawMessage(`{"decision_logs": ` + logs + `}`),
		})
		if err == nil || !strings.Contains(err.Error(), "opa.decision_logs names no service") {
			t.Errorf("%s: error %v", logs, err)
		}
	}
}

// What cannot be sent, as it is too large, is the problem of who asked it alone:
// neither that of those who are written along with it nor of anybody later, however
// large what they ask is before it is compressed.
func TestTooLargeIsNobodyElsesProblem(t *testing.T) {
	r := fixture.NewReceiver(t)
	e := audited(t, fixture.LogTo(t, r, nil), true, nil)
	compressible := strings.Repeat("abcdefghij", 40_000)
	fixture.Must(t, e.recordAll(t, "before", compressible))
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
				if err := e.recordAll(t, "too large", large); !errors.Is(err, audit.ErrUnrecorded) {
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
	fixture.Must(t, e.recordAll(t, "after", compressible))
	for _, event := range r.Received() {
		if event.Custom.RequestID == "too large" {
			t.Error("it is recorded and yet was refused")
		}
	}
}

// Where recording is not required, what is too large is dropped, counted and told
// of, and nothing else is.
func TestTooLargeIsDropped(t *testing.T) {
	r := fixture.NewReceiver(t)
	log, text := fixture.NewLog()
	e := house{fixture.New(t, fixture.Options{OPA: fixture.LogTo(t, r, nil), Default: fixture.FS(fixture.Allowing("rev", "x")), Log: log})}
	compressible := strings.Repeat("abcdefghij", 40_000)
	fixture.Must(t, e.recordAll(t, "mixed", "x", randomText(200_000), compressible))
	fixture.Must(t, e.recordAll(t, "after", compressible))
	e.Close()
	var got []string
	for _, event := range r.Received() {
		got = append(got, fmt.Sprint(event.Custom.RequestID, event.Custom.Item))
	}
	if diff := cmp.Diff([]string{"mixed0", "mixed2", "after0"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if lost := e.Decisions.Lost(); lost != 1 {
		t.Errorf("%d are counted, want 1", lost)
	}
	fixture.Contains(t, text.String(), `"request_id":"mixed"`, "upload_size_limit_bytes")
}

// TestErrorsCostNoOtherEvents has events that OPA takes apart again, since they do
// not fit into one upload, and one of them is of a failure.
func TestErrorsCostNoOtherEvents(t *testing.T) {
	r := fixture.NewReceiver(t)
	e := house{fixture.New(t, fixture.Options{OPA: fixture.LogTo(t, r, nil), Default: fixture.FS(fixture.Allowing("rev", "x"))})}
	compressible := strings.Repeat("abcdefghij", 40_000)
	var names []string
	for n := range 6 {
		name := compressible
		if n >= 3 {
			name = randomText(90_000)
		}
		names = append(names, name)
	}
	batch, err := e.Engine.Decide(t.Context(), fixture.Ann(), []wire.Permission{fixture.Basic("x"), fixture.Basic("x"), fixture.Basic("x"), fixture.Basic("x"), fixture.Basic("x"), fixture.Basic("x")})
	fixture.Must(t, err)
	batch.Outcomes[3] = &decision.Outcome{Err: &decision.Failure{Kind: decision.FailureEvaluation, Cause: errors.New("two values")}}
	record := audit.Record{RequestID: "r", Time: time.Now(), Caller: fixture.Ann(), Batch: batch, Answers: make([]audit.Answer, len(names))}
	for _, name := range names {
		record.Permissions = append(record.Permissions, fixture.Basic(name))
	}
	fixture.Must(t, e.Decisions.Record(t.Context(), record))
	e.Close()
	events := r.Received()
	if len(events) != len(names) || e.Decisions.Lost() != 0 {
		t.Fatalf("%d events of %d, %d counted as lost", len(events), len(names), e.Decisions.Lost())
	}
	if failed := events[3].Custom.Error; failed == nil || failed.Code != "evaluation" || failed.Message == "" {
		t.Errorf("the failure is %+v", failed)
	}
}

// server answers by the function until the test ends.
func server(t testing.TB, answer http.HandlerFunc) string {
	s := httptest.NewServer(answer)
	t.Cleanup(s.Close)
	return s.URL
}

// hangingReceiver takes nothing in until it is released.
func hangingReceiver(t testing.TB) (url string, release func()) {
	r := fixture.NewReceiver(t)
	released := make(chan struct{})
	release = sync.OnceFunc(func() { close(released) })
	url = server(t, func(w http.ResponseWriter, request *http.Request) {
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
func (e house) recordLarge(ctx context.Context, n int) error {
	permission := fixture.Basic(strconv.Itoa(n) + strings.Repeat("abcdefghij", 1<<17))
	return e.Decisions.Record(ctx, audit.Record{
		RequestID: strconv.Itoa(n), Caller: fixture.Ann(), Permissions: []wire.Permission{permission},
		Batch: decision.Batch{Outcomes: []*decision.Outcome{{}}, Entrypoint: "a/allow"}, Answers: make([]audit.Answer, 1),
	})
}

// waits is how much waits to be written and in OPA's buffer.
func (e house) waits() (queued, buffered int64) {
	return e.Decisions.Waits()
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
	e := audited(t, fixture.JSON(t, map[string]any{
		"services":      map[string]any{"log": map[string]any{"url": url}},
		"decision_logs": map[string]any{"service": "log"},
	}), false, nil)
	for n := range 300 {
		fixture.Must(t, e.recordLarge(t.Context(), n))
		if queued, buffered := e.waits(); queued > audit.QueueBytes || buffered > opa.BufferBytes {
			t.Fatalf("%d bytes wait to be written and %d in OPA's buffer", queued, buffered)
		}
	}
	if after := heap(); after-before > 150 {
		t.Errorf("%d MiB are held, and were %d", after, before)
	}
	if e.Decisions.Lost() == 0 {
		t.Error("what was dropped is not counted")
	}
	release()
	fixture.Eventually(t, "nothing waits", func() bool {
		queued, buffered := e.waits()
		return queued == 0 && buffered == 0
	})
	lost := e.Decisions.Lost()
	fixture.Must(t, e.recordLarge(t.Context(), 0))
	fixture.Eventually(t, "nothing waits", func() bool {
		queued, buffered := e.waits()
		return queued == 0 && buffered == 0
	})
	if now := e.Decisions.Lost(); now != lost {
		t.Errorf("%d are dropped afterwards", now-lost)
	}
}

// Where recording is required, what finds no room is refused at once.
func TestRequiredIsRefusedBeyondTheBound(t *testing.T) {
	url, release := hangingReceiver(t)
	e := audited(t, fixture.JSON(t, map[string]any{
		// So that a slow machine fails no upload by OPA's ten seconds.
		"services":      map[string]any{"log": map[string]any{"url": url, "response_header_timeout_seconds": 120}},
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
	for refused < requests-audit.QueueBytes>>20 {
		err := <-results
		if !errors.Is(err, audit.ErrNoRoom) || !errors.Is(err, audit.ErrUnrecorded) {
			t.Fatalf("error %v", err)
		}
		refused++
	}
	if queued, _ := e.waits(); queued > audit.QueueBytes {
		t.Errorf("%d bytes wait", queued)
	}
	cancel() // who waits is gone, and what it asked is written yet
	for range requests - refused {
		if err := <-results; !errors.Is(err, audit.ErrUnrecorded) {
			t.Errorf("error %v", err)
		}
	}
	release()
	fixture.Eventually(t, "nothing waits", func() bool {
		queued, buffered := e.waits()
		return queued == 0 && buffered == 0
	})
	fixture.Must(t, e.recordLarge(t.Context(), 0))
}
