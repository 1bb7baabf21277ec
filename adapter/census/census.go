// Package census asks permission rules about the entities of an inventory, and counts
// how many change hands where a decision changes.
package census

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"math/bits"
	"runtime"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"golang.org/x/sync/errgroup"

	"github.com/stagedoor/stagedoor/adapter/criteria"
	"github.com/stagedoor/stagedoor/adapter/explore"
	"github.com/stagedoor/stagedoor/adapter/offline"
	"github.com/stagedoor/stagedoor/adapter/report"
	"github.com/stagedoor/stagedoor/adapter/words"
)

// A Census asks rules about the entities of an inventory. Each distinct rule is asked
// once for each entity, by the rule's own body. Of a rule with a list that means "any
// of", each element is asked, many at a time. Not safe for concurrent use.
type Census struct {
	names   []string
	values  []*ast.Term
	queries map[words.Rule]rego.PreparedEvalQuery
	rules   map[words.Rule]*explore.PermissionRule

	answers map[question]entitySet
}

// question is a rule, and of a list that means "any of" one element: the rest of the
// params has the list's place empty.
type question struct {
	rule    criteria.Rule
	element string
}

// entitySet is a set of entities, a bit for each; nil is the empty one.
type entitySet []uint64

// mostExamples is how many entities are named.
const mostExamples = 3

// Counts are how many entities change hands, for the caller for whom most do of those who were
// asked for. Others who are alike may own other entities.
type Counts struct {
	Gained int `json:"gained"`
	Lost   int `json:"lost"`
	// Before and After are how many the caller may do it with, of all.
	Before int `json:"before"`
	After  int `json:"after"`
	Of     int `json:"of"`
	// Caller is the example, and Examples are entities that change hands.
	Caller   string   `json:"caller"`
	Examples []string `json:"examples"`
}

// New returns the entities of an inventory, for the rules of policies. Of two
// policies with a rule of the same name, the last one's body is asked. The errors are
// those of compiling the policies.
func New(ctx context.Context, entities []map[string]any, policies ...*offline.Policy) (*Census, error) {
	e := &Census{
		queries: make(map[words.Rule]rego.PreparedEvalQuery), rules: make(map[words.Rule]*explore.PermissionRule),
		answers: make(map[question]entitySet),
	}
	for _, entity := range entities {
		value, err := ast.InterfaceToValue(entity)
		if err != nil {
			return nil, err
		}
		e.values = append(e.values, ast.NewTerm(value))
		e.names = append(e.names, entityName(entity))
	}
	for _, p := range policies {
		if err := e.addRules(ctx, p); err != nil {
			return nil, fmt.Errorf("%s: %w", p.Path, err)
		}
	}
	return e, nil
}

func (e *Census) addRules(ctx context.Context, p *offline.Policy) error {
	modules := make(map[string]*ast.Module)
	for _, of := range []map[string]*ast.Module{offline.Library(), p.Modules()} {
		for name, m := range of {
			modules[name] = m.Copy()
		}
	}
	compiler := ast.NewCompiler().WithCapabilities(p.Capabilities())
	if compiler.Compile(modules); compiler.Failed() {
		return compiler.Errors
	}
	for _, r := range p.Rules() {
		query, err := rego.New(rego.Compiler(compiler), rego.Store(p.Data()),
			rego.Query(r.Function.String()+"(input.resource, input.params)")).PrepareForEval(ctx)
		if err != nil {
			return err
		}
		key := words.Rule{Name: r.Name, ResourceType: r.ResourceType}
		e.queries[key], e.rules[key] = query, r
	}
	return nil
}

// entityName is an entity's reference.
func entityName(entity map[string]any) string {
	metadata, _ := entity["metadata"].(map[string]any)
	namespace, _ := metadata["namespace"].(string)
	kind, _ := entity["kind"].(string)
	name, _ := metadata["name"].(string)
	return strings.ToLower(kind + ":" + cmp.Or(namespace, "default") + "/" + name)
}

// Ask asks the rules of conditions about all entities, as far as they are not known yet.
// The error is the context's, or that of asking a rule, which it names.
func (e *Census) Ask(ctx context.Context, conditions iter.Seq[criteria.Criteria]) error {
	asked := make(map[question]bool)
	for c := range conditions {
		for r := range c.Rules() {
			for _, q := range e.questions(r) {
				asked[q] = true
			}
		}
	}
	return e.ask(ctx, asked)
}

// questions are what a rule of a condition asks.
func (e *Census) questions(r criteria.Rule) []question {
	known := e.rules[words.Rule{Name: r.Name, ResourceType: r.ResourceType}]
	if known == nil || known.AnyOf == "" {
		return []question{{rule: r}}
	}
	params, _ := r.Decoded().(map[string]any)
	list, ok := params[known.AnyOf].([]any)
	if !ok {
		return []question{{rule: r}}
	}
	params[known.AnyOf] = []any{}
	rest, _ := json.Marshal(params)
	of := criteria.Rule{Name: r.Name, ResourceType: r.ResourceType, Params: string(rest)}
	questions := make([]question, len(list))
	for i, element := range list {
		text, _ := json.Marshal(element)
		questions[i] = question{of, string(text)}
	}
	return questions
}

// ask asks what is not known yet about all entities.
func (e *Census) ask(ctx context.Context, asked map[question]bool) error {
	elements := make(map[criteria.Rule][]string)
	for q := range asked {
		if _, known := e.answers[q]; !known {
			e.answers[q] = nil
			elements[q.rule] = append(elements[q.rule], q.element)
		}
	}
	for _, rule := range slices.SortedFunc(maps.Keys(elements), func(a, b criteria.Rule) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Params, b.Params))
	}) {
		list := elements[rule]
		slices.Sort(list)
		if err := e.askRule(ctx, rule, list); err != nil {
			return err
		}
	}
	return nil
}

// bundle is elements that are asked about together, and its halves.
type bundle struct {
	elements []string
	params   *ast.Term
	halves   []*bundle
}

func (e *Census) askRule(ctx context.Context, rule criteria.Rule, elements []string) error {
	key := words.Rule{Name: rule.Name, ResourceType: rule.ResourceType}
	query, ok := e.queries[key]
	if !ok {
		return fmt.Errorf("there is no Rego function for the rule %s of %s, so no entity can be asked about",
			rule.Name, rule.ResourceType)
	}
	whole, err := newBundle(rule, e.rules[key].AnyOf, elements)
	if err != nil {
		return err
	}
	holding := make([][]string, len(e.values))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	const slice = 64
	for from := 0; from < len(e.values); from += slice {
		group.Go(func() error {
			for i := from; i < min(from+slice, len(e.values)); i++ {
				if err := whole.holding(ctx, query, e.values[i], &holding[i]); err != nil {
					return fmt.Errorf("%s of %s: %w", rule.Name, e.names[i], err)
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for i, of := range holding {
		for _, element := range of {
			q := question{rule, element}
			if e.answers[q] == nil {
				e.answers[q] = make(entitySet, (len(e.values)+63)/64)
			}
			e.answers[q][i/64] |= 1 << (i % 64)
		}
	}
	return nil
}

// newBundle makes the params for all elements, for each half, and so on.
func newBundle(rule criteria.Rule, anyOf string, elements []string) (*bundle, error) {
	params, _ := rule.Decoded().(map[string]any)
	if params == nil {
		params = map[string]any{}
	}
	if elements[0] != "" {
		list := make([]any, len(elements))
		for i, element := range elements {
			list[i] = criteria.Rule{Params: element}.Decoded()
		}
		params[anyOf] = list
	}
	value, err := ast.InterfaceToValue(params)
	if err != nil {
		return nil, err
	}
	b := &bundle{elements: elements, params: ast.NewTerm(value)}
	if len(elements) > 1 {
		for _, half := range [][]string{elements[:len(elements)/2], elements[len(elements)/2:]} {
			of, err := newBundle(rule, anyOf, half)
			if err != nil {
				return nil, err
			}
			b.halves = append(b.halves, of)
		}
	}
	return b, nil
}

// holding finds the elements with which a rule holds for an entity.
func (b *bundle) holding(ctx context.Context, query rego.PreparedEvalQuery, entity *ast.Term, found *[]string) error {
	input := ast.NewObject(
		[2]*ast.Term{ast.StringTerm("resource"), entity}, [2]*ast.Term{ast.StringTerm("params"), b.params})
	results, err := query.Eval(ctx, rego.EvalParsedInput(input))
	if err != nil || len(results) == 0 || results[0].Expressions[0].Value != true {
		return err
	}
	if len(b.halves) == 0 {
		*found = append(*found, b.elements...)
		return nil
	}
	for _, half := range b.halves {
		if err := half.holding(ctx, query, entity, found); err != nil {
			return err
		}
	}
	return nil
}

// where is for which entities a condition holds.
func (e *Census) where(c criteria.Criteria) entitySet {
	set := make(entitySet, (len(e.values)+63)/64)
	switch c.Op {
	case criteria.Always:
		return set.not(len(e.values))
	case criteria.Leaf:
		for _, q := range e.questions(c.Rule) {
			set.or(e.answers[q])
		}
	case criteria.Not:
		return e.where(c.Of[0]).not(len(e.values))
	case criteria.AllOf:
		set = set.not(len(e.values))
		for _, child := range c.Of {
			for i, word := range e.where(child) {
				set[i] &= word
			}
		}
	case criteria.AnyOf:
		for _, child := range c.Of {
			set.or(e.where(child))
		}
	}
	return set
}

func (s entitySet) or(other entitySet) {
	for i, word := range other {
		s[i] |= word
	}
}

// not is the complement among n entities.
func (s entitySet) not(n int) entitySet {
	for i := range s {
		s[i] = ^s[i]
		if rest := n - 64*i; rest < 64 {
			s[i] &= 1<<rest - 1
		}
	}
	return s
}

func (s entitySet) len() int {
	n := 0
	for _, word := range s {
		n += bits.OnesCount64(word)
	}
	return n
}

// Counts counts the entities that change hands where a condition becomes another. Rules
// that [Census.Ask] has not asked hold for none.
func (e *Census) Counts(from, to criteria.Criteria, caller string) *Counts {
	before, after := e.where(from), e.where(to)
	c := &Counts{Before: before.len(), After: after.len(), Of: len(e.values),
		Caller: caller, Examples: []string{}}
	for i := range before {
		gained, lost := after[i]&^before[i], before[i]&^after[i]
		c.Gained += bits.OnesCount64(gained)
		c.Lost += bits.OnesCount64(lost)
		for word := gained | lost; word != 0 && len(c.Examples) < mostExamples; word &= word - 1 {
			c.Examples = append(c.Examples, e.names[64*i+bits.TrailingZeros64(word)])
		}
	}
	return c
}

// More is the counts of the caller for whom more changes.
func (c *Counts) More(other *Counts) *Counts {
	if c == nil || other != nil && other.Gained+other.Lost > c.Gained+c.Lost {
		return other
	}
	return c
}

// Lines say the counts.
func (c *Counts) Lines() []string {
	line := fmt.Sprintf("%s: with %s of %s before, with %s now", c.Caller, report.Thousands(c.Before), report.Count(c.Of,
		"entity", "entities"), report.Thousands(c.After))
	if len(c.Examples) == 0 {
		return []string{line + "; none of them changes hands for this caller"}
	}
	return []string{line + fmt.Sprintf("; gained %s, lost %s", report.Thousands(c.Gained), report.Thousands(c.Lost)),
		"for example " + strings.Join(c.Examples, ", ")}
}
