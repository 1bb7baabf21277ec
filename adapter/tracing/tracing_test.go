package tracing

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/sirupsen/logrus"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

func TestConfig(t *testing.T) {
	for name, test := range map[string]struct{ config, says string }{
		"none":               {``, ""},
		"no type":            {`{"address": "localhost:4317"}`, ""},
		"grpc":               {`{"type": "grpc"}`, ""},
		"http":               {`{"type": "http", "sample_percentage": 1, "resource": {"service_namespace": "x"}}`, ""},
		"unknown type":       {`{"type": "zipkin"}`, `type: "zipkin" is not known: write grpc or http`},
		"unknown key":        {`{"type": "grpc", "addr": "x"}`, `unknown field "addr"`},
		"a URL":              {`{"type": "http", "address": "http://localhost:4318"}`, "write host:port alone"},
		"too much":           {`{"type": "http", "sample_percentage": 101}`, "not between 0 and 100"},
		"encryption":         {`{"type": "http", "encryption": "ssl"}`, "write off, tls or mtls"},
		"mtls without a key": {`{"type": "http", "encryption": "mtls"}`, "needs tls_cert_file"},
		"no such authority":  {`{"type": "http", "encryption": "tls", "tls_ca_cert_file": "nowhere.pem"}`, "tls_ca_cert_file"},
		"blocking":           {`{"type": "http", "batch_span_processor_options": {"blocking": true}}`, "blocking: is true: requests would wait"},
		"no object":          {`[]`, "opa.distributed_tracing"},
	} {
		t.Run(name, func(t *testing.T) {
			tracer, err := New(json.RawMessage(test.config), "v1", NewTold(logrus.NewEntry(logrus.New()), prometheus.NewRegistry()))
			if err == nil {
				defer tracer.Close(t.Context())
			}
			switch {
			case test.says == "" && err != nil:
				t.Error(err)
			case test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says)):
				t.Errorf("%v, want %q", err, test.says)
			case test.says == "" && (tracer != nil) != strings.Contains(test.config, "type"):
				t.Errorf("on is %t", tracer != nil)
			}
		})
	}
}

// request is a request that is in a trace.
type request struct{ in *Trace }

func (r request) Trace() *Trace { return r.in }

// traced puts requests into their traces, and is told only of those to /authorize.
func traced(t *Tracer, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		in := t.Trace(r, func(r *http.Request) bool { return r.URL.Path == "/authorize" })
		ctx, end := in.Serve(context.WithValue(r.Context(), Key{}, request{&in}), r)
		next(w, r.WithContext(ctx))
		end(http.StatusOK, 17)
	}
}

// TestOneTrace sends a request through a traced server that does a step and calls
// another one: all of it is one trace, that of the caller.
func TestOneTrace(t *testing.T) {
	spans := tracetest.NewInMemoryExporter()
	tracer := newTracer(1, sdktrace.WithSyncer(spans))
	defer tracer.Close(context.WithoutCancel(t.Context()))
	var got string
	plugin := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got = r.Header.Get("Traceparent")
	}))
	defer plugin.Close()
	var id string
	handler := traced(tracer, func(_ http.ResponseWriter, r *http.Request) {
		ctx, end := of(r.Context()).Start(r.Context(), "evaluate")
		id = of(ctx).ID()
		end(errors.New("user:default/ann"))
		request, _ := http.NewRequestWithContext(r.Context(), http.MethodPost, plugin.URL+"/apply", nil)
		response, err := tracer.Transport(http.DefaultTransport).RoundTrip(request)
		if err != nil {
			t.Error(err)
			return
		}
		_ = response.Body.Close()
	})
	const parent = "4bf92f3577b34da6a3ce929d0e0e4736"
	request := httptest.NewRequest(http.MethodPost, "/authorize", nil)
	request.Header.Set("Traceparent", "00-"+parent+"-00f067aa0ba902b7-01")
	handler.ServeHTTP(httptest.NewRecorder(), request)
	if id != parent || !strings.Contains(got, parent) {
		t.Errorf("the trace is %s, and the plugin got %s", id, got)
	}
	var names []string
	for _, span := range spans.GetSpans() {
		if span.SpanContext.TraceID().String() == parent {
			names = append(names, span.Name)
		}
		if text, _ := json.Marshal(span); strings.Contains(string(text), "user:default") {
			t.Errorf("a span names somebody: %s", text)
		}
	}
	if got := strings.Join(names, ", "); got != "evaluate, POST /apply, POST /authorize" {
		t.Errorf("the spans of the trace are %s", got)
	}
	handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/health", nil))
	for _, span := range spans.GetSpans() {
		if span.Name == "GET /health" {
			t.Error("a request is traced that was not picked")
		}
	}
}

// TestServedSpan looks at what the span of a request says, by OpenTelemetry's conventions.
func TestServedSpan(t *testing.T) {
	for name, test := range map[string]struct {
		host   string
		secure bool
		status int
		failed codes.Code
		want   string
	}{
		"answered": {"door.example.org:7008", false, http.StatusOK, codes.Unset,
			"http.request.method=POST http.response.body.size=17 http.response.status_code=200 network.peer.address=192.0.2.1 " +
				"network.protocol.version=1.1 server.address=door.example.org server.port=7008 url.path=/authorize url.scheme=http user_agent.original=node"},
		"refused over TLS": {"door.example.org", true, http.StatusUnauthorized, codes.Unset,
			"http.request.method=POST http.response.body.size=17 http.response.status_code=401 network.peer.address=192.0.2.1 " +
				"network.protocol.version=1.1 server.address=door.example.org url.path=/authorize url.scheme=https user_agent.original=node"},
		"failed, for a host of IPv6": {"[::1]:7008", false, http.StatusBadGateway, codes.Error,
			"http.request.method=POST http.response.body.size=17 http.response.status_code=502 network.peer.address=192.0.2.1 " +
				"network.protocol.version=1.1 server.address=::1 server.port=7008 url.path=/authorize url.scheme=http user_agent.original=node"},
	} {
		t.Run(name, func(t *testing.T) {
			spans := tracetest.NewInMemoryExporter()
			tracer := newTracer(1, sdktrace.WithSyncer(spans))
			defer tracer.Close(context.WithoutCancel(t.Context()))
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/authorize?token=secret", nil)
			r.Host = test.host
			r.Header.Set("User-Agent", "node")
			r.Header.Set("Authorization", "Bearer secret")
			if test.secure {
				r.TLS = &tls.ConnectionState{}
			}
			in := tracer.Trace(r, func(*http.Request) bool { return true })
			_, end := in.Serve(t.Context(), r)
			end(test.status, 17)
			span := spans.GetSpans()[0]
			var says []string
			for _, a := range span.Attributes {
				says = append(says, string(a.Key)+"="+a.Value.String())
			}
			slices.Sort(says)
			if got := strings.Join(says, " "); got != test.want || span.Status.Code != test.failed ||
				span.SpanKind != trace.SpanKindServer || span.Name != "POST /authorize" {
				t.Errorf("%s %s %v: %s", span.SpanKind, span.Name, span.Status.Code, got)
			}
		})
	}
}

// TestErrorsOfPluginsAreNotTold calls a plugin whose answer cannot be read, or not to its end.
// Whoever asks gets the error; its span says that it failed, and nothing that the plugin wrote.
func TestErrorsOfPluginsAreNotTold(t *testing.T) {
	const header, person = "HTTP/1.1 200 OK\r\n", "\xff\xfe user:default/ann\r\n\r\n"
	for name, answer := range map[string]string{
		"in a header":  header + person,
		"in a trailer": header + "Transfer-Encoding: chunked\r\nTrailer: X\r\n\r\n2\r\n{}\r\n0\r\n" + person,
	} {
		t.Run(name, func(t *testing.T) {
			plugin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				connection, _, err := http.NewResponseController(w).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = connection.Write([]byte(answer))
				_ = connection.Close()
			}))
			defer plugin.Close()
			spans := tracetest.NewInMemoryExporter()
			told := NewTold(logrus.NewEntry(logrus.New()), prometheus.NewRegistry())
			tracer := newTracer(1, sdktrace.WithSyncer(exporter{spans, told}))
			defer tracer.Close(context.WithoutCancel(t.Context()))
			client := http.Client{Transport: tracer.Transport(http.DefaultTransport)}
			r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, plugin.URL+"/apply", nil)
			response, err := client.Do(r)
			if err == nil {
				_, err = io.ReadAll(response.Body)
				_ = response.Body.Close()
			}
			if err == nil || !strings.Contains(err.Error(), "user:default/ann") {
				t.Errorf("whoever asked got %v", err)
			}
			span := spans.GetSpans()[0]
			if text := fmt.Sprintf("%+v", span); span.Status.Code != codes.Error || strings.Contains(text, "ann") || !utf8.ValidString(text) {
				t.Errorf("the span says %q", text)
			}
		})
	}
}

// TestForeignTextLosesNoSpans has a stranger send what could not be encoded, is long, or is a
// token. The spans arrive, those of others too, and say none of it.
func TestForeignTextLosesNoSpans(t *testing.T) {
	var taken atomic.Pointer[[]byte]
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		taken.Store(&body)
	}))
	defer collector.Close()
	const token = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ1c2VyOmRlZmF1bHQvYW5uIn0.c2lnbmF0dXJlLW9mLWFubg"
	for name, text := range map[string]string{
		"no UTF-8": "Mozilla\xff\xfe", "cut in a rune": strings.Repeat("é", 100_000), "a token": "Mozilla " + token,
	} {
		t.Run(name, func(t *testing.T) {
			taken.Store(nil)
			told := NewTold(logrus.NewEntry(logrus.New()), prometheus.NewRegistry())
			tracer, err := New(json.RawMessage(`{"type": "http", "address": "`+collector.Listener.Addr().String()+`"}`), "v1", told)
			if err != nil {
				t.Fatal(err)
			}
			handler := traced(tracer, func(http.ResponseWriter, *http.Request) {})
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/authorize", nil)
			handler(httptest.NewRecorder(), r)
			r.Header.Set("User-Agent", text)
			r.Host = text
			handler(httptest.NewRecorder(), r)
			tracer.Close(t.Context())
			body := taken.Load()
			if body == nil {
				t.Fatal("no spans arrived")
			}
			if n := bytes.Count(*body, []byte("POST /authorize")); n != 2 || len(*body) > 4096 || bytes.Contains(*body, []byte(token)) {
				t.Errorf("%d spans of 2 arrived, in %d bytes: %q", n, len(*body), *body)
			}
		})
	}
}

func TestOffCostsNothing(t *testing.T) {
	var off *Tracer
	ctx, r := t.Context(), httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/authorize", nil)
	worth := func(*http.Request) bool { return true }
	if n := testing.AllocsPerRun(100, func() {
		in := off.Trace(r, worth)
		served, answered := in.Serve(ctx, r)
		c, end := in.Start(served, "evaluate")
		end(nil)
		answered(http.StatusOK, 0)
		if c != ctx {
			t.Error("the context is another")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if got := off.Transport(http.DefaultTransport); got != http.DefaultTransport {
		t.Errorf("%T", got)
	}
	off.Close(ctx)
}

// TestTracesThatAreNotTold asks a server of which a quarter of the traces is told.
func TestTracesThatAreNotTold(t *testing.T) {
	spans := tracetest.NewInMemoryExporter()
	tracer := newTracer(0.25, sdktrace.WithSyncer(spans))
	defer tracer.Close(context.WithoutCancel(t.Context()))
	ids, sent := map[string]bool{}, ""
	next := roundTripper(func(r *http.Request) (*http.Response, error) {
		sent = r.Header.Get("Traceparent")
		return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Request: r}, nil
	})
	handler := traced(tracer, func(_ http.ResponseWriter, r *http.Request) {
		ctx, end := of(r.Context()).Start(r.Context(), "evaluate")
		ids[of(ctx).ID()] = true
		request, _ := http.NewRequestWithContext(ctx, http.MethodPost, "http://plugin/apply", nil)
		response, err := tracer.Transport(next).RoundTrip(request)
		if err != nil || !strings.Contains(sent, of(ctx).ID()) {
			t.Errorf("the plugin got %q in trace %s: %v", sent, of(ctx).ID(), err)
			return
		}
		_ = response.Body.Close()
		end(nil)
	})
	ask := func(parent string) {
		request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/authorize", nil)
		if parent != "" {
			request.Header.Set("Traceparent", parent)
		}
		handler.ServeHTTP(httptest.NewRecorder(), request)
	}
	const requests = 400
	for range requests {
		ask("")
	}
	told := map[string]int{}
	for _, span := range spans.GetSpans() {
		told[span.SpanContext.TraceID().String()]++
	}
	for id, n := range told {
		if n != 3 || !ids[id] {
			t.Errorf("of trace %s %d spans are told, want 3 of a trace that a request was in", id, n)
		}
	}
	if len(ids) != requests || len(told) < requests/8 || len(told) > requests/2 {
		t.Errorf("%d of %d traces are told", len(told), len(ids))
	}
	spans.Reset()
	const parent = "4bf92f3577b34da6a3ce929d0e0e4736"
	ask("00-" + parent + "-00f067aa0ba902b7-00")
	if !ids[parent] || len(spans.GetSpans()) != 0 || !strings.HasSuffix(sent, "-00") {
		t.Errorf("of a trace that its caller does not tell %d spans are told, and the plugin got %q", len(spans.GetSpans()), sent)
	}
	ask("00-" + parent + "-00f067aa0ba902b7-01")
	if len(spans.GetSpans()) != 3 {
		t.Errorf("of a trace that its caller tells %d spans are told", len(spans.GetSpans()))
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestTracesThatAreNotToldCostLittle counts what a request allocates whose trace is not
// told, with its steps.
func TestTracesThatAreNotToldCostLittle(t *testing.T) {
	tracer := newTracer(0)
	defer tracer.Close(context.WithoutCancel(t.Context()))
	handler := traced(tracer, func(_ http.ResponseWriter, r *http.Request) {
		for _, step := range []string{"verify", "userinfo", "evaluate"} {
			_, end := of(r.Context()).Start(r.Context(), step)
			end(nil)
		}
	})
	request, w := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/authorize", nil), httptest.NewRecorder()
	if n := testing.AllocsPerRun(1000, func() { handler.ServeHTTP(w, request) }); n > 3 { // the trace, its context and the request in it
		t.Errorf("it allocates %v objects", n)
	}
}

// TestCollectorIsAway has a collector that refuses, is not there, or hangs. The log tells of
// the spans that are lost, in its own form and not once for each; the counters say how many;
// and the end does not wait for long.
func TestCollectorIsAway(t *testing.T) {
	refuses := httptest.NewServer(http.NotFoundHandler())
	defer refuses.Close()
	leave := make(chan struct{})
	hangs := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-leave }))
	defer hangs.Close()
	defer close(leave)
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	for name, test := range map[string]struct{ kind, address string }{
		"refuses": {"http", refuses.URL}, "hangs": {"http", hangs.URL}, "is not there": {"http", gone.URL},
		"is not there for grpc": {"grpc", gone.URL},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log strings.Builder
			logger := logrus.New()
			logger.SetOutput(&log)
			logger.SetFormatter(&logrus.JSONFormatter{})
			told := NewTold(logrus.NewEntry(logger), prometheus.NewRegistry())
			tracer, err := New(json.RawMessage(`{"type": "`+test.kind+`", "address": "`+strings.TrimPrefix(test.address, "http://")+
				`", "batch_span_processor_options": {"batch_timeout_ms": 10, "export_timeout_ms": 300}}`), "v1", told)
			if err != nil {
				t.Fatal(err)
			}
			handler := traced(tracer, func(http.ResponseWriter, *http.Request) {})
			for range 40 {
				handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/authorize", nil))
				time.Sleep(30 * time.Millisecond)
			}
			begun := time.Now()
			tracer.Close(t.Context())
			if took := time.Since(begun); took > 2*closing {
				t.Errorf("the end took %v", took)
			}
			told.Close()
			value := func(c prometheus.Counter) float64 {
				var m dto.Metric
				_ = c.Write(&m)
				return m.GetCounter().GetValue()
			}
			if ended, sent := value(told.ended), value(told.sent); ended != 40 || sent != 0 {
				t.Errorf("%v spans ended and %v were sent", ended, sent)
			}
			if lines := strings.Count(log.String(), "the collector did not take spans"); lines == 0 || lines > 7 {
				t.Errorf("%d lines: %s", lines, log.String())
			}
		})
	}
}
