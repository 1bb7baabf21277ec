package trial

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/adapter/anyone"
	"github.com/stagedoor/stagedoor/adapter/anyone/saying"
	"github.com/stagedoor/stagedoor/adapter/findings"
	"github.com/stagedoor/stagedoor/adapter/offline"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// How long every caller there can be is asked for, and how long rules are looked at that
// may matter to callers of no class.
const (
	maxEveryone = 3 * time.Second
	maxFurther  = 5 * time.Second
)

// mostUnsure is how many rules are looked at further. A policy of more has classes enough.
const mostUnsure = 200

// everyone asks what every caller there can be may.
func (s *trying) everyone(
	ctx context.Context, p *offline.Policy, permissions []wire.Permission,
) error {
	why, err := saying.TooLarge(ctx, p)
	if s.trial.Unknown = why; why != "" || err != nil {
		return err
	}
	modules := offline.Library()
	maps.Copy(modules, p.Modules())
	surveyor, err := anyone.NewSurveyor(anyone.Options{
		Modules: modules, Entrypoint: p.Entrypoint(), Store: p.Data(), WithoutResource: !p.AboutResource(),
	}, permissions)
	if err != nil {
		s.trial.Unknown = "it cannot be compiled for that: " + findings.OneLine(err.Error())
		return ctx.Err()
	}
	limited, cancel := s.within(ctx, maxEveryone)
	defer cancel()
	s.surveyor = surveyor
	s.trial.Everyone, err = surveyor.Survey(limited)
	return err
}

// further looks at rules about callers where there are more than the classes. What matters
// to none of the classes may matter to others: that is asked of every caller there can be.
//
// It tells of nothing but rules by which yes and no do not change. A policy that answers
// documents can give other reasons by them.
func (l *looking) further(ctx context.Context, unsure []*watched) error {
	if l.surveyor == nil || len(unsure) > mostUnsure || !l.isYesOrNo() {
		return nil
	}
	limited, cancel := l.within(ctx, maxFurther)
	defer cancel()
	for _, seen := range unsure {
		seen.pending = true
	}
	if !l.matter(limited) {
		return nil
	}
	unsure = slices.DeleteFunc(unsure, func(seen *watched) bool { return seen.matters })
	rules := make([]*ast.Rule, len(unsure))
	for i, seen := range unsure {
		rules[i] = seen.rule
	}
	var possible []wire.Permission
	for _, each := range l.possible() {
		possible = append(possible, wirePermission(each))
	}
	idle, err := l.surveyor.Idle(limited, rules, possible)
	if err != nil {
		return err
	}
	for i, seen := range unsure {
		if idle[i] {
			l.tellIdle(seen)
		}
	}
	return nil
}

// isYesOrNo is whether the entrypoint answers yes or no in all its rules.
func (l *looking) isYesOrNo() bool {
	rules := l.compiler.GetRules(l.entry)
	for _, rule := range rules {
		for ; rule != nil; rule = rule.Else {
			if _, is := rule.Head.Value.Value.(ast.Boolean); !is {
				return false
			}
		}
	}
	return len(rules) > 0
}
