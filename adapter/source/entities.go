package source

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/adapter/findings"
	"github.com/stagedoor/stagedoor/adapter/reading"
	"github.com/stagedoor/stagedoor/adapter/spelling"
)

// entityMembers are the members of a catalog entity, by the folders that they are in.
var entityMembers = map[string][]string{
	"resource": {"apiVersion", "kind", "metadata", "spec", "relations", "status"},
	"resource.metadata": {"uid", "etag", "name", "namespace", "title", "description", "labels", "annotations", "tags",
		"links"},
	"relation": {"type", "targetRef"},
}

// checkTestResource looks for members of an entity that are misspelt, in the input of
// a test: a negative test passes for them.
func (s *Source) checkTestResource(use *reading.DocumentUse) {
	member := func(object ast.Object, name string) ast.Object {
		if t := object.Get(ast.StringTerm(name)); t != nil {
			inner, _ := t.Value.(ast.Object)
			return inner
		}
		return nil
	}
	resource := member(use.Object, "resource")
	if resource == nil || use.Object.Get(ast.StringTerm("permission")) == nil &&
		use.Object.Get(ast.StringTerm("identity")) == nil {
		return
	}
	if permission := member(use.Object, "permission"); permission != nil {
		if t := permission.Get(ast.StringTerm("resourceType")); t != nil && !t.Equal(ast.StringTerm("catalog-entity")) {
			return
		}
	}
	if resource.Get(ast.StringTerm("kind")) == nil && resource.Get(ast.StringTerm("metadata")) == nil &&
		resource.Get(ast.StringTerm("apiVersion")) == nil {
		return // whatever it is, it is no entity
	}
	s.misspelt("resource", resource)
	if metadata := member(resource, "metadata"); metadata != nil {
		s.misspelt("resource.metadata", metadata)
	}
	if relations := resource.Get(ast.StringTerm("relations")); relations != nil {
		if list, ok := relations.Value.(*ast.Array); ok {
			list.Foreach(func(t *ast.Term) {
				if relation, ok := t.Value.(ast.Object); ok {
					s.misspelt("relation", relation)
					s.checkRelationType(relation)
				}
			})
		}
	}
}

func (s *Source) misspelt(what string, object ast.Object) {
	members := entityMembers[what]
	object.Foreach(func(k, _ *ast.Term) {
		name, ok := k.Value.(ast.String)
		if !ok || slices.Contains(members, string(name)) {
			return
		}
		if meant := spelling.Meant(string(name), members); meant != "" {
			s.Add(findings.At(k.Location), findings.Error, "input",
				"no entity has %s.%s (%s?), so that this test passes or fails for the wrong reason", what, string(name), meant)
		}
	})
}
