package soundness

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/adapter/comparison"
	"github.com/stagedoor/stagedoor/adapter/criteria"
	answered "github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/explore"
)

var (
	pairsWanted   = flag.Int("pairs", 60, "how many pairs of policies to compare")
	pairResources = flag.Int("pair-resources", 24, "how many resources to ask both policies of a pair about")
)

// TestReview draws pairs of policies, one of them edited, and holds what a review says of the change to what stock OPA
// says of both policies on whole resources: SAME, WIDER and NARROWER, and for each resource, whether it is gained or
// lost.
func TestReview(t *testing.T) {
	c := &checker{leaves: newLeafEvaluator(t), run: newRun()}
	changes, questions := map[comparison.Change]int{}, 0
	pairs := 0
	for i := uint64(1); pairs < *pairsWanted; i++ {
		r := rand.New(rand.NewPCG(*seed, i))
		p, ok := c.drawPair(t.Context(), r)
		if !ok {
			continue
		}
		pairs++
		for n, input := range p.world.inputs {
			asked, change, err := c.review(t.Context(), r, p, input)
			if err != nil {
				t.Fatalf("seed %d, pair %d, input %d: %v\nold:\n%s\nnew:\n%s\n%s", *seed, i, n, err, p.old.source, p.edited.source, compact(input))
			}
			questions += asked
			changes[change]++
		}
	}
	t.Logf("seed %d: %d pairs, %d questions, 0 wrong; %v", *seed, pairs, questions, changes)
	for _, change := range []comparison.Change{comparison.Same, comparison.Wider, comparison.Narrower, comparison.Other} {
		if *pairsWanted >= 60 && changes[change] == 0 {
			t.Errorf("no pair is %s: the edits do not try enough", change)
		}
	}
}

// A side is one policy of a pair, as stagedoor and as stock OPA have it.
type side struct {
	source string
	policy *explore.Policy
	rules  []*explore.PermissionRule
	stock  *stockPolicy
}

type pair struct {
	trial
	old, edited side
}

// drawPair draws a policy that is answered, and an edit of it that is answered too. It reports false where the draw
// came to none.
func (c *checker) drawPair(ctx context.Context, r *rand.Rand) (pair, bool) {
	tr := newTrial(r)
	p := pair{trial: tr}
	if tr.policy.hidden {
		return p, false
	}
	var ok bool
	if p.old, ok = c.side(ctx, tr, tr.policy.source); !ok {
		return p, false
	}
	for range 20 {
		source := edit(r, tr.policy.source)
		if source == tr.policy.source {
			continue
		}
		if p.edited, ok = c.side(ctx, tr, source); ok {
			w := worldGen{r: r, policy: tr.policy}
			for len(p.world.resources) < *pairResources {
				p.world.resources = append(p.world.resources, w.resource())
			}
			return p, true
		}
	}
	return p, false
}

func (c *checker) side(ctx context.Context, tr trial, source string) (side, bool) {
	modules, err := parse(source)
	if err != nil {
		return side{}, false
	}
	stock, err := newStockPolicy(ctx, modules, tr.world.data)
	if err != nil {
		return side{}, false
	}
	stock.foreign, stock.leaves = tr.policy.foreign, c.leaves
	compiled, err := explore.Compile(explore.Options{Modules: modules, Entrypoint: entrypoint})
	if err != nil || !compiled.AboutResource() {
		return side{}, false
	}
	rules, err := explore.Rules(modules)
	return side{source, compiled, rules, stock}, err == nil
}

// edits are how a line is changed: what one would do by mistake, on purpose or to tidy up.
var edits = []func(r *rand.Rand, line string) string{
	func(_ *rand.Rand, _ string) string { return "" },
	func(_ *rand.Rand, line string) string { return line + "\n" + line },
	func(_ *rand.Rand, line string) string { return strings.Replace(line, "\tnot ", "\t", 1) },
	func(_ *rand.Rand, line string) string { return indented.ReplaceAllString(line, "${1}not ") },
	func(r *rand.Rand, line string) string { return exchange(r, line, words) },
	func(r *rand.Rand, line string) string { return exchange(r, line, values) },
	func(r *rand.Rand, line string) string { return exchange(r, line, refs) },
	func(_ *rand.Rand, line string) string { return strings.Replace(line, " == ", " != ", 1) },
	func(_ *rand.Rand, line string) string { return strings.Replace(line, " >= ", " > ", 1) },
	func(_ *rand.Rand, line string) string { return strings.Replace(line, " > ", " >= ", 1) },
	func(_ *rand.Rand, line string) string { return strings.Replace(line, "every ", "some ", 1) },
	func(_ *rand.Rand, line string) string { return strings.Replace(line, "true", "false", 1) },
	func(_ *rand.Rand, line string) string { return strings.Replace(line, "false", "true", 1) },
	func(_ *rand.Rand, line string) string { return strings.Replace(line, "has_metadata", "has_spec", 1) },
	func(r *rand.Rand, line string) string {
		return added.ReplaceAllString(line, "[\""+one(r, refs...)+"\", ")
	},
}

var (
	indented = regexp.MustCompile(`^(\t+)`)
	added    = regexp.MustCompile(`\[`)
)

// exchange puts another text for one of a list.
func exchange(r *rand.Rand, line string, of []string) string {
	for _, i := range r.Perm(len(of)) {
		if quoted := quote(of[i]); of[i] != "" && strings.Contains(line, quoted) {
			return strings.Replace(line, quoted, quote(one(r, of...)), 1)
		}
	}
	return line
}

// edit changes a line or two of a policy, leaves out a rule, or puts the rules in another order.
func edit(r *rand.Rand, source string) string {
	parts := strings.Split(source, "\n\n")
	switch i := r.IntN(len(parts)); r.IntN(6) {
	case 0:
		parts = slices.Delete(parts, i, i+1)
	case 1:
		j := r.IntN(len(parts))
		parts[i], parts[j] = parts[j], parts[i]
	default:
		lines := strings.Split(source, "\n")
		for range 1 + r.IntN(2) {
			at := r.IntN(len(lines))
			lines[at] = edits[r.IntN(len(edits))](r, lines[at])
		}
		return strings.Join(lines, "\n")
	}
	return strings.Join(parts, "\n\n")
}

// decided is what stagedoor answers by a side.
func (s side) decided(ctx context.Context, tr trial, input map[string]any) *answered.Outcome {
	txn, err := s.stock.store.NewTransaction(ctx)
	if err != nil {
		return &answered.Outcome{Err: err}
	}
	defer s.stock.store.Abort(ctx, txn)
	result, err := s.policy.Decide(ctx, explore.Query{
		Store: s.stock.store, Txn: txn, Input: ast.MustInterfaceToValue(input).(ast.Object),
		ResourceType: tr.policy.plugin.resourceType, Time: time.Unix(0, 0),
	})
	return &answered.Outcome{Decision: result.Decision, Excluded: result.Errors, Err: err}
}

// review compares the answers to one input, and counts the resources that it is held to.
func (c *checker) review(ctx context.Context, r *rand.Rand, p pair, input map[string]any) (int, comparison.Change, error) {
	before, after := p.old.decided(ctx, p.trial, input), p.edited.decided(ctx, p.trial, input)
	found, err := comparison.ComparerOf(p.old.rules, p.edited.rules).Compare(before, after)
	if err != nil || after.Err != nil && found.Change == comparison.Breaks {
		return 0, found.Change, err
	}
	resources := toAny(p.world.resources)
	for _, of := range []criteria.Criteria{found.Gains, found.Loses} {
		if of.Op > criteria.Always {
			resources = append(resources, critical(r, p.policy.plugin.resourceType, of, 6)...)
		}
	}
	for _, resource := range resources {
		if err := c.holds(ctx, p, input, resource, found, before, after); err != nil {
			return 0, found.Change, err
		}
	}
	return len(resources), found.Change, nil
}

// serves is what is answered of one resource: what stock OPA says. Where the policy fails, or a part of it, stagedoor
// answers no more than the rest, which allows nothing that stock OPA does not.
func (c *checker) serves(ctx context.Context, s side, o *answered.Outcome, input map[string]any, resource any) (answer, error) {
	stock, _ := s.stock.decide(ctx, input, resource) // a failure allows nothing
	rest, err := c.eval(ctx, nil, comparison.Allowed(o), resource)
	switch {
	case len(o.Excluded) == 0 && o.Err == nil:
		return stock, err
	case err == nil && rest == allow && stock != allow:
		err = fmt.Errorf("what is left of a policy that fails allows %s, and stock OPA says %v", compact(resource), stock)
	}
	return rest, err
}

// holds compares what is said of a change with what is answered of one resource.
func (c *checker) holds(
	ctx context.Context, p pair, input map[string]any, resource any, found comparison.Comparison, old, edited *answered.Outcome,
) error {
	before, err := c.serves(ctx, p.old, old, input, resource)
	if err != nil {
		return err
	}
	after, err := c.serves(ctx, p.edited, edited, input, resource)
	if err != nil {
		return err
	}
	gained, err := c.eval(ctx, nil, found.Gains, resource)
	if err != nil {
		return err
	}
	lost, err := c.eval(ctx, nil, found.Loses, resource)
	if err != nil {
		return err
	}
	wider, narrower := before != allow && after == allow, before == allow && after != allow
	var can []comparison.Change
	switch {
	case wider:
		can = []comparison.Change{comparison.Wider, comparison.Other}
	case narrower:
		can = []comparison.Change{comparison.Narrower, comparison.Other}
	default:
		can = []comparison.Change{comparison.Same, comparison.Wider, comparison.Narrower, comparison.Other}
	}
	can = append(can, comparison.Breaks) // a part of the policy fails, and the rest is compared
	if !slices.Contains(can, found.Change) || (gained == allow) != wider || (lost == allow) != narrower {
		return fmt.Errorf("said %s, gains %s, loses %s; stock OPA says %v, then %v of %s", found.Change,
			found.Gains.AppendJSON(nil), found.Loses.AppendJSON(nil), before, after, compact(resource))
	}
	return nil
}
