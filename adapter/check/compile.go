package check

import (
	"encoding/json"
	"errors"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/adapter/findings"
	"github.com/stagedoor/stagedoor/adapter/offline"
	"github.com/stagedoor/stagedoor/adapter/reach"
	"github.com/stagedoor/stagedoor/adapter/reading/ruleindex"
	"github.com/stagedoor/stagedoor/adapter/source"
	"github.com/stagedoor/stagedoor/adapter/spelling"
	"github.com/stagedoor/stagedoor/rego"
)

// compile adds what OPA finds in the modules, with those beside them, strictly and with the
// schema of the input, that was not found already.
func compile(s *source.Source, sources *offline.Sources, beside []*offline.Sources, reaches reach.Options) {
	if problems, ok := errors.AsType[ast.Errors](reaches.Check(slices.Collect(maps.Values(sources.Modules))...)); ok {
		for _, problem := range problems {
			addOPA(s.List, findings.Error, problem)
		}
	}
	modules := offline.Library()
	for _, other := range beside {
		for name, module := range other.Modules {
			modules[name] = module
		}
	}
	for name, module := range sources.Modules {
		modules[name] = module
	}
	compiler := compiled(modules, true, reaches)
	strict := compiler.Errors
	// What only the strict compiler refuses, such as an import that is not used, serves.
	refused := map[string]bool{}
	if len(strict) > 0 {
		compiler = compiled(modules, false, reaches)
		for _, problem := range compiler.Errors {
			refused[problem.Error()] = true
		}
	}
	if len(compiler.Errors) == 0 {
		for _, name := range slices.Sorted(maps.Keys(sources.Modules)) {
			addLeftOut(s.List, compiler, compiler.Modules[name])
		}
	}
	for _, problem := range strict {
		if problem.Location != nil && sources.Modules[problem.Location.File] == nil ||
			s.FoundAt(findings.At(problem.Location)) {
			continue // another's, or told already
		}
		severity := findings.Warning
		if refused[problem.Error()] {
			severity = findings.Error
		}
		addOPA(s.List, severity, withHint(problem, s))
	}
}

// addLeftOut adds the rules of a compiled module that OPA leaves out though they can hold.
func addLeftOut(l *findings.List, compiler *ast.Compiler, m *ast.Module) {
	ast.WalkRules(m, func(rule *ast.Rule) bool {
		if e := ruleindex.LeftOut(compiler, rule); e != nil {
			l.Add(findings.At(e.Location), findings.Error, "index",
				"OPA's index of rules leaves this rule out, also where it holds; write %s before the `in` that stands above it",
				findings.OneLine(string(e.Location.Text)))
		}
		return false
	})
}

// compiled are copies of the modules as OPA compiles them, or what it says about them, with
// the schemas of the input and the other documents.
func compiled(modules map[string]*ast.Module, strict bool, reaches reach.Options) *ast.Compiler {
	copies := make(map[string]*ast.Module, len(modules))
	for name, module := range modules {
		copies[name] = module.Copy()
	}
	compiler := ast.NewCompiler().WithCapabilities(reaches.Capabilities()).WithStrict(strict).SetErrorLimit(0).
		WithUseTypeCheckAnnotations(true).WithSchemas(schemaSet())
	compiler.Compile(copies)
	return compiler
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
func withHint(problem *ast.Error, s *source.Source) *ast.Error {
	match := undefinedFunction.FindStringSubmatch(problem.Message)
	if match == nil {
		return problem
	}
	names := slices.Sorted(maps.Keys(s.Rules))
	for name, rules := range s.Defined {
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
	if meant := spelling.Meant(match[1], names); meant != "" {
		hinted.Message += " (" + strings.TrimPrefix(strings.TrimPrefix(meant, "data.backstage."), "data.") + "?)"
	}
	return &hinted
}
