package soundness

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
)

// A policy is a drawn policy, whose entrypoint is data.authz.allow.
type policy struct {
	// source is one or more modules, one after the other.
	source string
	plugin plugin
	// constructs are the ways of writing that it has, see the table of constructs.
	constructs []string
	// refusable is set by what vetting may refuse, in place of seeing through it.
	refusable bool
	// hidden is set by what vetting must refuse: the resource, read beside the rules.
	hidden bool
	// failing is set by what can fail in stock OPA: two values for one rule.
	failing bool
	// foreign is set by a rule about another type of resource: the answer must hold by either answer of its.
	foreign bool
	// existence is set by what asks whether there is a resource.
	existence bool
	// facts are what the rule calls ask about by literals, so that resources can be drawn that answer them.
	facts []fact
}

// A fact is something about a resource that makes a rule hold.
type fact struct{ rule, key, value string }

// A plugin is what the grammar knows of one resource type and its rules.
type plugin struct {
	resourceType string
	module       string // the package of its rules, below data.backstage
	permissions  []permission
	ask          func(*grammar, scope) string
}

type permission struct{ name, action string }

// A grammar draws one policy.
type grammar struct {
	r *rand.Rand
	policy
	ways   []construct
	v2     bool
	prefix string // what a reference to a rule starts with: nothing, or data.authz.
	rules  []string
	other  []string // the rules of package authz.other
	reuse  map[kind][]string
	names  int
	budget int // rule calls to go before the policy is large enough
	used   map[string]bool
}

// A scope is what an expression may refer to besides rules.
type scope struct {
	resource string   // the resource: input.resource, an alias or an argument
	words    []string // variables that hold the name of a label, a tag and so on
	refs     []string // variables that hold an entity ref
	nested   int      // how many closures are around it
}

// A kind is the type of a helper rule.
type kind int

const (
	booleans kind = iota
	defaulted
	levels
	scores
	sets
	functions
	levelFunctions
)

// words, refs and values are what labels, claims and so on are drawn from: few, so that policies and resources meet.
var (
	words  = []string{"team", "frozen", "public", "tier", "Stage"}
	values = []string{"web", "core", "true", "gold", "Web", ""}
	refs   = []string{
		"user:default/ann", "group:default/web", "group:default/core", "user:default/bob", "Group:Default/Web",
	}
	levelNames = []string{"secret", "internal", "open"}
)

func newGrammar(r *rand.Rand) *grammar {
	g := &grammar{
		r:      r,
		ways:   constructs(),
		reuse:  map[kind][]string{},
		used:   map[string]bool{},
		budget: 1 + r.IntN(14),
		v2:     one(r, false, false, true),
		prefix: one(r, "", "", "", "data.authz."),
	}
	g.plugin = one(r, catalogPlugin, catalogPlugin, catalogPlugin, actionPlugin, catalogPlugin, catalogPlugin,
		templatePlugin, taskPlugin)
	return g
}

func one[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

func (g *grammar) yes() bool               { return g.r.IntN(2) == 0 }
func (g *grammar) seldom() bool            { return g.r.IntN(8) == 0 }
func (g *grammar) rare() bool              { return g.r.IntN(64) == 0 }
func (g *grammar) pick(s ...string) string { return one(g.r, s...) }

// name returns a fresh name.
func (g *grammar) name(prefix string) string {
	g.names++
	return fmt.Sprint(prefix, g.names)
}

// use notes that the policy has the construct.
func (g *grammar) use(construct string) { g.used[construct] = true }

func (g *grammar) add(format string, args ...any) {
	g.rules = append(g.rules, fmt.Sprintf(format, args...))
}

// draw returns the whole policy.
func (g *grammar) draw() policy {
	s := scope{resource: "input.resource"}
	imports := []string{"import data.backstage." + g.plugin.module}
	switch g.r.IntN(8) {
	case 0:
		g.use("import input.resource as entity")
		imports = append(imports, "import input.resource as entity")
		s.resource = "entity"
	case 1:
		s.resource = `input["resource"]`
	}
	switch {
	case g.v2:
		imports = append(imports, "import rego.v2")
	case g.yes():
		imports = append(imports, "import rego.v1")
	}
	g.entrypoint(s)
	g.source = module("authz", imports, g.rules)
	if len(g.other) > 0 {
		g.source += "\n" + module("authz.other", imports, g.other)
	}
	if g.foreign {
		g.source += "\n" + foreignModule
	}
	g.constructs = slices.Sorted(maps.Keys(g.used))
	return g.policy
}

// foreignModule has a rule of another plugin. A resource holds the answers under "foreign", so that stock OPA can be
// asked for every one of them; the rules of other plugins look at nothing of that name.
const foreignModule = `package authz.foreign

# METADATA
# scope: document
# custom:
#   backstage: {pluginId: other, resourceType: other-thing, rule: IS_OTHER}
is_other(resource, params) if params.tag in resource.foreign
`

// foreignTags are what the rule of another plugin is asked about.
var foreignTags = []string{"x", "y"}

func module(name string, imports, rules []string) string {
	return "package " + name + "\n\n" + strings.Join(imports, "\n") + "\n\n" + strings.Join(rules, "\n\n") + "\n"
}

// entrypoint draws the rule allow.
func (g *grammar) entrypoint(s scope) {
	switch one(g.r, 0, 1, 2, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10) {
	case 0:
		g.add("default allow := false")
		fallthrough
	case 1:
		for range one(g.r, 1, 1, 2, 3) {
			g.add("allow if %s", g.body(s, 3))
		}
	case 2:
		g.add("allow if %s", g.inline(s, 3))
	case 3:
		g.use("1.6 allow with else")
		last := g.pick("", " else := true", " else := false", " else if ")
		if strings.HasSuffix(last, " if ") {
			last += g.body(s, 1)
		}
		g.add("allow if %s else := %s if %s%s", g.body(s, 2), g.pick("false", "true"), g.body(s, 2), last)
	case 4:
		g.use("2.8 default allow := true")
		g.add("default allow := true")
		for range one(g.r, 1, 2) {
			g.add("allow := false if %s", g.body(s, 2))
		}
	case 5:
		g.use("trap 3: allow := true and allow := false")
		g.failing = true
		g.add("allow := true if %s", g.body(s, 2))
		g.add("allow := false if %s", g.body(s, 2))
	case 6:
		g.use("allow := a rule call")
		g.add("allow := %s", g.ask(s))
	case 7:
		g.use("allow := a comparison")
		g.add("allow := %s", one(g.r,
			func() string { return fmt.Sprintf("count([1 | some w in data.names; %s]) > 0", g.ask(s.word("w"))) },
			func() string { return fmt.Sprintf("%s == %q", g.level(2), g.pick(levelNames...)) },
			func() string { return g.boolean(defaulted, 2) + " == " + g.boolean(defaulted, 2) },
			func() string { return fmt.Sprintf("%q in %s", g.pick(words...), g.set(2)) })())
	case 8:
		g.use("allow := a variable of the body")
		g.add("allow := x if {\n\tx := %s\n\t%s\n}", g.boolean(booleans, 2), strings.Join(g.condition(s, 2), "\n\t"))
	case 9:
		g.use("documents by else")
		g.add("allow := %s if %s else := %s if %s else := %s", g.document(), g.body(s, 2), g.document(), g.body(s, 2),
			g.pick(`{"result": "DENY", "reason": "nothing else"}`, "false", g.document()))
	case 10:
		g.use("documents by rules")
		g.failing = true
		g.add("default allow := %s", g.pick(`{"result": "DENY", "reason": "by default"}`, "false", `{"result": "ALLOW"}`))
		for range one(g.r, 1, 2) {
			g.add("allow := %s if %s", g.document(), g.body(s, 2))
		}
	}
}

// document draws a decision, seldom one that is none.
func (g *grammar) document() string {
	switch one(g.r, 0, 0, 1, 2, 2, 2, 3, 4) {
	case 0:
		return `{"result": "ALLOW", "reason": "a reason"}`
	case 1:
		return `{"result": "DENY"}`
	case 2:
		g.use("a document with conditions")
		return fmt.Sprintf(`{"result": "CONDITIONAL", "pluginId": %q, "resourceType": %q, "conditions": %s}`,
			g.plugin.module, g.plugin.resourceType, g.conditions(2))
	case 3:
		return "true"
	}
	if !g.seldom() {
		return "false"
	}
	g.use("a document that is no decision")
	g.failing = true
	return g.pick(`{"result": input.permission.name}`, `{"result": "CONDITIONAL", "pluginId": input.permission.name}`, "input.permission.name")
}

// conditions draws the conditions of a document.
func (g *grammar) conditions(depth int) string {
	switch kind := g.r.IntN(5); {
	case depth == 0 || kind < 2:
		word := g.pick(words...)
		params := map[string]string{"catalog-entity": "label", "scaffolder-action": "key", "scaffolder-template": "tag"}
		rule := map[string]string{"catalog-entity": "HAS_LABEL", "scaffolder-action": "HAS_STRING_PROPERTY",
			"scaffolder-template": "HAS_TAG", "scaffolder-task": "IS_TASK_OWNER"}[g.plugin.resourceType]
		if rule == "IS_TASK_OWNER" {
			return fmt.Sprintf(`{"rule": %q, "resourceType": %q, "params": {"createdBy": input.identity.claims}}`, rule,
				g.plugin.resourceType)
		}
		g.facts = append(g.facts, fact{map[string]string{"HAS_LABEL": "has_label", "HAS_TAG": "tag",
			"HAS_STRING_PROPERTY": "key"}[rule], "", word})
		return fmt.Sprintf(`{"rule": %q, "resourceType": %q, "params": {%q: %q}}`, rule, g.plugin.resourceType,
			params[g.plugin.resourceType], word)
	case kind == 2:
		return `{"not": ` + g.conditions(depth-1) + `}`
	}
	return fmt.Sprintf(`{%q: [%s, %s]}`, g.pick("allOf", "anyOf"), g.conditions(depth-1), g.conditions(depth-1))
}

// word and ref return the scope with a variable more.
func (s scope) word(v string) scope { s.words = append(slices.Clone(s.words), v); return s }
func (s scope) ref(v string) scope  { s.refs = append(slices.Clone(s.refs), v); return s }

// body draws a rule body in braces: one to three conditions, of which a first alias of the resource may be used.
func (g *grammar) body(s scope, depth int) string {
	var literals []string
	if g.seldom() {
		g.use("1.8 an alias of the resource")
		alias := g.name("e")
		literals = append(literals, fmt.Sprintf("%s %s %s", alias, g.pick(":=", ":=", "="), s.resource))
		s.resource = alias
		if g.seldom() {
			second := g.name("e")
			literals = append(literals, second+" := "+alias)
			s.resource = second
		}
	}
	for range one(g.r, 1, 1, 2, 2, 3) {
		literals = append(literals, g.condition(s, depth)...)
	}
	return "{\n\t" + strings.Join(literals, "\n\t") + "\n}"
}

// short draws the literals of a small body within a line.
func (g *grammar) short(s scope) string {
	s.nested++
	var literals []string
	for range one(g.r, 1, 1, 1, 2) {
		literals = append(literals, g.inline(s, 0))
	}
	return strings.Join(literals, "; ")
}

// inline draws a condition that is one expression.
func (g *grammar) inline(s scope, depth int) string {
	return g.until(func() string {
		if c := g.condition(s, depth); len(c) == 1 {
			return c[0]
		}
		return ""
	}, func(text string) bool { return text != "" })
}

// until draws until the text is good, and forgets what else it drew.
func (g *grammar) until(draw func() string, good func(string) bool) string {
	saved := *g
	saved.used, saved.reuse = maps.Clone(g.used), maps.Clone(g.reuse)
	for range 10_000 {
		if text := draw(); good(text) {
			return text
		}
		used, reuse := maps.Clone(saved.used), maps.Clone(saved.reuse)
		*g = saved
		g.used, g.reuse = used, reuse
	}
	panic("nothing that the grammar draws here is good")
}

// condition draws a construct: the literals that state one condition.
func (g *grammar) condition(s scope, depth int) []string {
	if g.budget <= 0 {
		depth = 0
	}
	c := one(g.r, g.ways...)
	for c.depth > depth || c.v2 && !g.v2 {
		c = one(g.r, g.ways...)
	}
	if s.nested > 1 || s.nested > 0 && !g.seldom() {
		c = one(g.r, g.ways[:simple]...)
	}
	if (c.refusable || c.seldom) && !g.seldom() {
		c = g.ways[0]
	}
	g.use(c.name)
	g.refusable = g.refusable || c.refusable
	g.hidden = g.hidden || c.hidden
	return c.draw(g, s, depth-1)
}

// ask draws a rule call.
func (g *grammar) ask(s scope) string {
	g.budget--
	return g.plugin.ask(g, s)
}

// call renders a rule call with params, members in pairs; the params may be built in other ways than as a literal.
func (g *grammar) call(s scope, rule string, members ...string) string {
	var pairs []string
	for i := 0; i < len(members); i += 2 {
		pairs = append(pairs, fmt.Sprintf("%q: %s", members[i], members[i+1]))
	}
	params := "{" + strings.Join(pairs, ", ") + "}"
	if g.rare() {
		g.use("params built by object.union")
		params = fmt.Sprintf("object.union({%s}, {%s})", pairs[0], strings.Join(pairs, ", "))
	}
	if g.rare() && len(s.words)+len(s.refs) == 0 {
		g.use("params built by a rule")
		rule := g.name("params")
		g.add("%s := %s", rule, params)
		params = g.prefix + rule
	}
	return fmt.Sprintf("%s.%s(%s, %s)", g.plugin.module, rule, s.resource, params)
}

// text draws a literal of one of the strings, in another case now and then, and notes the fact.
func (g *grammar) text(rule, key string, from ...string) (literal, value string) {
	value = g.pick(from...)
	switch g.r.IntN(64) {
	case 0:
		value = strings.ToUpper(value)
	case 1:
		value = strings.Repeat(value, 201)
	case 2:
		// 199 to 202 UTF-16 units, not all of them code points of their own.
		value = strings.Repeat("🎭", 99) + strings.Repeat("x", one(g.r, 1, 2, 3, 4))
	case 3:
		value = "Größe-" + value
	}
	g.facts = append(g.facts, fact{rule, key, value})
	return quote(value), value
}

// term draws a string for a param: a literal or one of the variables.
func (g *grammar) term(rule string, variables []string, from ...string) string {
	if len(variables) > 0 && !g.seldom() {
		v := g.pick(variables...)
		if g.rare() {
			g.use("params built by a builtin")
			return fmt.Sprintf(g.pick("lower(%s)", `concat("", [%s])`, `sprintf("%%s", [%s])`, `$"{%s}"`), v)
		}
		return v
	}
	literal, _ := g.text(rule, "", from...)
	return literal
}

// claims draws a list of entity refs.
func (g *grammar) claims(rule string, s scope) string {
	if len(s.refs) > 0 && !g.seldom() {
		return "[" + g.pick(s.refs...) + "]"
	}
	switch one(g.r, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6) {
	case 0:
		return "input.identity.claims"
	case 1:
		return g.list(rule, refs...)
	case 2:
		return "[input.identity.user]"
	case 3:
		return "array.concat(input.identity.claims, " + g.list(rule, refs...) + ")"
	case 4:
		return `[c | some c in input.identity.claims; startswith(c, "group:")]`
	case 5:
		return "object.get(input.identity, \"claims\", [])"
	}
	return "[]"
}

// list draws a list of literals.
func (g *grammar) list(rule string, from ...string) string {
	var of []string
	for range one(g.r, 1, 1, 2, 3) {
		literal, _ := g.text(rule, "", from...)
		of = append(of, literal)
	}
	return "[" + strings.Join(of, ", ") + "]"
}

// A domain is something to iterate.
type domain struct {
	of    string
	words bool // of words, else of refs
}

// domain draws a collection, all of it known without the resource.
func (g *grammar) domain(rule string) domain {
	switch one(g.r, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7) {
	case 0:
		return domain{g.list(rule, words...), true}
	case 1:
		l := g.list(rule, words...)
		return domain{"{" + l[1:len(l)-1] + "}", true}
	case 2:
		return domain{"data.names", true}
	case 3:
		return domain{"input.identity.claims", false}
	case 4:
		return domain{g.list(rule, refs...), false}
	case 5:
		return domain{"data.members[input.identity.user]", false}
	case 6:
		return domain{`{c | some c in input.identity.claims; c != input.identity.user}`, false}
	}
	return domain{"[]", true}
}

// over returns the scope with v drawn from d.
func (s scope) over(d domain, v string) scope {
	if d.words {
		return s.word(v)
	}
	return s.ref(v)
}

// known draws a condition that does not depend on the resource.
func (g *grammar) known() string {
	return g.pick(
		`input.permission.attributes.action in {"read", "use"}`,
		fmt.Sprintf("input.permission.name == %q", one(g.r, g.plugin.permissions...).name),
		fmt.Sprintf("%q in input.identity.claims", g.pick(refs...)),
		fmt.Sprintf("input.identity.user == %q", g.pick(refs...)),
		"count(input.identity.claims) > 1",
		`data.roles[input.identity.user] == "admin"`,
		`not data.roles[input.identity.user] == "admin"`,
		"not input.identity",
		"input.identity.actor",
		"data.flags.open",
		"not data.flags.open",
		`object.get(input.identity, "actor", "") == ""`,
		"true", "false",
	)
}

// quote returns s as a Rego string.
func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}
