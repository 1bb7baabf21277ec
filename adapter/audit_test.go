package adapter_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stagedoor/stagedoor/adapter/conditions"
)

// receiver takes in what OPA's decision log uploads. The gate before it is where
// it can be had, and where it can be made to fail. It is safe for concurrent use.
type receiver struct {
	*gate
	mutex  sync.Mutex
	events []loggedEvent
	raw    bytes.Buffer // as uploaded, but for the compression
}

// loggedEvent is an event of the decision log.
type loggedEvent struct {
	DecisionID      string `json:"decision_id"`
	BatchDecisionID string `json:"batch_decision_id"`
	TraceID         string `json:"trace_id"`
	Path            string
	Bundles         map[string]struct{ Revision string }
	Input           any
	Result          any
	MappedResult    any `json:"mapped_result"`
	Erased, Masked  []string
	RuleLabels      []any `json:"rule_labels"`
	Timestamp       time.Time
	Custom          map[string]any
}

// failure takes the error out of what stagedoor adds to events.
func (e *loggedEvent) failure() (code, message string) {
	document, _ := e.Custom["error"].(map[string]any)
	delete(e.Custom, "error")
	code, _ = document["code"].(string)
	message, _ = document["message"].(string)
	return code, message
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	r.gate = newGate(t, server.URL)
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	var events []loggedEvent
	zip, err := gzip.NewReader(request.Body)
	var text []byte
	if err == nil {
		text, err = io.ReadAll(zip)
	}
	if err == nil {
		err = json.Unmarshal(text, &events)
	}
	if err != nil || request.URL.Path != "/logs" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.events = append(r.events, events...)
	r.raw.Write(text)
}

// of returns the events of the request, in the order received.
func (r *receiver) of(request string) []loggedEvent {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	var events []loggedEvent
	for _, event := range r.events {
		if event.Custom["request_id"] == request {
			events = append(events, event)
		}
	}
	return events
}

func (r *receiver) count() int {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return len(r.events)
}

// opa is OPA's configuration of a decision log with the receiver.
func (r *receiver) opa(reporting map[string]any) map[string]any {
	return map[string]any{
		"services":      map[string]any{"log": map[string]any{"url": r.URL}},
		"decision_logs": map[string]any{"service": "log", "reporting": reporting},
	}
}

const auditEntrypoint = "acme/authz/decision"

// auditPolicy decides in all ways that there are.
func auditPolicy(t testing.TB, more map[string]string) string {
	t.Helper()
	files := map[string]string{
		".manifest": manifest("r7", "acme", "system/log"),
		"policy.rego": `package acme.authz

default decision := {"result": "DENY"}

# METADATA
# labels:
#   control: AC-3
decision := {"result": "ALLOW", "reason": "anybody may"} if input.permission.name == "always"

decision := {
	"result": "CONDITIONAL", "pluginId": "todo", "resourceType": "todo-item",
	"conditions": {"rule": "IS_OWNER", "resourceType": "todo-item", "params": {"userId": input.identity.user}},
} if {
	input.permission.name == "todo.item.update"
}

decision := "perhaps" if input.permission.name == "odd"

decision := {"result": "ALLOW"} if input.permission.name == "two answers"

decision := {"result": "DENY"} if input.permission.name == "two answers"
`,
	}
	maps.Copy(files, more)
	return writeBundle(t, files)
}

// question is one request to the permission API.
type question struct {
	id, trace, token string
	items            []string
}

// ask asks and returns the status and the decoded answer.
func (s *site) ask(t testing.TB, q question) (int, any) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+"/authorize",
		strings.NewReader(`{"items":[`+strings.Join(q.items, ",")+`]}`))
	check(t, err)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+q.token)
	request.Header.Set("X-Request-Id", q.id)
	if q.trace != "" {
		request.Header.Set("Traceparent", "00-"+q.trace+"-b7ad6b7169203331-01")
	}
	response, err := s.client.Do(request)
	check(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	check(t, err)
	return response.StatusCode, decoded(t, string(text))
}

func updateItem(id, ref string) string {
	item := fmt.Sprintf(`{"id":%q,"permission":{"type":"resource","name":"todo.item.update","attributes":{"action":"update"},"resourceType":"todo-item"}`, id)
	if ref != "" {
		item += `,"resourceRef":` + ref
	}
	return item + "}"
}

// recorded is what an event has to say, the ids and the time aside.
type recorded struct {
	name                   string // of the permission
	result, mapped, custom string // JSON; nothing where the event has none
	code                   string // of the error
	message                string // what the error contains
	labels                 bool
}

const (
	allowedDocument     = `{"result":"ALLOW"}`
	deniedDocument      = `{"result":"DENY"}`
	conditionalDocument = `{"result":"CONDITIONAL","pluginId":"todo","resourceType":"todo-item",` +
		`"conditions":{"rule":"IS_OWNER","resourceType":"todo-item","params":{"userId":"user:default/alice"}}}`
)

// holds compares the events of a request with what they have to say.
func (r *receiver) holds(t *testing.T, q question, actor string, want []recorded) {
	t.Helper()
	eventually(t, "the events of "+q.id, func() bool { return len(r.of(q.id)) >= len(want) })
	events := r.of(q.id)
	if len(events) != len(want) {
		t.Errorf("%s: %d events, want %d", q.id, len(events), len(want))
		return
	}
	identity := map[string]any{"user": alice}
	if actor != "" {
		identity["actor"] = actor
	}
	for i, event := range events {
		w := want[i]
		permission := map[string]any{"name": w.name, "type": "basic", "attributes": map[string]any{}}
		if w.name == "todo.item.update" {
			permission = map[string]any{
				"name": w.name, "type": "resource", "attributes": map[string]any{"action": "update"}, "resourceType": "todo-item",
			}
		}
		custom, _ := decoded(t, w.custom).(map[string]any)
		custom["request_id"], custom["item"] = q.id, float64(i)
		custom["claims_sha256"] = event.Custom["claims_sha256"] // audit's own test holds it
		type said struct {
			Trace, Path, Revision                 string
			Input, Result, Mapped, Custom, Erased any
			Labels                                []any
		}
		expected := said{
			Trace: q.trace, Path: auditEntrypoint, Revision: "r7",
			Input:  map[string]any{"permission": permission, "identity": identity},
			Result: jsonOrNil(t, w.result), Mapped: jsonOrNil(t, w.mapped), Custom: custom, Erased: []string{"/input/identity/claims"},
		}
		if w.labels {
			expected.Labels = []any{map[string]any{"control": "AC-3"}}
		}
		code, message := event.failure()
		got := said{
			event.TraceID, event.Path, event.Bundles["local"].Revision,
			event.Input, event.Result, event.MappedResult, event.Custom, event.Erased, event.RuleLabels,
		}
		if diff := cmp.Diff(expected, got); diff != "" {
			t.Errorf("%s, item %d (-want +got):\n%s", q.id, i, diff)
		}
		if code != w.code || (message == "") != (w.code == "") || !strings.Contains(message, w.message) {
			t.Errorf("%s, item %d: error %s: %s, want %s: %s", q.id, i, code, message, w.code, w.message)
		}
		if event.BatchDecisionID == "" || event.BatchDecisionID != events[0].BatchDecisionID {
			t.Errorf("%s, item %d: batch %q, the first's is %q", q.id, i, event.BatchDecisionID, events[0].BatchDecisionID)
		}
		if age := time.Since(event.Timestamp); age < 0 || age > time.Minute {
			t.Errorf("%s, item %d: it is %v old", q.id, i, age)
		}
	}
}

func jsonOrNil(t *testing.T, text string) any {
	t.Helper()
	if text == "" {
		return nil
	}
	return decoded(t, text)
}

// heard are the tokens that stagedoor sent itself.
type heard struct {
	mutex  sync.Mutex
	tokens []string
}

func (h *heard) hears(next *fault) fault {
	return func(w http.ResponseWriter, r *http.Request, healthy http.Handler) {
		if token, found := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); found {
			h.mutex.Lock()
			h.tokens = append(h.tokens, token)
			h.mutex.Unlock()
		}
		if *next != nil {
			(*next)(w, r, healthy)
			return
		}
		healthy.ServeHTTP(w, r)
	}
}

// TestDecisionLog reads the decision log back: every decision of every request,
// whatever became of it, and no token.
func TestDecisionLog(t *testing.T) {
	const trace = "0af7651916cd43dd8448eb211c80319c"
	r := newReceiver(t)
	var todo *gate
	sent := &heard{}
	var none, broken fault
	broken = dead
	site := newSite(t, siteOptions{
		policyDir: auditPolicy(t, nil), entrypoint: auditEntrypoint, opa: r.opa(nil),
		conditions: conditions.Options{Timeout: time.Second},
		between: func(backstage string) map[string]string {
			auth := newGate(t, backstage+"/api/auth")
			auth.set(sent.hears(&none))
			todo = newGate(t, backstage+"/api/todo")
			todo.set(sent.hears(&none))
			return map[string]string{"auth": auth.URL, "todo": todo.URL}
		},
	})
	plugin, err := site.backstage.PluginToken(alice)
	check(t, err)
	user, err := site.backstage.UserToken(alice)
	check(t, err)

	all := []string{
		basicItem("always"), basicItem("never"), updateItem("3", ""), updateItem("4", `"todo-1"`),
		updateItem("5", `["todo-2","todo-1","nothing"]`), basicItem("always"),
	}
	answers := decoded(t, `{"items":[{"id":"always","result":"ALLOW"},{"id":"never","result":"DENY"},{"id":"3",`+conditionalDocument[1:]+
		`,{"id":"4","result":"ALLOW"},{"id":"5","result":["DENY","ALLOW","DENY"]},{"id":"always","result":"ALLOW"}]}`)
	decisions := func(remembered bool) []recorded {
		custom := fmt.Sprintf(`{"remembered":%v}`, remembered)
		applied := func(refs, results string) string {
			return fmt.Sprintf(`{"remembered":%v,"apply_conditions":{"resource_refs":%s,"results":%s}}`, remembered, refs, results)
		}
		always := fmt.Sprintf(`{"remembered":%v,"reason":"anybody may"}`, remembered)
		return []recorded{
			{name: "always", result: allowedDocument, mapped: `"ALLOW"`, custom: always, labels: true},
			{name: "never", result: deniedDocument, mapped: `"DENY"`, custom: custom},
			{name: "todo.item.update", result: conditionalDocument, mapped: `"CONDITIONAL"`, custom: custom},
			{name: "todo.item.update", result: conditionalDocument, mapped: `"ALLOW"`, custom: applied(`["todo-1"]`, `["ALLOW"]`)},
			{
				name: "todo.item.update", result: conditionalDocument, mapped: `["DENY","ALLOW","DENY"]`,
				custom: applied(`["todo-2","todo-1","nothing"]`, `["DENY","ALLOW","DENY"]`),
			},
			{name: "always", result: allowedDocument, mapped: `"ALLOW"`, custom: always, labels: true},
		}
	}
	events := 0
	var checks []func() // of what is sent in the end, since that is sent every second alone
	expect := func(q question, status int, actor string, want []recorded) any {
		t.Helper()
		got, answer := site.ask(t, q)
		if got != status {
			t.Errorf("%s: status %d, want %d: %v", q.id, got, status, answer)
		}
		checks = append(checks, func() { r.holds(t, q, actor, want) })
		events += len(want)
		return answer
	}
	for n, remembered := range []bool{false, true, true} {
		q := question{id: fmt.Sprint("asked-", n), token: plugin, items: all}
		if n == 0 {
			q.trace = trace
		}
		if diff := cmp.Diff(answers, expect(q, 200, "plugin:todo", decisions(remembered))); diff != "" {
			t.Errorf("%s: answer (-want +got):\n%s", q.id, diff)
		}
	}
	expect(question{id: "in-person", token: user, items: []string{updateItem("1", `"todo-2"`)}}, 200, "", []recorded{{
		name: "todo.item.update", result: conditionalDocument, mapped: `"DENY"`,
		custom: `{"remembered":true,"apply_conditions":{"resource_refs":["todo-2"],"results":["DENY"]}}`,
	}})

	const failed = "The permission policy failed"
	expect(question{id: "two-answers", token: plugin, trace: trace, items: []string{basicItem("always"), basicItem("two answers")}},
		500, "plugin:todo", []recorded{
			{name: "always", result: allowedDocument, custom: `{"remembered":true,"reason":"anybody may","unanswered":"` + failed + `"}`, labels: true},
			{name: "two answers", custom: `{"remembered":false,"unanswered":"` + failed + `"}`, code: "evaluation", message: "conflict"},
		})
	expect(question{id: "odd", token: plugin, items: []string{basicItem("odd")}}, 500, "plugin:todo", []recorded{
		{name: "odd", custom: `{"remembered":false,"unanswered":"` + failed + `"}`, code: "answer", message: `is the string "…"`},
	})

	todo.set(sent.hears(&broken))
	q := question{id: "plugin-down", token: plugin, items: []string{basicItem("always"), updateItem("2", `"todo-1"`)}}
	if status, _ := site.ask(t, q); status != http.StatusServiceUnavailable {
		t.Errorf("%s: status %d", q.id, status)
	}
	down := q.id
	events += 2

	// Who is not let in, or asks what cannot be asked, has nothing decided.
	for _, q := range []question{
		{id: "stranger", token: plugin[:len(plugin)-4] + "AAAA", items: all},
		{id: "malformed", token: plugin, items: []string{`{"id":1}`}},
	} {
		if status, _ := site.ask(t, q); status != http.StatusUnauthorized && status != http.StatusBadRequest {
			t.Errorf("%s: status %d", q.id, status)
		}
	}
	expect(question{id: "last", token: plugin, items: []string{basicItem("never")}}, 200, "plugin:todo",
		[]recorded{{name: "never", result: deniedDocument, mapped: `"DENY"`, custom: `{"remembered":true}`}})
	for _, check := range checks {
		check()
	}
	eventually(t, "the events of a plugin that is down", func() bool { return len(r.of(down)) == 2 })
	last := r.of(down)[1]
	applied, _ := last.Custom["apply_conditions"].(map[string]any)
	if why, _ := applied["error"].(string); why == "" || last.Custom["unanswered"] == "" || last.MappedResult != nil ||
		applied["results"] != nil || !cmp.Equal(last.Result, decoded(t, conditionalDocument)) {
		t.Errorf("of a plugin that is down: %+v", last)
	}
	if r.count() != events {
		t.Errorf("%d events, want %d", r.count(), events)
	}
	r.distinct(t)
	r.withoutTokens(t, append(sent.tokens, plugin, user)...)
	t.Logf("%d events; %d tokens were sent meanwhile", r.count(), len(sent.tokens))
}

// distinct holds the ids to be one for each decision and for each request.
func (r *receiver) distinct(t *testing.T) {
	t.Helper()
	r.mutex.Lock()
	defer r.mutex.Unlock()
	decisions, batches := map[string]bool{}, map[string]any{}
	for _, event := range r.events {
		request, known := batches[event.BatchDecisionID]
		if event.DecisionID == "" || decisions[event.DecisionID] || known && request != event.Custom["request_id"] {
			t.Errorf("ids are not its own: %+v", event)
		}
		decisions[event.DecisionID], batches[event.BatchDecisionID] = true, event.Custom["request_id"]
	}
}

// withoutTokens searches the uploads for the tokens, and for each part of them.
func (r *receiver) withoutTokens(t *testing.T, tokens ...string) {
	t.Helper()
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if len(tokens) < 4 {
		t.Errorf("%d tokens are too few to tell", len(tokens))
	}
	for _, token := range tokens {
		for part := range strings.SplitSeq(token, ".") {
			if len(part) < 16 || bytes.Contains(r.raw.Bytes(), []byte(part)) {
				t.Errorf("a token is in the decision log, or is none: %s", part)
			}
		}
	}
	if bytes.Contains(r.raw.Bytes(), []byte("eyJ")) || bytes.Contains(r.raw.Bytes(), []byte("Bearer")) {
		t.Error("something like a token is in the decision log")
	}
}

// TestDecisionLogOfDenials has a failure that is answered with DENY, beside what
// the policy had said.
func TestDecisionLogOfDenials(t *testing.T) {
	r := newReceiver(t)
	site := newSite(t, siteOptions{
		policyDir: auditPolicy(t, nil), entrypoint: auditEntrypoint, opa: r.opa(nil), denyOnError: true,
		conditions: conditions.Options{Timeout: time.Second},
		between: func(backstage string) map[string]string {
			todo := newGate(t, backstage+"/api/todo")
			todo.set(dead)
			return map[string]string{"todo": todo.URL}
		},
	})
	// The todo plugin's keys cannot be had either, so it is a user who asks.
	token, err := site.backstage.UserToken(alice)
	check(t, err)
	q := question{id: "denied", token: token, items: []string{updateItem("1", `"todo-1"`), updateItem("2", `["todo-1","todo-2"]`)}}
	status, answer := site.ask(t, q)
	if diff := cmp.Diff(decoded(t, `{"items":[{"id":"1","result":"DENY"},{"id":"2","result":"DENY"}]}`), answer); status != 200 || diff != "" {
		t.Errorf("status %d, answer (-want +got):\n%s", status, diff)
	}
	eventually(t, "the events", func() bool { return len(r.of(q.id)) == 2 })
	for i, event := range r.of(q.id) {
		applied, _ := event.Custom["apply_conditions"].(map[string]any)
		if why, _ := applied["error"].(string); why == "" || !cmp.Equal(event.Result, decoded(t, conditionalDocument)) {
			t.Errorf("item %d: %+v", i, event)
		}
		if event.MappedResult != "DENY" {
			t.Errorf("item %d: the caller was told %v", i, event.MappedResult)
		}
	}
}

// TestDecisionLogWithoutPolicy has the requests of before there is a policy.
func TestDecisionLogWithoutPolicy(t *testing.T) {
	r := newReceiver(t)
	opa := r.opa(nil)
	opa["bundles"] = map[string]any{"authz": map[string]any{"service": "log", "resource": "nothing", "polling": polling}}
	site := newSite(t, siteOptions{opa: opa})
	token, err := site.backstage.PluginToken(alice)
	check(t, err)
	q := question{id: "early", token: token, items: []string{basicItem("always"), basicItem("never")}}
	if status, answer := site.ask(t, q); status != http.StatusServiceUnavailable {
		t.Errorf("%d %v", status, answer)
	}
	eventually(t, "the events", func() bool { return len(r.of(q.id)) == 2 })
	for i, event := range r.of(q.id) {
		if code, _ := event.failure(); code == "" || event.Custom["unanswered"] == "" || event.Result != nil || event.MappedResult != nil {
			t.Errorf("item %d: %+v", i, event)
		}
	}
}

// TestDecisionLogUnderLoad has many requests at once, each with all its items in
// order and in one piece.
func TestDecisionLogUnderLoad(t *testing.T) {
	const askers, requests, items = 8, 25, 9
	r := newReceiver(t)
	site := newSite(t, siteOptions{policyDir: auditPolicy(t, nil), entrypoint: auditEntrypoint, opa: r.opa(nil)})
	token, err := site.backstage.PluginToken(alice)
	check(t, err)
	var group sync.WaitGroup
	for asker := range askers {
		group.Go(func() {
			for n := range requests {
				q := question{id: fmt.Sprintf("r-%d-%d", asker, n), token: token}
				for i := range items {
					q.items = append(q.items, basicItem([]string{"always", "never", fmt.Sprint("new-", asker, "-", n)}[i%3]))
				}
				if status, answer := site.ask(t, q); status != http.StatusOK {
					t.Errorf("%d %v", status, answer)
				}
			}
		})
	}
	group.Wait()
	eventually(t, "all events", func() bool { return r.count() >= askers*requests*items })
	if r.count() != askers*requests*items {
		t.Errorf("%d events, want %d", r.count(), askers*requests*items)
	}
	for i, event := range r.events {
		if event.Custom["item"] != float64(i%items) || event.BatchDecisionID != r.events[i-i%items].BatchDecisionID {
			t.Fatalf("event %d is item %v of %v", i, event.Custom["item"], event.Custom["request_id"])
		}
	}
	r.distinct(t)
}

var droppedEvents = regexp.MustCompile(`(?m)^decision_logs_dropped_buffer_size_limit_exceeded\S* (\S+)$`)

func (s *site) dropped(t *testing.T) int {
	t.Helper()
	_, metrics := s.get(t, s.admin+"/metrics")
	match := droppedEvents.FindStringSubmatch(metrics)
	if match == nil {
		return 0
	}
	n, err := strconv.ParseFloat(match[1], 64)
	check(t, err)
	return int(n)
}

// TestDecisionLogDrops lets the receiver fail: no request fails with it, or waits
// for it; what waits for it is bounded, and what was dropped is counted. OPA counts
// by what is in its buffer, where all events that could not be sent at a time are one
// chunk, so that it counts fewer than there were.
func TestDecisionLogDrops(t *testing.T) {
	const buffer, requests = 20, 100
	for name, f := range map[string]fault{"dead": dead, "503": faults["503"], "login page": loginPage} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newReceiver(t)
			site := newSite(t, siteOptions{
				policyDir: auditPolicy(t, nil), entrypoint: auditEntrypoint, opa: r.opa(map[string]any{"buffer_size_limit_events": buffer}),
			})
			token, err := site.backstage.PluginToken(alice)
			check(t, err)
			r.set(f)
			items := []string{basicItem("always"), basicItem("never")}
			for n := range requests {
				started := time.Now()
				status, answer := site.ask(t, question{id: fmt.Sprint("down-", n), token: token, items: items})
				if status != http.StatusOK || time.Since(started) > 9*time.Second { // of the ten that a receiver has
					t.Fatalf("after %v: %d %v", time.Since(started), status, answer)
				}
			}
			eventually(t, "drops are counted", func() bool { return site.dropped(t) > 0 })
			r.set(nil)
			eventually(t, "the newest of what was kept", func() bool { return len(r.of(fmt.Sprint("down-", requests-1))) == len(items) })
			if status, answer := site.ask(t, question{id: "afterwards", token: token, items: items}); status != http.StatusOK {
				t.Errorf("afterwards: %d %v", status, answer)
			}
			eventually(t, "an event of afterwards", func() bool { return len(r.of("afterwards")) == len(items) })
			kept, counted := r.count()-len(items), site.dropped(t)
			dropped := requests*len(items) - kept
			if kept > 2*buffer || counted > dropped || counted < buffer {
				t.Errorf("with room for %d, %d events were kept, %d dropped, %d counted", buffer, kept, dropped, counted)
			}
			t.Logf("with room for %d, %d events were kept, %d dropped, %d counted", buffer, kept, dropped, counted)
		})
	}
}

// TestReceiverIsAway has readiness go on where the receiver of the decision log does not
// take events, as they are decided all the same. Who asks strictly is told.
func TestReceiverIsAway(t *testing.T) {
	for name, strict := range map[string]bool{"by the key": true, "by the query alone": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newReceiver(t)
			site := newSite(t, siteOptions{policyDir: auditPolicy(t, nil), entrypoint: auditEntrypoint, opa: r.opa(nil), strict: strict})
			token, err := site.backstage.PluginToken(alice)
			check(t, err)
			fares := func(well bool) {
				t.Helper()
				eventually(t, "the metric says so", func() bool {
					status, _ := site.ask(t, question{token: token, items: []string{basicItem("always")}})
					if status != http.StatusOK {
						t.Errorf("it is answered %d", status)
					}
					return site.scrape(t)[`stagedoor_degraded{part="decision_log"}`] == map[bool]string{true: "0", false: "1"}[well]
				})
				want := map[bool]int{true: http.StatusOK, false: http.StatusServiceUnavailable}
				for path, wants := range map[string]int{"/ready": want[well || !strict], "/ready?strict": want[well]} {
					status, body := get(t, site.admin+path)
					if status != wants || wants != http.StatusOK && !strings.Contains(body, "degraded: decision_log: its receiver") {
						t.Errorf("%s: %d %s, want %d", path, status, body, wants)
					}
				}
				if status := site.status(); !status.Ready {
					t.Errorf("status %+v", status)
				}
				_, body := get(t, site.admin+"/status")
				if strings.Contains(body, `"degraded":[{"part":"decision_log"`) == well || !strings.Contains(body, `"ready":true`) {
					t.Errorf("/status: %s", body)
				}
			}
			fares(true)
			r.set(faults["503"])
			fares(false)
			r.set(nil)
			fares(true)
		})
	}
}

// loginPage sends who comes elsewhere, where there is a page that says so.
func loginPage(w http.ResponseWriter, r *http.Request, _ http.Handler) {
	if r.URL.Path == "/login" {
		_, _ = io.WriteString(w, "<html>who are you?</html>")
		return
	}
	http.Redirect(w, r, "/login", http.StatusFound)
}

// TestAuditRequired fails decisions that cannot be recorded, whatever they are.
func TestAuditRequired(t *testing.T) {
	for name, f := range map[string]fault{
		"dead": dead, "slow": slow, "503": faults["503"], "401": answers(401, "text/plain", "no"),
		"404": answers(404, "text/plain", "no"), "redirect": faults["redirect"], "login page": loginPage,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newReceiver(t)
			site := newSite(t, siteOptions{policyDir: auditPolicy(t, nil), entrypoint: auditEntrypoint, opa: r.opa(nil), auditRequired: true})
			token, err := site.backstage.PluginToken(alice)
			check(t, err)
			items := []string{basicItem("always"), updateItem("2", `"todo-1"`), updateItem("3", `["todo-1"]`), updateItem("4", "")}
			answered := func(id string) {
				t.Helper()
				status, answer := site.ask(t, question{id: id, token: token, items: items})
				if status != http.StatusOK {
					t.Errorf("%s: %d %v", id, status, answer)
				}
				if n := len(r.of(id)); n != len(items) { // at once, without waiting
					t.Errorf("%s: %d events were received before the answer, want %d", id, n, len(items))
				}
			}
			answered("before")
			r.set(f)
			requests := 4
			if name == "slow" {
				requests = 1 // the time for an upload each
			}
			var group sync.WaitGroup
			for n := range requests {
				group.Go(func() {
					status, answer := site.ask(t, question{id: fmt.Sprint("down-", n), token: token, items: items})
					if status != http.StatusServiceUnavailable || errorName(answer) != "ServiceUnavailableError" {
						t.Errorf("it is answered without being recorded: %d %v", status, answer)
					}
				})
			}
			group.Wait()
			r.set(nil)
			// One that hung is left alone for a moment.
			for begun := time.Now(); name == "slow"; time.Sleep(100 * time.Millisecond) {
				status, _ := site.ask(t, question{id: "again", token: token, items: items})
				if status == http.StatusOK {
					break
				}
				if time.Since(begun) > 30*time.Second {
					t.Fatal("it is not asked again")
				}
			}
			answered("after")
		})
	}
}

// TestMaskOfThePolicy has the policy's own mask instead of the one that it gets.
func TestMaskOfThePolicy(t *testing.T) {
	r := newReceiver(t)
	site := newSite(t, siteOptions{
		policyDir: auditPolicy(t, map[string]string{"log.rego": `package system.log

mask contains {"op": "upsert", "path": "/input/identity/user", "value": "somebody"}

mask contains "/result" if input.result.result == "CONDITIONAL"
`}),
		entrypoint: auditEntrypoint, opa: r.opa(nil), auditRequired: true,
	})
	token, err := site.backstage.PluginToken(alice)
	check(t, err)
	q := question{id: "masked", token: token, items: []string{basicItem("always"), updateItem("2", "")}}
	status, answer := site.ask(t, q)
	if diff := cmp.Diff(decoded(t, `{"items":[{"id":"always","result":"ALLOW"},{"id":"2",`+conditionalDocument[1:]+`]}`), answer); status != 200 || diff != "" {
		t.Errorf("status %d, answer (-want +got):\n%s", status, diff)
	}
	events := r.of(q.id)
	if len(events) != 2 {
		t.Fatalf("%d events", len(events))
	}
	for i, event := range events {
		input, _ := event.Input.(map[string]any)
		want := map[string]any{"user": "somebody", "claims": []any{"user:default/alice", "group:default/devs"}, "actor": "plugin:todo"}
		if diff := cmp.Diff(want, input["identity"]); diff != "" {
			t.Errorf("item %d: identity (-want +got):\n%s", i, diff)
		}
	}
	if !cmp.Equal(events[0].Result, decoded(t, allowedDocument)) || events[1].Result != nil {
		t.Errorf("results %v and %v", events[0].Result, events[1].Result)
	}
}
