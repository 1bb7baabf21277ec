//go:build deploy

package main

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stagedoor/stagedoor/adapter/fixture"
)

// TestFailuresOfBundlesMakeNoSeries brings the binary 1,000 bundles that fail, each for
// another reason, and finds no series afterwards that the first did not make.
func TestFailuresOfBundlesMakeNoSeries(t *testing.T) {
	const bundles, failures = 25, 1000
	var served atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := filepath.Base(r.URL.Path)
		_, _ = w.Write(fixture.Archive(t, fixture.Files{
			".manifest": fixture.Manifest("1", name),
			"p.rego":    fmt.Sprintf("package %s\n\np := nobody_knows_%d(1)\n", name, served.Add(1)),
		}))
	}))
	t.Cleanup(server.Close)
	var sources strings.Builder
	for n := range bundles {
		fmt.Fprintf(&sources, "b%d: {service: s, polling: {min_delay_seconds: 1, max_delay_seconds: 1}}, ", n)
	}
	s := newScene(t, "", fmt.Sprintf("opa: {services: {s: {url: %q}}, bundles: {%s}}", server.URL, sources.String()))
	s.up(t)
	failed := func() (series map[string]string, all float64) {
		series = s.once(t)
		for name, value := range series {
			if strings.HasPrefix(name, "bundle_failed_load_counter{") {
				n, err := strconv.ParseFloat(value, 64)
				must(t, err)
				all += n
			}
		}
		return series, all
	}
	await := func(n int64) {
		for begun := time.Now(); served.Load() < n; time.Sleep(50 * time.Millisecond) {
			if time.Since(begun) > 4*time.Minute {
				t.Fatalf("%d failures", served.Load())
			}
		}
	}
	await(4 * bundles)
	before, first := failed()
	// OPA takes a gauge away before it sets it again, so a scrape may miss some of it.
	// What several scrapes have is what the first failures made.
	for n := int64(5); n < 10; n++ {
		await(n * bundles)
		series, _ := failed()
		maps.Copy(before, series)
	}
	await(failures + bundles)
	after, all := failed()
	t.Logf("%d bundles failed; %d series before and %d after; the counter went from %.0f to %.0f",
		served.Load(), len(before), len(after), first, all)
	for name := range after {
		if _, had := before[name]; !had {
			t.Errorf("failures made the series %s", name)
		}
	}
	if all <= first {
		t.Error("failures were not counted")
	}
}
