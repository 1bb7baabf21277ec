package inventory

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// A Stub is a Rego file with functions for rules that no library has.
type Stub struct {
	// File is where it goes, such as backstage/qeta/qeta.rego.
	File string
	// Text is its source.
	Text string
}

// Stubs writes one annotated Rego function for each rule that has does not report, a
// file for each plugin. They are false until somebody writes their bodies: false
// denies where the rule grants, and a policy that asks for `not` of one is to be
// tested when its body is written.
func (i *Inventory) Stubs(has func(Rule) bool) []Stub {
	byPlugin := map[string][]Rule{}
	var plugins []string
	for _, r := range i.Rules {
		if !has(r) {
			byPlugin[r.PluginID] = append(byPlugin[r.PluginID], r)
			plugins = append(plugins, r.PluginID)
		}
	}
	var stubs []Stub
	for _, plugin := range distinct(plugins) {
		stubs = append(stubs, stub(plugin, byPlugin[plugin]))
	}
	return stubs
}

func stub(plugin string, rules []Rule) Stub {
	name := regoName(plugin)
	var text strings.Builder
	fmt.Fprintf(&text, "# METADATA\n# title: Rules of the plugin %s\n", plugin)
	fmt.Fprintf(&text, "# description: |\n#   Stubs of the rules that the plugin publishes. Each is false until "+
		"its body says what the rule means.\n")
	fmt.Fprintf(&text, "package backstage.%s\n", name)
	types := map[string]bool{}
	for _, r := range rules {
		types[r.ResourceType] = true
	}
	for _, r := range rules {
		function := regoName(r.Name)
		if len(types) > 1 {
			function = regoName(r.ResourceType) + "_" + function
		}
		text.WriteString("\n" + comment(annotation{
			Title: title(r.Name), Description: r.Description, Scope: "document",
			Custom: custom{map[string]any{"pluginId": r.PluginID, "resourceType": r.ResourceType, "rule": r.Name,
				"paramsSchema": schemaValue(r.ParamsSchema)}},
		}))
		fmt.Fprintf(&text, "%s(_, _) if false\n", function)
	}
	return Stub{File: path.Join("backstage", name, name+".rego"), Text: text.String()}
}

type annotation struct {
	Title       string `yaml:"title"`
	Description string `yaml:"description,omitempty"`
	Scope       string `yaml:"scope"`
	Custom      custom `yaml:"custom"`
}

type custom struct {
	Backstage map[string]any `yaml:"backstage"`
}

// schemaValue is a schema as YAML can have it; a rule without one takes no params.
func schemaValue(raw json.RawMessage) any {
	var value any
	if len(raw) == 0 || json.Unmarshal(raw, &value) != nil {
		return map[string]any{"type": "object"}
	}
	return value
}

func comment(a annotation) string {
	var text bytes.Buffer
	encoder := yaml.NewEncoder(&text)
	encoder.SetIndent(2)
	_ = encoder.Encode(a) // what was read from JSON can be written
	lines := strings.Split(strings.TrimRight(text.String(), "\n"), "\n")
	return "# METADATA\n# " + strings.Join(lines, "\n# ") + "\n"
}

// title is a rule's name for people: HAS_TAG is "Has tag".
func title(name string) string {
	text := strings.ToLower(strings.ReplaceAll(name, "_", " "))
	if text == "" {
		return name
	}
	return strings.ToUpper(text[:1]) + text[1:]
}

// keywords cannot be names.
var keywords = []string{
	"as", "contains", "data", "default", "else", "every", "false", "if", "import", "in", "input", "not", "null", "package",
	"some", "true", "with",
}

// regoName makes a name of Rego's of any other.
func regoName(name string) string {
	var out strings.Builder
	for _, r := range strings.ToLower(name) {
		switch {
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9' && out.Len() > 0:
			out.WriteRune(r)
		default:
			out.WriteByte('_')
		}
	}
	if slices.Contains(keywords, out.String()) {
		return out.String() + "_"
	}
	return out.String()
}
