package audit

import "github.com/open-policy-agent/opa/v1/plugins/logs"

// What tests have to know.
const (
	QueueBytes = queueBytes
	UploadRest = uploadRest
)

// ErrNoRoom is why a record is refused that finds no room.
var ErrNoRoom = errNoRoom

// Lost is how many events were lost.
func (a *Log) Lost() uint64 { return a.lost() }

// Waits is how much waits to be written and in OPA's buffer.
func (a *Log) Waits() (queued, buffered int64) {
	return a.backlog.queued.Load(), a.backlog.buffered(logs.Lookup(a.manager.Manager))
}

// Queued is how many records wait to be written.
func (a *Log) Queued() int { return len(a.queue) }
