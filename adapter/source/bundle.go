package source

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/adapter/datafiles"
	"github.com/stagedoor/stagedoor/adapter/findings"
	"github.com/stagedoor/stagedoor/adapter/offline"
)

// CheckRoots looks for what lies outside of the roots that the manifest declares.
func (s *Source) CheckRoots(sources *offline.Sources) {
	roots := sources.Roots()
	if len(roots) == 0 {
		return // which serving refuses, and says what to write
	}
	covers := func(steps []string) (within, above bool) {
		at := strings.Join(steps, "/") + "/"
		for _, root := range roots {
			root += "/"
			within = within || root == "/" || strings.HasPrefix(at, root)
			above = above || strings.HasPrefix(root, at)
		}
		return within, above
	}
	outside := func(at findings.Position, what string, steps []string) {
		kept := slices.DeleteFunc(slices.Clone(roots), func(root string) bool { // written as a package
			return strings.ReplaceAll(root, ".", "/") == strings.Join(steps, "/")
		})
		s.Add(at, findings.Error, "roots", "%s lies outside of the roots of .manifest; write {\"roots\": [%s]}", what,
			strings.Join(append(quoted(kept), fmt.Sprintf("%q", strings.Join(steps, "/"))), ", "))
	}
	for _, name := range slices.Sorted(maps.Keys(sources.Modules)) {
		p := sources.Modules[name].Package
		steps := make([]string, 0, len(p.Path)-1)
		for _, step := range p.Path[1:] {
			steps = append(steps, plainStep(step))
		}
		if within, _ := covers(steps); !within {
			outside(findings.At(p.Location), "package "+strings.Join(steps, "."), steps)
		}
	}
	s.Data.Each(func(at findings.Position, steps []string) bool {
		within, above := covers(steps)
		if !within && !above {
			outside(at, datafiles.PathText(steps), steps)
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

// CheckAnnotated looks for none, or more than one rule that is to decide.
func (s *Source) CheckAnnotated(sources *offline.Sources) {
	var places []findings.Position
	var paths []string
	first := findings.Position{}
	for _, name := range slices.Sorted(maps.Keys(sources.Modules)) {
		if first.File == "" {
			first = findings.Position{File: name, Row: 1, Col: 1}
		}
		for _, a := range sources.Modules[name].Annotations {
			if a.Entrypoint && a.Scope == "package" {
				s.Add(findings.At(a.Location), findings.Error, "entrypoint", "this stands above a package, so that all of the "+
					"package is the answer; write it above the rule that decides, with an empty line between package and it")
			}
			if a.Entrypoint {
				places = append(places, findings.At(a.Location))
				paths = append(paths, strings.TrimPrefix(a.GetTargetPath().String(), "data."))
			}
		}
	}
	if len(places) == 0 && first.File != "" {
		s.Add(first, findings.Error, "entrypoint", "no rule decides: annotate the rule that decides with # METADATA and # "+
			"entrypoint: true, or name it by --entrypoint")
	}
	distinct := slices.Compact(slices.Sorted(slices.Values(paths)))
	if len(distinct) > 1 {
		for i, at := range places {
			others := slices.DeleteFunc(slices.Clone(distinct), func(path string) bool { return path == paths[i] })
			s.Add(at, findings.Error, "entrypoint",
				"%s is annotated as entrypoint, and so is %s; leave entrypoint: true to the "+
					"one that decides, or name it by --entrypoint",
				paths[i], strings.Join(others, ", "))
		}
	}
}

// CheckEntrypoint looks at what the rule that decides says where no body holds, and
// at values that are no answer.
func (s *Source) CheckEntrypoint(rules []*ast.Rule) {
	for _, rule := range rules {
		for each := rule; each != nil; each = each.Else {
			if len(each.Head.Args) > 0 {
				s.Add(findings.At(each.Head.Location), findings.Error, "entrypoint",
					"the rule that decides is a function, which nobody calls; write %s if …, about input", shortName(each))
			}
			if each.Head.Value == nil || len(each.Head.Args) > 0 || !each.Ref().IsGround() {
				continue // the value of a member is none of the document
			}
			at := findings.At(each.Head.Location)
			if each.Default && allows(each.Head.Value) {
				s.Add(at, findings.Error, "default",
					"by this default everybody may do what no rule speaks of; write default %s := %s",
					shortName(each), denial(each.Head.Value))
			}
			switch v := each.Head.Value.Value.(type) {
			case ast.String, ast.Number, ast.Null, *ast.Array, ast.Set:
				s.Add(at, findings.Error, "answer",
					"%v is no answer, so that every request fails for which this holds; write true, "+
						"false or {\"result\": \"ALLOW\"}", each.Head.Value)
			case ast.Object:
				if v.Get(ast.StringTerm("result")) == nil {
					s.Add(at, findings.Error, "answer",
						"an answer needs result; write {\"result\": \"ALLOW\"}, \"DENY\" or \"CONDITIONAL\"")
				}
			}
		}
		if rule.Head.Key != nil && rule.Head.Value == nil {
			s.Add(findings.At(rule.Head.Location), findings.Error, "answer",
				"the rule that decides is a set, which is no answer; write %s if …", shortName(rule))
		}
	}
}

func allows(t *ast.Term) bool {
	if ast.Boolean(true).Equal(t.Value) {
		return true
	}
	object, ok := t.Value.(ast.Object)
	if !ok {
		return false
	}
	result := object.Get(ast.StringTerm("result"))
	return result != nil && result.Equal(ast.StringTerm("ALLOW"))
}

func denial(t *ast.Term) string {
	if _, ok := t.Value.(ast.Object); ok {
		return `{"result": "DENY"}`
	}
	return "false"
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
