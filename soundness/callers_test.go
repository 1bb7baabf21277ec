package soundness

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// A callerGrammar draws policies that use the caller in every way that people write, and some that nobody would.
type callerGrammar struct {
	r     *rand.Rand
	rules []string
	names int
}

// groups, folks and texts are what callers and policies are drawn from: few, so that they meet.
var (
	folks  = []string{"user:default/ann", "user:default/bob", "User:Default/Ann", "user:default/svc-ci"}
	groups = []string{"group:default/web", "group:default/core", "Group:default/Web", "group:default/admins", "group:other/web"}
)

func newCallerTrial(r *rand.Rand) trial {
	g := &callerGrammar{r: r}
	for range 1 + r.IntN(3) {
		g.add("allow if {\n\t%s\n}", strings.Join(g.body(2), "\n\t"))
	}
	switch r.IntN(8) {
	case 0:
		g.rules = nil
		g.add("default allow := false\n\nallow := false if {\n\t%s\n} else := true if {\n\t%s\n}", strings.Join(g.body(2), "\n\t"), strings.Join(g.body(2), "\n\t"))
	case 1:
		g.rules = nil
		doc := g.document()
		g.add("default allow := {\"result\": \"DENY\"}\n\nallow := %s if {\n\t%s\n} else := {\"result\": \"ALLOW\"} if {\n\t%s\n}", doc, strings.Join(g.body(2), "\n\t"), strings.Join(g.body(1), "\n\t"))
	case 2:
		g.add("default allow := false")
	}
	p := policy{plugin: catalogPlugin, constructs: nil}
	p.source = module("authz", []string{"import data.backstage.catalog", "import rego.v1"}, g.rules)
	w := worldGen{r: r, policy: p}
	tr := trial{policy: p, world: world{data: g.data()}}
	for range 16 {
		tr.world.inputs = append(tr.world.inputs, g.input())
	}
	for range 8 {
		tr.world.resources = append(tr.world.resources, g.resource(w))
	}
	return tr
}

func (g *callerGrammar) add(format string, args ...any) {
	g.rules = append(g.rules, fmt.Sprintf(format, args...))
}

func (g *callerGrammar) name(of string) string {
	g.names++
	return fmt.Sprint(of, g.names)
}

func (g *callerGrammar) pick(s ...string) string { return one(g.r, s...) }
func (g *callerGrammar) seldom() bool            { return g.r.IntN(8) == 0 }
func (g *callerGrammar) group() string           { return quote(g.pick(groups...)) }
func (g *callerGrammar) user() string            { return quote(g.pick(folks...)) }
func (g *callerGrammar) anybody() string {
	return quote(g.pick(append(append([]string{}, folks...), groups...)...))
}

func (g *callerGrammar) data() map[string]any {
	pick := func(from ...string) []any {
		list := []any{}
		for _, s := range from {
			if g.r.IntN(2) == 0 {
				list = append(list, s)
			}
		}
		return list
	}
	everybody := append(append([]string{}, folks...), groups...)
	roles, ranks, teams, parents := map[string]any{}, map[string]any{}, map[string]any{}, map[string]any{}
	for _, role := range []string{"admin", "reader"} {
		roles[role] = map[string]any{"members": pick(everybody...), "actions": pick("read", "update", "delete")}
	}
	for _, s := range everybody {
		if g.r.IntN(2) == 0 {
			ranks[s] = g.pick("admin", "reader", "none")
		}
		if g.r.IntN(3) == 0 {
			parents[s] = pick(groups...)
		}
	}
	for _, s := range []string{"web", "core", "admins"} {
		if g.r.IntN(2) == 0 {
			teams[s] = map[string]any{"level": g.r.IntN(3), "labels": pick("team", "tier")}
		}
	}
	return map[string]any{"admins": pick(everybody...), "roles": roles, "ranks": ranks, "teams": teams, "parents": parents,
		"pairs": []any{[]any{g.pick(groups...), g.pick(groups...)}}, "prefixes": pick("group:default/", "user:", "web")}
}

func (g *callerGrammar) input() map[string]any {
	p := one(g.r, catalogPlugin.permissions...)
	attributes := map[string]any{}
	if p.action != "" {
		attributes["action"] = p.action
	}
	input := map[string]any{"permission": map[string]any{
		"name": p.name, "type": "resource", "attributes": attributes, "resourceType": "catalog-entity",
	}}
	if g.r.IntN(12) == 0 {
		return input
	}
	user := g.pick(append([]string{"user:default/other", "x"}, folks...)...)
	claims := []any{}
	if !g.seldom() {
		claims = append(claims, user)
	}
	for range g.r.IntN(4) {
		claims = append(claims, g.pick(append([]string{"group:default/other", "GROUP:DEFAULT/WEB", "group:default/x/y", "odd", "admin", ""}, groups...)...))
	}
	identity := map[string]any{"user": user, "claims": claims}
	if g.seldom() {
		identity["actor"] = g.pick("plugin:catalog", "plugin:search")
	}
	input["identity"] = identity
	return input
}

func (g *callerGrammar) resource(w worldGen) map[string]any {
	e := w.entity()
	labels := map[string]any{}
	for _, label := range []string{"team", "tier", "owner"} {
		if g.r.IntN(2) == 0 {
			labels[label] = g.pick("web", "core", "admins", "group:default/web", "user:default/ann", "ann")
		}
	}
	e["metadata"].(map[string]any)["labels"] = labels
	e["relations"] = []any{
		map[string]any{"type": "ownedBy", "targetRef": g.pick(append(append([]string{}, folks...), groups...)...)},
	}
	return e
}

// claims draws an expression for the claims, a list.
func (g *callerGrammar) claims() string {
	switch g.r.IntN(9) {
	case 0:
		name := g.name("claims")
		g.add("%s := input.identity.claims", name)
		return name
	case 1:
		name := g.name("claims")
		g.add("%s := [lower(c) | some c in input.identity.claims]", name)
		return name
	case 2:
		return `object.get(input.identity, "claims", [])`
	case 3:
		return `object.get(input, ["identity", "claims"], [])`
	case 4:
		name := g.name("claims")
		g.add("%s := array.concat(input.identity.claims, [%s])", name, g.pick("input.identity.user", g.group()))
		return name
	case 5:
		name := g.name("claims")
		g.add("default %s := []\n\n%s := input.identity.claims", name, name)
		return name
	}
	return "input.identity.claims"
}

// set draws an expression for a set that is made of claims.
func (g *callerGrammar) set() string {
	name := g.name("set")
	switch g.r.IntN(11) {
	case 0:
		g.add("%s := {c | some c in %s}", name, g.claims())
	case 1:
		g.add("%s contains c if some c in %s", name, g.claims())
	case 2:
		g.add("%s contains lower(c) if some c in %s", name, g.claims())
	case 3:
		g.add("%s := {input.identity.user} | {c | some c in %s}", name, g.claims())
	case 4:
		g.add("%s contains g if {\n\tsome c in %s\n\tstartswith(c, \"group:\")\n\tg := trim_prefix(c, \"group:default/\")\n}", name, g.claims())
	case 5:
		g.add("%s := {c | some c in %s; c in data.admins}", name, g.claims())
	case 6:
		g.add("%s := {c | some c in data.admins; c in %s}", name, g.claims())
	case 7:
		g.add("%s contains role if some role, r in data.roles\n\n%s contains c if {\n\tsome c in %s\n\tdata.ranks[c] == \"admin\"\n}", name, name, g.claims())
	case 8:
		g.add("%s contains role if {\n\tsome role\n\tdata.roles[role].members[_] == %s[_]\n}", name, g.claims())
	case 9:
		g.add("%s contains data.ranks[c] if some c in %s", name, g.claims())
	case 10:
		g.add("%s := {x | some c in %s; some x in graph.reachable(data.parents, {c})}", name, g.claims())
	}
	return name
}

func (g *callerGrammar) body(depth int) []string {
	var lines []string
	for range 1 + g.r.IntN(3) {
		lines = append(lines, g.condition(depth)...)
	}
	return lines
}

func (g *callerGrammar) helper(depth int) string {
	name := g.name("helper")
	for range 1 + g.r.IntN(2) {
		g.add("%s if {\n\t%s\n}", name, strings.Join(g.body(depth), "\n\t"))
	}
	return name
}

// text draws a condition about a text, such as a claim.
func (g *callerGrammar) text(v string) string {
	switch g.r.IntN(22) {
	case 0, 1:
		return fmt.Sprintf("%s == %s", v, g.anybody())
	case 2:
		return fmt.Sprintf("startswith(%s, %s)", v, g.pick(`"group:"`, `"group:default/"`, `"user:"`, `"w"`))
	case 3:
		return fmt.Sprintf("endswith(%s, %s)", v, g.pick(`"web"`, `"/admins"`, `"ann"`))
	case 4:
		return fmt.Sprintf("lower(%s) == %s", v, g.anybody())
	case 5:
		return v + " in data.admins"
	case 6:
		return fmt.Sprintf(`data.ranks[%s] == %s`, v, g.pick(`"admin"`, `"reader"`))
	case 7:
		return fmt.Sprintf("data.ranks[%s]", v)
	case 8:
		return fmt.Sprintf("regex.match(%s, %s)", g.pick("`^group:default/[a-z]+$`", "`web`", "`^user:.*/(ann|bob)$`"), v)
	case 9:
		return fmt.Sprintf(`split(%s, "/")[1] == %s`, v, g.pick(`"web"`, `"ann"`, `"admins"`))
	case 10:
		return fmt.Sprintf(`data.teams[split(%s, "/")[1]].level > %d`, v, g.r.IntN(3))
	case 11:
		return fmt.Sprintf(`data.teams[trim_prefix(%s, "group:default/")]`, v)
	case 12:
		return fmt.Sprintf(`catalog.has_label(input.resource, {"label": %s, "value": trim_prefix(%s, "group:default/")})`, g.pick(`"team"`, `"owner"`), v)
	case 13:
		return fmt.Sprintf(`catalog.is_entity_owner(input.resource, {"claims": [%s]})`, g.pick(v, "lower("+v+")", v+", "+g.group()))
	case 14:
		return fmt.Sprintf("glob.match(%s, %s, %s)", g.pick(`"group:default/*"`, `"*:*/web"`), g.pick(`["/"]`, "[]", "null"), v)
	case 15:
		return fmt.Sprintf("contains(%s, %s)", v, g.pick(`"default"`, `"web"`))
	case 16:
		return fmt.Sprintf(`concat("/", ["group:default", %s]) == %s`, g.pick(v, `"web"`), g.pick(g.group(), v))
	case 17:
		return fmt.Sprintf(`sprintf("%%s!", [%s]) == %s`, v, g.pick(`"admin!"`, `"user:default/ann!"`))
	case 18:
		return v + " in input.identity.claims"
	case 19:
		return fmt.Sprintf("count(%s) > %d", v, g.r.IntN(20))
	case 20:
		return fmt.Sprintf(`[k, n] := split(%s, ":"); %s == %s`, v, g.pick("k", "n"), g.pick(`"group"`, `"default/web"`))
	}
	return v + " != input.identity.user"
}

func (g *callerGrammar) condition(depth int) []string {
	l := func(format string, args ...any) []string { return []string{fmt.Sprintf(format, args...)} }
	c := g.name("c")
	if depth > 0 && g.r.IntN(3) == 0 {
		switch g.r.IntN(9) {
		case 0:
			return l("%s", g.helper(depth-1))
		case 1, 2:
			return l("not %s", g.helper(depth-1))
		case 3:
			f := g.name("f")
			g.add("%s(x) if {\n\t%s\n}", f, g.text("x"))
			if g.seldom() {
				g.add("%s(x) if {\n\t%s\n}", f, g.text("x"))
			}
			if g.r.IntN(2) == 0 {
				return []string{fmt.Sprintf("some %s in %s", c, g.claims()), fmt.Sprintf("%s%s(%s)", g.pick("", "not "), f, c)}
			}
			return l("%s%s(input.identity.user)", g.pick("", "not "), f)
		case 4:
			f := g.name("f")
			g.add("%s(list) if {\n\tsome x in list\n\t%s\n}", f, g.text("x"))
			return l("%s%s(%s)", g.pick("", "not "), f, g.claims())
		case 5:
			h := g.name("level")
			g.add("%s := \"high\" if {\n\t%s\n} else := \"mid\" if {\n\t%s\n} else := \"low\"", h, strings.Join(g.body(depth-1), "\n\t"), strings.Join(g.body(depth-1), "\n\t"))
			return l("%s %s %s", h, g.pick("==", "!="), g.pick(`"high"`, `"mid"`, `"low"`))
		case 6:
			h := g.name("deny")
			for range 1 + g.r.IntN(2) {
				g.add("%s contains %s if {\n\t%s\n}", h, g.pick(`"a"`, `"b"`, "input.identity.user"), strings.Join(g.body(depth-1), "\n\t"))
			}
			return l("%s", g.pick("count("+h+") == 0", "count("+h+") > 0", h+" == set()", h+" != set()", `not "a" in `+h, `"a" in `+h, `count(`+h+`) < 2`))
		case 7:
			h := g.name("with")
			g.add("%s if {\n\t%s\n}", h, strings.Join(g.body(depth-1), "\n\t"))
			return l("%s%s with input.identity as {\"user\": %s, \"claims\": %s}", g.pick("", "not "), h, g.pick("input.identity.user", g.user()),
				g.pick("["+g.group()+"]", "input.identity.claims", "[input.identity.user]"))
		case 8:
			h := g.name("with")
			g.add("%s if {\n\t%s\n}", h, strings.Join(g.body(depth-1), "\n\t"))
			return l("%s%s with %s", g.pick("", "not "), h, g.pick("input.identity.claims as ["+g.group()+"]", "data.admins as ["+g.group()+"]", "data.ranks as {"+g.group()+`: "admin"}`,
				"input.identity.user as "+g.user()))
		}
	}
	switch g.r.IntN(42) {
	case 0:
		return l("%s%s in %s", g.pick("", "not "), g.group(), g.claims())
	case 1:
		return l("%s[_] == %s", g.claims(), g.anybody())
	case 2, 3, 4:
		lines := []string{fmt.Sprintf("some %s in %s", c, g.claims()), g.text(c)}
		if g.r.IntN(2) == 0 {
			lines = append(lines, g.text(c))
		}
		if g.seldom() {
			lines = append(lines, "not "+g.inText(c))
		}
		return lines
	case 5:
		return l("every %s in %s { %s }", c, g.claims(), g.text(c))
	case 6:
		return l("not %s", g.inText("input.identity.user"))
	case 7, 8:
		return l("%s", g.text("input.identity.user"))
	case 9:
		return l("count({%s | some %s in %s; %s}) > 0", c, c, g.claims(), g.text(c))
	case 10:
		return l("count([1 | some %s in %s; %s]) %s", c, g.claims(), g.text(c), g.pick("> 0", "== 0", ">= 1", "> 1", "< 2"))
	case 11:
		return l("{%s, %s} & {%s | some %s in %s} %s set()", g.group(), g.group(), c, c, g.claims(), g.pick("!=", "=="))
	case 12:
		return l("count({%s | some %s in %s} & %s) > %d", c, c, g.claims(), g.pick("{x | some x in data.admins}", "{"+g.group()+"}"), g.r.IntN(2))
	case 13:
		return l("count(%s) %s %d", g.claims(), g.pick("==", ">", "<"), g.r.IntN(3))
	case 14:
		return l("data.roles[_].members[_] == %s[_]", g.claims())
	case 15:
		return []string{fmt.Sprintf("some role%d", g.names), fmt.Sprintf("data.roles[role%d].members[_] == input.identity.claims[_]", g.names),
			fmt.Sprintf("input.permission.attributes.action in data.roles[role%d].actions", g.names)}
	case 16:
		return l("input.identity.user in data.roles.admin.members")
	case 17, 18:
		return l(`%scatalog.is_entity_owner(input.resource, {"claims": %s})`, g.pick("", "not "), g.claims())
	case 19:
		return l(`catalog.is_entity_owner(input.resource, {"claims": [input.identity.user]})`)
	case 20:
		return l(`catalog.has_label(input.resource, {"label": "owner", "value": %s})`, g.pick("input.identity.user", `split(input.identity.user, "/")[1]`))
	case 21:
		return l("%s in %s", g.anybody(), g.set())
	case 22:
		return []string{fmt.Sprintf("some %s in %s", c, g.set()), g.text(c)}
	case 23:
		return l("count(%s) %s", g.set(), g.pick("> 0", "== 0", "> 1", "== 2"))
	case 24:
		return l("%s %s %s", g.set(), g.pick("==", "!="), g.pick("set()", "{"+g.group()+"}", "{"+g.anybody()+", "+g.group()+"}"))
	case 25:
		return l("count(%s & %s) > 0", g.set(), g.set())
	case 26:
		return l("count(%s - %s) == 0", g.set(), g.pick(g.set(), "{"+g.group()+"}"))
	case 27:
		return l(`catalog.is_entity_owner(input.resource, {"claims": %s})`, g.pick("[x | some x in "+g.set()+"]", "[lower(x) | some x in "+g.claims()+"]"))
	case 28:
		return l("%sinput.identity", g.pick("", "not "))
	case 29:
		return l("%sinput.identity.actor%s", g.pick("", "not "), g.pick("", ` == "plugin:catalog"`))
	case 30:
		return l(`object.get(input.identity, "actor", "none") == %s`, g.pick(`"none"`, `"plugin:search"`))
	case 31:
		return []string{fmt.Sprintf("some %s in %s", c, g.claims()), fmt.Sprintf("some d%s in %s", c, g.claims()), fmt.Sprintf("[%s, d%s] in data.pairs", c, c)}
	case 32:
		return []string{fmt.Sprintf("some %s in %s", c, g.claims()), fmt.Sprintf("some d%s in %s", c, g.claims()), fmt.Sprintf("%s %s d%s", c, g.pick("==", "!="), c)}
	case 33:
		return l(`input.identity.claims[0] == %s`, g.anybody())
	case 34:
		o := g.name("object")
		g.add("%s[c] := r if {\n\tsome c in %s\n\tr := data.ranks[c]\n}", o, g.claims())
		return l("%s", g.pick(o+`["group:default/web"] == "admin"`, `"admin" in `+o, "count("+o+") > 0", "some x in "+o, o+"[input.identity.user]"))
	case 35:
		return l(`object.get(data.ranks, input.identity.user, "none") == %s`, g.pick(`"none"`, `"admin"`))
	case 36:
		o := g.name("roles")
		g.add("%s[r] contains c if {\n\tsome r, of in data.roles\n\tsome c in of.members\n\tc in %s\n}", o, g.claims())
		return l("%s", g.pick("count("+o+".admin) > 0", o+"[_][_] == "+g.group(), "some r in object.keys("+o+")", o+".reader"))
	case 37:
		return l("%s in graph.reachable(data.parents, {x | some x in %s})", g.group(), g.claims())
	case 38:
		return l("strings.any_prefix_match(%s, %s)", g.pick("input.identity.claims", "input.identity.user"), g.pick("data.prefixes", `["group:"]`))
	case 39:
		return l("input.permission.attributes.action %s %s", g.pick("==", "!="), g.pick(`"read"`, `"delete"`))
	case 40:
		return l("%s%s", g.pick("", "not "), g.helper(0))
	}
	return l(`catalog.has_label(input.resource, {"label": %s})`, g.pick(`"team"`, `"tier"`))
}

// inText draws a condition about a text that is one expression.
func (g *callerGrammar) inText(v string) string {
	for {
		if t := g.text(v); !strings.Contains(t, ";") {
			return t
		}
	}
}

func (g *callerGrammar) document() string {
	claims := g.pick("input.identity.claims", g.claims(), "[input.identity.user]")
	condition := fmt.Sprintf(`{"rule": "IS_ENTITY_OWNER", "resourceType": "catalog-entity", "params": {"claims": %s}}`, claims)
	switch g.r.IntN(4) {
	case 0:
		condition = `{"not": ` + condition + `}`
	case 1:
		condition = `{"anyOf": [` + condition + `, {"rule": "HAS_LABEL", "resourceType": "catalog-entity", "params": {"label": "tier"}}]}`
	}
	return `{"result": "CONDITIONAL", "pluginId": "catalog", "resourceType": "catalog-entity", "conditions": ` + condition + `}`
}
