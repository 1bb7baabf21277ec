package dataapi

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/stagedoor/stagedoor/adapter/spelling"
	"github.com/stagedoor/stagedoor/rego"
)

// caution is a warning as OPA's data API has them (types.Warning of its server).
type caution struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// shape is what the schema of the input says of the members of an object.
type shape struct {
	Properties map[string]*shape `json:"properties"`
}

var inputShape = sync.OnceValue(func() *shape {
	var s shape
	_ = json.Unmarshal([]byte(rego.Schemas()["input"]), &s) // which is JSON: a test reads it
	return &s
})

// warning is what whoever wrote an input may not have meant, in the form of OPA's own
// warnings: there is none, or it has a misspelt member. A policy that looks for the
// right one finds nothing, and mostly denies. What is spelt like none may be a policy's own.
// Nil where all is well.
func warning(input map[string]any) *caution {
	text := "'input' key missing from the request" // OPA's own words
	if input != nil {
		text = inputShape().unknown("input", input)
	}
	if text == "" {
		return nil
	}
	return &caution{"api_usage_warning", text}
}

// unknown tells of the first member of the value at a path whose name is nearly one of the shape.
func (s *shape) unknown(path string, value map[string]any) string {
	for _, name := range slices.Sorted(maps.Keys(value)) {
		of := s.Properties[name]
		if of == nil {
			if meant := spelling.Meant(name, slices.Sorted(maps.Keys(s.Properties))); meant != "" {
				return fmt.Sprintf("%s has no member %.100q where a plugin asks: %s?", path, name, meant)
			}
			continue
		}
		if object, is := value[name].(map[string]any); is && len(of.Properties) > 0 {
			if text := of.unknown(path+"."+name, object); text != "" {
				return text
			}
		}
	}
	return ""
}
