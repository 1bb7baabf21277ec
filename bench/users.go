//go:build linux

package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// manyUsers measures one replica that more users ask than it was made for. Each comes
// twice, and asks a few times in a row as a page does. Between the two visits there are
// those of all others, so that user info is older than it may be.
func manyUsers(ctx context.Context, b *bench) error {
	const visits, visitors, page = 2, 500, 2
	binary, backstage, err := b.buildAlone(ctx)
	if err != nil {
		return err
	}
	m := newMachine(ctx, b)
	var text strings.Builder
	fmt.Fprintf(&text, "%s\n\n`one`, default bundle, %d connections. Each user comes %d times and asks %d times in a row.\n\n"+
		"| users | caches | RSS MB | peak MB | CPU µs a request | user info asked for | tokens known | user info known | decisions known |\n"+
		"| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n", m, soakConnections, visits, page)
	found := map[string]crowd{}
	for _, caches := range []struct {
		name string
		keys map[string]any
	}{{"default", nil}, {"large", map[string]any{"decisions": "512MiB", "tokens": "128MiB", "userInfo": "128MiB"}}} {
		for _, users := range b.users {
			before := len(b.stop)
			t, err := b.startConfigured(ctx, nameStagedoor, binary, backstage, configured{policy: map[string]any{}, caches: caches.keys})
			if err != nil {
				return err
			}
			asked, err := get(ctx, backstage+"/userinfos")
			if err != nil {
				return err
			}
			c, err := b.crowded(ctx, t, users, visits, visitors, page)
			if err != nil {
				return err
			}
			now, err := get(ctx, backstage+"/userinfos")
			if err != nil {
				return err
			}
			from, _ := strconv.Atoi(asked)
			c.Asked, _ = strconv.Atoi(now)
			c.Asked -= from
			b.unwind(before)
			found[fmt.Sprintf("%d %s", users, caches.name)] = c
			fmt.Fprintf(&text, "| %d | %s | %.0f | %.0f | %s | %d | %s | %s | %s |\n", users, caches.name, float64(c.RSS)/1e6, float64(c.Peak)/1e6,
				figure(c.CPU.Seconds()*1e6/float64(c.Requests)), c.Asked, c.known("tokens"), c.known("user_info"), c.known("decisions"))
		}
	}
	return b.publish("users", text.String(), map[string]any{"machine": m, "found": found})
}

// crowd is what many users cost.
type crowd struct {
	usage
	Requests     int                `json:"requests"`
	Asked        int                `json:"user_info_calls"`
	Hits, Misses map[string]float64 // by cache
}

func (c *crowd) known(cache string) string {
	hits, all := c.Hits[cache], c.Hits[cache]+c.Misses[cache]
	if all == 0 {
		return "never asked"
	}
	return fmt.Sprintf("%.0f %%", 100*hits/all)
}

func (b *bench) crowded(ctx context.Context, t *target, users, visits, visitors, page int) (crowd, error) {
	const ample = 10 * time.Minute
	c := crowd{Hits: map[string]float64{}, Misses: map[string]float64{}}
	sessions, err := b.keys.sessions(users)
	if err != nil {
		return c, err
	}
	all, err := t.messages(alone, min(users, visitors), b.gzip) // the same for all
	if err != nil {
		return c, err
	}
	gun, err := dial(t.address, soakConnections)
	if err != nil {
		return c, err
	}
	defer gun.close()
	for range visits {
		for from := 0; from < users; from += visitors {
			tokens, err := b.keys.pool(sessions[from:min(from+visitors, users)], page*min(visitors, users-from))
			if err != nil {
				return c, err
			}
			shots, err := gun.fire(ctx, ammunition{messages: all, pool: tokens, to: len(tokens.tokens)}, ample)
			if err != nil {
				return c, err
			}
			c.Requests += len(shots.latencies)
		}
		progress("%d users have come", users)
	}
	if c.usage, err = t.use(); err != nil {
		return c, err
	}
	metrics, err := get(ctx, t.metrics)
	if err != nil {
		return c, err
	}
	for line := range strings.Lines(metrics) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		n, _ := strconv.ParseFloat(value, 64) // of comments there is none
		if cache, is := strings.CutPrefix(name, `stagedoor_cache_hits_total{cache="`); is {
			c.Hits[strings.TrimSuffix(cache, `"}`)] = n
		}
		if cache, is := strings.CutPrefix(name, `stagedoor_cache_misses_total{cache="`); is {
			c.Misses[strings.TrimSuffix(cache, `"}`)] = n
		}
	}
	return c, nil
}
