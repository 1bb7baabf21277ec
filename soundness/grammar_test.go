package soundness

import (
	"math/rand/v2"
	"strings"
	"testing"
)

// TestGrammar holds the grammar to its word: stock OPA compiles what it draws, and fails only where the grammar says
// so.
func TestGrammar(t *testing.T) {
	answers, leaves := map[answer]int{}, newLeafEvaluator(t)
	for i := range uint64(100) {
		tr := newTrial(rand.New(rand.NewPCG(*seed, i)))
		modules, err := parse(tr.policy.source)
		if err != nil {
			t.Fatalf("policy %d: %v\n%s", i, err, tr.policy.source)
		}
		p, err := newStockPolicy(t.Context(), modules, tr.world.data)
		if err != nil {
			t.Fatalf("policy %d: %v\n%s", i, err, tr.policy.source)
		}
		p.foreign, p.leaves = tr.policy.foreign, leaves
		for _, input := range tr.world.inputs {
			for _, resource := range tr.world.resources {
				a, err := p.decide(t.Context(), input, resource)
				if a == failed && !tr.policy.failing && !tr.policy.refusable {
					t.Fatalf("policy %d: %v\n%s", i, err, tr.policy.source)
				}
				answers[a]++
			}
		}
	}
	if min(answers[allow], answers[deny], answers[failed]) == 0 {
		t.Errorf("of the three answers one never comes: %v", answers)
	}
}

// TestShrink shrinks a policy whose fault is a line of it, met by one label of one resource.
func TestShrink(t *testing.T) {
	tr := newTrial(rand.New(rand.NewPCG(1, 2)))
	tr.policy.source += "\nfault if {\n\ttrue\n}\n"
	tr.world.resources[3] = map[string]any{"metadata": map[string]any{"labels": map[string]any{"a": "b", "c": "d"}}}
	fails := func(tr trial) bool {
		for _, resource := range tr.world.resources {
			metadata, _ := resource["metadata"].(map[string]any)
			labels, _ := metadata["labels"].(map[string]any)
			if labels["c"] == "d" && strings.Contains(tr.policy.source, "fault") {
				return true
			}
		}
		return false
	}
	small := shrink(tr, &finding{resource: tr.world.resources[3]}, fails)
	want := trial{
		policy: policy{source: "fault if {"},
		world: world{
			data:      map[string]any{},
			inputs:    []map[string]any{{}},
			resources: []map[string]any{{"metadata": map[string]any{"labels": map[string]any{"c": "d"}}}},
		},
	}
	if small.String() != want.String() {
		t.Errorf("shrunk to%v", small)
	}
}
