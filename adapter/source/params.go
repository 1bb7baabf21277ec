package source

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/adapter/findings"
	"github.com/stagedoor/stagedoor/adapter/reading"
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
			example(schema), n.Schema.Path)
	}
}

// paramsSchema is what is read of the schema of a rule's params.
type paramsSchema struct {
	Properties map[string]*paramsSchema `json:"properties"`
	Required   []string                 `json:"required"`
	Type       any                      `json:"type"`
	Items      *paramsSchema            `json:"items"`
	Enum       []any                    `json:"enum"`
	AnyOf      []any                    `json:"anyOf"`
}

func readParamsSchema(raw json.RawMessage) *paramsSchema {
	if len(raw) == 0 {
		return nil
	}
	var schema paramsSchema
	if err := json.NewDecoder(bytes.NewReader(raw)).Decode(&schema); err != nil {
		return nil
	}
	return &schema
}

func (p *paramsSchema) allows() reading.JSONTypes {
	switch t := p.Type.(type) {
	case string:
		return reading.TypeNames[t]
	case []any:
		var all reading.JSONTypes
		for _, name := range t {
			if name, ok := name.(string); ok {
				all |= reading.TypeNames[name]
			}
		}
		return all
	}
	return 0
}

func (p *paramsSchema) text() string {
	if p.allows() == reading.IsList && p.Items != nil && p.Items.allows() != 0 {
		return fmt.Sprintf("a list of %ss", p.Items.allows())
	}
	if t := p.allows(); t != 0 {
		return "a " + strings.ReplaceAll(t.String(), "array", "list")
	}
	return "something else"
}

// example is params that a schema takes.
func example(raw json.RawMessage) string {
	schema := readParamsSchema(raw)
	if schema == nil {
		return ""
	}
	var parts []string
	for _, name := range schema.Required {
		value := `"…"`
		switch p := schema.Properties[name]; {
		case p == nil:
		case p.allows() == reading.IsList && slices.Contains([]string{"claims", "owners"}, name):
			value = "input.identity.claims"
		case p.allows() == reading.IsList:
			value = `["…"]`
		case p.allows() == reading.IsNumber:
			value = "1"
		case p.allows() == reading.IsBoolean:
			value = "true"
		}
		parts = append(parts, fmt.Sprintf("%q: %s", name, value))
	}
	return strings.Join(parts, ", ")
}

func (s *Source) checkParams(rule string, raw json.RawMessage, object ast.Object, n *reading.Node,
	at findings.Position) {
	schema := readParamsSchema(raw)
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
			s.Add(at, findings.Error, "params", "%s needs the param %s; write {%s}", rule, name, example(raw))
		}
	}
}

// checkEmpty looks for a list that may be empty where an empty one means everything.
func (s *Source) checkEmpty(rule, resourceType string, params ast.Object, at findings.Position, in *ast.Rule) {
	for _, list := range EmptyMeansAll {
		if list.Rule != rule || list.ResourceType != resourceType {
			continue
		}
		value := params.Get(ast.StringTerm(list.Param))
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

func (s *Source) checkParam(rule, name string, schema *paramsSchema, n *reading.Node, v *ast.Term) {
	n = n.Root()
	at := findings.At(v.Location)
	want := schema.allows()
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
		s.Add(at, findings.Error, "params", "the param %s of %s is %s, not a %s%s", name, rule, schema.text(),
			strings.ReplaceAll(n.JSONTypes.String(), "array", "list"), hint)
		return
	}
	if want == reading.IsList && schema.Items != nil && n.Elem != nil {
		item := n.Element()
		if items := schema.Items.allows(); items != 0 && item.JSONTypes != 0 && item.JSONTypes&items == 0 {
			s.Add(at, findings.Error, "params", "the param %s of %s is %s, not of %ss", name, rule, schema.text(),
				strings.ReplaceAll(item.JSONTypes.String(), "array", "list"))
			return
		}
		if single(v) && item.Kinds == reading.UserRef && item.Schema != nil &&
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

// EmptyMeansAll are the params of which an empty list, or none, means everything.
var EmptyMeansAll = []struct{ ResourceType, Rule, Param string }{
	{"extensions-plugin", "HAS_NAME", "pluginNames"},
	{"scorecard-metric", "HAS_METRIC_ID", "metricIds"},
	{"homepage-default-card", "HAS_WIDGET_ID", "widgetIds"},
	{"homepage-default-widget", "HAS_WIDGET_ID", "widgetIds"},
}

// EmptyParam reports whether a param of a rule call, whose params are given as JSON, is
// missing or an empty list.
func EmptyParam(params, name string) bool {
	var members map[string]json.RawMessage
	if params == "" || json.Unmarshal([]byte(params), &members) != nil {
		return true
	}
	value, ok := members[name]
	return !ok || string(value) == "[]" || string(value) == "null"
}
