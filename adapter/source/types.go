package source

import (
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"go.yaml.in/yaml/v3"

	"github.com/stagedoor/stagedoor/adapter/findings"
	"github.com/stagedoor/stagedoor/adapter/reading"
)

// checkTypes looks for values that are looked into though they hold nothing, and for
// comparisons that hold for no value.
func (s *Source) checkTypes() {
	for _, lookup := range s.Lookups {
		n := lookup.In.Root()
		if types := n.JSONTypes; types != 0 && types&(reading.IsList|reading.IsObject) == 0 {
			s.Add(lookup.At, findings.Error, "type", "%s is a %s, and in looks into lists and objects alone; write a list there",
				lookup.Term, types)
			continue
		}
		if lookup.Every && s.emptyInFile(lookup.Term) {
			s.Add(lookup.At, findings.Warning, "empty", "%s is empty, and every holds for whatever is empty; ask for "+
				"count(%s) > 0 first", lookup.Term, lookup.Term)
		}
	}
	for _, c := range s.Comparisons {
		s.Add(c.At, findings.Error, "type", "%s is a %s, and so it is never equal to a %s", c.Term,
			strings.ReplaceAll(c.Is.String(), "array", "list"), c.Wanted)
	}
}

// emptyInFile is whether a term is a list of the data that has nothing in it.
func (s *Source) emptyInFile(t *ast.Term) bool {
	ref, ok := t.Value.(ast.Ref)
	if !ok || !ref.HasPrefix(ast.DefaultRootRef) || !ref.IsGround() {
		return false
	}
	steps := make([]string, 0, len(ref)-1)
	for _, step := range ref[1:] {
		steps = append(steps, plainStep(step))
	}
	n := s.Data.At(steps)
	return n != nil && n.Kind == yaml.SequenceNode && len(n.Content) == 0
}
