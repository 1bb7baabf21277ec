package tests

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/stagedoor/stagedoor/adapter/inventory"
	"github.com/stagedoor/stagedoor/adapter/offline"
	"github.com/stagedoor/stagedoor/rego"
)

// inputs tells what Backstage can send from what it cannot.
type inputs struct {
	inventory *inventory.Inventory
	input     *jsonschema.Schema
	resources map[string]*jsonschema.Schema // by resource type
}

func newInputs(known *inventory.Inventory) (*inputs, error) {
	schemas := rego.Schemas()
	input, err := compileSchema(schemas["input"])
	if err != nil {
		return nil, err
	}
	entity, err := compileSchema(schemas["entity"])
	if err != nil {
		return nil, err
	}
	return &inputs{known, input, map[string]*jsonschema.Schema{"catalog-entity": entity}}, nil
}

func compileSchema(text string) (*jsonschema.Schema, error) {
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		return nil, err
	}
	const name = "urn:schema"
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource(name, document); err != nil {
		return nil, err
	}
	return compiler.Compile(name)
}

// check says why no Backstage sends the input, or nothing where one does.
func (i *inputs) check(input map[string]any) string {
	if problem := invalid("input", i.input, input); problem != "" {
		return problem
	}
	stated, _ := input["permission"].(map[string]any)
	name, _ := stated["name"].(string)
	if _, err := offline.FindPermission(i.inventory, name); err != nil {
		return err.Error()
	}
	p, _ := i.inventory.Permission(name)
	if problem := differs(stated, p); problem != "" {
		return problem
	}
	if resource, given := input["resource"]; given {
		if schema := i.resources[p.ResourceType]; schema != nil {
			return invalid("input.resource", schema, resource)
		}
	}
	return ""
}

// differs says where the permission of an input is not that of the inventory.
func differs(stated map[string]any, p inventory.Permission) string {
	attributes, hasAttributes := stated["attributes"].(map[string]any)
	action, _ := attributes["action"].(string)
	for _, member := range []struct {
		name  string
		given bool
		has   any
		want  string
	}{
		{"type", stated["type"] != nil, stated["type"], p.Type},
		{"resourceType", stated["resourceType"] != nil, stated["resourceType"], p.ResourceType},
		{"attributes.action", hasAttributes, action, p.Attributes.Action},
	} {
		if member.given && member.has != member.want {
			want := "has none"
			if member.want != "" {
				want = "has " + member.want
			}
			return fmt.Sprintf("input.permission.%s is %v, but %s %s", member.name, text(member.has), p.Name, want)
		}
	}
	return ""
}

// complete is the input as Backstage sends it, with all that the inventory knows of
// the permission.
func (i *inputs) complete(input map[string]any) map[string]any {
	stated, _ := input["permission"].(map[string]any)
	name, _ := stated["name"].(string)
	p, ok := i.inventory.Permission(name)
	if !ok {
		return input
	}
	completed := maps.Clone(input)
	completed["permission"] = offline.Question{Permission: offline.Permission(p)}.Input()["permission"]
	return completed
}

// invalid says what a schema refuses, with the member that could have been meant.
func invalid(name string, schema *jsonschema.Schema, v any) string {
	refused, ok := errors.AsType[*jsonschema.ValidationError](schema.Validate(v))
	if !ok {
		return ""
	}
	var problems []string
	for _, unit := range refused.BasicOutput().Errors {
		if unit.Error != nil {
			problems = append(problems, name+strings.ReplaceAll(unit.InstanceLocation, "/", ".")+": "+unit.Error.String())
		}
	}
	slices.Sort(problems)
	return "no Backstage sends this: " + strings.Join(slices.Compact(problems), "; ")
}
