package findings

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/rego"
)

// A kind is what a text of a policy stands for, as far as comparisons tell.
type kind uint16

const (
	permissionName kind = 1 << iota
	permissionType
	action
	resourceType
	pluginID
	userRef
	claimRef
	actor
	ruleName
	result

	anyRef = userRef | claimRef
)

// A node is a value of the policy. Values that are compared, or that are handed on,
// are one node after unify. Nodes are found, not built: they know what was seen of a
// value, and nothing of what it can be besides.
type node struct {
	up        *node
	kinds     kind
	loose     kind // kinds of what is made of this one by lower or upper
	jsonTypes jsonTypes
	elem      *node // elements of a list or set, and members of an object by an unknown key
	key       *node // keys of an object
	fields    map[string]*node
	whole     bool // whether elem stands for every field too
	isSet     bool
	schema    *schemaNode
	odd       bool // whether two schemas meet here, so that neither is known

	literals []*ast.Term // the objects that are written out, for params and conditions
}

// jsonTypes is a set of JSON types.
type jsonTypes uint8

const (
	isString jsonTypes = 1 << iota
	isNumber
	isBoolean
	isNull
	isList
	isObject
)

func (n *node) root() *node {
	for n.up != nil {
		if n.up.up != nil {
			n.up = n.up.up
		}
		n = n.up
	}
	return n
}

func (n *node) element() *node {
	n = n.root()
	if n.elem == nil {
		n.elem = &node{}
	}
	return n.elem.root()
}

func (n *node) keys() *node {
	n = n.root()
	if n.key == nil {
		n.key = &node{}
	}
	return n.key.root()
}

func (n *node) field(name string) *node {
	n = n.root()
	f := n.fields[name]
	if f == nil {
		f = &node{}
		if n.fields == nil {
			n.fields = map[string]*node{}
		}
		n.fields[name] = f
		if n.whole && n.schema == nil {
			unify(f, n.element())
		}
	}
	return f.root()
}

// member is what an unknown key leads to.
func (n *node) member() *node {
	n = n.root()
	if n.schema != nil {
		return n.element()
	}
	if !n.whole {
		n.whole = true
		for _, name := range slices.Sorted(maps.Keys(n.fields)) {
			unify(n.root().fields[name], n.element())
		}
	}
	return n.element()
}

// unify makes one node of two.
func unify(a, b *node) {
	a, b = a.root(), b.root()
	if a == b {
		return
	}
	if len(a.fields) < len(b.fields) {
		a, b = b, a
	}
	b.up = a
	a.kinds |= b.kinds
	a.loose |= b.loose
	a.jsonTypes |= b.jsonTypes
	a.isSet = a.isSet || b.isSet
	a.odd = a.odd || b.odd || a.schema != nil && b.schema != nil && a.schema != b.schema
	if a.schema == nil {
		a.schema = b.schema
	}
	a.literals = append(a.literals, b.literals...)
	elem, key, fields, whole := b.elem, b.key, b.fields, b.whole
	// What one of them lacks is taken over as it is: values can hold themselves.
	join(&a.elem, elem)
	join(&a.root().key, key)
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		a = a.root()
		if a.fields == nil {
			a.fields = map[string]*node{}
		}
		if a.fields[name] == nil {
			a.fields[name] = fields[name]
			continue
		}
		unify(a.fields[name], fields[name])
	}
	if whole || a.root().whole {
		a = a.root()
		a.whole = false
		a.member()
	}
}

func join(into **node, other *node) {
	switch {
	case other == nil:
	case *into == nil:
		*into = other
	default:
		unify(*into, other)
	}
}

// A constant is a text in the policy or its data.
type constant struct {
	text string
	at   position
	node *node
	// free is a text that need not be one of a kind: what object.get falls back to.
	free bool
	// key is whether it is a key of an object, and member whether it stands in a list.
	key, member bool
	test        bool
}

// A pattern is a text that another is held against in part.
type pattern struct {
	builtin       string
	pattern, text *node
	at            position
}

// A schemaNode is a part of the schema of the input.
type schemaNode struct {
	path       string
	properties map[string]*schemaNode
	closed     bool
	kind       kind
	jsonTypes  jsonTypes
	items      *schemaNode
}

var inputKinds = map[string]kind{
	"input.permission.name": permissionName, "input.permission.type": permissionType,
	"input.permission.attributes.action": action, "input.permission.resourceType": resourceType,
	"input.identity.user": userRef, "input.identity.claims[]": claimRef, "input.identity.actor": actor,
}

// inputSchema reads the schema of the library, which says what a policy sees.
func inputSchema() *schemaNode {
	var doc map[string]any
	if err := json.Unmarshal([]byte(rego.Schemas()["input"]), &doc); err != nil { // it is embedded and tested
		panic(err)
	}
	return readSchema("input", doc)
}

var typeNames = map[string]jsonTypes{
	"string": isString, "number": isNumber, "integer": isNumber, "boolean": isBoolean, "null": isNull,
	"array": isList, "object": isObject,
}

func readSchema(path string, doc map[string]any) *schemaNode {
	s := &schemaNode{path: path, kind: inputKinds[path]}
	s.closed = doc["additionalProperties"] == false
	name, _ := doc["type"].(string)
	s.jsonTypes = typeNames[name]
	if properties, ok := doc["properties"].(map[string]any); ok {
		s.properties = map[string]*schemaNode{}
		for name, property := range properties {
			if property, ok := property.(map[string]any); ok {
				s.properties[name] = readSchema(path+"."+name, property)
			}
		}
	}
	if items, ok := doc["items"].(map[string]any); ok {
		s.items = readSchema(path+"[]", items)
	}
	return s
}

// node makes the nodes of a schema.
func (s *schemaNode) node() *node {
	n := &node{kinds: s.kind, jsonTypes: s.jsonTypes, schema: s}
	if s.items != nil {
		n.elem = s.items.node()
	}
	for name, property := range s.properties {
		if n.fields == nil {
			n.fields = map[string]*node{}
		}
		n.fields[name] = property.node()
	}
	return n
}

// resultTypes are what the results of builtins are.
var resultTypes = map[string]jsonTypes{
	"lower": isString, "upper": isString, "sprintf": isString, "concat": isString, "trim": isString,
	"trim_space":  isString,
	"trim_prefix": isString, "trim_suffix": isString, "replace": isString, "substring": isString, "format_int": isString,
	"count": isNumber, "to_number": isNumber, "plus": isNumber, "split": isList, "array.concat": isList,
	"object.keys":  isList,
	"json.marshal": isString, "base64.encode": isString,
}

func (t jsonTypes) String() string {
	var names []string
	for _, name := range []string{"string", "number", "boolean", "null", "array", "object"} {
		if t&typeNames[name] != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, " or ")
}
