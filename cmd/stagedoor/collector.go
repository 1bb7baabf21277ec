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

// pace has Go collect when the heap has grown by room, or by what is live less room,
// whichever is more, until ctx is done. Left alone, Go collects when the heap has
// doubled: of a small policy at every few hundred requests, and of many users with
// twice the memory that they take. A large policy does not notice. Where GOGC is set,
// that counts.
func pace(ctx context.Context) {
	runtime.MemProfileRate = 0 // nothing reads the profile, and it takes a megabyte
	if os.Getenv("GOGC") == "" {
		percent := 100 // Go's own
		afterCollections(ctx, func() { percent = repace(percent) })
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

// repace sets what the heap may grow by, in percent, to what fits what is live now,
// unless that is about what it was before. It returns what it is.
func repace(before int) int {
	sizes := []metrics.Sample{
		{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"},
	}
	metrics.Read(sizes)
	percent := growth(sizes[0].Value.Uint64(), sizes[1].Value.Uint64()+sizes[2].Value.Uint64())
	if percent-before < 10 && before-percent < 10 {
		return before // setting it stops the world
	}
	debug.SetGCPercent(percent)
	return percent
}

// growth is what the heap may grow by where so many bytes of it are live, in percent
// of them and of what is scanned outside it, as Go counts
// (https://go.dev/doc/gc-guide#GOGC).
func growth(live, outside uint64) int {
	const most = 300 // Go lets it grow to 4 MB of which this is the percent in any case
	return int(min(100*(max(live, 2*room)-room)/max(live+outside, 1), most))
}
