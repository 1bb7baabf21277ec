package adapter_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

func (s *site) get(t *testing.T, url string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	check(t, err)
	return s.do(t, request)
}

func (s *site) do(t *testing.T, request *http.Request) (int, string) {
	t.Helper()
	response, err := s.client.Do(request)
	check(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	check(t, err)
	return response.StatusCode, string(text)
}

func TestAdmin(t *testing.T) {
	site := newSite(t, siteOptions{})
	for path, want := range map[string]struct {
		status int
		text   string
	}{
		"/health":   {200, `{"status":"ok"}`},
		"/ready":    {200, `"status":"ok"`},
		"/version":  {200, `{"version":"test"}`},
		"/status":   {200, `"entrypoint":"backstage/authz/allow"`},
		"/metrics":  {200, "stagedoor_requests_total"},
		"/nothing":  {404, ""},
		"/v1/data/": {404, ""},
	} {
		if status, body := site.get(t, site.admin+path); status != want.status || !strings.Contains(body, want.text) {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
}

// TestDataAPI asks as the wrapper module asks an OPA server.
func TestDataAPI(t *testing.T) {
	site := newSite(t, siteOptions{policyDir: peerPolicy(t), entrypoint: "peer/authz/decision"})
	for _, test := range []struct {
		path, body string
		status     int
		want       string
	}{
		{"peer/authz/decision", `{"input":{"permission":{"name":"test.allow"},"identity":{"user":"u","claims":[]}}}`, 200,
			`{"result":{"result":"ALLOW"}}`},
		{"peer/authz/decision", `{"input":{"permission":{"name":"test.undefined"}}}`, 200, `{"result":{"result":"DENY"}}`},
		{"peer/authz/decision", `{"input":{"permission":{"name":"todo.item.update"},"identity":{"user":"u","claims":[]}}}`, 200,
			`{"result":{"result":"CONDITIONAL","pluginId":"todo","resourceType":"todo-item","conditions":` +
				`{"rule":"IS_OWNER","resourceType":"todo-item","params":{"userId":"u"}}}}`},
		{"peer/authz/decision", `{"input":{"permission":{"name":"test.maybe"}}}`, 500,
			`{"code":"internal_error","message":"The permission policy failed"}`},
		{"peer/authz/decision", `{"input":{"permision":{"name":"test.allow"}}}`, 200, `{"result":{"result":"DENY"},"warning":` +
			`{"code":"api_usage_warning","message":"input has no member \"permision\" where a plugin asks: permission?"}}`},
		{"peer/other", `{"input":{}}`, 200, `{}`},
		{"peer/authz/decision", `{"input":7}`, 400, `"invalid_parameter"`},
	} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, site.admin+"/v1/data/"+test.path, strings.NewReader(test.body))
		check(t, err)
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded") // as curl does, and OPA reads it all the same
		status, body := site.do(t, request)
		if status != test.status || !strings.Contains(body, test.want) || test.status == 200 && strings.TrimSpace(body) != test.want {
			t.Errorf("%s: %d %s; want %d %s", test.body, status, body, test.status, test.want)
		}
	}
}

func TestLargeAnswersAreCompressed(t *testing.T) {
	site := newSite(t, siteOptions{})
	token, err := site.backstage.PluginToken("user:default/alice")
	check(t, err)
	item := `{"id":"1","permission":{"type":"basic","name":"a.b","attributes":{"action":"read"}}}`
	body := `{"items":[` + strings.Repeat(item+",", 99) + item + `]}`
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, site.url+"/authorize", strings.NewReader(body))
	check(t, err)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Accept-Encoding", "gzip") // and not undone by the client
	response, err := site.client.Do(request)
	check(t, err)
	defer response.Body.Close()
	unpacked, err := gzip.NewReader(response.Body)
	check(t, err)
	text, err := io.ReadAll(unpacked)
	check(t, err)
	if strings.Count(string(text), "ALLOW") != 100 || response.Header.Get("Content-Encoding") != "gzip" {
		t.Errorf("%v %.200s", response.Header, text)
	}
}

// TestInFlight fills the server with a request that waits, and has the next one
// turned away.
func TestInFlight(t *testing.T) {
	var auth *gate
	entered := make(chan struct{}, 8)
	site := newSite(t, siteOptions{inFlight: 1, between: func(backstage string) map[string]string {
		auth = newGate(t, backstage+"/api/auth")
		return map[string]string{"auth": auth.URL}
	}})
	release := make(chan struct{})
	auth.set(func(w http.ResponseWriter, r *http.Request, healthy http.Handler) {
		if strings.HasSuffix(r.URL.Path, "/userinfo") {
			entered <- struct{}{}
			<-release
		}
		healthy.ServeHTTP(w, r)
	})
	token, err := site.backstage.PluginToken("user:default/alice")
	check(t, err)
	const body = `{"items":[{"id":"1","permission":{"type":"basic","name":"a","attributes":{"action":"read"}}}]}`
	first := make(chan int, 1)
	go func() {
		status, _ := site.post(t, token, body)
		first <- status
	}()
	<-entered
	status, text := site.post(t, token, body)
	if status != http.StatusServiceUnavailable || !strings.Contains(text, `"name":"ServiceUnavailableError"`) {
		t.Errorf("the second: %d %s", status, text)
	}
	close(release)
	if status := <-first; status != http.StatusOK {
		t.Errorf("the first: %d", status)
	}
	if status, text := site.post(t, token, body); status != http.StatusOK {
		t.Errorf("afterwards: %d %s", status, text)
	}
}

// open are paths that need no credentials.
var open = []string{"/health", "/health/more", "/.backstage/auth/v1/jwks.json", "/.backstage/auth/v1/jwks.json/more"}

// TestBodiesOfStrangers has as many strangers as there could be large bodies send
// slowly, which must not keep large bodies of callers out.
func TestBodiesOfStrangers(t *testing.T) {
	site := newSite(t, siteOptions{})
	token, err := site.backstage.PluginToken("user:default/alice")
	check(t, err)
	for n := range 40 {
		site.sendSlowly(t, open[n%len(open)])
	}
	const body = `{"items":[{"id":"1","permission":{"type":"basic","name":"x","attributes":{"action":"read"}}}]}`
	if status, text := site.post(t, token, string(padded(json.RawMessage(body), 1<<20))); status != http.StatusOK {
		t.Errorf("%d %s", status, text)
	}
}

// sendSlowly begins a request of unknown length, and returns when its body is being read.
func (s *site) sendSlowly(t *testing.T, path string) {
	t.Helper()
	u, err := url.Parse(s.url + path)
	check(t, err)
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", u.Host)
	check(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	check(t, conn.SetDeadline(time.Now().Add(patience)))
	_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\n"+
		"Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n", u.Path, u.Host)
	check(t, err)
	line, err := bufio.NewReader(conn).ReadString('\n')
	check(t, err)
	if line != "HTTP/1.1 100 Continue\r\n" {
		t.Fatalf("%s: %q", path, line)
	}
}

// TestBodyWithoutCredentials holds bodies that nobody answers for to 64 KiB,
// however they come.
func TestBodyWithoutCredentials(t *testing.T) {
	site := newSite(t, siteOptions{})
	const limit = 64 << 10
	packed := func(text []byte) []byte {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		_, err := w.Write(text)
		check(t, err)
		check(t, w.Close())
		return b.Bytes()
	}
	for _, path := range open {
		most := http.StatusOK
		if strings.HasSuffix(path, "/more") {
			most = http.StatusNotFound
		}
		for size, want := range map[int]int{limit: most, limit + 1: http.StatusRequestEntityTooLarge} {
			text := padded(json.RawMessage(`{"a":1}`), size)
			for how, body := range map[string]io.Reader{
				"of known length": bytes.NewReader(text), "chunked": io.MultiReader(bytes.NewReader(text)), "gzip": bytes.NewReader(packed(text)),
			} {
				request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, site.url+path, body)
				check(t, err)
				request.Header.Set("Content-Type", "application/json")
				if how == "gzip" {
					request.Header.Set("Content-Encoding", how)
				}
				if status, text := site.do(t, request); status != want {
					t.Errorf("%s with %d bytes, %s: %d %s, want %d", path, size, how, status, text, want)
				}
			}
		}
	}
}

func TestOnErrorDeny(t *testing.T) {
	site := newSite(t, siteOptions{policyDir: peerPolicy(t), entrypoint: "peer/authz/decision", denyOnError: true})
	token, err := site.backstage.PluginToken("user:default/alice")
	check(t, err)
	item := func(name, rest string) string {
		return `{"id":"` + name + `","permission":{"type":"resource","name":"` + name + `","attributes":{},"resourceType":"todo-item"}` + rest + `}`
	}
	status, body := site.post(t, token, `{"items":[`+strings.Join([]string{
		item("test.maybe", ""), item("test.allow", ""), item("test.unknownplugin", `,"resourceRef":"todo-1"`),
		item("test.not", `,"resourceRef":["todo-1","todo-4"]`),
	}, ",")+`]}`)
	const want = `{"items":[{"id":"test.maybe","result":"DENY"},{"id":"test.allow","result":"ALLOW"},` +
		`{"id":"test.unknownplugin","result":"DENY"},{"id":"test.not","result":["ALLOW","DENY"]}]}`
	if status != http.StatusOK || body != want {
		t.Errorf("%d %s", status, body)
	}
}

// TestLog holds the log to its promises: the request's id on every line of a
// request, causes for the operator alone, and nobody's token.
func TestLog(t *testing.T) {
	site := newSite(t, siteOptions{policyDir: peerPolicy(t), entrypoint: "peer/authz/decision"})
	token, err := site.backstage.PluginToken("user:default/alice")
	check(t, err)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, site.url+"/authorize", strings.NewReader(
		`{"items":[{"id":"1","permission":{"type":"basic","name":"test.maybe","attributes":{}}}]}`))
	check(t, err)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("X-Request-Id", "abc-123")
	request.Header.Set("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	status, body := site.do(t, request)
	if status != http.StatusInternalServerError || strings.Contains(body, "MAYBE") {
		t.Errorf("%d %s", status, body)
	}
	found := false
	for line := range strings.Lines(site.log.String()) {
		var entry map[string]any
		check(t, json.Unmarshal([]byte(line), &entry))
		if entry["msg"] != "request" {
			continue
		}
		cause, _ := entry["cause"].(string)
		found = entry["request_id"] == "abc-123" && entry["trace_id"] == "0af7651916cd43dd8448eb211c80319c" &&
			strings.Contains(cause, "must be ALLOW, DENY or CONDITIONAL") && !strings.Contains(cause, "MAYBE")
	}
	if !found {
		t.Errorf("no such line:\n%s", site.log)
	}
	if strings.Contains(site.log.String(), "eyJ") || strings.Contains(site.log.String(), token) {
		t.Errorf("a token in the log:\n%s", site.log)
	}
}

// TestLogTellsNoSecretOfAURL has the policy, and the decision log, ask with a key
// in the URL where nobody answers.
func TestLogTellsNoSecretOfAURL(t *testing.T) {
	nobody := httptest.NewServer(nil)
	nobody.Close()
	item := []string{basicItem("x")}
	for name, o := range map[string]siteOptions{
		"request": {policyDir: asking(t, nobody.URL+"/x?token=s3cr3t")},
		"item":    {policyDir: asking(t, nobody.URL+"/x?token=s3cr3t"), denyOnError: true},
		"record": {auditRequired: true, opa: map[string]any{
			"services":      map[string]any{"log": map[string]any{"url": nobody.URL}},
			"decision_logs": map[string]any{"service": "log", "resource": "/x?token=s3cr3t"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			site := newSite(t, o)
			token, err := site.backstage.PluginToken(alice)
			check(t, err)
			site.ask(t, question{id: name, token: token, items: item})
			told := false
			for line := range strings.Lines(site.log.String()) {
				told = told || strings.Contains(line, `"request_id":"`+name) && strings.Contains(line, nobody.URL+"/x?…")
				if strings.Contains(line, "s3cr3t") {
					t.Errorf("a secret in %s", line)
				}
			}
			if !told {
				t.Errorf("nothing of it in\n%s", site.log)
			}
		})
	}
}

// asking is a policy that asks at the URL.
func asking(t *testing.T, url string) string {
	t.Helper()
	return writeBundle(t, map[string]string{".manifest": manifest("1", "p"), "p.rego": "package p\n\n# METADATA\n# entrypoint: true\n" +
		"allow if http.send({\"method\": \"GET\", \"url\": \"" + url + "\"}).status_code == 200\n"})
}

// TestReload exchanges the policy for a good and then for a bad one.
func TestReload(t *testing.T) {
	dir := writeBundle(t, map[string]string{".manifest": `{"roots":["a"]}`, "p.rego": "package a\n\nallow := false\n"})
	site := newSite(t, siteOptions{policyDir: dir, entrypoint: "a/allow"})
	token, err := site.backstage.PluginToken("user:default/alice")
	check(t, err)
	answer := func() string {
		_, body := site.post(t, token, `{"items":[{"id":"1","permission":{"type":"basic","name":"x","attributes":{}}}]}`)
		return body
	}
	if got := answer(); got != `{"items":[{"id":"1","result":"DENY"}]}` {
		t.Fatal(got)
	}
	rewrite(t, dir, "p.rego", "package a\n\nallow := true\n")
	await(t, "the new policy serves", func() bool { return answer() == allowed })
	rewrite(t, dir, "p.rego", "package a\n\nallow := nonsense\n")
	await(t, "the bad policy is refused", func() bool {
		_, status := site.get(t, site.admin+"/status")
		return strings.Contains(status, "rego_unsafe_var_error") || strings.Contains(status, "nonsense")
	})
	if got := answer(); got != allowed {
		t.Errorf("the last good policy does not serve: %s", got)
	}
}

func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for !holds() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited in vain until %s", what)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
