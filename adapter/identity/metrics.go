package identity

import "github.com/prometheus/client_golang/prometheus"

var (
	precomputeDesc = prometheus.NewDesc("stagedoor_identity_precompute",
		"Whether signatures are verified by precomputed multiples of their keys: 1 or 0.", nil, nil)
	staleDesc = prometheus.NewDesc("stagedoor_identity_user_info_stale_total",
		"Requests for which the last user info counted, as no newer one could be had.", nil, nil)
	disagreementsDesc = prometheus.NewDesc("stagedoor_identity_precompute_disagreements_total",
		"How often verifying by precomputed multiples disagreed with crypto/ecdsa; it is off since the first.", nil, nil)
)

// Describe implements [prometheus.Collector].
func (i *Identity) Describe(to chan<- *prometheus.Desc) { prometheus.DescribeByCollect(i, to) }

// Collect implements [prometheus.Collector]. It is safe for concurrent use.
func (i *Identity) Collect(to chan<- prometheus.Metric) {
	to <- prometheus.MustNewConstMetric(precomputeDesc, prometheus.GaugeValue, number01(!i.tripwire.Off()))
	uses := int64(0)
	if i.last != nil {
		uses = i.last.uses.Load()
	}
	to <- prometheus.MustNewConstMetric(staleDesc, prometheus.CounterValue, float64(uses))
	to <- prometheus.MustNewConstMetric(disagreementsDesc, prometheus.CounterValue, number01(i.tripwire.Tripped()))
}

// number01 is 1 where so, else 0.
func number01(so bool) float64 {
	if so {
		return 1
	}
	return 0
}
