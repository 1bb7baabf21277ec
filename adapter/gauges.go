package adapter

import (
	"runtime"
	"time"

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
	policyDesc = prometheus.NewDesc("stagedoor_policy_info",
		"The policy that serves.", []string{"revision", "entrypoint"}, nil)
	readyDesc = prometheus.NewDesc("stagedoor_policy_ready", "Whether requests can be decided: 1 or 0.", nil, nil)
	sinceDesc = prometheus.NewDesc("stagedoor_policy_activated_timestamp_seconds",
		"When the policy that serves was activated.", nil, nil)
	newestDesc = prometheus.NewDesc("stagedoor_policy_confirmed_timestamp_seconds",
		"When the policy was last known to be the newest.", nil, nil)
	refusedDesc = prometheus.NewDesc("stagedoor_policy_refused",
		"Bundles and folders whose newest policy could not be had or must not serve, by name.", []string{"bundle"}, nil)
	refusalsDesc = prometheus.NewDesc("stagedoor_policy_refusals", "How many these are.", nil, nil)
)

// Describe implements [prometheus.Collector].
func (s *Server) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		inFlightDesc, slotsDesc, askingDesc, memoryDesc, limitDesc, buildDesc,
		policyDesc, readyDesc, sinceDesc, newestDesc, refusedDesc, refusalsDesc,
	} {
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
	status := s.supply()
	ready := 0.0
	if status.Ready {
		ready = 1
	}
	gauge(readyDesc, ready)
	gauge(refusalsDesc, float64(len(status.Refused)))
	refused := map[string]float64{}
	for name := range status.Revisions {
		refused[name] = 0
	}
	for _, one := range status.Refused {
		refused[one.Bundle] = 1
	}
	for name, is := range refused {
		gauge(refusedDesc, is, name)
	}
	if status.Revision != "" || status.Entrypoint != "" {
		gauge(policyDesc, 1, status.Revision, status.Entrypoint)
	}
	seconds := func(t time.Time) float64 {
		if t.IsZero() {
			return 0
		}
		return float64(t.UnixMilli()) / 1000
	}
	gauge(sinceDesc, seconds(status.Since))
	gauge(newestDesc, seconds(status.Confirmed))
}
