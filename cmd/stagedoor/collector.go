package main

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// room is how many bytes the heap may grow at least between two collections.
const room = 10 << 20

// pace has Go collect when the heap has doubled and has grown by room at least, until
// ctx is done. Go left alone collects the heap of a small policy, of a few MB, at every
// few hundred requests. Where GOGC is set, that counts.
func pace(ctx context.Context) {
	if os.Getenv("GOGC") == "" {
		afterCollections(ctx, repace)
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
func repace() {
	sizes := []metrics.Sample{
		{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"},
	}
	metrics.Read(sizes)
	debug.SetGCPercent(growth(sizes[0].Value.Uint64(), sizes[1].Value.Uint64()+sizes[2].Value.Uint64()))
}

// growth is what the heap may grow by where so many bytes of it are live, in percent
// of them and of what is scanned outside it, as Go counts
// (https://go.dev/doc/gc-guide#GOGC).
func growth(live, outside uint64) int {
	const most = 300 // Go lets it grow to 4 MB of which this is the percent in any case
	return int(min(100*max(live, room)/max(live+outside, 1), most))
}
