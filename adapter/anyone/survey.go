package anyone

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/adapter/anyone/evaluation"
	"github.com/stagedoor/stagedoor/adapter/anyone/theory"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// A Survey says of permissions which callers may, of all that there can be.
type Survey struct {
	// Anybody may have some, even without credentials, whoever is signed in others, and
	// nobody the next. The rest depends on who asks, or for what.
	Anybody, SignedIn, Nobody, Some []string
	// Outside are the permissions for which there is no formula.
	Outside []Outside
}

// A Surveyor asks a policy about every caller that there can be.
type Surveyor struct {
	policy      *Policy
	options     Options
	permissions []wire.Permission
}

// NewSurveyor makes one that asks about permissions. The error is that of compiling the policy.
func NewSurveyor(o Options, permissions []wire.Permission) (*Surveyor, error) {
	if o.Now.IsZero() { // A policy that is read at another time can be another one.
		o.Now = time.Now()
	}
	policy, err := Compile(o)
	return &Surveyor{policy, o, permissions}, err
}

// Survey asks about each permission. What there is no time for is outside. The error is
// the context's, unless only its deadline is over.
func (s *Surveyor) Survey(ctx context.Context) (*Survey, error) {
	found, outside := &Survey{}, &Changes{}
	for _, permission := range s.permissions {
		t := theory.New()
		answer, err := s.policy.may(ctx, t, permission)
		outsideOf, isOutside := errors.AsType[*evaluation.OutsideError](err)
		switch {
		case errors.Is(ctx.Err(), context.DeadlineExceeded):
			outside.outside(permission.Name, "time was up")
			continue
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case isOutside:
			outside.outside(permission.Name, outsideOf.Error())
			continue
		case err != nil:
			return nil, err
		}
		to := &found.Some
		switch signedIn := isAll(t, answer, SignedIn) && isAll(t, answer, Through); {
		case signedIn && isAll(t, answer, Anonymous):
			to = &found.Anybody
		case signedIn:
			to = &found.SignedIn
		case !t.Possible(t.Space.Any(answer.allows[SignedIn], answer.allows[Through], answer.allows[Anonymous])):
			to = &found.Nobody
		}
		*to = append(*to, permission.Name)
	}
	found.Outside = outside.Outside
	return found, nil
}

// isAll is whether every caller of a kind is allowed, whatever the resource is.
func isAll(t *theory.Theory, a *Answer, kind Kind) bool { return !t.Possible(a.allows[kind].Not()) }

// Idle says of each rule whether the policy allows the same without it: every permission, and
// some more, to every caller that there can be, for every resource. It is false where that
// is not known, and where time is up. A rule is known by where it stands in the modules.
//
// The error is the context's, unless only its deadline is over.
func (s *Surveyor) Idle(ctx context.Context, rules []*ast.Rule, more []wire.Permission) ([]bool, error) {
	idle := make([]bool, len(rules))
	without := make([]*Policy, len(rules))
	for i, rule := range rules {
		o := s.options
		o.Modules = withoutRule(o.Modules, rule)
		policy, err := Compile(o)
		without[i], idle[i] = policy, err == nil
	}
	for _, permission := range slices.Concat(s.permissions, more) {
		t := theory.New()
		before, err := s.policy.may(ctx, t, permission)
		for i, policy := range without {
			if !idle[i] {
				continue
			}
			idle[i] = err == nil && ctx.Err() == nil && policy.allowsAs(ctx, t, permission, before)
		}
	}
	if err := ctx.Err(); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return nil, context.Cause(ctx)
	}
	return idle, nil
}

// allowsAs is whether a policy allows a permission to the same callers.
func (p *Policy) allowsAs(ctx context.Context, t *theory.Theory, permission wire.Permission, as *Answer) bool {
	a, err := p.may(ctx, t, permission)
	if err != nil {
		return false
	}
	for _, kind := range Kinds {
		differs := t.Space.Any(t.Space.All(a.allows[kind], as.allows[kind].Not()),
			t.Space.All(as.allows[kind], a.allows[kind].Not()))
		if t.Possible(differs) {
			return false
		}
	}
	return true
}

// withoutRule are modules in which a rule never holds.
func withoutRule(modules map[string]*ast.Module, rule *ast.Rule) map[string]*ast.Module {
	all := make(map[string]*ast.Module, len(modules))
	for name, module := range modules {
		all[name] = module
		for i := range module.Rules {
			for at, r := 0, module.Rules[i]; r != nil; at, r = at+1, r.Else {
				if r.Location == nil || !r.Location.Equal(rule.Location) {
					continue
				}
				changed := module.Copy()
				of := changed.Rules[i]
				for range at {
					of = of.Else
				}
				never := ast.NewExpr(ast.BooleanTerm(false))
				never.Location = r.Location
				of.Body.Append(never)
				all[name] = changed
			}
		}
	}
	return all
}
