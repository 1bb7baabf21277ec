package appconfig

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// parseYAML reads one document of YAML with the types of the core schema of
// version 1.2: objects, lists, texts, numbers, booleans and null. Errors name the
// line and quote nothing.
func parseYAML(text []byte) (any, error) {
	text = bytes.TrimPrefix(text, []byte("\uFEFF"))
	if directives(text) {
		return nil, errors.New("it begins with a directive such as %YAML; leave that out")
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var document, second yaml.Node
	if err := decoder.Decode(&document); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, where(err)
	}
	if err := decoder.Decode(&second); err == nil {
		return nil, fmt.Errorf("line %d: a second document; write one only", max(second.Line, 1))
	} else if !errors.Is(err, io.EOF) {
		return nil, where(err)
	}
	c := converter{}
	return c.value(&document)
}

// directives reports whether a text has directives before its document.
func directives(text []byte) bool {
	for line := range bytes.Lines(text) {
		switch line = bytes.TrimSpace(line); {
		case len(line) == 0 || line[0] == '#':
		default:
			return line[0] == '%'
		}
	}
	return false
}

var lineNumber = regexp.MustCompile(`line \d+`)

// reason is what the library says is wrong, of those texts that quote nothing.
var reason = regexp.MustCompile(`(?:did not find expected|could not find expected|mapping values are not allowed|` +
	`block (?:sequence|mapping) entries are not allowed|found character that cannot start|found unexpected end|` +
	`found a tab|found an? (?:invalid|incorrect)) ?[a-z ':,\-\[\]{}<>]*$`)

// where says where a text is not what it should be, and what is wrong, without quoting
// it: it may hold secrets.
func where(err error) error {
	text := "not valid"
	if line := lineNumber.FindString(err.Error()); line != "" {
		text = line + ": not valid"
	}
	if why := reason.FindString(err.Error()); why != "" {
		text += ": " + why
	}
	return errors.New(text)
}

// maxNodes is how much a document may grow to by its aliases.
const maxNodes = 1_000_000

// converter makes values of the nodes of a document.
type converter struct {
	nodes int
	open  []*yaml.Node // the aliases that are being followed
}

func (c *converter) value(n *yaml.Node) (any, error) {
	if c.nodes++; c.nodes > maxNodes {
		return nil, fmt.Errorf("line %d: aliases make the document too large", n.Line)
	}
	switch n.Kind {
	case yaml.DocumentNode:
		if len(n.Content) == 0 {
			return nil, nil
		}
		return c.value(n.Content[0])
	case yaml.AliasNode:
		for _, open := range c.open {
			if open == n.Alias {
				return nil, fmt.Errorf("line %d: an alias of what it stands in", n.Line)
			}
		}
		c.open = append(c.open, n.Alias)
		value, err := c.value(n.Alias)
		c.open = c.open[:len(c.open)-1]
		return value, err
	case yaml.MappingNode:
		return c.object(n)
	case yaml.SequenceNode:
		if err := tagged(n, "!!seq"); err != nil {
			return nil, err
		}
		list := make([]any, len(n.Content))
		for i, one := range n.Content {
			value, err := c.value(one)
			if err != nil {
				return nil, err
			}
			list[i] = value
		}
		return list, nil
	}
	return scalar(n)
}

func (c *converter) object(n *yaml.Node) (any, error) {
	if err := tagged(n, "!!map"); err != nil {
		return nil, err
	}
	object := make(map[string]any, len(n.Content)/2)
	for i := 0; i < len(n.Content); i += 2 {
		key, err := keyOf(n.Content[i])
		if err != nil {
			return nil, err
		}
		if _, twice := object[key]; twice {
			return nil, fmt.Errorf("line %d: a key that is there already", n.Content[i].Line)
		}
		if object[key], err = c.value(n.Content[i+1]); err != nil {
			return nil, err
		}
	}
	return object, nil
}

// keyOf is a key as text, which any scalar can be.
func keyOf(n *yaml.Node) (string, error) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind != yaml.ScalarNode {
		return "", fmt.Errorf("line %d: want a text as key", n.Line)
	}
	value, err := scalar(n)
	if err != nil {
		return "", err
	}
	switch v := value.(type) {
	case string:
		return v, nil
	case nil:
		return "", nil
	default:
		text, err := json.Marshal(v)
		return string(text), err
	}
}

// tagged refuses any tag on a node but one.
func tagged(n *yaml.Node, tag string) error {
	if n.Style&yaml.TaggedStyle != 0 && n.Tag != tag {
		return unknownTag(n)
	}
	return nil
}

// unknownTag does not quote the tag: a secret that begins with ! is one.
func unknownTag(n *yaml.Node) error {
	return fmt.Errorf("line %d: a tag that is not known here; put a text that begins with ! in quotes", n.Line)
}

// The plain scalars of the core schema that are no text.
var (
	nullText    = regexp.MustCompile(`^(?:~|null|Null|NULL|)$`)
	boolText    = regexp.MustCompile(`^(?:true|True|TRUE|false|False|FALSE)$`)
	octalText   = regexp.MustCompile(`^0o[0-7]+$`)
	hexText     = regexp.MustCompile(`^0x[0-9a-fA-F]+$`)
	integerText = regexp.MustCompile(`^[-+]?[0-9]+$`)
	floatText   = regexp.MustCompile(`^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$`)
	otherNumber = regexp.MustCompile(`^(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$`)
)

func scalar(n *yaml.Node) (any, error) {
	if n.Style&yaml.TaggedStyle != 0 {
		return taggedScalar(n)
	}
	if n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
		return n.Value, nil
	}
	return plain(n)
}

// taggedScalar reads a scalar by its tag. One that does not look like what the tag
// says is text.
func taggedScalar(n *yaml.Node) (any, error) {
	fits := false
	switch text := n.Value; n.Tag {
	case "!!str", "!":
	case "!!null":
		fits = nullText.MatchString(text)
	case "!!bool":
		fits = boolText.MatchString(text)
	case "!!int":
		fits = integerText.MatchString(text) || octalText.MatchString(text) || hexText.MatchString(text)
	case "!!float":
		fits = floatText.MatchString(text) && !integerText.MatchString(text)
	default:
		return nil, unknownTag(n)
	}
	if !fits {
		return n.Value, nil
	}
	return plain(n)
}

// plain reads a scalar that is written without quotes.
func plain(n *yaml.Node) (any, error) {
	text := n.Value
	switch {
	case nullText.MatchString(text):
		return nil, nil
	case boolText.MatchString(text):
		return strings.EqualFold(text, "true"), nil
	case octalText.MatchString(text):
		return whole(text[2:], 8), nil
	case hexText.MatchString(text):
		return whole(text[2:], 16), nil
	case integerText.MatchString(text):
		return whole(text, 10), nil
	case floatText.MatchString(text):
		f, _ := strconv.ParseFloat(text, 64) // beyond the largest it is infinite, as there
		if f == math.Trunc(f) && math.Abs(f) < exact {
			return int64(f), nil
		}
		if math.IsInf(f, 0) {
			return nil, fmt.Errorf("line %d: the number is too large", n.Line)
		}
		return f, nil
	case otherNumber.MatchString(text):
		return nil, fmt.Errorf("line %d: no finite number", n.Line)
	}
	return text, nil
}

// exact is up to where every whole number is a number of JavaScript.
const exact = 1 << 53

// whole is a whole number, rounded as JavaScript would where it is large.
func whole(digits string, base int) any {
	n, err := strconv.ParseInt(digits, base, 64)
	if err == nil && -exact <= n && n <= exact {
		return n
	}
	if base == 10 {
		f, _ := strconv.ParseFloat(digits, 64)
		return f
	}
	f := 0.0
	for _, digit := range digits {
		d, _ := strconv.ParseInt(string(digit), base, 64)
		f = f*float64(base) + float64(d)
	}
	return f
}

// parseJSON reads a document of JSON, with whole numbers as parseYAML has them.
func parseJSON(text []byte) (any, error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return nil, errors.New("not valid JSON")
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("not valid JSON")
	}
	return numbers(value), nil
}

// numbers makes numbers of what JSON says of them.
func numbers(value any) any {
	switch v := value.(type) {
	case json.Number:
		f, _ := v.Float64()
		if f == math.Trunc(f) && math.Abs(f) < exact {
			return int64(f)
		}
		return f
	case []any:
		for i := range v {
			v[i] = numbers(v[i])
		}
	case map[string]any:
		for key := range v {
			v[key] = numbers(v[key])
		}
	}
	return value
}
