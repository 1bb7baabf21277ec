package reading

import (
	"go.yaml.in/yaml/v3"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/adapter/datafiles"
	"github.com/stagedoor/stagedoor/adapter/findings"
)

// maxLeaves is how much of the data is read as a part of the policy: beyond that it
// is somebody's list, not an author's.
const maxLeaves = 50_000

// readData makes the data a part of what a policy says.
func (r *Reading) readData(d *datafiles.Files) {
	leaves := 0
	for _, file := range d.Files {
		n := r.data
		for _, name := range file.Under {
			n = n.Field(name)
		}
		readValue(r, file.Name, file.Root, n, &leaves)
	}
}

func readValue(r *Reading, file string, value *yaml.Node, n *Node, leaves *int) {
	*leaves++
	if *leaves > maxLeaves {
		return
	}
	at := findings.Position{File: file, Row: value.Line, Col: value.Column}
	switch value.Kind {
	case yaml.AliasNode:
		readValue(r, file, value.Alias, n, leaves)
	case yaml.SequenceNode:
		n.Root().JSONTypes |= IsList
		for _, item := range value.Content {
			// Each has a node of its own, so that a mistake is named where it stands.
			element := &Node{}
			readValue(r, file, item, element, leaves)
			if item.Kind == yaml.ScalarNode && item.Tag == "!!str" {
				r.Constants[len(r.Constants)-1].Member = true
			}
			unify(n.Element(), element)
		}
	case yaml.MappingNode:
		n.Root().JSONTypes |= IsObject
		for i := 0; i+1 < len(value.Content); i += 2 {
			key, member := value.Content[i], value.Content[i+1]
			r.Constants = append(r.Constants, &Constant{
				Text: key.Value, At: findings.Position{File: file, Row: key.Line, Col: key.Column}, Node: n.keys(), Key: true,
			})
			readValue(r, file, member, n.Field(key.Value), leaves)
		}
	case yaml.ScalarNode:
		n.Root().JSONTypes |= map[string]JSONTypes{
			"!!str": isString, "!!int": IsNumber, "!!float": IsNumber, "!!bool": IsBoolean, "!!null": isNull,
		}[value.Tag]
		if value.Tag == "!!str" {
			r.Constants = append(r.Constants, &Constant{Text: value.Value, At: at, Node: n})
		}
	}
}

// Single reports whether a term is written out with less than two elements.
func Single(t *ast.Term) bool {
	switch v := t.Value.(type) {
	case *ast.Array:
		return v.Len() < 2
	case ast.Set:
		return v.Len() < 2
	}
	return false
}
