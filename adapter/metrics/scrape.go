package metrics

import (
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// Bounded is what there is to scrape, without the label that OPA fills with the text of
// an error: each new text would make a series. What differs in it alone is one series.
func Bounded(from prometheus.Gatherer) prometheus.Gatherer {
	return prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		families, err := from.Gather()
		for _, family := range families {
			if family.GetType() == dto.MetricType_COUNTER {
				family.Metric = withoutMessages(family.Metric)
			}
		}
		return families, err
	})
}

// withoutMessages adds up what differs in the label message alone.
func withoutMessages(metrics []*dto.Metric) []*dto.Metric {
	isMessage := func(l *dto.LabelPair) bool { return l.GetName() == "message" }
	if len(metrics) == 0 || !slices.ContainsFunc(metrics[0].GetLabel(), isMessage) {
		return metrics
	}
	sums, order := map[string]*dto.Metric{}, []*dto.Metric{}
	for _, m := range metrics {
		labels := slices.DeleteFunc(slices.Clone(m.GetLabel()), isMessage)
		var key strings.Builder
		for _, l := range labels {
			key.WriteString(l.GetName() + "\x00" + l.GetValue() + "\x00")
		}
		sum, known := sums[key.String()]
		if !known {
			sum = &dto.Metric{Label: labels, Counter: &dto.Counter{Value: new(float64)}}
			sums[key.String()] = sum
			order = append(order, sum)
		}
		*sum.Counter.Value += m.GetCounter().GetValue()
	}
	return order
}
