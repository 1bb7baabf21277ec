package tables

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/stagedoor/stagedoor/adapter/anyone"
	"github.com/stagedoor/stagedoor/adapter/audience"
	"github.com/stagedoor/stagedoor/adapter/callers"
	"github.com/stagedoor/stagedoor/adapter/comparison"
	"github.com/stagedoor/stagedoor/adapter/criteria"
	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/inventory"
	"github.com/stagedoor/stagedoor/adapter/offline"
	"github.com/stagedoor/stagedoor/adapter/tests"
	"github.com/stagedoor/stagedoor/adapter/wire"
	"github.com/stagedoor/stagedoor/adapter/words"
)

// The codes of findings.
const (
	// CodeTable is a table that cannot be read.
	CodeTable = "decision-table"
	// CodeRow is a row that is decided otherwise.
	CodeRow = "unexpected-decision"
	// CodeNever is a row in never that some caller may.
	CodeNever = "allowed-after-all"
)

// Run runs every table of a policy whose rows run, a regular expression on names such
// as shop.decisions.yaml:12, matches. Each question is a test.
//
// The error is the context's, or that of reading the bundle.
func Run(ctx context.Context, p *offline.Policy, o tests.Options) ([]tests.Test, error) {
	if o.Inventory == nil {
		o.Inventory = inventory.Stock()
	}
	files, err := Files(p.Files())
	if err != nil {
		return nil, err
	}
	var all []tests.Test
	for _, file := range files {
		t, err := Read(p.Files(), file, p.Name(file))
		if wrong, ok := errors.AsType[*Error](err); ok {
			all = append(all, tests.Test{
				Package: p.Name(file), Name: "reads", File: p.Name(file), Line: wrong.Line, Status: tests.Error,
				Findings: []tests.Finding{{File: p.Name(file), Line: wrong.Line, Column: 1, Code: CodeTable, Text: wrong.Text}},
			})
			continue
		}
		if err != nil {
			return nil, err
		}
		r := newRunner(p, t, o)
		if err := r.run(ctx); err != nil {
			return nil, err
		}
		all = append(all, r.tests...)
	}
	return all, nil
}

type runner struct {
	policy     *offline.Policy
	table      *Table
	options    tests.Options
	file       string
	comparer   *comparison.Comparer
	vocabulary words.Vocabulary
	tests      []tests.Test
}

func newRunner(p *offline.Policy, t *Table, o tests.Options) *runner {
	return &runner{
		policy: p, table: t, options: o, file: p.Name(t.File),
		comparer: comparison.NewComparer(p), vocabulary: p.Vocabulary(),
	}
}

func (r *runner) run(ctx context.Context) error {
	selected, err := r.options.Selects()
	if err != nil {
		return err
	}
	for _, row := range r.table.Rows {
		for _, may := range row.May {
			for _, who := range row.Who {
				on := row.On
				if len(on) == 0 {
					on = []string{""}
				}
				for _, resource := range on {
					name := fmt.Sprintf("%d: %s may %s", row.Line, who, may)
					if resource != "" {
						name += " on " + resource
					}
					if !selected(r.file + ":" + name) {
						continue
					}
					if err := r.test(ctx, name, row.Line, func() (string, string, error) {
						problem, err := r.row(ctx, row, may, who, resource)
						return problem, "", err
					}, CodeRow); err != nil {
						return err
					}
				}
			}
		}
	}
	return r.never(ctx, selected)
}

// test runs one question and notes how it went.
func (r *runner) test(
	ctx context.Context, name string, line int, ask func() (problem, note string, err error), code string,
) error {
	began := time.Now()
	problem, note, err := ask()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	t := tests.Test{
		Package: r.file, Name: name, File: r.file, Line: line, Status: tests.Pass, Duration: time.Since(began), Note: note,
	}
	if err != nil {
		problem, code, t.Status = err.Error(), CodeTable, tests.Error
	} else if problem != "" {
		t.Status = tests.Fail
	}
	if problem != "" {
		t.Findings = []tests.Finding{{File: r.file, Line: line, Column: 1, Code: code, Text: problem}}
	}
	r.tests = append(r.tests, t)
	return nil
}

// row says how a decision is not as expected, or nothing where it is.
func (r *runner) row(ctx context.Context, row Row, may, who, on string) (string, error) {
	permission, err := offline.FindPermission(r.options.Inventory, may)
	if err != nil {
		return "", err
	}
	q := offline.Question{Caller: r.table.Callers[who], Permission: permission, Resource: r.table.Resources[on]}
	outcome, err := r.policy.Decide(ctx, q.Caller, q.Permission)
	if err != nil {
		return "", err
	}
	if outcome.Err != nil {
		problem := fmt.Sprintf("expected %s, but the policy fails: %v", row.expected(), outcome.Err)
		return problem, nil //nolint:nilerr // the policy's failure is the problem found
	}
	actual := r.said(outcome.Decision, q)
	matches, err := r.matches(ctx, row, outcome, q, &actual)
	if err != nil {
		return "", err
	}
	if !matches {
		return fmt.Sprintf("expected %s, but it is %s%s", row.expected(), actual, r.decidedBy(ctx, q)), nil
	}
	return r.because(ctx, row, q)
}

func (row Row) expected() string {
	if row.Criteria != nil {
		return "the criteria of the row"
	}
	return row.Expect
}

// said is a decision in words.
func (r *runner) said(d wire.Decision, q offline.Question) string {
	if d.Result != wire.Conditional {
		return d.Result.String()
	}
	return r.vocabulary.Condition(d.Conditions, q.Words())
}

// matches is whether an outcome is what the row expects; actual is how it is said.
func (r *runner) matches(
	ctx context.Context, row Row, outcome *decision.Outcome, q offline.Question, actual *string,
) (bool, error) {
	d := outcome.Decision
	switch {
	case q.Resource != nil:
		allowed, err := r.policy.Applies(ctx, d, q.Resource)
		if err != nil {
			return false, err
		}
		said := wire.Deny
		if allowed {
			said = wire.Allow
		}
		if d.Result == wire.Conditional {
			*actual = fmt.Sprintf("%s (%s)", said, *actual)
		}
		return row.Expect == said.String(), nil
	case row.Criteria != nil:
		return r.means(row, outcome, q)
	case row.Expect == "ALLOW" || row.Expect == "DENY" || row.Expect == "CONDITIONAL":
		return row.Expect == d.Result.String(), nil
	case d.Result != wire.Conditional:
		return false, nil
	}
	// Of a caller with one claim, both ways to say it are right.
	alone := q.Words()
	alone.Claims = nil
	return words.Same(row.Expect, *actual) || words.Same(row.Expect, r.vocabulary.Condition(d.Conditions, alone)), nil
}

// means is whether a decision means the criteria of a row.
func (r *runner) means(row Row, outcome *decision.Outcome, q offline.Question) (bool, error) {
	expected, err := conditions(row.Criteria, q.Caller, q.Permission.ResourceType)
	if err != nil {
		return false, fmt.Errorf("expect: %w", err)
	}
	d := outcome.Decision
	wanted := decision.Outcome{Decision: wire.NewConditional(d.PluginID, q.Permission.ResourceType, expected)}
	if d.Result == wire.Conditional && d.ResourceType != q.Permission.ResourceType {
		return false, nil
	}
	compared, err := r.comparer.Compare(&wanted, outcome)
	return compared.Change == comparison.Same, err
}

// never asks each class of callers what nobody may.
func (r *runner) never(ctx context.Context, selected func(string) bool) error {
	if len(r.table.Never) == 0 {
		return nil
	}
	var known []decision.Caller
	for _, name := range slices.Sorted(maps.Keys(r.table.Callers)) {
		known = append(known, r.table.Callers[name])
	}
	who, err := audience.Of(ctx, audience.Sources{Inventory: r.options.Inventory, Known: known}, r.policy)
	if err != nil {
		return err
	}
	every, err := anyone.EveryoneOf(ctx, r.policy, r.comparer)
	if err != nil {
		return err
	}
	for _, n := range r.table.Never {
		for _, may := range n.May {
			name := fmt.Sprintf("%d: nobody may %s", n.Line, may)
			if !selected(r.file + ":" + name) {
				continue
			}
			if err := r.test(ctx, name, n.Line, func() (string, string, error) {
				return r.nobody(ctx, n, may, who, every)
			}, CodeNever); err != nil {
				return err
			}
		}
	}
	return nil
}

// nobody says who may after all, and for which callers it was asked: for classes of
// callers and, where there is a formula, for every caller that there can be.
func (r *runner) nobody(
	ctx context.Context, n Never, may string, who *audience.Who, every *anyone.Everyone,
) (problem, note string, err error) {
	permission, err := offline.FindPermission(r.options.Inventory, may)
	if err != nil {
		return "", "", err
	}
	var asked, problems []string
	for _, class := range who.List {
		if excepted(class.Example, n.Except) {
			continue
		}
		asked = append(asked, class.Name)
		q := offline.Question{Caller: class.Example, Permission: permission}
		outcome, err := r.policy.Decide(ctx, q.Caller, permission)
		if err != nil {
			return "", "", err
		}
		where, err := r.where(n, outcome, q)
		if err != nil {
			return "", "", err
		}
		if where != "" {
			problems = append(problems, fmt.Sprintf("%s: %s%s", class.Name, where, r.decidedBy(ctx, q)))
		}
	}
	const named = 12
	first := asked[:min(len(asked), named)]
	note = fmt.Sprintf("asked of %d classes of callers: %s", len(asked), strings.Join(first, "; "))
	if more := len(asked) - named; more > 0 {
		note += fmt.Sprintf("; and %d more", more)
	}
	note += fmt.Sprintf(" (%s)", who.Of)
	said, problem, err := r.everyone(ctx, n, permission, every)
	if err != nil {
		return "", "", err
	}
	note = said + "; " + note
	if problem != "" && len(problems) == 0 {
		problems = append(problems, problem)
	}
	const most = 3
	if more := len(problems) - most; more > 0 {
		problems = append(problems[:most], fmt.Sprintf("and %d more classes of callers", more))
	}
	return strings.Join(problems, "; "), note, nil
}

// everyone says whether any caller that there can be may what nobody may. A caller who may
// is told when the policy says so itself: what a formula knows of callers is not all. Where
// no such caller is found it is a problem too, since nothing shows that there is none.
func (r *runner) everyone(
	ctx context.Context, n Never, permission wire.Permission, every *anyone.Everyone,
) (note, problem string, err error) {
	what := anyone.Forbidden{Permission: permission, When: criteria.Criteria{Op: criteria.Always}, Except: n.Except}
	if n.When != nil {
		of := func(ref string) (criteria.Criteria, error) {
			return conditions(n.When, decision.Caller{User: ref, Claims: []string{ref}}, permission.ResourceType)
		}
		if what.When, err = of("a"); err != nil {
			return "", "", fmt.Errorf("when: %w", err)
		}
		other, err := of("b")
		if err != nil {
			return "", "", fmt.Errorf("when: %w", err)
		}
		if !what.When.Equal(other) {
			return "no formula is found for every caller: the row's condition is about the caller", "", nil
		}
	}
	found, err := every.Nobody(ctx, what)
	switch {
	case err != nil:
		return "", "", err
	case found.Outside != "":
		return "no formula is found for every caller: " + found.Outside, "", nil
	case len(found.InWords) == 0:
		note := "no caller that there can be may"
		if changing := r.policy.Changing(); changing != "" {
			note += " now; the policy asks " + changing
		}
		return note, "", nil
	}
	for _, c := range found.Callers {
		if excepted(c, n.Except) {
			continue
		}
		q := offline.Question{Caller: c, Permission: permission}
		outcome, err := r.policy.Decide(ctx, c, permission)
		if err != nil {
			return "", "", err
		}
		where, err := r.where(n, outcome, q)
		if err != nil {
			return "", "", err
		}
		if where != "" {
			note = "a caller that there can be may"
			return note, fmt.Sprintf("%s: %s%s", callers.Name(c), where, r.decidedBy(ctx, q)), nil
		}
	}
	var kinds []string
	for _, kind := range anyone.Kinds {
		if words, ok := found.InWords[kind]; ok {
			kinds = append(kinds, fmt.Sprintf("%s: %s", kind, words))
		}
	}
	return "a caller that there can be may, and no example was found", fmt.Sprintf(
		"the policy allows it to some caller: %s; no example was found; describe one in callers or, if there is none, "+
			"mend the rule that can never hold", strings.Join(kinds, "; ")), nil
}

// where says where a caller may what nobody may, or nothing.
func (r *runner) where(n Never, outcome *decision.Outcome, q offline.Question) (string, error) {
	d := outcome.Decision
	if outcome.Err != nil {
		return "the policy fails: " + outcome.Err.Error(), nil //nolint:nilerr // its failure is what is told
	}
	if d.Result == wire.Deny {
		return "", nil
	}
	when := criteria.Criteria{Op: criteria.Always}
	if n.When != nil {
		var err error
		if when, err = conditions(n.When, q.Caller, q.Permission.ResourceType); err != nil {
			return "", fmt.Errorf("when: %w", err)
		}
	}
	// What the decision gains over "not when" is where both hold.
	outside := criteria.Criteria{Op: criteria.Not, Of: []criteria.Criteria{when}}
	before := decision.Outcome{Decision: wire.NewConditional(d.PluginID, d.ResourceType, outside)}
	compared, err := r.comparer.Compare(&before, outcome)
	if err != nil {
		return "", err
	}
	switch {
	case compared.Gains.Op == criteria.Never:
		return "", nil
	case d.Result == wire.Allow:
		return "ALLOW", nil
	}
	return "allowed where " + r.vocabulary.Condition(d.Conditions, q.Words()), nil
}

// excepted is whether a caller is one of some users, or has one of some claims.
// References are the same in whatever case, as they are to Backstage.
func excepted(caller decision.Caller, except []string) bool {
	return slices.ContainsFunc(except, func(ref string) bool {
		ref = strings.ToLower(ref)
		return strings.ToLower(caller.User) == ref ||
			slices.ContainsFunc(caller.Claims, func(claim string) bool { return strings.ToLower(claim) == ref })
	})
}
