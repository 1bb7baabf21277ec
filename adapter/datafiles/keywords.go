package datafiles

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/text/message"

	"github.com/stagedoor/stagedoor/adapter/inventory"
)

// The keywords that data.schema.json may use beside those of JSON Schema. Other
// validators pass over them.
const (
	// keywordPermission, with true, is for texts that name a permission or a type of
	// resource that a plugin publishes, or have a * that stands for a part of such a name.
	keywordPermission = "x-permission"
	// keywordResourceType, with true, is for texts that name a published type of resource.
	keywordResourceType = "x-resource-type"
	// keywordPlugin, with true, is for texts that name a plugin that publishes something.
	keywordPlugin = "x-plugin"
	// keywordKeyOf lists paths of objects in the data, such as /rbac/roles. It is for texts
	// that must be a key of one of them.
	keywordKeyOf = "x-key-of"
	// keywordRule is for objects with rule, params and, where they say it, resourceType. Its
	// value says what stands for texts among the params that the policy fills in.
	keywordRule = "x-rule"
)

// keywords are what those hold data against.
type keywords struct {
	known *inventory.Inventory
	// data is the whole file, and beside is the data of the other bundles.
	data   any
	beside []any
}

// asserted is the vocabulary as the compiler of schemas takes it.
func (v keywords) asserted() *jsonschema.Vocabulary {
	return &jsonschema.Vocabulary{URL: "urn:stagedoor:data", Compile: func(
		ctx *jsonschema.CompilerContext, schema map[string]any,
	) (jsonschema.SchemaExt, error) {
		if _, ok := schema["propertyNames"]; ok {
			return memberNames{ctx.Enqueue([]string{"propertyNames"})}, nil
		}
		var all checks
		if schema[keywordPermission] == true {
			all = append(all, v.permission)
		}
		if schema[keywordResourceType] == true {
			all = append(all, v.resourceType)
		}
		if schema[keywordPlugin] == true {
			all = append(all, v.plugin)
		}
		if paths, ok := schema[keywordKeyOf].([]any); ok {
			all = append(all, v.keyOf(paths))
		}
		if filled, ok := schema[keywordRule].(map[string]any); ok {
			all = append(all, v.rule(filled))
		}
		if len(all) == 0 {
			return nil, nil
		}
		return all, nil
	}}
}

// memberNames is propertyNames once more. What the library says of a name has no place, and
// this stands at the member that has the name.
type memberNames struct{ schema *jsonschema.Schema }

// Validate is part of [jsonschema.SchemaExt].
func (n memberNames) Validate(ctx *jsonschema.ValidatorContext, value any) {
	object, _ := value.(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(object)) {
		if err := ctx.Validate(n.schema, name, []string{name}); err != nil {
			ctx.AddErr(err)
		}
	}
}

// checks say what is wrong with a value, or nothing.
type checks []func(value any) []string

// Validate is part of [jsonschema.SchemaExt].
func (c checks) Validate(ctx *jsonschema.ValidatorContext, value any) {
	for _, check := range c {
		for _, text := range check(value) {
			ctx.AddError(mistaken(text))
		}
	}
}

// mistaken is a mistake that a keyword found.
type mistaken string

// KeywordPath and LocalizedString are part of [jsonschema.ErrorKind].
func (m mistaken) KeywordPath() []string                     { return nil }
func (m mistaken) LocalizedString(_ *message.Printer) string { return string(m) }

func (v keywords) permission(value any) []string {
	name, ok := value.(string)
	if !ok || slices.Contains(v.known.ResourceTypes(), name) {
		return nil
	}
	before, after, isPattern := strings.Cut(name, "*")
	for _, p := range v.known.Permissions {
		if p.Name == name || isPattern && strings.HasPrefix(p.Name, before) &&
			strings.HasSuffix(p.Name, after[strings.LastIndex(after, "*")+1:]) {
			return nil
		}
	}
	return []string{"no plugin of the inventory publishes the permission or resource type " + name}
}

func (v keywords) resourceType(value any) []string {
	name, ok := value.(string)
	if !ok || slices.Contains(v.known.ResourceTypes(), name) {
		return nil
	}
	return []string{"no plugin of the inventory publishes the resource type " + name}
}

func (v keywords) plugin(value any) []string {
	name, ok := value.(string)
	if !ok || slices.Contains(v.known.Plugins(), name) {
		return nil
	}
	return []string{"the inventory has no plugin " + name}
}

func (v keywords) keyOf(paths []any) func(any) []string {
	var objects []map[string]any
	var where []string
	for _, path := range paths {
		for _, at := range append([]any{v.data}, v.beside...) {
			for step := range strings.SplitSeq(strings.TrimPrefix(fmt.Sprint(path), "/"), "/") {
				members, _ := at.(map[string]any)
				at = members[step]
			}
			if object, ok := at.(map[string]any); ok {
				objects = append(objects, object)
			}
		}
		where = append(where, "data"+strings.ReplaceAll(fmt.Sprint(path), "/", "."))
	}
	return func(value any) []string {
		name, ok := value.(string)
		if !ok || len(objects) == 0 { // they are in a bundle that is not known here
			return nil
		}
		for _, object := range objects {
			if _, ok := object[name]; ok {
				return nil
			}
		}
		return []string{fmt.Sprintf("%s is in none of %s", name, strings.Join(where, ", "))}
	}
}

func (v keywords) rule(filled map[string]any) func(any) []string {
	return func(value any) []string {
		object, _ := value.(map[string]any)
		name, ok := object["rule"].(string)
		if !ok {
			return nil
		}
		resourceType, typed := object["resourceType"].(string)
		var rules []inventory.Rule
		for _, r := range v.known.Rules {
			if r.Name == name && (!typed || r.ResourceType == resourceType) {
				rules = append(rules, r)
			}
		}
		switch {
		case len(rules) == 0 && typed:
			return []string{fmt.Sprintf("no plugin of the inventory publishes the rule %s for %s", name, resourceType)}
		case len(rules) == 0:
			return []string{"no plugin of the inventory publishes the rule " + name}
		}
		params, ok := filledIn(object["params"], filled).(map[string]any)
		if !ok {
			params = map[string]any{}
		}
		var texts []string
		for _, r := range rules {
			schema, err := r.Schema()
			if err != nil || schema == nil || schema.Validate(params) == nil {
				return nil // one of those that have the name takes them
			}
			texts = refusals(schema, params, name)
		}
		return texts
	}
}

// refusals say why a schema refuses the params of a rule.
func refusals(schema *jsonschema.Schema, params map[string]any, name string) []string {
	var texts []string
	for _, cause := range leavesOf(invalidity(schema.Validate(params))) {
		at := strings.Join(append([]string{"params"}, cause.InstanceLocation...), ".")
		texts = append(texts, fmt.Sprintf("%s refuses %s: %s", name, at, cause.ErrorKind.LocalizedString(english)))
	}
	return texts
}

// filledIn puts what stands for texts in their place: a list in the place of an element.
func filledIn(value any, filled map[string]any) any {
	switch value := value.(type) {
	case string:
		if text, ok := filled[value].(string); ok {
			return text
		}
	case []any:
		all := []any{}
		for _, element := range value {
			text, _ := element.(string)
			if list, ok := filled[text].([]any); ok {
				all = append(all, list...)
			} else {
				all = append(all, filledIn(element, filled))
			}
		}
		return all
	case map[string]any:
		all := map[string]any{}
		for name, member := range value {
			all[name] = filledIn(member, filled)
		}
		return all
	}
	return value
}
