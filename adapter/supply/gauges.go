package supply

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

var (
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
	degradedDesc = prometheus.NewDesc("stagedoor_degraded",
		"Whether a part is not as it should be, whether or not requests can be decided: 1 or 0.", []string{"part"}, nil)
	reloadedDesc = prometheus.NewDesc("stagedoor_config_last_reload_successful",
		"Whether the configuration that was read last counts: 1, or 0 where it is refused.", nil, nil)
	configuredDesc = prometheus.NewDesc("stagedoor_config_last_reload_success_timestamp_seconds",
		"When the configuration was read that counts.", nil, nil)
)

// Gauges are the metrics of a status.
type Gauges func() Status

// Describe implements [prometheus.Collector].
func (Gauges) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		policyDesc, readyDesc, sinceDesc, newestDesc, refusedDesc, refusalsDesc, degradedDesc,
		reloadedDesc, configuredDesc,
	} {
		to <- d
	}
}

// Collect implements [prometheus.Collector]. It is safe for concurrent use.
func (g Gauges) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	status := g()
	gauge(readyDesc, number(status.Ready))
	degraded := map[Part]float64{}
	for _, d := range status.Degraded {
		degraded[d.Part] = 1
	}
	for _, part := range Parts() {
		gauge(degradedDesc, degraded[part], string(part))
	}
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
	if c := status.Configuration; c != nil {
		gauge(reloadedDesc, number(c.Refused == ""))
		gauge(configuredDesc, seconds(c.Read))
	}
}

func number(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
