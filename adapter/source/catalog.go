package source

import (
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/adapter/findings"
	"github.com/stagedoor/stagedoor/adapter/reading"
	"github.com/stagedoor/stagedoor/adapter/spelling"
)

// What the catalog has by itself. A Backstage can have more, so only what is nearly one
// of these is taken for a mistake.
var (
	entityKinds = []string{"API", "Component", "Domain", "Group", "Location", "Resource", "System", "Template", "User"}

	relationTypes = []string{"apiConsumedBy", "apiProvidedBy", "childOf", "consumesApi", "dependencyOf", "dependsOn",
		"hasMember", "hasPart", "memberOf", "ownedBy", "ownerOf", "parentOf", "partOf", "providesApi"}
)

// mistaken is the name that a text is taken for. There can be others that nobody knows here,
// and of three letters nearly everything is near: App is no mistake for API.
func mistaken(text string, names []string) string {
	if meant := spelling.Meant(text, names); len(text) > 3 || strings.EqualFold(text, meant) {
		return meant
	}
	return ""
}

// checkEntityParam looks at what a param of a catalog rule says of an entity.
func (s *Source) checkEntityParam(rule, param string, value *ast.Term) {
	switch text, isText := value.Value.(ast.String); {
	case rule == "IS_ENTITY_KIND" && param == "kinds":
		kinds, ok := value.Value.(*ast.Array)
		if !ok {
			return
		}
		kinds.Foreach(func(kind *ast.Term) {
			name, _ := kind.Value.(ast.String)
			if meant := mistaken(string(name), entityKinds); meant != "" && !strings.EqualFold(string(name), meant) {
				s.Add(findings.At(kind.Location), findings.Warning, "params", "no entity of Backstage's own is of kind %s (%s?)",
					string(name), meant)
			}
		})
	case !isText || param != "key":
	case rule == "HAS_SPEC" && strings.HasPrefix(string(text), "spec."),
		rule == "HAS_METADATA" && strings.HasPrefix(string(text), "metadata."):
		_, rest, _ := strings.Cut(string(text), ".")
		s.Add(findings.At(value.Location), findings.Error, "params",
			"%s looks below %s by itself, so that %s is never there; "+
				"write %q", rule, strings.ToLower(strings.TrimPrefix(rule, "HAS_")), text, rest)
	}
}

// checkTestPermission looks for a permission in the input of a test that is another one
// in Backstage.
func (s *Source) checkTestPermission(document *reading.DocumentUse) {
	use := &memberOf{document.Object}
	name := use.text("name")
	known, ok := s.Words.Inventory.Permission(name)
	if !ok {
		return
	}
	for _, member := range []struct{ name, is string }{
		{"type", known.Type}, {"resourceType", known.ResourceType},
	} {
		if value := use.object.Get(ast.StringTerm(member.name)); value != nil && ast.IsScalar(value.Value) &&
			!value.Equal(ast.StringTerm(member.is)) {
			s.Add(findings.At(value.Location), findings.Error, "input", "no Backstage sends %s with the %s %s: it is %q", name,
				member.name, value, member.is)
		}
	}
	attributes := use.member("attributes")
	if attributes == nil {
		return
	}
	if value := attributes.Get(ast.StringTerm("action")); value != nil && ast.IsScalar(value.Value) &&
		!value.Equal(ast.StringTerm(known.Attributes.Action)) {
		s.Add(findings.At(value.Location), findings.Error, "input", "no Backstage sends %s with the action %s: it is %q",
			name,
			value, known.Attributes.Action)
	}
}

// memberOf is an object of a test's input.
type memberOf struct{ object ast.Object }

func (m *memberOf) member(name string) ast.Object {
	if t := m.object.Get(ast.StringTerm(name)); t != nil {
		inner, _ := t.Value.(ast.Object)
		return inner
	}
	return nil
}

func (m *memberOf) text(name string) string {
	if t := m.object.Get(ast.StringTerm(name)); t != nil {
		text, _ := t.Value.(ast.String)
		return string(text)
	}
	return ""
}

// checkRelationType looks for a type of relation that is nearly one of the catalog's.
func (s *Source) checkRelationType(relation ast.Object) {
	t := relation.Get(ast.StringTerm("type"))
	if t == nil {
		return
	}
	text, _ := t.Value.(ast.String)
	if meant := mistaken(string(text), relationTypes); meant != "" {
		s.Add(findings.At(t.Location), findings.Error, "input",
			"no relation of Backstage's own is of type %s (%s?), so that "+
				"this test passes or fails for the wrong reason", string(text), meant)
	}
}

// checkOwnRules holds the rules that the policy declares against those that their
// plugins publish.
func (s *Source) checkOwnRules() {
	for _, path := range slices.Sorted(maps.Keys(s.Rules)) {
		rule := s.Rules[path]
		defined := s.Defined[path]
		if len(defined) == 0 { // the library's
			continue
		}
		at := findings.At(defined[0].Location)
		if s.Words.Own[rule.PluginID] {
			if meant := mistaken(rule.PluginID, s.Words.Inventory.Plugins()); meant != "" {
				s.Add(at, findings.Warning, "plugin", "no plugin that has permissions is called %s (%s?)", rule.PluginID, meant)
			}
			continue
		}
		if _, ok := s.published(rule.PluginID, rule.ResourceType, rule.Name); ok {
			continue
		}
		var names []string
		for _, r := range s.Words.Inventory.Rules {
			if r.PluginID == rule.PluginID && r.ResourceType == rule.ResourceType {
				names = append(names, r.Name)
			}
		}
		if len(names) > 0 {
			s.Add(at, findings.Warning, "rule", "the plugin %s publishes no rule %s for %s%s", rule.PluginID, rule.Name,
				rule.ResourceType, orPull(rule.Name, names))
		}
	}
}
