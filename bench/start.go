//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// alone is what a stagedoor with the default bundle is asked, where there are no
// neighbours to compare it with.
var alone = scenario{
	name: "one",
	items: items(1, func(int) item {
		return item{Permission: permission{
			Type: "basic", Name: "catalog.location.read", Attributes: map[string]string{"action": "read"},
		}}
	}),
	results: map[string]int{"ALLOW": 1},
}

// buildAlone builds stagedoor and starts a Backstage for it.
func (b *bench) buildAlone(ctx context.Context) (binary, backstage string, err error) {
	if binary, err = b.build(ctx, b.root, "stagedoor", "./cmd/stagedoor"); err != nil {
		return "", "", err
	}
	backstage, err = b.startBackstage()
	return binary, backstage, err
}

// startToReady measures how long stagedoor takes from exec until /ready says so,
// with the default bundle.
func startToReady(ctx context.Context, b *bench) error {
	const starts = 21
	binary, backstage, err := b.buildAlone(ctx)
	if err != nil {
		return err
	}
	m := newMachine(ctx, b)
	var all []time.Duration
	for range starts {
		begin, before := time.Now(), len(b.stop)
		if _, err := b.startStagedoor(ctx, nameStagedoor, binary, backstage, ""); err != nil {
			return err
		}
		all = append(all, time.Since(begin))
		b.unwind(before)
	}
	slices.Sort(all)
	text := fmt.Sprintf("%s\n\nFrom start to ready, default bundle, %d starts: median %d ms, fastest %d ms, slowest %d ms (want ≤ 150).\n",
		m, starts, all[starts/2].Milliseconds(), all[0].Milliseconds(), all[starts-1].Milliseconds())
	return b.publish("start", text, map[string]any{"machine": m, "starts_ns": all})
}

// mark is how a soak stood after so many requests.
type mark struct {
	Requests   int     `json:"requests"`
	RSS        int64   `json:"rss_bytes"`
	Peak       int64   `json:"peak_bytes"`
	Throughput float64 `json:"requests_per_second"`
}

// soak sends many requests over 64 connections to a stagedoor with the default
// bundle, anew for each number of users, and watches its memory.
func soak(ctx context.Context, b *bench) error {
	binary, backstage, err := b.buildAlone(ctx)
	if err != nil {
		return err
	}
	m := newMachine(ctx, b)
	var text strings.Builder
	fmt.Fprintf(&text, "%s\n\nResident memory under `one`, %d connections, default bundle (want ≤ 60 MB, and flat).\n\n"+
		"| users | requests | RSS MB | peak MB | requests/s |\n| ---: | ---: | ---: | ---: | ---: |\n", m, soakConnections)
	found := map[int][]mark{}
	for _, users := range b.users {
		before := len(b.stop)
		t, err := b.startStagedoor(ctx, nameStagedoor, binary, backstage, "")
		if err != nil {
			return err
		}
		if found[users], err = b.soakOne(ctx, t, users); err != nil {
			return err
		}
		b.unwind(before)
		for _, at := range found[users] {
			fmt.Fprintf(&text, "| %d | %d | %.1f | %.1f | %.0f |\n", users, at.Requests, float64(at.RSS)/1e6, float64(at.Peak)/1e6, at.Throughput)
		}
	}
	return b.publish("soak", text.String(), map[string]any{"machine": m, "marks": found})
}

const soakConnections = 64

func (b *bench) soakOne(ctx context.Context, t *target, users int) ([]mark, error) {
	const marks, probes, ample = 10, 20, 10 * time.Minute
	all, err := t.messages(alone, users, b.gzip)
	if err != nil {
		return nil, err
	}
	sessions, err := b.keys.sessions(users)
	if err != nil {
		return nil, err
	}
	gun, err := dial(t.address, soakConnections)
	if err != nil {
		return nil, err
	}
	defer gun.close()
	var found []mark
	for n := range marks {
		tokens, err := b.keys.pool(sessions, b.requests/marks)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			if _, err := t.probe(ctx, alone, ammunition{messages: all, pool: tokens, to: probes}); err != nil {
				return nil, err
			}
		}
		shots, err := gun.fire(ctx, ammunition{messages: all, pool: tokens, to: len(tokens.tokens)}, ample)
		if err != nil {
			return nil, err
		}
		u, err := t.use()
		if err != nil {
			return nil, err
		}
		found = append(found, mark{(n + 1) * len(tokens.tokens), u.RSS, u.Peak, shots.throughput()})
		progress("%d users, %d requests, %d MB", users, found[n].Requests, u.RSS/1e6)
	}
	return found, nil
}

// window is a part of the time after a start.
type window struct {
	Requests int           `json:"requests"`
	P50      time.Duration `json:"p50_ns"`
	P99      time.Duration `json:"p99_ns"`
	CPU      time.Duration `json:"cpu_ns_per_request"`
}

// coldWindows are what is measured of each start, one right after the other: while hardly
// a user is known, while most become known, and once all are.
var coldWindows = []string{"first", "second", "third"}

// coldCaches measures what users notice of a deployment: a process that knows no
// key, no user and no decision, asked for `fifty` by many users at once, and again
// once it knows them all. With -compare each round has a process of that commit, too.
func coldCaches(ctx context.Context, b *bench) error {
	const length = time.Second
	binary, backstage, err := b.buildAlone(ctx)
	if err != nil {
		return err
	}
	names, binaries := []string{nameStagedoor}, map[string]string{nameStagedoor: binary}
	if b.compare != "" {
		names = append(names, b.compared())
		if binaries[b.compared()], err = b.buildCompared(ctx); err != nil {
			return err
		}
	}
	s := scenarios()[1]
	policies, err := b.coldPolicies(s.policy)
	if err != nil {
		return err
	}
	m := newMachine(ctx, b)
	var text strings.Builder
	fmt.Fprintf(&text, "%s `%s` from the first request of a new process on; medians of %d starts. "+
		"CPU is per request (want ≤ 500 µs in the first second with 5,000 users, but for the policy that counts claims).\n",
		m, s.name, b.rounds)
	found := map[string][][]window{}
	for _, users := range b.users {
		tokens, err := b.coldTokens(users, length)
		if err != nil {
			return err
		}
		for _, policy := range policies {
			for _, connections := range []int{16, 64} {
				title := fmt.Sprintf("%s, %d users, %d connections", policy.name, users, connections)
				for range b.rounds {
					for _, name := range names {
						at, err := b.coldOne(ctx, name, binaries[name], backstage, policy.path, s, tokens, connections, length)
						if err != nil {
							return err
						}
						found[title+", "+name] = append(found[title+", "+name], at)
					}
				}
				fmt.Fprintf(&text, "\n### %s\n\n| target | second | requests | p50 ms | p99 ms | CPU µs | × CPU |\n"+
					"| --- | --- | ---: | ---: | ---: | ---: | ---: |\n", title)
				own := found[title+", "+nameStagedoor]
				for _, name := range names {
					writeWindows(&text, name, found[title+", "+name], own)
				}
			}
		}
	}
	return b.publish("cold", text.String(), map[string]any{"machine": m, "windows": found})
}

// coldOne starts a process, measures it, and ends it.
func (b *bench) coldOne(
	ctx context.Context, name, binary, backstage, policy string, s scenario, tokens pool, connections int, length time.Duration,
) ([]window, error) {
	before := len(b.stop)
	t, err := b.startStagedoor(ctx, name, binary, backstage, policy)
	if err != nil {
		return nil, err
	}
	defer b.unwind(before)
	return b.warming(ctx, t, s, tokens, connections, length)
}

// writeWindows writes the medians of a target, and of the ratios of its CPU to that of
// stagedoor's in the same round.
func writeWindows(w io.Writer, name string, found, own [][]window) {
	for at, which := range coldWindows {
		middle := func(of func(round int, w window) float64) float64 {
			all := make([]float64, len(found))
			for round := range found {
				all[round] = of(round, found[round][at])
			}
			return median(all)
		}
		_, _ = fmt.Fprintf(w, "| %s | %s | %.0f | %s | %s | %s | %s |\n", name, which,
			middle(func(_ int, w window) float64 { return float64(w.Requests) }),
			figure(middle(func(_ int, w window) float64 { return w.P50.Seconds() * 1e3 })),
			figure(middle(func(_ int, w window) float64 { return w.P99.Seconds() * 1e3 })),
			figure(middle(func(_ int, w window) float64 { return w.CPU.Seconds() * 1e6 })),
			figure(middle(func(round int, w window) float64 { return w.CPU.Seconds() / own[round][at].CPU.Seconds() })))
	}
}

// coldTokens are as many tokens of as many users as are used after a start.
func (b *bench) coldTokens(users int, length time.Duration) (pool, error) {
	const perSecond = 20_000 // twice what it can
	sessions, err := b.keys.sessions(users)
	if err != nil {
		return pool{}, err
	}
	return b.keys.pool(sessions, int(perSecond*length.Seconds())*len(coldWindows))
}

// coldPolicy is a policy with what it is called; the embedded default has no path.
type coldPolicy struct{ name, path string }

// coldPolicies are the ready ones, a team's own, and one that asks for more of claims than
// whether they are there, so that every caller is decided for.
func (b *bench) coldPolicies(own string) ([]coldPolicy, error) {
	const counts = `package counts

# METADATA
# entrypoint: true
allow if {
	count(input.identity.claims) > 1
	input.permission.attributes.action in {"create", "update"}
}
`
	dir := filepath.Join(b.dir, "counts")
	err := errors.Join(
		os.MkdirAll(dir, 0o750),
		os.WriteFile(filepath.Join(dir, "counts.rego"), []byte(counts), 0o600),
		os.WriteFile(filepath.Join(dir, ".manifest"), []byte(`{"roots": ["counts"]}`), 0o600),
	)
	return []coldPolicy{
		{"the embedded default", ""}, {"bundles/rbac", b.root + "/bundles/rbac"}, {"a team's policy", b.root + "/bench/" + own},
		{"a policy that counts claims", dir},
	}, err
}

// warming asks t in the windows of time.
func (b *bench) warming(
	ctx context.Context, t *target, s scenario, tokens pool, connections int, length time.Duration,
) ([]window, error) {
	all, err := t.messages(s, tokens.users, b.gzip)
	if err != nil {
		return nil, err
	}
	gun, err := dial(t.address, connections)
	if err != nil {
		return nil, err
	}
	defer gun.close()
	found, from := make([]window, len(coldWindows)), 0
	for n := range found {
		before, err := t.use()
		if err != nil {
			return nil, err
		}
		shots, err := gun.fire(ctx, ammunition{messages: all, pool: tokens, from: from, to: len(tokens.tokens)}, length)
		if err != nil {
			return nil, err
		}
		after, err := t.use()
		if err != nil {
			return nil, err
		}
		asked := len(shots.latencies)
		from += asked
		found[n] = window{
			Requests: asked, P50: shots.percentile(50), P99: shots.percentile(99), CPU: (after.CPU - before.CPU) / time.Duration(asked),
		}
	}
	return found, nil
}
