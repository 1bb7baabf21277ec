package main

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
	"testing"
	"time"
)

func TestGrowth(t *testing.T) {
	const mb = 1 << 20
	for _, test := range []struct {
		room, live, outside uint64
		want                int
	}{
		{10 * mb, 0, 0, 300},
		{10 * mb, 1 * mb, 1 * mb, 300},
		{10 * mb, 4 * mb, 1 * mb, 200},
		{10 * mb, 10 * mb, 0, 100},
		{10 * mb, 16 * mb, 4 * mb, 80},
		{10 * mb, 500 * mb, 4 * mb, 99},
		{10 * mb, 1 << 40, 0, 100},
		{20 * mb, 4 * mb, 1 * mb, 300},
		{20 * mb, 10 * mb, 0, 200},
		{20 * mb, 16 * mb, 4 * mb, 100},
	} {
		if got := growth(test.room, test.live, test.outside); got != test.want {
			t.Errorf("room for %d MB, %d MB live and %d outside: %d %%, want %d",
				test.room/mb, test.live/mb, test.outside/mb, got, test.want)
		}
	}
}

// TestPace holds what the heap may grow by to what is live, both ways.
func TestPace(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	t.Setenv("GOGC", "")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	pace(ctx, 1)
	small := func(percent int) bool { return percent > 110 }
	paced(t, small)
	large := make([]byte, 300<<20)
	paced(t, func(percent int) bool { return 90 < percent && percent < 100 })
	runtime.KeepAlive(large)
	paced(t, small)
}

// TestPaceLeavesGOGC has an operator who knows better.
func TestPaceLeavesGOGC(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(77))
	t.Setenv("GOGC", "77")
	pace(t.Context(), 1)
	for range 3 {
		runtime.GC()
	}
	if percent := gcPercent(); percent != 77 {
		t.Errorf("got %d", percent)
	}
}

// TestServePaces starts a server.
func TestServePaces(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(7))
	t.Setenv("GOGC", "")
	ctx, stop := context.WithCancel(t.Context())
	lines, ended := startDev(ctx, t)
	paced(t, func(percent int) bool { return percent > 7 })
	stop()
	for range lines { // what it prints
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func gcPercent() int {
	sample := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(sample)
	return int(sample[0].Value.Uint64())
}

// paced collects until it is so.
func paced(t *testing.T, ok func(percent int) bool) {
	t.Helper()
	for begun := time.Now(); !ok(gcPercent()); time.Sleep(time.Millisecond) {
		if time.Since(begun) > patience {
			t.Fatalf("the heap may grow by %d %%", gcPercent())
		}
		runtime.GC()
	}
}

func TestAfterCollections(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	var calls atomic.Int64
	afterCollections(ctx, func() { calls.Add(1) })
	for begun := time.Now(); calls.Load() < 5; time.Sleep(time.Millisecond) {
		if time.Since(begun) > patience {
			t.Fatalf("%d calls", calls.Load())
		}
		runtime.GC()
	}
	stop()
	before := calls.Load()
	for range 5 {
		runtime.GC()
		time.Sleep(time.Millisecond)
	}
	if after := calls.Load(); after > before+1 { // the one that was under way
		t.Errorf("%d calls after its end", after-before)
	}
}
