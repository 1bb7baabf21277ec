package remote

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/stagedoor/stagedoor/adapter/audit"
	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/fixture"
	"github.com/stagedoor/stagedoor/adapter/opa"
	"github.com/stagedoor/stagedoor/adapter/supply"
	"github.com/stagedoor/stagedoor/adapter/vetted"
	"github.com/stagedoor/stagedoor/adapter/wire"
	"github.com/stagedoor/stagedoor/rego"
)

func newRemote(t testing.TB, o Options) *Remote {
	t.Helper()
	log, _ := fixture.NewLog()
	return newRemoteWith(t, o, log)
}

func newRemoteWith(t testing.TB, o Options, log *logrus.Entry) *Remote {
	t.Helper()
	o.Entrypoint = "a/decision"
	d, err := New(o, log)
	fixture.Must(t, err)
	t.Cleanup(d.Close)
	return d
}

// remoteServer answers every question with the function.
func remoteServer(t testing.TB, answer http.HandlerFunc) string {
	s := httptest.NewServer(answer)
	t.Cleanup(s.Close)
	return s.URL
}

func decideRemote(t testing.TB, d *Remote) *decision.Outcome {
	t.Helper()
	batch, err := d.Decide(t.Context(), fixture.Ann(), []wire.Permission{{Name: "x", Resource: true, ResourceType: "todo-item"}})
	if err != nil {
		t.Fatal(err)
	}
	return batch.Outcomes[0]
}

func TestRemoteAnswersAreHeldToTheirShape(t *testing.T) {
	const conditional = `{"result":"CONDITIONAL","pluginId":"todo","resourceType":"todo-item","conditions":{"rule":"IS_OWNER","resourceType":"todo-item","params":{"userId":"u"}}}`
	tests := map[string]struct {
		status int
		body   string
		want   wire.Result
		failed decision.FailureKind
	}{
		"allow":                 {200, `{"result":{"result":"ALLOW","reason":"so"},"decision_id":"d"}`, wire.Allow, ""},
		"true":                  {200, `{"result":true}`, wire.Allow, ""},
		"false":                 {200, `{"result":false}`, wire.Deny, ""},
		"undefined":             {200, `{}`, wire.Deny, ""},
		"conditional":           {200, `{"result":` + conditional + `}`, wire.Conditional, ""},
		"null":                  {200, `{"result":null}`, wire.Deny, decision.FailureRemote},
		"a shape of no meaning": {200, `{"result":{"allow":true}}`, wire.Deny, decision.FailureAnswer},
		"no JSON":               {200, `<html>`, wire.Deny, decision.FailureRemote},
		"something follows":     {200, `{"result":true} {}`, wire.Deny, decision.FailureRemote},
		"a list":                {200, `[{"result":true}]`, wire.Deny, decision.FailureRemote},
		"an error":              {500, `{"result":true}`, wire.Deny, decision.FailureRemote},
		"a policy that erred":   {500, `{"code":"internal_error","errors":[{"code":"eval_conflict_error"}],"result":true}`, wire.Deny, decision.FailureEvaluation},
		"evaluation cut off":    {500, `{"code":"internal_error","errors":[{"code":"eval_cancel_error"}],"result":true}`, wire.Deny, decision.FailureRemote},
		"unauthorized":          {401, `{"result":true}`, wire.Deny, decision.FailureRemote},
		"a redirect":            {302, `{"result":true}`, wire.Deny, decision.FailureRemote},
		"created":               {201, `{"result":true}`, wire.Deny, decision.FailureRemote},
		"unavailable for good":  {503, `{"result":true}`, wire.Deny, decision.FailureRemote},
		"too long":              {200, `{"result":"` + strings.Repeat("x", maxAnswer) + `"}`, wire.Deny, decision.FailureRemote},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			url := remoteServer(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.String() != "/v1/data/a/decision?strict-builtin-errors=true" {
					t.Errorf("asked at %s", r.URL)
				}
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(test.status)
				_, _ = w.Write([]byte(test.body))
			})
			outcome := decideRemote(t, newRemote(t, Options{URL: url + "/"}))
			if outcome.Decision.Result != test.want {
				t.Errorf("result %v, want %v", outcome.Decision.Result, test.want)
			}
			kind := decision.FailureKind("")
			if f, ok := errors.AsType[*decision.Failure](outcome.Err); ok {
				kind = f.Kind
			}
			if kind != test.failed {
				t.Errorf("failure %q, want %q: %v", kind, test.failed, outcome.Err)
			}
		})
	}
}

func TestRemoteInputIsTheSame(t *testing.T) {
	var seen atomic.Value
	url := remoteServer(t, func(w http.ResponseWriter, r *http.Request) {
		var body any
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			t.Error(err)
		}
		seen.Store(fixture.JSON(t, body))
		_, _ = w.Write([]byte(`{"result":true}`))
	})
	decideRemote(t, newRemote(t, Options{URL: url}))
	const want = `{"input":{"identity":{"claims":["user:default/ann","group:default/web"],"user":"user:default/ann"},` +
		`"permission":{"attributes":{},"name":"x","resourceType":"todo-item","type":"resource"}}}`
	if got := string(seen.Load().(json.RawMessage)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestRemoteItemsGoSideBySideWithinBounds(t *testing.T) {
	var running, most, asked atomic.Int64
	two := make(chan struct{}) // are asked about at a time
	together := sync.OnceFunc(func() { close(two) })
	url := remoteServer(t, func(w http.ResponseWriter, r *http.Request) {
		now := running.Add(1)
		defer running.Add(-1)
		for old := most.Load(); now > old && !most.CompareAndSwap(old, now); old = most.Load() {
		}
		asked.Add(1)
		if now > 1 {
			together()
		}
		select {
		case <-two:
		case <-r.Context().Done():
		}
		time.Sleep(20 * time.Millisecond)
		_, _ = w.Write([]byte(`{"result":true}`))
	})
	d := newRemote(t, Options{URL: url, Parallel: 4, Decision: time.Minute})
	permissions := make([]wire.Permission, 40)
	for i := range permissions {
		permissions[i] = fixture.Basic([]string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"}[i%10])
	}
	batch, err := d.Decide(t.Context(), fixture.Ann(), permissions)
	if err != nil {
		t.Fatal(err)
	}
	for i, o := range batch.Outcomes {
		if o.Decision.Result != wire.Allow {
			t.Errorf("item %d: %v, %v", i, o.Decision.Result, o.Err)
		}
	}
	if most.Load() < 2 || most.Load() > 4 || asked.Load() != 10 {
		t.Errorf("%d at a time, %d questions; want up to 4, 10", most.Load(), asked.Load())
	}
}

func TestRemoteIsAskedAgainAndLeftAlone(t *testing.T) {
	var asked atomic.Int64
	var failures atomic.Int64
	failures.Store(2)
	url := remoteServer(t, func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		if failures.Add(-1) >= 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte(`{"result":true}`))
	})
	d := newRemote(t, Options{URL: url})
	if o := decideRemote(t, d); o.Decision.Result != wire.Allow || asked.Load() != 3 {
		t.Errorf("%v, %v after %d questions", o.Decision.Result, o.Err, asked.Load())
	}
	failures.Store(1 << 30)
	for range breakerFailures {
		if o := decideRemote(t, d); o.Err == nil {
			t.Error("no failure")
		}
	}
	if status := d.Status(); !status.Ready || !leftAlone(d) {
		t.Errorf("status %+v", status)
	}
	before := asked.Load()
	if o := decideRemote(t, d); o.Err == nil || asked.Load() != before {
		t.Errorf("asked though it is to be left alone, %v", o.Err)
	}
	failures.Store(0)
	fixture.Eventually(t, "it is asked again", func() bool { return decideRemote(t, d).Decision.Result == wire.Allow })
	if leftAlone(d) {
		t.Error("still left alone")
	}
}

// leftAlone reports whether the server is, as the status has it.
func leftAlone(d *Remote) bool {
	degraded := d.Status().Degraded
	return len(degraded) == 1 && degraded[0].Part == supply.RemoteOPA && degraded[0].Reason != ""
}

func TestRemoteDeadline(t *testing.T) {
	release := make(chan struct{})
	url := remoteServer(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	defer close(release)
	d := newRemote(t, Options{URL: url, Decision: 50 * time.Millisecond})
	started := time.Now()
	o := decideRemote(t, d)
	if took := time.Since(started); o.Err == nil || took > time.Minute {
		t.Errorf("%v after %v", o.Err, took)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Decide(ctx, fixture.Ann(), []wire.Permission{fixture.Basic("x")}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// What ends with the request says nothing of the server, neither ill nor well, and
// of a request that is over no further item is asked about.
func TestRemoteIsNotBlamedForRequestsThatEnd(t *testing.T) {
	var asked atomic.Int64
	var hangs atomic.Bool
	release := make(chan struct{})
	url := remoteServer(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if !hangs.Load() {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	defer close(release)
	d := newRemote(t, Options{URL: url, Parallel: 4, Decision: time.Minute})
	permissions := make([]wire.Permission, 100)
	for i := range permissions {
		permissions[i] = fixture.Basic(strconv.Itoa(i))
	}
	for range breakerFailures - 1 {
		if o := decideRemote(t, d); o.Err == nil {
			t.Error("no failure")
		}
	}
	hangs.Store(true)
	for name, end := range map[string]struct {
		after func() (context.Context, context.CancelFunc)
		want  error
	}{
		"its time is up": {func() (context.Context, context.CancelFunc) {
			return context.WithTimeout(t.Context(), 2*time.Second)
		}, context.DeadlineExceeded},
		"its caller left": {func() (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(2*time.Second, cancel)
			return ctx, cancel
		}, context.Canceled},
	} {
		asked.Store(0)
		ctx, cancel := end.after()
		batch, err := d.Decide(ctx, fixture.Ann(), permissions)
		cancel()
		if !errors.Is(err, end.want) || batch.Outcomes != nil {
			t.Errorf("%s: %d outcomes, error %v", name, len(batch.Outcomes), err)
		}
		if n := asked.Load(); n < 1 || n > 4 {
			t.Errorf("%s: asked about %d items", name, n)
		}
		if leftAlone(d) {
			t.Errorf("%s: the server is left alone", name)
		}
	}
	hangs.Store(false)
	if o := decideRemote(t, d); o.Err == nil || !leftAlone(d) {
		t.Errorf("the failures before were forgotten: %v, %+v", o.Err, d.Status())
	}
}

// A decision that takes too long is the policy's doing: a server that was reached is
// not left alone for it, and others get their answers.
func TestRemoteIsNotBlamedForSlowDecisions(t *testing.T) {
	release := make(chan struct{})
	url := remoteServer(t, func(w http.ResponseWriter, r *http.Request) {
		if body, _ := io.ReadAll(r.Body); r.URL.Path == "/health" || strings.Contains(string(body), "quick") {
			_, _ = w.Write([]byte(`{"result":true}`))
			return
		}
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	defer close(release)
	d := newRemote(t, Options{URL: url})
	for range breakerFailures + 1 {
		d.options.Decision = time.Second // in which even a busy machine reaches the server
		o := decideRemote(t, d)
		if f, ok := errors.AsType[*decision.Failure](o.Err); !ok || f.Kind != decision.FailureDeadline {
			t.Errorf("error %v", o.Err)
		}
		d.options.Decision = time.Minute
		batch, err := d.Decide(t.Context(), fixture.Ann(), []wire.Permission{{Name: "quick"}})
		if err != nil || batch.Outcomes[0].Decision.Result != wire.Allow {
			t.Errorf("outcomes %+v, error %v", batch.Outcomes, err)
		}
	}
	if leftAlone(d) {
		t.Error("the server is left alone")
	}
}

// Nor is it where nobody else asks meanwhile, as long as it says that it lives; a
// server that takes questions in and hangs is left alone.
func TestRemoteIsAskedWhetherItLives(t *testing.T) {
	for name, lives := range map[string]bool{"it lives": true, "it hangs": false} {
		t.Run(name, func(t *testing.T) {
			url := remoteServer(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/health" && lives {
					w.WriteHeader(http.StatusUnauthorized)
					return
				}
				_, _ = io.Copy(io.Discard, r.Body)
				<-r.Context().Done()
			})
			d := newRemote(t, Options{URL: url, Decision: 300 * time.Millisecond})
			for range breakerFailures {
				if o := decideRemote(t, d); o.Err == nil {
					t.Error("no error")
				}
			}
			if alone := leftAlone(d); alone == lives {
				t.Errorf("left alone: %t", alone)
			}
		})
	}
}

// One that hangs is left alone though it answered others after it took the question in.
func TestRemoteThatHangsIsLeftAlone(t *testing.T) {
	var hangs atomic.Bool
	var asked atomic.Int64
	url := remoteServer(t, func(w http.ResponseWriter, r *http.Request) {
		if body, _ := io.ReadAll(r.Body); hangs.Load() || !strings.Contains(string(body), "quick") {
			asked.Add(1)
			<-r.Context().Done()
			return
		}
		_, _ = w.Write([]byte(`{"result":true}`))
	})
	d := newRemote(t, Options{URL: url, Decision: 3 * time.Second})
	failed := make(chan error)
	for range breakerFailures {
		go func() { failed <- decideRemote(t, d).Err }()
	}
	fixture.Eventually(t, "all are asked", func() bool { return asked.Load() == breakerFailures })
	if _, err := d.Decide(t.Context(), fixture.Ann(), []wire.Permission{{Name: "quick"}}); err != nil {
		t.Error(err)
	}
	hangs.Store(true)
	for range breakerFailures {
		err := <-failed
		if f, ok := errors.AsType[*decision.Failure](err); !ok || f.Kind != decision.FailureRemote {
			t.Errorf("error %v", err)
		}
	}
	if !leftAlone(d) {
		t.Error("it is still asked")
	}
}

// A server that cannot be reached within the time of a decision is to blame.
func TestRemoteIsBlamedWhereItIsNotReached(t *testing.T) {
	d := newRemote(t, Options{URL: "http://opa.invalid", Decision: 20 * time.Millisecond})
	d.transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	for range breakerFailures {
		if o := decideRemote(t, d); o.Err == nil {
			t.Error("no error")
		}
	}
	if !leftAlone(d) {
		t.Error("the server is not left alone")
	}
}

func TestRemoteCredentials(t *testing.T) {
	dir := t.TempDir()
	tokenFile := filepath.Join(dir, "token")
	fixture.Must(t, os.WriteFile(tokenFile, []byte("first\n"), 0o600))
	var header atomic.Value
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header.Store(r.Header.Get("Authorization"))
		if len(r.TLS.PeerCertificates) == 0 {
			t.Error("no client certificate")
		}
		_, _ = w.Write([]byte(`{"result":true}`))
	}))
	s.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	s.StartTLS()
	t.Cleanup(s.Close)
	caFile, certFile, keyFile := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writePEM(t, caFile, "CERTIFICATE", s.Certificate().Raw)
	writePEM(t, certFile, "CERTIFICATE", s.TLS.Certificates[0].Certificate[0])
	key, err := x509.MarshalPKCS8PrivateKey(s.TLS.Certificates[0].PrivateKey)
	fixture.Must(t, err)
	writePEM(t, keyFile, "PRIVATE KEY", key)

	log, text := fixture.NewLog()
	d := newRemoteWith(t, Options{URL: s.URL, TokenFile: tokenFile, CAFile: caFile, CertFile: certFile, KeyFile: keyFile}, log)
	for _, token := range []string{"first", "second"} {
		fixture.Must(t, os.WriteFile(tokenFile, []byte(token+"\n"), 0o600))
		if o := decideRemote(t, d); o.Err != nil || header.Load() != "Bearer "+token {
			t.Errorf("header %v, %v", header.Load(), o.Err)
		}
	}
	// Without the authority the server is nobody, and without the token file nothing is asked.
	stranger := newRemoteWith(t, Options{URL: s.URL, Token: "secret-token", CertFile: certFile, KeyFile: keyFile}, log)
	if o := decideRemote(t, stranger); o.Err == nil || strings.Contains(o.Err.Error(), "secret-token") {
		t.Errorf("error %v", o.Err)
	}
	fixture.Must(t, os.Remove(tokenFile))
	if o := decideRemote(t, d); o.Err == nil {
		t.Error("asked without the token")
	}
	if strings.Contains(text.String(), "secret-token") || strings.Contains(text.String(), "second") {
		t.Error("a token in the log")
	}
}

func writePEM(t testing.TB, path, kind string, der []byte) {
	t.Helper()
	fixture.Must(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
}

func TestRemoteOptionsAreChecked(t *testing.T) {
	const entrypoint = "a/b"
	tests := map[string]struct {
		options Options
		want    string
	}{
		"no URL":             {Options{Entrypoint: entrypoint}, "stagedoor.policy.remote.url"},
		"a secret in it":     {Options{Entrypoint: entrypoint, URL: "http://me:secret@opa"}, "without user and query"},
		"no entrypoint":      {Options{URL: "http://opa"}, "stagedoor.policy.entrypoint: required"},
		"two tokens":         {Options{Entrypoint: entrypoint, URL: "http://opa", Token: "a", TokenFile: "b"}, "token and tokenFile"},
		"half a certificate": {Options{Entrypoint: entrypoint, URL: "http://opa", CertFile: "b"}, "certFile and keyFile"},
		"no authority":       {Options{Entrypoint: entrypoint, URL: "http://opa", CAFile: "none.pem"}, "stagedoor.policy.remote.caFile"},
		"less than nothing":  {Options{Entrypoint: entrypoint, URL: "http://opa", Parallel: -1}, "stagedoor.policy.remote.parallel"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			log, _ := fixture.NewLog()
			_, err := New(test.options, log)
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

func TestRemoteDecisionsAreRecordedMasked(t *testing.T) {
	r := fixture.NewReceiver(t)
	url := remoteServer(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"result":true}`)) })
	d := newRemote(t, Options{URL: url})
	log, _ := fixture.NewLog()
	vetter, err := vetted.New(vetted.Options{Mask: rego.Mask()})
	fixture.Must(t, err)
	store := supply.New(supply.Options{}, vetter, log).Store()
	manager, err := opa.New(opa.Options{Config: fixture.LogTo(t, r, nil), AuditRequired: true}, store, log, nil)
	fixture.Must(t, err)
	decisions := audit.New(audit.Options{Required: true}, manager, log)
	fixture.Must(t, manager.Start(t.Context()))
	t.Cleanup(func() { manager.Stop(context.Background()) })
	t.Cleanup(decisions.Close)
	ann, asked := fixture.Ann(), []wire.Permission{fixture.Basic("x")}
	batch, err := d.Decide(t.Context(), ann, asked)
	fixture.Must(t, err)
	fixture.Must(t, decisions.Record(t.Context(), audit.Record{
		RequestID: "r", Caller: ann, Batch: batch, Permissions: asked, Answers: []audit.Answer{{Final: wire.Allow}},
	}))
	events := r.Received()
	if len(events) != 1 || events[0].Path != "a/decision" || events[0].Input.Identity.User != ann.User || events[0].Input.Identity.Claims != nil {
		t.Errorf("events %+v", events)
	}
}
