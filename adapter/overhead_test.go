package adapter

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// oneRequest is all that metrics do for a request about one item.
func oneRequest(m *metrics, o *decision.Outcome) {
	begun := time.Now()
	begun = m.took(stageVerify, begun)
	begun = m.took(stageUserInfo, begun)
	begun = m.took(stageEvaluate, begun)
	m.decision("catalog.entity.read", o)
	m.took(stageLog, begun)
	m.request(atAuthorize, outcomeOK, time.Since(begun))
}

func overheadMetrics() (*metrics, *decision.Outcome) {
	m := newMetrics(prometheus.NewRegistry(), map[string]string{"catalog.entity.read": "catalog"})
	return m, &decision.Outcome{Decision: wire.Decision{Result: wire.Allow}}
}

// BenchmarkMetricsOfOne is what metrics add to a request about one item. Compare it with
// BenchmarkAuthorize.
func BenchmarkMetricsOfOne(b *testing.B) {
	m, o := overheadMetrics()
	b.ReportAllocs()
	for b.Loop() {
		oneRequest(m, o)
	}
}

// TestMetricsAllocateNothing counts the allocations of a request's metrics.
func TestMetricsAllocateNothing(t *testing.T) {
	m, o := overheadMetrics()
	if n := testing.AllocsPerRun(1000, func() { oneRequest(m, o) }); n != 0 {
		t.Errorf("%v allocations a request", n)
	}
}
