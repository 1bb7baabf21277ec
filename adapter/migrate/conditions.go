package migrate

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
)

// A policy is one of the plugin's conditional policies.
type policy struct {
	at Place
	// until is its last line.
	until                        int
	role, pluginID, resourceType string
	mapping                      []mapped
	condition                    condition
	// others are the keys that the plugin does not look at.
	others []string
	result string
}

// mapped says what a conditional policy is about: an action, of one permission where it
// has a name.
type mapped struct {
	at           Place
	name, action string
}

// A condition is a tree: one of allOf, anyOf, not, and rule.
type condition struct {
	at           Place
	allOf, anyOf []condition
	not          *condition
	rule         string
	resourceType string
	params       value
	// others are the keys of a rule that nobody looks at.
	others []string
}

var actions = []string{"create", "read", "update", "delete", "use"}

// The plugin's own bounds, by default.
const (
	mostDepth = 12
	mostNodes = 256
	mostItems = 64
	mostNamed = 25
)

// readPolicies reads a file of conditional policies, a document each. The plugin takes
// none of them where one is not as it wants, so that is a refusal here.
func readPolicies(file string, text []byte) ([]policy, []Finding) {
	documents, refused := readYAML(file, text)
	var all []policy
	for _, document := range documents {
		one, wrong := readPolicy(document)
		all = append(all, one)
		refused = append(refused, wrong...)
	}
	return all, refused
}

func readPolicy(v value) (policy, []Finding) {
	var wrong []Finding
	add := func(at Place, format string, args ...any) {
		wrong = append(wrong, refusal(at, format, args...))
	}
	p := policy{at: v.at, until: lastLine(v)}
	document, ok := v.of.(*object)
	if !ok {
		add(v.at, "a conditional policy is an object with roleEntityRef, pluginId, resourceType, permissionMapping and "+
			"conditions")
		return p, wrong
	}
	for _, name := range document.names {
		if !slices.Contains([]string{"id", "result", "roleEntityRef", "pluginId", "resourceType", "permissionMapping",
			"conditions"}, name) {
			p.others = append(p.others, name)
		}
	}
	for name, to := range map[string]*string{
		"result": &p.result, "roleEntityRef": &p.role, "pluginId": &p.pluginID, "resourceType": &p.resourceType,
	} {
		if *to = v.text(name); *to == "" {
			add(v.at, "%s is missing or no text", name)
		}
	}
	mapping, _ := v.member("permissionMapping")
	entries, _ := mapping.of.(list)
	if len(entries) == 0 {
		add(v.at, "permissionMapping is missing or no list of actions")
	}
	for _, entry := range entries {
		m := mapped{at: entry.at}
		if action, ok := entry.of.(string); ok {
			m.action = action
		} else if m.name, m.action = entry.text("name"), entry.text("action"); m.name == "" {
			add(entry.at, "an entry of permissionMapping is an action, or {name, action}")
			continue
		}
		switch {
		case !slices.Contains(actions, m.action):
			add(entry.at, "the action %q is none of create, read, update, delete and use", m.action)
		case slices.ContainsFunc(p.mapping, func(other mapped) bool { return (other.name == "") != (m.name == "") }):
			add(entry.at, "permissionMapping has both actions and names; write either")
		case slices.ContainsFunc(p.mapping, func(other mapped) bool {
			return other.name == m.name &&
				other.action == m.action
		}):
			add(entry.at, "%s stands twice in permissionMapping", m)
		case p.resourceType == "policy-entity" && m.action == "create":
			add(entry.at, "nothing can be conditional about creating a policy")
		}
		p.mapping = append(p.mapping, m)
	}
	if len(p.mapping) > mostNamed {
		add(mapping.at, "permissionMapping has %d entries; the plugin takes %d", len(p.mapping), mostNamed)
	}
	tree, ok := v.member("conditions")
	if !ok {
		add(v.at, "conditions are missing")
		return p, wrong
	}
	nodes := 0
	var err error
	p.condition, err = readCondition(tree, 1, &nodes)
	if misread, ok := errors.AsType[*misread](err); ok {
		wrong = append(wrong, misread.finding)
	}
	return p, wrong
}

// String is the entry as a report shows it.
func (m mapped) String() string {
	if m.name == "" {
		return m.action
	}
	return m.name + ", " + m.action
}

// misread is the error of readCondition.
type misread struct{ finding Finding }

func (m *misread) Error() string { return m.finding.String() }

func readCondition(v value, depth int, nodes *int) (condition, error) {
	c := condition{at: v.at}
	wrong := func(format string, args ...any) error {
		return &misread{refusal(v.at, format, args...)}
	}
	*nodes++
	node, ok := v.of.(*object)
	switch {
	case !ok:
		return c, wrong("a condition is an object: a rule, or allOf, anyOf or not")
	case depth > mostDepth:
		return c, wrong("the condition is more than %d levels deep, which is the plugin's bound", mostDepth)
	case *nodes > mostNodes:
		return c, wrong("the condition has more than %d parts, which is the plugin's bound", mostNodes)
	}
	var criteria []string
	for _, name := range node.names {
		if name == "allOf" || name == "anyOf" || name == "not" {
			criteria = append(criteria, name)
		}
	}
	_, isRule := node.members["rule"]
	switch {
	case len(criteria) > 1 || len(criteria) == 1 && isRule:
		return c, wrong("the condition has more than one of rule, allOf, anyOf and not; nest them")
	case len(criteria) == 0:
		if c.rule, c.resourceType = v.text("rule"), v.text("resourceType"); c.rule == "" || c.resourceType == "" {
			return c, wrong("the condition has no rule with its resourceType, and none of allOf, anyOf and not")
		}
		if c.params, ok = v.member("params"); ok && c.params.of != nil {
			if _, ok := c.params.of.(*object); !ok {
				return c, wrong("the params of %s are no object", c.rule)
			}
		}
		for _, name := range node.names {
			if !slices.Contains([]string{"rule", "resourceType", "params"}, name) {
				c.others = append(c.others, name)
			}
		}
		return c, nil
	case len(node.names) > 1:
		return c, wrong("the condition has another key beside %s", criteria[0])
	}
	inner := node.members[criteria[0]]
	if criteria[0] == "not" {
		not, err := readCondition(inner, depth+1, nodes)
		c.not = &not
		return c, err
	}
	items, _ := inner.of.(list)
	if len(items) == 0 || len(items) > mostItems {
		return c, wrong("%s is a list of 1 to %d conditions", criteria[0], mostItems)
	}
	all := make([]condition, len(items))
	for i, item := range items {
		var err error
		if all[i], err = readCondition(item, depth+1, nodes); err != nil {
			return c, err
		}
	}
	if criteria[0] == "allOf" {
		c.allOf = all
	} else {
		c.anyOf = all
	}
	return c, nil
}

// rules are the rules of a condition, in order.
func (c condition) rules() []condition {
	if c.rule != "" {
		return []condition{c}
	}
	var all []condition
	for _, part := range slices.Concat(c.allOf, c.anyOf) {
		all = append(all, part.rules()...)
	}
	if c.not != nil {
		all = append(all, c.not.rules()...)
	}
	return all
}

// document is the condition as it is written into data, where the type of resource goes
// without saying.
func (c condition) document() map[string]any {
	list := func(of []condition) []any {
		all := make([]any, len(of))
		for i, part := range of {
			all[i] = part.document()
		}
		return all
	}
	switch {
	case c.allOf != nil:
		return map[string]any{"allOf": list(c.allOf)}
	case c.anyOf != nil:
		return map[string]any{"anyOf": list(c.anyOf)}
	case c.not != nil:
		return map[string]any{"not": c.not.document()}
	}
	d := map[string]any{"rule": c.rule, "resourceType": c.resourceType}
	if params, ok := c.params.plain().(map[string]any); ok && len(params) > 0 {
		d["params"] = params
	}
	return d
}

// lastLine is the last line on which something of a value begins.
func lastLine(v value) int {
	last := v.at.Line
	switch of := v.of.(type) {
	case list:
		for _, one := range of {
			last = max(last, lastLine(one))
		}
	case *object:
		for _, one := range of.members {
			last = max(last, lastLine(one))
		}
	}
	return last
}

// span is the lines of a policy, such as "3-17".
func (p policy) span() string {
	if p.until <= p.at.Line {
		return strconv.Itoa(p.at.Line)
	}
	return fmt.Sprintf("%d-%d", p.at.Line, p.until)
}
