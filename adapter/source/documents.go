package source

import (
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/adapter/findings"
	"github.com/stagedoor/stagedoor/adapter/inventory"
	"github.com/stagedoor/stagedoor/adapter/reading"
	"github.com/stagedoor/stagedoor/adapter/source/params"
	"github.com/stagedoor/stagedoor/adapter/spelling"
)

// checkDocument holds an object that has the members of a decision or of a condition
// against what those may be.
func (s *Source) checkDocument(use *reading.DocumentUse) {
	if use.Test {
		return
	}
	member := func(name string) *ast.Term { return use.Object.Get(ast.StringTerm(name)) }
	if member("rule") != nil && (member("params") != nil || member("resourceType") != nil) {
		s.checkCondition(use, member)
	}
	for _, name := range []string{"anyOf", "allOf"} {
		if list, ok := valueOf(member(name)).(*ast.Array); ok && list.Len() == 0 {
			s.Add(use.At, findings.Error, "answer", "%s of nothing is no condition; write ALLOW or DENY, or what is asked for",
				name)
		}
	}
	if member("result") != nil && member("rule") == nil {
		s.checkDecision(use, member)
	}
}

// constantsOf are the texts that a member of a document can be, as far as is known.
func (s *Source) constantsOf(n *reading.Node) []string {
	var texts []string
	for _, c := range s.texts[n.Root()] {
		texts = append(texts, c.Text)
	}
	slices.Sort(texts)
	return slices.Compact(texts)
}

func (s *Source) checkCondition(use *reading.DocumentUse, member func(string) *ast.Term) {
	names := s.constantsOf(use.Node.Field("rule"))
	if member("resourceType") == nil {
		s.Add(use.At, findings.Error, "answer", "a condition needs resourceType beside rule; write \"resourceType\": "+
			"input.permission.resourceType")
	}
	given := member("params")
	for _, name := range names {
		rules := s.Words.schemas[name]
		if types := s.constantsOf(use.Node.Field("resourceType")); len(types) == 1 && len(names) == 1 {
			kept := slices.DeleteFunc(slices.Clone(rules), func(r inventory.Rule) bool {
				return !slices.Contains(types,
					r.ResourceType)
			})
			if len(rules) > 0 && len(kept) == 0 {
				s.Add(use.At, findings.Error, "rule", "%s is a rule of %s, not of %s", name, rules[0].ResourceType,
					strings.Join(types, " or "))
			}
			rules = kept
		}
		if len(rules) != 1 || len(names) != 1 {
			continue
		}
		schema := rules[0].ParamsSchema
		if given == nil {
			s.checkEmpty(name, rules[0].ResourceType, ast.NewObject(), use.At, use.In)
			if read := params.Read(schema); read != nil && len(read.Properties) > 0 {
				s.Add(use.At, findings.Error, "params", "%s needs params; write \"params\": {%s}", name, read.Example())
			}
			continue
		}
		if object, ok := given.Value.(ast.Object); ok {
			s.checkEmpty(name, rules[0].ResourceType, object, findings.At(given.Location), use.In)
			s.checkParams(name, schema, object, use.Node.Field("params"), findings.At(given.Location))
		}
	}
}

func (s *Source) checkDecision(use *reading.DocumentUse, member func(string) *ast.Term) {
	results := s.constantsOf(use.Node.Field("result"))
	conditional := len(results) == 1 && results[0] == "CONDITIONAL"
	for _, name := range []string{"pluginId", "resourceType", "conditions"} {
		switch {
		case conditional && member(name) == nil:
			s.Add(use.At, findings.Error, "answer", "an answer CONDITIONAL needs %s", name)
		case len(results) == 1 && !conditional && member(name) != nil && slices.Contains([]string{"ALLOW", "DENY"},
			results[0]):
			s.Add(findings.At(member(name).Location), findings.Warning, "answer",
				"%s says nothing beside %s; write CONDITIONAL, or leave it out", name, results[0])
		}
	}
	if at := member("pluginId"); at != nil {
		s.checkPlugin(use, at)
	}
	for _, name := range objectKeys(use.Object) {
		members := []string{"result", "pluginId", "resourceType", "conditions", "reason"}
		if meant := spelling.Meant(name, members); meant != "" {
			s.Add(use.At, findings.Error, "answer", "an answer has no member %s (%s?)", name, meant)
		}
	}
}

// checkPlugin looks for a plugin that has nothing of the type that the answer is about.
func (s *Source) checkPlugin(use *reading.DocumentUse, at *ast.Term) {
	plugins := s.constantsOf(use.Node.Field("pluginId"))
	types := s.constantsOf(use.Node.Field("resourceType"))
	if len(plugins) != 1 || len(types) != 1 || !slices.Contains(s.Words.plugins, plugins[0]) ||
		!slices.Contains(s.Words.resourceTypes, types[0]) || s.Words.Own[plugins[0]] {
		return
	}
	var owners []string
	for _, p := range s.Words.Inventory.Permissions {
		if p.ResourceType == types[0] {
			owners = append(owners, p.PluginID)
		}
	}
	for _, r := range s.Words.Inventory.Rules {
		if r.ResourceType == types[0] {
			owners = append([]string{r.PluginID}, owners...)
		}
	}
	if len(owners) > 0 && !slices.Contains(owners, plugins[0]) {
		s.Add(findings.At(at.Location), findings.Error, "plugin", "the plugin %s has nothing of type %s; write %q",
			plugins[0],
			types[0], owners[0])
	}
}

func objectKeys(object ast.Object) []string {
	var names []string
	object.Foreach(func(k, _ *ast.Term) {
		if name, ok := k.Value.(ast.String); ok {
			names = append(names, string(name))
		}
	})
	return names
}
