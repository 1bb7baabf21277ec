// Package inventory is what a Backstage has: the permissions and permission rules
// that its plugins publish, and the people, groups and entities of its catalog.
// Commands ask policies about all of it.
//
// [Stock] is in the binary. It is generated from the published packages of the
// plugins (e2e/inventory), never written by hand. [Load] reads a directory, such as
// `stagedoor inventory pull` writes of a running Backstage:
//
//	permissions.json  [{"name", "type", "attributes", "resourceType", "pluginId"}]
//	rules.json        [{"pluginId", "resourceType", "name", "description", "paramsSchema"}]
//	people.json       {"user:default/ann": {"claims": ["user:default/ann", "group:default/web"]}}
//	groups.json       {"group:default/web": {"parent": "group:default/all"}}, or "parents" where there are several
//	entities.jsonl    an entity of the catalog on each line
//
// Every file is optional. Where permissions.json is missing, the stock permissions
// stand for it, and the stock rules for rules.json. What is written is sorted, so
// that equal inventories are equal files ([Inventory.Write]).
package inventory

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

// An Inventory is what a Backstage has. Whoever shares one must not change it.
type Inventory struct {
	// Source says where it came from: stock, a directory, or a URL.
	Source string
	// Permissions are sorted by name, and each name is there once.
	Permissions []Permission
	// Rules are sorted by plugin, resource type and name, each there once.
	Rules []Rule
	// People are the users by entity reference; nil where they are not known.
	People map[string]Person
	// Groups are the groups by entity reference; nil where they are not known.
	Groups map[string]Group
	// Entities are catalog entities as encoding/json decodes them with UseNumber.
	Entities []map[string]any
}

// A Permission is one that a plugin publishes.
type Permission struct {
	Name string `json:"name"`
	// Type is basic or resource.
	Type       string     `json:"type"`
	Attributes Attributes `json:"attributes"`
	// ResourceType is empty for a basic permission.
	ResourceType string `json:"resourceType,omitempty"`
	// PluginID is the plugin that publishes it. The plugin that owns the resource
	// type can be another: jenkins publishes one about catalog entities.
	PluginID string `json:"pluginId,omitempty"`
}

// Attributes are those of a permission.
type Attributes struct {
	// Action is create, read, update, delete, or empty.
	Action string `json:"action,omitempty"`
}

// A Rule is a permission rule that a plugin publishes.
type Rule struct {
	PluginID     string `json:"pluginId"`
	ResourceType string `json:"resourceType"`
	Name         string `json:"name"`
	Description  string `json:"description,omitempty"`
	// ParamsSchema is the JSON Schema (draft-07) of the rule's params as the plugin
	// publishes it, with sorted members; nil where it publishes none.
	ParamsSchema json.RawMessage `json:"paramsSchema,omitempty"`
}

// A Person is a user of the catalog.
type Person struct {
	// Claims are the references through which the person owns things: the person's
	// own and those of the groups.
	Claims []string `json:"claims"`
}

// A Group is a group of the catalog.
type Group struct {
	// Parent is the reference of the group that this one is a part of, or empty.
	Parent string `json:"parent,omitempty"`
	// Parents are they where there are several.
	Parents []string `json:"parents,omitempty"`
}

// All are the groups that this one is a part of.
func (g Group) All() []string {
	if g.Parent == "" {
		return g.Parents
	}
	return append([]string{g.Parent}, g.Parents...)
}

// Permission returns the permission of the name. It is safe for concurrent use.
func (i *Inventory) Permission(name string) (Permission, bool) {
	at, found := slices.BinarySearchFunc(i.Permissions, name, func(p Permission, name string) int {
		return cmp.Compare(p.Name, name)
	})
	if !found {
		return Permission{}, false
	}
	return i.Permissions[at], true
}

// RulesOf returns the rules for resources of the type, in order of their names. It
// is safe for concurrent use.
func (i *Inventory) RulesOf(resourceType string) []Rule {
	var rules []Rule
	for _, r := range i.Rules {
		if r.ResourceType == resourceType {
			rules = append(rules, r)
		}
	}
	slices.SortStableFunc(rules, func(a, b Rule) int { return cmp.Compare(a.Name, b.Name) })
	return rules
}

// ResourceTypes returns the resource types that a permission or a rule is about,
// sorted. It is safe for concurrent use.
func (i *Inventory) ResourceTypes() []string {
	var types []string
	for _, p := range i.Permissions {
		types = append(types, p.ResourceType)
	}
	for _, r := range i.Rules {
		types = append(types, r.ResourceType)
	}
	return distinct(types)
}

// Owners returns the plugins that have rules for resources of the type, sorted:
// one of them is the pluginId of a conditional decision about the type. It is safe
// for concurrent use.
func (i *Inventory) Owners(resourceType string) []string {
	var owners []string
	for _, r := range i.Rules {
		if r.ResourceType == resourceType {
			owners = append(owners, r.PluginID)
		}
	}
	return distinct(owners)
}

// Plugins returns the ids of all plugins that are named, sorted. It is safe for
// concurrent use.
func (i *Inventory) Plugins() []string {
	var ids []string
	for _, p := range i.Permissions {
		ids = append(ids, p.PluginID)
	}
	for _, r := range i.Rules {
		ids = append(ids, r.PluginID)
	}
	return distinct(ids)
}

// distinct sorts texts and leaves out doubles and the empty one.
func distinct(texts []string) []string {
	slices.Sort(texts)
	texts = slices.Compact(texts)
	return slices.DeleteFunc(texts, func(s string) bool { return s == "" })
}

// sort brings permissions and rules into their order.
func (i *Inventory) sort() {
	slices.SortStableFunc(i.Permissions, func(a, b Permission) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.PluginID, b.PluginID))
	})
	slices.SortStableFunc(i.Rules, func(a, b Rule) int {
		return cmp.Or(cmp.Compare(a.PluginID, b.PluginID), cmp.Compare(a.ResourceType, b.ResourceType),
			cmp.Compare(a.Name, b.Name))
	})
}

// Schema compiles the schema of the rule's params; nil where it has none. The
// error says what is wrong with the schema.
func (r Rule) Schema() (*jsonschema.Schema, error) {
	if len(r.ParamsSchema) == 0 {
		return nil, nil
	}
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(r.ParamsSchema)))
	if err != nil {
		return nil, fmt.Errorf("paramsSchema of %s: %w", r.Name, err)
	}
	const name = "urn:paramsSchema"
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft7)
	compiler.UseLoader(jsonschema.SchemeURLLoader{}) // it can refer to nothing outside itself
	if err := compiler.AddResource(name, doc); err != nil {
		return nil, fmt.Errorf("paramsSchema of %s: %w", r.Name, err)
	}
	compiled, err := compiler.Compile(name)
	if err != nil {
		return nil, fmt.Errorf("paramsSchema of %s: %w", r.Name, err)
	}
	return compiled, nil
}

// Refusals are why a schema refuses the params of a rule, each with its place, such as
// params.label: got number, want string. There is none where it takes them, and where the
// schema is nil. It is safe for concurrent use.
func Refusals(schema *jsonschema.Schema, params any) []string {
	if schema == nil {
		return nil
	}
	invalid, _ := errors.AsType[*jsonschema.ValidationError](schema.Validate(params))
	if invalid == nil {
		return nil
	}
	english := message.NewPrinter(language.English)
	var texts []string
	var leaves func(*jsonschema.ValidationError)
	leaves = func(e *jsonschema.ValidationError) {
		if len(e.Causes) == 0 {
			at := strings.Join(append([]string{"params"}, e.InstanceLocation...), ".")
			texts = append(texts, at+": "+e.ErrorKind.LocalizedString(english))
		}
		for _, cause := range e.Causes {
			leaves(cause)
		}
	}
	leaves(invalid)
	return texts
}

var stock = sync.OnceValue(func() *Inventory {
	i, err := read(stockFiles)
	if err != nil { // What is embedded was read by a test.
		panic(err)
	}
	i.Source = "stock"
	return i
})

// Stock returns the inventory that is in the binary, of the plugins that many
// Backstages have. All callers share it and must not change it.
func Stock() *Inventory { return stock() }

// Params says in short what params the rule takes, such as
//
//	label: string, value?: string
func (r Rule) Params() string {
	var schema struct {
		Properties map[string]struct {
			Type  any `json:"type"`
			Items struct {
				Type any `json:"type"`
			} `json:"items"`
		} `json:"properties"`
		Required []string `json:"required"`
	}
	if len(r.ParamsSchema) == 0 || json.Unmarshal(r.ParamsSchema, &schema) != nil {
		return "any"
	}
	var params []string
	for _, name := range slices.Sorted(maps.Keys(schema.Properties)) {
		p := schema.Properties[name]
		text := fmt.Sprint(p.Type)
		if text == "array" {
			text = fmt.Sprint(p.Items.Type) + "[]"
		}
		if !slices.Contains(schema.Required, name) {
			name += "?"
		}
		params = append(params, name+": "+text)
	}
	if len(params) == 0 {
		return "none"
	}
	return strings.Join(params, ", ")
}
