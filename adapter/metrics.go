package adapter

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what an operator graphs. It is safe for concurrent use.
type metrics struct {
	requests *prometheus.CounterVec
	duration prometheus.Histogram
	failures prometheus.Counter
	ok       prometheus.Counter // of requests: the one that the hot path counts
}

func newMetrics(registry *prometheus.Registry) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "stagedoor_requests_total", Help: "Requests to the permission API by HTTP status.",
		}, []string{"status"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "stagedoor_request_duration_seconds", Help: "How long requests to the permission API took.",
			Buckets: prometheus.ExponentialBuckets(0.00025, 2, 15),
		}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "stagedoor_failures_total", Help: "Items that the policy or a plugin did not decide.",
		}),
	}
	m.ok = m.requests.WithLabelValues("200")
	registry.MustRegister(m.requests, m.duration, m.failures)
	return m
}

func (m *metrics) observe(status int, took time.Duration) {
	if status == http.StatusOK {
		m.ok.Inc()
	} else {
		m.requests.WithLabelValues(strconv.Itoa(status)).Inc()
	}
	m.duration.Observe(took.Seconds())
}
