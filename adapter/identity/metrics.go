package identity

import (
	"github.com/maypok86/otter/v2/stats"
	"github.com/prometheus/client_golang/prometheus"
)

var cacheLabel = []string{"cache"}

var (
	precomputeDesc = prometheus.NewDesc("stagedoor_identity_precompute",
		"Whether signatures are verified by precomputed multiples of their keys: 1 or 0.", nil, nil)
	staleDesc = prometheus.NewDesc("stagedoor_identity_user_info_stale_total",
		"Requests for which the last user info counted, as no newer one could be had.", nil, nil)
	hitsDesc      = prometheus.NewDesc("stagedoor_cache_hits_total", "Look-ups that found something.", cacheLabel, nil)
	missesDesc    = prometheus.NewDesc("stagedoor_cache_misses_total", "Look-ups that found nothing.", cacheLabel, nil)
	evictionsDesc = prometheus.NewDesc("stagedoor_cache_evictions_total",
		"What was forgotten for want of room, or for its age.", cacheLabel, nil)
	bytesDesc = prometheus.NewDesc("stagedoor_cache_bytes", "About how many bytes are taken.", cacheLabel, nil)

	pluginsDesc = prometheus.NewDesc("stagedoor_identity_plugins_known",
		"Plugins of which a token was verified.", nil, nil)
	keysAgeDesc = prometheus.NewDesc("stagedoor_identity_user_keys_age_seconds",
		"How old the users' key set is; it counts for 600 s. Absent until the first is there.", nil, nil)
	turnsDesc = prometheus.NewDesc("stagedoor_identity_turns_waiting",
		"Signatures that wait until they are verified.", nil, nil)

	disagreementsDesc = prometheus.NewDesc("stagedoor_identity_precompute_disagreements_total",
		"How often verifying by precomputed multiples disagreed with crypto/ecdsa; it is off since the first.", nil, nil)
)

// Describe implements [prometheus.Collector].
func (i *Identity) Describe(to chan<- *prometheus.Desc) { prometheus.DescribeByCollect(i, to) }

// Collect implements [prometheus.Collector]. It is safe for concurrent use.
func (i *Identity) Collect(to chan<- prometheus.Metric) {
	to <- prometheus.MustNewConstMetric(precomputeDesc, prometheus.GaugeValue, number01(!i.tripwire.Off()))
	cache(to, "tokens", i.tokens)
	cache(to, "user_info", i.claims)
	cache(to, "issued", i.issued)
	to <- prometheus.MustNewConstMetric(pluginsDesc, prometheus.GaugeValue, float64(i.plugins.Known()))
	to <- prometheus.MustNewConstMetric(turnsDesc, prometheus.GaugeValue, float64(i.turns.Waiting()))
	if age, known := i.userKeys.Age(); known {
		to <- prometheus.MustNewConstMetric(keysAgeDesc, prometheus.GaugeValue, age.Seconds())
	}
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

// counted is a cache that counts.
type counted interface {
	Stats() stats.Stats
	WeightedSize() uint64
}

func cache(to chan<- prometheus.Metric, name string, c counted) {
	s := c.Stats()
	for desc, n := range map[*prometheus.Desc]uint64{hitsDesc: s.Hits, missesDesc: s.Misses, evictionsDesc: s.Evictions} {
		to <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(n), name)
	}
	to <- prometheus.MustNewConstMetric(bytesDesc, prometheus.GaugeValue, float64(c.WeightedSize()), name)
}
