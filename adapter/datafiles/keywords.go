package datafiles

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
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
	// keywordListedIn lists paths of objects of lists, such as /rbac_members/bindings. It is
	// for texts that should be in one of the lists.
	keywordListedIn = "x-listed-in"
	// keywordLines, with true, is for RBAC's lines of a role: actions by permission or type.
	keywordLines = "x-lines"
	// keywordPolicies, with true, is for RBAC's conditional policies of a role: lists by type.
	keywordPolicies = "x-policies"
	// keywordGrants is for the grants of a role: lists by the name of a permission. Its value
	// is the path of the object that has the plugin of each type.
	keywordGrants = "x-grants"
	// keywordAcyclic, with true, is for objects that list the parents of each member.
	keywordAcyclic = "x-acyclic"
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
		var all asserted
		if _, ok := schema["propertyNames"]; ok {
			all = append(all, memberNames{ctx.Enqueue([]string{"propertyNames"})})
		}
		if schema[keywordPermission] == true {
			all = append(all, check(v.permission))
		}
		if schema[keywordResourceType] == true {
			all = append(all, check(v.resourceType))
		}
		if schema[keywordPlugin] == true {
			all = append(all, check(v.plugin))
		}
		if paths, ok := schema[keywordKeyOf].([]any); ok {
			all = append(all, check(v.keyOf(paths)))
		}
		if filled, ok := schema[keywordRule].(map[string]any); ok {
			all = append(all, check(v.rule(filled)))
		}
		if paths, ok := schema[keywordListedIn].([]any); ok {
			all = append(all, check(v.listedIn(paths)))
		}
		if schema[keywordLines] == true {
			all = append(all, check(v.lines))
		}
		if schema[keywordPolicies] == true {
			all = append(all, check(v.policies))
		}
		if path, ok := schema[keywordGrants].(string); ok {
			all = append(all, check(v.grants(path)))
		}
		if schema[keywordAcyclic] == true {
			all = append(all, check(acyclic))
		}
		if len(all) == 0 {
			return nil, nil
		}
		return all, nil
	}}
}

// asserted are the keywords of a schema.
type asserted []jsonschema.SchemaExt

// Validate is part of [jsonschema.SchemaExt].
func (a asserted) Validate(ctx *jsonschema.ValidatorContext, value any) {
	for _, keyword := range a {
		keyword.Validate(ctx, value)
	}
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

// check says what is wrong with a value, or nothing.
type check func(value any) []mistake

// Validate is part of [jsonschema.SchemaExt].
func (c check) Validate(ctx *jsonschema.ValidatorContext, value any) {
	for _, m := range c(value) {
		ctx.AddError(m)
	}
}

// mistake is what a keyword found.
type mistake struct {
	text     string
	at       []string // the path from the value to what is wrong
	doubtful bool     // a warning: it can be meant
}

// KeywordPath and LocalizedString are part of [jsonschema.ErrorKind].
func (m mistake) KeywordPath() []string                     { return nil }
func (m mistake) LocalizedString(_ *message.Printer) string { return m.text }

// mistaken is one mistake about the value itself.
func mistaken(format string, args ...any) []mistake {
	return []mistake{{text: fmt.Sprintf(format, args...)}}
}

func (v keywords) permission(value any) []mistake {
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
	return mistaken("no plugin of the inventory publishes the permission or resource type %s", name)
}

func (v keywords) resourceType(value any) []mistake {
	name, ok := value.(string)
	if !ok || slices.Contains(v.known.ResourceTypes(), name) {
		return nil
	}
	return mistaken("no plugin of the inventory publishes the resource type %s", name)
}

func (v keywords) plugin(value any) []mistake {
	name, ok := value.(string)
	if !ok || slices.Contains(v.known.Plugins(), name) {
		return nil
	}
	return mistaken("the inventory has no plugin %s", name)
}

// objectsAt are the objects at paths, in the data of each bundle, and what they are called.
func (v keywords) objectsAt(paths []any) (objects []map[string]any, where []string) {
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
	return objects, where
}

func (v keywords) keyOf(paths []any) func(any) []mistake {
	objects, where := v.objectsAt(paths)
	return func(value any) []mistake {
		name, ok := value.(string)
		if !ok || len(objects) == 0 { // they are in a bundle that is not known here
			return nil
		}
		for _, object := range objects {
			if _, ok := object[name]; ok {
				return nil
			}
		}
		return mistaken("%s is in none of %s", name, strings.Join(where, ", "))
	}
}

func (v keywords) rule(filled map[string]any) func(any) []mistake {
	return func(value any) []mistake {
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
			return mistaken("no plugin of the inventory publishes the rule %s for %s", name, resourceType)
		case len(rules) == 0:
			return mistaken("no plugin of the inventory publishes the rule %s", name)
		}
		params, ok := filledIn(object["params"], filled).(map[string]any)
		if !ok {
			params = map[string]any{}
		}
		var found []mistake
		for _, r := range rules {
			schema, _ := r.Schema() // an inventory whose schemas are wrong is not read
			texts := inventory.Refusals(schema, params)
			if len(texts) == 0 { // one of those that have the name takes them
				if !isStock(r) {
					return nil
				}
				return references(params)
			}
			found = nil
			for _, text := range texts {
				found = append(found, mistaken("%s refuses %s", name, text)...)
			}
		}
		return found
	}
}

// isStock is whether a rule is one that is known here: what the params of another plugin's
// mean is not.
func isStock(r inventory.Rule) bool {
	return slices.ContainsFunc(inventory.Stock().Rules, func(known inventory.Rule) bool {
		return known.PluginID == r.PluginID && known.ResourceType == r.ResourceType && known.Name == r.Name
	})
}

// references looks for a user or group among params that nobody is, by the params whose
// rules compare them with references.
func references(params map[string]any) []mistake {
	var found []mistake
	for _, name := range []string{"claims", "owners", "createdBy", "entityRefs", "userRefs"} {
		list, _ := params[name].([]any)
		for i, element := range list {
			text, ok := element.(string)
			if !ok || inventory.IsReference(text) || strings.HasPrefix(text, "$") {
				continue
			}
			found = append(found, mistake{
				text: fmt.Sprintf("%q is no full entity reference in lower case, so that it is nobody; write it as in "+
					"group:default/web", text),
				at: []string{"params", name, strconv.Itoa(i)},
			})
		}
	}
	return found
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
