package findings

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"
	"github.com/gobwas/glob"
	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/adapter/explore"
	"github.com/stagedoor/stagedoor/adapter/inventory"
)

// vocabulary is what names there are: those of the inventory, and those of the rules
// that the policy itself declares.
type vocabulary struct {
	inventory     *inventory.Inventory
	permissions   []string
	resourceTypes []string
	plugins       []string
	rules         []string
	schemas       map[string][]inventory.Rule // by name
	own           map[string]bool             // plugins that the policy has rules of and the inventory does not
	ownTypes      map[string][]string         // the resource types of those rules
}

func newVocabulary(i *inventory.Inventory, rules []*explore.PermissionRule) *vocabulary {
	v := &vocabulary{
		inventory: i, resourceTypes: i.ResourceTypes(), plugins: i.Plugins(),
		schemas: map[string][]inventory.Rule{}, own: map[string]bool{},
	}
	for _, p := range i.Permissions {
		v.permissions = append(v.permissions, p.Name)
	}
	for _, r := range i.Rules {
		v.rules = append(v.rules, r.Name)
		v.schemas[r.Name] = append(v.schemas[r.Name], r)
	}
	for _, r := range rules {
		v.rules = append(v.rules, r.Name)
		v.resourceTypes = append(v.resourceTypes, r.ResourceType)
		if !slices.Contains(v.plugins, r.PluginID) {
			v.own[r.PluginID] = true
			if v.ownTypes == nil {
				v.ownTypes = map[string][]string{}
			}
			if !slices.Contains(v.ownTypes[r.PluginID], r.ResourceType) {
				v.ownTypes[r.PluginID] = append(v.ownTypes[r.PluginID], r.ResourceType)
			}
		}
	}
	for plugin := range v.own {
		v.plugins = append(v.plugins, plugin)
	}
	for _, names := range []*[]string{&v.rules, &v.resourceTypes, &v.plugins} {
		slices.Sort(*names)
		*names = slices.Compact(*names)
	}
	return v
}

// nearest is the name that is likeliest meant, or empty.
func nearest(name string, among []string) string {
	best, distance := "", max(2, len(name)/4)+1
	for _, other := range among {
		d := levenshtein.ComputeDistance(strings.ToLower(name), strings.ToLower(other))
		if d < distance {
			best, distance = other, d
		}
	}
	return best
}

// orNearest is " (name?)" or empty.
func orNearest(name string, among []string) string {
	if best := nearest(name, among); best != "" {
		return " (" + best + "?)"
	}
	return ""
}

// orPull is the nearest name or, where none is near, how to make the name known.
func orPull(name string, among []string) string {
	if hint := orNearest(name, among); hint != "" {
		return hint
	}
	return "; if a plugin of yours publishes it, read yours by stagedoor inventory pull and check with --inventory"
}

// source finds what can be read from the source.
type source struct {
	*list
	*reading
	words *vocabulary
	data  *dataFiles
	roots []string // that other bundles cover
	texts map[*node][]*constant
	free  map[*node]map[string]bool // texts that a value has besides those of its kind
	keys  map[*node]map[string]bool // texts that are keys of objects
	plain map[*node]map[string]bool // texts that are not
}

func (s *source) check() {
	s.texts, s.free = map[*node][]*constant{}, map[*node]map[string]bool{}
	s.keys, s.plain = map[*node]map[string]bool{}, map[*node]map[string]bool{}
	for _, c := range s.constants {
		root := c.node.root()
		s.texts[root] = append(s.texts[root], c)
		if c.key {
			note(s.keys, root, c.text)
		} else {
			note(s.plain, root, c.text)
		}
		if c.free {
			note(s.free, root, c.text)
		}
	}
	s.checkAccesses()
	for _, c := range s.constants {
		s.checkConstant(c)
	}
	for _, p := range s.patterns {
		s.checkPattern(p)
	}
	for _, call := range s.calls {
		s.checkCall(call)
	}
	for _, use := range s.documents {
		s.checkDocument(use)
		if use.test {
			s.checkTestResource(use)
		}
	}
	s.checkDataRefs()
	for _, name := range slices.Sorted(maps.Keys(s.modules)) {
		s.checkHabits(s.modules[name])
	}
}

func note(in map[*node]map[string]bool, n *node, text string) {
	if in[n] == nil {
		in[n] = map[string]bool{}
	}
	in[n][text] = true
}

func (s *source) checkAccesses() {
	for _, a := range s.accesses {
		n := a.of.root()
		if n.odd || n.schema == nil || !n.schema.closed || n.schema.properties == nil || n.schema.properties[a.name] != nil {
			continue
		}
		names := slices.Sorted(maps.Keys(n.schema.properties))
		meant := orNearest(a.name, names)
		if n.schema.path == "input.identity" && slices.Contains([]string{"groups", "group", "roles", "ownership", "ent"},
			a.name) {
			meant = " (claims?)"
		}
		if a.test {
			s.add(a.at, Error, "input", "no Backstage sends %s.%s%s; it has %s", n.schema.path, a.name, meant,
				strings.Join(names, ", "))
			continue
		}
		s.add(a.at, Error, "input", "%s has no member %s%s, so this is undefined for everybody; it has %s",
			n.schema.path, a.name, meant, strings.Join(names, ", "))
	}
}

// entityRef is the form of references that Backstage itself writes.
var entityRef = regexp.MustCompile(`^[^\p{Lu}:/\s]+:[^\p{Lu}:/\s]+/[^\p{Lu}:/\s]+$`)

func (s *source) checkConstant(c *constant) {
	n := c.node.root()
	kinds, exact := n.kinds, n.kinds != 0
	if kinds == 0 {
		kinds = n.loose
	}
	if kinds == 0 || s.free[n][c.text] || c.text == "*" && (c.key || c.member) {
		return
	}
	if c.test && kinds&(permissionName|permissionType|action) == 0 {
		return // a test may use what names it likes for what it is not about
	}
	text := c.text
	if !exact {
		text = strings.ToLower(text)
	}
	switch {
	case kinds == permissionName:
		s.checkPermissionName(c.at, text)
	case kinds == action:
		if !slices.Contains([]string{"create", "read", "update", "delete"}, text) {
			s.add(c.at, Error, "action", "no permission has the action %s%s; write create, read, update or delete",
				c.text, orNearest(text, []string{"create", "read", "update", "delete", "update"}))
		}
	case kinds == permissionType:
		if text != "basic" && text != "resource" {
			s.add(c.at, Error, "permission-type", "a permission is basic or resource, never %s", c.text)
		}
	case kinds == resourceType:
		if text != "" && !slices.Contains(s.words.resourceTypes, text) {
			s.add(c.at, Error, "resource-type", "no permission is about resources of type %s%s", c.text,
				orPull(text, s.words.resourceTypes))
		}
	case kinds == pluginID:
		if !slices.Contains(s.words.plugins, text) {
			s.add(c.at, Error, "plugin", "no plugin that has permissions is called %s%s", c.text, orPull(text, s.words.plugins))
		}
	case kinds == ruleName:
		if !slices.Contains(s.words.rules, text) {
			s.add(c.at, Error, "rule", "no plugin publishes a rule %s%s", c.text, orPull(text, s.words.rules))
		}
	case kinds == result:
		if !slices.Contains([]string{"ALLOW", "DENY", "CONDITIONAL"}, text) {
			s.add(c.at, Error, "answer", "result is ALLOW, DENY or CONDITIONAL, never %s%s", c.text,
				orNearest(text, []string{"ALLOW", "DENY", "CONDITIONAL"}))
		}
	case kinds == actor:
		s.checkActor(c, text)
	case kinds&^anyRef == 0:
		if !c.test {
			s.checkRef(c, exact, kinds == userRef)
		}
	}
}

func (s *source) checkPermissionName(at position, name string) {
	if _, ok := s.words.inventory.Permission(name); ok {
		return
	}
	plugin, _, _ := strings.Cut(name, ".")
	if s.words.own[plugin] {
		return
	}
	if strings.ContainsAny(name, "*") {
		s.add(at, Error, "permission", "no permission is called %s, and == and in compare letter for letter; write "+
			"glob.match(%q, [\".\"], input.permission.name)",
			name, strings.ReplaceAll(strings.ReplaceAll(name, "**", "*"), "*", "**"))
		return
	}
	s.add(at, Error, "permission", "no permission is called %s%s", name, orPull(name, s.words.permissions))
}

func (s *source) checkActor(c *constant, text string) {
	id, ok := strings.CutPrefix(text, "plugin:")
	if !ok {
		s.add(c.at, Error, "actor", "an actor has the form plugin:catalog, never %s; write plugin:%s", c.text,
			c.text[strings.LastIndex(c.text, ":")+1:])
		return
	}
	if !slices.Contains(s.words.plugins, id) {
		if meant := nearest(id, s.words.plugins); meant != "" && levenshtein.ComputeDistance(id, meant) <= 2 && len(id) > 3 {
			s.add(c.at, Warning, "actor", "no plugin is called %s (%s?)", id, meant)
		}
	}
}

func (s *source) checkRef(c *constant, exact, user bool) {
	text := c.text
	if text == "" || strings.HasPrefix(text, "$") {
		return // a placeholder of the author's own
	}
	if slices.ContainsFunc(s.findings, func(f Finding) bool {
		return f.Code == "schema" && f.File == c.at.file &&
			f.Line == c.at.row
	}) {
		return // the schema knows better what stands there
	}
	low := strings.ToLower(text)
	switch {
	case entityRef.MatchString(text):
		if kind, _, _ := strings.Cut(text, ":"); user && kind != "user" {
			s.add(c.at, Error, "reference", "input.identity.user is a user, never %s; look for it in input.identity.claims",
				text)
		}
	case entityRef.MatchString(low):
		if exact {
			s.add(c.at, Error, "reference", "references are compared letter for letter and Backstage writes them in "+
				"lower case, so that %s is nobody; write %s", text, low)
		}
	case !strings.ContainsAny(text, ":/") && s.keys[c.node.root()][text] &&
		s.plain[c.node.root()][text]: // a name of the author's own, such as a role
	default:
		s.add(c.at, Error, "reference", "%q is no full entity reference, so that it is nobody; write %s", text,
			fullRef(low, user))
	}
}

// fullRef is the reference that a short one most likely means.
func fullRef(text string, user bool) string {
	kind, rest, ok := strings.Cut(text, ":")
	if !ok {
		kind, rest = "group", text
		if user {
			kind = "user"
		}
	}
	if !strings.Contains(rest, "/") {
		rest = "default/" + rest
	}
	return strings.ReplaceAll(kind+":"+rest, " ", "-")
}

// checkPattern looks for a permission, or the form of a reference, that a pattern
// matches.
func (s *source) checkPattern(p pattern) {
	kinds := p.text.root().kinds | p.text.root().loose
	for _, c := range s.texts[p.pattern.root()] {
		if c.free || c.test {
			continue
		}
		matches := matcher(p.builtin, c.text)
		if matches == nil {
			continue
		}
		switch {
		case kinds == permissionName:
			if !slices.ContainsFunc(s.words.permissions, matches) && !s.ownPattern(c.text) {
				s.add(c.at, Error, "permission", "%s finds no permission: none %s%s", p.builtin, matched(p.builtin, c.text),
					patternHint(p.builtin, c.text, s.words.permissions))
			}
		case kinds == resourceType:
			if !slices.ContainsFunc(s.words.resourceTypes, matches) {
				s.add(c.at, Error, "resource-type", "%s finds no resource type: none %s", p.builtin, matched(p.builtin, c.text))
			}
		case kinds == action:
			if !slices.ContainsFunc([]string{"create", "read", "update", "delete"}, matches) {
				s.add(c.at, Error, "action", "%s finds no action: none %s; write create, read, update or delete", p.builtin,
					matched(p.builtin, c.text))
			}
		case kinds != 0 && kinds&^anyRef == 0:
			if p.builtin != "regex.match" && c.text != strings.ToLower(c.text) && p.text.root().kinds != 0 {
				s.add(c.at, Error, "reference", "Backstage writes references in lower case, so that none %s; write %q",
					matched(p.builtin, c.text), strings.ToLower(c.text))
			}
		}
	}
}

func (s *source) ownPattern(text string) bool {
	for plugin := range s.words.own {
		if strings.Contains(text, plugin) {
			return true
		}
	}
	return false
}

func matched(builtin, text string) string {
	verb := map[string]string{"startswith": "begins with", "endswith": "ends in", "contains": "contains"}[builtin]
	return cmp.Or(verb, "matches") + " " + text
}

func patternHint(builtin, text string, among []string) string {
	if builtin != "startswith" {
		return ""
	}
	var heads []string
	for _, name := range among {
		if parts := strings.Count(strings.TrimSuffix(text, "."), ".") + 1; strings.Count(name, ".") >= parts-1 {
			split := strings.Split(name, ".")
			heads = append(heads, strings.Join(split[:min(parts, len(split))], "."))
		}
	}
	return orNearest(strings.TrimSuffix(text, "."), heads)
}

func matcher(builtin, text string) func(string) bool {
	switch builtin {
	case "startswith":
		return func(s string) bool { return strings.HasPrefix(s, text) }
	case "endswith":
		return func(s string) bool { return strings.HasSuffix(s, text) }
	case "contains":
		return func(s string) bool { return strings.Contains(s, text) }
	case "regex.match":
		if re, err := regexp.Compile(text); err == nil {
			return re.MatchString
		}
	case "glob.match":
		if g, err := glob.Compile(text, '.'); err == nil {
			return g.Match
		}
	}
	return nil
}

// checkCall holds the params of a call against the schema of the rule.
func (s *source) checkCall(call ruleCall) {
	if call.test {
		return
	}
	n := call.params.root()
	if n.jsonTypes != 0 && n.jsonTypes&isObject == 0 {
		s.add(call.at, Error, "params", "the params of %s are an object, not a %s", call.rule.Name, n.jsonTypes)
		return
	}
	schema := call.rule.Schema()
	if schema == nil {
		return
	}
	for _, literal := range n.literals {
		object, ok := literal.Value.(ast.Object)
		if !ok {
			continue
		}
		s.checkEmpty(call.rule.Name, call.rule.ResourceType, object, positionOf(literal.Location), call.in)
		s.checkParams(call.rule.Name, schema, object, n, positionOf(literal.Location))
	}
	if len(n.literals) == 0 && n.schema != nil {
		s.add(call.at, Error, "params", "the params of %s are an object such as {%s}, not %s", call.rule.Name,
			example(schema), n.schema.path)
	}
}

// paramsSchema is what is read of the schema of a rule's params.
type paramsSchema struct {
	Properties map[string]*paramsSchema `json:"properties"`
	Required   []string                 `json:"required"`
	Type       any                      `json:"type"`
	Items      *paramsSchema            `json:"items"`
	Enum       []any                    `json:"enum"`
	AnyOf      []any                    `json:"anyOf"`
}

func readParamsSchema(raw json.RawMessage) *paramsSchema {
	if len(raw) == 0 {
		return nil
	}
	var schema paramsSchema
	if err := json.NewDecoder(bytes.NewReader(raw)).Decode(&schema); err != nil {
		return nil
	}
	return &schema
}

func (p *paramsSchema) allows() jsonTypes {
	switch t := p.Type.(type) {
	case string:
		return typeNames[t]
	case []any:
		var all jsonTypes
		for _, name := range t {
			if name, ok := name.(string); ok {
				all |= typeNames[name]
			}
		}
		return all
	}
	return 0
}

func (p *paramsSchema) text() string {
	if p.allows() == isList && p.Items != nil && p.Items.allows() != 0 {
		return fmt.Sprintf("a list of %ss", p.Items.allows())
	}
	if t := p.allows(); t != 0 {
		return "a " + strings.ReplaceAll(t.String(), "array", "list")
	}
	return "something else"
}

// example is params that a schema takes.
func example(raw json.RawMessage) string {
	schema := readParamsSchema(raw)
	if schema == nil {
		return ""
	}
	var parts []string
	for _, name := range schema.Required {
		value := `"…"`
		switch p := schema.Properties[name]; {
		case p == nil:
		case p.allows() == isList && slices.Contains([]string{"claims", "owners"}, name):
			value = "input.identity.claims"
		case p.allows() == isList:
			value = `["…"]`
		case p.allows() == isNumber:
			value = "1"
		case p.allows() == isBoolean:
			value = "true"
		}
		parts = append(parts, fmt.Sprintf("%q: %s", name, value))
	}
	return strings.Join(parts, ", ")
}

func (s *source) checkParams(rule string, raw json.RawMessage, object ast.Object, n *node, at position) {
	schema := readParamsSchema(raw)
	if schema == nil || len(schema.AnyOf) > 0 {
		return
	}
	names := slices.Sorted(maps.Keys(schema.Properties))
	given := map[string]bool{}
	open := false
	object.Foreach(func(k, v *ast.Term) {
		name, ok := k.Value.(ast.String)
		if !ok {
			open = true
			return
		}
		given[string(name)] = true
		param := schema.Properties[string(name)]
		if param == nil {
			if len(names) == 0 {
				s.add(positionOf(k.Location), Error, "params", "%s takes no params, so no %s; write {}", rule, name)
				return
			}
			s.add(positionOf(k.Location), Error, "params", "%s has no param %s%s; it has %s", rule, name,
				orNearest(string(name), names), strings.Join(names, ", "))
			return
		}
		s.checkParam(rule, string(name), param, n.field(string(name)), v)
	})
	for _, name := range schema.Required {
		if !given[name] && !open {
			s.add(at, Error, "params", "%s needs the param %s; write {%s}", rule, name, example(raw))
		}
	}
}

// checkEmpty looks for a list that may be empty where an empty one means everything.
func (s *source) checkEmpty(rule, resourceType string, params ast.Object, at position, in *ast.Rule) {
	for _, list := range emptyMeansAll {
		if list.rule != rule || list.resourceType != resourceType {
			continue
		}
		value := params.Get(ast.StringTerm(list.param))
		switch v := valueOf(value).(type) {
		case nil:
			s.add(at, Error, "empty", "%s without %s holds for everything; name what is meant", rule, list.param)
		case *ast.Array:
			if v.Len() == 0 {
				s.add(positionOf(value.Location), Error, "empty", "%s with no %s holds for everything; name what is meant", rule,
					list.param)
			}
		default:
			if in == nil || !strings.Contains(in.String(), "count("+value.String()+")") {
				s.add(positionOf(value.Location), Error, "empty",
					"%s holds for everything where %s is empty, and this list may be; write count(%s) > 0 in the same rule",
					rule, list.param, value)
			}
		}
	}
}

func valueOf(t *ast.Term) ast.Value {
	if t == nil {
		return nil
	}
	return t.Value
}

func (s *source) checkParam(rule, name string, schema *paramsSchema, n *node, v *ast.Term) {
	n = n.root()
	at := positionOf(v.Location)
	want := schema.allows()
	if want != 0 && n.jsonTypes != 0 && n.jsonTypes&want == 0 {
		hint := ""
		if want == isList {
			hint = fmt.Sprintf("; write [%s]", v)
			if n.kinds&userRef != 0 && n.schema != nil && (name == "claims" || name == "owners") {
				hint = "; write input.identity.claims, for all that the caller owns things through"
			}
		} else if n.jsonTypes == isList && n.schema != nil && n.schema.path == "input.identity.claims" {
			hint = "; write input.identity.user"
		}
		s.add(at, Error, "params", "the param %s of %s is %s, not a %s%s", name, rule, schema.text(),
			strings.ReplaceAll(n.jsonTypes.String(), "array", "list"), hint)
		return
	}
	if want == isList && schema.Items != nil && n.elem != nil {
		item := n.element()
		if items := schema.Items.allows(); items != 0 && item.jsonTypes != 0 && item.jsonTypes&items == 0 {
			s.add(at, Error, "params", "the param %s of %s is %s, not of %ss", name, rule, schema.text(),
				strings.ReplaceAll(item.jsonTypes.String(), "array", "list"))
			return
		}
		if array, ok := v.Value.(*ast.Array); ok && array.Len() == 1 && item.kinds == userRef && item.schema != nil &&
			name == "claims" {
			s.add(at, Warning, "claims", "%s by the user alone leaves out what the groups of the user own; write "+
				"input.identity.claims", rule)
		}
	}
	if name == "claims" || name == "owners" || name == "createdBy" || name == "entityRefs" || name == "userRefs" {
		for _, c := range s.texts[n.element()] {
			if c.node.root().kinds == 0 && c.node.root().loose == 0 && !c.free && !c.test {
				s.checkRef(c, true, false)
			}
		}
	}
}

// checkDocument holds an object that has the members of a decision or of a condition
// against what those may be.
func (s *source) checkDocument(use *documentUse) {
	if use.test {
		return
	}
	member := func(name string) *ast.Term { return use.object.Get(ast.StringTerm(name)) }
	if member("rule") != nil && (member("params") != nil || member("resourceType") != nil) {
		s.checkCondition(use, member)
	}
	if member("result") != nil && member("rule") == nil {
		s.checkDecision(use, member)
	}
}

// entityMembers are the members of a catalog entity, by the folders that they are in.
var entityMembers = map[string][]string{
	"resource": {"apiVersion", "kind", "metadata", "spec", "relations", "status"},
	"resource.metadata": {"uid", "etag", "name", "namespace", "title", "description", "labels", "annotations", "tags",
		"links"},
	"relation": {"type", "targetRef"},
}

// checkTestResource looks for members of an entity that are misspelt, in the input of
// a test: a negative test passes for them.
func (s *source) checkTestResource(use *documentUse) {
	member := func(object ast.Object, name string) ast.Object {
		if t := object.Get(ast.StringTerm(name)); t != nil {
			inner, _ := t.Value.(ast.Object)
			return inner
		}
		return nil
	}
	resource := member(use.object, "resource")
	if resource == nil || use.object.Get(ast.StringTerm("permission")) == nil &&
		use.object.Get(ast.StringTerm("identity")) == nil {
		return
	}
	if permission := member(use.object, "permission"); permission != nil {
		if t := permission.Get(ast.StringTerm("resourceType")); t != nil && !t.Equal(ast.StringTerm("catalog-entity")) {
			return
		}
	}
	if resource.Get(ast.StringTerm("kind")) == nil && resource.Get(ast.StringTerm("metadata")) == nil &&
		resource.Get(ast.StringTerm("apiVersion")) == nil {
		return // whatever it is, it is no entity
	}
	s.misspelt("resource", resource)
	if metadata := member(resource, "metadata"); metadata != nil {
		s.misspelt("resource.metadata", metadata)
	}
	if relations := resource.Get(ast.StringTerm("relations")); relations != nil {
		if list, ok := relations.Value.(*ast.Array); ok {
			list.Foreach(func(t *ast.Term) {
				if relation, ok := t.Value.(ast.Object); ok {
					s.misspelt("relation", relation)
				}
			})
		}
	}
}

func (s *source) misspelt(what string, object ast.Object) {
	members := entityMembers[what]
	object.Foreach(func(k, _ *ast.Term) {
		name, ok := k.Value.(ast.String)
		if !ok || slices.Contains(members, string(name)) {
			return
		}
		if meant := nearest(string(name), members); meant != "" {
			s.add(positionOf(k.Location), Error, "input",
				"no entity has %s.%s (%s?), so that this test passes or fails for the wrong reason", what, string(name), meant)
		}
	})
}

// constantsOf are the texts that a member of a document can be, as far as is known.
func (s *source) constantsOf(n *node) []string {
	var texts []string
	for _, c := range s.texts[n.root()] {
		texts = append(texts, c.text)
	}
	slices.Sort(texts)
	return slices.Compact(texts)
}

func (s *source) checkCondition(use *documentUse, member func(string) *ast.Term) {
	names := s.constantsOf(use.node.field("rule"))
	if member("resourceType") == nil {
		s.add(use.at, Error, "answer", "a condition needs resourceType beside rule; write \"resourceType\": "+
			"input.permission.resourceType")
	}
	params := member("params")
	for _, name := range names {
		rules := s.words.schemas[name]
		if types := s.constantsOf(use.node.field("resourceType")); len(types) == 1 && len(names) == 1 {
			kept := slices.DeleteFunc(slices.Clone(rules), func(r inventory.Rule) bool {
				return !slices.Contains(types,
					r.ResourceType)
			})
			if len(rules) > 0 && len(kept) == 0 {
				s.add(use.at, Error, "rule", "%s is a rule of %s, not of %s", name, rules[0].ResourceType,
					strings.Join(types, " or "))
			}
			rules = kept
		}
		if len(rules) != 1 || len(names) != 1 {
			continue
		}
		schema := rules[0].ParamsSchema
		if params == nil {
			s.checkEmpty(name, rules[0].ResourceType, ast.NewObject(), use.at, use.in)
			if read := readParamsSchema(schema); read != nil && len(read.Properties) > 0 {
				s.add(use.at, Error, "params", "%s needs params; write \"params\": {%s}", name, example(schema))
			}
			continue
		}
		if object, ok := params.Value.(ast.Object); ok {
			s.checkEmpty(name, rules[0].ResourceType, object, positionOf(params.Location), use.in)
			s.checkParams(name, schema, object, use.node.field("params"), positionOf(params.Location))
		}
	}
}

func (s *source) checkDecision(use *documentUse, member func(string) *ast.Term) {
	results := s.constantsOf(use.node.field("result"))
	conditional := len(results) == 1 && results[0] == "CONDITIONAL"
	for _, name := range []string{"pluginId", "resourceType", "conditions"} {
		switch {
		case conditional && member(name) == nil:
			s.add(use.at, Error, "answer", "an answer CONDITIONAL needs %s", name)
		case len(results) == 1 && !conditional && member(name) != nil && slices.Contains([]string{"ALLOW", "DENY"},
			results[0]):
			s.add(positionOf(member(name).Location), Warning, "answer",
				"%s says nothing beside %s; write CONDITIONAL, or leave it out", name, results[0])
		}
	}
	for _, name := range objectKeys(use.object) {
		if !slices.Contains([]string{"result", "pluginId", "resourceType", "conditions", "reason"}, name) {
			if meant := nearest(name, []string{"result", "pluginId", "resourceType", "conditions", "reason"}); meant != "" {
				s.add(use.at, Error, "answer", "an answer has no member %s (%s?)", name, meant)
			}
		}
	}
}

func objectKeys(object ast.Object) []string {
	var names []string
	object.Foreach(func(k, _ *ast.Term) {
		if name, ok := k.Value.(ast.String); ok {
			names = append(names, string(name))
		}
	})
	return names
}

// checkDataRefs looks for what no file and no bundle has.
func (s *source) checkDataRefs() {
	negated := s.underNot()
	for _, use := range s.refs {
		if len(use.path) == 0 || s.isRule(use.path) {
			continue
		}
		ok, beside := s.data.has(use.path)
		if ok || s.covered(use.path) || s.data.described(use.path) {
			continue
		}
		if !s.reaches(use.path) {
			for _, name := range slices.Sorted(maps.Keys(s.defined)) {
				if parts := ast.MustParseRef(name); len(parts) == len(use.path)+1 {
					beside = append(beside, plainStep(parts[len(parts)-1]))
				}
			}
		}
		last := use.path[min(s.known(use.path), len(use.path)-1)]
		holds := "so the rule that reads it never holds here"
		switch {
		case use.list:
			holds = "so the list that is made of it is empty"
		case use.negated:
			holds = "so what stands under not here holds for everybody, or the body fails"
		case use.rule != nil && negated[use.rule.Ref().GroundPrefix().String()]:
			holds = fmt.Sprintf("so %s never holds, and not %s is true for everybody", shortName(use.rule), shortName(use.rule))
		}
		s.add(use.at, Error, "data", "no file of the bundle has %s, and no other bundle that is checked with it%s; it "+
			"is undefined, %s",
			pathText(use.path), orNearest(last, beside), holds)
	}
}

func plainStep(t *ast.Term) string { return strings.Trim(t.String(), `"`) }

func shortName(r *ast.Rule) string {
	ref := r.Ref().GroundPrefix()
	return plainStep(ref[len(ref)-1])
}

// known is how many steps of the path the data has.
func (s *source) known(path []string) int {
	for n := len(path) - 1; n > 0; n-- {
		if ok, _ := s.data.has(path[:n]); ok || s.parts[refOf(path[:n]).String()] {
			return n
		}
	}
	return 0
}

func refOf(path []string) ast.Ref {
	ref := ast.Ref{ast.DefaultRootDocument}
	for _, step := range path {
		ref = append(ref, ast.StringTerm(step))
	}
	return ref
}

// isRule is whether a path leads to a rule, into its value, or to packages.
func (s *source) isRule(path []string) bool {
	ref := refOf(path)
	if s.parts[ref.String()] {
		return true
	}
	for i := 2; i <= len(ref); i++ {
		if s.defined[ref[:i].String()] != nil {
			return true
		}
	}
	return strings.HasPrefix(strings.Join(path, "/")+"/", "backstage/") && libraryHas(path)
}

// reaches is whether the path is below a package of the policy.
func (s *source) reaches(path []string) bool { return s.parts[refOf(path[:1]).String()] }

// covered is whether another bundle owns the path.
func (s *source) covered(steps []string) bool {
	at := strings.Join(steps, "/") + "/"
	for _, root := range s.roots {
		root = strings.Trim(root, "/") + "/"
		if strings.HasPrefix(at, root) || strings.HasPrefix(root, at) {
			return true
		}
	}
	return strings.HasPrefix(at, "system/")
}

// underNot are the paths of rules that stand under a not somewhere.
func (s *source) underNot() map[string]bool {
	under := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(s.modules)) {
		module := s.modules[name]
		ast.WalkExprs(module, func(e *ast.Expr) bool {
			if !e.Negated {
				return false
			}
			note := func(ref ast.Ref) {
				if head, ok := ref[0].Value.(ast.Var); ok {
					under[module.Package.Path.Append(ast.StringTerm(string(head))).String()] = true
				}
				under[ref.GroundPrefix().String()] = true
			}
			ast.WalkTerms(e, func(t *ast.Term) bool {
				switch v := t.Value.(type) {
				case ast.Ref:
					note(v)
				case ast.Var:
					note(ast.Ref{t})
				}
				return false
			})
			return false
		})
	}
	return under
}
