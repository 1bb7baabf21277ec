package adapter_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stagedoor/stagedoor/adapter/fixture"
	"github.com/stagedoor/stagedoor/adapter/remote"
)

// opaServer is a stock OPA that serves its data API, a process of its own, always
// at the same address.
type opaServer struct {
	address string
	args    []string
	process *os.Process
	exited  chan struct{} // closed when the process has ended
}

// startOPA starts a server with the policy; it ends with the test.
func startOPA(t testing.TB, files map[string]string, args ...string) *opaServer {
	t.Helper()
	s := &opaServer{address: fixture.Address(t)}
	s.args = append([]string{
		"run", "--server", "--disable-telemetry", "--log-level", "error", "--addr", s.address, "--bundle", writeBundle(t, files),
	}, args...)
	s.start(t)
	t.Cleanup(s.kill)
	return s
}

// start runs the process, and returns when it listens.
func (s *opaServer) start(t testing.TB) {
	t.Helper()
	path, err := opaTool()
	check(t, err)
	command := exec.Command(path, s.args...)
	out := &fixture.Log{}
	command.Stdout, command.Stderr = out, out
	check(t, command.Start())
	exited := make(chan struct{})
	s.process, s.exited = command.Process, exited
	go func() {
		_ = command.Wait()
		close(exited)
	}()
	if !s.listens(time.Now().Add(patience)) {
		s.kill()
		t.Fatalf("opa does not listen: %s", out)
	}
}

// listens waits until a connection can be made, or the process has ended.
func (s *opaServer) listens(end time.Time) bool {
	for time.Now().Before(end) {
		connection, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", s.address)
		if err == nil {
			_ = connection.Close()
			return true
		}
		select {
		case <-s.exited:
			return false
		case <-time.After(5 * time.Millisecond):
		}
	}
	return false
}

// kill ends the process at once, as kill -9 does.
func (s *opaServer) kill() {
	_ = s.process.Kill()
	<-s.exited
}

func (s *opaServer) signal(t testing.TB, signal syscall.Signal) {
	t.Helper()
	check(t, s.process.Signal(signal))
	if signal != syscall.SIGSTOP {
		return
	}
	eventually(t, "the server is stopped", func() bool { // the kernel says so a moment later
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.process.Pid))
		return err == nil && strings.Contains(string(status), ") T ")
	})
}

const remoteEntrypoint = "remote/authz/decision"

// remotePolicy answers suppliedQuestions as the policies of bundles do, and goes
// wrong in some ways.
func remotePolicy() map[string]string {
	return map[string]string{
		".manifest": manifest("1", "remote", "system/authz"),
		"policy.rego": `package remote.authz

default decision := {"result": "DENY"}

decision := {"result": "ALLOW", "reason": "always so"} if input.permission.name == "always"

decision := {"result": "ALLOW"} if trim_prefix(input.permission.name, "only.") in input.identity.claims

decision := {
	"result": "CONDITIONAL", "pluginId": "catalog", "resourceType": "catalog-entity",
	"conditions": {
		"rule": "IS_ENTITY_OWNER", "resourceType": "catalog-entity",
		"params": {"claims": sort(input.identity.claims)},
	},
} if {
	input.permission.name == "catalog.entity.delete"
}

decision := {
	"result": "CONDITIONAL", "pluginId": "todo", "resourceType": "todo-item",
	"conditions": {"anyOf": [
		{"rule": "IS_OWNER", "resourceType": "todo-item", "params": {"userId": input.identity.user}},
		{"rule": "HAS_STATUS", "resourceType": "todo-item", "params": {"statuses": ["done"]}},
	]},
} if {
	input.permission.name == "todo.item.update"
}

decision := {"result": "ALLOW"} if input.permission.name == "two answers"

decision := {"result": "DENY"} if input.permission.name == "two answers"

blocked if json.unmarshal(sprintf("no JSON of %s", [input.identity.user])).blocked

decision := {"result": "ALLOW"} if {
	input.permission.name == "not blocked"
	not blocked
}

sometimes := {"result": "ALLOW"} if input.permission.name == "sometimes"
`,
		"system.rego": `package system.authz

default allow := false

allow if input.identity == "the-right-token"

# One with a client certificate, whose subject this is.
allow if contains(input.identity, "CN=stagedoor")
`,
	}
}

// decides is a site whose policy is the remote server's.
func (s *opaServer) decides(t testing.TB, r remote.Options) *site {
	t.Helper()
	if r.URL == "" {
		r.URL = "http://" + s.address
	}
	return newSite(t, siteOptions{remote: &r, entrypoint: remoteEntrypoint})
}

// askAs asks on behalf of the user and returns the status and the decoded answer.
func (s *site) askAs(t testing.TB, user, items string) (int, any) {
	t.Helper()
	token, err := s.backstage.PluginToken(user)
	check(t, err)
	status, body := s.post(t, token, `{"items":[`+items+`]}`)
	return status, decoded(t, body)
}

func decoded(t testing.TB, text string) any {
	t.Helper()
	var document any
	if err := json.Unmarshal([]byte(text), &document); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return document
}

func basicItem(name string) string {
	return fmt.Sprintf(`{"id":%q,"permission":{"type":"basic","name":%q,"attributes":{}}}`, name, name)
}

const alice = "user:default/alice"

// failsClosed asks what would be allowed, were it not for a fault.
func (s *site) failsClosed(t testing.TB) {
	t.Helper()
	status, answer := s.askAs(t, alice, basicItem("always"))
	if status != http.StatusServiceUnavailable || errorName(answer) != "ServiceUnavailableError" {
		t.Errorf("it answers %d %v", status, answer)
	}
}

// answersAgain asks until that is allowed.
func (s *site) answersAgain(t testing.TB) {
	t.Helper()
	eventually(t, "it answers", func() bool {
		status, answer := s.askAs(t, alice, basicItem("always"))
		return status == http.StatusOK && cmp.Equal(answer, decoded(t, `{"items":[{"id":"always","result":"ALLOW"}]}`))
	})
}

// TestRecordedCasesByRemoteOPA has a stock OPA decide what the reference backend
// was asked.
func TestRecordedCasesByRemoteOPA(t *testing.T) {
	source, err := os.ReadFile(filepath.Join("..", "testdata", "cases", "policy", "authz.rego"))
	check(t, err)
	server := startOPA(t, map[string]string{".manifest": manifest("1", "peer"), "authz.rego": string(source)})
	newSite(t, siteOptions{
		remote: &remote.Options{URL: "http://" + server.address}, entrypoint: "peer/authz/decision",
	}).replayAll(t)
}

func TestRemoteOPADecides(t *testing.T) {
	site := startOPA(t, remotePolicy()).decides(t, remote.Options{})
	todo := func(rest string) string {
		return `{"id":"1","permission":{"type":"resource","name":"todo.item.update","attributes":{"action":"update"},` +
			`"resourceType":"todo-item"}` + rest + `}`
	}
	for name, test := range map[string]struct {
		user, items string
		status      int
		want        string // of the answer, or the name of its error
	}{
		"basic": {alice, basicItem("always") + "," + basicItem("never"), 200,
			`{"items":[{"id":"always","result":"ALLOW"},{"id":"never","result":"DENY"}]}`},
		"by claims": {alice, basicItem("only.group:default/devs") + "," + basicItem("only.group:default/admins"), 200,
			`{"items":[{"id":"only.group:default/devs","result":"ALLOW"},{"id":"only.group:default/admins","result":"DENY"}]}`},
		"by claims of another": {"user:default/root", basicItem("only.group:default/devs") + "," + basicItem("only.group:default/admins"), 200,
			`{"items":[{"id":"only.group:default/devs","result":"DENY"},{"id":"only.group:default/admins","result":"ALLOW"}]}`},
		"conditions": {alice, todo(""), 200,
			`{"items":[{"id":"1","result":"CONDITIONAL","pluginId":"todo","resourceType":"todo-item","conditions":{"anyOf":[` +
				`{"rule":"IS_OWNER","resourceType":"todo-item","params":{"userId":"user:default/alice"}},` +
				`{"rule":"HAS_STATUS","resourceType":"todo-item","params":{"statuses":["done"]}}]}}]}`},
		"conditions on a resource": {alice, todo(`,"resourceRef":"todo-2"`), 200, `{"items":[{"id":"1","result":"DENY"}]}`},
		"conditions on resources": {alice, todo(`,"resourceRef":["todo-1","todo-2","todo-3","todo-4","todo-5"]`), 200,
			`{"items":[{"id":"1","result":["ALLOW","DENY","ALLOW","DENY","ALLOW"]}]}`},
		"two answers":           {alice, basicItem("always") + "," + basicItem("two answers"), 500, "Error"},
		"a builtin that failed": {alice, basicItem("not blocked"), 500, "Error"},
	} {
		t.Run(name, func(t *testing.T) {
			status, answer := site.askAs(t, test.user, test.items)
			if status != test.status {
				t.Errorf("status %d, want %d: %v", status, test.status, answer)
			}
			if test.status != http.StatusOK {
				if got := errorName(answer); got != test.want {
					t.Errorf("error %q, want %q", got, test.want)
				}
				return
			}
			if diff := cmp.Diff(decoded(t, test.want), answer); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
		})
	}
}

// A policy that errs for one permission says nothing of the server, which goes on
// deciding the others.
func TestRemoteFailureOfThePolicyIsItsOwn(t *testing.T) {
	site := startOPA(t, remotePolicy()).decides(t, remote.Options{})
	for range 10 {
		status, answer := site.askAs(t, alice, basicItem("two answers"))
		if status != http.StatusInternalServerError || errorName(answer) != "Error" {
			t.Errorf("two answers: %d %v", status, answer)
		}
	}
	if status := site.status(); len(status.Degraded) > 0 {
		t.Errorf("the server is left alone: %+v", status)
	}
	status, answer := site.askAs(t, alice, basicItem("always"))
	if diff := cmp.Diff(decoded(t, `{"items":[{"id":"always","result":"ALLOW"}]}`), answer); status != http.StatusOK || diff != "" {
		t.Errorf("status %d, answer (-want +got):\n%s", status, diff)
	}
	if !strings.Contains(site.log.String(), "eval_conflict_error") {
		t.Error("the log does not say what went wrong")
	}
}

// What no rule decides is denied, also where there is no such rule or package.
func TestRemoteUndefinedDenies(t *testing.T) {
	server := startOPA(t, remotePolicy())
	for _, entrypoint := range []string{"remote/authz/sometimes", "remote/authz/nothing", "nothing/at/all"} {
		site := newSite(t, siteOptions{remote: &remote.Options{URL: "http://" + server.address}, entrypoint: entrypoint})
		status, answer := site.askAs(t, alice, basicItem("always"))
		if diff := cmp.Diff(decoded(t, `{"items":[{"id":"always","result":"DENY"}]}`), answer); status != http.StatusOK || diff != "" {
			t.Errorf("%s: status %d, answer (-want +got):\n%s", entrypoint, status, diff)
		}
	}
}

// TestRemoteBatch asks about many items at once, of which no more than the bound
// are asked about at a time.
func TestRemoteBatch(t *testing.T) {
	const items, parallel = 400, 8
	before := newGate(t, "http://"+startOPA(t, remotePolicy()).address)
	var running, most, asked atomic.Int64
	before.set(func(w http.ResponseWriter, r *http.Request, healthy http.Handler) {
		now := running.Add(1)
		defer running.Add(-1)
		for old := most.Load(); now > old && !most.CompareAndSwap(old, now); old = most.Load() {
		}
		asked.Add(1)
		healthy.ServeHTTP(w, r)
	})
	site := newSite(t, siteOptions{
		remote: &remote.Options{URL: before.URL, Parallel: parallel}, entrypoint: remoteEntrypoint,
	})
	names, want := make([]string, items), make([]string, items)
	for i := range items {
		name, result := fmt.Sprintf("never.%d", i), "DENY"
		switch i % 4 {
		case 0:
			name, result = "only.group:default/devs", "ALLOW" // again and again, to be asked about once
		case 1:
			name = fmt.Sprintf("only.group:default/no%d", i)
		}
		names[i] = basicItem(name)
		want[i] = fmt.Sprintf(`{"id":%q,"result":%q}`, name, result)
	}
	status, answer := site.askAs(t, alice, strings.Join(names, ","))
	if diff := cmp.Diff(decoded(t, `{"items":[`+strings.Join(want, ",")+`]}`), answer); status != http.StatusOK || diff != "" {
		t.Errorf("status %d, answer (-want +got):\n%s", status, diff)
	}
	if most.Load() < 2 || most.Load() > parallel || asked.Load() != items*3/4+1 {
		t.Errorf("%d questions, %d at a time; want %d, up to %d", asked.Load(), most.Load(), items*3/4+1, parallel)
	}
	t.Logf("%d questions, %d at a time", asked.Load(), most.Load())
}

func TestRemoteToken(t *testing.T) {
	const right, wrong = "the-right-token", "a-wrong-token"
	server := startOPA(t, remotePolicy(), "--authentication=token", "--authorization=basic")
	file := filepath.Join(t.TempDir(), "token")
	check(t, os.WriteFile(file, []byte(wrong+"\n"), 0o600))
	sites := map[string]*site{
		"none":        server.decides(t, remote.Options{}),
		"wrong":       server.decides(t, remote.Options{Token: wrong}),
		"wrong file":  server.decides(t, remote.Options{TokenFile: file}),
		"right":       server.decides(t, remote.Options{Token: right}),
		"no file yet": server.decides(t, remote.Options{TokenFile: filepath.Join(t.TempDir(), "token")}),
	}
	for name, site := range sites {
		if name == "right" {
			site.answersAgain(t)
		} else {
			site.failsClosed(t)
		}
	}
	check(t, os.WriteFile(file, []byte(right+"\n"), 0o600)) // as rotation does
	sites["wrong file"].answersAgain(t)
	for name, site := range sites {
		_, status := get(t, site.admin+"/status")
		for _, token := range []string{right, wrong} {
			if strings.Contains(site.log.String(), token) || strings.Contains(status, token) {
				t.Errorf("%s: the token %s stands in the log or the status", name, token)
			}
		}
	}
}

func TestRemoteTLS(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	ca, other := newAuthority(t), newAuthority(t)
	ca.issue(t, path("cert.pem"), path("key.pem"))
	other.issue(t, path("strange-cert.pem"), path("strange-key.pem"))
	check(t, os.WriteFile(path("ca.pem"), ca.pem, 0o600))
	check(t, os.WriteFile(path("strange-ca.pem"), other.pem, 0o600))
	serving := []string{"--tls-cert-file", path("cert.pem"), "--tls-private-key-file", path("key.pem")}
	open := startOPA(t, remotePolicy(), serving...)
	closed := startOPA(t, remotePolicy(), append(serving, "--tls-ca-cert-file", path("ca.pem"),
		"--authentication=tls", "--authorization=basic")...)
	for name, test := range map[string]struct {
		server  *opaServer
		scheme  string
		options remote.Options
		answers bool
	}{
		"trusted":                      {open, "https", remote.Options{CAFile: path("ca.pem")}, true},
		"not trusted":                  {open, "https", remote.Options{}, false},
		"another authority":            {open, "https", remote.Options{CAFile: path("strange-ca.pem")}, false},
		"without TLS":                  {open, "http", remote.Options{}, false},
		"client certificate":           {closed, "https", remote.Options{CAFile: path("ca.pem"), CertFile: path("cert.pem"), KeyFile: path("key.pem")}, true},
		"no client certificate":        {closed, "https", remote.Options{CAFile: path("ca.pem")}, false},
		"client certificate of others": {closed, "https", remote.Options{CAFile: path("ca.pem"), CertFile: path("strange-cert.pem"), KeyFile: path("strange-key.pem")}, false},
	} {
		t.Run(name, func(t *testing.T) {
			test.options.URL = test.scheme + "://" + test.server.address
			site := test.server.decides(t, test.options)
			if !test.answers {
				site.failsClosed(t)
				return
			}
			status, answer := site.askAs(t, alice, basicItem("always"))
			if diff := cmp.Diff(decoded(t, `{"items":[{"id":"always","result":"ALLOW"}]}`), answer); status != http.StatusOK || diff != "" {
				t.Errorf("status %d, answer (-want +got):\n%s", status, diff)
			}
		})
	}
}

// leftAlone waits until the server is not asked any more, and holds what is
// answered meanwhile to come fast and to allow nothing.
func (s *site) leftAlone(t testing.TB) {
	t.Helper()
	eventually(t, "the server is left alone", func() bool { return len(s.status().Degraded) > 0 })
	if status, body := get(t, s.admin+"/ready?strict"); status != http.StatusServiceUnavailable ||
		!strings.Contains(body, "degraded: remote_opa: ") {
		t.Errorf("strict readiness: %d %s", status, body)
	}
	if status, body := get(t, s.admin+"/ready"); status != http.StatusOK {
		t.Errorf("readiness: %d %s", status, body)
	}
	// One that was asked has a second, whatever else the machine does.
	eventually(t, "it fails at once", func() bool {
		started := time.Now()
		s.failsClosed(t)
		return time.Since(started) < 500*time.Millisecond
	})
}

// healthy waits until the traffic is answered again, and holds on to that.
func (tr *traffic) healthy(t testing.TB) {
	t.Helper()
	answered := tr.answered.Load()
	eventually(t, "answers", func() bool { return tr.answered.Load() > answered })
	tr.flows(t) // what was asked before
	failed := tr.failed.Load()
	tr.flows(t)
	if tr.failed.Load() != failed {
		t.Errorf("%d requests failed though the server is well", tr.failed.Load()-failed)
	}
}

// TestRemoteOPAKilled kills the server under traffic, and starts it again at the
// same address.
func TestRemoteOPAKilled(t *testing.T) {
	server := startOPA(t, remotePolicy())
	site := server.decides(t, remote.Options{})
	tr := site.traffic(t)
	for range 3 {
		tr.healthy(t)
		failed := tr.failed.Load()
		server.kill()
		site.leftAlone(t)
		tr.flows(t)
		if tr.failed.Load() == failed {
			t.Error("nothing failed without a server")
		}
		server.start(t)
	}
	tr.healthy(t)
	tr.end()
	t.Logf("%d right answers, %d wrong, %d without a server", tr.answered.Load(), len(tr.wrong), tr.failed.Load())
}

// TestRemoteOPAStopped stops the server, as if it were too busy to answer.
func TestRemoteOPAStopped(t *testing.T) {
	server := startOPA(t, remotePolicy())
	site := server.decides(t, remote.Options{})
	tr := site.traffic(t)
	for range 2 {
		tr.healthy(t)
		server.signal(t, syscall.SIGSTOP)
		site.failsClosed(t)
		site.leftAlone(t)
		tr.flows(t)
		server.signal(t, syscall.SIGCONT)
		// What was asked before it was left alone is answered before it is asked again.
		eventually(t, "the server is asked again", func() bool { return len(site.status().Degraded) == 0 })
	}
	tr.healthy(t)
	tr.end()
	t.Logf("%d right answers, %d wrong, %d without an answer", tr.answered.Load(), len(tr.wrong), tr.failed.Load())
}
