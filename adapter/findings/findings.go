// Package findings says what is wrong with a policy before it serves: whatever can
// be read from its source, and whatever shows when it decides.
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
package findings

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

	"github.com/stagedoor/stagedoor/adapter/callers"
	"github.com/stagedoor/stagedoor/adapter/explore"
	"github.com/stagedoor/stagedoor/adapter/inventory"
	"github.com/stagedoor/stagedoor/adapter/offline"
	"github.com/stagedoor/stagedoor/rego"
)

// Options say how policies are checked. The zero value of a field is its default.
type Options struct {
	// Entrypoint is the path of the rule that decides; empty for the annotated one.
	Entrypoint string
	// Inventory is what names there are; nil is the stock one.
	Inventory *inventory.Inventory
	// Progress is told how many of how many questions were decided; nil for nobody.
	Progress func(done, of int)
}

// A Report is what was found in one policy, and what it was held against.
type Report struct {
	// Path is what was checked.
	Path string
	// Findings are sorted by file, line and column.
	Findings []Finding
	// Silenced is how many findings comments silence.
	Silenced int
	// Inventory names the inventory.
	Inventory string
	// Callers are the classes of callers that were asked about.
	Callers callers.Classes
	// Unlooked says why rules were not looked at for what never holds and what changes
	// nothing; it is empty where they were.
	Unlooked string
	// Questions is how many decisions were made; 0 where the policy must not serve.
	Questions int
	// Revision, Entrypoint and AboutResource are of the policy; empty where it must not serve.
	Revision, Entrypoint string
	AboutResource        bool
	// Part is a bundle without a rule that decides, beside one that has it.
	Part bool
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

// rootsOf are the roots that the manifest of a bundle declares.
func rootsOf(s *offline.Sources) []string {
	file, err := s.Files().Open(".manifest")
	if err != nil {
		return nil
	}
	defer func() { _ = file.Close() }()
	var manifest struct {
		Roots []string `json:"roots"`
	}
	if json.NewDecoder(file).Decode(&manifest) != nil {
		return nil
	}
	return manifest.Roots
}

func check(ctx context.Context, at string, sources *offline.Sources, others []*offline.Sources, o Options) (Report,
	error) {
	var roots []string
	for _, other := range others {
		roots = append(roots, rootsOf(other)...)
	}
	report := Report{Path: at, Inventory: o.Inventory.Source}
	l := &list{}
	for _, problem := range sources.Errors {
		addOPA(l, Error, problem)
	}
	data := readData(l, o.Inventory, sources)
	rules := permissionRules(l, sources.Modules)
	s := &source{
		list: l, data: data, roots: roots,
		words:   newVocabulary(o.Inventory, explorerRules(rules)),
		reading: newReading(sources.Modules, sources.Tests, rules, data),
	}
	s.check()
	s.checkRoots(sources)
	// Of several bundles one decides, and the rest are its rules and data.
	part := len(others) > 0 && len(entrypoints(sources.Modules, o.Entrypoint)) == 0
	if o.Entrypoint == "" && !part {
		s.checkAnnotated(sources)
	}
	s.checkEntrypoint(entrypoints(sources.Modules, o.Entrypoint))
	s.compile(sources, others)
	if part {
		l.sort()
		report.Findings, report.Silenced = silence(l.findings, sources, data)
		report.Part = true
		return report, nil
	}
	policy, err := offline.Open(ctx, at, offline.Options{Entrypoint: o.Entrypoint})
	switch refused, isRefused := errors.AsType[*offline.RefusedError](err); {
	case isRefused && len(others) > 0 && asErrors(refused.Cause): // what the others bring was compiled above
	case isRefused:
		addRefused(l, at, refused.Cause)
	case err != nil:
		return report, err
	default:
		defer func() { _ = policy.Close(ctx) }()
		report.Revision, report.Entrypoint = policy.Revision(), policy.Entrypoint()
		report.AboutResource = policy.AboutResource()
		for _, source := range policy.Nondeterministic() {
			report.Nondeterministic = append(report.Nondeterministic, fmt.Sprintf("%s at %s", source.Builtin, source.Location))
		}
		if err := s.decide(ctx, policy, sources, &report, o); err != nil {
			return report, err
		}
	}
	l.sort()
	report.Findings, report.Silenced = silence(l.findings, sources, data)
	return report, nil
}

// A permissionRule is a rule that the policy can call, with its schema.
type permissionRule struct {
	*explore.PermissionRule
	schema json.RawMessage
}

// Schema is the JSON Schema of the params; nil where there is none.
func (r *permissionRule) Schema() json.RawMessage { return r.schema }

// permissionRules are the rules of the library and of the modules.
func permissionRules(l *list, modules map[string]*ast.Module) []*permissionRule {
	all := offline.Library()
	for name, module := range modules {
		all[name] = module
	}
	found, err := explore.Rules(all)
	if err != nil {
		addRefused(l, "", err)
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
	var rules []*permissionRule
	for _, rule := range found {
		rules = append(rules, &permissionRule{rule, schemas[rule.Function.String()]})
	}
	return rules
}

func explorerRules(rules []*permissionRule) []*explore.PermissionRule {
	var plain []*explore.PermissionRule
	for _, r := range rules {
		plain = append(plain, r.PermissionRule)
	}
	return plain
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

// compile adds what OPA finds in the modules, strictly and with the schema of the
// input, that was not found already.
func (s *source) compile(sources *offline.Sources, others []*offline.Sources) {
	modules := offline.Library()
	for _, other := range others {
		if len(entrypoints(other.Modules, "")) > 0 {
			continue // a policy of its own
		}
		for name, module := range other.Modules {
			modules[name] = module
		}
	}
	for name, module := range sources.Modules {
		modules[name] = module
	}
	strict := compileErrors(modules, true)
	if len(strict) == 0 {
		return
	}
	// What only the strict compiler refuses, such as an import that is not used, serves.
	refused := map[string]bool{}
	for _, problem := range compileErrors(modules, false) {
		refused[problem.Error()] = true
	}
	for _, problem := range strict {
		if problem.Location != nil && sources.Modules[problem.Location.File] == nil || s.foundAt(problem.Location) {
			continue // another's, or told already
		}
		severity := Warning
		if refused[problem.Error()] {
			severity = Error
		}
		addOPA(s.list, severity, withHint(problem, s))
	}
}

// compileErrors are what OPA says about copies of the modules, with the schemas of the
// input and the other documents.
func compileErrors(modules map[string]*ast.Module, strict bool) ast.Errors {
	copies := make(map[string]*ast.Module, len(modules))
	for name, module := range modules {
		copies[name] = module.Copy()
	}
	compiler := ast.NewCompiler().WithStrict(strict).SetErrorLimit(0).
		WithUseTypeCheckAnnotations(true).WithSchemas(schemaSet())
	compiler.Compile(copies)
	return compiler.Errors
}

// foundAt is whether something was found on the line already.
func (s *source) foundAt(at *ast.Location) bool {
	return at != nil && slices.ContainsFunc(s.findings, func(f Finding) bool {
		return f.File == at.File &&
			f.Line == at.Row
	})
}

func schemaSet() *ast.SchemaSet {
	set := ast.NewSchemaSet()
	for name, text := range rego.Schemas() {
		var schema any
		if err := json.Unmarshal([]byte(text), &schema); err != nil { // it is embedded and tested
			panic(err)
		}
		set.Put(ast.SchemaRootRef.Append(ast.StringTerm(name)), schema)
	}
	return set
}

var undefinedFunction = regexp.MustCompile(`undefined function (\S+)`)

// withHint adds the function of the library that was meant.
func withHint(problem *ast.Error, s *source) *ast.Error {
	match := undefinedFunction.FindStringSubmatch(problem.Message)
	if match == nil {
		return problem
	}
	names := slices.Sorted(maps.Keys(s.rules))
	for name, rules := range s.defined {
		if len(rules[0].Head.Args) > 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	hinted := *problem
	for _, name := range names { // what is called as if it were imported
		if strings.HasSuffix(name, "."+match[1]) && strings.Contains(match[1], ".") {
			hinted.Message += "; write import " + name[:strings.LastIndex(name, ".")]
			return &hinted
		}
	}
	if meant := nearest(match[1], names); meant != "" {
		hinted.Message += " (" + strings.TrimPrefix(strings.TrimPrefix(meant, "data.backstage."), "data.") + "?)"
	}
	return &hinted
}

// addOPA adds an error of OPA's parser or compiler.
func addOPA(l *list, severity Severity, problem *ast.Error) {
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
	l.add(positionOf(problem.Location), severity, code, "%s", strings.Join(texts, " "))
}

var atLine = regexp.MustCompile(`^(.+?):(\d+)(?::(\d+))?: (.+)$`)

var ofFile = regexp.MustCompile(`^(\S+\.rego): (.+)$`)

// addRefused adds what serving refuses a policy for.
func addRefused(l *list, at string, cause error) {
	if several, ok := errors.AsType[ast.Errors](cause); ok {
		for _, problem := range several {
			if !slices.ContainsFunc(l.findings, func(f Finding) bool {
				return problem.Location != nil && f.File == problem.Location.File && f.Line == problem.Location.Row
			}) {
				addOPA(l, Error, problem)
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
			l.add(position{p.File, p.Row, p.Col}, Error, "resource", "%s", text)
		}
		return
	}
	for line := range strings.SplitSeq(cause.Error(), "\n") {
		if toldBetter(l, line) {
			continue
		}
		where, text := position{file: at}, line
		if m := atLine.FindStringSubmatch(line); m != nil {
			where.file, text = m[1], m[4]
			_, _ = fmt.Sscan(m[2], &where.row)
			_, _ = fmt.Sscan(m[3], &where.col)
		}
		if len(l.findings) > 0 && where.row > 0 && slices.ContainsFunc(l.findings,
			func(f Finding) bool { return f.File == where.file && f.Line == where.row }) {
			continue
		}
		if m := ofFile.FindStringSubmatch(line); m != nil && where.row == 0 {
			where, text = position{m[1], 1, 1}, m[2]
		}
		if where.row == 0 && strings.Contains(line, "roots") {
			where = position{path.Join(at, ".manifest"), 1, 1}
		}
		l.add(where, Error, "bundle", "%s", text)
	}
}

func asErrors(err error) bool {
	_, ok := errors.AsType[ast.Errors](err)
	return ok
}

// toldBetter is whether a finding with a line says already what serving says without.
func toldBetter(l *list, line string) bool {
	has := func(code string) bool {
		return slices.ContainsFunc(l.findings, func(f Finding) bool { return f.Code == code })
	}
	return strings.Contains(line, "manifest roots") && has("roots") ||
		(strings.HasPrefix(line, "several rules are annotated") || strings.HasPrefix(line, "no rule decides: annotate")) &&
			has("entrypoint")
}

// checkRoots looks for what lies outside of the roots that the manifest declares.
func (s *source) checkRoots(sources *offline.Sources) {
	roots := rootsOf(sources)
	if len(roots) == 0 {
		return // which serving refuses, and says what to write
	}
	covers := func(steps []string) (within, above bool) {
		at := strings.Join(steps, "/") + "/"
		for _, root := range roots {
			root = strings.Trim(root, "/") + "/"
			within = within || root == "/" || strings.HasPrefix(at, root)
			above = above || strings.HasPrefix(root, at)
		}
		return within, above
	}
	outside := func(at position, what string, steps []string) {
		s.add(at, Error, "roots", "%s lies outside of the roots of .manifest; write {\"roots\": [%s]}", what,
			strings.Join(append(quoted(roots), fmt.Sprintf("%q", strings.Join(steps, "/"))), ", "))
	}
	for _, name := range slices.Sorted(maps.Keys(sources.Modules)) {
		p := sources.Modules[name].Package
		steps := make([]string, 0, len(p.Path)-1)
		for _, step := range p.Path[1:] {
			steps = append(steps, plainStep(step))
		}
		if within, _ := covers(steps); !within {
			outside(positionOf(p.Location), "package "+strings.Join(steps, "."), steps)
		}
	}
	s.data.each(func(at position, steps []string) bool {
		within, above := covers(steps)
		if !within && !above {
			outside(at, pathText(steps), steps)
		}
		return above && !within
	})
}

func quoted(texts []string) []string {
	var all []string
	for _, text := range texts {
		all = append(all, fmt.Sprintf("%q", text))
	}
	return all
}

// checkAnnotated looks for none, or more than one rule that is to decide.
func (s *source) checkAnnotated(sources *offline.Sources) {
	var places []position
	var paths []string
	first := position{}
	for _, name := range slices.Sorted(maps.Keys(sources.Modules)) {
		if first.file == "" {
			first = position{name, 1, 1}
		}
		for _, a := range sources.Modules[name].Annotations {
			if a.Entrypoint {
				places = append(places, positionOf(a.Location))
				paths = append(paths, strings.TrimPrefix(a.GetTargetPath().String(), "data."))
			}
		}
	}
	if len(places) == 0 && first.file != "" {
		s.add(first, Error, "entrypoint", "no rule decides: annotate the rule that decides with # METADATA and # "+
			"entrypoint: true, or name it by --entrypoint")
	}
	distinct := slices.Compact(slices.Sorted(slices.Values(paths)))
	if len(distinct) > 1 {
		for i, at := range places {
			others := slices.DeleteFunc(slices.Clone(distinct), func(path string) bool { return path == paths[i] })
			s.add(at, Error, "entrypoint", "%s is annotated as entrypoint, and so is %s; leave entrypoint: true to the "+
				"one that decides, or name it by --entrypoint",
				paths[i], strings.Join(others, ", "))
		}
	}
}

// libraryHas is whether the library has something at the path.
func libraryHas(path []string) bool {
	at := "data." + strings.Join(path, ".") + "."
	for _, module := range offline.Library() {
		for _, rule := range module.Rules {
			name := rule.Ref().GroundPrefix().String() + "."
			if strings.HasPrefix(name, at) || strings.HasPrefix(at, name) {
				return true
			}
		}
	}
	return false
}

// silence leaves out what comments silence. A comment without a reason, or one that
// silences nothing, is a finding itself.
func silence(findings []Finding, sources *offline.Sources, data *dataFiles) ([]Finding, int) {
	type comment struct {
		at     position
		codes  string
		reason string
		used   bool
	}
	var comments []*comment
	for _, of := range []map[string]*ast.Module{sources.Modules, sources.Tests} {
		for _, name := range slices.Sorted(maps.Keys(of)) {
			for _, c := range of[name].Comments {
				text, ok := strings.CutPrefix(strings.TrimSpace(string(c.Text)), "stagedoor:ignore")
				if !ok {
					continue
				}
				code, reason, _ := strings.Cut(strings.TrimSpace(text), " ")
				comments = append(comments, &comment{at: positionOf(c.Location), codes: code, reason: strings.TrimSpace(reason)})
			}
		}
	}
	for _, file := range data.files {
		for _, row := range slices.Sorted(maps.Keys(file.comments)) {
			if text, ok := strings.CutPrefix(file.comments[row], "stagedoor:ignore"); ok {
				code, reason, _ := strings.Cut(strings.TrimSpace(text), " ")
				comments = append(comments, &comment{at: position{file.name, row, 1}, codes: code,
					reason: strings.TrimSpace(reason)})
			}
		}
	}
	l := &list{}
	silenced := 0
	for _, f := range findings {
		quiet := false
		for _, c := range comments {
			if c.reason != "" && f.File == c.at.file && (f.Line == c.at.row || f.Line == c.at.row+1) &&
				slices.Contains(strings.Split(c.codes, ","), f.Code) {
				c.used, quiet = true, true
			}
		}
		if quiet {
			silenced++
			continue
		}
		l.findings = append(l.findings, f)
	}
	for _, c := range comments {
		switch {
		case c.codes == "" || c.reason == "":
			l.add(c.at, Error, "ignore", "say what is ignored and why: # stagedoor:ignore CODE REASON")
		case !c.used:
			l.add(c.at, Warning, "ignore", "there is nothing to ignore here of the code %s; delete the comment", c.codes)
		}
	}
	l.sort()
	return l.findings, silenced
}
