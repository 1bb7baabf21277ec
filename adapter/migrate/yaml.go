package migrate

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

// A value is one of a YAML or JSON document, with its line.
type value struct {
	at Place
	// of is a string, a bool, a number as int64 or float64, nil, or one of the two below.
	of any
}

type (
	list   []value
	object struct {
		names   []string
		members map[string]value
	}
)

func (v value) member(name string) (value, bool) {
	o, ok := v.of.(*object)
	if !ok {
		return value{}, false
	}
	m, ok := o.members[name]
	return m, ok
}

// text is the member's text, empty where it has none.
func (v value) text(name string) string {
	m, _ := v.member(name)
	text, _ := m.of.(string)
	return text
}

// plain is the value as encoding/json would decode it.
func (v value) plain() any {
	switch of := v.of.(type) {
	case list:
		all := make([]any, len(of))
		for i, one := range of {
			all[i] = one.plain()
		}
		return all
	case *object:
		all := make(map[string]any, len(of.members))
		for name, one := range of.members {
			all[name] = one.plain()
		}
		return all
	}
	return v.of
}

// readYAML reads the documents of a file, without those that are empty. JSON is YAML,
// and is read by the same.
func readYAML(file string, text []byte) ([]value, []Finding) {
	var documents []value
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
		if v.of != nil {
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

func readNode(file string, node *yaml.Node, depth int) (value, error) {
	v := value{at: Place{File: file, Line: node.Line}}
	if depth > deepest {
		return v, fmt.Errorf("line %d: more than %d levels", node.Line, deepest)
	}
	switch node.Kind {
	case yaml.DocumentNode:
		return readNode(file, node.Content[0], depth)
	case yaml.AliasNode:
		return readNode(file, node.Alias, depth+1)
	case yaml.SequenceNode:
		all := make(list, len(node.Content))
		for i, one := range node.Content {
			var err error
			if all[i], err = readNode(file, one, depth+1); err != nil {
				return v, err
			}
		}
		v.of = all
	case yaml.MappingNode:
		all := &object{members: map[string]value{}}
		for i := 0; i < len(node.Content); i += 2 {
			key := node.Content[i]
			if key.Kind != yaml.ScalarNode || key.Tag == "!!merge" {
				return v, fmt.Errorf("line %d: want a text as key", key.Line)
			}
			if _, twice := all.members[key.Value]; twice {
				return v, fmt.Errorf("line %d: the key %s is there already", key.Line, key.Value)
			}
			member, err := readNode(file, node.Content[i+1], depth+1)
			if err != nil {
				return v, err
			}
			all.names = append(all.names, key.Value)
			all.members[key.Value] = member
		}
		v.of = all
	default:
		v.of = scalar(node)
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
