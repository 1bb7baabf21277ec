// Package tracing tells a collector how a request was answered, as spans over OTLP.
//
// It is off unless OPA's own key `distributed_tracing` names a type. A request that
// carries a W3C traceparent goes on in that trace; one without begins a trace of its
// own. The server's span has a child for each step that takes time: verification of
// the token, user info, evaluation, and one for each call to a plugin, which gets the
// traceparent in turn.
//
// A nil *[Tracer] is tracing that is off: every method of it does nothing and
// allocates nothing.
package tracing

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	noopmetric "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/credentials"

	"github.com/stagedoor/stagedoor/adapter/peer"
)

// Tracer makes spans and sends them. It is safe for concurrent use.
type Tracer struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
	options  []otelhttp.Option
	share    uint64 // of traces that begin here, in 2^63rds
}

// settings are OPA's keys under distributed_tracing, with OPA's meaning and defaults.
type settings struct {
	Type             string   `json:"type"`
	Address          string   `json:"address"`
	ServiceName      string   `json:"service_name"`
	SamplePercentage *float64 `json:"sample_percentage"`
	Encryption       string   `json:"encryption"`
	AllowInsecureTLS bool     `json:"allow_insecure_tls"`
	TLSCertFile      string   `json:"tls_cert_file"`
	TLSKeyFile       string   `json:"tls_private_key_file"`
	TLSCAFile        string   `json:"tls_ca_cert_file"`
	Resource         struct {
		ServiceVersion        string `json:"service_version"`
		ServiceInstanceID     string `json:"service_instance_id"`
		ServiceNamespace      string `json:"service_namespace"`
		DeploymentEnvironment string `json:"deployment_environment"`
	} `json:"resource"`
	Batch struct {
		Blocking           bool `json:"blocking"`
		BatchTimeoutMs     int  `json:"batch_timeout_ms"`
		ExportTimeoutMs    int  `json:"export_timeout_ms"`
		MaxExportBatchSize int  `json:"max_export_batch_size"`
		MaxQueueSize       int  `json:"max_queue_size"`
	} `json:"batch_span_processor_options"`
}

// Validate reports what is wrong with config, the JSON of OPA's key
// distributed_tracing, with the key and what to write.
func Validate(config json.RawMessage) error {
	s, err := read(config)
	if err != nil || s.Type == "" {
		return err
	}
	_, err = s.tls()
	return err
}

// New returns the tracer that config says, the JSON of OPA's key
// distributed_tracing, or nil where it names no type. Version is the product's. It
// does not wait for the collector, and told learns what becomes of spans. Close must be
// called in the end.
//
// The error names the key that is wrong, and what to write.
func New(config json.RawMessage, version string, told *Told) (*Tracer, error) {
	s, err := read(config)
	if err != nil || s.Type == "" {
		return nil, err
	}
	sends, err := s.exporter()
	if err != nil {
		return nil, err
	}
	return newTracer(*s.SamplePercentage/100,
		sdktrace.WithResource(s.resource(version)), sdktrace.WithSpanProcessor(told),
		sdktrace.WithSpanProcessor(s.batcher(exporter{sends, told}))), nil
}

func newTracer(share float64, options ...sdktrace.TracerProviderOption) *Tracer {
	sampler := sdktrace.ParentBased(sdktrace.TraceIDRatioBased(share))
	provider := sdktrace.NewTracerProvider(append(options,
		sdktrace.WithSampler(sampler), sdktrace.WithIDGenerator(ids{}))...)
	return &Tracer{
		share:    uint64(share * (1 << 63)),
		provider: provider,
		tracer:   provider.Tracer("github.com/stagedoor/stagedoor"),
		options: []otelhttp.Option{
			otelhttp.WithTracerProvider(provider),
			otelhttp.WithMeterProvider(noopmetric.NewMeterProvider()),
			otelhttp.WithPropagators(propagation.TraceContext{}),
		},
	}
}

// read decodes the settings, checks them, and fills in the defaults.
func read(config json.RawMessage) (settings, error) {
	var s settings
	if len(config) == 0 {
		return s, nil
	}
	decoder := json.NewDecoder(bytes.NewReader(config))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&s); err != nil {
		return s, fmt.Errorf("opa.distributed_tracing: %w", err)
	}
	if s.Address == "" {
		s.Address = map[string]string{"grpc": "localhost:4317", "http": "localhost:4318"}[s.Type]
	}
	if s.ServiceName == "" {
		s.ServiceName = "stagedoor"
	}
	if s.Encryption == "" {
		s.Encryption = "off"
	}
	if s.SamplePercentage == nil {
		all := 100.0
		s.SamplePercentage = &all
	}
	return s, s.problems()
}

func (s settings) problems() error {
	var problems []error
	wrong := func(key, format string, args ...any) {
		problems = append(problems, fmt.Errorf("opa.distributed_tracing."+key+": "+format, args...))
	}
	switch s.Type {
	case "", "grpc", "http":
	default:
		wrong("type", "%q is not known: write grpc or http", s.Type)
	}
	if strings.Contains(s.Address, "/") {
		wrong("address", "is a URL: write host:port alone") // it can hold a password
	} else if _, port, err := net.SplitHostPort(s.Address); s.Address != "" && (err != nil || port == "") {
		wrong("address", "has no port: write host:port")
	}
	if p := *s.SamplePercentage; !(p >= 0 && p <= 100) {
		wrong("sample_percentage", "%v is not between 0 and 100", p)
	}
	switch s.Encryption {
	case "off", "tls":
	case "mtls":
		if s.TLSCertFile == "" || s.TLSKeyFile == "" {
			wrong("encryption", "mtls needs tls_cert_file and tls_private_key_file")
		}
	default:
		wrong("encryption", "%q is not known: write off, tls or mtls", s.Encryption)
	}
	if s.Batch.Blocking {
		wrong("batch_span_processor_options.blocking", "is true: requests would wait for the collector; leave it out")
	}
	return errors.Join(problems...)
}

func (s settings) exporter() (*otlptrace.Exporter, error) {
	config, err := s.tls()
	if err != nil {
		return nil, err
	}
	// Creating one only prepares the connection; a collector that is down is tried again.
	if s.Type == "grpc" {
		secure := otlptracegrpc.WithInsecure()
		if config != nil {
			secure = otlptracegrpc.WithTLSCredentials(credentials.NewTLS(config))
		}
		return otlptracegrpc.New(context.Background(), otlptracegrpc.WithEndpoint(s.Address), secure)
	}
	secure := otlptracehttp.WithInsecure()
	if config != nil {
		secure = otlptracehttp.WithTLSClientConfig(config)
	}
	return otlptracehttp.New(context.Background(), otlptracehttp.WithEndpoint(s.Address), secure)
}

// tls is nil where the way to the collector is not encrypted.
func (s settings) tls() (*tls.Config, error) {
	if s.Encryption == "off" {
		return nil, nil
	}
	config := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: s.AllowInsecureTLS, //nolint:gosec // the operator's own word, as in OPA
	}
	if s.TLSCAFile != "" {
		text, err := os.ReadFile(s.TLSCAFile)
		if err != nil {
			return nil, fmt.Errorf("opa.distributed_tracing.tls_ca_cert_file: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("opa.distributed_tracing.tls_ca_cert_file: %s has no certificate in PEM", s.TLSCAFile)
		}
	}
	if s.Encryption == "mtls" {
		pair, err := tls.LoadX509KeyPair(s.TLSCertFile, s.TLSKeyFile)
		if err != nil {
			return nil, fmt.Errorf("opa.distributed_tracing.tls_cert_file: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

func (s settings) resource(version string) *resource.Resource {
	attributes := []attribute.KeyValue{attribute.String("service.name", s.ServiceName)}
	for key, value := range map[string]string{
		"service.version":        or(s.Resource.ServiceVersion, version),
		"service.instance.id":    s.Resource.ServiceInstanceID,
		"service.namespace":      s.Resource.ServiceNamespace,
		"deployment.environment": s.Resource.DeploymentEnvironment,
	} {
		if value != "" {
			attributes = append(attributes, attribute.String(key, value))
		}
	}
	return resource.NewSchemaless(attributes...)
}

func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

func (s settings) batcher(to sdktrace.SpanExporter) sdktrace.SpanProcessor {
	var options []sdktrace.BatchSpanProcessorOption
	add := func(set bool, option sdktrace.BatchSpanProcessorOption) {
		if set {
			options = append(options, option)
		}
	}
	b := s.Batch
	timeout := time.Duration(b.BatchTimeoutMs) * time.Millisecond
	add(timeout > 0, sdktrace.WithBatchTimeout(timeout))
	add(b.ExportTimeoutMs > 0, sdktrace.WithExportTimeout(time.Duration(b.ExportTimeoutMs)*time.Millisecond))
	add(b.MaxExportBatchSize > 0, sdktrace.WithMaxExportBatchSize(b.MaxExportBatchSize))
	add(b.MaxQueueSize > 0, sdktrace.WithMaxQueueSize(b.MaxQueueSize))
	return newBursts(sdktrace.NewBatchSpanProcessor(to, options...), b.MaxQueueSize, timeout)
}

// closing is how long what is left is sent in the end: nobody is to wait for a collector.
const closing = 2 * time.Second

// Close sends what is left, for as long as ctx lasts and for two seconds at most.
func (t *Tracer) Close(ctx context.Context) {
	if t != nil {
		ctx, cancel := context.WithTimeout(ctx, closing)
		defer cancel()
		_ = t.provider.Shutdown(ctx) // a collector that is gone loses spans, and nothing else
	}
}

// Trace is the trace that a request is in. The zero Trace is none.
type Trace struct {
	parent trace.SpanContext // of whoever asked; where nobody did, of a span that nobody is told
	teller *Tracer           // who tells the collector; nil where nobody does
}

// Trace is the trace that a request is in: that of its caller, by the traceparent header
// of W3C Trace Context, or else a new one. It is told to the collector where the caller's is, or
// else for the configured share, as [sdktrace.TraceIDRatioBased] picks it; but only if worth says
// that the request is worth it. Where traces are off, none begins, and none is told.
func (t *Tracer) Trace(r *http.Request, worth func(*http.Request) bool) Trace {
	var in Trace
	told := false
	if len(r.Header["Traceparent"]) > 0 {
		extracted := propagation.TraceContext{}.Extract(context.Background(), propagation.HeaderCarrier(r.Header))
		in.parent = trace.SpanContextFromContext(extracted)
		told = in.parent.IsSampled()
	}
	if t == nil {
		return in
	}
	if !in.parent.IsValid() {
		id := newTraceID()
		in.parent = trace.NewSpanContext(trace.SpanContextConfig{TraceID: id, SpanID: newSpanID()})
		told = binary.BigEndian.Uint64(id[8:])>>1 < t.share
	}
	if told && worth(r) {
		in.teller = t
	}
	return in
}

// ID is that of the trace in hexadecimal, or empty for none.
func (t *Trace) ID() string {
	if !t.parent.HasTraceID() {
		return ""
	}
	return t.parent.TraceID().String()
}

// Key is the key of a context's [Traced], which is the request that it is of.
type Key struct{}

// Traced is in a trace, which must not change any more.
type Traced interface{ Trace() *Trace }

// of is the trace that ctx is in, which may be none.
func of(ctx context.Context) *Trace {
	if in, ok := ctx.Value(Key{}).(Traced); ok {
		return in.Trace()
	}
	return &Trace{}
}

// Serve begins the span of the request itself, where its trace is told. The function that it
// returns ends the span, with the status and the size of the answer.
//
// It is not otelhttp's handler, which works for metrics too, wraps the answer, and makes most
// attributes twice.
func (t *Trace) Serve(ctx context.Context, r *http.Request) (context.Context, func(status, size int)) {
	if t.teller == nil {
		return ctx, func(int, int) {}
	}
	if t.parent.IsRemote() {
		ctx = trace.ContextWithSpanContext(ctx, t.parent)
	}
	ctx, span := t.teller.tracer.Start(ctx, spanName("", r),
		trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(requested(r)...))
	return ctx, func(status, size int) {
		span.SetAttributes(semconv.HTTPResponseStatusCode(status), semconv.HTTPResponseBodySize(size))
		if status >= http.StatusInternalServerError {
			span.SetStatus(codes.Error, "")
		}
		span.End()
	}
}

// requested is what a span says of a request, by OpenTelemetry's conventions for HTTP.
func requested(r *http.Request) []attribute.KeyValue {
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	says := []attribute.KeyValue{
		semconv.HTTPRequestMethodKey.String(r.Method), semconv.URLScheme(scheme), semconv.URLPath(r.URL.Path),
		semconv.NetworkProtocolVersion(strings.TrimPrefix(r.Proto, "HTTP/")),
		semconv.UserAgentOriginal(foreign(r.UserAgent())),
	}
	if peer, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		says = append(says, semconv.NetworkPeerAddress(peer))
	}
	host, port, err := net.SplitHostPort(r.Host)
	if err != nil {
		return append(says, semconv.ServerAddress(foreign(r.Host)))
	}
	if n, err := strconv.ParseUint(port, 10, 16); err == nil {
		says = append(says, semconv.ServerPort(int(n)))
	}
	return append(says, semconv.ServerAddress(foreign(host)))
}

// foreign is a text from outside as a span says it: short, without tokens, and UTF-8. One value
// that is not would lose all spans of its batch, which then cannot be encoded.
func foreign(text string) string {
	return peer.WithoutTokens(strings.ToValidUTF8(peer.Shorten(text), "\uFFFD"))
}

func spanName(_ string, r *http.Request) string { return r.Method + " " + r.URL.Path }

// Start begins the span of a step of a request, where its trace is told. The function that it
// returns ends the span, and marks it where err is not nil; the error's text is not told, since it
// may name people.
func (t *Trace) Start(ctx context.Context, name string) (context.Context, func(err error)) {
	if t.teller == nil {
		return ctx, func(error) {}
	}
	ctx, span := t.teller.tracer.Start(ctx, name)
	return ctx, func(err error) {
		if err != nil {
			span.SetStatus(codes.Error, "")
		}
		span.End()
	}
}

// ids makes the ids of traces and spans, which are no secrets.
type ids struct{}

// NewIDs implements [sdktrace.IDGenerator].
func (ids) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	id := of(ctx).parent.TraceID()
	if !id.IsValid() {
		id = newTraceID()
	}
	return id, newSpanID()
}

// NewSpanID implements [sdktrace.IDGenerator].
func (ids) NewSpanID(context.Context, trace.TraceID) trace.SpanID { return newSpanID() }

func newTraceID() (id trace.TraceID) {
	for !id.IsValid() {
		binary.NativeEndian.PutUint64(id[:8], rand.Uint64()) //nolint:gosec // an id, and no secret
		binary.NativeEndian.PutUint64(id[8:], rand.Uint64()) //nolint:gosec // likewise
	}
	return id
}

func newSpanID() (span trace.SpanID) {
	for !span.IsValid() {
		binary.NativeEndian.PutUint64(span[:], rand.Uint64()) //nolint:gosec // likewise
	}
	return span
}

// Transport gives each request that is sent a span where the trace is told, and the
// traceparent to whoever gets it. Nothing of the request but method, place and status is told.
func (t *Tracer) Transport(next http.RoundTripper) http.RoundTripper {
	if t == nil {
		return next
	}
	return transport{otelhttp.NewTransport(next, append([]otelhttp.Option{
		otelhttp.WithSpanNameFormatter(spanName),
	}, t.options...)...)}
}

type transport struct{ next http.RoundTripper }

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if in := of(r.Context()); in.teller == nil && in.parent.IsValid() { // else its span is in the context
		r = r.WithContext(trace.ContextWithSpanContext(r.Context(), in.parent))
	}
	return t.next.RoundTrip(r)
}
