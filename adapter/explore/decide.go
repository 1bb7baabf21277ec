package explore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/adapter/criteria"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// An AnswerError says that the policy answers something that is no decision.
type AnswerError struct{ Cause error }

// Error returns the message of the cause.
func (e *AnswerError) Error() string { return e.Cause.Error() }

// Unwrap returns the cause.
func (e *AnswerError) Unwrap() error { return e.Cause }

// Decide returns the condition under which the policy allows. It is safe for
// concurrent use.
//
// A basic permission is allowed where stock evaluation allows it without a
// resource, and does so by either answer to every rule.
//
// The error is that of the context, a [*LimitError], or that of the evaluation
// where no branch allows and one failed: an [*AnswerError] where what it answers is
// no decision.
func (p *Policy) Decide(ctx context.Context, q Query) (Result, error) {
	if !q.Basic {
		return p.decide(ctx, q, present)
	}
	r, err := p.decide(ctx, q, absent)
	if err != nil || r.Criteria.Op == criteria.Never {
		return r, err
	}
	either, err := p.decide(ctx, q, supposed)
	r.Evaluations += either.Evaluations
	r.Either = either.Either
	switch _, limited := errors.AsType[*LimitError](err); {
	case ctx.Err() != nil || limited:
		return Result{}, err
	case err != nil:
		r.Errors = append(r.Errors, err)
	case either.Criteria.Op == criteria.Always:
		return r, nil
	}
	either.Evaluations, either.Errors = r.Evaluations, slices.Concat(r.Errors, either.Errors)
	return either, nil
}

// decide decides where this is seen of the resource.
func (p *Policy) decide(ctx context.Context, q Query, resource presence) (Result, error) {
	w, stop := newWorld(ctx, p, q, resource)
	defer stop()
	outcomes, err := w.entry()
	if err != nil {
		return Result{}, err
	}
	j := join{world: w, allowed: criteria.Denied, failed: criteria.Denied}
	for _, o := range outcomes {
		j.add(o)
	}
	return j.result()
}

// join is the outcomes of the entrypoint taken together: for each, where it is and
// what it means.
type join struct {
	*world
	meanings []meaning
	about    wire.Decision // the plugin and the type that the conditions are about
	allowed  criteria.Function
	failed   criteria.Function
	errors   []error
}

// meaning is what an outcome says.
type meaning struct {
	wire.Decision
	reason string
	where  criteria.Function
}

// add adds an outcome. One that is no decision is a failure where it may be.
func (j *join) add(o outcome) {
	m := meaning{where: o.where}
	var holds criteria.Function
	if o.err == nil {
		holds, o.err = j.read(&m, o.value)
	}
	if o.err != nil {
		if j.space.Possible(o.where) { // Questions of different rules can exclude each other.
			j.errors = append(j.errors, o.err)
			j.failed = j.space.Any(j.failed, o.where)
		}
		return
	}
	j.meanings = append(j.meanings, m)
	j.allowed = j.space.Any(j.allowed, j.space.All(o.where, holds))
}

// read reads a value as a decision, and is where that allows.
func (j *join) read(m *meaning, value *ast.Term) (criteria.Function, error) {
	if value == nil { // undefined
		return criteria.Denied, nil
	}
	if is, ok := value.Value.(ast.Boolean); ok {
		if !is {
			return criteria.Denied, nil
		}
		m.Result = wire.Allow
		return criteria.Granted, nil
	}
	document, err := ast.JSON(value.Value)
	if err == nil {
		m.Decision, m.reason, err = wire.ParseDecision(document)
	}
	holds := criteria.Denied
	switch {
	case err != nil:
	case m.Result == wire.Allow:
		holds = criteria.Granted
	case m.Result == wire.Conditional:
		holds, err = j.conditions(m.Decision)
	}
	if err != nil {
		return criteria.Denied, &AnswerError{fmt.Errorf("%v: %w", j.policy.entrypoint, err)}
	}
	return holds, nil
}

// conditions is where those of a document hold. All that a decision rests on must be
// about one type of resource of one plugin, since criteria are.
func (j *join) conditions(d wire.Decision) (criteria.Function, error) {
	about := j.about
	if a := j.asked; about.PluginID == "" && a != nil {
		about.PluginID, about.ResourceType = a.PluginID, a.ResourceType
	}
	switch want := j.query.ResourceType; {
	case j.query.Basic:
		return criteria.Denied, errors.New("conditions for a permission that is about no resource")
	case want != "" && d.ResourceType != want:
		return criteria.Denied, fmt.Errorf("conditions about %s, and the permission is about %s", d.ResourceType, want)
	case about.PluginID != "" && (about.PluginID != d.PluginID || about.ResourceType != d.ResourceType):
		return criteria.Denied, fmt.Errorf("conditions of %s about %s, and others of %s about %s",
			d.PluginID, d.ResourceType, about.PluginID, about.ResourceType)
	}
	j.about = d
	declared := func(leaf criteria.Rule) *PermissionRule { return j.policy.rule(d.PluginID, leaf) }
	for leaf := range d.Conditions.Rules() {
		if err := declared(leaf).checkText(leaf.Params); err != nil {
			return criteria.Denied, fmt.Errorf("rule %s of %s: %w", leaf.Name, d.PluginID, err)
		}
	}
	return j.space.Read(d.Conditions, func(leaf criteria.Rule) string {
		if rule := declared(leaf); rule != nil {
			return rule.AnyOf
		}
		return ""
	})
}

// result is the decision that the outcomes come to.
func (j *join) result() (Result, error) {
	r := Result{Method: j.method(), Evaluations: j.evaluations, Errors: j.errors}
	certain, err := j.space.Certain(j.allowed)
	if err == nil {
		r.Criteria, err = j.space.Minimise(certain)
	}
	if errors.Is(err, criteria.ErrTooLarge) {
		err = &LimitError{fmt.Sprintf("%v: %v%s", j.policy.entrypoint, err, j.asking())}
	}
	if err != nil {
		return Result{}, err
	}
	if r.Criteria.Op == criteria.Never && len(r.Errors) > 0 {
		// What fails by one answer alone is not allowed, and no failure.
		if failed, err := j.space.Certain(j.failed); err != nil || j.space.Possible(failed) {
			return Result{}, errors.Join(r.Errors...)
		}
	}
	if a := j.asked; a != nil {
		j.about.PluginID, j.about.ResourceType = a.PluginID, a.ResourceType
	}
	r.Decision = wire.NewConditional(j.about.PluginID, j.about.ResourceType, r.Criteria)
	if len(j.meanings) == 1 && j.asks == 0 {
		r.Decision = j.meanings[0].Decision // as the author wrote it
	}
	r.Reason, r.Rules = j.reason(r.Decision.Result), j.rules(r.Decision.Result)
	r.Either = j.either(certain)
	return r, nil
}

// reason is what the outcomes say that the result comes from, those that allow first.
func (j *join) reason(result wire.Result) string {
	slices.SortStableFunc(j.meanings, func(a, b meaning) int { return deniesLast(a.Result) - deniesLast(b.Result) })
	var reasons []string
	for _, m := range j.meanings {
		fits := result == wire.Conditional || (m.Result == wire.Deny) == (result == wire.Deny)
		if fits && m.reason != "" && !slices.Contains(reasons, m.reason) && j.space.Possible(m.where) {
			reasons = append(reasons, m.reason)
		}
	}
	return strings.Join(reasons, "; ")
}

// decidingClause is a clause of the entrypoint with what it comes to.
type decidingClause struct {
	rule *ast.Rule
	outcome
}

// rules are those that the result comes from. Beside one that allows whatever the answers
// are, none that asks decides.
func (j *join) rules(result wire.Result) []DecidingRule {
	fit := slices.DeleteFunc(slices.Clone(j.deciding), func(c decidingClause) bool {
		return denies(c.value) != (result == wire.Deny) || !j.space.Possible(c.where)
	})
	certain := slices.ContainsFunc(fit, func(c decidingClause) bool { return c.where == criteria.Granted })
	var rules []DecidingRule
	seen := make(map[*ast.Rule]bool)
	for _, c := range fit {
		if seen[c.rule] || certain && c.where != criteria.Granted {
			continue
		}
		seen[c.rule] = true
		at := c.rule.Location
		rules = append(rules, DecidingRule{Title: j.policy.titles[c.rule], File: at.File, Line: at.Row})
	}
	return rules
}

// denies is whether a value of the entrypoint is false or a document that denies.
func denies(value *ast.Term) bool {
	if object, is := value.Value.(ast.Object); is {
		result := object.Get(ast.InternedTerm("result"))
		return result != nil && result.Equal(ast.InternedTerm(wire.Deny.String()))
	}
	return value.Equal(ast.InternedTerm(false))
}

// titlesOf are the titles of rules by their METADATA: each rule's own, else that of the
// document, which stands above the first of its rules.
func titlesOf(rules []*ast.Rule) map[*ast.Rule]string {
	titles := make(map[*ast.Rule]string)
	document := ""
	for _, rule := range rules {
		for _, a := range rule.Annotations {
			if a.Scope == "document" && a.Title != "" {
				document = a.Title
			}
		}
	}
	for _, rule := range rules {
		title := document
		for _, a := range rule.Annotations {
			if a.Scope == "rule" && a.Title != "" {
				title = a.Title
			}
		}
		for r := rule; r != nil && title != ""; r = r.Else {
			titles[r] = title
		}
	}
	return titles
}

func deniesLast(r wire.Result) int {
	if r == wire.Deny {
		return 1
	}
	return 0
}

// either says which questions that nobody will answer the decision depends on.
func (j *join) either(certain criteria.Function) []string {
	if len(j.foreign) == 0 {
		return nil
	}
	depends := j.failed
	if j.space.Possible(j.space.All(j.allowed, certain.Not())) {
		depends = j.space.Any(depends, j.allowed)
	}
	var list []string
	for _, f := range j.space.Unknowns(depends) {
		list = append(list, j.foreign[f])
	}
	slices.Sort(list)
	return slices.Compact(list)
}
