package opa

import (
	"sync/atomic"

	"github.com/open-policy-agent/opa/v1/metrics"
)

// OPA's names for what it counts of the chunks of the decision log.
const (
	chunksUploaded = "decision_logs_chunks_uploaded"
	chunksFailed   = "decision_logs_chunks_upload_failed"
)

// uploadCounters are OPA's counters of the decision log, which also note what came of the
// last upload. OPA tells that to its status plugin alone, which can be busy with a
// server that hangs. They are safe for concurrent use.
type uploadCounters struct {
	metrics.Metrics
	failed atomic.Bool // the last upload
}

// Counter implements OPA's [metrics.Metrics].
func (c *uploadCounters) Counter(name string) metrics.Counter {
	counter := c.Metrics.Counter(name)
	if name != chunksUploaded && name != chunksFailed {
		return counter
	}
	return uploadCounter{counter, &c.failed, name == chunksFailed}
}

// uploadCounter counts the uploads that failed, or those that did not.
type uploadCounter struct {
	metrics.Counter
	failed *atomic.Bool
	fails  bool
}

// Incr implements OPA's [metrics.Counter].
func (c uploadCounter) Incr() {
	c.Counter.Incr()
	c.failed.Store(c.fails)
}
