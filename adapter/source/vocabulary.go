package source

import (
	"maps"
	"slices"

	"github.com/stagedoor/stagedoor/adapter/inventory"
	"github.com/stagedoor/stagedoor/adapter/reading"
	"github.com/stagedoor/stagedoor/adapter/spelling"
)

// Vocabulary is what names there are: those of the inventory, and those of the rules
// that the policy itself declares.
type Vocabulary struct {
	Inventory     *inventory.Inventory
	permissions   []string
	resourceTypes []string
	plugins       []string
	rules         []string
	schemas       map[string][]inventory.Rule // by name
	Own           map[string]bool             // plugins that the policy has rules of and the inventory does not
	OwnTypes      map[string][]string         // the resource types of those rules
}

func newVocabulary(i *inventory.Inventory, rules map[string]*reading.Rule) *Vocabulary {
	v := &Vocabulary{
		Inventory: i, resourceTypes: i.ResourceTypes(), plugins: i.Plugins(),
		schemas: map[string][]inventory.Rule{}, Own: map[string]bool{},
	}
	for _, p := range i.Permissions {
		v.permissions = append(v.permissions, p.Name)
	}
	for _, r := range i.Rules {
		v.rules = append(v.rules, r.Name)
		v.schemas[r.Name] = append(v.schemas[r.Name], r)
	}
	for _, path := range slices.Sorted(maps.Keys(rules)) {
		r := rules[path]
		v.rules = append(v.rules, r.Name)
		v.resourceTypes = append(v.resourceTypes, r.ResourceType)
		if !slices.Contains(v.plugins, r.PluginID) {
			v.Own[r.PluginID] = true
			if v.OwnTypes == nil {
				v.OwnTypes = map[string][]string{}
			}
			if !slices.Contains(v.OwnTypes[r.PluginID], r.ResourceType) {
				v.OwnTypes[r.PluginID] = append(v.OwnTypes[r.PluginID], r.ResourceType)
			}
		}
	}
	for plugin := range v.Own {
		v.plugins = append(v.plugins, plugin)
	}
	for _, names := range []*[]string{&v.rules, &v.resourceTypes, &v.plugins} {
		slices.Sort(*names)
		*names = slices.Compact(*names)
	}
	return v
}

// published is the rule of the inventory, where it has it.
func (s *Source) published(plugin, resourceType, name string) (inventory.Rule, bool) {
	for _, r := range s.Words.schemas[name] {
		if r.PluginID == plugin && r.ResourceType == resourceType {
			return r, true
		}
	}
	return inventory.Rule{}, false
}

// orNearest is " (name?)" or empty.
func orNearest(name string, among []string) string {
	if best := spelling.Meant(name, among); best != "" {
		return " (" + best + "?)"
	}
	return ""
}

// orPull is the nearest name or, where none is near, how to make the name known.
func orPull(name string, among []string) string {
	if hint := orNearest(name, among); hint != "" {
		return hint
	}
	return "; if a plugin of yours publishes it, read yours by stagedoor inventory pull and check with --inventory"
}
