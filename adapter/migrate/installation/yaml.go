package installation

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// A Value is one of a YAML or JSON document, with its line.
type Value struct {
	At Place
	// Of is a string, a bool, a number as int64 or float64, nil, or one of the two below.
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

func (v Value) member(name string) (Value, bool) {
	o, ok := v.Of.(*Object)
	if !ok {
		return Value{}, false
	}
	m, ok := o.Members[name]
	return m, ok
}

// text is the member's text, empty where it has none.
func (v Value) text(name string) string {
	m, _ := v.member(name)
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

// readYAML reads the documents of a file, without those that are empty. JSON is YAML,
// and is read by the same.
func readYAML(file string, text []byte) ([]Value, []Finding) {
	var documents []Value
	for decoder := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var node yaml.Node
		switch err := decoder.Decode(&node); {
		case errors.Is(err, io.EOF):
			return documents, nil
		case err != nil:
			return nil, []Finding{yamlRefusal(file, err)}
		}
		v, err := readNode(file, &node, 0)
		if err != nil {
			return nil, []Finding{yamlRefusal(file, err)}
		}
		if v.Of != nil {
			documents = append(documents, v)
		}
	}
}

var yamlLine = regexp.MustCompile(`^(?:yaml: )?(?:line (\d+): )?(.*)`)

func yamlRefusal(file string, err error) Finding {
	at, text := Place{File: file}, strings.Split(err.Error(), "\n")[0]
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		at.Line, _ = strconv.Atoi(m[1])
		text = m[2]
	}
	return refusal(at, "not valid YAML: %s", text)
}

// deepest is how deep a document may be.
const deepest = 100

func readNode(file string, node *yaml.Node, depth int) (Value, error) {
	v := Value{At: Place{File: file, Line: node.Line}}
	if depth > deepest {
		return v, fmt.Errorf("line %d: more than %d levels", node.Line, deepest)
	}
	switch node.Kind {
	case yaml.DocumentNode:
		return readNode(file, node.Content[0], depth)
	case yaml.AliasNode:
		return readNode(file, node.Alias, depth+1)
	case yaml.SequenceNode:
		all := make(List, len(node.Content))
		for i, one := range node.Content {
			var err error
			if all[i], err = readNode(file, one, depth+1); err != nil {
				return v, err
			}
		}
		v.Of = all
	case yaml.MappingNode:
		all := &Object{Members: map[string]Value{}}
		for i := 0; i < len(node.Content); i += 2 {
			key := node.Content[i]
			if key.Kind != yaml.ScalarNode || key.Tag == "!!merge" {
				return v, fmt.Errorf("line %d: want a text as key", key.Line)
			}
			if _, twice := all.Members[key.Value]; twice {
				return v, fmt.Errorf("line %d: the key %s is there already", key.Line, key.Value)
			}
			member, err := readNode(file, node.Content[i+1], depth+1)
			if err != nil {
				return v, err
			}
			all.Names = append(all.Names, key.Value)
			all.Members[key.Value] = member
		}
		v.Of = all
	default:
		v.Of = scalar(node)
	}
	return v, nil
}

var decimal = regexp.MustCompile(`^[-+]?[0-9]+$`)

// scalar is a scalar by the core schema of YAML 1.2: dates are texts, and 010 is ten.
func scalar(node *yaml.Node) any {
	switch node.Tag {
	case "!!null":
		return nil
	case "!!bool":
		return strings.EqualFold(node.Value, "true")
	case "!!int", "!!float":
		if decimal.MatchString(node.Value) {
			if n, err := strconv.ParseInt(node.Value, 10, 64); err == nil {
				return n
			}
		}
		var number any
		if node.Decode(&number) == nil {
			if n, ok := number.(int); ok {
				return int64(n)
			}
			return number
		}
	}
	return node.Value
}
