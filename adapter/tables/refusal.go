package tables

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"github.com/stagedoor/stagedoor/adapter/spelling"
)

// refusal is why the schema refuses a table, in plain words, and the place.
type refusal struct {
	at   []string
	text string
}

// refusalOf is the first thing that is wrong. schema is the document of the schema.
func refusalOf(invalid *jsonschema.ValidationError, schema any) refusal {
	at := invalid.InstanceLocation
	switch k := invalid.ErrorKind.(type) {
	case *kind.OneOf:
		if len(invalid.Causes) == 0 {
			one := strings.Join(choices(invalid, schema), ", ")
			return refusal{at, called(at) + " is several things at once; write one of " + one}
		}
		return oneOf(invalid, schema)
	case *kind.AdditionalProperties:
		names := slices.Sorted(maps.Keys(members(schemaAt(schema, invalid.SchemaURL), "properties")))
		text := fmt.Sprintf("%s has no member %s", called(at), k.Properties[0])
		if meant := spelling.Meant(k.Properties[0], names); meant != "" {
			text += " (" + meant + "?)"
		} else {
			text += "; it has " + strings.Join(names, ", ")
		}
		return refusal{append(slices.Clone(at), k.Properties[0]), text}
	case *kind.Required:
		return refusal{at, called(at) + " needs " + strings.Join(k.Missing, " and ")}
	case *kind.Type:
		return refusal{at, fmt.Sprintf("%s is %s; write %s", called(at), typed[k.Got], typesIn(k.Want))}
	case *kind.MinItems, *kind.MinLength, *kind.MinProperties:
		return refusal{at, called(at) + " is empty"}
	}
	for _, cause := range invalid.Causes { // what is misspelt is why something is missing
		if _, more := cause.ErrorKind.(*kind.AdditionalProperties); more {
			return refusalOf(cause, schema)
		}
	}
	if len(invalid.Causes) > 0 {
		return refusalOf(invalid.Causes[0], schema)
	}
	return refusal{at, called(at) + ": " + invalid.ErrorKind.LocalizedString(message.NewPrinter(language.English))}
}

// oneOf is why none of several ways to write a thing is taken: the way whose type the
// thing has is meant.
func oneOf(invalid *jsonschema.ValidationError, schema any) refusal {
	at := invalid.InstanceLocation
	var types []string
	var meant *jsonschema.ValidationError
	for _, way := range invalid.Causes {
		inner := way
		for isWrapper(inner.ErrorKind) && len(inner.Causes) > 0 {
			inner = inner.Causes[0]
		}
		wrong, isType := inner.ErrorKind.(*kind.Type)
		if isType && len(inner.InstanceLocation) == len(at) {
			types = append(types, wrong.Want...)
		} else if meant == nil {
			meant = inner
		}
	}
	if meant == nil {
		got := invalid.Causes[0]
		for len(got.Causes) > 0 {
			got = got.Causes[0]
		}
		of := "something else"
		if wrong, ok := got.ErrorKind.(*kind.Type); ok {
			of = typed[wrong.Got]
		}
		return refusal{at, fmt.Sprintf("%s is %s; write %s", called(at), of, typesIn(types))}
	}
	if _, lacks := meant.ErrorKind.(*kind.Required); lacks && len(types) == 0 && len(invalid.Causes) > 1 {
		return refusal{at, called(at) + " needs one of " + strings.Join(choices(invalid, schema), ", ")}
	}
	return refusalOf(meant, schema)
}

// isWrapper is whether a kind says only that something within is wrong.
func isWrapper(k jsonschema.ErrorKind) bool {
	switch k.(type) {
	case *kind.Schema, *kind.Group, *kind.Reference:
		return true
	}
	return false
}

// choices are the members of which a schema wants one.
func choices(invalid *jsonschema.ValidationError, schema any) []string {
	list, _ := members(schemaAt(schema, invalid.SchemaURL), "")["oneOf"].([]any)
	var names []string
	for _, way := range list {
		required, _ := members(way, "")["required"].([]any)
		for _, name := range required {
			names = append(names, fmt.Sprint(name))
		}
	}
	return names
}

// schemaAt is the part of a schema that a URL names.
func schemaAt(schema any, url string) any {
	_, pointer, _ := strings.Cut(url, "#")
	for step := range strings.SplitSeq(strings.Trim(pointer, "/"), "/") {
		if at, ok := schema.(map[string]any); ok && step != "" {
			schema = at[strings.NewReplacer("~1", "/", "~0", "~").Replace(step)]
		}
	}
	return schema
}

// members are those of an object, or of one of its members.
func members(v any, name string) map[string]any {
	object, _ := v.(map[string]any)
	if name == "" {
		return object
	}
	object, _ = object[name].(map[string]any)
	return object
}

// called is what the thing at a place is called. The line says which row it is in.
func called(at []string) string {
	switch {
	case len(at) == 0:
		return "the table"
	case len(at) >= 2 && (at[0] == "rows" || at[0] == "never"):
		if len(at) == 2 {
			return "the row"
		}
		at = at[2:]
	}
	return strings.Join(at, ".")
}

// typed are the types of JSON in words of YAML.
var typed = map[string]string{
	"string": "a text", "array": "a list", "object": "a mapping", "boolean": "true or false", "null": "empty",
	"number": "a number", "integer": "a number",
}

func typesIn(types []string) string {
	var words []string
	for _, t := range types {
		if !slices.Contains(words, typed[t]) {
			words = append(words, typed[t])
		}
	}
	return strings.Join(words, " or ")
}
