package conditions

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stagedoor/stagedoor/adapter/conditions/guard"
	"github.com/stagedoor/stagedoor/adapter/criteria"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

func TestApply(t *testing.T) {
	p := &fakePlugin{}
	c := serve(t, p)
	questions := []Question{
		ask("catalog", oneOf("a", "b"), "a", "x", "a", "b"),
		ask("todo", oneOf("a"), "a"),
		ask("catalog", not(oneOf("a", "b")), "a", "x"),
		ask("catalog", oneOf("a", "b"), "x", "c"),
		ask("catalog", oneOf("A"), "a"), // refs are compared byte for byte
		ask("todo", oneOf("a")),
		ask("todo", oneOf("\"ü\u2028<&>"), "\"ü\u2028<&>", ""),
	}
	var got []string
	for _, o := range c.Apply(t.Context(), ann(), questions) {
		got = append(got, results(o))
	}
	if diff := cmp.Diff([]string{"ADAA", "A", "DA", "DD", "D", "", "AD"}, got); diff != "" {
		t.Error(diff)
	}
	for _, id := range []string{"catalog", "todo"} {
		var got []string
		for _, call := range p.callsOf(id) {
			got = append(got, call.body+"\n")
			if want := "Bearer ann-for-" + id; call.token != want {
				t.Errorf("%s was called with Authorization %q, want %q", id, call.token, want)
			}
		}
		if diff := cmp.Diff([]string{readTestdata(t, "call-"+id+".json")}, got); diff != "" {
			t.Errorf("calls of %s:\n%s", id, diff)
		}
	}
}

// Equal trees are one group, whether they are the same in memory or not, and
// whatever was asked between them.
func TestApplyFoldsEqualConditions(t *testing.T) {
	p := &fakePlugin{}
	c := serve(t, p)
	var questions []Question
	for i := range 40 {
		questions = append(questions, ask("todo", oneOf(strconv.Itoa(i%20)), strconv.Itoa(i%20), "x"))
	}
	shared := not(oneOf("a"))
	for i := range 300 {
		questions = append(questions, ask("todo", shared, fmt.Sprint("r", i/2)))
	}
	other := ask("todo", shared, "r0")
	other.Decision.ResourceType = "wall"
	questions = append(questions, other)
	for i, o := range c.Apply(t.Context(), ann(), questions) {
		if want := map[bool]string{true: "AD", false: "A"}[i < 40]; results(o) != want {
			t.Errorf("question %d: %s, want %s", i, results(o), want)
		}
	}
	calls := p.callsOf("todo")
	if len(calls) != 1 || len(calls[0].items) != 22 || calls[0].items[21].ResourceType != "wall" {
		t.Errorf("%d calls, want one of 22 items, the last for a wall: %+v", len(calls), calls)
	}
}

func TestApplyWithoutQuestions(t *testing.T) {
	c := newClient(t, Options{}, "http://127.0.0.1:1")
	if got := c.Apply(t.Context(), ann(), nil); len(got) != 0 {
		t.Errorf("got %v", got)
	}
	got := c.Apply(t.Context(), ann(), []Question{ask("todo", oneOf("a"))})
	if diff := cmp.Diff([]Outcome{{Results: []wire.Result{}}}, got); diff != "" {
		t.Error(diff)
	}
}

func TestApplyWithoutToken(t *testing.T) {
	p := &fakePlugin{}
	c := serve(t, p)
	if got := results(c.Apply(t.Context(), Caller{}, []Question{ask("todo", oneOf("a"), "a")})[0]); got != "A" {
		t.Error(got)
	}
	if token := p.callsOf("todo")[0].token; token != "" {
		t.Errorf("Authorization is %q", token)
	}
}

// status answers every call of plugin "bad" with this status and body.
func status(status int, body string) func(http.ResponseWriter, *http.Request, string, int) bool {
	return func(w http.ResponseWriter, _ *http.Request, id string, _ int) bool {
		if id == "bad" {
			respond(w, status, body)
		}
		return id == "bad"
	}
}

// Whatever the plugin does, it is an error of the expected kind for its own
// questions and nothing else; never an ALLOW. Plugin "bad" is asked about two refs
// by array (item 0) and one by string (item 1), all of which fulfil the conditions.
func TestApplyFaults(t *testing.T) {
	const items = `{"items":[{"id":"0","result":["ALLOW","ALLOW"]},{"id":"1","result":"ALLOW"}`
	refused := func(status int) error { return &guard.RefusedError{PluginID: "bad", Status: status} }
	unavailable := func(status int) error { return &guard.UnavailableError{PluginID: "bad", Status: status} }
	for _, test := range []struct {
		name  string
		fault func(http.ResponseWriter, *http.Request, string, int) bool
		want  error
		calls int // 1 where not given, -1 for any number
	}{
		{name: "400", fault: status(400, backstageError("InputError", "no")), want: refused(400), calls: 2},
		{name: "401", fault: status(401, backstageError("AuthenticationError", "no")), want: refused(401)},
		{name: "403", fault: status(403, ""), want: refused(403)},
		{name: "404", fault: status(404, ""), want: refused(404)},
		{name: "413", fault: status(413, backstageError("PayloadTooLargeError", "no")), want: refused(413)},
		{name: "418 with an answer", fault: status(418, items+`]}`), want: refused(418)},
		{name: "501", fault: status(501, backstageError("NotImplementedError", "no")), want: refused(501)},
		{name: "408", fault: status(408, ""), want: unavailable(408)},
		{name: "429", fault: status(429, ""), want: unavailable(429)},
		{name: "500", fault: status(500, items+`]}`), want: unavailable(500)},
		{name: "505", fault: status(505, "<html>"), want: unavailable(505)},
		{name: "redirect", fault: func(w http.ResponseWriter, r *http.Request, id string, _ int) bool {
			if id == "bad" {
				http.Redirect(w, r, "/api/todo/elsewhere", http.StatusTemporaryRedirect)
			}
			return id == "bad"
		}, want: refused(307)},
		{name: "204", fault: status(204, ""), want: unavailable(200)},
		{name: "empty", fault: status(200, ""), want: unavailable(200)},
		{name: "huge", fault: status(200, items+`]}`+strings.Repeat(" ", maxAnswer)), want: unavailable(200)},
		{name: "deep", fault: status(200, strings.Repeat(`{"items":[`, 50_000)), want: unavailable(200)},
		{name: "truncated", fault: func(w http.ResponseWriter, _ *http.Request, id string, _ int) bool {
			if id == "bad" {
				w.Header().Set("Content-Length", "1000")
				respond(w, 200, items+`]}`)
			}
			return id == "bad"
		}, want: unavailable(200)},
		{name: "compressed unasked", fault: func(w http.ResponseWriter, _ *http.Request, id string, _ int) bool {
			if id == "bad" {
				w.Header().Set("Content-Encoding", "gzip")
				respond(w, 200, "\x1f\x8b\x08\x00")
			}
			return id == "bad"
		}, want: unavailable(200)},
		{name: "hangs up", fault: func(_ http.ResponseWriter, _ *http.Request, id string, _ int) bool {
			if id == "bad" {
				panic(http.ErrAbortHandler)
			}
			return false
		}, want: unavailable(0), calls: -1}, // a connection kept from "good" is replaced first
	} {
		t.Run(test.name, func(t *testing.T) {
			p := &fakePlugin{fault: test.fault}
			c := serve(t, p)
			outcomes := c.Apply(t.Context(), ann(), []Question{
				ask("good", oneOf("a"), "a", "b"),
				ask("bad", oneOf("a", "b"), "a", "b"),
				ask("bad", oneOf("c"), "c"),
				ask("good", oneOf("c"), "c"),
			})
			if got := results(outcomes[0]) + results(outcomes[3]); got != "ADA" {
				t.Errorf("the neighbour's results are %s, want ADA", got)
			}
			for _, o := range outcomes[1:3] {
				if o.Results != nil {
					t.Errorf("results are %v", o.Results)
				}
				if diff := cmp.Diff(kind(test.want), kind(o.Err)); diff != "" {
					t.Errorf("error %v:\n%s", o.Err, diff)
				}
			}
			if got, want := len(p.callsOf("bad")), max(1, test.calls); got != want && test.calls >= 0 {
				t.Errorf("%d calls, want %d", got, want)
			}
		})
	}
}

// What is no exact answer to the call of TestApplyFaults is none at all.
func TestApplyBadAnswers(t *testing.T) {
	answers := readTestdata(t, "answers.txt")
	for line := range strings.Lines(answers) {
		name, body, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		if !ok {
			continue
		}
		t.Run(name, func(t *testing.T) {
			p := &fakePlugin{fault: status(200, body)}
			c := serve(t, p)
			for _, o := range c.Apply(t.Context(), ann(), []Question{
				ask("bad", oneOf("a", "b"), "a", "b"),
				ask("bad", oneOf("c"), "c"),
			}) {
				if name == "good" {
					if o.Err != nil || strings.Contains(results(o), "D") {
						t.Errorf("got %v", o)
					}
				} else if kind(o.Err) != any(guard.UnavailableError{PluginID: "bad", Status: 200}) || o.Results != nil {
					t.Errorf("got %v", o)
				}
			}
			if n := len(p.callsOf("bad")); n != 1 {
				t.Errorf("%d calls, want 1", n)
			}
		})
	}
}

// kind is an error without its texts.
func kind(err error) any {
	if e, ok := errors.AsType[*guard.RefusedError](err); ok {
		return guard.RefusedError{PluginID: e.PluginID, Status: e.Status}
	}
	if e, ok := errors.AsType[*guard.UnavailableError](err); ok {
		return guard.UnavailableError{PluginID: e.PluginID, Status: e.Status, RetryAfter: e.RetryAfter}
	}
	return err
}

func TestApplyRefusesWhatCannotBeAsked(t *testing.T) {
	p := &fakePlugin{}
	c := serve(t, p)
	for _, id := range []string{"", "../todo", "todo/x", "todo?x", "todo#", "127.0.0.1", "todo%2f", "todo\n", "ü"} {
		o := c.Apply(t.Context(), ann(), []Question{ask(id, oneOf("a"), "a"), ask("todo", oneOf("a"), "a")})
		if diff := cmp.Diff(any(guard.RefusedError{PluginID: id}), kind(o[0].Err)); diff != "" || o[0].Results != nil {
			t.Errorf("plugin id %q: %v", id, o[0])
		}
		if results(o[1]) != "A" {
			t.Errorf("beside plugin id %q: %v", id, o[1])
		}
	}
	o := c.Apply(t.Context(), ann(), []Question{ask("todo", oneOf("a"), "a", "\xff"), ask("todo", oneOf("a"), "a")})
	if diff := cmp.Diff(any(guard.RefusedError{PluginID: "todo"}), kind(o[0].Err)); diff != "" || results(o[1]) != "A" {
		t.Errorf("ref that is not UTF-8: %v", o)
	}
	for _, d := range []wire.Decision{
		{},
		{Result: wire.Allow, PluginID: "todo", Conditions: oneOf("a")},
		{Result: wire.Conditional, PluginID: "todo"},
		{Result: wire.Conditional, PluginID: "todo", Conditions: criteria.Criteria{Op: criteria.Always}},
	} {
		o := c.Apply(t.Context(), ann(), []Question{{Decision: d, Refs: []string{"a"}}})[0]
		if o.Err == nil || o.Results != nil {
			t.Errorf("%+v: %v", d, o)
		}
	}
	for id := range p.calls {
		if id != "todo" {
			t.Errorf("plugin %q was called", id)
		}
	}
}

func TestApplyPassesTokenErrorOn(t *testing.T) {
	p := &fakePlugin{}
	c := serve(t, p)
	broken := errors.New("no token to be had")
	caller := Caller{Subject: "ann", Token: func(_ context.Context, id string) (string, error) {
		if id == "todo" {
			return "", broken
		}
		return "a-token", nil
	}}
	o := c.Apply(t.Context(), caller, []Question{ask("todo", oneOf("a"), "a"), ask("good", oneOf("a"), "a")})
	if !errors.Is(o[0].Err, broken) || o[0].Results != nil || results(o[1]) != "A" {
		t.Errorf("got %v", o)
	}
	if calls := p.callsOf("todo"); len(calls) != 0 {
		t.Errorf("%d calls without a token", len(calls))
	}
}

func TestNoTokenInErrorsAndLogs(t *testing.T) {
	const jwt = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJwZXJtaXNzaW9uIn0.c2lnbmF0dXJl"
	for _, secret := range []string{jwt, "an-opaque-secret"} {
		for code, body := range map[int]string{
			401: backstageError("AuthenticationError", "bad header 'Bearer "+secret+"'"),
			500: backstageError("Error", "failed for "+secret+" and "+secret[:min(20, len(secret))]),
			503: backstageError(secret, "starting"),
			200: `{"items":"` + secret + `"}`,
		} {
			server := httptest.NewServer(&fakePlugin{fault: status(code, body)})
			c, logged := newLoggedClient(t, Options{Timeout: time.Second}, server.URL)
			caller := Caller{Subject: secret, Token: func(context.Context, string) (string, error) { return secret, nil }}
			err := c.Apply(t.Context(), caller, []Question{ask("bad", oneOf("a"), "a")})[0].Err
			if err == nil {
				t.Fatalf("%d: no error", code)
			}
			c.log.WithError(err).Error("failed")
			if code == 503 && !strings.Contains(logged.String(), "trying again") {
				t.Errorf("%d: retries are not logged: %s", code, logged)
			}
			if text := err.Error() + logged.String(); strings.Contains(text, secret) || strings.Contains(text, "eyJ") {
				t.Errorf("%d: %s", code, text)
			}
			server.Close()
		}
	}
}

func TestRefusedConnectionIsTriedAgain(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	c := newClient(t, Options{}, "http://"+address)
	server := httptest.NewUnstartedServer(&fakePlugin{})
	dials := 0
	dial := c.transport.DialContext
	c.transport.DialContext = func(ctx context.Context, network, to string) (net.Conn, error) {
		if dials++; dials == 3 {
			if server.Listener, err = net.Listen("tcp", address); err != nil {
				t.Error(err)
			}
			server.Start()
		}
		return dial(ctx, network, to)
	}
	defer server.Close()
	if got := results(c.Apply(t.Context(), ann(), []Question{ask("todo", oneOf("a"), "a")})[0]); got != "A" || dials != 3 {
		t.Errorf("%s after %d dials, want A after 3", got, dials)
	}
}

func TestOtherBrokenConnectionsAreNotTriedAgain(t *testing.T) {
	var calls atomic.Int32
	c := serve(t, &fakePlugin{fault: func(w http.ResponseWriter, _ *http.Request, _ string, _ int) bool {
		calls.Add(1)
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return true
		}
		conn.Close()
		return true
	}})
	o := c.Apply(t.Context(), ann(), []Question{ask("todo", oneOf("a"), "a")})[0]
	if diff := cmp.Diff(any(guard.UnavailableError{PluginID: "todo"}), kind(o.Err)); diff != "" || calls.Load() != 1 {
		t.Errorf("%v after %d calls", o.Err, calls.Load())
	}
}

// A kept connection may be closed by the plugin just when it is used again. The
// call did not reach the plugin then and is sent anew.
func TestKeptConnectionThatCloses(t *testing.T) {
	var calls atomic.Int32
	c := serve(t, &fakePlugin{fault: func(w http.ResponseWriter, _ *http.Request, _ string, _ int) bool {
		if calls.Add(1) != 2 {
			return false
		}
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return true
		}
		conn.Close()
		return true
	}})
	for range 2 {
		if got := results(c.Apply(t.Context(), ann(), []Question{ask("todo", oneOf("a"), "a")})[0]); got != "A" {
			t.Error(got)
		}
	}
	if calls.Load() != 3 {
		t.Errorf("%d calls, want 3", calls.Load())
	}
}

// A plugin that fails costs the others none of their connections.
func TestConnectionsAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, network, _, stop := serveMemory(t, &fakePlugin{fault: status(503, "")}, Options{})
		defer stop()
		for range 20 {
			if got := results(c.Apply(t.Context(), ann(), []Question{ask("good", oneOf("a"), "a")})[0]); got != "A" {
				t.Error(got)
			}
			if err := c.Apply(t.Context(), ann(), []Question{ask("bad", oneOf("a"), "a")})[0].Err; err == nil {
				t.Error("no error")
			}
			synctest.Wait()
		}
		if network.dials != 1 {
			t.Errorf("%d connections, want 1", network.dials)
		}
	})
}

func TestNoProxy(t *testing.T) {
	if newTransport().Proxy != nil {
		t.Error("calls may take a proxy")
	}
}

// Waiting is measured on the bubble's clock, to the nanosecond.
func TestRetries(t *testing.T) {
	refuse := func(times int) func(int) error {
		return func(n int) error {
			if n < times {
				return &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
			}
			return nil
		}
	}
	busy := func(code, times int, retryAfter string) func(http.ResponseWriter, *http.Request, string, int) bool {
		return func(w http.ResponseWriter, _ *http.Request, _ string, n int) bool {
			if n <= times {
				if retryAfter != "" {
					w.Header().Set("Retry-After", retryAfter)
				}
				respond(w, code, "")
			}
			return n <= times
		}
	}
	const (
		ever = 1 << 30
		ms   = time.Millisecond
		sec  = time.Second
	)
	for _, test := range []struct {
		name        string
		fault       func(http.ResponseWriter, *http.Request, string, int) bool
		refuse      func(int) error
		deadline    time.Duration // of the context; 0 for none
		want        any           // nil for A
		least, most time.Duration
		calls       int // -1 for any number
	}{
		{name: "503 once", fault: busy(503, 1, ""), least: 25 * ms, most: 50 * ms, calls: 2},
		{name: "502 twice", fault: busy(502, 2, ""), least: 75 * ms, most: 150 * ms, calls: 3},
		{name: "504", fault: busy(504, 1, ""), least: 25 * ms, most: 50 * ms, calls: 2},
		{name: "refused for long", refuse: refuse(7), least: 700 * ms, most: 1400 * ms, calls: 1},
		{name: "Retry-After in seconds", fault: busy(503, 1, "3"), least: 3 * sec, most: 3 * sec, calls: 2},
		// Inside a bubble the clock starts at midnight UTC, 2000-01-01.
		{
			name: "Retry-After as a date", fault: busy(503, 1, "Sat, 01 Jan 2000 00:00:04 GMT"),
			least: 4 * sec, most: 4 * sec, calls: 2,
		},
		{
			name: "Retry-After in the past", fault: busy(503, 1, "Fri, 31 Dec 1999 00:00:00 GMT"),
			least: 25 * ms, most: 50 * ms, calls: 2,
		},
		{
			name: "Retry-After 0 is no invitation to hurry", fault: busy(503, 2, "0"),
			least: 75 * ms, most: 150 * ms, calls: 3,
		},
		{name: "Retry-After garbage", fault: busy(503, 1, "-5"), least: 25 * ms, most: 50 * ms, calls: 2},
		{
			name: "Retry-After behind the time-out", fault: busy(503, ever, "60"),
			want: guard.UnavailableError{PluginID: "todo", Status: 503, RetryAfter: time.Minute}, calls: 1,
		},
		{
			name: "Retry-After behind the deadline", fault: busy(503, ever, "3"), deadline: 2 * sec,
			want: guard.UnavailableError{PluginID: "todo", Status: 503, RetryAfter: 3 * sec}, calls: 1,
		},
		{
			name: "503 for ever", fault: busy(503, ever, ""),
			want: guard.UnavailableError{PluginID: "todo"}, least: 10 * sec, most: 10 * sec, calls: -1,
		},
		{
			name: "refused for ever", refuse: refuse(ever), deadline: sec,
			want: guard.UnavailableError{PluginID: "todo"}, least: sec, most: sec,
		},
		{
			name: "no answer",
			fault: func(_ http.ResponseWriter, r *http.Request, _ string, _ int) bool {
				<-r.Context().Done()
				return true
			},
			want: guard.UnavailableError{PluginID: "todo"}, least: 10 * sec, most: 10 * sec, calls: 1,
		},
		{
			name: "half an answer",
			fault: func(w http.ResponseWriter, r *http.Request, _ string, _ int) bool {
				respond(w, 200, `{"items":[{"id":"0",`)
				w.(http.Flusher).Flush()
				<-r.Context().Done()
				return true
			},
			deadline: 5 * sec,
			want:     guard.UnavailableError{PluginID: "todo"}, least: 5 * sec, most: 5 * sec, calls: 1,
		},
		{
			name: "a slow answer",
			fault: func(_ http.ResponseWriter, _ *http.Request, _ string, _ int) bool {
				time.Sleep(9 * sec)
				return false
			},
			least: 9 * sec, most: 9 * sec, calls: 1,
		},
	} {
		for _, subject := range []string{"", "ann"} { // alone and shared
			t.Run(test.name+"/"+subject, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					p := &fakePlugin{fault: test.fault}
					c, network, _, stop := serveMemory(t, p, Options{})
					defer stop()
					network.refuse = test.refuse
					ctx := t.Context()
					if test.deadline > 0 {
						var cancel context.CancelFunc
						ctx, cancel = context.WithTimeout(ctx, test.deadline)
						defer cancel()
					}
					start := time.Now()
					o := c.Apply(ctx, Caller{Subject: subject}, []Question{ask("todo", oneOf("a"), "a")})[0]
					took := time.Since(start)
					if test.want == nil && results(o) != "A" {
						t.Error(results(o))
					}
					if diff := cmp.Diff(test.want, kind(o.Err)); diff != "" || (test.want != nil && o.Results != nil) {
						t.Errorf("%v:\n%s", o, diff)
					}
					if took < test.least || took > test.most {
						t.Errorf("took %v, want %v to %v", took, test.least, test.most)
					}
					if calls := len(p.callsOf("todo")); calls != test.calls && test.calls >= 0 {
						t.Errorf("%d calls, want %d", calls, test.calls)
					}
				})
			})
		}
	}
}

func TestCancelledCaller(t *testing.T) {
	for _, subject := range []string{"", "ann"} {
		synctest.Test(t, func(t *testing.T) {
			p := &fakePlugin{fault: func(_ http.ResponseWriter, r *http.Request, _ string, _ int) bool {
				<-r.Context().Done()
				return true
			}}
			c, _, _, stop := serveMemory(t, p, Options{})
			defer stop()
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			start := time.Now()
			o := c.Apply(ctx, Caller{Subject: subject}, []Question{ask("todo", oneOf("a"), "a")})[0]
			if !errors.Is(o.Err, context.Canceled) || o.Results != nil || time.Since(start) != time.Second {
				t.Errorf("%v after %v", o, time.Since(start))
			}
		})
	}
}

// Plugins from before 0.10.0 refuse arrays of refs; they are recognised by what
// they accept, remembered for a while, and tried again.
func TestOldPlugin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &fakePlugin{old: true}
		c, _, _, stop := serveMemory(t, p, Options{})
		defer stop()
		apply := func(wantCalls int) {
			t.Helper()
			before := len(p.callsOf("todo"))
			o := c.Apply(t.Context(), ann(), []Question{ask("todo", oneOf("a"), "a", "b", "a"), ask("todo", oneOf("b"), "b")})
			if results(o[0])+results(o[1]) != "ADAA" {
				t.Errorf("got %v", o)
			}
			if calls := len(p.callsOf("todo")) - before; calls != wantCalls {
				t.Errorf("%d calls, want %d", calls, wantCalls)
			}
		}
		apply(2)
		apply(1)
		time.Sleep(singlyFor + 1)
		apply(2)
		p.old = false
		apply(1)
		time.Sleep(singlyFor + 1)
		apply(1)
		calls := p.callsOf("todo")
		if last := calls[len(calls)-1]; len(last.items) != 2 {
			t.Errorf("an upgraded plugin is asked in %d items, want 2", len(last.items))
		}
	})
}

// A 400 that has nothing to do with arrays does not count as a sign of age.
func TestRefusalIsNoSignOfAge(t *testing.T) {
	p := &fakePlugin{fault: func(w http.ResponseWriter, _ *http.Request, _ string, n int) bool {
		if n <= 2 {
			respond(w, 400, backstageError("InputError", "Parameters to rule are invalid"))
		}
		return n <= 2
	}}
	c := serve(t, p)
	question := []Question{ask("todo", oneOf("a"), "a", "b")}
	o := c.Apply(t.Context(), ann(), question)[0]
	want := `plugin "todo" refused with status 400: InputError: Parameters to rule are invalid`
	if o.Err == nil || o.Err.Error() != want {
		t.Errorf("error %v, want %s", o.Err, want)
	}
	if got := results(c.Apply(t.Context(), ann(), question)[0]); got != "AD" || len(p.callsOf("todo")) != 3 {
		t.Errorf("%s after %d calls", got, len(p.callsOf("todo")))
	}
}

func TestNoBase(t *testing.T) {
	look := fmt.Errorf("discovery target: %w", &net.DNSError{Name: "todo.internal", Err: "no such host"})
	if got := kind(noBase("todo", look)); got != any(guard.UnavailableError{PluginID: "todo"}) {
		t.Errorf("failed look-up: %v", got)
	}
	if got := kind(noBase("todo", errors.New("odd id"))); got != any(guard.RefusedError{PluginID: "todo"}) {
		t.Errorf("odd id: %v", got)
	}
}

func TestTokenThatIsNoHeader(t *testing.T) {
	c := serve(t, &fakePlugin{})
	caller := Caller{Token: func(context.Context, string) (string, error) { return "secret\n", nil }}
	o := c.Apply(t.Context(), caller, []Question{ask("todo", oneOf("a"), "a")})[0]
	if o.Err == nil || o.Results != nil || strings.Contains(o.Err.Error(), "secret") {
		t.Errorf("got %v", o)
	}
}
