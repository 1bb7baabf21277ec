package engine

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// counts are how the questions of requests were answered.
type counts struct{ hits, shared, misses atomic.Uint64 }

// add counts a batch: so many questions were answered from what is remembered of the
// caller and the caller's kind, and so many were not. Of these some were known of the kind.
func (c *counts) add(hits uint64, s *shared, others int) {
	if hits > 0 {
		c.hits.Add(hits)
	}
	if others == 0 {
		return
	}
	known := 0
	if s != nil {
		known = s.hits
	}
	c.shared.Add(uint64(known))
	c.misses.Add(uint64(others - known)) //nolint:gosec // known are some of the others
}

var (
	cacheLabel = []string{"cache"}

	hitsDesc      = prometheus.NewDesc("stagedoor_cache_hits_total", "Look-ups that found something.", cacheLabel, nil)
	missesDesc    = prometheus.NewDesc("stagedoor_cache_misses_total", "Look-ups that found nothing.", cacheLabel, nil)
	evictionsDesc = prometheus.NewDesc("stagedoor_cache_evictions_total",
		"What was forgotten for want of room, or for its age.", cacheLabel, nil)
	bytesDesc  = prometheus.NewDesc("stagedoor_cache_bytes", "About how many bytes are taken.", cacheLabel, nil)
	sharedDesc = prometheus.NewDesc("stagedoor_decisions_shared_total",
		"Decisions that were known of a caller who is alike.", nil, nil)
)

// Describe implements [prometheus.Collector]. It describes nothing, since a name can be
// described once, and other caches are counted under the same names.
func (e *Engine) Describe(chan<- *prometheus.Desc) {}

// Collect implements [prometheus.Collector]. It is safe for concurrent use.
func (e *Engine) Collect(to chan<- prometheus.Metric) {
	const name = "decisions"
	counter := func(desc *prometheus.Desc, n uint64, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(n), labels...)
	}
	counter(hitsDesc, e.counts.hits.Load()+e.counts.shared.Load(), name)
	counter(missesDesc, e.counts.misses.Load(), name)
	counter(evictionsDesc, e.memo.evicted.Load(), name)
	counter(sharedDesc, e.counts.shared.Load())
	to <- prometheus.MustNewConstMetric(bytesDesc, prometheus.GaugeValue, float64(e.memo.cache.WeightedSize()), name)
}
