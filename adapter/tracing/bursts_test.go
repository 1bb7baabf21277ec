package tracing

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// counter is a batcher that counts the spans it was given.
type counter struct {
	sdktrace.SpanProcessor
	spans int
}

func (c *counter) OnEnd(sdktrace.ReadOnlySpan)      { c.spans++ }
func (c *counter) Shutdown(context.Context) error   { return nil }
func (c *counter) ForceFlush(context.Context) error { return nil }

// TestBursts ends so many spans and waits for so long.
func TestBursts(t *testing.T) {
	for name, test := range map[string]struct {
		queue   int
		timeout time.Duration
		ended   int
		wait    time.Duration
		want    int
	}{
		"few wait":                        {0, 0, 3, burstWait - 1, 0},
		"and are handed over in time":     {0, 0, 3, burstWait + 1, 3},
		"many do not":                     {0, 0, burstSpans, 0, burstSpans},
		"what is left waits":              {0, 0, burstSpans + 1, 0, burstSpans},
		"a small queue is not run over":   {16, 0, 9, 0, 8},
		"a queue of one":                  {1, 0, 2, 0, 2},
		"a short time-out of the batcher": {0, 10 * time.Millisecond, 3, 11 * time.Millisecond, 3},
		"a long one":                      {0, time.Hour, 3, burstWait + 1, 3},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var got counter
				b := newBursts(&got, test.queue, test.timeout)
				for range test.ended {
					b.OnEnd(nil)
				}
				time.Sleep(test.wait)
				synctest.Wait()
				b.mu.Lock()
				if got.spans != test.want {
					t.Errorf("%d of %d spans were handed over, want %d", got.spans, test.ended, test.want)
				}
				b.mu.Unlock()
				if err := b.Shutdown(t.Context()); err != nil || got.spans != test.ended {
					t.Errorf("%d of %d spans were handed over in the end: %v", got.spans, test.ended, err)
				}
			})
		})
	}
}
