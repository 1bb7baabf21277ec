// Package tests runs the tests of a policy: those that stock opa test runs, each
// twice.
//
// # Every test twice
//
// A test hands the policy a whole resource, and Rego looks at it. In production the
// resource is not known: the engine answers with conditions, and the plugin applies
// them. So every evaluation of the entrypoint in a test is noted (observe.go), and the
// engine that serves decides it once more without the resource. Its conditions are
// then applied to the resource by the bodies of the rules. The answers must agree;
// where they do not, the test fails and both are told. A misspelt param under a not is
// such a case: Rego takes it for "does not hold", and production refuses to answer.
//
// Where a with replaces data, the engine decides with that data. Where it replaces a
// function, or a rule that depends on the resource, production has no counterpart: the
// evaluation is counted as made once.
//
// # Inputs that no Backstage sends
//
// A test also fails whose input is none: a permission that the inventory does not
// have, or has otherwise; a member that the schema of the input does not know; an
// entity that the schema of an entity refuses. What such a test shows, it shows of
// nothing.
package tests

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/cover"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/tester"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/stagedoor/stagedoor/adapter/inventory"
	"github.com/stagedoor/stagedoor/adapter/offline"
)

// Options say which tests run, and how. The zero value of a field is its default.
type Options struct {
	// Run selects the tests by a regular expression on their full name, such as
	// data.shop.authz_test.test_owner; empty for all.
	Run string
	// Coverage measures which lines of the author's files the tests evaluate.
	Coverage bool
	// Timeout is how long one test may take; 5 seconds by default, as for opa test.
	Timeout time.Duration
	// Inventory says which permissions there are; the stock one by default.
	Inventory *inventory.Inventory
}

// Selects returns what tells whether a test of a name is to run. The error is that of
// a pattern which is none.
func (o Options) Selects() (func(name string) bool, error) {
	pattern, err := regexp.Compile(o.Run)
	if err != nil {
		return nil, fmt.Errorf("--run: %w", err)
	}
	return pattern.MatchString, nil
}

// A Status is how a test ended.
type Status string

// The ends of a test.
const (
	Pass Status = "pass"
	Fail Status = "fail"
	// Error is a test that could not be evaluated, such as for a conflict.
	Error Status = "error"
	Skip  Status = "skip"
)

// A Test is one test that ran, or was skipped.
type Test struct {
	Package  string        `json:"package"`
	Name     string        `json:"name"`
	File     string        `json:"file"`
	Line     int           `json:"line"`
	Status   Status        `json:"status"`
	Duration time.Duration `json:"duration"`
	// Findings say why it did not pass; one that was skipped has none.
	Findings []Finding `json:"findings,omitempty"`
	// Output is what the test printed.
	Output string `json:"output,omitempty"`
	// Note says what the test covered, where that is more than its name.
	Note string `json:"note,omitempty"`
	// Twice is how many different evaluations of the entrypoint were decided twice,
	// and Once how many could only be evaluated.
	Twice int `json:"twice"`
	Once  int `json:"once,omitempty"`
}

// Passed is whether the test passed or was skipped.
func (t Test) Passed() bool { return t.Status == Pass || t.Status == Skip }

// A Finding is one reason why a test did not pass.
type Finding struct {
	File   string `json:"file"`
	Line   int    `json:"line"`
	Column int    `json:"column"`
	Code   string `json:"code"`
	Text   string `json:"text"`
}

// The codes of findings.
const (
	// CodeFailed is a test that is not true.
	CodeFailed = "test-failed"
	// CodeError is a test that could not be evaluated.
	CodeError = "test-error"
	// CodeTwice is a test that production decides otherwise.
	CodeTwice = "unlike-production"
	// CodeInput is an input that no Backstage sends.
	CodeInput = "impossible-input"
)

// A Report is what came of the tests of a policy.
type Report struct {
	// Tests are in the order of files and lines.
	Tests []Test
	// Coverage is of the author's files; nil where it was not asked for.
	Coverage *cover.Report
}

// Run runs the tests of a policy. Tests that do not pass are in the report.
//
// The error is that of a pattern which is none, an [*offline.RefusedError] where tests do
// not compile, or the context's.
func Run(ctx context.Context, p *offline.Policy, o Options) (*Report, error) {
	selected, err := o.Selects()
	if err != nil {
		return nil, err
	}
	if o.Inventory == nil {
		o.Inventory = inventory.Stock()
	}
	if o.Timeout == 0 {
		o.Timeout = 5 * time.Second
	}
	b, err := newBench(ctx, p, o)
	if err != nil {
		return nil, err
	}
	defer b.close(ctx)
	report := &Report{}
	for _, ref := range b.tests(selected) {
		results, err := b.run(ctx, ref)
		if err != nil {
			return nil, err
		}
		report.Tests = append(report.Tests, results...)
	}
	slices.SortStableFunc(report.Tests, func(a, b Test) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Name, b.Name))
	})
	if b.cover != nil {
		own := maps.Clone(p.Modules())
		maps.Copy(own, p.Tests())
		coverage := b.cover.Report(own)
		report.Coverage = &coverage
	}
	return report, nil
}

// bench is where the tests of one policy run, one after the other.
type bench struct {
	policy   *offline.Policy
	options  Options
	observer *observer
	judge    *judge
	runner   *tester.Runner
	compiler *ast.Compiler
	store    storage.Store
	cover    *cover.Cover
}

func newBench(ctx context.Context, p *offline.Policy, o Options) (*bench, error) {
	b := &bench{policy: p, options: o, observer: newObserver(p.Entrypoint()), store: p.Data()}
	var err error
	if b.judge, err = newJudge(p, o.Inventory); err != nil {
		return nil, err
	}
	modules := offline.Library()
	for _, own := range []map[string]*ast.Module{p.Modules(), p.Tests()} {
		for name, module := range own {
			modules[name] = module.Copy()
		}
	}
	b.compiler = b.observer.compiler(p)
	b.runner = tester.NewRunner().
		SetCompiler(b.compiler).
		SetStore(b.store).
		SetTimeout(o.Timeout).
		SetModules(modules).
		AddCustomBuiltins([]*tester.Builtin{b.observer.builtin()})
	if o.Coverage {
		b.cover = cover.New()
		b.runner.SetCoverageQueryTracer(b.cover)
	}
	// The runner adds stages of its own before it compiles, so it has to compile, by
	// a run without tests.
	if _, err := b.results(ctx, ast.MustParseRef("data.stagedoor.none")); err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, &offline.RefusedError{Path: p.Path, Cause: err}
	}
	b.runner.SetModules(nil)
	return b, nil
}

func (b *bench) close(ctx context.Context) { b.judge.close(ctx) }

// results runs the tests below a path.
func (b *bench) results(ctx context.Context, ref ast.Ref) ([]*tester.Result, error) {
	tests, err := b.runner.SetPrefixMatchers(ref).RunTests(ctx, nil)
	if err != nil {
		return nil, err
	}
	var results []*tester.Result
	for result := range tests {
		results = append(results, result)
	}
	return results, nil
}

// tests are the paths of the tests that are to run.
func (b *bench) tests(selected func(name string) bool) []ast.Ref {
	seen := map[string]bool{}
	var refs []ast.Ref
	for _, name := range slices.Sorted(maps.Keys(b.compiler.Modules)) {
		if strings.HasPrefix(name, offline.LibraryPrefix) {
			continue
		}
		for _, rule := range b.compiler.Modules[name].Rules {
			ref, is := testRef(rule)
			if text := ref.String(); is && !seen[text] && selected(text) {
				seen[text] = true
				refs = append(refs, ref)
			}
		}
	}
	return refs
}

// testRef is the path of the test that a rule is a part of.
func testRef(rule *ast.Rule) (ast.Ref, bool) {
	ref := rule.Module.Package.Path
	for i, term := range rule.Head.Ref().GroundPrefix() {
		part := term
		if v, ok := term.Value.(ast.Var); ok && i == 0 {
			part = ast.StringTerm(string(v))
		}
		ref = ref.Append(part)
		name, _ := part.Value.(ast.String)
		if strings.HasPrefix(string(name), tester.TestPrefix) || strings.HasPrefix(string(name), tester.SkipTestPrefix) {
			return ref, true
		}
	}
	return ref, false
}

// run runs one test and decides what it evaluated once more.
func (b *bench) run(ctx context.Context, ref ast.Ref) ([]Test, error) {
	observed, noting := b.observer.note(ctx)
	results, err := b.results(noting, ref)
	if err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	var tests []Test
	for _, r := range results {
		t := newTest(r)
		if r.Fail {
			if t.Findings, err = b.failed(ctx, ref, r); err != nil {
				return nil, err
			}
		}
		tests = append(tests, t)
	}
	if len(tests) == 0 || tests[0].Status == Skip {
		return tests, nil
	}
	verdict, err := b.judge.judge(ctx, observed.list())
	if err != nil {
		return nil, err
	}
	last := &tests[len(tests)-1]
	last.Twice, last.Once = verdict.twice, verdict.once
	last.Findings = append(last.Findings, verdict.findings...)
	if last.Status == Pass && len(verdict.findings) > 0 {
		last.Status = Fail
	}
	return tests, nil
}

func newTest(r *tester.Result) Test {
	t := Test{
		Package: r.Package, Name: r.Name, File: r.Location.File, Line: r.Location.Row,
		Duration: r.Duration, Output: string(r.Output), Status: Pass,
	}
	switch {
	case r.Skip:
		t.Status = Skip
	case r.Error != nil:
		t.Status = Error
		t.Findings = []Finding{failure(r.Location, CodeError, r.Error.Error())}
		if e, ok := errors.AsType[*topdown.Error](r.Error); ok && e.Location != nil {
			t.Findings[0] = failure(e.Location, CodeError, e.Error())
		}
	case r.Fail:
		t.Status = Fail
	}
	return t
}

// failed says at which expression a test failed. It is run again for that, with a
// trace, which would take the place of coverage.
func (b *bench) failed(ctx context.Context, ref ast.Ref, r *tester.Result) ([]Finding, error) {
	tracer := tester.NewRunner().
		SetCompiler(b.compiler).
		SetStore(b.store).
		SetTimeout(b.options.Timeout).
		AddCustomBuiltins([]*tester.Builtin{b.observer.builtin()}).
		EnableTracing(true).
		SetPrefixMatchers(ref)
	traced, err := tracer.RunTests(ctx, nil)
	if err != nil {
		return nil, err
	}
	at, text := r.Location, "it is not true"
	for result := range traced {
		if e := failedExpr(result.Trace, r.Location); e != nil {
			at, text = e.Location, "not true: "+oneLine(string(e.Location.Text))
		}
	}
	var failed []string
	for path, sub := range r.SubResults.Iter {
		if sub.Fail {
			failed = append(failed, strings.Join(path, " "))
		}
	}
	if len(failed) > 0 {
		text += " (in " + strings.Join(failed, ", ") + ")"
	}
	return []Finding{failure(at, CodeFailed, text)}, nil
}

// failedExpr is the expression of the rule at a place that failed last; nil for none.
func failedExpr(trace []*topdown.Event, at *ast.Location) *ast.Expr {
	queries := map[uint64]bool{}
	var failed *ast.Expr
	for _, event := range trace {
		switch node := event.Node.(type) {
		case *ast.Rule:
			if node.Location != nil && node.Location.File == at.File && node.Location.Row == at.Row {
				queries[event.QueryID] = true
			}
		case *ast.Expr:
			if event.Op == topdown.FailOp && queries[event.QueryID] && node.Location != nil && len(node.Location.Text) > 0 {
				failed = node
			}
		}
	}
	return failed
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

func failure(at *ast.Location, code, text string) Finding {
	return Finding{File: at.File, Line: at.Row, Column: max(at.Col, 1), Code: code, Text: oneLine(text)}
}
