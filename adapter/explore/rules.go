package explore

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/stagedoor/stagedoor/adapter/criteria"

	"github.com/stagedoor/stagedoor/adapter/words"
)

// A PermissionRule is a rule of a Backstage plugin as a Rego function of two
// arguments, the resource and the rule's params. It is immutable and safe for
// concurrent use.
type PermissionRule struct {
	// PluginID is the plugin that owns the resource type, such as catalog.
	PluginID string
	// ResourceType is what the first argument is, such as catalog-entity.
	ResourceType string
	// Name is the rule's name in Backstage, such as IS_ENTITY_OWNER.
	Name string
	// AnyOf is the parameter whose list means "any of": of two such rules one
	// holds exactly where the rule with both lists does, and with an empty list
	// it never does. It is empty where the rule has no such parameter.
	AnyOf string
	// Words is how the rule is said; the zero Template where the annotation has none.
	Words words.Template
	// Function is the path of the function, such as
	// data.backstage.catalog.is_entity_owner.
	Function ast.Ref

	params *jsonschema.Schema // nil where the annotation has none
	at     *ast.Location
}

// CheckParams reports why the rule's JSON Schema refuses the params, an object as
// encoding/json decodes it with UseNumber, or nil where it does not, or where the
// rule has no schema.
func (r *PermissionRule) CheckParams(params map[string]any) error {
	if r.params == nil {
		return nil
	}
	return causes("params", r.params.Validate(params))
}

// checkText is CheckParams of params as JSON; the rule can be nil, and empty text is
// no params.
func (r *PermissionRule) checkText(params string) error {
	if r == nil {
		return nil
	}
	var object map[string]any
	if params != "" {
		d := json.NewDecoder(strings.NewReader(params))
		d.UseNumber()
		if err := d.Decode(&object); err != nil {
			return err
		}
	}
	return r.CheckParams(object)
}

// rule is the declared rule of a plugin that a leaf of conditions names, or nil.
func (p *Policy) rule(pluginID string, leaf criteria.Rule) *PermissionRule {
	for _, r := range p.rules {
		if r.Name == leaf.Name && r.ResourceType == leaf.ResourceType && r.PluginID == pluginID {
			return r
		}
	}
	return nil
}

// causes is a validation error with its innermost causes on one line, without the
// name of the schema; what was validated is called name.
func causes(name string, err error) error {
	invalid, ok := errors.AsType[*jsonschema.ValidationError](err)
	if !ok {
		return err
	}
	var lines []string
	for _, unit := range invalid.BasicOutput().Errors {
		if unit.Error != nil {
			at := name + strings.ReplaceAll(unit.InstanceLocation, "/", ".")
			lines = append(lines, at+": "+unit.Error.String())
		}
	}
	slices.Sort(lines)
	return errors.New(strings.Join(slices.Compact(lines), "; "))
}

// annotation is what a rule's METADATA says below custom.backstage.
type annotation struct {
	pluginID, resourceType, rule, anyOf, words string
	paramsSchema                               any
}

// Rules returns the permission rules that the modules declare, in the order of
// their paths. The modules must have been parsed with their annotations.
//
// The error is a [*VetError] with every annotation that is malformed, and every
// function that cannot be a rule: it has other than two arguments, or can have
// another value than true, or two functions claim to be the same rule.
func Rules(modules map[string]*ast.Module) ([]*PermissionRule, error) {
	var found []*PermissionRule
	var problems problems
	functions := functionsByPath(modules)
	for _, file := range slices.Sorted(maps.Keys(modules)) {
		for _, a := range modules[file].Annotations {
			custom, ok := a.Custom["backstage"]
			if !ok {
				continue
			}
			rule, err := permissionRule(a, custom, functions)
			if err != nil {
				problems.add(a.Location, "custom.backstage", oneLine(err.Error()), annotationHint)
				continue
			}
			found = append(found, rule)
		}
	}
	slices.SortStableFunc(found, func(a, b *PermissionRule) int { return a.Function.Compare(b.Function) })
	problems.duplicates(found)
	return found, problems.err()
}

const annotationHint = "custom: {backstage: {pluginId: catalog, resourceType: catalog-entity, " +
	"rule: IS_ENTITY_OWNER}}, with scope document, above a function of the resource and the params"

func functionsByPath(modules map[string]*ast.Module) map[string][]*ast.Rule {
	functions := make(map[string][]*ast.Rule)
	for _, file := range slices.Sorted(maps.Keys(modules)) {
		for _, rule := range modules[file].Rules {
			path := rule.Ref().String()
			functions[path] = append(functions[path], rule)
		}
	}
	return functions
}

func permissionRule(a *ast.Annotations, custom any, functions map[string][]*ast.Rule) (*PermissionRule, error) {
	meta, err := parseAnnotation(custom)
	if err != nil {
		return nil, err
	}
	if a.Scope != "document" && a.Scope != "rule" {
		return nil, fmt.Errorf("a permission rule has the scope document, not %s", a.Scope)
	}
	function := a.GetTargetPath()
	if err := checkFunction(functions[function.String()]); err != nil {
		return nil, fmt.Errorf("%v: %w", function, err)
	}
	rule := &PermissionRule{
		PluginID:     meta.pluginID,
		ResourceType: meta.resourceType,
		Name:         meta.rule,
		AnyOf:        meta.anyOf,
		Function:     function,
		at:           a.Location,
	}
	if rule.Words, err = parseWords(meta); err != nil {
		return nil, err
	}
	if meta.paramsSchema == nil {
		return rule, nil
	}
	rule.params, err = compileSchema(meta.paramsSchema)
	return rule, err
}

func parseAnnotation(custom any) (annotation, error) {
	var meta annotation
	members, ok := custom.(map[string]any)
	if !ok {
		return meta, errors.New("must be an object")
	}
	texts := map[string]*string{
		"pluginId": &meta.pluginID, "resourceType": &meta.resourceType, "rule": &meta.rule, "anyOf": &meta.anyOf,
		"words": &meta.words,
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if name == "paramsSchema" {
			meta.paramsSchema = members[name]
			continue
		}
		into, ok := texts[name]
		if !ok {
			return meta, fmt.Errorf("unknown member %s", name)
		}
		if *into, ok = members[name].(string); !ok || *into == "" {
			return meta, fmt.Errorf("%s must be a non-empty string", name)
		}
	}
	for _, name := range []string{"pluginId", "resourceType", "rule"} {
		if *texts[name] == "" {
			return meta, fmt.Errorf("%s is missing", name)
		}
	}
	return meta, nil
}

// parseWords reads how the rule is said, by params that its schema knows.
func parseWords(meta annotation) (words.Template, error) {
	if meta.words == "" {
		return words.Template{}, nil
	}
	template, err := words.Parse(meta.words)
	if err != nil {
		return words.Template{}, err
	}
	schema, _ := meta.paramsSchema.(map[string]any)
	properties, listed := schema["properties"].(map[string]any)
	for _, name := range template.Params() {
		if _, known := properties[name]; listed && !known {
			return words.Template{}, fmt.Errorf("words %q: paramsSchema has no %s", meta.words, name)
		}
	}
	return template, nil
}

// checkFunction reports why the rules at one path cannot be a permission rule.
func checkFunction(rules []*ast.Rule) error {
	if len(rules) == 0 {
		return errors.New("no such function")
	}
	for _, rule := range rules {
		for ; rule != nil; rule = rule.Else {
			switch {
			case len(rule.Head.Args) != 2:
				return errors.New("a permission rule is a function of the resource and the params")
			case rule.Default:
				return errors.New("a permission rule is true or undefined: it has no default")
			case rule.Head.Value == nil || !ast.Boolean(true).Equal(rule.Head.Value.Value):
				return errors.New("a permission rule is true or undefined: it has no other value")
			}
		}
	}
	return nil
}

// compileSchema compiles a JSON Schema that came by YAML. It can refer to nothing
// outside itself.
func compileSchema(schema any) (*jsonschema.Schema, error) {
	text, err := json.Marshal(schema)
	if err != nil {
		return nil, fmt.Errorf("paramsSchema: %w", err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("paramsSchema: %w", err)
	}
	const name = "urn:paramsSchema"
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft7)
	compiler.UseLoader(jsonschema.SchemeURLLoader{})
	if err := compiler.AddResource(name, doc); err != nil {
		return nil, fmt.Errorf("paramsSchema: %w", err)
	}
	compiled, err := compiler.Compile(name)
	if invalid, ok := errors.AsType[*jsonschema.SchemaValidationError](err); ok {
		return nil, causes("paramsSchema", invalid.Err)
	}
	if err != nil {
		return nil, fmt.Errorf("paramsSchema: %w", err)
	}
	return compiled, nil
}

// duplicates adds a problem for each of two functions that claim to be the same
// rule.
func (p *problems) duplicates(rules []*PermissionRule) {
	type id struct{ plugin, resourceType, name string }
	seen := make(map[id]*PermissionRule)
	for _, r := range rules {
		id := id{r.PluginID, r.ResourceType, r.Name}
		first, ok := seen[id]
		if !ok {
			seen[id] = r
			continue
		}
		for _, pair := range [][2]*PermissionRule{{first, r}, {r, first}} {
			message := fmt.Sprintf("%s of %s is %v too", r.Name, r.ResourceType, pair[1].Function)
			p.add(pair[0].at, pair[0].Function.String(), message, "")
		}
	}
}
