package conditions

import "github.com/prometheus/client_golang/prometheus"

var (
	breakerDesc = prometheus.NewDesc("stagedoor_plugin_breaker_open",
		"Whether the plugin is left alone as it gave no answers: 1 or 0.", []string{"plugin"}, nil)
	waitingDesc = prometheus.NewDesc("stagedoor_plugin_calls_waiting",
		"Calls of apply-conditions that wait for a turn at the plugin.", []string{"plugin"}, nil)
)

// Describe implements [prometheus.Collector].
func (c *Client) Describe(to chan<- *prometheus.Desc) {
	to <- breakerDesc
	to <- waitingDesc
}

// Collect implements [prometheus.Collector]. It tells of the plugins that are
// remembered, of which there are at most 256. It is safe for concurrent use.
func (c *Client) Collect(to chan<- prometheus.Metric) {
	for id, p := range c.plugins.All() {
		open := 0.0
		if p.guard.open() {
			open = 1
		}
		to <- prometheus.MustNewConstMetric(breakerDesc, prometheus.GaugeValue, open, id)
		to <- prometheus.MustNewConstMetric(waitingDesc, prometheus.GaugeValue, float64(p.guard.line.Waiting()), id)
	}
}
