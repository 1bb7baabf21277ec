package installation

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/stagedoor/stagedoor/adapter/migrate/written"
)

// A Policy is one of the plugin's conditional policies.
type Policy struct {
	At written.Place
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
	At           written.Place
	Name, Action string
}

// A Condition is a tree: one of allOf, anyOf, not, and rule.
type Condition struct {
	At           written.Place
	AllOf, AnyOf []Condition
	Not          *Condition
	Rule         string
	ResourceType string
	Params       written.Value
	// Others are the keys of a rule that nobody looks at.
	Others []string
}

// Actions are those that the plugin knows.
func Actions() []string { return []string{"create", "read", "update", "delete", "use"} }

// Bounds are those of the plugin on conditional policies. It takes nothing of a file in
// which one is exceeded.
type Bounds struct {
	// Depth, Nodes and Items are of one condition, Bytes and Documents of a file.
	Depth, Nodes, Items, Bytes, Documents int
}

// defaultBounds are those of a plugin whose configuration names none.
var defaultBounds = Bounds{Depth: 12, Nodes: 256, Items: 64, Bytes: 1 << 20, Documents: 256}

// noBounds are those of what the plugin has stored, and does not look at again.
var noBounds = Bounds{Depth: math.MaxInt, Nodes: math.MaxInt, Items: math.MaxInt}

// mostNamed is how many names a conditional policy may be about.
const mostNamed = 25

// readPolicies reads a file of conditional policies, a document each. The plugin takes
// none of them where one is not as it wants, so that is a refusal here.
func readPolicies(file string, text []byte, bounds Bounds) ([]Policy, []Finding) {
	if len(text) > bounds.Bytes {
		return nil, []Finding{refusal(written.Place{File: file}, "the file is larger than %d bytes, which is the "+
			"plugin's bound", bounds.Bytes)}
	}
	documents, refused := documentsOf(file, text)
	if len(documents) > bounds.Documents {
		return nil, []Finding{refusal(documents[bounds.Documents].At, "the file has more than %d documents, which is the "+
			"plugin's bound", bounds.Documents)}
	}
	var all []Policy
	for _, document := range documents {
		one, wrong := readPolicy(document, bounds)
		all = append(all, one)
		refused = append(refused, wrong...)
	}
	return all, refused
}

func readPolicy(v written.Value, bounds Bounds) (Policy, []Finding) {
	var wrong []Finding
	add := func(at written.Place, format string, args ...any) {
		wrong = append(wrong, refusal(at, format, args...))
	}
	p := Policy{At: v.At, Until: lastLine(v)}
	document, ok := v.Of.(*written.Object)
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
		if *to = v.Text(name); *to == "" {
			add(v.At, "%s is missing or no text", name)
		}
	}
	mapping, _ := v.Member("permissionMapping")
	entries, _ := mapping.Of.(written.List)
	if len(entries) == 0 {
		add(v.At, "permissionMapping is missing or no list of actions")
	}
	for _, entry := range entries {
		m := Mapped{At: entry.At}
		if action, ok := entry.Of.(string); ok {
			m.Action = action
		} else if m.Name, m.Action = entry.Text("name"), entry.Text("action"); trim(m.Name) == "" {
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
	tree, ok := v.Member("conditions")
	if !ok {
		add(v.At, "conditions are missing")
		return p, wrong
	}
	var err error
	p.Condition, err = (&conditionReader{Bounds: bounds}).read(tree, 1)
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

// misread is the error of a conditionReader.
type misread struct{ finding Finding }

func (m *misread) Error() string { return m.finding.String() }

type conditionReader struct {
	Bounds

	nodes int
}

func (r *conditionReader) read(v written.Value, depth int) (Condition, error) {
	c := Condition{At: v.At}
	wrong := func(format string, args ...any) error {
		return &misread{refusal(v.At, format, args...)}
	}
	r.nodes++
	node, ok := v.Of.(*written.Object)
	switch {
	case !ok:
		return c, wrong("a condition is an object: a rule, or allOf, anyOf or not")
	case depth > r.Depth:
		return c, wrong("the condition is more than %d levels deep, which is the plugin's bound", r.Depth)
	case r.nodes > r.Nodes:
		return c, wrong("the condition has more than %d parts, which is the plugin's bound", r.Nodes)
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
		if c.Rule, c.ResourceType = v.Text("rule"), v.Text("resourceType"); c.Rule == "" || c.ResourceType == "" {
			return c, wrong("the condition has no rule with its resourceType, and none of allOf, anyOf and not")
		}
		if c.Params, ok = v.Member("params"); ok && c.Params.Of != nil {
			if _, ok := c.Params.Of.(*written.Object); !ok {
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
		not, err := r.read(inner, depth+1)
		c.Not = &not
		return c, err
	}
	items, _ := inner.Of.(written.List)
	if len(items) == 0 || len(items) > r.Items {
		return c, wrong("%s is a list of 1 to %d conditions", criteria[0], r.Items)
	}
	all := make([]Condition, len(items))
	for i, item := range items {
		var err error
		if all[i], err = r.read(item, depth+1); err != nil {
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
func lastLine(v written.Value) int {
	last := v.At.Line + v.More
	switch of := v.Of.(type) {
	case written.List:
		for _, one := range of {
			last = max(last, lastLine(one))
		}
	case *written.Object:
		for _, one := range of.Members {
			last = max(last, lastLine(one))
		}
	}
	return last
}

// between are the lines of a file that are in none of its policies.
func between(policies []Policy, text []byte) []int {
	var lines []int
	n := 0
	for range strings.Lines(string(text)) {
		n++
		if !slices.ContainsFunc(policies, func(p Policy) bool { return p.At.Line <= n && n <= p.Until }) {
			lines = append(lines, n)
		}
	}
	return lines
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

// Is reports whether two conditional policies say the same, whatever the order of lists.
// The plugin takes them for one where it compares what it has stored with a file.
func (p Policy) Is(other Policy) bool {
	return p.Role == other.Role && p.PluginID == other.PluginID && p.ResourceType == other.ResourceType &&
		p.Result == other.Result && inOrder(p.mapping()) == inOrder(other.mapping()) &&
		inOrder(p.Condition.Document()) == inOrder(other.Condition.Document())
}

func (p Policy) mapping() []any {
	all := make([]any, len(p.Mapping))
	for i, m := range p.Mapping {
		all[i] = m.String()
	}
	return all
}

// inOrder is a document as text, its lists sorted.
func inOrder(v any) string {
	switch v := v.(type) {
	case []any:
		parts := make([]string, len(v))
		for i, one := range v {
			parts[i] = inOrder(one)
		}
		slices.Sort(parts)
		return "[" + strings.Join(parts, ",") + "]"
	case map[string]any:
		parts := make([]string, 0, len(v))
		for _, name := range slices.Sorted(maps.Keys(v)) {
			parts = append(parts, strconv.Quote(name)+":"+inOrder(v[name]))
		}
		return "{" + strings.Join(parts, ",") + "}"
	}
	return fmt.Sprintf("%T %v", v, v)
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
