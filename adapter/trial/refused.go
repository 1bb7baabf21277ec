package trial

import (
	"fmt"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/stagedoor/stagedoor/adapter/criteria"
	"github.com/stagedoor/stagedoor/adapter/findings"
	"github.com/stagedoor/stagedoor/adapter/inventory"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// refusals are what plugins would refuse of the answers: a condition whose rule no plugin
// publishes for the type of the resource, or whose params its schema refuses. How the
// policy came to write it does not matter: a literal, a lookup in data, or a made text.
type refusals struct {
	seen    map[question]bool
	schemas map[[2]string]*jsonschema.Schema
	plugins map[[2]string]bool
	order   []*refusal
}

func newRefusals() refusals {
	return refusals{
		seen: make(map[question]bool), schemas: make(map[[2]string]*jsonschema.Schema), plugins: make(map[[2]string]bool),
	}
}

// question is a rule that a plugin is asked.
type question struct {
	plugin string
	rule   criteria.Rule
}

// refusal is one of them.
type refusal struct {
	code, text string
	rule       string // the name of the rule, to find its place; or of the plugin
	example    string
}

// refuse looks for what the plugin would refuse of an answer.
func (d *deciding) refuse(answer wire.Decision, example string) {
	if answer.Result != wire.Conditional || d.ownType(answer.ResourceType) {
		return
	}
	owners := d.Words.Inventory.Owners(answer.ResourceType)
	if key := [2]string{answer.PluginID, answer.ResourceType}; !d.refused.plugins[key] {
		d.refused.plugins[key] = true
		if len(owners) > 0 && !slices.Contains(owners, answer.PluginID) && !d.Words.Own[answer.PluginID] {
			d.refused.order = append(d.refused.order, &refusal{
				code: "plugin", rule: answer.PluginID, example: example,
				text: fmt.Sprintf("the plugin %s has nothing of type %s; write %q", answer.PluginID, answer.ResourceType,
					owners[0]),
			})
		}
	}
	d.refuseLeaves(answer.Conditions, answer, example)
}

func (d *deciding) refuseLeaves(c criteria.Criteria, answer wire.Decision, example string) {
	for _, child := range c.Of {
		d.refuseLeaves(child, answer, example)
	}
	if c.Op != criteria.Leaf {
		return
	}
	key := question{answer.PluginID, c.Rule}
	if d.refused.seen[key] {
		return
	}
	d.refused.seen[key] = true
	found := d.refusal(c.Rule, answer)
	if found == nil || slices.ContainsFunc(d.refused.order, func(other *refusal) bool {
		return other.code == found.code && other.text == found.text // for other callers
	}) {
		return
	}
	found.rule, found.example = c.Rule.Name, example
	d.refused.order = append(d.refused.order, found)
}

// refusal is how a rule is refused that an answer asks for.
func (d *deciding) refusal(rule criteria.Rule, answer wire.Decision) *refusal {
	resourceType := answer.ResourceType
	if rule.ResourceType != resourceType {
		return &refusal{code: "rule", text: fmt.Sprintf(
			"%s is asked as a rule of %s, and the permission is about %s", rule.Name, rule.ResourceType, resourceType)}
	}
	for _, own := range d.Rules { // as the policy declares it
		if own.Name == rule.Name && own.ResourceType == resourceType {
			return nil
		}
	}
	var elsewhere, others []string
	for _, r := range d.Words.Inventory.Rules {
		switch {
		case r.Name != rule.Name:
		case r.ResourceType != resourceType:
			elsewhere = append(elsewhere, r.ResourceType)
		case r.PluginID != answer.PluginID:
			others = append(others, r.PluginID)
		default:
			key := [2]string{r.PluginID + " " + rule.Name, resourceType}
			schema, ok := d.refused.schemas[key]
			if !ok {
				schema, _ = r.Schema() // an inventory whose schemas are wrong is not read
				d.refused.schemas[key] = schema
			}
			return refusedParams(schema, rule)
		}
	}
	if len(others) > 0 {
		if !slices.Contains(d.Words.Inventory.Owners(resourceType), answer.PluginID) {
			return nil // the plugin is told of
		}
		return &refusal{code: "rule", text: fmt.Sprintf("the plugin %s has no rule %s for %s; %s has it", answer.PluginID,
			rule.Name, resourceType, strings.Join(others, " and "))}
	}
	text := fmt.Sprintf("no plugin publishes the rule %s for %s", rule.Name, resourceType)
	switch names := d.Words.Inventory.RulesOf(resourceType); {
	case len(elsewhere) > 0:
		text += ", it is one of " + strings.Join(elsewhere, " and ")
	case len(names) == 0:
		text += ", and none other for it"
	}
	return &refusal{code: "rule", text: text}
}

func refusedParams(schema *jsonschema.Schema, rule criteria.Rule) *refusal {
	params := any(map[string]any{}) // what plugins make of none
	if rule.Params != "" {
		var err error
		if params, err = jsonschema.UnmarshalJSON(strings.NewReader(rule.Params)); err != nil {
			return &refusal{code: "params", text: err.Error()}
		}
	}
	texts := inventory.Refusals(schema, params)
	if len(texts) == 0 {
		return nil
	}
	return &refusal{code: "params", text: rule.Name + " refuses " + strings.Join(texts, "; ")}
}

// ownType is whether a type of resource is one of a plugin that the policy declares rules
// of and the inventory does not know.
func (d *deciding) ownType(resourceType string) bool {
	for _, types := range d.Words.OwnTypes {
		if slices.Contains(types, resourceType) {
			return true
		}
	}
	return !slices.Contains(d.Words.Inventory.ResourceTypes(), resourceType)
}

// tellRefused tells what plugins would refuse, but for what was found in the source.
func (d *deciding) tellRefused() {
	var told []*refusal
	for _, r := range d.refused.order {
		files := []string{d.place(r.rule).File, d.entry.File}
		if !slices.ContainsFunc(files, func(file string) bool {
			return d.FoundOn(file, r.code) || d.FoundOn(file, "answer")
		}) {
			told = append(told, r)
		}
	}
	for _, r := range told {
		d.Add(d.place(r.rule), findings.Error, r.code,
			"the plugin would refuse the condition for %s, and nothing is allowed there: %s", r.example, r.text)
	}
}
