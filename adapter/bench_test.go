package adapter_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/stagedoor/stagedoor/adapter"
	"github.com/stagedoor/stagedoor/adapter/audit"
	"github.com/stagedoor/stagedoor/adapter/conditions"
	"github.com/stagedoor/stagedoor/adapter/discovery"
	"github.com/stagedoor/stagedoor/adapter/engine"
	"github.com/stagedoor/stagedoor/adapter/fair"
	"github.com/stagedoor/stagedoor/adapter/fixture"
	"github.com/stagedoor/stagedoor/adapter/identity"
	"github.com/stagedoor/stagedoor/adapter/opa"
	"github.com/stagedoor/stagedoor/adapter/sample"
	"github.com/stagedoor/stagedoor/adapter/supply"
	"github.com/stagedoor/stagedoor/adapter/tracing"
	"github.com/stagedoor/stagedoor/adapter/vetted"
	"github.com/stagedoor/stagedoor/bundles"
	"github.com/stagedoor/stagedoor/rego"
)

// BenchmarkAuthorize is the whole handler without the connection: what net/http
// adds is the same for any server. Every request has a token of its own, for 50
// users.
func BenchmarkAuthorize(b *testing.B) {
	handler, tokens := benchHandler(b, nil)
	for _, bench := range []struct {
		name  string
		items []string
	}{
		{"one", benchItems(1, `"type":"basic","name":"catalog.location.read.%d","attributes":{"action":"read"}`)},
		{"fifty", append(
			benchItems(25, `"type":"basic","name":"catalog.location.read.%d","attributes":{"action":"read"}`),
			benchItems(25, `"type":"resource","name":"catalog.entity.update.%d","attributes":{"action":"update"},"resourceType":"catalog-entity"`)...)},
		{"fifty denied", benchItems(50, `"type":"basic","name":"nobody.may.%d","attributes":{"action":"create"}`)},
	} {
		b.Run(bench.name, func(b *testing.B) {
			send := benchSender(b, handler, bench.items)
			for _, token := range tokens[:50] { // until everybody is known
				send(token)
			}
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				send(tokens[n%len(tokens)])
				n++
			}
		})
	}
}

// BenchmarkTraced is a request for one decision, without traces and with some of them told to a
// collector that takes whatever comes.
func BenchmarkTraced(b *testing.B) {
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	b.Cleanup(collector.Close)
	log := logrus.New()
	log.SetOutput(io.Discard)
	for _, bench := range []struct{ name, config string }{
		{"off", ""}, {"none", `"sample_percentage":0`}, {"1 %", `"sample_percentage":1`}, {"all", `"sample_percentage":100`},
	} {
		b.Run(bench.name, func(b *testing.B) {
			var tracer *tracing.Tracer
			if bench.config != "" {
				config := fmt.Sprintf(`{"type":"http","address":%q,%s}`, collector.Listener.Addr(), bench.config)
				var err error
				tracer, err = tracing.New([]byte(config), "v1", tracing.NewTold(logrus.NewEntry(log), prometheus.NewRegistry()))
				check(b, err)
				defer tracer.Close(b.Context())
			}
			handler, tokens := benchHandler(b, tracer)
			send := benchSender(b, handler, benchItems(1, `"type":"basic","name":"catalog.location.read.%d","attributes":{"action":"read"}`))
			for _, token := range tokens[:50] { // until everybody is known
				send(token)
			}
			b.ReportAllocs()
			n, before := 0, fixture.ProcessorTime(b)
			for b.Loop() {
				send(tokens[n%len(tokens)])
				n++
			}
			b.ReportMetric(float64(fixture.ProcessorTime(b)-before)/float64(n), "cpu-ns/op")
		})
	}
}

// BenchmarkFirst is the whole handler likewise, each request for a user who was never seen:
// user info is asked for, and what the policy says of all users alike is decided already.
func BenchmarkFirst(b *testing.B) {
	handler, onBehalfOf := benchServer(b, nil)
	send := benchSender(b, handler, append(
		benchItems(25, `"type":"basic","name":"catalog.location.read.%d","attributes":{"action":"read"}`),
		benchItems(25, `"type":"resource","name":"catalog.entity.update.%d","attributes":{"action":"update"},"resourceType":"catalog-entity"`)...))
	b.ReportAllocs()
	var tokens [][]string
	n := 0
	for b.Loop() {
		if n%1000 == 0 {
			b.StopTimer()
			tokens = tokens[:0]
			for user := n; user < n+1000; user++ {
				tokens = append(tokens, onBehalfOf(user))
			}
			b.StartTimer()
		}
		send(tokens[n%1000])
		n++
	}
}

// benchSender returns what sends the items with the header of a token, again and again.
func benchSender(b *testing.B, handler http.Handler, items []string) func(token []string) {
	b.Helper()
	body := `{"items":[` + strings.Join(items, ",") + `]}`
	request, err := http.NewRequestWithContext(b.Context(), http.MethodPost, "http://stagedoor/api/permission/authorize", nil)
	check(b, err)
	request.Header.Set("Content-Type", "application/json")
	request.ContentLength = int64(len(body))
	w := &benchWriter{header: http.Header{}}
	return func(token []string) {
		request.Header["Authorization"] = token
		request.Body = io.NopCloser(strings.NewReader(body))
		clear(w.header)
		w.status = http.StatusOK
		handler.ServeHTTP(w, request)
		if w.status != http.StatusOK {
			b.Fatal(w.status)
		}
	}
}

// benchItems are n items, with the number of each in its permission.
func benchItems(n int, permission string) []string {
	items := make([]string, n)
	for i := range items {
		items[i] = fmt.Sprintf(`{"id":"5f0c7f2e-3a57-4c1d-9d2b-%012d","permission":{`+permission+`}}`, i, i)
	}
	return items
}

// benchHandler is the permission API with the default bundle, and headers of
// requests on behalf of 50 users.
func benchHandler(b *testing.B, tracer *tracing.Tracer) (http.Handler, [][]string) {
	b.Helper()
	handler, onBehalfOf := benchServer(b, tracer)
	tokens := make([][]string, 1000)
	for n := range tokens {
		tokens[n] = onBehalfOf(n % 50)
	}
	return handler, tokens
}

// benchServer is the permission API with the default bundle, and what makes the header of
// another request on behalf of a user.
func benchServer(b *testing.B, tracer *tracing.Tracer) (handler http.Handler, onBehalfOf func(user int) []string) {
	b.Helper()
	backstage, err := sample.New(b.Context())
	check(b, err)
	b.Cleanup(backstage.Close)
	backstage.Serve(backstage.URL)
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	log := logrus.NewEntry(logger)
	places, err := discovery.New(discovery.Options{BaseURL: backstage.URL})
	check(b, err)
	who, err := identity.New(identity.Options{UserInfoTTL: 10 * time.Minute}, places, log)
	check(b, err)
	asker, err := conditions.New(conditions.Options{}, places, func(context.Context, string) (string, error) { return "", nil }, log)
	check(b, err)
	b.Cleanup(asker.Close)
	vetter, err := vetted.New(vetted.Options{Library: rego.Modules()})
	check(b, err)
	policies := supply.New(supply.Options{Default: bundles.Default()}, vetter, log)
	manager, err := opa.New(opa.Options{}, policies.Store(), log, nil)
	check(b, err)
	decisions := audit.New(audit.Options{}, manager, log)
	b.Cleanup(decisions.Close)
	_, err = policies.Load(b.Context())
	check(b, err)
	serving, err := engine.New(engine.Options{}, policies.Serving, log)
	check(b, err)
	b.Cleanup(serving.Close)
	gate, err := fair.NewGate()
	check(b, err)
	b.Cleanup(gate.Close)
	server := adapter.New(
		adapter.Options{BasePath: "/api/permission", Body: 10 << 20, Items: 10_000, Answer: 32 << 20, FromMetadata: true, Memory: 256 << 20, InFlight: 1024},
		adapter.Parts{
			Gate: gate, Identity: who, Policy: serving, Status: policies.Status, Conditions: asker, Audit: decisions, Log: log, Registry: prometheus.NewRegistry(), Tracer: tracer,
		})
	handler, err = server.Handler()
	check(b, err)
	sessions := make(map[int]string)
	return handler, func(user int) []string {
		if sessions[user] == "" {
			sessions[user], err = backstage.LimitedToken(fmt.Sprintf("user:default/user-%d", user))
			check(b, err)
		}
		token, err := backstage.OnBehalfOf(sessions[user])
		check(b, err)
		return []string{"Bearer " + token}
	}
}

// benchWriter takes an answer and forgets it.
type benchWriter struct {
	header http.Header
	status int
}

func (w *benchWriter) Header() http.Header         { return w.header }
func (w *benchWriter) Write(p []byte) (int, error) { return len(p), nil }
func (w *benchWriter) WriteHeader(status int)      { w.status = status }
