package soundness

import (
	"fmt"
	"strings"
)

// A construct is one way of writing a condition. Those with a number are the rows of two tables of constructs for which
// partial evaluation leaves over something else than what a reader expects (1.x), or where the naive reading of that is
// wrong (2.x). There the meaning is what stock OPA says.
type construct struct {
	name   string
	depth  int  // how many levels of helper rules it needs
	v2     bool // only with import rego.v2
	seldom bool
	// refusable and hidden: see policy.
	refusable, hidden bool
	draw              func(g *grammar, s scope, depth int) []string
}

// simple is the number of constructs at the start of the list that closures are filled with most of the time.
const simple = 3

// constructs returns all of them.
func constructs() []construct {
	return []construct{
		{name: "a rule call", draw: func(g *grammar, s scope, _ int) []string {
			return []string{g.ask(s)}
		}},
		{name: "not a rule call", draw: func(g *grammar, s scope, _ int) []string {
			return []string{"not " + g.ask(s)}
		}},
		{name: "a condition without the resource", draw: func(g *grammar, _ scope, _ int) []string {
			return []string{g.known()}
		}},
		{name: "1.2 some in, rule call", draw: func(g *grammar, s scope, _ int) []string {
			k, d := g.name("k"), g.domain("some")
			return []string{fmt.Sprintf("some %s in %s", k, d.of), g.ask(s.over(d, k))}
		}},
		{name: "1.1 every", draw: func(g *grammar, s scope, _ int) []string {
			k, d := g.name("k"), g.domain("every")
			body := g.using(k, func() string { return g.short(s.over(d, k)) })
			return []string{fmt.Sprintf("every %s in %s { %s }", k, d.of, body)}
		}},
		{name: "1.20 some in, not rule call", draw: func(g *grammar, s scope, _ int) []string {
			k, d := g.name("k"), g.domain("some")
			return []string{fmt.Sprintf("some %s in %s", k, d.of), "not " + g.ask(s.over(d, k))}
		}},
		{name: "1.4 rule call == false", draw: func(g *grammar, s scope, _ int) []string {
			return []string{g.ask(s) + " == false"}
		}},
		{name: "rule call compared with true", draw: func(g *grammar, s scope, _ int) []string {
			return []string{fmt.Sprintf(g.pick("%s == true", "true == %s", "%s != true", "%s = true"), g.ask(s))}
		}},
		{name: "1.5 x := rule call; x", draw: func(g *grammar, s scope, _ int) []string {
			x := g.name("x")
			return []string{x + g.pick(" := ", " = ") + g.ask(s), g.pick(x, x+" == true")}
		}},
		{name: "2.5 x := rule call; not x", draw: func(g *grammar, s scope, _ int) []string {
			x := g.name("x")
			return []string{x + " := " + g.ask(s), "not " + x}
		}},
		{name: "2.6 not rule call == true or false", draw: func(g *grammar, s scope, _ int) []string {
			return []string{"not " + g.ask(s) + g.pick(" == true", " == false")}
		}},
		{name: "2.10 rule calls compared with one another", draw: func(g *grammar, s scope, _ int) []string {
			return []string{fmt.Sprintf(g.pick("%s == %s", "%s != %s", "true in {%s, %s}", "not %s == %s",
				"[%s, %s] == [true, true]", "true in [%s, %s]", "count({%s, %s}) == 1", "not true in {%s, %s}"),
				g.ask(s), g.ask(s))}
		}},
		{name: "2.20 params of missing data, negated or not", draw: func(g *grammar, s scope, _ int) []string {
			s.words, s.refs = []string{"data.missing"}, []string{"data.missing"}
			return []string{g.pick("not ", "not ", "") + g.ask(s)}
		}},
		{name: "iteration by [_]", draw: func(g *grammar, s scope, _ int) []string {
			k, d := g.name("k"), g.domain("some")
			if strings.HasPrefix(d.of, "{") || strings.HasPrefix(d.of, "[") {
				domain := g.name("domain")
				return []string{domain + " := " + d.of, fmt.Sprintf("%s = %s[_]", k, domain), g.ask(s.over(d, k))}
			}
			return []string{fmt.Sprintf("%s := %s[_]", k, d.of), g.ask(s.over(d, k))}
		}},
		{name: "some key, value in", draw: func(g *grammar, s scope, _ int) []string {
			k, v := g.name("k"), g.name("v")
			of := g.pick(`{"team": "user:default/ann", "tier": "group:default/web"}`, "data.owners", `["team", "tier"]`)
			if strings.HasPrefix(of, "[") {
				return []string{fmt.Sprintf("some %s, %s in %s", k, v, of), k + " >= 0", g.ask(s.word(v))}
			}
			return []string{fmt.Sprintf("some %s, %s in %s", k, v, of), g.ask(s.word(k).ref(v))}
		}},
		{name: "2.12 every over more than 32", seldom: true, draw: func(g *grammar, s scope, _ int) []string {
			k := g.name("k")
			body := g.pick("not ", "") + g.using(k, func() string { return g.ask(s.word(k)) })
			return []string{fmt.Sprintf("every %s in data.many { %s }", k, body)}
		}},
		{name: "some within every", draw: func(g *grammar, s scope, _ int) []string {
			k, c, d := g.name("k"), g.name("c"), g.domain("every")
			return []string{fmt.Sprintf("every %s in %s {\n\t\tsome %s in input.identity.claims\n\t\t%s\n\t}",
				k, d.of, c, g.using(k, func() string { return g.short(s.over(d, k).ref(c)) }))}
		}},
		{name: "1.3 count of a comprehension", draw: func(g *grammar, s scope, _ int) []string {
			l, d := g.name("l"), g.domain("count")
			element := g.pick("1", l)
			open, end := "[", "]"
			if g.yes() {
				open, end = "{", "}"
			}
			return []string{fmt.Sprintf("count(%s%s | some %s in %s; %s%s) %s", open, element, l, d.of,
				g.short(s.over(d, l)), end, g.pick(">= 2", "== 0", "> 0", "== 1", "!= 1", "< 2", "in {0, 2}"))}
		}},
		{name: "sum, max or min of a comprehension", draw: func(g *grammar, s scope, _ int) []string {
			l, n := g.name("l"), g.name("n")
			return []string{fmt.Sprintf(g.pick("sum([%s | %s]) >= 2", "max([%s | %s]) > 1", "min([%s | %s]) == 1",
				"sum([%s | %s]) != 3"), n, fmt.Sprintf("some %s, %s in %s; %s", l, n,
				`{"team": 1, "tier": 2, "frozen": 3}`, g.ask(s.word(l))))}
		}},
		{name: "a comprehension compared", draw: func(g *grammar, s scope, _ int) []string {
			l := g.name("l")
			set := fmt.Sprintf(`{%s | some %s in ["team", "tier"]; %s}`, l, l, g.ask(s.word(l)))
			return []string{fmt.Sprintf(g.pick(`%s == {"team"}`, `"team" in %s`, `%s == set()`, `not "tier" in %s`,
				`%s != {"team", "tier"}`, `count({"team"} & %s) == 1`, `not count(%s) == 1`), set)}
		}},
		{name: "an object comprehension", draw: func(g *grammar, s scope, _ int) []string {
			l, m := g.name("l"), g.name("m")
			return []string{fmt.Sprintf(`%s := {%s: true | some %s in ["team", "tier"]; %s}`, m, l, l, g.ask(s.word(l))),
				fmt.Sprintf(g.pick(`%s.team`, `not %s["tier"]`, `count(%s) == 2`, `object.get(%s, "team", false) == false`), m)}
		}},
		{name: "an alias within a comprehension", draw: func(g *grammar, s scope, _ int) []string {
			e, x := g.name("e"), g.name("x")
			inner := s
			inner.resource = e
			return []string{fmt.Sprintf("count([%s | %s := %s; %s := %s]) == %s", x, e, s.resource, x, g.ask(inner),
				g.pick("0", "1"))}
		}},
		{name: "1.15 grants of data", draw: func(g *grammar, s scope, _ int) []string {
			n := g.name("grant")
			return []string{
				fmt.Sprintf("some %s in data.grants", n),
				n + ".group in input.identity.claims",
				g.pick("", "", "not ") + g.ask(s.word(n+".label").ref(n+".value")),
			}
		}},
		{name: "a builtin that fails", seldom: true, draw: func(g *grammar, s scope, _ int) []string {
			g.failing = true
			return []string{g.ask(s), g.pick("", "not ") + `to_number(input.permission.name) == 1`}
		}},

		{name: "a helper rule", depth: 1, draw: func(g *grammar, _ scope, depth int) []string {
			return []string{g.boolean(booleans, depth)}
		}},
		{name: "not a helper rule", depth: 1, draw: func(g *grammar, _ scope, depth int) []string {
			return []string{"not " + g.boolean(booleans, depth)}
		}},
		{name: "blow-up: twelve helpers of two bodies each", depth: 1, seldom: true,
			draw: func(g *grammar, _ scope, _ int) []string {
				prefix, s := g.name("wide"), scope{resource: "input.resource"}
				var literals []string
				for i := range 12 {
					name := fmt.Sprintf("%s_%d", prefix, i)
					g.add("%s if %s", name, g.ask(s))
					g.add("%s if %s", name, g.ask(s))
					literals = append(literals, g.prefix+name)
				}
				return literals
			}},
		{name: "1.16 double negation through rules", depth: 1, draw: func(g *grammar, s scope, _ int) []string {
			hidden, visible := g.name("hidden"), g.name("visible")
			g.add("%s if not %s", hidden, g.ask(scope{resource: "input.resource"}))
			g.add("%s if not %s%s", visible, g.prefix, hidden)
			return []string{g.pick("", "", "not ") + g.prefix + visible}
		}},
		{name: "2.9 a helper with a default, compared", depth: 1, draw: func(g *grammar, _ scope, depth int) []string {
			return []string{fmt.Sprintf(g.pick("%s == false", "%s != true", "%s", "not %s", "not %s == false", "%s == true"),
				g.boolean(defaulted, depth))}
		}},
		{name: "2.10 helpers compared with one another", depth: 1, draw: func(g *grammar, _ scope, depth int) []string {
			k := one(g.r, booleans, defaulted)
			return []string{fmt.Sprintf(g.pick("%s == %s", "%s != %s", "true in {%s, %s}", "false in [%s, %s]",
				"not false in {%s, %s}", "[%s, %s][_]"), g.boolean(k, depth),
				g.boolean(k, depth))}
		}},
		{name: "a helper of another package", depth: 1, draw: func(g *grammar, s scope, _ int) []string {
			name, prefix := g.name("other"), g.prefix
			g.prefix = "data.authz."
			if g.yes() {
				g.other = append(g.other, fmt.Sprintf("%s if %s", name, g.body(scope{resource: "input.resource"}, 0)))
			} else {
				g.other = append(g.other, fmt.Sprintf("%s(r) if %s", name, g.body(scope{resource: "r"}, 0)))
				name += "(" + s.resource + ")"
			}
			g.prefix = prefix
			return []string{g.pick("", "not ") + "data.authz.other." + name}
		}},
		{name: "1.7 a helper function", depth: 1, draw: func(g *grammar, s scope, depth int) []string {
			return []string{g.pick("", "", "not ") + g.function(depth) + "(" + s.resource + ")"}
		}},
		{name: "a helper function of a string", depth: 1, draw: func(g *grammar, s scope, _ int) []string {
			f, d := g.name("f"), g.domain("function")
			arg := "x"
			inner := scope{resource: "r"}.over(d, arg)
			for range one(g.r, 1, 1, 2) {
				g.add("%s(r, x) if {\n\t%s\n}", f, strings.Join(g.condition(inner, 0), "\n\t"))
			}
			k := g.name("k")
			return []string{
				fmt.Sprintf("some %s in %s", k, d.of),
				fmt.Sprintf("%s%s%s(%s, %s)", g.pick("", "not "), g.prefix, f, s.resource, k),
			}
		}},
		{name: "2.4 not in, of a helper's value", depth: 1, draw: func(g *grammar, _ scope, depth int) []string {
			return []string{fmt.Sprintf(`not %s in {%q, %q}`, g.level(depth), g.pick(levelNames...), g.pick(levelNames...))}
		}},
		{name: "a helper's value compared", depth: 1, draw: func(g *grammar, _ scope, depth int) []string {
			return []string{fmt.Sprintf(g.pick(`%s == %q`, `%s != %q`, `not %s == %q`, `%s in {%q}`, `not %s != %q`),
				g.level(depth), g.pick(levelNames...))}
		}},
		{name: "2.4 not f(helper)", depth: 1, draw: func(g *grammar, _ scope, depth int) []string {
			f := g.name("f")
			g.add("%s(x) if x == %q", f, g.pick(levelNames...))
			return []string{fmt.Sprintf("not %s%s(%s)", g.prefix, f, g.level(depth))}
		}},
		{name: "a function's value compared", depth: 1, draw: func(g *grammar, s scope, depth int) []string {
			return []string{fmt.Sprintf(g.pick(`%s == %q`, `%s != %q`, `not %s == %q`, `not %s in {%q}`),
				g.levelFunction(depth)+"("+s.resource+")", g.pick(levelNames...))}
		}},
		{name: "a helper's number compared", depth: 1, draw: func(g *grammar, _ scope, depth int) []string {
			return []string{fmt.Sprintf(g.pick("%s >= 2", "%s == 0", "not %s > 1", "%s in {1, 3}", "%s + 1 == 2"),
				g.score(depth))}
		}},
		{name: "1.9 count of a set", depth: 1, draw: func(g *grammar, _ scope, depth int) []string {
			return []string{fmt.Sprintf(g.pick("count(%s) == 0", "count(%s) > 0", "count(%s) == 1", "not count(%s) == 0",
				"count(%s) < 2"), g.set(depth))}
		}},
		{name: "1.10 not any element of a set", depth: 1, draw: func(g *grammar, _ scope, depth int) []string {
			some := g.name("some")
			g.add("%s if {\n\tsome _ in %s\n}", some, g.set(depth))
			return []string{g.pick("not ", "not ", "") + g.prefix + some}
		}},
		{name: "1.13 a set compared with set()", depth: 1, draw: func(g *grammar, _ scope, depth int) []string {
			return []string{fmt.Sprintf(g.pick("%s == set()", "not %s == set()", "%s != set()", "not %s != set()"),
				g.set(depth))}
		}},
		{name: "2.7 a set by itself", depth: 1, draw: func(g *grammar, _ scope, depth int) []string {
			return []string{g.pick("not ", "") + g.set(depth)}
		}},
		{name: "2.17 a set compared with its elements", depth: 1, draw: func(g *grammar, _ scope, depth int) []string {
			return []string{fmt.Sprintf(g.pick("%s == {%q}", "%s != {%q}", "%s & {%[2]q} == set()", "%s | {%[2]q} == {%[2]q}"),
				g.set(depth), g.pick(words...))}
		}},
		{name: "an element of a set", depth: 1, draw: func(g *grammar, _ scope, depth int) []string {
			set, word := g.set(depth), quote(g.pick(words...))
			m := g.name("m")
			return [][]string{
				{word + " in " + set}, {"not " + word + " in " + set}, {set + "[" + word + "]"},
				{fmt.Sprintf("some %s in %s", m, set), m + " != " + word},
			}[one(g.r, 0, 1, 2, 3)]
		}},
		{name: "an object", depth: 1, draw: func(g *grammar, s scope, depth int) []string {
			m := g.object(depth)
			k, v := g.name("k"), g.name("v")
			return [][]string{
				{m + ".team"}, {"not " + m + ".team"}, {m + `["tier"] == true`}, {"count(" + m + ") == 1"},
				{fmt.Sprintf("some %s, %s in %s", k, v, m), v, k + " != \"tier\""},
				{"object.get(" + m + `, "team", false) == false`},
				{fmt.Sprintf("every %s in %s { %s }", v, m, v)},
			}[one(g.r, 0, 1, 2, 3, 4, 5, 6)]
		}},
		{name: "2.11 an object of rules", depth: 1, draw: func(g *grammar, _ scope, depth int) []string {
			rules, k := g.name("rules"), one(g.r, booleans, defaulted)
			g.add("%s := {\"read\": %s, \"use\": %s, \"delete\": %s}", rules, g.boolean(k, depth), g.boolean(k, depth),
				g.known0())
			return []string{fmt.Sprintf(g.pick("%s%s[input.permission.attributes.action]", "%s%s.read",
				"not %s%s[input.permission.attributes.action]", "{v | some v in %s%s} == {true}"), g.prefix, rules)}
		}},
		{name: "an object of rules, each of its own", depth: 1, draw: func(g *grammar, s scope, depth int) []string {
			rules := g.name("rules")
			for _, action := range []string{"read", "delete", "use"} {
				g.add("%s[%q] if %s", rules, action, g.body(scope{resource: "input.resource"}, depth))
			}
			return []string{fmt.Sprintf(g.pick("%s%s[input.permission.attributes.action]",
				"not %s%s[input.permission.attributes.action]", "{v | some v in %s%s} == {true}"), g.prefix, rules)}
		}},
		{name: "1.19 with another identity", depth: 1, draw: func(g *grammar, _ scope, depth int) []string {
			return []string{g.pick("", "", "not ") + g.boolean(one(g.r, booleans, defaulted), depth) + g.pick(
				` with input.identity as {"user": "user:default/bob", "claims": ["group:default/core"]}`,
				` with input.identity.claims as ["group:default/web", "user:default/ann"]`,
				` with input.identity.claims as []`,
				` with input.identity.user as "user:default/ann"`)}
		}},
		{name: "trap 2: a rule with two identities", depth: 1, draw: func(g *grammar, _ scope, depth int) []string {
			rule := g.boolean(booleans, depth)
			return []string{
				g.pick("", "not ") + rule + ` with input.identity.claims as ["group:default/core"]`,
				g.pick("", "not ") + rule + g.pick("", ` with input.identity.claims as ["user:default/ann"]`),
			}
		}},
		{name: "with other data, permission or rules", depth: 1, draw: func(g *grammar, _ scope, depth int) []string {
			rule := g.boolean(booleans, depth)
			target := one(g.r,
				`data.grants as [{"group": "group:default/web", "label": "tier", "value": "gold"}]`,
				`data.flags.open as false`, `data.roles as {"user:default/ann": "admin"}`,
				`input.permission.name as "x"`, `input.permission.attributes.action as "read"`,
				"")
			if target == "" {
				target = "data.authz." + strings.TrimPrefix(g.boolean(booleans, depth), g.prefix) + " as " + g.pick("true", "false")
			}
			return []string{g.pick("", "not ") + rule + " with " + target}
		}},
		{name: "with over a rule call", draw: func(g *grammar, s scope, _ int) []string {
			return []string{g.pick("", "not ") + g.ask(s) + ` with input.identity.claims as ["group:default/core"]`}
		}},

		{name: "1.17 or", v2: true, draw: func(g *grammar, s scope, depth int) []string {
			return []string{g.operand(s, depth) + " or " + g.operand(s, depth)}
		}},
		{name: "2.13 and", v2: true, draw: func(g *grammar, s scope, depth int) []string {
			return []string{g.operand(s, depth) + " and " + g.operand(s, depth)}
		}},
		{name: "1.18 not { and }", v2: true, draw: func(g *grammar, s scope, depth int) []string {
			return []string{fmt.Sprintf("not { %s %s %s }", g.operand(s, depth), g.pick("and", "and", "or"),
				g.operand(s, depth))}
		}},
		{name: "2.13 and and or, mixed", v2: true, draw: func(g *grammar, s scope, depth int) []string {
			return []string{fmt.Sprintf(g.pick("%s or %s and %s", "%s and %s or %s", "{ %s or %s } and %s",
				"%s and not { %s or %s }"), g.operand(s, depth), g.operand(s, depth), g.operand(s, depth))}
		}},
		{name: "not { body }", v2: true, draw: func(g *grammar, s scope, _ int) []string {
			k, d := g.name("k"), g.domain("some")
			return []string{fmt.Sprintf("not { some %s in %s; %s }", k, d.of, g.short(s.over(d, k)))}
		}},
		{name: "{ body } or { body }", v2: true, draw: func(g *grammar, s scope, _ int) []string {
			k, d := g.name("k"), g.domain("some")
			return []string{fmt.Sprintf("{ some %s in %s; %s } or { %s }", k, d.of, g.short(s.over(d, k)), g.short(s))}
		}},

		{name: "1.11 the resource compared", refusable: true, hidden: true, draw: func(g *grammar, s scope, _ int) []string {
			return []string{s.resource + g.pick(`.spec.lifecycle == "production"`, `.kind == "Component"`, `["createdBy"]`)}
		}},
		{name: "1.12 a builtin over the resource, and a rule", refusable: true, hidden: true,
			draw: func(g *grammar, s scope, _ int) []string {
				return []string{g.ask(s), fmt.Sprintf(`startswith(%s.metadata.name, "x")`, s.resource)}
			}},
		{name: "1.14 params of the resource", refusable: true, hidden: true, draw: func(g *grammar, s scope, _ int) []string {
			v := s.resource + ".spec.owner"
			return []string{g.using(v, func() string {
				return g.ask(scope{resource: s.resource, words: []string{v}, refs: []string{v}})
			})}
		}},
		{name: "2.14 another first argument", refusable: true, draw: func(g *grammar, s scope, _ int) []string {
			s.resource = g.pick(`{"kind": "Component", "metadata": {"name": "x"}, "action": "debug:log"}`,
				s.resource+".spec", fmt.Sprintf(`object.union(%s, {"kind": "API"})`, s.resource))
			return []string{g.ask(s)}
		}},
		{name: "2.15 with input.resource", refusable: true, depth: 1, draw: func(g *grammar, _ scope, depth int) []string {
			return []string{g.boolean(booleans, depth) +
				` with input.resource as {"kind": "Component", "metadata": {"name": "x"}, "action": "debug:log"}`}
		}},
		{name: "2.16 a set of the resource's values", refusable: true, hidden: true, depth: 1,
			draw: func(g *grammar, s scope, _ int) []string {
				set := g.name("deny")
				g.add("%s contains x if {\n\t%s\n\tx := input.resource.kind\n}", set, g.ask(scope{resource: "input.resource"}))
				return []string{"count(" + g.prefix + set + ") == 0"}
			}},
		// Without a rule call the policy is not about the resource, and its input has none.
		{name: "2.18 the whole input", refusable: true, hidden: true, draw: func(g *grammar, s scope, _ int) []string {
			return []string{g.ask(s), g.pick(`contains(json.marshal(input), "production")`, `count(input) > 2`,
				`count([v | some v in input; v.kind == "Component"]) == 1`)}
		}},
		{name: "2.19 params that the rule refuses", refusable: true, draw: func(g *grammar, s scope, _ int) []string {
			return []string{g.pick("", "not ") + map[string]string{
				"catalog-entity":      `catalog.has_label(` + s.resource + `, {"label": "team", "value": null})`,
				"scaffolder-action":   `scaffolder.has_string_property(` + s.resource + `, {"key": "owner", "value": null})`,
				"scaffolder-template": `scaffolder.has_tag(` + s.resource + `, {"tag": null})`,
				"scaffolder-task":     `scaffolder.is_task_owner(` + s.resource + `, {"createdBy": "user:default/ann"})`,
			}[g.plugin.resourceType]}
		}},
		{name: "with the whole input", refusable: true, depth: 1, draw: func(g *grammar, _ scope, depth int) []string {
			return []string{g.boolean(booleans, depth) + ` with input as {"identity": {"claims": []}}`}
		}},
		// In stock OPA it changes what the library's own bodies say.
		{name: "with a builtin", refusable: true, hidden: true, draw: func(g *grammar, s scope, _ int) []string {
			return []string{g.ask(s) + " with " + g.pick("count as 2", `lower as "team"`, `concat as "spec.team"`)}
		}},
		{name: "with a part of the library, or of the resource", refusable: true, hidden: true,
			draw: func(g *grammar, s scope, _ int) []string {
				return []string{g.ask(s) + " with " + g.pick("data.backstage as {}", "data.backstage."+g.plugin.module+" as {}",
					"data.backstage.catalog._value_asked_for as true", "input.resource.spec as {}")}
			}},
		{name: "with a rule of the library", refusable: true, depth: 1, draw: func(g *grammar, _ scope, depth int) []string {
			f := map[string]string{"catalog-entity": "catalog.has_label", "scaffolder-action": "scaffolder.has_action_id",
				"scaffolder-template": "scaffolder.has_tag", "scaffolder-task": "scaffolder.is_task_owner"}
			return []string{g.boolean(booleans, depth) + " with data.backstage." + f[g.plugin.resourceType] + " as true"}
		}},
		{name: "the resource by a rule or function", depth: 1,
			draw: func(g *grammar, s scope, _ int) []string {
				n := g.name("resource")
				if g.yes() {
					g.add("%s := input.resource", n)
					s.resource = g.prefix + n
				} else {
					g.add("%s(r) := r", n)
					s.resource = fmt.Sprintf("%s%s(%s)", g.prefix, n, s.resource)
				}
				return []string{g.ask(s)}
			}},
		{name: "the resource by a pattern", draw: func(g *grammar, s scope, _ int) []string {
			e, n := g.name("e"), g.name("n")
			bind := fmt.Sprintf(g.pick("[%[1]s, %[3]s] := [%[2]s, 1]", `{"e": %[1]s, "n": %[3]s} := {"e": %[2]s, "n": 1}`,
				`[_, {"e": [%[1]s, %[3]s]}] := [input.identity, {"e": [%[2]s, 1]}]`,
				`some [%[1]s, %[3]s] in [[%[2]s, 1], [%[2]s, 2]]`), e, s.resource, n)
			s.resource = e
			return []string{bind, n + " > 0", g.pick("", "not ") + g.ask(s)}
		}},
		{name: "the resource out of an array or object", draw: func(g *grammar, s scope, _ int) []string {
			e := g.name("e")
			bind := fmt.Sprintf(g.pick(`%s := {"e": %s}.e`, "some %s in [%s]", "%s := [1, %s][1]",
				`%s := [r | r := %s][0]`, `some _, %s in {"e": %s}`, `%s := object.get({"e": %s}, "e", {})`), e, s.resource)
			s.resource = e
			return []string{bind, g.pick("", "not ") + g.ask(s)}
		}},
		{name: "every over an array of the resource", draw: func(g *grammar, s scope, _ int) []string {
			e := g.name("e")
			of := s.resource
			s.resource = e
			return []string{fmt.Sprintf("every %s in [%s] { %s }", e, of, g.pick("", "not ")+g.ask(s))}
		}},
		{name: "object.get of the input", draw: func(g *grammar, s scope, _ int) []string {
			if g.yes() {
				s.resource = g.pick(`object.get(input, "resource", {})`, `object.get(input, ["resource"], null)`)
				return []string{g.ask(s)}
			}
			return []string{g.ask(s), g.pick(`object.get(input, ["identity", "user"], "") == "user:default/ann"`,
				`object.get(input, "permission", {}).name != "x"`, `not object.get(input, ["identity", "actor"], false)`)}
		}},
		{name: "a function of the input", depth: 1, draw: func(g *grammar, s scope, depth int) []string {
			f := g.name("f")
			switch one(g.r, 0, 1, 2, 3) {
			case 0:
				g.add("%s(i) if i.identity.user == \"user:default/ann\"", f)
				return []string{g.ask(s), fmt.Sprintf("%s%s%s(input)", g.pick("", "not "), g.prefix, f)}
			case 1:
				g.add("%s(i) if %s", f, g.body(scope{resource: "i.resource"}, depth))
			case 2:
				g.add("%s({\"resource\": r, \"permission\": p}) if {\n\tp.name != \"x\"\n\t%s\n}", f, g.ask(scope{resource: "r"}))
			case 3:
				g.add("%s(i) := i.resource", f)
				s.resource = g.prefix + f + "(input)"
				return []string{g.ask(s)}
			}
			return []string{fmt.Sprintf("%s%s%s(input)", g.pick("", "not "), g.prefix, f)}
		}},
		{name: "a rule that holds the resource", depth: 1, draw: func(g *grammar, s scope, _ int) []string {
			ctx := g.name("ctx")
			g.add("%s := {\"entity\": input.resource, \"who\": input.identity.user, \"all\": [input.resource]}", ctx)
			e := g.name("e")
			switch one(g.r, 0, 1, 2) {
			case 0:
				s.resource = g.prefix + ctx + ".entity"
				return []string{g.ask(s), fmt.Sprintf("%s%s.who != \"\"", g.prefix, ctx)}
			case 1:
				s.resource = e
				return []string{fmt.Sprintf("some %s in %s%s.all", e, g.prefix, ctx), g.pick("", "not ") + g.ask(s)}
			}
			s.resource = e + ".entity"
			return []string{fmt.Sprintf("%s := %s%s", e, g.prefix, ctx), g.pick("", "not ") + g.ask(s)}
		}},
		{name: "the resource and null", draw: func(g *grammar, s scope, _ int) []string {
			g.existence = true
			return []string{fmt.Sprintf(g.pick("%s != null", "not is_null(%s)", "not %s == null", "null != %s", "%s"), s.resource),
				g.ask(s)}
		}},
		{name: "the resource or something else", refusable: true, depth: 1, draw: func(g *grammar, s scope, _ int) []string {
			e := g.name("e")
			of := s.resource
			s.resource = e
			return []string{fmt.Sprintf("some %s in [%s, {\"kind\": \"API\"}]", e, of), g.ask(s)}
		}},
		{name: "the resource in an array, compared", refusable: true, hidden: true,
			draw: func(g *grammar, s scope, _ int) []string {
				x := g.name("x")
				return []string{g.ask(s), x + ` := {"kind": "Component"}`,
					fmt.Sprintf(g.pick("[%s, 1] == [%s, 1]", `{"e": %s} == {"e": %s}`, "{%s} == {%s}", "[%s] == [%s]"), s.resource, x)}
			}},
		{name: "a rule of another resource type", draw: func(g *grammar, s scope, _ int) []string {
			g.foreign = true
			not := g.pick("", "not ")
			call := fmt.Sprintf("data.authz.foreign.is_other(%s, {\"tag\": %q})", s.resource, g.pick(foreignTags...))
			if g.yes() || s.resource != "input.resource" {
				return []string{not + call}
			}
			h := g.name("other")
			g.add("%s if %s", h, call)
			return []string{fmt.Sprintf(g.pick("%s%s", "count([1 | %s%s]) == 0", "{1 | %s%s} != set()"), not, g.prefix+h)}
		}},
		{name: "k of n", seldom: true, draw: func(g *grammar, s scope, _ int) []string {
			n := 4 + g.r.IntN(9)
			var of []string
			for i := range n {
				of = append(of, fmt.Sprintf("%s%d", g.pick(words...), i))
			}
			l := g.name("l")
			return []string{fmt.Sprintf("count([1 | some %s in %s; %s]) %s %d", l, compact(of), g.using(l, func() string {
				return g.ask(s.word(l))
			}), g.pick(">=", "==", "<", ">", "!="), 1+g.r.IntN(n/2))}
		}},
	}
}

// using draws a text that has the variable, since OPA refuses a variable of every that is not used.
func (g *grammar) using(variable string, draw func() string) string {
	return g.until(draw, func(text string) bool { return strings.Contains(text, variable) })
}

// known0 draws a boolean expression that does not depend on the resource.
func (g *grammar) known0() string {
	return g.pick("true", "false", "count(input.identity.claims) > 1")
}

// operand draws an operand of and or or.
func (g *grammar) operand(s scope, depth int) string {
	if g.seldom() {
		return g.pick("input.identity.claims", "data.flags.open", "data.missing", "not data.flags.open")
	}
	if depth > 0 && g.yes() {
		return g.boolean(booleans, depth-1)
	}
	return g.pick("", "", "not ") + g.ask(s)
}

// again returns a rule of the kind that is there already, or nothing.
func (g *grammar) again(k kind) string {
	if have := g.reuse[k]; len(have) > 0 && g.yes() {
		g.use("a helper used twice")
		return g.pick(have...)
	}
	return ""
}

// made notes a complete rule, so that others can refer to it, and returns the reference.
func (g *grammar) made(k kind, name string) string {
	g.reuse[k] = append(g.reuse[k], g.prefix+name)
	return g.prefix + name
}

// boolean draws a rule that is true, false or undefined, and returns the reference. A defaulted one is never undefined.
func (g *grammar) boolean(k kind, depth int) string {
	if rule := g.again(k); rule != "" {
		return rule
	}
	name, s := g.name("is"), scope{resource: "input.resource"}
	if k == defaulted {
		g.add("default %s := %s", name, g.pick("false", "false", "true"))
	}
	switch one(g.r, 0, 0, 0, 1, 2, 3, 4, 5) {
	case 0:
		for range one(g.r, 1, 2, 2, 3) {
			g.add("%s if %s", name, g.body(s, depth))
		}
	case 1:
		g.use("a helper with else")
		g.add("%s := %s if %s else := %s if %s", name, g.pick("true", "false"), g.body(s, depth),
			g.pick("false", "true"), g.body(s, depth)+g.pick("", " else := false", " else := true"))
	case 2:
		g.use("a helper that is false")
		g.add("%s := false if %s", name, g.body(s, depth))
	case 3:
		g.use("trap 3: two values for one helper")
		g.failing = true
		g.add("%s := true if %s", name, g.body(s, depth))
		g.add("%s := false if %s", name, g.body(s, depth))
	case 4:
		g.use("a helper whose value is a rule call")
		g.add("%s := %s", name, g.ask(s))
	case 5:
		g.use("a helper whose value is a variable")
		g.add("%s := x if {\n\tx := %s\n\t%s\n}", name, g.ask(s), strings.Join(g.condition(s, 0), "\n\t"))
	}
	return g.made(k, name)
}

// level draws a rule whose value is a string.
func (g *grammar) level(depth int) string {
	if rule := g.again(levels); rule != "" {
		return rule
	}
	name, s := g.name("level"), scope{resource: "input.resource"}
	if g.yes() {
		g.use("2.9 a value with a default")
		g.add("default %s := %q", name, g.pick(levelNames...))
	}
	switch one(g.r, 0, 0, 1, 2, 3) {
	case 0:
		g.use("a value with else")
		g.add("%s := %q if %s else := %q if %s%s", name, g.pick(levelNames...), g.body(s, depth), g.pick(levelNames...),
			g.body(s, depth), g.pick("", fmt.Sprintf(" else := %q", g.pick(levelNames...))))
	case 1:
		g.add("%s := %q if %s", name, g.pick(levelNames...), g.body(s, depth))
	case 2:
		g.use("trap 3: two values for one rule")
		g.failing = true
		g.add("%s := %q if %s", name, g.pick(levelNames...), g.body(s, depth))
		g.add("%s := %q if %s", name, g.pick(levelNames...), g.body(s, depth))
	case 3:
		g.use("trap 3: a value by some")
		g.failing = true
		g.add("%s := l if {\n\tsome l in [\"secret\", \"open\"]\n\t%s\n}", name, g.ask(s.word("l")))
	}
	return g.made(levels, name)
}

// score draws a rule whose value is a number.
func (g *grammar) score(depth int) string {
	if rule := g.again(scores); rule != "" {
		return rule
	}
	name, s := g.name("score"), scope{resource: "input.resource"}
	switch one(g.r, 0, 1, 2) {
	case 0:
		g.add("%s := count([w | some w in [\"team\", \"tier\", \"frozen\"]; %s])", name, g.ask(s.word("w")))
	case 1:
		g.add("%s := %s if %s else := %s", name, g.pick("1", "2"), g.body(s, depth), g.pick("0", "3"))
	case 2:
		g.add("%s := sum([n | some n in [1 | %s]]) + count([1 | %s])", name, g.ask(s), g.short(s))
	}
	return g.made(scores, name)
}

// set draws a partial set of words.
func (g *grammar) set(depth int) string {
	if rule := g.again(sets); rule != "" {
		return rule
	}
	name, s := g.name("deny"), scope{resource: "input.resource"}
	for range one(g.r, 1, 2, 2, 3) {
		switch one(g.r, 0, 0, 0, 1, 2) {
		case 0:
			g.add("%s contains %q if %s", name, g.pick(words...), g.body(s, depth))
		case 1:
			g.use("a set of what holds")
			g.add("%s contains w if {\n\tsome w in [\"team\", \"frozen\"]\n\t%s\n}", name, g.ask(s.word("w")))
		case 2:
			g.use("trap 1: a set with a body that cannot hold")
			g.add("%s contains %q if {\n\t%s\n\t%s\n}", name, g.pick(words...), g.known(), g.ask(s))
		}
	}
	return g.made(sets, name)
}

// object draws a partial object of booleans that has the keys team and tier.
func (g *grammar) object(depth int) string {
	name, s := g.name("object"), scope{resource: "input.resource"}
	// A key that nobody asks for is not vetted, so that what is hidden may be answered.
	defer func(hidden bool) { g.hidden = hidden }(g.hidden)
	g.add("%s.team := %s if %s", name, g.pick("true", "false"), g.body(s, depth))
	switch one(g.r, 0, 1, 2) {
	case 0:
		g.add("%s[\"tier\"] := %s if %s", name, g.pick("true", "false"), g.body(s, depth))
	case 1:
		g.use("an object of what holds")
		g.add("%s[w] := true if {\n\tsome w in [\"tier\", \"frozen\"]\n\t%s\n}", name, g.ask(s.word("w")))
	case 2:
		g.use("trap 3: two values for one key")
		g.failing = true
		value := g.pick("true", "false")
		g.add("%s[w] := %s if {\n\tsome w in [\"tier\", \"team\"]\n\t%s\n}", name, value, g.ask(s.word("w")))
	}
	return g.prefix + name
}

// function draws a function of the resource that is true or undefined.
func (g *grammar) function(depth int) string {
	if rule := g.again(functions); rule != "" {
		return rule
	}
	name, s := g.name("f"), scope{resource: "r"}
	switch one(g.r, 0, 0, 1, 2, 3) {
	case 0:
		for range one(g.r, 1, 1, 2) {
			g.add("%s(r) if %s", name, g.body(s, depth))
		}
	case 1:
		g.use("a function with else")
		g.add("%s(r) := %s if %s else := %s if %s", name, g.pick("true", "false"), g.body(s, depth),
			g.pick("true", "false"), g.body(s, depth))
	case 2:
		g.use("a function with a default")
		g.add("default %s(_) := %s", name, g.pick("false", "true"))
		g.add("%s(r) := %s if %s", name, g.pick("true", "false"), g.body(s, depth))
	case 3:
		g.use("a function that hands on to another")
		inner := g.name("f")
		g.add("%s(e) if %s", inner, g.body(scope{resource: "e"}, depth))
		g.add("%s(r) if %s%s(r)", name, g.prefix, inner)
	}
	return g.made(functions, name)
}

// levelFunction draws a function of the resource whose value is a string.
func (g *grammar) levelFunction(depth int) string {
	if rule := g.again(levelFunctions); rule != "" {
		return rule
	}
	name, s := g.name("f"), scope{resource: "r"}
	if g.yes() {
		g.add("%s(r) := %q if %s else := %q", name, g.pick(levelNames...), g.body(s, depth), g.pick(levelNames...))
	} else {
		g.use("trap 3: two values for one function")
		g.failing = true
		g.add("%s(r) := %q if %s", name, g.pick(levelNames...), g.body(s, depth))
		g.add("%s(r) := %q if %s", name, g.pick(levelNames...), g.body(s, depth))
	}
	return g.made(levelFunctions, name)
}
