// Package params is what the checks of a policy know of the params of permission rules.
//
// A [Schema] is what is read of a rule's paramsSchema: enough to say what is missing, what is
// of another type, and which params one could write. It does not validate: the engine does.
//
// [EmptyMeansAll] are the rules for which an empty list holds for every resource. Those are
// named here, since no schema says so.
package params

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/stagedoor/stagedoor/adapter/reading"
)

// A Schema is what is read of the schema of a rule's params.
type Schema struct {
	Properties map[string]*Schema `json:"properties"`
	Required   []string           `json:"required"`
	Type       any                `json:"type"`
	Items      *Schema            `json:"items"`
	Enum       []any              `json:"enum"`
	AnyOf      []any              `json:"anyOf"`
}

// Read reads a schema; nil is one that is missing or cannot be read.
func Read(raw json.RawMessage) *Schema {
	if len(raw) == 0 {
		return nil
	}
	var schema Schema
	if err := json.NewDecoder(bytes.NewReader(raw)).Decode(&schema); err != nil {
		return nil
	}
	return &schema
}

// Allows are the types that a value may have; 0 is where the schema does not say.
func (p *Schema) Allows() reading.JSONTypes {
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

// Text says what a value is, such as a list of strings.
func (p *Schema) Text() string {
	if p.Allows() == reading.IsList && p.Items != nil && p.Items.Allows() != 0 {
		return fmt.Sprintf("a list of %ss", p.Items.Allows())
	}
	if t := p.Allows(); t != 0 {
		return "a " + strings.ReplaceAll(t.String(), "array", "list")
	}
	return "something else"
}

// Example is params that the schema takes, without the braces around them.
func (p *Schema) Example() string {
	if p == nil {
		return ""
	}
	var parts []string
	for _, name := range p.Required {
		value := `"…"`
		switch param := p.Properties[name]; {
		case param == nil:
		case param.Allows() == reading.IsList && slices.Contains([]string{"claims", "owners"}, name):
			value = "input.identity.claims"
		case param.Allows() == reading.IsList:
			value = `["…"]`
		case param.Allows() == reading.IsNumber:
			value = "1"
		case param.Allows() == reading.IsBoolean:
			value = "true"
		}
		parts = append(parts, fmt.Sprintf("%q: %s", name, value))
	}
	return strings.Join(parts, ", ")
}
