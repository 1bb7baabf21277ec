package installation

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A Policy is one of the plugin's conditional policies.
type Policy struct {
	At Place
	// Until is its last line.
	Until                        int
	Role, PluginID, ResourceType string
	Mapping                      []Mapped
	Condition                    Condition
	// Others are the keys that the plugin does not look at.
	Others []string
	Result string
}

// Mapped says what a conditional policy is about: an action, of one permission where it
// has a name.
type Mapped struct {
	At           Place
	Name, Action string
}

// A Condition is a tree: one of allOf, anyOf, not, and rule.
type Condition struct {
	At           Place
	AllOf, AnyOf []Condition
	Not          *Condition
	Rule         string
	ResourceType string
	Params       Value
	// Others are the keys of a rule that nobody looks at.
	Others []string
}

// Actions are those that the plugin knows.
func Actions() []string { return []string{"create", "read", "update", "delete", "use"} }

// The plugin's own bounds, by default.
const (
	mostDepth = 12
	mostNodes = 256
	mostItems = 64
	mostNamed = 25
)

// readPolicies reads a file of conditional policies, a document each. The plugin takes
// none of them where one is not as it wants, so that is a refusal here.
func readPolicies(file string, text []byte) ([]Policy, []Finding) {
	documents, refused := readYAML(file, text)
	var all []Policy
	for _, document := range documents {
		one, wrong := readPolicy(document)
		all = append(all, one)
		refused = append(refused, wrong...)
	}
	return all, refused
}

func readPolicy(v Value) (Policy, []Finding) {
	var wrong []Finding
	add := func(at Place, format string, args ...any) {
		wrong = append(wrong, refusal(at, format, args...))
	}
	p := Policy{At: v.At, Until: lastLine(v)}
	document, ok := v.Of.(*Object)
	if !ok {
		add(v.At, "a conditional policy is an object with roleEntityRef, pluginId, resourceType, permissionMapping and "+
			"conditions")
		return p, wrong
	}
	for _, name := range document.Names {
		if !slices.Contains([]string{"id", "result", "roleEntityRef", "pluginId", "resourceType", "permissionMapping",
			"conditions"}, name) {
			p.Others = append(p.Others, name)
		}
	}
	for name, to := range map[string]*string{
		"result": &p.Result, "roleEntityRef": &p.Role, "pluginId": &p.PluginID, "resourceType": &p.ResourceType,
	} {
		if *to = v.text(name); *to == "" {
			add(v.At, "%s is missing or no text", name)
		}
	}
	mapping, _ := v.member("permissionMapping")
	entries, _ := mapping.Of.(List)
	if len(entries) == 0 {
		add(v.At, "permissionMapping is missing or no list of actions")
	}
	for _, entry := range entries {
		m := Mapped{At: entry.At}
		if action, ok := entry.Of.(string); ok {
			m.Action = action
		} else if m.Name, m.Action = entry.text("name"), entry.text("action"); m.Name == "" {
			add(entry.At, "an entry of permissionMapping is an action, or {name, action}")
			continue
		}
		switch {
		case !slices.Contains(Actions(), m.Action):
			add(entry.At, "the action %q is none of create, read, update, delete and use", m.Action)
		case slices.ContainsFunc(p.Mapping, func(other Mapped) bool { return (other.Name == "") != (m.Name == "") }):
			add(entry.At, "permissionMapping has both actions and names; write either")
		case slices.ContainsFunc(p.Mapping, func(other Mapped) bool {
			return other.Name == m.Name &&
				other.Action == m.Action
		}):
			add(entry.At, "%s stands twice in permissionMapping", m)
		case p.ResourceType == "policy-entity" && m.Action == "create":
			add(entry.At, "nothing can be conditional about creating a policy")
		}
		p.Mapping = append(p.Mapping, m)
	}
	if len(p.Mapping) > mostNamed {
		add(mapping.At, "permissionMapping has %d entries; the plugin takes %d", len(p.Mapping), mostNamed)
	}
	tree, ok := v.member("conditions")
	if !ok {
		add(v.At, "conditions are missing")
		return p, wrong
	}
	nodes := 0
	var err error
	p.Condition, err = readCondition(tree, 1, &nodes)
	if misread, ok := errors.AsType[*misread](err); ok {
		wrong = append(wrong, misread.finding)
	}
	return p, wrong
}

// String is the entry as a report shows it.
func (m Mapped) String() string {
	if m.Name == "" {
		return m.Action
	}
	return m.Name + ", " + m.Action
}

// misread is the error of readCondition.
type misread struct{ finding Finding }

func (m *misread) Error() string { return m.finding.String() }

func readCondition(v Value, depth int, nodes *int) (Condition, error) {
	c := Condition{At: v.At}
	wrong := func(format string, args ...any) error {
		return &misread{refusal(v.At, format, args...)}
	}
	*nodes++
	node, ok := v.Of.(*Object)
	switch {
	case !ok:
		return c, wrong("a condition is an object: a rule, or allOf, anyOf or not")
	case depth > mostDepth:
		return c, wrong("the condition is more than %d levels deep, which is the plugin's bound", mostDepth)
	case *nodes > mostNodes:
		return c, wrong("the condition has more than %d parts, which is the plugin's bound", mostNodes)
	}
	var criteria []string
	for _, name := range node.Names {
		if name == "allOf" || name == "anyOf" || name == "not" {
			criteria = append(criteria, name)
		}
	}
	_, isRule := node.Members["rule"]
	switch {
	case len(criteria) > 1 || len(criteria) == 1 && isRule:
		return c, wrong("the condition has more than one of rule, allOf, anyOf and not; nest them")
	case len(criteria) == 0:
		if c.Rule, c.ResourceType = v.text("rule"), v.text("resourceType"); c.Rule == "" || c.ResourceType == "" {
			return c, wrong("the condition has no rule with its resourceType, and none of allOf, anyOf and not")
		}
		if c.Params, ok = v.member("params"); ok && c.Params.Of != nil {
			if _, ok := c.Params.Of.(*Object); !ok {
				return c, wrong("the params of %s are no object", c.Rule)
			}
		}
		for _, name := range node.Names {
			if !slices.Contains([]string{"rule", "resourceType", "params"}, name) {
				c.Others = append(c.Others, name)
			}
		}
		return c, nil
	case len(node.Names) > 1:
		return c, wrong("the condition has another key beside %s", criteria[0])
	}
	inner := node.Members[criteria[0]]
	if criteria[0] == "not" {
		not, err := readCondition(inner, depth+1, nodes)
		c.Not = &not
		return c, err
	}
	items, _ := inner.Of.(List)
	if len(items) == 0 || len(items) > mostItems {
		return c, wrong("%s is a list of 1 to %d conditions", criteria[0], mostItems)
	}
	all := make([]Condition, len(items))
	for i, item := range items {
		var err error
		if all[i], err = readCondition(item, depth+1, nodes); err != nil {
			return c, err
		}
	}
	if criteria[0] == "allOf" {
		c.AllOf = all
	} else {
		c.AnyOf = all
	}
	return c, nil
}

// Rules are the rules of a condition, in order.
func (c Condition) Rules() []Condition {
	if c.Rule != "" {
		return []Condition{c}
	}
	var all []Condition
	for _, part := range slices.Concat(c.AllOf, c.AnyOf) {
		all = append(all, part.Rules()...)
	}
	if c.Not != nil {
		all = append(all, c.Not.Rules()...)
	}
	return all
}

// Document is the condition as it is written into data, where the type of resource goes
// without saying.
func (c Condition) Document() map[string]any {
	list := func(of []Condition) []any {
		all := make([]any, len(of))
		for i, part := range of {
			all[i] = part.Document()
		}
		return all
	}
	switch {
	case c.AllOf != nil:
		return map[string]any{"allOf": list(c.AllOf)}
	case c.AnyOf != nil:
		return map[string]any{"anyOf": list(c.AnyOf)}
	case c.Not != nil:
		return map[string]any{"not": c.Not.Document()}
	}
	d := map[string]any{"rule": c.Rule, "resourceType": c.ResourceType}
	if params, ok := c.Params.Plain().(map[string]any); ok && len(params) > 0 {
		d["params"] = params
	}
	return d
}

// lastLine is the last line on which something of a value begins.
func lastLine(v Value) int {
	last := v.At.Line
	switch of := v.Of.(type) {
	case List:
		for _, one := range of {
			last = max(last, lastLine(one))
		}
	case *Object:
		for _, one := range of.Members {
			last = max(last, lastLine(one))
		}
	}
	return last
}

// Span is the lines of a policy, such as "3-17".
func (p Policy) Span() string {
	if p.Until <= p.At.Line {
		return strconv.Itoa(p.At.Line)
	}
	return fmt.Sprintf("%d-%d", p.At.Line, p.Until)
}

// String is the policy as a report shows it.
func (p Policy) String() string {
	mapping := make([]string, len(p.Mapping))
	for i, m := range p.Mapping {
		mapping[i] = m.String()
	}
	return fmt.Sprintf("condition of %s for %s: %s", p.Role, p.ResourceType, strings.Join(mapping, "; "))
}

// Collides says about what two conditional policies of a role both are.
func (p Policy) Collides(other Policy) []Mapped {
	if p.Role != other.Role || p.ResourceType != other.ResourceType {
		return nil
	}
	var both []Mapped
	for _, a := range p.Mapping {
		for _, b := range other.Mapping {
			if a.Action == b.Action && (a.Name == b.Name || a.Name == "" || b.Name == "") {
				both = append(both, Mapped{At: b.At, Name: cmp.Or(a.Name, b.Name), Action: a.Action})
			}
		}
	}
	return both
}

// Covers reports whether the policy is about an action of a permission.
func (p Policy) Covers(name, action string) bool {
	return slices.ContainsFunc(p.Mapping, func(m Mapped) bool {
		return m.Action == action && (m.Name == "" || m.Name == name)
	})
}
