package soundness

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/adapter/criteria"
	"github.com/stagedoor/stagedoor/adapter/explore"
)

// A checker compares the three answers.
type checker struct {
	leaves leafEvaluator
	oracle *oracle // nil: without Node, two answers are compared
	// critical is for how many of its leaves a conditional answer gets resources made, a pair for each, beside those that
	// are drawn with the policy.
	critical int
	run      *run
}

// A finding is a disagreement, for one resource where it is about such.
type finding struct {
	kind     string
	message  string
	resource any
}

var entrypoint = ast.MustParseRef("data.authz.allow")

// A decision is what stagedoor answered to one input, and the resources on which it is compared with the policy.
type decision struct {
	input     map[string]any
	result    explore.Result
	err       error
	resources []any
	drawn     int // so many of them without looking at the answer
	stock     []answer
	failures  []error // of stock
}

// check compares the answers for a trial and returns the first disagreement, or nil; a panic is one. The seed is
// that of the resources that are made for conditional answers, and of the mutants.
func (c *checker) check(ctx context.Context, tr trial, seed [2]uint64) (f *finding, err error) {
	defer func() {
		if p := recover(); p != nil {
			f, err = &finding{kind: "panic", message: fmt.Sprint(p)}, nil
		}
	}()
	return c.compareAll(ctx, tr, seed)
}

func (c *checker) compareAll(ctx context.Context, tr trial, seed [2]uint64) (*finding, error) {
	r := rand.New(rand.NewPCG(seed[0], seed[1]))
	modules, err := parse(tr.policy.source)
	if err != nil {
		return nil, err
	}
	stock, err := newStockPolicy(ctx, modules, tr.world.data)
	if err != nil {
		return nil, err
	}
	stock.foreign, stock.leaves = tr.policy.foreign, c.leaves
	compiled, f := c.compile(tr.policy, modules)
	if compiled == nil || f != nil {
		return f, nil
	}
	var decisions []*decision
	for _, input := range tr.world.inputs {
		d, f, err := c.decide(ctx, tr, compiled, stock, input)
		if err != nil {
			return nil, err
		}
		if f != nil {
			return f, nil
		}
		d.resources, d.drawn = toAny(tr.world.resources), len(tr.world.resources)
		if d.conditional() {
			d.resources = append(d.resources, critical(r, tr.policy.plugin.resourceType, d.result.Criteria, c.critical)...)
		}
		if f, err := c.compare(ctx, stock, d); f != nil || err != nil {
			return f, err
		}
		if f, err := c.basic(ctx, tr, compiled, stock, d); f != nil || err != nil {
			return f, err
		}
		decisions = append(decisions, d)
	}
	if f, err := c.ask(ctx, tr.policy, decisions); f != nil || err != nil {
		return f, err
	}
	return nil, c.mutate(ctx, r, tr.policy, stock, decisions)
}

func (d *decision) conditional() bool {
	return d.err == nil && d.result.Criteria.Op != criteria.Never && d.result.Criteria.Op != criteria.Always
}

func toAny(of []map[string]any) []any {
	list := make([]any, len(of))
	for i, v := range of {
		list[i] = v
	}
	return list
}

// compile loads the policy, and judges whether it was to be refused; refused rightly it is nil without a finding.
func (c *checker) compile(p policy, modules map[string]*ast.Module) (*explore.Policy, *finding) {
	compiled, err := explore.Compile(explore.Options{Modules: modules, Entrypoint: entrypoint})
	refused, isRefusal := errors.AsType[*explore.VetError](err)
	c.run.load(p, refused)
	switch {
	case err != nil && !isRefusal:
		return nil, &finding{kind: "compile", message: err.Error()}
	case err != nil && !p.refusable:
		message := fmt.Sprintf("refused, though every construct can be answered: %v", err)
		return nil, &finding{kind: "refused", message: message}
	case err == nil && p.hidden:
		return nil, &finding{kind: "accepted", message: "accepted, though it looks at the resource beside the rules"}
	}
	return compiled, nil
}

// decide asks stagedoor, and asks again where that is cheap, to see that the answer is the same to the byte.
func (c *checker) decide(ctx context.Context, tr trial, p *explore.Policy, stock *stockPolicy, input map[string]any,
) (*decision, *finding, error) {
	txn, err := stock.store.NewTransaction(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer stock.store.Abort(ctx, txn)
	query := explore.Query{
		Store:        stock.store,
		Txn:          txn,
		Input:        ast.MustInterfaceToValue(input).(ast.Object),
		ResourceType: tr.policy.plugin.resourceType,
		Time:         time.Unix(0, 0),
	}
	d := &decision{input: input}
	began := time.Now()
	d.result, d.err = p.Decide(ctx, query)
	took := time.Since(began)
	c.run.decide(tr.policy, d, took)
	if took < 10*time.Millisecond {
		again := &decision{input: input}
		if again.result, again.err = p.Decide(ctx, query); again.String() != d.String() {
			return nil, &finding{kind: "unstable", message: fmt.Sprintf("two answers to one question:\n%v\n%v", d, again)}, nil
		}
	}
	return d, c.decided(tr.policy, d), nil
}

// basic asks the same about no resource: the answer is never wider than that of stock OPA without a resource, nor than
// that with any, unless the policy asks whether there is one.
func (c *checker) basic(ctx context.Context, tr trial, p *explore.Policy, stock *stockPolicy, d *decision) (*finding, error) {
	txn, err := stock.store.NewTransaction(ctx)
	if err != nil {
		return nil, err
	}
	defer stock.store.Abort(ctx, txn)
	r, err := p.Decide(ctx, explore.Query{
		Store: stock.store, Txn: txn, Input: ast.MustInterfaceToValue(d.input).(ast.Object), Basic: true, Time: time.Unix(0, 0),
	})
	c.run.basic[r.Decision.Result.String()]++
	switch {
	case err != nil || r.Criteria.Op == criteria.Never:
		return nil, nil
	case r.Criteria.Op != criteria.Always:
		return &finding{kind: "basic", message: "conditions about no resource: " + r.Decision.Text()}, nil
	}
	if want, err := stock.evaluate(ctx, ast.MustInterfaceToValue(d.input)); want != allow {
		return &finding{kind: "basic", message: fmt.Sprintf("ALLOW of a basic permission, and %v in stock OPA: %v", want, err)}, nil
	}
	for i, want := range d.stock {
		if want != allow && !tr.policy.existence {
			message := fmt.Sprintf("ALLOW of a basic permission, and %v in stock OPA with a resource: %v", want, d.failures[i])
			return &finding{kind: "basic with a resource", message: message, resource: d.resources[i]}, nil
		}
	}
	return nil, nil
}

// decided judges an answer by itself.
func (c *checker) decided(p policy, d *decision) *finding {
	if _, ok := errors.AsType[*explore.LimitError](d.err); ok {
		return nil // counted, and judged in the end
	}
	if (d.err != nil || len(d.result.Errors) > 0) && !p.failing && !p.refusable {
		return &finding{kind: "error", message: fmt.Sprintf("an error, though nothing in the policy can fail: %v",
			errors.Join(append(d.result.Errors, d.err)...))}
	}
	if !d.conditional() {
		return nil
	}
	b := newBDD()
	size, sum := leaves(d.result.Criteria), b.isop(b.add(d.result.Criteria))
	c.run.leaves, c.run.literals = c.run.leaves+size, c.run.literals+sum.literals
	if size > sum.literals {
		message := fmt.Sprintf("%d leaves, and an irredundant sum of products has %d: %v", size, sum.literals, d)
		return &finding{kind: "size", message: message}
	}
	return nil
}

// compare compares the answer with stock OPA, each leaf answered by stock OPA too.
func (c *checker) compare(ctx context.Context, stock *stockPolicy, d *decision) (*finding, error) {
	for _, resource := range d.resources {
		want, failure := stock.decide(ctx, d.input, resource)
		got, err := c.eval(ctx, d, d.result.Criteria, resource)
		if err != nil {
			return nil, err
		}
		d.stock, d.failures = append(d.stock, want), append(d.failures, failure)
		c.run.trial(want)
		if f := d.disagreement(got, want, failure, "evaluated in Go"); f != nil {
			f.resource = resource
			return f, nil
		}
	}
	return nil, nil
}

// disagreement judges the answers for one resource, a side of which is the policy's.
func (d *decision) disagreement(got, want answer, failure error, how string) *finding {
	told := d.err != nil || len(d.result.Errors) > 0
	if _, ok := errors.AsType[*explore.LimitError](d.err); ok {
		return nil
	}
	switch {
	case want == failed && got == allow:
		return &finding{kind: "allow on failure", message: fmt.Sprintf("ALLOW, where stock OPA fails: %v\n%s", failure, d)}
	case want == failed && !told:
		return &finding{kind: "untold", message: fmt.Sprintf("no error is told, where stock OPA fails: %v\n%s", failure, d)}
	case want == failed || got == want:
		return nil
	case want == allow && told:
		// A question that stagedoor refuses, such as params that the plugin would: it may not allow there.
		if d.refuses() {
			return nil
		}
	}
	message := fmt.Sprintf("%v %s, and %v in stock OPA\n%s", got, how, want, d)
	return &finding{kind: fmt.Sprint(got, " for ", want), message: message}
}

// refuses reports whether the errors told are about questions that are sound in Rego and none for the plugin.
func (d *decision) refuses() bool {
	text := errors.Join(append(d.result.Errors, d.err)...).Error()
	return slices.ContainsFunc([]string{"is a rule about", "params", "something else than input.resource"},
		func(about string) bool { return strings.Contains(text, about) })
}

func (d *decision) String() string {
	if d.err != nil {
		return fmt.Sprintf("stagedoor: error %v", d.err)
	}
	return fmt.Sprintf("stagedoor: %s errors %v (%s)", d.result.Criteria.AppendJSON(nil), d.result.Errors, d.result.Method)
}

// eval evaluates the criteria for a resource by our own evaluator.
func (c *checker) eval(ctx context.Context, d *decision, of criteria.Criteria, resource any) (answer, error) {
	var failure error
	term := ast.NewTerm(ast.MustInterfaceToValue(resource))
	holds := of.Eval(func(rule criteria.Rule) bool {
		holds, err := c.leaves.holds(ctx, rule, term)
		failure = errors.Join(failure, err)
		return holds
	})
	if holds {
		return allow, failure
	}
	return deny, failure
}

// ask compares with the rules of the published packages.
func (c *checker) ask(ctx context.Context, p policy, decisions []*decision) (*finding, error) {
	if c.oracle == nil {
		return nil, nil
	}
	var all []any
	var conditions []condition
	var asked []int
	for i, d := range decisions {
		if !d.conditional() {
			continue
		}
		cond := condition{criteria: d.result.Criteria}
		for _, resource := range d.resources {
			cond.resources = append(cond.resources, len(all))
			all = append(all, resource)
		}
		conditions, asked = append(conditions, cond), append(asked, i)
	}
	if len(conditions) == 0 {
		return nil, nil
	}
	answers, refused, err := c.oracle.apply(ctx, p.plugin.resourceType, all, conditions)
	if err != nil {
		return nil, err
	}
	if refused != "" {
		return &finding{kind: "oracle: " + refused, message: refused}, nil
	}
	for i, given := range answers {
		d := decisions[asked[i]]
		for j, got := range given {
			f := d.disagreement(got, d.stock[j], d.failures[j], "by the plugin's own rules")
			if f != nil {
				f.resource = d.resources[j]
				return f, nil
			}
		}
		c.run.backstage += len(given)
	}
	return nil, nil
}

// mutate flips a node of each conditional answer and counts whether the comparison would have noticed.
func (c *checker) mutate(ctx context.Context, r *rand.Rand, p policy, stock *stockPolicy, decisions []*decision) error {
	for _, d := range decisions {
		if c.critical == 0 || !d.conditional() {
			continue
		}
		mutant := flip(r, d.result.Criteria)
		c.run.mutants++
		if apart, possible := tellApart(mutant, d.result.Criteria); !apart {
			c.run.equivalent++
			continue
		} else if !possible {
			c.run.unreal++
			continue
		}
		// The resources that the run would have had, had this been the answer.
		noticed, err := c.differ(ctx, stock, d, mutant,
			append(slices.Clone(d.resources[:d.drawn]), critical(r, p.plugin.resourceType, mutant, c.critical)...))
		if err != nil {
			return err
		}
		if noticed {
			c.run.noticed++
			continue
		}
		c.run.missed++
	}
	return nil
}

// differ reports whether the mutant disagrees with the policy on one of the resources.
func (c *checker) differ(ctx context.Context, stock *stockPolicy, d *decision, mutant criteria.Criteria, on []any,
) (bool, error) {
	for _, resource := range on {
		want, failure := stock.decide(ctx, d.input, resource)
		got, err := c.eval(ctx, d, mutant, resource)
		if err != nil {
			return false, err
		}
		if d.disagreement(got, want, failure, "") != nil {
			return true, nil
		}
	}
	return false, nil
}
