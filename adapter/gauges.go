package adapter

import (
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	inFlightDesc = prometheus.NewDesc("stagedoor_requests_in_flight", "Requests that are worked on.", nil, nil)
	slotsDesc    = prometheus.NewDesc("stagedoor_requests_in_flight_limit",
		"How many may be (stagedoor.limits.inFlight).", nil, nil)
	askingDesc = prometheus.NewDesc("stagedoor_requests_waiting",
		"Requests that wait for user info or metadata.", nil, nil)
	memoryDesc = prometheus.NewDesc("stagedoor_memory_bytes",
		"Bytes of bodies and answers that requests hold, by part.", []string{"part"}, nil)
	limitDesc = prometheus.NewDesc("stagedoor_memory_limit_bytes", "How many they may hold.", []string{"part"}, nil)
	buildDesc = prometheus.NewDesc("stagedoor_build_info",
		"The version of stagedoor and Go.", []string{"version", "go"}, nil)
)

// Describe implements [prometheus.Collector].
func (s *Server) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{inFlightDesc, slotsDesc, askingDesc, memoryDesc, limitDesc, buildDesc} {
		to <- d
	}
}

// Collect implements [prometheus.Collector]. It is safe for concurrent use.
func (s *Server) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(inFlightDesc, float64(s.slots.Held()))
	gauge(slotsDesc, float64(s.slots.Total()))
	gauge(askingDesc, float64(s.asking.Held()))
	for name, pool := range s.memory.parts() {
		gauge(memoryDesc, float64(pool.Held()), name)
		gauge(limitDesc, float64(pool.Total()), name)
	}
	gauge(buildDesc, 1, s.options.Version, runtime.Version())
}
