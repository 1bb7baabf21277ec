package tracing

import (
	"context"
	"sync"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// A burst is of so many spans at most, and its first has waited for so long at most.
const (
	burstSpans = 64
	burstWait  = time.Second
)

// bursts hands ended spans to the SDK's batcher many at a time. The batcher wakes for each
// span that it gets, and to wake a processor costs more than the span does.
type bursts struct {
	sdktrace.SpanProcessor
	mu    sync.Mutex
	held  []sdktrace.ReadOnlySpan
	most  int // spans in a burst
	wait  time.Duration
	timer *time.Timer // running while spans are held
}

// newBursts returns a processor that hands spans to next, a batcher whose queue has room for
// so many spans and which sends them after the time-out. Both are 0 where they are the SDK's.
func newBursts(next sdktrace.SpanProcessor, queue int, timeout time.Duration) *bursts {
	b := &bursts{SpanProcessor: next, most: burstSpans, wait: burstWait}
	if queue > 0 {
		b.most = min(b.most, max(1, queue/2))
	}
	if timeout > 0 {
		b.wait = min(b.wait, timeout)
	}
	b.timer = time.AfterFunc(b.wait, b.handOver)
	b.timer.Stop()
	return b
}

// OnEnd implements [sdktrace.SpanProcessor].
func (b *bursts) OnEnd(span sdktrace.ReadOnlySpan) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held = append(b.held, span)
	if len(b.held) >= b.most {
		b.flush()
	} else if len(b.held) == 1 {
		b.timer.Reset(b.wait)
	}
}

func (b *bursts) handOver() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.flush()
}

// flush hands over what is held. The lock is held.
func (b *bursts) flush() {
	b.timer.Stop()
	for _, span := range b.held {
		b.SpanProcessor.OnEnd(span)
	}
	clear(b.held)
	b.held = b.held[:0]
}

// Shutdown implements [sdktrace.SpanProcessor].
func (b *bursts) Shutdown(ctx context.Context) error {
	b.handOver()
	return b.SpanProcessor.Shutdown(ctx)
}

// ForceFlush implements [sdktrace.SpanProcessor].
func (b *bursts) ForceFlush(ctx context.Context) error {
	b.handOver()
	return b.SpanProcessor.ForceFlush(ctx)
}
