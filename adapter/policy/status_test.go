package policy

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stagedoor/stagedoor/adapter/wire"
)

// A policy is as old as the one of its bundles that was confirmed longest ago.
func TestMaxAge(t *testing.T) {
	s := newBundleServer(t)
	data := func(revision string) []byte {
		return archive(t, files{".manifest": manifest(revision, "d"), "d/data.json": "{}"})
	}
	s.put("authz", archive(t, allowing("1", "x")))
	s.put("data", data("1"))
	var ahead time.Duration
	for name, denies := range map[string]bool{"serve": false, "fail": true} {
		t.Run(name, func(t *testing.T) {
			ahead = 0
			e := newEngine(t, Options{
				OPA: opaFor(t, s, nil, "authz", "data"), MaxAge: time.Hour, DenyStale: denies,
				Now: func() time.Time { return time.Now().Add(ahead) },
			})
			e.mustFetch(t, "authz", "data")
			stale := func(want bool) {
				t.Helper()
				status := e.Status()
				if status.Ready == want {
					t.Errorf("ready %t, waiting for %q, confirmed %v", status.Ready, status.Waiting, status.Confirmed)
				}
				if want {
					mustContain(t, status.Waiting, "updates: the policy was last confirmed at ")
				}
				_, err := e.Decide(t.Context(), ann, []wire.Permission{basic("x")})
				if errors.Is(err, ErrStale) != (want && denies) {
					t.Errorf("error %v", err)
				}
				_, _, err = e.DecideDocument(t.Context(), map[string]any{})
				if errors.Is(err, ErrStale) != (want && denies) {
					t.Errorf("of a document: error %v", err)
				}
			}
			stale(false)
			ahead = 2 * time.Hour
			stale(true)
			s.put("authz", archive(t, allowing("2", "x")))
			e.mustFetch(t, "authz")
			stale(true)
			s.put("data", data("2"))
			e.mustFetch(t, "data")
			stale(false)
			// A bundle that is refused confirms nothing.
			ahead = 4 * time.Hour
			s.put("authz", archive(t, allowing("3", "x").with(files{"b.rego": "package a\n\nx := nothing(1)\n"})))
			s.put("data", data("3"))
			if err := e.fetch(t, "authz"); err == nil {
				t.Error("taken in")
			}
			e.mustFetch(t, "data")
			stale(true)
			s.put("authz", archive(t, allowing("4", "x")))
			e.mustFetch(t, "authz")
			stale(false)
			// One that the server says is the newest is, though it does not change.
			ahead = 0
			e.mustFetch(t, "authz", "data")
			stale(false)
		})
	}
}

// A policy that waits for a further bundle ages, however often those are confirmed
// that came meanwhile and do not serve.
func TestMaxAgeWhileABundleIsAwaited(t *testing.T) {
	s := newBundleServer(t)
	s.put("authz", archive(t, allowing("1", "x")))
	s.put("discovery", discoveryConfig(t, s, "authz"))
	var ahead time.Duration
	o := discoverFrom(t, s)
	o.MaxAge, o.DenyStale, o.Now = time.Hour, true, func() time.Time { return time.Now().Add(ahead) }
	e := newEngine(t, o)
	e.discover(t)
	e.mustFetch(t, "authz")
	s.put("discovery", discoveryConfig(t, s, "authz", "late"))
	e.discover(t)
	s.put("authz", archive(t, allowing("2", "y")))
	e.mustFetch(t, "authz")
	e.wantAnswer(t, "x", wire.Allow)
	ahead = 2 * time.Hour
	s.put("authz", archive(t, allowing("3", "y")))
	e.mustFetch(t, "authz")
	if _, err := e.Decide(t.Context(), ann, []wire.Permission{basic("x")}); !errors.Is(err, ErrStale) || e.Status().Ready {
		t.Errorf("error %v, status %+v", err, e.Status())
	}
	s.put("late", archive(t, files{".manifest": manifest("1", "late"), "late/data.json": "{}"}))
	e.mustFetch(t, "late", "authz")
	e.wantAnswer(t, "y", wire.Allow)
}

// A restart renews nothing: what OPA had persisted was confirmed when it came.
func TestMaxAgeOutlivesARestart(t *testing.T) {
	for name, discovered := range map[string]bool{"configured": false, "discovered": true} {
		t.Run(name, func(t *testing.T) {
			s, dir := newBundleServer(t), t.TempDir()
			document := map[string]any{
				"services":              map[string]any{"s": map[string]any{"url": s.URL}},
				"persistence_directory": dir,
			}
			bundles := map[string]any{"authz": map[string]any{"service": "s", "resource": "authz", "persist": true, "trigger": "manual"}}
			if discovered {
				document["discovery"] = map[string]any{"resource": "discovery", "decision": "config", "trigger": "manual"}
				config := map[string]any{"config": map[string]any{"bundles": bundles}}
				s.put("discovery", archive(t, files{"data.json": string(toJSON(t, config))}))
			} else {
				document["bundles"] = bundles
			}
			var ahead time.Duration
			start := func() *Engine {
				e := newEngine(t, Options{
					OPA: toJSON(t, document), MaxAge: time.Hour, DenyStale: true,
					Now: func() time.Time { return time.Now().Add(ahead) },
				})
				if discovered {
					e.discover(t)
				}
				return e
			}
			stale := func(e *Engine, want bool) {
				t.Helper()
				_, err := e.Decide(t.Context(), ann, []wire.Permission{basic("x")})
				if errors.Is(err, ErrStale) != want || !want && err != nil || e.Status().Ready == want {
					t.Errorf("error %v, status %+v", err, e.Status())
				}
				if late := e.Status().Awaited; len(late) != 0 {
					t.Errorf("awaited though it has arrived: %q", late)
				}
			}
			s.put("authz", archive(t, allowing("1", "x")))
			first := start()
			first.mustFetch(t, "authz")
			stale(first, false)

			s.put("authz", nil) // not found
			stale(start(), false)
			ahead = 2 * time.Hour
			e := start()
			stale(e, true)
			if err := e.fetch(t, "authz"); err == nil {
				t.Error("there is none")
			}
			stale(e, true)
			s.put("authz", archive(t, allowing("1", "x")))
			e.mustFetch(t, "authz")
			stale(e, false)

			// A file from the future is no newer than now.
			s.put("authz", nil)
			file := filepath.Join(dir, "bundles", "authz", "bundle.tar.gz")
			mustDo(t, os.Chtimes(file, time.Time{}, time.Now().Add(1000*time.Hour)))
			e = start()
			stale(e, false)
			ahead += 2 * time.Hour
			stale(e, true)
		})
	}
}

// Reading a source on this machine confirms it, however old its files are.
func TestLocalSourcesAreConfirmedByReading(t *testing.T) {
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "bundle.tar.gz")
	writeFiles(t, dir, allowing("1", "x"))
	mustDo(t, os.WriteFile(file, archive(t, allowing("1", "x")), 0o600))
	old := time.Now().Add(-1000 * time.Hour)
	for _, path := range []string{filepath.Join(dir, "a.rego"), filepath.Join(dir, ".manifest"), dir, file} {
		mustDo(t, os.Chtimes(path, old, old))
	}
	resource := map[string]any{"authz": map[string]any{"resource": "file://" + file, "trigger": "manual"}}
	for name, o := range map[string]Options{
		"directory": {Path: dir}, "archive": {Path: file},
		"resource": {OPA: toJSON(t, map[string]any{"bundles": resource})},
	} {
		t.Run(name, func(t *testing.T) {
			o.MaxAge, o.DenyStale = time.Hour, true
			e := newEngine(t, o)
			if o.Path == "" {
				e.mustFetch(t, "authz")
			}
			e.wantAnswer(t, "x", wire.Allow)
			if status := e.Status(); !status.Ready {
				t.Errorf("status %+v", status)
			}
		})
	}
}

func TestStatusTellsWhatFailed(t *testing.T) {
	s := newBundleServer(t)
	e := newEngine(t, Options{OPA: opaFor(t, s, nil, "authz")})
	if err := e.fetch(t, "authz"); err == nil {
		t.Error("there is none")
	}
	mustContain(t, e.Status().refusal("authz"), "Not Found")
	s.put("authz", []byte("garbage"))
	if err := e.fetch(t, "authz"); err == nil {
		t.Error("it is garbage")
	}
	mustContain(t, e.Status().refusal("authz"), "archive read failed")
	s.put("authz", archive(t, allowing("2", "x").with(files{"b.rego": "package a\n\nx := nothing(1)\n"})))
	if err := e.fetch(t, "authz"); err == nil {
		t.Error("it does not compile")
	}
	refused := e.Status().Refused
	if len(refused) != 1 || refused[0].Revision != "2" || refused[0].At.IsZero() {
		t.Errorf("refused %+v", refused)
	}
	mustContain(t, refused[0].Reason, "/b.rego:3", "undefined function nothing")
	s.Close()
	if err := e.fetch(t, "authz"); err == nil {
		t.Error("there is no server")
	}
	refused = e.Status().Refused
	if len(refused) != 1 || refused[0].Revision != "" {
		t.Errorf("refused %+v", refused)
	}
	mustContain(t, refused[0].Reason, "connection refused")
}
