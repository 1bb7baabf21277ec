package explore

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
	"pgregory.net/rapid"

	"github.com/stagedoor/stagedoor/adapter/criteria"
)

// TestSoundness holds the criteria against stock OPA: for random policies of every
// construct that authors use, random callers and random entities, the criteria hold
// exactly where stock evaluation with the entity as input.resource allows, and
// nowhere where it fails.
func TestSoundness(t *testing.T) {
	count := make(map[string]int)
	rapid.Check(t, func(t *rapid.T) {
		w := writer{t: t, v2: rapid.Bool().Draw(t, "v2")}
		policy := w.policy()
		p, err := compile(quiet{t}, policy)
		if err != nil {
			count["refused"]++
			if _, ok := errors.AsType[*VetError](err); ok {
				t.Fatalf("%s\nrefused: %v", policy, err)
			}
			return // the grammar knows no types
		}
		count["policies"]++
		stock := newStock(t, policy)
		if !p.AboutResource() {
			return
		}
		for range 2 {
			input := w.input()
			q := newQuery(quiet{t}, input, soundnessData)
			r, err := p.Decide(context.Background(), q)
			for name, other := range map[string]*Policy{"explored": p.explored(), "plain": p.plain()} {
				o, otherErr := other.Decide(context.Background(), q)
				if _, ok := errors.AsType[*LimitError](otherErr); ok {
					count[name+" too large"]++
				} else if (err == nil) != (otherErr == nil) || !r.Criteria.Equal(o.Criteria) ||
					len(r.Errors) > 0 != (len(o.Errors) > 0) {
					t.Fatalf("%s\ninput %s\n%s: %v\n%s, not %v\n%s", policy, input, name, otherErr, outline(o.Criteria), err, outline(r.Criteria))
				}
			}
			if _, ok := errors.AsType[*LimitError](err); ok {
				count["too large"]++
				continue
			}
			count[cmp.Or(string(r.Method), "failed")]++
			if err == nil && r.Criteria.Op > criteria.Always {
				count["conditional"]++
			}
			for range 6 {
				entity := w.entity()
				want, failure := stock.allow(q, entity)
				got := err == nil && r.Criteria.Eval(func(rule criteria.Rule) bool { return holds(rule, entity) })
				count["entities"]++
				told := err != nil || len(r.Errors) > 0
				if got != want || failure != nil && !told {
					t.Fatalf("%s\ninput %s\nentity %v\nstock OPA says %v (%v), the criteria say %v (%v):\n%s%v",
						policy, input, entity, want, failure, got, err, outline(r.Criteria), r.Errors)
				}
			}
		}
	})
	t.Log(count)
}

// explored is the policy with all its documents explored, none proved.
func (p *Policy) explored() *Policy {
	other, plan := *p, *p.plan
	other.plan = &plan
	plan.documents = *p.plan.documents.copy(func(d *document) *document {
		if d == nil {
			return nil
		}
		explored := *d
		explored.proved = false
		return &explored
	})
	return &other
}

// plain is the policy explored as a whole.
func (p *Policy) plain() *Policy {
	other, plan := *p, *p.plan
	other.plan = &plan
	plan.documents = tree[*document]{}
	return &other
}

func (t *tree[T]) copy(f func(T) T) *tree[T] {
	c := &tree[T]{value: f(t.value), children: make(map[string]*tree[T])}
	for name, child := range t.children {
		c.children[name] = child.copy(f)
	}
	return c
}

// quiet is a rapid.T as the helpers of other tests take it.
type quiet struct{ *rapid.T }

func (quiet) Helper()                  {}
func (quiet) Cleanup(func())           {}
func (quiet) Context() context.Context { return context.Background() }

// stock is the policy as opa test evaluates it.
type stock struct{ compiler *ast.Compiler }

func newStock(t *rapid.T, policy string) stock {
	compiler := ast.NewCompiler()
	modules := parse(quiet{t}, policy)
	if compiler.Compile(modules); compiler.Failed() {
		t.Fatal(compiler.Errors)
	}
	return stock{compiler}
}

func (s stock) allow(q Query, e entity) (allow bool, failure error) {
	input, _ := q.Input.Merge(ast.NewObject(ast.Item(resourceKey, e.term())))
	results, err := topdown.NewQuery(valueOf(ast.MustParseRef(entrypoint))).WithCompiler(s.compiler).
		WithStore(q.Store).WithTransaction(q.Txn).WithInput(ast.NewTerm(input)).WithStrictBuiltinErrors(true).
		Run(context.Background())
	if err != nil {
		return false, err
	}
	return len(results) > 0 && results[0][resultVar.Value.(ast.Var)].Equal(ast.BooleanTerm(true)), nil
}

// entity is a catalog entity, as far as the rules of these tests look at it.
type entity struct {
	labels []string
	kind   string
	owners []string
}

func (e entity) term() *ast.Term {
	labels := map[string]any{}
	for _, l := range e.labels {
		labels[l] = "x"
	}
	relations := []any{}
	for _, o := range e.owners {
		relations = append(relations, map[string]any{"type": "ownedBy", "targetRef": o})
	}
	return ast.NewTerm(ast.MustInterfaceToValue(map[string]any{
		"kind": e.kind, "metadata": map[string]any{"name": "n", "labels": labels}, "relations": relations,
	}))
}

// holds is what the plugin's rule says of the entity.
func holds(rule criteria.Rule, e entity) bool {
	var params struct {
		Label         string
		Kinds, Claims []string
	}
	if err := json.Unmarshal([]byte(rule.Params), &params); err != nil {
		panic(err)
	}
	switch rule.Name {
	case "HAS_LABEL":
		return slices.Contains(e.labels, params.Label)
	case "IS_ENTITY_KIND":
		return slices.Contains(params.Kinds, e.kind)
	case "IS_ENTITY_OWNER":
		return slices.ContainsFunc(e.owners, func(o string) bool { return slices.Contains(params.Claims, o) })
	}
	panic(rule.Name)
}

const soundnessData = `{"grants": {"u1": ["a", "b"], "u2": ["c"], "u3": []}, "level": {"a": 1, "b": 2, "c": 3}}`

// cleanRules do not depend on the resource, except that one is another name of it.
const cleanRules = `entity := input.resource

admin if "g1" in input.identity.claims

granted contains l if some l in data.grants[input.identity.user]

rank[l] := n if some l, n in data.level

nested[u].labels contains l if {
	some u, list in data.grants
	some l in list
}

wanted(l) := true if l in granted

wanted(l) := true if rank[l] > 2

limit := n if {
	n := count(granted)
} else := 7

`

var (
	labels  = []string{"a", "b", "c", "d"}
	kinds   = []string{"api", "component"}
	claims  = []string{"g1", "g2", "g3"}
	users   = []string{"u1", "u2", "u3"}
	actions = []string{"read", "delete"}
)

// writer writes random policies. A rule refers to earlier ones alone, so that none
// is recursive.
type writer struct {
	t     *rapid.T
	v2    bool
	b     strings.Builder
	rules []declared
	vars  int
}

// declared is a rule that later ones can refer to, and how.
type declared struct {
	name string
	kind string // bool, default, level, set, object, function, valued
}

func (w *writer) n(n int) int { return rapid.IntRange(0, n-1).Draw(w.t, "n") }

func (w *writer) chance(percent int) bool { return w.n(100) >= 100-percent }

func (w *writer) pick(of ...string) string { return of[w.n(len(of))] }

func (w *writer) fresh(prefix string) string {
	w.vars++
	return fmt.Sprintf("%s%d", prefix, w.vars)
}

func (w *writer) input() string {
	return fmt.Sprintf(`{"permission": {"name": "p", "attributes": {"action": %q}}, "identity": {"user": %q, "claims": [%s]}}`,
		w.pick(actions...), w.pick(users...), w.quoted(claims))
}

// quoted is a random part of a list as Rego.
func (w *writer) quoted(of []string) string {
	var some []string
	for _, s := range of {
		if w.n(2) == 0 {
			some = append(some, fmt.Sprintf("%q", s))
		}
	}
	return strings.Join(some, ", ")
}

func (w *writer) entity() entity {
	var e entity
	for _, l := range labels {
		if w.n(2) == 0 {
			e.labels = append(e.labels, l)
		}
	}
	for _, c := range claims {
		if w.n(3) == 0 {
			e.owners = append(e.owners, c)
		}
	}
	e.kind = w.pick(kinds...)
	return e
}

func (w *writer) policy() string {
	w.b.WriteString("package authz\n\n")
	if w.v2 {
		w.b.WriteString("import rego.v2\n")
	}
	w.b.WriteString("import data.backstage.catalog\n\n")
	w.b.WriteString(cleanRules)
	for range w.n(6) {
		w.helper()
	}
	w.entry()
	return w.b.String()
}

func (w *writer) entry() {
	switch w.n(9) {
	case 0, 1:
		w.b.WriteString("default allow := false\n\n")
	case 2:
		w.b.WriteString("default allow := true\n\n")
		fmt.Fprintf(&w.b, "allow := false if {\n%s}\n\n", w.body("input.resource", 2, "\t"))
		return
	case 3:
		fmt.Fprintf(&w.b, "allow := %s if {\n%s} else := %s if {\n%s} else if {\n%s}\n", w.pick("true", "false"), w.body("input.resource", 1, "\t"),
			w.pick("true", "false"), w.body("input.resource", 1, "\t"), w.body("input.resource", 1, "\t"))
		return
	}
	if w.chance(10) {
		fmt.Fprintf(&w.b, "allow := max([n | some _, n in data.level; %s]) > %d\n\n", w.question("entity", ""), w.n(4))
		return
	}
	for range 1 + w.n(3) {
		value := ""
		if w.chance(10) {
			value = " := " + w.pick("true", "false")
		}
		fmt.Fprintf(&w.b, "allow%s if {\n%s}\n\n", value, w.body("input.resource", 2, "\t"))
	}
}

func (w *writer) helper() {
	name := fmt.Sprintf("h%d", len(w.rules))
	body := func(resource string) string { return w.body(resource, 1, "\t") }
	kind := w.pick("bool", "bool", "default", "level", "set", "object", "function", "valued", "else", "collected")
	switch kind {
	case "bool":
		for range 1 + w.n(2) {
			fmt.Fprintf(&w.b, "%s if {\n%s}\n\n", name, body("input.resource"))
		}
	case "default":
		fmt.Fprintf(&w.b, "default %s := %s\n\n%s := %s if {\n%s}\n\n", name, w.pick("false", "true"), name, w.pick("true", "false"), body("input.resource"))
	case "level":
		if w.chance(50) {
			fmt.Fprintf(&w.b, "default %s := 1\n\n", name)
		}
		for range 1 + w.n(2) {
			fmt.Fprintf(&w.b, "%s := %d if {\n%s}\n\n", name, 1+w.n(3), body("input.resource"))
		}
	case "else":
		kind = "level"
		fmt.Fprintf(&w.b, "%s := 1 if {\n%s} else := 2 if {\n%s}\n\n", name, body("input.resource"), body("input.resource"))
	case "set":
		for range 1 + w.n(3) {
			fmt.Fprintf(&w.b, "%s contains %q if {\n%s}\n\n", name, w.pick(labels...), body("input.resource"))
		}
	case "collected":
		kind = "set"
		fmt.Fprintf(&w.b, "%s contains l if {\n\tsome l in %s\n\tcatalog.has_label(input.resource, {\"label\": l})\n}\n\n", name, w.list())
	case "object":
		for range 1 + w.n(2) {
			fmt.Fprintf(&w.b, "%s[%q] := %d if {\n%s}\n\n", name, w.pick(labels...), 1+w.n(2), body("input.resource"))
		}
		if w.chance(50) { // one rule above and below another one
			fmt.Fprintf(&w.b, "%s[l] := %d if {\n\tsome l in %s\n%s}\n\n", name, 1+w.n(2), w.list(), w.n4())
		}
	case "function":
		for range 1 + w.n(2) {
			fmt.Fprintf(&w.b, "%s(r, l) if {\n%s%s}\n\n", name, w.n3(), body("r"))
		}
	case "valued":
		fmt.Fprintf(&w.b, "%s(r, l) := 1 if {\n%s} else := 2 if {\n%s}\n\n", name, body("r"), body("r"))
	}
	w.rules = append(w.rules, declared{name, kind})
}

// n3 is at times a condition on the function's own argument.
func (w *writer) n3() string {
	return w.pick("", "\tcatalog.has_label(r, {\"label\": l})\n", "\tl != \"a\"\n", "\tnot catalog.has_label(r, {\"label\": l})\n")
}

// n4 is at times a condition on an element.
func (w *writer) n4() string {
	return w.pick("", "\tcatalog.has_label(input.resource, {\"label\": l})\n", "\tl != \"a\"\n")
}

func (w *writer) body(resource string, most int, indent string) string {
	var lines []string
	for range 1 + w.n(most+1) {
		lines = append(lines, w.statement(resource, indent)...)
	}
	var b strings.Builder
	for _, line := range lines {
		b.WriteString(indent + line + "\n")
	}
	return b.String()
}

// question asks about the resource, of a label given as Rego if it is not empty.
func (w *writer) question(resource, label string) string {
	if label != "" {
		return fmt.Sprintf(`catalog.has_label(%s, {"label": %s})`, resource, label)
	}
	switch w.n(6) {
	case 0:
		return fmt.Sprintf(`catalog.is_entity_owner(%s, {"claims": input.identity.claims})`, resource)
	case 1:
		return fmt.Sprintf(`catalog.is_entity_kind(%s, {"kinds": [%s]})`, resource, w.quoted(kinds))
	}
	return fmt.Sprintf(`catalog.has_label(%s, {"label": %q})`, resource, w.pick(labels...))
}

// unlessV2 is the text, but not in rego.v2, where a set cannot be an operand of not.
func (w *writer) unlessV2(text string) string {
	if w.v2 {
		return ""
	}
	return text
}

func (w *writer) list() string {
	return w.pick(`["a", "b", "c"]`, `["a", "c"]`, `{"b", "d"}`, `data.grants[input.identity.user]`, `[]`)
}

func (w *writer) clean() string {
	return w.pick(`input.permission.attributes.action == "delete"`, `"g1" in input.identity.claims`, `not "g2" in input.identity.claims`,
		`"a" in data.grants[input.identity.user]`, `input.identity.user != "u3"`, `not input.identity.missing`,
		`count(input.identity.claims) > 1`, `object.get(input.identity, "user", "") == "u1"`, `true`,
		`admin`, `not admin`, `admin with input.identity.claims as ["g1"]`, `limit > 1`, `"d" in granted`,
		`count(granted) == 1 with data.grants as {"u1": ["d"], "u2": ["d"]}`)
}

// statement is one or more lines of a body.
func (w *writer) statement(resource, indent string) []string {
	not := w.pick("", "", "not ")
	v := w.fresh("v")
	switch w.n(34) {
	case 0, 1, 2:
		return []string{not + w.question(resource, "")}
	case 3:
		return []string{w.clean()}
	case 4:
		return []string{fmt.Sprintf("some %s in %s", v, w.list()), not + w.question(resource, v)}
	case 5:
		return []string{fmt.Sprintf("every %s in %s { %s%s }", v, w.list(), not, w.question(resource, v))}
	case 6:
		return []string{fmt.Sprintf("count([1 | some %s in %s; %s%s]) %s %d", v, w.list(), not, w.question(resource, v), w.pick(">=", "==", "<"), w.n(3))}
	case 7:
		return []string{fmt.Sprintf("{%s | some %s in %s; %s} == %s", v, v, w.list(), w.question(resource, v), w.pick(`{"a"}`, `set()`, `{"a", "b"}`))}
	case 8:
		return []string{fmt.Sprintf("%s %s %s", w.question(resource, ""), w.pick("==", "!="), w.pick("true", "false"))}
	case 9:
		return []string{fmt.Sprintf("%s := %s", v, w.question(resource, "")), not + v}
	case 10:
		return []string{fmt.Sprintf("%s := %s", v, resource), not + w.question(v, "")}
	case 11:
		return []string{fmt.Sprintf("%strue in {%s, %s}", not, w.question(resource, ""), w.question(resource, ""))}
	case 12:
		return []string{fmt.Sprintf("not %s == %s", w.question(resource, ""), w.pick("true", "false"))}
	case 13:
		if w.chance(20) {
			return []string{w.question(resource, ""), `to_number("x") == 1`}
		}
		return []string{fmt.Sprintf("some %s in %s", v, w.list()), fmt.Sprintf("data.level[%s] > %d", v, w.n(3)), not + w.question(resource, v)}
	case 16:
		return []string{fmt.Sprintf("some %s in granted", v), not + w.question(resource, v)}
	case 17:
		return []string{fmt.Sprintf("some %s in nested[%q].labels", v, w.pick(users...)), fmt.Sprintf("wanted(%s)", v), not + w.question(resource, v)}
	case 18:
		return []string{fmt.Sprintf("%s := {l: true | some l in %s; %s%s}", v, w.list(), not, w.question(resource, "l")), fmt.Sprintf("count(%s) %s limit", v, w.pick("<", "==", ">="))}
	case 19:
		return []string{fmt.Sprintf("some %s, rank_%s in rank", v, v), fmt.Sprintf("rank_%s < %d", v, w.n(4)), not + w.question("entity", v)}
	case 20:
		return []string{fmt.Sprintf("%s := $\"{input.permission.name}-{1 + count([1 | %s])}\"", v, w.question(resource, "")), fmt.Sprintf("%s%s == \"p-%d\"", not, v, 1+w.n(2))}
	case 21:
		return []string{fmt.Sprintf("sum([n | some %s, n in data.level; %s%s]) %s %d", v, not, w.question(resource, v), w.pick("<", ">", "=="), w.n(6))}
	case 22:
		not = w.unlessV2(not)
		return []string{fmt.Sprintf("%s{l | some l in %s; %s} %s %s", not, w.list(), w.question(resource, "l"), w.pick("==", "!="), w.pick("granted", `{"a"}`, "set()"))}
	case 23:
		return []string{fmt.Sprintf("%s%q in {l | some l in %s; %s}", not, w.pick(labels...), w.list(), w.question(resource, "l"))}
	case 14, 15:
		if w.v2 {
			return []string{w.logical(resource, 2)}
		}
		return []string{not + w.question(resource, "")}
	}
	if len(w.rules) == 0 {
		return []string{not + w.question(resource, "")}
	}
	return w.reference(w.rules[w.n(len(w.rules))], resource, not, v)
}

// logical is an expression of rego.v2.
func (w *writer) logical(resource string, depth int) string {
	if depth == 0 {
		switch w.n(3) {
		case 0:
			return "{ " + w.clean() + " }"
		case 1:
			if i := slices.IndexFunc(w.rules, func(d declared) bool { return d.kind == "bool" }); i >= 0 {
				return w.rules[i].name
			}
		}
		return w.question(resource, "")
	}
	a, b := w.logical(resource, depth-1), w.logical(resource, depth-1)
	switch w.n(4) {
	case 0:
		return fmt.Sprintf("(%s and %s)", a, b)
	case 1:
		return fmt.Sprintf("(%s or %s)", a, b)
	case 2:
		return fmt.Sprintf("not (%s and %s)", a, b)
	}
	v := w.fresh("v")
	return fmt.Sprintf("not { some %s in %s; %s; (%s or %s) }", v, w.list(), w.question(resource, v), a, b)
}

// reference uses an earlier rule.
func (w *writer) reference(d declared, resource, not, v string) []string {
	label := w.pick(labels...)
	with := ""
	if w.chance(15) {
		with = w.pick(` with input.identity.claims as ["g3"]`, ` with input.identity as {"user": "u2", "claims": []}`, ` with data.grants as {"u1": ["d"]}`)
	}
	switch d.kind {
	case "bool":
		return []string{w.pick(not+d.name+with, not+d.name+with, fmt.Sprintf("%s := %s%s\n\t%s%s", v, d.name, with, not, v),
			fmt.Sprintf(`{"a": %s, "b": true}[%q]`, d.name, w.pick("a", "b")))}
	case "default":
		return []string{w.pick(not+d.name+with, fmt.Sprintf("%s%s == %s%s", not, d.name, w.pick("true", "false"), with),
			fmt.Sprintf(`{"a": %s, "b": true}[%q]`, d.name, w.pick("a", "b")))}
	case "level":
		return []string{w.pick(fmt.Sprintf("%s%s == %d%s", not, d.name, 1+w.n(3), with), fmt.Sprintf("%s%s in {1, 3}", not, d.name),
			d.name+" >= 2", not+d.name+with, fmt.Sprintf("%s := %s\n\tdata.level[%q] == %s", v, d.name, label, v))}
	case "set":
		return []string{w.pick(fmt.Sprintf("%scount(%s) == %d%s", not, d.name, w.n(3), with), fmt.Sprintf("%s%s == set()", not, d.name),
			d.name+" != set()", fmt.Sprintf("%s%s[%q]", not, d.name, label), fmt.Sprintf("%s%q in %s", not, label, d.name),
			not+d.name, fmt.Sprintf("some %s in %s\n\t%s", v, d.name, w.question(resource, v)), "some _ in "+d.name,
			fmt.Sprintf("%s == {%q}", d.name, label), d.name+"[_]", fmt.Sprintf("count(%s) > %d", d.name, w.n(2)),
			fmt.Sprintf("every %s in %s { %s }", v, d.name, w.question(resource, v)))}
	case "object":
		return []string{w.pick(fmt.Sprintf("%s%s[%q] == %d%s", not, d.name, label, 1+w.n(2), with), fmt.Sprintf("some %s, 1 in %s\n\t%s", v, d.name, w.question(resource, v)),
			fmt.Sprintf("count(%s) == %d", d.name, w.n(3)))}
	case "function":
		return []string{w.pick(fmt.Sprintf("%s%s(%s, %q)%s", not, d.name, resource, label, with),
			fmt.Sprintf("some %s in %s\n\t%s%s(%s, %s)", v, w.list(), not, d.name, resource, v))}
	}
	return []string{fmt.Sprintf("%s%s(%s, %q) == %d%s", not, d.name, resource, label, 1+w.n(2), with)}
}
