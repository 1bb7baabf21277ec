package opa

import (
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// registerer is where OPA's status plugin registers its metrics. It puts two of them
// right. It is safe for concurrent use.
//
//   - A failed bundle makes a series for each text of an error, which OPA keeps for
//     ever. Here it is told without the text, and a scrape forgets the texts.
//   - What becomes of events of the decision log is not told before the first is lost.
//     So the first loss would show no increase. It is told from 0 on.
type registerer struct {
	prometheus.Registerer

	mu       sync.Mutex
	failures map[*prometheus.CounterVec]*failures
}

// failedLoads is OPA's counter with the label message.
const failedLoads = "bundle_failed_load_counter"

func (r *registerer) Register(c prometheus.Collector) error {
	switch names := described(c); {
	case len(names) == 1 && names[0] == failedLoads:
		if vec, ok := c.(*prometheus.CounterVec); ok {
			c = r.failuresOf(vec)
		}
	case len(names) > 0 && strings.HasSuffix(names[0], "_total"):
		c = fromZero{c}
	}
	return r.Registerer.Register(c)
}

// failuresOf is the same for the same counter: OPA registers its collectors once more
// where its configuration changes.
func (r *registerer) failuresOf(vec *prometheus.CounterVec) *failures {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.failures[vec]
	if f == nil {
		f = &failures{vec: vec, seen: map[failure]float64{}}
		if r.failures == nil {
			r.failures = map[*prometheus.CounterVec]*failures{}
		}
		r.failures[vec] = f
	}
	return f
}

// failures tells OPA's counter of failed bundles by bundle and code. OPA counts while it
// registers, so its counter is left as it is. Each scrape takes the series away and keeps
// their sums.
type failures struct {
	vec *prometheus.CounterVec

	mu   sync.Mutex
	seen map[failure]float64
}

type failure struct{ bundle, code string }

func (f *failures) desc() *prometheus.Desc {
	return prometheus.NewDesc(failedLoads, "Counter for the failed bundle load.", []string{"name", "code"}, nil)
}

// Describe implements [prometheus.Collector].
func (f *failures) Describe(to chan<- *prometheus.Desc) { to <- f.desc() }

// Collect implements [prometheus.Collector].
func (f *failures) Collect(to chan<- prometheus.Metric) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, metric := range collected(f.vec) {
		var told dto.Metric
		if metric.Write(&told) != nil {
			continue
		}
		labels := prometheus.Labels{}
		for _, label := range told.GetLabel() {
			labels[label.GetName()] = label.GetValue()
		}
		f.vec.Delete(labels)
		// It is read once more: what was counted before it was taken away is in it.
		if metric.Write(&told) == nil {
			f.seen[failure{labels["name"], labels["code"]}] += told.GetCounter().GetValue()
		}
	}
	for of, n := range f.seen {
		to <- prometheus.MustNewConstMetric(f.desc(), prometheus.CounterValue, n, of.bundle, of.code)
	}
}

// described are the names of what a collector collects.
func described(c prometheus.Collector) []string {
	var names []string
	for _, desc := range descriptions(c) {
		_, name, _ := strings.Cut(desc.String(), `fqName: "`)
		name, _, _ = strings.Cut(name, `"`)
		names = append(names, name)
	}
	return names
}

func descriptions(c prometheus.Collector) []*prometheus.Desc {
	from := make(chan *prometheus.Desc)
	go func() {
		c.Describe(from)
		close(from)
	}()
	var all []*prometheus.Desc
	for desc := range from {
		all = append(all, desc)
	}
	return all
}

// fromZero tells 0 for each counter of a collector that the collector does not tell.
type fromZero struct{ prometheus.Collector }

// Collect implements [prometheus.Collector].
func (z fromZero) Collect(to chan<- prometheus.Metric) {
	told := map[*prometheus.Desc]bool{}
	for _, metric := range collected(z.Collector) {
		told[metric.Desc()] = true
		to <- metric
	}
	for _, desc := range descriptions(z.Collector) {
		if !told[desc] {
			to <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, 0)
		}
	}
}

// collected are the metrics of a collector.
func collected(c prometheus.Collector) []prometheus.Metric {
	from := make(chan prometheus.Metric)
	go func() {
		c.Collect(from)
		close(from)
	}()
	var all []prometheus.Metric
	for metric := range from {
		all = append(all, metric)
	}
	return all
}
