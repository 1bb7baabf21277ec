package rules

import (
	"bytes"
	"errors"
	"io"
	"slices"

	"github.com/go-json-experiment/json/jsontext"
)

// plain is a schema of params that are texts and lists of texts, as those of nearly all rules
// are. Params that fit it are told so in one pass, without the tree that the library holds
// against a schema: a page has each caller's own claims checked. It is immutable.
type plain struct {
	members  map[string]jsontext.Kind // of each what its value begins with
	required []string
}

// plainOf is the schema as a plain one, or nil where it asks for anything else.
func plainOf(schema any) *plain {
	object, ok := schema.(map[string]any)
	if !ok || object["type"] != "object" || !saysOnly(object, "properties", "required") {
		return nil
	}
	properties, _ := object["properties"].(map[string]any)
	p := &plain{members: make(map[string]jsontext.Kind, len(properties))}
	for name, of := range properties {
		switch of, _ := of.(map[string]any); {
		case isText(of):
			p.members[name] = jsontext.KindString
		case of["type"] == "array" && saysOnly(of, "items"):
			if items, _ := of["items"].(map[string]any); !isText(items) {
				return nil
			}
			p.members[name] = jsontext.KindBeginArray
		default:
			return nil
		}
	}
	required, _ := object["required"].([]any)
	for _, name := range required {
		name, _ := name.(string)
		p.required = append(p.required, name)
	}
	return p
}

// isText reports whether a schema takes every text, and nothing else.
func isText(schema map[string]any) bool { return schema["type"] == "string" && saysOnly(schema) }

// saysOnly reports whether a schema has no members but these, its type, and those that are
// about no value.
func saysOnly(schema map[string]any, members ...string) bool {
	for name := range schema {
		switch name {
		case "$schema", "type", "title", "description", "default", "examples":
		default:
			if !slices.Contains(members, name) {
				return false
			}
		}
	}
	return true
}

// fits reports whether the params are sure to fit the schema. Where it says no, they may
// still.
func (p *plain) fits(params string) bool {
	in := jsontext.NewDecoder(bytes.NewBufferString(params)) // which refuses a name that is there twice
	if in.PeekKind() != jsontext.KindBeginObject {
		return false
	}
	_, _ = in.ReadToken()
	missing := len(p.required)
	for in.PeekKind() == jsontext.KindString {
		name, err := in.ReadToken()
		if err != nil {
			return false
		}
		text := name.String()
		if slices.Contains(p.required, text) {
			missing--
		}
		if !valueFits(in, p.members[text]) {
			return false
		}
	}
	if end, err := in.ReadToken(); err != nil || end.Kind() != jsontext.KindEndObject || missing > 0 {
		return false
	}
	_, err := in.ReadToken()
	return errors.Is(err, io.EOF)
}

// valueFits reads a value and reports whether it is of a kind; of any, where that is zero.
func valueFits(in *jsontext.Decoder, kind jsontext.Kind) bool {
	if kind != 0 && in.PeekKind() != kind {
		return false
	}
	if kind != jsontext.KindBeginArray {
		return in.SkipValue() == nil
	}
	_, _ = in.ReadToken()
	for in.PeekKind() == jsontext.KindString {
		if in.SkipValue() != nil {
			return false
		}
	}
	end, err := in.ReadToken()
	return err == nil && end.Kind() == jsontext.KindEndArray
}
