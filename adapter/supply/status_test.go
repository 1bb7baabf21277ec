package supply_test

import (
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stagedoor/stagedoor/adapter/fixture"
	"github.com/stagedoor/stagedoor/adapter/supply"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// A policy is as old as the one of its bundles that was confirmed longest ago.
func TestMaxAge(t *testing.T) {
	s := fixture.NewServer(t)
	data := func(revision string) []byte {
		return fixture.Archive(t, fixture.Files{".manifest": fixture.Manifest(revision, "d"), "d/data.json": "{}"})
	}
	s.Put("authz", fixture.Archive(t, fixture.Allowing("1", "x")))
	s.Put("data", data("1"))
	var ahead atomic.Int64 // a time.Duration
	for name, denies := range map[string]bool{"serve": false, "fail": true} {
		t.Run(name, func(t *testing.T) {
			ahead.Store(0)
			e := fixture.New(t, fixture.Options{
				OPA: fixture.OPA(t, s, nil, "authz", "data"), MaxAge: time.Hour, DenyStale: denies,
				Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) },
			})
			e.MustFetch(t, "authz", "data")
			stale := func(want bool) {
				t.Helper()
				status := e.Status()
				if status.Ready == (want && denies) || (len(status.Degraded) == 1) != want {
					t.Errorf("ready %t, degraded %+v, confirmed %v", status.Ready, status.Degraded, status.Confirmed)
				}
				if want {
					fixture.Contains(t, string(status.Degraded[0].Part), "updates")
					fixture.Contains(t, status.Degraded[0].Reason, "the policy was last confirmed at ")
				}
				if want && denies {
					fixture.Contains(t, status.Waiting, "updates: the policy was last confirmed at ")
				}
				_, err := e.Engine.Decide(t.Context(), fixture.Ann(), []wire.Permission{fixture.Basic("x")})
				if errors.Is(err, supply.ErrStale) != (want && denies) {
					t.Errorf("error %v", err)
				}
				_, _, err = e.Engine.DecideDocument(t.Context(), map[string]any{})
				if errors.Is(err, supply.ErrStale) != (want && denies) {
					t.Errorf("of a document: error %v", err)
				}
			}
			stale(false)
			ahead.Store(int64(2 * time.Hour))
			stale(true)
			s.Put("authz", fixture.Archive(t, fixture.Allowing("2", "x")))
			e.MustFetch(t, "authz")
			stale(true)
			s.Put("data", data("2"))
			e.MustFetch(t, "data")
			stale(false)
			// A bundle that is refused confirms nothing.
			ahead.Store(int64(4 * time.Hour))
			s.Put("authz", fixture.Archive(t, fixture.Allowing("3", "x").With(fixture.Files{"b.rego": "package a\n\nx := nothing(1)\n"})))
			s.Put("data", data("3"))
			if err := e.Fetch(t, "authz"); err == nil {
				t.Error("taken in")
			}
			e.MustFetch(t, "data")
			stale(true)
			s.Put("authz", fixture.Archive(t, fixture.Allowing("4", "x")))
			e.MustFetch(t, "authz")
			stale(false)
			// One that the server says is the newest is, though it does not change.
			ahead.Store(0)
			e.MustFetch(t, "authz", "data")
			stale(false)
		})
	}
}

// A policy that waits for a further bundle ages, however often those are confirmed
// that came meanwhile and do not serve.
func TestMaxAgeWhileABundleIsAwaited(t *testing.T) {
	s := fixture.NewServer(t)
	s.Put("authz", fixture.Archive(t, fixture.Allowing("1", "x")))
	s.Put("discovery", discoveryConfig(t, s, "authz"))
	var ahead atomic.Int64 // a time.Duration
	o := discoverFrom(t, s)
	o.MaxAge, o.DenyStale, o.Now = time.Hour, true, func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	e := fixture.New(t, o)
	e.Discover(t)
	e.MustFetch(t, "authz")
	s.Put("discovery", discoveryConfig(t, s, "authz", "late"))
	e.Discover(t)
	s.Put("authz", fixture.Archive(t, fixture.Allowing("2", "y")))
	e.MustFetch(t, "authz")
	e.WantAnswer(t, "x", wire.Allow)
	ahead.Store(int64(2 * time.Hour))
	s.Put("authz", fixture.Archive(t, fixture.Allowing("3", "y")))
	e.MustFetch(t, "authz")
	if _, err := e.Engine.Decide(t.Context(), fixture.Ann(), []wire.Permission{fixture.Basic("x")}); !errors.Is(err, supply.ErrStale) || e.Status().Ready {
		t.Errorf("error %v, status %+v", err, e.Status())
	}
	s.Put("late", fixture.Archive(t, fixture.Files{".manifest": fixture.Manifest("1", "late"), "late/data.json": "{}"}))
	e.MustFetch(t, "late", "authz")
	e.WantAnswer(t, "y", wire.Allow)
}

// A restart renews nothing: what OPA had persisted was confirmed when it came.
func TestMaxAgeOutlivesARestart(t *testing.T) {
	for name, discovered := range map[string]bool{"configured": false, "discovered": true} {
		t.Run(name, func(t *testing.T) {
			s, dir := fixture.NewServer(t), t.TempDir()
			document := map[string]any{
				"services":              map[string]any{"s": map[string]any{"url": s.URL}},
				"persistence_directory": dir,
			}
			bundles := map[string]any{"authz": map[string]any{"service": "s", "resource": "authz", "persist": true, "trigger": "manual"}}
			if discovered {
				document["discovery"] = map[string]any{"resource": "discovery", "decision": "config", "trigger": "manual"}
				config := map[string]any{"config": map[string]any{"bundles": bundles}}
				s.Put("discovery", fixture.Archive(t, fixture.Files{"data.json": string(fixture.JSON(t, config))}))
			} else {
				document["bundles"] = bundles
			}
			var ahead atomic.Int64 // a time.Duration
			start := func() *fixture.House {
				e := fixture.New(t, fixture.Options{
					OPA: fixture.JSON(t, document), MaxAge: time.Hour, DenyStale: true,
					Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) },
				})
				if discovered {
					e.Discover(t)
				}
				return e
			}
			stale := func(e *fixture.House, want bool) {
				t.Helper()
				_, err := e.Engine.Decide(t.Context(), fixture.Ann(), []wire.Permission{fixture.Basic("x")})
				if errors.Is(err, supply.ErrStale) != want || !want && err != nil || e.Status().Ready == want {
					t.Errorf("error %v, status %+v", err, e.Status())
				}
				if late := e.Status().Awaited; len(late) != 0 {
					t.Errorf("awaited though it has arrived: %q", late)
				}
			}
			s.Put("authz", fixture.Archive(t, fixture.Allowing("1", "x")))
			first := start()
			first.MustFetch(t, "authz")
			stale(first, false)

			s.Put("authz", nil) // not found
			stale(start(), false)
			ahead.Store(int64(2 * time.Hour))
			e := start()
			stale(e, true)
			if err := e.Fetch(t, "authz"); err == nil {
				t.Error("there is none")
			}
			stale(e, true)
			s.Put("authz", fixture.Archive(t, fixture.Allowing("1", "x")))
			e.MustFetch(t, "authz")
			stale(e, false)

			// A file from the future is no newer than now.
			s.Put("authz", nil)
			file := filepath.Join(dir, "bundles", "authz", "bundle.tar.gz")
			fixture.Must(t, os.Chtimes(file, time.Time{}, time.Now().Add(1000*time.Hour)))
			e = start()
			stale(e, false)
			ahead.Add(int64(2 * time.Hour))
			stale(e, true)
		})
	}
}

// Reading a source on this machine confirms it, however old its fixture.Files are.
func TestLocalSourcesAreConfirmedByReading(t *testing.T) {
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "bundle.tar.gz")
	fixture.Write(t, dir, fixture.Allowing("1", "x"))
	fixture.Must(t, os.WriteFile(file, fixture.Archive(t, fixture.Allowing("1", "x")), 0o600))
	old := time.Now().Add(-1000 * time.Hour)
	for _, path := range []string{filepath.Join(dir, "a.rego"), filepath.Join(dir, ".manifest"), dir, file} {
		fixture.Must(t, os.Chtimes(path, old, old))
	}
	resource := map[string]any{"authz": map[string]any{"resource": "file://" + file, "trigger": "manual"}}
	for name, o := range map[string]fixture.Options{
		"directory": {Path: dir}, "archive": {Path: file},
		"resource": {OPA: fixture.JSON(t, map[string]any{"bundles": resource})},
	} {
		t.Run(name, func(t *testing.T) {
			o.MaxAge, o.DenyStale = time.Hour, true
			e := fixture.New(t, o)
			if o.Path == "" {
				e.MustFetch(t, "authz")
			}
			e.WantAnswer(t, "x", wire.Allow)
			if status := e.Status(); !status.Ready {
				t.Errorf("status %+v", status)
			}
		})
	}
}

func TestStatusTellsWhatFailed(t *testing.T) {
	s := fixture.NewServer(t)
	e := fixture.New(t, fixture.Options{OPA: fixture.OPA(t, s, nil, "authz")})
	if err := e.Fetch(t, "authz"); err == nil {
		t.Error("there is none")
	}
	fixture.Contains(t, e.Refusal("authz"), "Not Found")
	s.Put("authz", []byte("garbage"))
	if err := e.Fetch(t, "authz"); err == nil {
		t.Error("it is garbage")
	}
	fixture.Contains(t, e.Refusal("authz"), "archive read failed")
	s.Put("authz", fixture.Archive(t, fixture.Allowing("2", "x").With(fixture.Files{"b.rego": "package a\n\nx := nothing(1)\n"})))
	if err := e.Fetch(t, "authz"); err == nil {
		t.Error("it does not compile")
	}
	refused := e.Status().Refused
	if len(refused) != 1 || refused[0].Revision != "2" || refused[0].At.IsZero() {
		t.Errorf("refused %+v", refused)
	}
	fixture.Contains(t, refused[0].Reason, "/b.rego:3", "undefined function nothing")
	s.Close()
	if err := e.Fetch(t, "authz"); err == nil {
		t.Error("there is no server")
	}
	refused = e.Status().Refused
	if len(refused) != 1 || refused[0].Revision != "" {
		t.Errorf("refused %+v", refused)
	}
	fixture.Contains(t, refused[0].Reason, "connection refused")
}
