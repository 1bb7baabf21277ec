package policy

import (
	"errors"
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
