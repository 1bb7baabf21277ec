package reading

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/adapter/findings"
	"github.com/stagedoor/stagedoor/rego"
)

// A Kind is what a text of a policy stands for, as far as comparisons tell.
type Kind uint16

const (
	// PermissionName is the name of a permission.
	PermissionName Kind = 1 << iota
	// PermissionType is basic or resource.
	PermissionType
	// Action is what a permission's attributes say: create, read, update or delete.
	Action
	// ResourceType is the type of a resource, such as catalog-entity.
	ResourceType
	// PluginID is the id of a plugin.
	PluginID
	// UserRef is a reference to a user.
	UserRef
	claimRef
	// Actor is the subject of a service that asks.
	Actor
	// RuleName is the name of a plugin's rule in a condition.
	RuleName
	// Result is ALLOW, DENY or CONDITIONAL.
	Result

	// AnyRef is a reference to an entity, whichever.
	AnyRef = UserRef | claimRef
)

// A Node is a value of the policy. Values that are compared, or that are handed on,
// are one node after unify. Nodes are found, not built: they know what was seen of a
// value, and nothing of what it can be besides.
type Node struct {
	up        *Node
	Kinds     Kind
	Loose     Kind // kinds of what is made of this one by lower or upper
	JSONTypes JSONTypes
	Elem      *Node // elements of a list or set, and members of an object by an unknown key
	key       *Node // keys of an object
	fields    map[string]*Node
	whole     bool // whether elem stands for every field too
	isSet     bool
	Schema    *Schema
	Odd       bool // whether two schemas meet here, so that neither is known

	Literals []*ast.Term // the objects that are written out, for params and conditions
}

// JSONTypes is a set of JSON types.
type JSONTypes uint8

const (
	isString JSONTypes = 1 << iota
	// IsNumber is a number of any size, with a fraction or without.
	IsNumber
	// IsBoolean is true or false.
	IsBoolean
	isNull
	// IsList is an array, or a set of Rego.
	IsList
	// IsObject is an object.
	IsObject
)

// Root is the node that stands for all those that are one with n. It is the find of a
// union-find.
func (n *Node) Root() *Node {
	for n.up != nil {
		if n.up.up != nil {
			n.up = n.up.up
		}
		n = n.up
	}
	return n
}

// Element is the node of the elements, made where there was none.
func (n *Node) Element() *Node {
	n = n.Root()
	if n.Elem == nil {
		n.Elem = &Node{}
	}
	return n.Elem.Root()
}

func (n *Node) keys() *Node {
	n = n.Root()
	if n.key == nil {
		n.key = &Node{}
	}
	return n.key.Root()
}

// Field is the node of what stands at a key that is known, made where there was none.
func (n *Node) Field(name string) *Node {
	n = n.Root()
	f := n.fields[name]
	if f == nil {
		f = &Node{}
		if n.fields == nil {
			n.fields = map[string]*Node{}
		}
		n.fields[name] = f
		if n.whole && n.Schema == nil {
			unify(f, n.Element())
		}
	}
	return f.Root()
}

// member is what an unknown key leads to.
func (n *Node) member() *Node {
	n = n.Root()
	if n.Schema != nil {
		return n.Element()
	}
	if !n.whole {
		n.whole = true
		for _, name := range slices.Sorted(maps.Keys(n.fields)) {
			unify(n.Root().fields[name], n.Element())
		}
	}
	return n.Element()
}

// unify makes one node of two.
func unify(a, b *Node) {
	a, b = a.Root(), b.Root()
	if a == b {
		return
	}
	if len(a.fields) < len(b.fields) {
		a, b = b, a
	}
	b.up = a
	a.Kinds |= b.Kinds
	a.Loose |= b.Loose
	a.JSONTypes |= b.JSONTypes
	a.isSet = a.isSet || b.isSet
	a.Odd = a.Odd || b.Odd || a.Schema != nil && b.Schema != nil && a.Schema != b.Schema
	if a.Schema == nil {
		a.Schema = b.Schema
	}
	a.Literals = append(a.Literals, b.Literals...)
	elem, key, fields, whole := b.Elem, b.key, b.fields, b.whole
	// What one of them lacks is taken over as it is: values can hold themselves.
	join(&a.Elem, elem)
	join(&a.Root().key, key)
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		a = a.Root()
		if a.fields == nil {
			a.fields = map[string]*Node{}
		}
		if a.fields[name] == nil {
			a.fields[name] = fields[name]
			continue
		}
		unify(a.fields[name], fields[name])
	}
	if whole || a.Root().whole {
		a = a.Root()
		a.whole = false
		a.member()
	}
}

func join(into **Node, other *Node) {
	switch {
	case other == nil:
	case *into == nil:
		*into = other
	default:
		unify(*into, other)
	}
}

// A Constant is a text in the policy or its data.
type Constant struct {
	Text string
	At   findings.Position
	Node *Node
	// Free is a text that need not be one of a kind: what object.get falls back to.
	Free bool
	// Key is whether it is a key of an object, and member whether it stands in a list.
	Key, Member bool
	Test        bool
}

// A Pattern is a text that another is held against in part.
type Pattern struct {
	Builtin       string
	Pattern, Text *Node
	at            findings.Position
}

// A Schema is a part of the schema of the input.
type Schema struct {
	Path       string
	Properties map[string]*Schema
	Closed     bool
	kind       Kind
	JSONTypes  JSONTypes
	items      *Schema
}

var inputKinds = map[string]Kind{
	"input.permission.name": PermissionName, "input.permission.type": PermissionType,
	"input.permission.attributes.action": Action, "input.permission.resourceType": ResourceType,
	"input.identity.user": UserRef, "input.identity.claims[]": claimRef, "input.identity.actor": Actor,
}

// inputSchema reads the schema of the library, which says what a policy sees.
func inputSchema() *Schema {
	var doc map[string]any
	if err := json.Unmarshal([]byte(rego.Schemas()["input"]), &doc); err != nil { // it is embedded and tested
		panic(err)
	}
	return readSchema("input", doc)
}

// TypeNames are the types by the names that a JSON Schema has for them.
var TypeNames = map[string]JSONTypes{
	"string": isString, "number": IsNumber, "integer": IsNumber, "boolean": IsBoolean, "null": isNull,
	"array": IsList, "object": IsObject,
}

func readSchema(path string, doc map[string]any) *Schema {
	s := &Schema{Path: path, kind: inputKinds[path]}
	s.Closed = doc["additionalProperties"] == false
	name, _ := doc["type"].(string)
	s.JSONTypes = TypeNames[name]
	if properties, ok := doc["properties"].(map[string]any); ok {
		s.Properties = map[string]*Schema{}
		for name, property := range properties {
			if property, ok := property.(map[string]any); ok {
				s.Properties[name] = readSchema(path+"."+name, property)
			}
		}
	}
	if items, ok := doc["items"].(map[string]any); ok {
		s.items = readSchema(path+"[]", items)
	}
	return s
}

// node makes the nodes of a schema.
func (s *Schema) node() *Node {
	n := &Node{Kinds: s.kind, JSONTypes: s.JSONTypes, Schema: s}
	if s.items != nil {
		n.Elem = s.items.node()
	}
	for name, property := range s.Properties {
		if n.fields == nil {
			n.fields = map[string]*Node{}
		}
		n.fields[name] = property.node()
	}
	return n
}

// resultTypes are what the results of builtins are.
var resultTypes = map[string]JSONTypes{
	"lower": isString, "upper": isString, "sprintf": isString, "concat": isString, "trim": isString,
	"trim_space":  isString,
	"trim_prefix": isString, "trim_suffix": isString, "replace": isString, "substring": isString, "format_int": isString,
	"count": IsNumber, "to_number": IsNumber, "plus": IsNumber, "split": IsList, "array.concat": IsList,
	"object.keys":  IsList,
	"json.marshal": isString, "base64.encode": isString,
}

func (t JSONTypes) String() string {
	var names []string
	for _, name := range []string{"string", "number", "boolean", "null", "array", "object"} {
		if t&TypeNames[name] != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, " or ")
}
