// Package written reads the values of YAML and JSON files as the RBAC plugin reads them, each
// with the place where it stands.
package written

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// A Place is where something stands in the sources.
type Place struct {
	// File is the file as it was given, or the path of a REST API.
	File string
	// Line begins with 1; in an answer of a REST API it counts the elements. It is 0 where
	// the file as a whole is meant.
	Line int
}

// String is file:line.
func (p Place) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d", p.File, p.Line)
}

// A Value is one of a YAML or JSON document, with its line.
type Value struct {
	At Place
	// More is how many lines of a text follow the one where it begins, at least.
	More int
	// Of is a string, a bool, a float64, nil, or one of the two below.
	Of any
}

type (
	// A List is a sequence.
	List []Value
	// An Object is a mapping: its names in the order of the source, and their values.
	Object struct {
		Names   []string
		Members map[string]Value
	}
)

// Member is the member of an object, and whether it has one.
func (v Value) Member(name string) (Value, bool) {
	o, ok := v.Of.(*Object)
	if !ok {
		return Value{}, false
	}
	m, ok := o.Members[name]
	return m, ok
}

// Text is the member's text, empty where it has none.
func (v Value) Text(name string) string {
	m, _ := v.Member(name)
	text, _ := m.Of.(string)
	return text
}

// Plain is the value as encoding/json would decode it.
func (v Value) Plain() any {
	switch of := v.Of.(type) {
	case List:
		all := make([]any, len(of))
		for i, one := range of {
			all[i] = one.Plain()
		}
		return all
	case *Object:
		all := make(map[string]any, len(of.Members))
		for name, one := range of.Members {
			all[name] = one.Plain()
		}
		return all
	}
	return v.Of
}

// Read reads the documents of a file, without those that are empty. JSON is YAML, and is
// read by the same. The error is a [*SyntaxError].
func Read(file string, text []byte) ([]Value, error) {
	var documents []Value
	r := nodeReader{file: file}
	for decoder := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var node yaml.Node
		switch err := decoder.Decode(&node); {
		case errors.Is(err, io.EOF):
			return documents, nil
		case err != nil:
			return nil, syntaxError(file, err)
		}
		v, err := r.read(&node, 0)
		if err != nil {
			return nil, syntaxError(file, err)
		}
		if v.Of != nil {
			documents = append(documents, v)
		}
	}
}

// A SyntaxError is what is wrong with a file, and where.
type SyntaxError struct {
	At   Place
	Text string
}

// Error is what is wrong.
func (e *SyntaxError) Error() string { return "not valid YAML: " + e.Text }

var yamlLine = regexp.MustCompile(`^(?:yaml: )?(?:line (\d+): )?(.*)`)

func syntaxError(file string, err error) *SyntaxError {
	e := &SyntaxError{Place{File: file}, strings.Split(err.Error(), "\n")[0]}
	if m := yamlLine.FindStringSubmatch(e.Text); m != nil {
		e.At.Line, _ = strconv.Atoi(m[1])
		e.Text = m[2]
	}
	return e
}

// How deep a document may be, and how many nodes aliases may repeat.
const (
	deepest      = 100
	mostRepeated = 100_000
)

type nodeReader struct {
	file string
	// aliases are those around a node, and repeated the nodes below any so far.
	aliases, repeated int
}

func (r *nodeReader) read(node *yaml.Node, depth int) (Value, error) {
	v := Value{At: Place{File: r.file, Line: node.Line}}
	wrong := func(format string, args ...any) (Value, error) {
		return v, fmt.Errorf("line %d: "+format, append([]any{node.Line}, args...)...)
	}
	if r.aliases > 0 {
		r.repeated++
	}
	switch {
	case depth > deepest:
		return wrong("more than %d levels", deepest)
	case r.repeated > mostRepeated:
		return wrong("aliases make the document larger than %d repeated parts", mostRepeated)
	}
	switch node.Kind {
	case yaml.DocumentNode:
		return r.read(node.Content[0], depth)
	case yaml.AliasNode:
		r.aliases++
		defer func() { r.aliases-- }()
		return r.read(node.Alias, depth+1)
	case yaml.SequenceNode:
		if node.Tag != "!!seq" && node.Tag != "!" {
			return wrong("the tag %s is unknown", node.Tag)
		}
		all := make(List, len(node.Content))
		for i, one := range node.Content {
			var err error
			if all[i], err = r.read(one, depth+1); err != nil {
				return v, err
			}
		}
		v.Of = all
	case yaml.MappingNode:
		if node.Tag != "!!map" && node.Tag != "!" {
			return wrong("the tag %s is unknown", node.Tag)
		}
		all := &Object{Members: map[string]Value{}}
		for i := 0; i < len(node.Content); i += 2 {
			name, err := keyOf(node.Content[i])
			if err != nil {
				return v, err
			}
			if _, twice := all.Members[name]; twice {
				return v, fmt.Errorf("line %d: the key %s is there already", node.Content[i].Line, name)
			}
			member, err := r.read(node.Content[i+1], depth+1)
			if err != nil {
				return v, err
			}
			all.Names = append(all.Names, name)
			all.Members[name] = member
		}
		v.Of = all
	default:
		of, err := scalar(node)
		if err != nil {
			return wrong("%w", err)
		}
		v.Of = of
		if node.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
			v.More = strings.Count(strings.TrimRight(node.Value, "\n"), "\n") + 1
		}
	}
	return v, nil
}

// keyOf is a key as the plugin names the member.
func keyOf(key *yaml.Node) (string, error) {
	if key.Kind != yaml.ScalarNode || key.Tag == "!!merge" {
		return "", fmt.Errorf("line %d: want a text as key", key.Line)
	}
	of, err := scalar(key)
	if err != nil {
		return "", fmt.Errorf("line %d: %w", key.Line, err)
	}
	if text, ok := of.(string); ok {
		return text, nil
	}
	text, err := json.Marshal(of)
	return string(text), err
}

var (
	integer    = regexp.MustCompile(`^[-+]?[0-9]+$`)
	otherBase  = regexp.MustCompile(`^0(o[0-7]+|x[0-9a-fA-F]+)$`)
	fraction   = regexp.MustCompile(`^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$`)
	notANumber = regexp.MustCompile(`^([-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$`)
)

// scalar is a scalar by the core schema of YAML 1.2, as the plugin stores it: dates are
// texts, 010 is ten, and what JSON has no number for is null.
func scalar(node *yaml.Node) (any, error) {
	quoted := node.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0
	if node.Style&yaml.TaggedStyle == 0 {
		if quoted {
			return node.Value, nil
		}
		of, _ := plain(node.Value)
		return of, nil
	}
	of, tag := plain(node.Value)
	switch node.Tag {
	case "!!str", "!":
		return node.Value, nil
	case "!!float":
		if tag == "!!int" {
			return of, nil
		}
	case "!!int", "!!bool", "!!null":
	default:
		return nil, fmt.Errorf("the tag %s is unknown", node.Tag)
	}
	if tag != node.Tag {
		return nil, fmt.Errorf("%s is no %s", node.Value, strings.TrimPrefix(node.Tag, "!!"))
	}
	return of, nil
}

// plain is a scalar without quotes and tag, and the tag that it has by itself.
func plain(text string) (of any, tag string) {
	switch text {
	case "", "~", "null", "Null", "NULL":
		return nil, "!!null"
	case "true", "True", "TRUE":
		return true, "!!bool"
	case "false", "False", "FALSE":
		return false, "!!bool"
	}
	switch {
	case integer.MatchString(text):
		return number(text), "!!int"
	case otherBase.MatchString(text):
		n, _ := new(big.Int).SetString(text, 0)
		f, _ := new(big.Float).SetInt(n).Float64()
		return f, "!!int"
	case fraction.MatchString(text):
		return number(text), "!!float"
	case notANumber.MatchString(text):
		return nil, "!!float"
	}
	return text, "!!str"
}

// number is a decimal number, rounded as JavaScript does; nil where it is too large.
func number(text string) any {
	n, err := strconv.ParseFloat(text, 64)
	switch {
	case err != nil:
		return nil
	case n == 0:
		return 0.0 // which has no sign in JSON
	}
	return n
}
