package metrics

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// one is all that metrics do for a request about one item.
func one(m *Metrics, o *decision.Outcome) {
	begun := time.Now()
	begun = Took(m.Stages.Verify, begun)
	begun = Took(m.Stages.UserInfo, begun)
	begun = Took(m.Stages.Evaluate, begun)
	m.Decision("catalog.entity.read", o)
	Took(m.Stages.Log, begun)
	m.Request(AtAuthorize, OK, time.Since(begun))
}

func forOne() (*Metrics, *decision.Outcome) {
	m := New(prometheus.NewRegistry(), map[string]string{"catalog.entity.read": "catalog"})
	return m, &decision.Outcome{Decision: wire.Decision{Result: wire.Allow}}
}

// BenchmarkOne is what metrics add to a request about one item.
func BenchmarkOne(b *testing.B) {
	m, o := forOne()
	b.ReportAllocs()
	for b.Loop() {
		one(m, o)
	}
}

// TestNothingIsAllocated counts the allocations for a request.
func TestNothingIsAllocated(t *testing.T) {
	m, o := forOne()
	if n := testing.AllocsPerRun(1000, func() { one(m, o) }); n != 0 {
		t.Errorf("%v allocations a request", n)
	}
}
