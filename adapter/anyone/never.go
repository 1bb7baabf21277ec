package anyone

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/adapter/anyone/evaluation"
	"github.com/stagedoor/stagedoor/adapter/anyone/example"
	"github.com/stagedoor/stagedoor/adapter/anyone/saying"
	"github.com/stagedoor/stagedoor/adapter/anyone/theory"
	"github.com/stagedoor/stagedoor/adapter/callers"
	"github.com/stagedoor/stagedoor/adapter/comparison"
	"github.com/stagedoor/stagedoor/adapter/criteria"
	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/offline"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// longest is how long a formula is looked for, beside callers who are asked for anyway.
const longest = 20 * time.Second

// Everyone is every caller that there can be of a policy. It belongs to one goroutine.
type Everyone struct {
	policy  *Policy
	outside string // why there are no formulas
	known   *comparison.Comparer
	speaker *saying.Speaker
}

// EveryoneOf is every caller of a policy that was opened. The error is the context's, or
// that of compiling the policy.
func EveryoneOf(ctx context.Context, p *offline.Policy, known *comparison.Comparer) (*Everyone, error) {
	e := &Everyone{known: known}
	absent, err := p.Absent()
	if err != nil {
		return nil, err
	}
	if len(absent) > 0 {
		e.outside = "no file of " + p.Path + " has " + absent[0]
		return e, nil
	}
	if e.outside, err = saying.TooLarge(ctx, p); e.outside != "" || err != nil {
		return e, err
	}
	if e.speaker, err = saying.New(ctx, p); err != nil {
		return nil, err
	}
	e.policy, err = Open(p)
	return e, err
}

// Forbidden is what nobody may.
type Forbidden struct {
	Permission wire.Permission
	// When is of which resources.
	When criteria.Criteria
	// Except are users and claims of callers who may.
	Except []string
}

// Breaches are the callers who may what nobody may.
type Breaches struct {
	// Outside says why there is no formula; then nothing else is known.
	Outside string
	// InWords says by kind which callers may, and Callers are examples that the formula
	// has. What a formula cannot know makes an example none: ask the policy.
	InWords map[Kind]string
	Callers []decision.Caller
}

// Nobody finds the callers who may what nobody may. There is none where the result has no
// words and is not outside. The error is the context's.
func (e *Everyone) Nobody(ctx context.Context, what Forbidden) (*Breaches, error) {
	if e.outside != "" {
		return &Breaches{Outside: e.outside}, nil
	}
	limited, stop := context.WithTimeout(ctx, longest)
	defer stop()
	found, err := e.nobody(limited, what)
	outside, isOutside := errors.AsType[*evaluation.OutsideError](err)
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case limited.Err() != nil:
		return &Breaches{Outside: "it takes too long to find one"}, nil
	case isOutside:
		return &Breaches{Outside: outside.Error()}, nil
	case errors.Is(err, criteria.ErrTooLarge):
		return &Breaches{Outside: "the conditions are too large to be compared"}, nil
	}
	return found, err
}

func (e *Everyone) nobody(ctx context.Context, what Forbidden) (*Breaches, error) {
	t := theory.New()
	answer, err := e.policy.may(ctx, t, what.Permission)
	if err != nil {
		return nil, err
	}
	found := &Breaches{InWords: make(map[Kind]string)}
	assumed := &assumptions{t, make(map[criteria.Function]bool)}
	for _, kind := range Kinds {
		breach, err := e.policy.forbidden(ctx, answer, kind, what)
		if err != nil {
			return nil, err
		}
		if err := assumed.assume(e.known, breach); err != nil {
			return nil, err
		}
		where, err := t.Space.Difference(breach, criteria.Denied)
		if err != nil {
			return nil, err
		}
		if where.Op == criteria.Never {
			continue
		}
		possible := consistent(ctx, t, t.Space.All(append(slices.Collect(maps.Keys(assumed.made)), breach)...))
		if possible == criteria.Denied {
			continue
		}
		found.InWords[kind] = e.speaker.Say(where)
		found.Callers = append(found.Callers, examples(t, kind, possible)...)
	}
	return found, nil
}

// forbidden is where a kind of caller is allowed what nobody may.
func (p *Policy) forbidden(ctx context.Context, a *Answer, kind Kind, what Forbidden) (criteria.Function, error) {
	txn, err := p.store.NewTransaction(ctx)
	if err != nil {
		return criteria.Denied, err
	}
	defer p.store.Abort(ctx, txn)
	q := inquiry{p, a.theory, txn, p.at, kind, what.Permission}
	of := wire.Decision{ResourceType: what.Permission.ResourceType}
	for _, r := range p.rules {
		if r.ResourceType == of.ResourceType {
			of.PluginID = r.PluginID
		}
	}
	when, err := q.decisions(ctx).Holds(of, what.When)
	if err != nil {
		return criteria.Denied, evaluation.Unplaced(err)
	}
	except := criteria.Denied
	for _, ref := range what.Except {
		if kind == Anonymous {
			break
		}
		is, err := isOrHas(a.theory, ref)
		if err != nil {
			return criteria.Denied, evaluation.Unplaced(err)
		}
		except = a.theory.Space.Any(except, is)
	}
	return a.theory.Space.All(a.allows[kind], when, except.Not()), nil
}

// isOrHas is where the caller is a user or has a claim, in whatever case.
func isOrHas(t *theory.Theory, ref string) (criteria.Function, error) {
	text := ast.StringTerm(strings.ToLower(ref))
	is, err := t.Equal(t.Call(ast.Lower.Name, []*ast.Term{t.User.Token}).Token, text)
	if err != nil {
		return criteria.Denied, err
	}
	claim := t.Element(t.Claims.Token)
	has, err := t.Equal(t.Call(ast.Lower.Name, []*ast.Term{claim.Token}).Token, text)
	if err != nil {
		return criteria.Denied, err
	}
	has, err = t.Some([]int{claim.Number}, has)
	return t.Space.Any(is, has), err
}

// examples are callers of a kind of whom a function may hold.
func examples(t *theory.Theory, kind Kind, f criteria.Function) []decision.Caller {
	some := decision.Caller{User: callers.Somebody}
	switch kind {
	case Anonymous:
		return []decision.Caller{{Anonymous: true}}
	case Through:
		some.Actor = "plugin:somebody"
	}
	return example.Callers(t, some, f)
}
