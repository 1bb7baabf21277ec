package opa

import (
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// However many different failures there are, they are as many series as codes. A scrape
// frees the memory of the texts.
func TestFailuresOfBundlesAreBounded(t *testing.T) {
	registry := prometheus.NewRegistry()
	r := &registerer{Registerer: registry}
	failed := prometheus.NewCounterVec(prometheus.CounterOpts{Name: failedLoads, Help: "Counter for the failed bundle load."},
		[]string{"name", "code", "message"})
	for range 2 { // OPA registers anew where its configuration changes
		if err := r.Register(failed); err != nil {
			t.Fatal(err)
		}
		for n := range 500 {
			failed.WithLabelValues("authz", fmt.Sprint("code", n%2), fmt.Sprint("failure ", n)).Add(2)
		}
		if !r.Unregister(failed) {
			t.Fatal("it is not unregistered")
		}
	}
	if err := r.Register(failed); err != nil {
		t.Fatal(err)
	}
	for range 2 { // a scrape takes nothing from the next
		if want := "code=code0 name=authz 1000, code=code1 name=authz 1000"; gathered(t, registry) != want {
			t.Errorf("%s; want %s", gathered(t, registry), want)
		}
	}
	if n := len(collected(failed)); n != 0 {
		t.Errorf("%d series are held after a scrape", n)
	}
}

// seldom tells a counter of two once it was counted.
type seldom struct{ first, second *prometheus.Desc }

func (s seldom) Describe(to chan<- *prometheus.Desc) { to <- s.first; to <- s.second }

func (s seldom) Collect(to chan<- prometheus.Metric) {
	to <- prometheus.MustNewConstMetric(s.second, prometheus.CounterValue, 7)
}

// What is lost first is an increase, since it is told from 0 on.
func TestLossesAreToldFrom0(t *testing.T) {
	registry := prometheus.NewRegistry()
	c := seldom{
		prometheus.NewDesc("decision_logs_a_total", "A.", nil, nil), prometheus.NewDesc("decision_logs_b_total", "B.", nil, nil),
	}
	r := &registerer{Registerer: registry}
	if err := r.Register(c); err != nil {
		t.Fatal(err)
	}
	if want := "0, 7"; gathered(t, registry) != want {
		t.Errorf("%s; want %s", gathered(t, registry), want)
	}
	if !r.Unregister(c) {
		t.Error("it is not unregistered")
	}
}

// gathered are the labels and values of all counters.
func gathered(t *testing.T, registry *prometheus.Registry) string {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			var text strings.Builder
			for _, label := range metric.GetLabel() {
				text.WriteString(label.GetName() + "=" + label.GetValue() + " ")
			}
			fmt.Fprint(&text, metric.GetCounter().GetValue())
			all = append(all, text.String())
		}
	}
	return strings.Join(all, ", ")
}
