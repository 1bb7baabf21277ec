package endpoint

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	connectionsDesc = prometheus.NewDesc("stagedoor_connections", "Connections of clients, by address.",
		[]string{"address"}, nil)
	roomDesc  = prometheus.NewDesc("stagedoor_connections_limit", "How many there may be.", []string{"address"}, nil)
	validDesc = prometheus.NewDesc("stagedoor_certificate_remaining_seconds",
		"For how long the certificate that is shown is valid yet, by address; negative once it is not.",
		[]string{"address"}, nil)
)

// Gauges are the metrics of endpoints, each by the value of its label.
type Gauges map[string]*Endpoint

// Describe implements [prometheus.Collector].
func (Gauges) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{connectionsDesc, roomDesc, validDesc} {
		to <- d
	}
}

// Collect implements [prometheus.Collector]. It is safe for concurrent use.
func (g Gauges) Collect(to chan<- prometheus.Metric) {
	for name, e := range g {
		gauge := func(d *prometheus.Desc, v float64) {
			to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, name)
		}
		e.mutex.Lock()
		open := len(e.connections)
		e.mutex.Unlock()
		gauge(connectionsDesc, float64(open))
		gauge(roomDesc, float64(e.options.Connections))
		if e.certificates != nil {
			gauge(validDesc, time.Until(e.certificates.config().Certificates[0].Leaf.NotAfter).Seconds())
		}
	}
}
