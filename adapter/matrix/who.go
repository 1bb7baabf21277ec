package matrix

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/stagedoor/stagedoor/adapter/audience"
	"github.com/stagedoor/stagedoor/adapter/comparison"
	"github.com/stagedoor/stagedoor/adapter/criteria"
	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/offline"
	"github.com/stagedoor/stagedoor/adapter/provenance"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// May is who can do something, and by which rules.
type May struct {
	Callers []audience.Affected `json:"callers"`
	// Result is ALLOW, DENY, CONDITIONAL or ERROR; of a resource that is given it is
	// never CONDITIONAL.
	Result  string   `json:"result"`
	InWords string   `json:"inWords,omitempty"`
	From    []string `json:"from,omitempty"`
}

// WhoOptions are what is asked about who may.
type WhoOptions struct {
	Options
	// Comparer knows which lists mean "any of".
	Comparer *comparison.Comparer
	// By finds the rules that decide.
	By *provenance.Tracer
}

// WhoMay answers who can do what a permission is about: with any resource, or with the
// one that is given. Those who may come first. The errors are those of deciding and of
// asking rules about the resource.
func WhoMay(
	ctx context.Context, p *offline.Policy, permission wire.Permission, resource any, o WhoOptions,
) ([]May, error) {
	found := make([]May, len(o.Who.List))
	err := o.Who.Each(ctx, o.Progress, func(ctx context.Context, i int) (err error) {
		found[i], err = o.mayOne(ctx, p, permission, resource, o.Who.List[i])
		return err
	})
	if err != nil {
		return nil, err
	}
	at := make(map[string]int)
	var folded []May
	for _, m := range found {
		key := fmt.Sprintf("%s\n%s\n%q", m.Result, m.InWords, m.From)
		if j, ok := at[key]; ok {
			folded[j].Callers = append(folded[j].Callers, m.Callers...)
			continue
		}
		at[key] = len(folded)
		folded = append(folded, m)
	}
	order := []string{"ALLOW", "CONDITIONAL", "ERROR", "DENY"}
	slices.SortStableFunc(folded, func(a, b May) int {
		return slices.Index(order,
			a.Result) - slices.Index(order, b.Result)
	})
	return folded, nil
}

func (o WhoOptions) mayOne(
	ctx context.Context, p *offline.Policy, permission wire.Permission, resource any, class audience.Class,
) (May, error) {
	outcome, err := p.Decide(ctx, class.Example, permission)
	if err != nil {
		return May{}, err
	}
	a := o.answer(outcome, class.Example)
	m := May{Callers: []audience.Affected{class.Affected()}, Result: a.Result, InWords: a.InWords}
	answers, err := o.answersFor(ctx, p, outcome, resource)
	if err != nil {
		return May{}, err
	}
	if resource != nil && outcome.Decision.Result == wire.Conditional {
		m.Result = wire.Deny.String()
		if outcome.Decision.Conditions.Eval(func(r criteria.Rule) bool { return answers[r] }) {
			m.Result = wire.Allow.String()
		}
	}
	if m.Result != wire.Deny.String() {
		q := offline.Question{Caller: class.Example, Permission: permission}
		m.From = provenance.Decided(ctx, nil, o.By, q, answers)
	}
	return m, nil
}

// answersFor are what rules say of a resource, or answers under which a condition holds.
func (o WhoOptions) answersFor(
	ctx context.Context, p *offline.Policy, of *decision.Outcome, resource any,
) (map[criteria.Rule]bool, error) {
	if of.Decision.Result != wire.Conditional {
		return nil, nil //nolint:nilnil // no rule is asked
	}
	if resource == nil {
		s := criteria.NewSpace()
		f, err := s.Read(of.Decision.Conditions, o.Comparer.ListOf)
		if err != nil {
			return nil, err
		}
		return s.Witness(f)
	}
	answers := make(map[criteria.Rule]bool)
	for r := range of.Decision.Conditions.Rules() {
		if _, known := answers[r]; known {
			continue
		}
		holds, err := p.RuleHolds(ctx, r, resource)
		if err != nil {
			return nil, err
		}
		answers[r] = holds
	}
	return answers, nil
}

// WhoText tells who can do something.
func WhoText(found []May) string {
	var b strings.Builder
	for _, m := range found {
		fmt.Fprintf(&b, "%s  %s\n", m.Result, audience.Names(m.Callers))
		if m.InWords != "" {
			fmt.Fprintf(&b, "  %s\n", m.InWords)
		}
		if len(m.From) > 0 {
			fmt.Fprintf(&b, "  by %s\n", strings.Join(m.From, ", "))
		}
	}
	return b.String()
}
