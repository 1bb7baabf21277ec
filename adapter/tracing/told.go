package tracing

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/stagedoor/stagedoor/adapter/peer"
	"github.com/stagedoor/stagedoor/adapter/sampler"
)

// Told counts what becomes of spans, and has the log tell of those that the collector did
// not take. OpenTelemetry's own writes such lines to standard error, beside the log. It is
// safe for concurrent use.
type Told struct {
	log         *logrus.Entry
	sampler     sampler.Sampler
	ended, sent prometheus.Counter
}

// NewTold returns a Told whose counters, at 0, are in the registry.
func NewTold(log *logrus.Entry, registry prometheus.Registerer) *Told {
	t := &Told{
		log: log,
		ended: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "stagedoor_trace_spans_total", Help: "Spans of traces that are to be told to the collector.",
		}),
		sent: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "stagedoor_trace_spans_sent_total", Help: "Spans that the collector took.",
		}),
	}
	registry.MustRegister(t.ended, t.sent)
	return t
}

// OnStart implements [sdktrace.SpanProcessor].
func (*Told) OnStart(context.Context, sdktrace.ReadWriteSpan) {}

// OnEnd implements [sdktrace.SpanProcessor].
func (t *Told) OnEnd(span sdktrace.ReadOnlySpan) {
	if span.SpanContext().IsSampled() {
		t.ended.Inc()
	}
}

// Shutdown implements [sdktrace.SpanProcessor].
func (*Told) Shutdown(context.Context) error { return nil }

// ForceFlush implements [sdktrace.SpanProcessor].
func (*Told) ForceFlush(context.Context) error { return nil }

// exporter is an exporter whose spans are counted.
type exporter struct {
	sdktrace.SpanExporter
	told *Told
}

// ExportSpans implements [sdktrace.SpanExporter]. What fails is in the log and no error.
func (e exporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	without := make([]sdktrace.ReadOnlySpan, len(spans))
	for i, span := range spans {
		without[i] = silent{span}
	}
	err := e.SpanExporter.ExportSpans(ctx, without)
	if err == nil {
		e.told.sent.Add(float64(len(spans)))
		return nil
	}
	const text = "the collector did not take spans, which are lost"
	e.told.sampler.Log(e.told.log.WithField("error", peer.WithoutSecrets(err.Error())).WithField("spans", len(spans)),
		logrus.WarnLevel, "spans", text)
	return nil
}

// silent is a span that does not say why it failed. The text of an error may be a plugin's,
// which otelhttp takes into the span of a call: it may name people.
type silent struct{ sdktrace.ReadOnlySpan }

// Status implements [sdktrace.ReadOnlySpan].
func (s silent) Status() sdktrace.Status { return sdktrace.Status{Code: s.ReadOnlySpan.Status().Code} }

// Events implements [sdktrace.ReadOnlySpan]. All that there are tell of errors.
func (s silent) Events() []sdktrace.Event { return nil }

// Close writes what the log has kept back so far.
func (t *Told) Close() { t.sampler.Flush() }
