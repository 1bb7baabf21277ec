//go:build linux

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// observe measures what watching costs: metrics, which are always on, and beside them 1 %
// of traces sent to a collector. Both processes are asked in turn in each round. Two
// processes of the same program may differ by more than what is measured, in where their
// memory lies. So each of several starts has a new pair.
func observe(ctx context.Context, b *bench) error {
	const users, starts = 50, 7
	binary, backstage, err := b.buildAlone(ctx)
	if err != nil {
		return err
	}
	all, _, err := chosen(list{"one"})
	if err != nil {
		return err
	}
	r := newReport(ctx, b)
	var text strings.Builder
	fmt.Fprintf(&text, "%s\n\n`one` with and without 1 %% of traces, %d users, %d pairs of processes, each in %d rounds of %s. "+
		"Ratios are medians of those within a round (want ≤ 1.02).\n\n"+
		"| connections | CPU µs without | with | ratio | of the pairs | objects allocated without | with |\n"+
		"| ---: | ---: | ---: | ---: | --- | ---: | ---: |\n", r.Machine, users, starts, b.rounds, b.round)
	for _, connections := range b.connections {
		whole := outcome{Scenario: all[0].name, Users: users, Connections: connections}
		cpu := func(m measured) float64 { return m.CPU.Seconds() }
		objects := func(m measured) float64 { return m.Allocations }
		var pairs []float64
		for start := range starts {
			o, err := b.observed(ctx, start%2 == 0, binary, backstage, contest{
				bench: b, scenario: all[0], backstage: backstage, users: users, connections: connections,
			})
			if err != nil {
				return err
			}
			pairs = append(pairs, ratio(o.Series[1], o.Series[0], cpu))
			if whole.Series == nil {
				whole.Series = o.Series
				continue
			}
			for i := range o.Series {
				whole.Series[i].Rounds = append(whole.Series[i].Rounds, o.Series[i].Rounds...)
			}
		}
		r.Outcomes = append(r.Outcomes, whole)
		without, with := whole.Series[0], whole.Series[1]
		slices.Sort(pairs)
		fmt.Fprintf(&text, "| %d | %s | %s | %.3f | %.3f | %.1f | %.1f |\n", connections, figure(without.median(cpu)*1e6),
			figure(with.median(cpu)*1e6), ratio(with, without, cpu), pairs, without.median(objects), with.median(objects))
	}
	return b.publish("observe", text.String(), r)
}

// observed starts a process without traces and one with, measures them, and ends them. The
// first series is of the one without.
func (b *bench) observed(ctx context.Context, plainFirst bool, binary, backstage string, c contest) (outcome, error) {
	before := len(b.stop)
	defer b.unwind(before)
	policy := map[string]any{"path": b.root + "/bench/policy"}
	traces := map[string]any{"distributed_tracing": map[string]any{
		"type": "http", "address": strings.TrimPrefix(backstage, "http://"), "sample_percentage": 1,
	}}
	c.targets = make([]*target, 2)
	for i := range c.targets {
		at, is := i, configured{policy: policy}
		if !plainFirst {
			at = 1 - i
		}
		if at == 1 {
			is.opa = traces
		}
		var err error
		if c.targets[at], err = b.startConfigured(ctx, []string{"without traces", "1 % of traces"}[at], binary, backstage, is); err != nil {
			return outcome{}, err
		}
	}
	return c.run(ctx)
}
