package metrics

import (
	"fmt"
	"strings"
	"sync"
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

func nobody(string) (string, bool) { return "", false }

func forOne() (*Metrics, *decision.Outcome) {
	m := New(prometheus.NewRegistry(), map[string]string{"catalog.entity.read": "catalog"}, nobody)
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

// TestLearnedLabels counts by the names that a plugin publishes, up to a bound, and by none
// that somebody makes up.
func TestLearnedLabels(t *testing.T) {
	registry := prometheus.NewRegistry()
	long := "acme." + strings.Repeat("x", 1000)
	m := New(registry, map[string]string{"catalog.entity.read": "catalog"}, func(name string) (string, bool) {
		return "acme", strings.HasPrefix(name, "acme.")
	})
	series := func() (all, named int, other float64) {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, family := range families {
			all += len(family.GetMetric())
			if family.GetName() != "stagedoor_decisions_total" {
				continue
			}
			for _, metric := range family.GetMetric() {
				switch name := metric.GetLabel()[0].GetValue(); {
				case name == "other":
					other += metric.GetCounter().GetValue()
				case strings.HasPrefix(name, "acme.") && metric.GetCounter().GetValue() == 1:
					named++
				}
			}
		}
		return all, named, other
	}
	allowed := &decision.Outcome{Decision: wire.Decision{Result: wire.Allow}}
	before, _, _ := series()
	for n := range 1000 {
		m.Decision(fmt.Sprintf("made.up.%d", n), allowed)
	}
	m.Decision(long, allowed)
	if all, named, other := series(); all != before || named != 0 || other != 1001 {
		t.Errorf("of made-up names %d series more, %d of them named, %v others", all-before, named, other)
	}
	var asking sync.WaitGroup
	for by := range 4 {
		asking.Go(func() {
			for n := range 250 {
				m.Decision(fmt.Sprintf("acme.%d", 4*n+by), allowed)
			}
			m.Asked("acme", time.Millisecond)
		})
	}
	asking.Wait()
	const ofPlugin = 1 // its histogram
	if all, named, other := series(); all != before+4*mostLearned+ofPlugin || named != mostLearned || other != 1001+1000-mostLearned {
		t.Errorf("of published names %d series more, %d of them named, %v others", all-before, named, other)
	}
}
