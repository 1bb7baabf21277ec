//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The names of the targets of shadow.
const (
	nameAlone    = "without a shadow"
	nameShadowed = "with a shadow"
	nameTwin     = "again without a shadow"
)

// shadow measures what a candidate costs that decides beside the policy that serves:
// stagedoors with a candidate and without one take turns at half of what one can do. The
// candidate differs in one permission, which must be listed in the end. There are two
// without a candidate: how far these differ is what this machine cannot tell from nothing.
func shadow(ctx context.Context, b *bench) error {
	const connections, users, allowed = 16, 50, 1.03
	binary, backstage, err := b.buildAlone(ctx)
	if err != nil {
		return err
	}
	policy, candidate := filepath.Join(b.root, "bench", "policy"), filepath.Join(b.dir, "candidate")
	if err := writeCandidate(policy, candidate); err != nil {
		return err
	}
	alone, err := b.startStagedoor(ctx, nameAlone, binary, backstage, policy)
	if err != nil {
		return err
	}
	twin, err := b.startStagedoor(ctx, nameTwin, binary, backstage, policy)
	if err != nil {
		return err
	}
	beside, err := b.startConfigured(ctx, nameShadowed, binary, backstage,
		configured{policy: map[string]any{"path": policy, "shadow": map[string]any{"path": candidate}}})
	if err != nil {
		return err
	}
	all, _, err := chosen(list{"one", "fifty"})
	if err != nil {
		return err
	}
	r := newReport(ctx, b)
	var text strings.Builder
	fmt.Fprintf(&text, "%s\n\nEach at half of saturation, in %d rounds of %s. The ratio is the median of those within a round.\n\n"+
		"| scenario | requests a second | percentile | without a shadow | with one | ratio | two without one | wanted | |\n"+
		"| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | --- |\n", r.Machine, b.rounds, b.round)
	for _, s := range all {
		full := contest{bench: b, scenario: s, targets: []*target{alone}, backstage: backstage, users: users, connections: connections}
		saturated, err := full.run(ctx)
		if err != nil {
			return err
		}
		half := full
		half.targets = []*target{alone, beside, twin}
		half.pace = saturated.Series[0].median(func(m measured) float64 { return m.Throughput }) / 2
		o, err := half.run(ctx)
		if err != nil {
			return err
		}
		r.Outcomes = append(r.Outcomes, saturated, o)
		for _, of := range []struct {
			name string
			of   func(measured) float64
		}{
			{"p50", func(m measured) float64 { return float64(m.P50) }},
			{"p99", func(m measured) float64 { return float64(m.P99) }},
		} {
			took := ratio(o.Series[1], o.Series[0], of.of)
			verdict := "missed"
			if took <= allowed {
				verdict = "met"
			}
			fmt.Fprintf(&text, "| %s | %.0f | %s | %s | %s | %.3f | %.3f | ≤ %.2f | %s |\n", s.name, half.pace, of.name,
				time.Duration(o.Series[0].median(of.of)), time.Duration(o.Series[1].median(of.of)), took,
				ratio(o.Series[2], o.Series[0], of.of), allowed, verdict)
		}
	}
	listed, err := differences(ctx, beside)
	if err != nil {
		return err
	}
	fmt.Fprintf(&text, "\n%s\n", listed)
	return b.publish("shadow", text.String(), r)
}

// plantedDenial is the permission that the candidate denies.
const plantedDenial = "bench.task.create.00"

// writeCandidate writes a policy that denies one permission more than another.
func writeCandidate(policy, candidate string) error {
	if err := os.MkdirAll(candidate, 0o750); err != nil {
		return err
	}
	for _, name := range []string{".manifest", "policy.rego", "data.json"} {
		text, err := os.ReadFile(filepath.Join(policy, name))
		if err != nil {
			return err
		}
		from := fmt.Sprintf(`%q: {"to": "users"}`, plantedDenial)
		edited := strings.ReplaceAll(string(text), from, fmt.Sprintf(`%q: {"to": "nobody"}`, plantedDenial))
		if name == "data.json" && edited == string(text) {
			return fmt.Errorf("%s has no %s", name, from)
		}
		if err := os.WriteFile(filepath.Join(candidate, name), []byte(edited), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// differences says how much was compared, and wants what was planted to be listed, and
// nothing else.
func differences(ctx context.Context, t *target) (string, error) {
	text, err := get(ctx, strings.TrimSuffix(t.metrics, "/metrics")+"/shadow")
	if err != nil {
		return "", err
	}
	var said struct {
		Compared, Dropped, Failed int
		Differences               []struct{ Permission string }
	}
	if err := json.Unmarshal([]byte(text), &said); err != nil {
		return "", err
	}
	found := make(map[string]bool)
	for _, d := range said.Differences {
		found[d.Permission] = true
	}
	if !slices.Equal(slices.Collect(maps.Keys(found)), []string{plantedDenial}) || said.Failed > 0 {
		return "", fmt.Errorf("the candidate denies %s, and /shadow says %.1000s", plantedDenial, text)
	}
	return fmt.Sprintf("%d decisions were compared, and %d dropped. What was planted is listed, and nothing else.", said.Compared, said.Dropped), nil
}

// firePaced sends so many requests a second, over whichever connections are idle, until
// the time is over or the ammunition used up. After an error the client cannot be used
// again.
func (c *client) firePaced(ctx context.Context, a ammunition, duration time.Duration, pace float64) (slice, error) {
	if err := c.refresh(); err != nil {
		return slice{}, err
	}
	const nap = 1 // ms, between looks at the clock
	s := slice{}
	started := time.Now()
	next, idle := a.from, slices.Clone(c.connections)
	var events [64]unix.EpollEvent
	for {
		elapsed := time.Since(started)
		over := elapsed > duration || next == a.to
		for !over && len(idle) > 0 && next < a.to && float64(next-a.from) <= pace*elapsed.Seconds() {
			conn := idle[len(idle)-1]
			idle = idle[:len(idle)-1]
			if err := conn.send(a.messages[next%a.pool.users], a.pool.tokens[next]); err != nil {
				return s, err
			}
			next++
		}
		if over && len(idle) == len(c.connections) {
			break
		}
		n, err := unix.EpollWait(c.ready, events[:], nap)
		switch {
		case ctx.Err() != nil:
			return s, ctx.Err()
		case err != nil && !errors.Is(err, unix.EINTR):
			return s, os.NewSyscallError("epoll_wait", err)
		case elapsed > duration+longestAnswer:
			return s, fmt.Errorf("no answer for %s", longestAnswer)
		}
		for _, event := range events[:max(n, 0)] {
			conn := c.connections[event.Fd]
			got, complete, err := conn.receive()
			if err == nil && complete {
				s.latencies = append(s.latencies, time.Since(conn.sent))
				idle = append(idle, conn)
				err = a.look(got)
			}
			if err != nil {
				return s, err
			}
		}
	}
	s.elapsed = time.Since(started)
	if len(s.latencies) == 0 {
		return s, errors.New("no request was sent")
	}
	slices.Sort(s.latencies)
	return s, nil
}
