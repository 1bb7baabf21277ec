package main

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// roomOfPolicy is how many bytes the heap may grow at least between two collections, for
// each policy that is loaded. A candidate beside the policy that serves makes a collection
// longer, and it is requests that pay for those: so there are fewer.
const roomOfPolicy = 10 << 20

// pace has Go collect when the heap has doubled and has grown at least by the room of so
// many policies, until ctx is done. Go left alone collects the heap of a small policy, of
// a few MB, at every few hundred requests. Where GOGC is set, that counts.
func pace(ctx context.Context, policies uint64) {
	if os.Getenv("GOGC") == "" {
		afterCollections(ctx, func() { repace(policies * roomOfPolicy) })
	}
}

// afterCollections calls f after each collection, until ctx is done.
func afterCollections(ctx context.Context, f func()) {
	runtime.AddCleanup(new([16]byte), func(struct{}) {
		if ctx.Err() == nil {
			f()
			afterCollections(ctx, f)
		}
	}, struct{}{})
}

// repace sets what the heap may grow by, in percent, to what fits what is live now.
func repace(room uint64) {
	sizes := []metrics.Sample{
		{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"},
	}
	metrics.Read(sizes)
	debug.SetGCPercent(growth(room, sizes[0].Value.Uint64(), sizes[1].Value.Uint64()+sizes[2].Value.Uint64()))
}

// growth is what the heap may grow by where so many bytes of it are live, in percent
// of them and of what is scanned outside it, as Go counts
// (https://go.dev/doc/gc-guide#GOGC). It is room at least.
func growth(room, live, outside uint64) int {
	const most = 300 // Go lets it grow to 4 MB of which this is the percent in any case
	return int(min(100*max(live, room)/max(live+outside, 1), most))
}
