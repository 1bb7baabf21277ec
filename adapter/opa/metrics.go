package opa

import (
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// registerer is where OPA's status plugin registers its metrics. It puts two of them
// right. It is safe for concurrent use.
//
//   - A failed bundle makes a series for each text of an error, which OPA keeps for
//     ever. The label message is always empty here, and an empty label is none.
//   - What becomes of events of the decision log is not told before the first is lost.
//     So the first loss would show no increase. It is told from 0 on.
type registerer struct {
	prometheus.Registerer

	mu    sync.Mutex
	bound map[*prometheus.CounterVec]bool
}

// failedLoads is OPA's counter with the label message.
const failedLoads = "bundle_failed_load_counter"

func (r *registerer) Register(c prometheus.Collector) error {
	switch names := described(c); {
	case len(names) == 1 && names[0] == failedLoads:
		r.bind(c)
	case len(names) > 0 && strings.HasSuffix(names[0], "_total"):
		c = fromZero{c}
	}
	return r.Registerer.Register(c)
}

// bind empties the label message of whatever is counted from now on. OPA registers its
// collectors before it counts, and once more where its configuration changes.
func (r *registerer) bind(c prometheus.Collector) {
	vec, ok := c.(*prometheus.CounterVec)
	if !ok {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.bound[vec] {
		return
	}
	if r.bound == nil {
		r.bound = map[*prometheus.CounterVec]bool{}
	}
	r.bound[vec] = true
	vec.MetricVec = prometheus.V2.NewCounterVec(prometheus.CounterVecOpts{
		CounterOpts: prometheus.CounterOpts{Name: failedLoads, Help: "Counter for the failed bundle load."},
		VariableLabels: prometheus.ConstrainedLabels{
			{Name: "name"}, {Name: "code"}, {Name: "message", Constraint: func(string) string { return "" }},
		},
	}).MetricVec
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
	from := make(chan prometheus.Metric)
	go func() {
		z.Collector.Collect(from)
		close(from)
	}()
	told := map[*prometheus.Desc]bool{}
	for metric := range from {
		told[metric.Desc()] = true
		to <- metric
	}
	for _, desc := range descriptions(z.Collector) {
		if !told[desc] {
			to <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, 0)
		}
	}
}
