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

// Collect implements [prometheus.Collector]. It tells of each plugin that owns
// permissions which are known in advance, or has published something; all further ids,
// which a policy may make up, are one. It is safe for concurrent use.
func (c *Client) Collect(to chan<- prometheus.Metric) {
	open, waiting := map[string]float64{"other": 0}, map[string]int{"other": 0}
	for _, id := range c.permissions.owner {
		open[id], waiting[id] = 0, 0
	}
	for id, p := range c.plugins.All() {
		if _, known := open[id]; !known && p.published.rules.Load() == nil {
			id = "other"
		}
		if _, known := open[id]; !known {
			open[id] = 0
		}
		if !p.guard.Closed() { // also while one call tries again
			open[id] = 1
		}
		waiting[id] += p.guard.InLine()
	}
	for id := range open {
		to <- prometheus.MustNewConstMetric(breakerDesc, prometheus.GaugeValue, open[id], id)
		to <- prometheus.MustNewConstMetric(waitingDesc, prometheus.GaugeValue, float64(waiting[id]), id)
	}
}
