package metrics

import (
	"fmt"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// However many different failures there are, they are as many series as codes.
func TestFailuresOfBundlesAreBounded(t *testing.T) {
	registry := prometheus.NewRegistry()
	failed := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "bundle_failed_load_counter"}, []string{"name", "code", "message"})
	plain := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "plain"}, []string{"name"})
	registry.MustRegister(failed, plain)
	plain.WithLabelValues("authz").Inc()
	for n := range 1000 {
		failed.WithLabelValues("authz", fmt.Sprint("code", n%2), fmt.Sprint("failure ", n)).Add(2)
	}
	families, err := Bounded(registry).Gather()
	if err != nil || len(families) != 2 {
		t.Fatalf("%v, %v", families, err)
	}
	if got := families[0].GetMetric(); len(got) != 2 || got[0].GetCounter().GetValue() != 1000 || len(got[0].GetLabel()) != 2 {
		t.Errorf("%v", got)
	}
	if got := families[1].GetMetric(); len(got) != 1 || got[0].GetCounter().GetValue() != 1 {
		t.Errorf("%v", got)
	}
}
