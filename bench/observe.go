//go:build linux

package main

import (
	"context"
	"fmt"
	"strings"
)

// observe measures what watching costs: metrics, which are always on, and beside them 1 %
// of traces sent to a collector. Both processes are asked in turn in each round.
func observe(ctx context.Context, b *bench) error {
	binary, backstage, err := b.buildAlone(ctx)
	if err != nil {
		return err
	}
	policy := map[string]any{"path": b.root + "/bench/policy"}
	without, err := b.startConfigured(ctx, "without traces", binary, backstage, configured{policy: policy})
	if err != nil {
		return err
	}
	with, err := b.startConfigured(ctx, "1 % of traces", binary, backstage, configured{policy: policy, opa: map[string]any{
		"distributed_tracing": map[string]any{
			"type": "http", "address": strings.TrimPrefix(backstage, "http://"), "sample_percentage": 1,
		},
	}})
	if err != nil {
		return err
	}
	all, _, err := chosen(list{"one"})
	if err != nil {
		return err
	}
	const users = 50
	r := newReport(ctx, b)
	var text strings.Builder
	fmt.Fprintf(&text, "%s\n\n`one` with and without 1 %% of traces, %d users, in %d rounds of %s. "+
		"Ratios are medians of those within a round (want ≤ 1.02).\n\n"+
		"| connections | CPU µs without | with | ratio | objects allocated without | with |\n"+
		"| ---: | ---: | ---: | ---: | ---: | ---: |\n", r.Machine, users, b.rounds, b.round)
	for _, connections := range b.connections {
		one := &contest{
			bench: b, scenario: all[0], targets: []*target{without, with}, backstage: backstage, users: users, connections: connections,
		}
		o, err := one.run(ctx)
		if err != nil {
			return err
		}
		r.Outcomes = append(r.Outcomes, o)
		cpu := func(m measured) float64 { return m.CPU.Seconds() }
		objects := func(m measured) float64 { return m.Allocations }
		fmt.Fprintf(&text, "| %d | %s | %s | %.3f | %.1f | %.1f |\n", connections,
			figure(o.Series[0].median(cpu)*1e6), figure(o.Series[1].median(cpu)*1e6), ratio(o.Series[1], o.Series[0], cpu),
			o.Series[0].median(objects), o.Series[1].median(objects))
	}
	return b.publish("observe", text.String(), r)
}
