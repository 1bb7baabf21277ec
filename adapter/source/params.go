package source

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/adapter/findings"
	"github.com/stagedoor/stagedoor/adapter/reading"
	"github.com/stagedoor/stagedoor/adapter/source/params"
)

// checkCall holds the params of a call against the schema of the rule.
func (s *Source) checkCall(call reading.RuleCall) {
	if call.Test {
		return
	}
	n := call.Params.Root()
	if n.JSONTypes != 0 && n.JSONTypes&reading.IsObject == 0 {
		s.Add(call.At, findings.Error, "params", "the params of %s are an object, not a %s", call.Rule.Name, n.JSONTypes)
		return
	}
	schema := call.Rule.Schema
	if published, ok := s.published(call.Rule.PluginID, call.Rule.ResourceType, call.Rule.Name); schema == nil && ok {
		schema = published.ParamsSchema
	}
	if schema == nil {
		for _, literal := range n.Literals {
			if object, ok := literal.Value.(ast.Object); ok {
				s.checkEmpty(call.Rule.Name, call.Rule.ResourceType, object, findings.At(literal.Location), call.In)
			}
		}
		return
	}
	for _, literal := range n.Literals {
		object, ok := literal.Value.(ast.Object)
		if !ok {
			continue
		}
		s.checkEmpty(call.Rule.Name, call.Rule.ResourceType, object, findings.At(literal.Location), call.In)
		s.checkParams(call.Rule.Name, schema, object, n, findings.At(literal.Location))
	}
	if len(n.Literals) == 0 && n.Schema != nil {
		s.Add(call.At, findings.Error, "params", "the params of %s are an object such as {%s}, not %s", call.Rule.Name,
			params.Read(schema).Example(), n.Schema.Path)
	}
}

func (s *Source) checkParams(rule string, raw json.RawMessage, object ast.Object, n *reading.Node,
	at findings.Position) {
	schema := params.Read(raw)
	if schema == nil || len(schema.AnyOf) > 0 {
		return
	}
	names := slices.Sorted(maps.Keys(schema.Properties))
	given := map[string]bool{}
	open := false
	object.Foreach(func(k, v *ast.Term) {
		name, ok := k.Value.(ast.String)
		if !ok {
			open = true
			return
		}
		given[string(name)] = true
		param := schema.Properties[string(name)]
		if param == nil {
			if len(names) == 0 {
				s.Add(findings.At(k.Location), findings.Error, "params", "%s takes no params, so no %s; write {}", rule, name)
				return
			}
			s.Add(findings.At(k.Location), findings.Error, "params", "%s has no param %s%s; it has %s", rule, name,
				orNearest(string(name), names), strings.Join(names, ", "))
			return
		}
		s.checkParam(rule, string(name), param, n.Field(string(name)), v)
		s.checkEntityParam(rule, string(name), v)
	})
	for _, name := range schema.Required {
		if !given[name] && !open {
			s.Add(at, findings.Error, "params", "%s needs the param %s; write {%s}", rule, name, schema.Example())
		}
	}
}

// checkEmpty looks for a list that may be empty where an empty one means everything.
func (s *Source) checkEmpty(rule, resourceType string, given ast.Object, at findings.Position, in *ast.Rule) {
	for _, list := range params.EmptyMeansAll {
		if list.Rule != rule || list.ResourceType != resourceType {
			continue
		}
		value := given.Get(ast.StringTerm(list.Param))
		switch v := valueOf(value).(type) {
		case nil:
			s.Add(at, findings.Error, "empty", "%s without %s holds for everything; name what is meant", rule, list.Param)
		case *ast.Array:
			if v.Len() == 0 {
				s.Add(findings.At(value.Location), findings.Error, "empty",
					"%s with no %s holds for everything; name what is meant", rule,
					list.Param)
			}
		default:
			if in == nil || !strings.Contains(in.String(), "count("+value.String()+")") {
				s.Add(findings.At(value.Location), findings.Error, "empty",
					"%s holds for everything where %s is empty, and this list may be; write count(%s) > 0 in the same rule",
					rule, list.Param, value)
			}
		}
	}
}

func valueOf(t *ast.Term) ast.Value {
	if t == nil {
		return nil
	}
	return t.Value
}

func (s *Source) checkParam(rule, name string, schema *params.Schema, n *reading.Node, v *ast.Term) {
	n = n.Root()
	at := findings.At(v.Location)
	want := schema.Allows()
	if want != 0 && n.JSONTypes != 0 && n.JSONTypes&want == 0 {
		hint := ""
		if want == reading.IsList {
			hint = fmt.Sprintf("; write [%s]", v)
			if n.Kinds&reading.UserRef != 0 && n.Schema != nil && (name == "claims" || name == "owners") {
				hint = "; write input.identity.claims, for all that the caller owns things through"
			}
		} else if n.JSONTypes == reading.IsList && n.Schema != nil && n.Schema.Path == "input.identity.claims" {
			hint = "; write input.identity.user"
		}
		s.Add(at, findings.Error, "params", "the param %s of %s is %s, not a %s%s", name, rule, schema.Text(),
			strings.ReplaceAll(n.JSONTypes.String(), "array", "list"), hint)
		return
	}
	if want == reading.IsList && schema.Items != nil && n.Elem != nil {
		item := n.Element()
		if items := schema.Items.Allows(); items != 0 && item.JSONTypes != 0 && item.JSONTypes&items == 0 {
			s.Add(at, findings.Error, "params", "the param %s of %s is %s, not of %ss", name, rule, schema.Text(),
				strings.ReplaceAll(item.JSONTypes.String(), "array", "list"))
			return
		}
		if reading.Single(v) && item.Kinds == reading.UserRef && item.Schema != nil &&
			name == "claims" {
			s.Add(at, findings.Warning, "claims", "%s by the user alone leaves out what the groups of the user own; write "+
				"input.identity.claims", rule)
		}
	}
	if name == "claims" || name == "owners" || name == "createdBy" || name == "entityRefs" || name == "userRefs" {
		for _, c := range s.texts[n.Element()] {
			if c.Node.Root().Kinds == 0 && c.Node.Root().Loose == 0 && !c.Free && !c.Test {
				s.checkRef(c, true, false)
			}
		}
	}
}
