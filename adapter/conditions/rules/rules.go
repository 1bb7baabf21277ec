// Package rules reads what a plugin publishes of its permission rules and permissions,
// and holds conditions against it.
//
// [Read] takes the body of the plugin's metadata, and [Memo.Check] looks at the
// conditions of a decision. The schemas are read as the plugin's runtime acts: params
// that a schema does not name are ignored there, though the schema says
// additionalProperties: false. A rule with a schema refuses absent params, while a rule
// without one publishes the empty closed object and takes anything.
package rules

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/maypok86/otter/v2"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"github.com/stagedoor/stagedoor/adapter/criteria"
	"github.com/stagedoor/stagedoor/adapter/peer"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// Set is the permission rules that a plugin publishes. It is immutable.
type Set struct {
	rules map[ruleName]*rule
	types map[string][]string // by rule name, the resource types that have one
	// Permissions are those that the plugin publishes, by name.
	Permissions map[string]wire.Permission
	// Problems are schemas that could not be read; their rules take any params.
	Problems []error
}

type ruleName struct{ resourceType, name string }

// rule is one published rule.
type rule struct {
	schema *jsonschema.Schema // nil where any params will do
	plain  *plain             // the same, where it is plain
	// wantsParams is whether absent params are refused.
	wantsParams bool
}

// Read reads the body of a metadata answer (MetadataResponse of
// @backstage/plugin-permission-common 0.9.13). Releases of
// @backstage/plugin-permission-node before 0.7.0 publish no schemas.
func Read(body []byte) (*Set, error) {
	var published struct {
		Rules *[]struct {
			Name         *string        `json:"name"`
			ResourceType *string        `json:"resourceType"`
			ParamsSchema jsontext.Value `json:"paramsSchema"`
		} `json:"rules"`
		Permissions []publishedPermission `json:"permissions"`
	}
	if err := json.Unmarshal(body, &published); err != nil || published.Rules == nil {
		return nil, errors.New("metadata is not of the shape {rules: [{name, resourceType, paramsSchema}]}")
	}
	set := &Set{rules: map[ruleName]*rule{}, types: map[string][]string{}}
	set.Permissions = make(map[string]wire.Permission, len(published.Permissions))
	for _, p := range published.Permissions {
		if permission := p.permission(); permission.Name != "" {
			set.Permissions[permission.Name] = permission
		}
	}
	for i, r := range *published.Rules {
		if r.Name == nil || r.ResourceType == nil {
			return nil, fmt.Errorf("metadata: rules[%d] lacks its name or resource type", i)
		}
		rule, err := newRule(r.ParamsSchema)
		if err != nil {
			set.Problems = append(set.Problems, fmt.Errorf("rule %q of resource type %q: %w", *r.Name, *r.ResourceType, err))
		}
		set.rules[ruleName{*r.ResourceType, *r.Name}] = rule
		set.types[*r.Name] = append(set.types[*r.Name], *r.ResourceType)
	}
	return set, nil
}

// newRule always returns a rule; with an error, one that takes any params.
func newRule(schema jsontext.Value) (*rule, error) {
	if len(schema) == 0 {
		return &rule{}, nil
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	if err != nil {
		return &rule{}, fmt.Errorf("paramsSchema: %w", err)
	}
	object, isObject := doc.(map[string]any)
	isObject = isObject && object["type"] == "object"
	if isObject && isEmptyClosed(object) {
		return &rule{}, nil
	}
	open(doc)
	compiled, err := compile(doc)
	if err != nil {
		return &rule{}, fmt.Errorf("paramsSchema: %w", err)
	}
	if visits(compiled, map[*jsonschema.Schema]int{}) > maxVisits {
		return &rule{}, errors.New("paramsSchema: refers to itself too often")
	}
	return &rule{schema: compiled, plain: plainOf(doc), wantsParams: isObject}, nil
}

// maxVisits bounds the schemas that one value of the params may be held against,
// while a request waits. References multiply: each of a chain of definitions that
// refers twice to the next doubles them.
const maxVisits = 10_000

// visits counts the schemas that s is made of, each as often as it is reached, up to
// one more than maxVisits. That many it is as well where s comes to itself: how often
// it then does is for the params to say, and may double with each level of them.
// known is what was counted so far.
func visits(s *jsonschema.Schema, known map[*jsonschema.Schema]int) int {
	const tooMany = maxVisits + 1
	if n, ok := known[s]; ok {
		return n
	}
	known[s] = tooMany // where it is met again in itself
	n := 1
	if s.RecursiveRef != nil || s.DynamicRef != nil { // to whatever the params lead to
		n = tooMany
	}
	for _, sub := range subschemas(s) {
		n = min(n+visits(sub, known), tooMany)
	}
	known[s] = n
	return n
}

// subschemas returns the schemas that s has or refers to.
func subschemas(s *jsonschema.Schema) []*jsonschema.Schema {
	all := []*jsonschema.Schema{
		s.Ref, s.Not, s.If, s.Then, s.Else, s.PropertyNames, s.UnevaluatedProperties,
		s.Contains, s.Items2020, s.UnevaluatedItems, s.ContentSchema,
	}
	all = slices.Concat(all, s.AllOf, s.AnyOf, s.OneOf, s.PrefixItems)
	all = slices.AppendSeq(all, maps.Values(s.Properties))
	all = slices.AppendSeq(all, maps.Values(s.PatternProperties))
	all = slices.AppendSeq(all, maps.Values(s.DependentSchemas))
	either := []any{s.AdditionalProperties, s.Items, s.AdditionalItems}
	for _, one := range slices.AppendSeq(either, maps.Values(s.Dependencies)) {
		switch one := one.(type) {
		case *jsonschema.Schema:
			all = append(all, one)
		case []*jsonschema.Schema:
			all = append(all, one...)
		}
	}
	return slices.DeleteFunc(all, func(sub *jsonschema.Schema) bool { return sub == nil })
}

// isEmptyClosed reports whether an object schema is what is published for a rule
// without a schema. A rule whose schema is an empty object looks the same, so its
// absent params pass here and are left to the plugin.
func isEmptyClosed(schema map[string]any) bool {
	properties, _ := schema["properties"].(map[string]any)
	return len(properties) == 0 && schema["additionalProperties"] == false
}

// open removes every additionalProperties: false from a schema: what it forbids,
// the plugin's runtime (zod in its default mode) takes and drops, and a schema
// that means it looks the same.
func open(schema any) {
	switch schema := schema.(type) {
	case map[string]any:
		if schema["additionalProperties"] == false {
			delete(schema, "additionalProperties")
		}
		for _, sub := range schema {
			open(sub)
		}
	case []any:
		for _, sub := range schema {
			open(sub)
		}
	}
}

// compile compiles a draft-07 schema, which may refer to nothing outside itself.
func compile(doc any) (*jsonschema.Schema, error) {
	const url = "schema:///params"
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft7)
	c.UseLoader(jsonschema.SchemeURLLoader{})
	if err := c.AddResource(url, doc); err != nil {
		return nil, err
	}
	return c.Compile(url)
}

// check returns the first thing that is wrong with a rule of the tree.
func (s *Set) check(memo *otter.Cache[checkedParams, error], resourceType string, c criteria.Criteria) error {
	if c.Op == criteria.Leaf {
		return s.checkRule(memo, resourceType, c.Rule)
	}
	for _, child := range c.Of {
		if err := s.check(memo, resourceType, child); err != nil {
			return err
		}
	}
	return nil
}

// checkRule holds a leaf against the rule that the plugin would apply: that of
// the decision's resource type, whatever the leaf's says.
func (s *Set) checkRule(memo *otter.Cache[checkedParams, error], resourceType string, leaf criteria.Rule) error {
	rule := s.rules[ruleName{resourceType, leaf.Name}]
	switch {
	case rule == nil && s.types[leaf.Name] == nil:
		return fmt.Errorf("it has no rule %q", leaf.Name)
	case rule == nil:
		return fmt.Errorf("its rule %q is for resources of type %s, not %q",
			leaf.Name, strings.Join(quoted(s.types[leaf.Name]), " or "), resourceType)
	case rule.schema == nil:
		return nil
	}
	key := checkedParams{rule: rule, params: leaf.Params}
	err, ok := memo.GetIfPresent(key)
	if !ok {
		err = rule.checkParams(leaf.Params)
		_, _ = memo.Set(key, err)
	}
	if err != nil {
		return fmt.Errorf("params of its rule %q: %w", leaf.Name, err)
	}
	return nil
}

func (r *rule) checkParams(params string) error {
	if params == "" {
		if r.wantsParams {
			return errors.New("missing")
		}
		return nil
	}
	if r.plain != nil && r.plain.fits(params) {
		return nil
	}
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(params))
	if err != nil {
		return errors.New("not JSON")
	}
	return paramsError(r.schema.Validate(value))
}

// paramsError turns the error of a validation into one line.
func paramsError(err error) error {
	invalid, ok := errors.AsType[*jsonschema.ValidationError](err)
	if !ok {
		return err
	}
	invalid = deepest(invalid)
	text := peer.Shorten(invalid.ErrorKind.LocalizedString(message.NewPrinter(language.English)))
	if len(invalid.InstanceLocation) == 0 {
		return errors.New(text)
	}
	return fmt.Errorf("/%s: %s", peer.Shorten(strings.Join(invalid.InstanceLocation, "/")), text)
}

// deepest returns the cause that lies deepest in the params. Of the alternatives
// of an anyOf it is the one that came furthest.
func deepest(invalid *jsonschema.ValidationError) *jsonschema.ValidationError {
	var found *jsonschema.ValidationError
	for _, cause := range invalid.Causes {
		if d := deepest(cause); found == nil || len(d.InstanceLocation) > len(found.InstanceLocation) {
			found = d
		}
	}
	if found == nil {
		return invalid
	}
	return found
}

func quoted(names []string) []string {
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = fmt.Sprintf("%q", name)
	}
	return quoted
}

// publishedPermission is a permission as metadata has it.
type publishedPermission struct {
	Type         string `json:"type"`
	Name         string `json:"name"`
	ResourceType string `json:"resourceType"`
	Attributes   struct {
		Action string `json:"action"`
	} `json:"attributes"`
}

// permission reads it; the zero Permission is none.
func (p publishedPermission) permission() wire.Permission {
	switch p.Type {
	case "resource":
		if p.Name == "" || p.ResourceType == "" {
			return wire.Permission{}
		}
		return wire.Permission{Name: p.Name, Resource: true, ResourceType: p.ResourceType, Action: p.Attributes.Action}
	case "basic":
		return wire.Permission{Name: p.Name, Action: p.Attributes.Action}
	}
	return wire.Permission{}
}

// maxMemo bounds what is remembered of checked params, and of checked decisions, in
// bytes.
const maxMemo = 16 << 20

// Memo remembers what came of checks, since decisions are remembered where they are made
// and come again and again. It is safe for concurrent use.
type Memo struct {
	params    *otter.Cache[checkedParams, error]
	decisions *otter.Cache[checkedDecision, error]
}

// checkedParams are params held against the schema of a rule. Rules are compared
// by address: metadata that is no longer the same is checked anew.
type checkedParams struct {
	rule   *rule
	params string
}

// checkedDecision is a decision, as JSON, held against the rules of its plugin. They
// are compared by address, too.
type checkedDecision struct {
	rules    *Set
	decision string
}

// NewMemo returns a Memo that has nothing.
func NewMemo() (*Memo, error) {
	params, err := newCache(func(key checkedParams) string { return key.params })
	if err != nil {
		return nil, err
	}
	decisions, err := newCache(func(key checkedDecision) string { return key.decision })
	return &Memo{params: params, decisions: decisions}, err
}

// newCache makes a cache within maxMemo. text is what a key weighs by.
func newCache[K comparable](text func(K) string) (*otter.Cache[K, error], error) {
	return otter.New(&otter.Options[K, error]{
		MaximumWeight: maxMemo,
		Weigher:       func(key K, _ error) uint32 { return uint32(min(len(text(key)), maxMemo)) + 128 },
	})
}

// Forget forgets everything. What is remembered keeps old rules in memory.
func (m *Memo) Forget() {
	m.params.InvalidateAll()
	m.decisions.InvalidateAll()
}

// Len is of how many decisions something is remembered.
func (m *Memo) Len() int {
	m.decisions.CleanUp()
	return m.decisions.EstimatedSize()
}

// Check returns the first thing that is wrong with the conditions of d by the rules of
// its plugin: a rule that it does not have for the decision's resource type, or params
// that the rule's schema refuses.
func (m *Memo) Check(s *Set, d wire.Decision) error {
	key := checkedDecision{s, d.Text()}
	if err, ok := m.decisions.GetIfPresent(key); ok {
		return err
	}
	err := s.check(m.params, d.ResourceType, d.Conditions)
	if err != nil {
		err = fmt.Errorf("plugin %q: %w", d.PluginID, err)
	}
	_, _ = m.decisions.Set(key, err)
	return err
}
