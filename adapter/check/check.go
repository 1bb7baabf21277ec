// Package check says what is wrong with a policy before it serves: whatever can be
// read from its source, and whatever shows when it decides.
//
// [Check] reads every file of a PATH, also of a policy that must not serve, so that
// one run tells everything:
//
//   - what does not parse, compile or pass the vetting of serving, with file and line;
//   - members of the input that no request has;
//   - names that nobody publishes: permissions, actions, resource types, plugins,
//     rules. A text is taken for such a name because it is compared with one of the
//     input, directly or through variables, rules, functions and data;
//   - params that a rule's schema refuses, in calls and in documents;
//   - references in a form that Backstage never writes;
//   - data that no file has, or that the schema beside it refuses;
//   - habits that mean something else than they say;
//   - by the engine that serves, over every permission of the inventory and each class
//     of callers: failures, and rules that never matter.
//
// A finding is silenced by a comment with its code and a reason, on its line or on
// the line above:
//
//	# stagedoor:ignore permission our plugin publishes it from next week on
package check

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/adapter/datafiles"
	"github.com/stagedoor/stagedoor/adapter/explore"
	"github.com/stagedoor/stagedoor/adapter/findings"
	"github.com/stagedoor/stagedoor/adapter/inventory"
	"github.com/stagedoor/stagedoor/adapter/offline"
	"github.com/stagedoor/stagedoor/adapter/reach"
	"github.com/stagedoor/stagedoor/adapter/reading"
	"github.com/stagedoor/stagedoor/adapter/source"
	"github.com/stagedoor/stagedoor/adapter/trial"
)

// Options say how policies are checked. The zero value of a field is its default.
type Options struct {
	// Entrypoint is the path of the rule that decides; empty for the annotated one.
	Entrypoint string
	// Inventory is what names there are; nil is the stock one.
	Inventory *inventory.Inventory
	// Reach is what the policies may reach beyond their input and data.
	Reach reach.Options
	// Progress is told how many of how many questions were decided; nil for nobody.
	Progress func(done, of int)
	// Unhurried has nothing cut short for taking long, so that what is found does not depend
	// on the machine.
	Unhurried bool
}

// A Report is what was found in one policy, and what it was held against.
type Report struct {
	// Path is what was checked.
	Path string
	// Findings are sorted by file, line and column.
	Findings []findings.Finding
	// Silenced is how many findings comments silence.
	Silenced int
	// Inventory names the inventory.
	Inventory string
	// Trial is how the policy was asked; zero where it must not serve.
	trial.Trial
	// Revision, Entrypoint and AboutResource are of the policy; empty where it must not serve.
	Revision, Entrypoint string
	AboutResource        bool
	// Part is a bundle without a rule that decides, beside one that has it.
	Part bool
	// Unasked says why the policy was not asked what it decides, though it may serve; else empty.
	Unasked string
	// Nondeterministic says what forbids to remember its decisions, and where.
	Nondeterministic []string
}

// Check checks the policies at the paths, each a PATH as [offline.Open] takes it. What
// is a root of one is known to the others.
//
// The error is that of reading a path, or the context's.
func Check(ctx context.Context, paths []string, o Options) ([]Report, error) {
	if o.Inventory == nil {
		o.Inventory = inventory.Stock()
	}
	var all []*offline.Sources
	defer func() {
		for _, s := range all {
			_ = s.Close()
		}
	}()
	for _, at := range paths {
		s, err := offline.ReadSources(ctx, at)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	var reports []Report
	for i, at := range paths {
		others := slices.Delete(slices.Clone(all), i, i+1)
		report, err := check(ctx, at, all[i], others, o)
		if err != nil {
			return nil, err
		}
		reports = append(reports, report)
	}
	return reports, nil
}

func check(ctx context.Context, at string, sources *offline.Sources, others []*offline.Sources, o Options) (Report,
	error) {
	var roots []string
	for _, other := range others {
		roots = append(roots, other.Roots()...)
	}
	report := Report{Path: at, Inventory: o.Inventory.Source}
	l := &findings.List{}
	for _, problem := range sources.Errors {
		addOPA(l, findings.Error, problem)
	}
	data := datafiles.Read(l, o.Inventory, sources, others...)
	rules, err := permissionRules(sources.Modules)
	if err != nil {
		addRefused(l, "", err)
	}
	s := source.New(l, reading.New(sources.Modules, sources.Tests, rules, data), o.Inventory, roots)
	s.Check()
	s.CheckRoots(sources)
	// Of several bundles one decides, and the rest are its rules and data.
	part := len(others) > 0 && len(entrypoints(sources.Modules, o.Entrypoint)) == 0
	if o.Entrypoint == "" && !part {
		s.CheckAnnotated(sources)
	}
	s.CheckEntrypoint(entrypoints(sources.Modules, o.Entrypoint))
	beside := slices.DeleteFunc(slices.Clone(others), func(other *offline.Sources) bool {
		return len(entrypoints(other.Modules, o.Entrypoint)) > 0 // a policy of its own
	})
	if part && len(beside) == len(others)-1 { // of several that could decide, none is the part's
		beside = others
	}
	compile(s, sources, beside, o.Reach)
	if part {
		l.Sort()
		report.Findings, report.Silenced = silence(l.Findings, sources, data)
		report.Part = true
		return report, nil
	}
	var parts []string
	for _, other := range beside {
		parts = append(parts, other.Path())
	}
	policy, err := offline.OpenBeside(ctx, at, parts, offline.Options{Entrypoint: o.Entrypoint, Reach: o.Reach})
	switch refused, isRefused := errors.AsType[*offline.RefusedError](err); {
	case isRefused && len(parts) > 0 && elsewhere(refused.Cause, sources):
		report.Unasked = "a bundle beside it does not compile"
	case isRefused:
		addRefused(l, refused.Path, refused.Cause)
	case err != nil:
		return report, err
	default:
		defer func() { _ = policy.Close(ctx) }()
		report.Revision, report.Entrypoint = policy.Revision(), policy.Entrypoint()
		report.AboutResource = policy.AboutResource()
		for _, source := range policy.Nondeterministic() {
			report.Nondeterministic = append(report.Nondeterministic, fmt.Sprintf("%s at %s", source.Builtin, source.Location))
		}
		asking := trial.Options{Progress: o.Progress, Unhurried: o.Unhurried}
		if report.Trial, err = trial.Run(ctx, s, policy, sources, asking); err != nil {
			return report, err
		}
	}
	l.Sort()
	report.Findings, report.Silenced = silence(l.Findings, sources, data)
	return report, nil
}

// permissionRules are the rules of the library and of the modules, or those of the
// library alone where an annotation is wrong, which is the error then.
func permissionRules(modules map[string]*ast.Module) ([]*reading.Rule, error) {
	all := offline.Library()
	for name, module := range modules {
		all[name] = module
	}
	found, err := explore.Rules(all)
	if err != nil {
		all = offline.Library()
		found, _ = explore.Rules(all)
	}
	schemas := map[string]json.RawMessage{}
	for _, module := range all {
		for _, a := range module.Annotations {
			custom, _ := a.Custom["backstage"].(map[string]any)
			if schema, ok := custom["paramsSchema"]; ok {
				schemas[a.GetTargetPath().String()], _ = json.Marshal(schema)
			}
		}
	}
	var rules []*reading.Rule
	for _, rule := range found {
		rules = append(rules, &reading.Rule{PermissionRule: rule, Schema: schemas[rule.Function.String()]})
	}
	return rules, err
}

// entrypoints are the rules that decide, as far as is known without compiling.
func entrypoints(modules map[string]*ast.Module, entrypoint string) []*ast.Rule {
	var rules []*ast.Rule
	for _, name := range slices.Sorted(maps.Keys(modules)) {
		for _, a := range modules[name].Annotations {
			if entrypoint == "" && a.Entrypoint {
				entrypoint = strings.Trim(strings.ReplaceAll(a.GetTargetPath().String(), ".", "/"), "/")
			}
		}
	}
	path := "data." + strings.ReplaceAll(strings.TrimPrefix(strings.ReplaceAll(entrypoint, "/", "."), "data."), "/", ".")
	for _, name := range slices.Sorted(maps.Keys(modules)) {
		for _, rule := range modules[name].Rules {
			if rule.Ref().GroundPrefix().String() == path {
				rules = append(rules, rule)
			}
		}
	}
	return rules
}

// addOPA adds an error of OPA's parser or compiler.
func addOPA(l *findings.List, severity findings.Severity, problem *ast.Error) {
	code := "compile"
	if problem.Code == ast.ParseErr {
		code = "syntax"
	}
	texts := []string{problem.Message}
	if problem.Details != nil && code != "syntax" {
		for _, line := range problem.Details.Lines() {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "^") {
				texts = append(texts, line)
			}
		}
	}
	l.Add(findings.At(problem.Location), severity, code, "%s", strings.Join(texts, " "))
}

var atLine = regexp.MustCompile(`^(.+?):(\d+)(?::(\d+))?: (.+)$`)

var ofFile = regexp.MustCompile(`^(\S+\.rego): (.+)$`)

// addRefused adds what serving refuses a policy for.
func addRefused(l *findings.List, at string, cause error) {
	if several, ok := errors.AsType[ast.Errors](cause); ok {
		for _, problem := range several {
			if !slices.ContainsFunc(l.Findings, func(f findings.Finding) bool {
				return problem.Location != nil && f.File == problem.Location.File && f.Line == problem.Location.Row
			}) {
				addOPA(l, findings.Error, problem)
			}
		}
		return
	}
	if vet, ok := errors.AsType[*explore.VetError](cause); ok {
		for _, p := range vet.Problems {
			text := p.Expression + ": " + p.Message
			if p.Hint != "" {
				text += "; write " + p.Hint
			}
			l.Add(findings.Position{File: p.File, Row: p.Row, Col: p.Col}, findings.Error, "resource", "%s", text)
		}
		return
	}
	for line := range strings.SplitSeq(cause.Error(), "\n") {
		if toldBetter(l, line) {
			continue
		}
		where, text := findings.Position{File: at}, line
		if m := atLine.FindStringSubmatch(line); m != nil {
			where.File, text = m[1], m[4]
			_, _ = fmt.Sscan(m[2], &where.Row)
			_, _ = fmt.Sscan(m[3], &where.Col)
		}
		if len(l.Findings) > 0 && where.Row > 0 && slices.ContainsFunc(l.Findings,
			func(f findings.Finding) bool { return f.File == where.File && f.Line == where.Row }) {
			continue
		}
		if m := ofFile.FindStringSubmatch(line); m != nil && where.Row == 0 {
			where, text = findings.Position{File: m[1], Row: 1, Col: 1}, m[2]
		}
		if where.Row == 0 && strings.Contains(line, "roots") {
			where = findings.Position{File: path.Join(at, ".manifest"), Row: 1, Col: 1}
		}
		l.Add(where, findings.Error, "bundle", "%s", text)
	}
}

// elsewhere is whether all that OPA has against a policy is in files that are not of these.
func elsewhere(cause error, sources *offline.Sources) bool {
	all, ok := errors.AsType[ast.Errors](cause)
	own := func(e *ast.Error) bool {
		return e.Location == nil || sources.Modules[e.Location.File] != nil ||
			slices.ContainsFunc(sources.Errors, func(p *ast.Error) bool { return p.Location.File == e.Location.File })
	}
	return ok && !slices.ContainsFunc(all, own)
}

// toldBetter is whether a finding with a line says already what serving says without.
func toldBetter(l *findings.List, line string) bool {
	has := func(code string) bool {
		return slices.ContainsFunc(l.Findings, func(f findings.Finding) bool { return f.Code == code })
	}
	return strings.Contains(line, "root value must be object") && has("data") ||
		strings.Contains(line, "failed to insert data file") && has("data") ||
		strings.HasPrefix(line, "no rule decides: the entrypoint") && has("entrypoint") ||
		strings.Contains(line, "manifest roots") && has("roots") ||
		(strings.HasPrefix(line, "several rules are annotated") || strings.HasPrefix(line, "no rule decides: annotate")) &&
			has("entrypoint")
}
