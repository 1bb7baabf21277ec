package audit

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/plugins/logs"
	"github.com/open-policy-agent/opa/v1/server"

	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/opa"
)

const (
	// So many bytes may wait to be written, before they are in OPA's buffer.
	queueBytes = 32 << 20
	// What a record, an item of it and an event cost, roughly, besides their texts.
	recordOverhead = 512
	itemOverhead   = 384
	eventOverhead  = 7 << 9
	// A byte is so many at most as JSON: \u003c.
	jsonFactor = 6
	// By this part of the limit an event may grow by what masks do: they are applied
	// after it was measured.
	maskPart = 16
)

var errNoRoom = errors.New("too much waits for the receiver of the decision log")

// backlog bounds by its size what waits for the receiver of the decision log: the
// counts that OPA and the queue go by say little, where one name may have a
// megabyte. It is safe for concurrent use.
type backlog struct {
	queued atomic.Int64 // bytes of the records that wait to be written

	mutex   sync.Mutex
	coming  int64 // bytes of events that are just given to OPA
	given   int64 // bytes of all that it was ever given
	gone    int64 // how many of these it is known to hold no more
	largest int64 // size of the largest event that it may hold
}

// enqueue counts a record that is to wait, unless there is no room for it.
func (b *backlog) enqueue(bytes int64) error {
	if b.queued.Add(bytes) > queueBytes {
		b.written(bytes)
		return errNoRoom
	}
	return nil
}

// written takes a record off again.
func (b *backlog) written(bytes int64) { b.queued.Add(-bytes) }

// buffered is how much OPA's buffer holds at most.
func (b *backlog) buffered(log *logs.Plugin) int64 {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.inBuffer(log)
}

// inBuffer goes by the number of items in OPA's buffer, which are events, or chunks
// of compressed events that could not be sent. What the buffer that counts bytes
// holds is compressed, and bounded by itself.
func (b *backlog) inBuffer(log *logs.Plugin) int64 {
	kind, items := log.BufferSize()
	if kind != "event" || items == 0 {
		b.gone = b.given
		if b.coming == 0 {
			b.largest = 0
		}
		return b.coming
	}
	return b.coming + min(b.given-b.gone, items*max(b.largest, *log.Config().Reporting.UploadSizeLimitBytes))
}

// hold counts events that are to be given to OPA, the largest of that size, unless
// there is no room for them.
func (b *backlog) hold(log *logs.Plugin, bytes, largest int64) error {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	if b.inBuffer(log)+bytes > opa.BufferBytes {
		return errNoRoom
	}
	b.coming += bytes
	b.largest = max(b.largest, largest)
	return nil
}

// hand says that OPA was given what was held.
func (b *backlog) hand(bytes int64) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	b.coming -= bytes
	b.given += bytes
}

// mark returns what OPA was ever given, for sent.
func (b *backlog) mark() int64 {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.given
}

// sent says that OPA has sent everything that it had been given at the mark.
func (b *backlog) sent(mark int64) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	b.gone = max(b.gone, mark)
}

// size is about how much memory the record takes while it waits. Outcomes that are
// remembered are not its own.
func (r *Record) size() int64 {
	n := recordOverhead + itemOverhead*len(r.Permissions) + len(r.RequestID) + len(r.TraceID) + textSize(r.Caller.Claims)
	for _, p := range r.Permissions {
		n += len(p.Name) + len(p.Action) + len(p.ResourceType)
	}
	for _, a := range r.Answers {
		n += textSize(a.Refs) + len(a.Results) + len(a.FinalList)
	}
	var last *decision.Outcome
	for _, o := range r.Batch.Outcomes {
		if o != last && !o.Remembered {
			n += o.Size()
		}
		last = o
	}
	if r.Batch.Input != nil {
		ast.WalkTerms(ast.NewTerm(r.Batch.Input), func(t *ast.Term) bool {
			s, _ := t.Value.(ast.String)
			n += nodeSize + len(s)
			return false
		})
	}
	return int64(n)
}

func textSize(texts []string) int {
	n := 0
	for _, text := range texts {
		n += 16 + len(text)
	}
	return n
}

// eventSize is about how much memory the event takes in OPA's buffer, and at least
// a sixth of its JSON, labels aside.
func eventSize(info *server.Info) int64 {
	n := eventOverhead + len(info.Path) + len(info.TraceID) + documentSize(info.Custom)
	for _, document := range []*any{info.Input, info.Results, info.MappedResults} {
		if document != nil {
			n += documentSize(*document)
		}
	}
	for _, labels := range info.EvaluatedRuleLabels {
		n += documentSize(labels)
	}
	for name, b := range info.Bundles {
		n += nodeSize + len(name) + len(b.Revision)
	}
	return int64(n)
}

// nodeSize is about what a value of a document costs besides its text.
const nodeSize = 32

// documentSize is about how much memory a decoded JSON document takes.
func documentSize(document any) int {
	n := nodeSize
	switch v := document.(type) {
	case string:
		n += len(v)
	case json.Number:
		n += len(v)
	case map[string]any:
		for key, value := range v {
			n += nodeSize + len(key) + documentSize(value)
		}
	case []any:
		for _, value := range v {
			n += documentSize(value)
		}
	case []string:
		for _, text := range v {
			n += nodeSize + len(text)
		}
	}
	return n
}

// fits is nil where OPA can send the event, compressed, as a chunk of its own. One
// that it cannot send it drops; and from then on, until it is started anew, every
// other that is as large as JSON, however well that one compresses. So none such
// may get there. Only what is large is looked at that closely.
func (a *Log) fits(log *logs.Plugin, info *server.Info, size int64) error {
	if log.Config().Service == "" {
		return nil
	}
	labels := a.manager.Labels()
	for name, value := range labels {
		size += int64(nodeSize + len(name) + len(value))
	}
	configured := *log.Config().Reporting.UploadSizeLimitBytes
	limit := configured - configured/maskPart
	if size*jsonFactor <= limit {
		return nil
	}
	text, err := json.Marshal(loggedAs(info, labels))
	if err != nil {
		return err
	}
	if int64(len(text)) <= limit {
		return nil
	}
	if n := compressedSize(text); n > limit {
		return fmt.Errorf("an event of %d bytes, which are %d compressed, %w of %d", len(text), n, errTooLarge, configured)
	}
	return nil
}

// loggedAs is the event that OPA makes of what it is given, masks aside.
func loggedAs(info *server.Info, labels map[string]string) *logs.EventV1 {
	bundles := make(map[string]logs.BundleInfoV1, len(info.Bundles))
	for name, b := range info.Bundles {
		bundles[name] = logs.BundleInfoV1{Revision: b.Revision}
	}
	return &logs.EventV1{
		Labels: labels, DecisionID: info.DecisionID, BatchDecisionID: info.BatchDecisionID, TraceID: info.TraceID,
		Bundles: bundles, Path: info.Path, Input: info.Input, Result: info.Results, MappedResult: info.MappedResults,
		Timestamp: info.Timestamp, RuleLabels: info.EvaluatedRuleLabels, Custom: info.Custom,
	}
}

// compressedSize is the size of a chunk with that event alone, as OPA makes it.
func compressedSize(event []byte) int64 {
	var n counter
	zip := gzip.NewWriter(&n)
	for _, part := range [][]byte{[]byte("["), event, []byte("]")} {
		_, _ = zip.Write(part) // a counter takes everything
	}
	_ = zip.Close()
	return int64(n)
}

// counter counts what is written to it.
type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// errTooLarge is an event that no upload has room for. It says nothing of the receiver.
var errTooLarge = errors.New("is too large for opa.decision_logs.reporting.upload_size_limit_bytes")
