package criteria

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

const (
	// MaxDepth is how deep criteria may nest, params included. Real ones have a
	// handful of levels; plugins read them recursively.
	MaxDepth = 64
	// MaxNodes is how many nodes criteria may have, every value within params
	// counting as one. Plugins refuse requests over 100 KiB long before.
	MaxNodes = 100_000
)

// operators are the members of which a node has exactly one.
var operators = []string{"rule", "anyOf", "allOf", "not"}

// Parse reads criteria from decoded JSON: map[string]any, []any, string, bool,
// nil, and json.Number or float64 for numbers, as OPA and encoding/json give it.
//
// A node has exactly one of rule, anyOf, allOf and not. A rule is a non-empty
// string beside a non-empty resourceType and, where present, a params object.
// Any other member is ignored, as every Backstage reader ignores it. Lists may be
// empty, though Backstage's own readers refuse those: see [Criteria.Normalise].
// The tree is bounded by [MaxDepth] and [MaxNodes] and comes as it stood, never
// with a [Never] or an [Always] in it.
//
// The error names the place, such as "conditions.anyOf[2].not: ...".
func Parse(v any) (Criteria, error) {
	var p parser
	c, err := p.node(v, 1)
	if err != nil {
		return Criteria{}, within("conditions", err)
	}
	return c, nil
}

// parser counts what it has read.
type parser struct{ nodes int }

// enter counts a value that stands depth levels deep.
func (p *parser) enter(depth int) error {
	if p.nodes++; p.nodes > MaxNodes {
		return fmt.Errorf("more than %d nodes", MaxNodes)
	}
	if depth > MaxDepth {
		return fmt.Errorf("nested deeper than %d", MaxDepth)
	}
	return nil
}

func (p *parser) node(v any, depth int) (Criteria, error) {
	if err := p.enter(depth); err != nil {
		return Criteria{}, err
	}
	node, ok := v.(map[string]any)
	if !ok {
		return Criteria{}, fmt.Errorf("must be an object, is %s", kind(v))
	}
	op, err := operator(node)
	if err != nil {
		return Criteria{}, err
	}
	switch op {
	case "rule":
		return p.leaf(node, depth)
	case "not":
		child, err := p.node(node[op], depth+1)
		return Criteria{Op: Not, Of: []Criteria{child}}, within(".not", err)
	case "allOf":
		return p.list(AllOf, op, node[op], depth)
	default:
		return p.list(AnyOf, op, node[op], depth)
	}
}

// operator returns which of the operators the node has.
func operator(node map[string]any) (string, error) {
	var has []string
	for _, op := range operators {
		if _, ok := node[op]; ok {
			has = append(has, op)
		}
	}
	switch len(has) {
	case 0:
		return "", errors.New("must have one of rule, anyOf, allOf and not, has none")
	case 1:
		return has[0], nil
	default:
		return "", fmt.Errorf("must have only one of rule, anyOf, allOf and not, has %s", strings.Join(has, " and "))
	}
}

func (p *parser) list(op Op, name string, v any, depth int) (Criteria, error) {
	list, ok := v.([]any)
	if !ok {
		return Criteria{}, within("."+name, fmt.Errorf("must be an array, is %s", kind(v)))
	}
	of := make([]Criteria, 0, min(len(list), MaxNodes))
	for i, v := range list {
		child, err := p.node(v, depth+1)
		if err != nil {
			return Criteria{}, within("."+name+"["+strconv.Itoa(i)+"]", err)
		}
		of = append(of, child)
	}
	return Criteria{Op: op, Of: of}, nil
}

func (p *parser) leaf(node map[string]any, depth int) (Criteria, error) {
	name, err := text(node, "rule")
	if err != nil {
		return Criteria{}, err
	}
	resourceType, err := text(node, "resourceType")
	if err != nil {
		return Criteria{}, err
	}
	rule := Rule{Name: name, ResourceType: resourceType}
	if v, ok := node["params"]; ok {
		params, ok := v.(map[string]any)
		if !ok {
			return Criteria{}, within(".params", fmt.Errorf("must be an object, is %s", kind(v)))
		}
		b, err := p.appendValue(nil, params, depth+1)
		if err != nil {
			return Criteria{}, within(".params", err)
		}
		rule.Params = string(b)
	}
	return Criteria{Op: Leaf, Rule: rule}, nil
}

// appendValue appends a value of params as compact JSON with sorted member
// names, so that equal params are equal strings. Numbers stay as they were
// written: 1 and 1.0 need not be the same to a plugin.
func (p *parser) appendValue(b []byte, v any, depth int) ([]byte, error) {
	if err := p.enter(depth); err != nil {
		return nil, err
	}
	switch v := v.(type) {
	case nil:
		return append(b, "null"...), nil
	case bool:
		return strconv.AppendBool(b, v), nil
	case string:
		return appendString(b, v)
	case json.Number:
		return appendNumber(b, v)
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, fmt.Errorf("%v is no JSON number", v)
		}
		return jsontext.AppendFloat(b, v, 64), nil
	case []any:
		return p.appendArray(b, v, depth)
	case map[string]any:
		return p.appendObject(b, v, depth)
	default:
		return nil, fmt.Errorf("must be JSON, is %s", kind(v))
	}
}

func (p *parser) appendArray(b []byte, list []any, depth int) ([]byte, error) {
	b = append(b, '[')
	for i, v := range list {
		if i > 0 {
			b = append(b, ',')
		}
		var err error
		if b, err = p.appendValue(b, v, depth+1); err != nil {
			return nil, within("["+strconv.Itoa(i)+"]", err)
		}
	}
	return append(b, ']'), nil
}

func (p *parser) appendObject(b []byte, object map[string]any, depth int) ([]byte, error) {
	b = append(b, '{')
	for i, name := range slices.Sorted(maps.Keys(object)) {
		if i > 0 {
			b = append(b, ',')
		}
		var err error
		if b, err = appendString(b, name); err != nil {
			return nil, err
		}
		b = append(b, ':')
		if b, err = p.appendValue(b, object[name], depth+1); err != nil {
			return nil, within("."+name, err)
		}
	}
	return append(b, '}'), nil
}

func appendString(b []byte, s string) ([]byte, error) {
	if !utf8.ValidString(s) {
		return nil, errors.New("must be valid UTF-8")
	}
	return jsontext.AppendQuote(b, s)
}

func appendNumber(b []byte, n json.Number) ([]byte, error) {
	if jsontext.Value(n).Kind() == jsontext.KindNumber {
		if b, err := jsontext.AppendFormat(b, string(n)); err == nil {
			return b, nil
		}
	}
	return nil, errors.New("must be a JSON number")
}

// text returns a member that must be a non-empty string.
func text(node map[string]any, name string) (string, error) {
	v, ok := node[name]
	if !ok {
		return "", within("."+name, errors.New("is missing"))
	}
	s, ok := v.(string)
	switch {
	case !ok:
		return "", within("."+name, fmt.Errorf("must be a string, is %s", kind(v)))
	case s == "":
		return "", within("."+name, errors.New("must not be empty"))
	case !utf8.ValidString(s):
		return "", within("."+name, errors.New("must be valid UTF-8"))
	}
	return s, nil
}

// kind names the JSON type of v for an error text.
func kind(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "a boolean"
	case string:
		return "a string"
	case json.Number, float64:
		return "a number"
	case []any:
		return "an array"
	case map[string]any:
		return "an object"
	default:
		return fmt.Sprintf("a Go %T", v)
	}
}

// placedError is an error with the place that it is about.
type placedError struct {
	place string
	err   error
}

func (e *placedError) Error() string { return e.place + ": " + e.err.Error() }

func (e *placedError) Unwrap() error { return e.err }

// within puts place before the place of err, while the parser returns from there.
func within(place string, err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*placedError](err); ok {
		return &placedError{place + e.place, e.err}
	}
	return &placedError{place, err}
}
