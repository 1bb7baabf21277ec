package soundness

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/rogpeppe/go-internal/txtar"
	"github.com/sirupsen/logrus"

	"github.com/stagedoor/stagedoor/adapter/criteria"
	serving "github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/engine"
	"github.com/stagedoor/stagedoor/adapter/supply"
	"github.com/stagedoor/stagedoor/adapter/vetted"
	"github.com/stagedoor/stagedoor/adapter/wire"
	library "github.com/stagedoor/stagedoor/rego"
)

var alikeTrials = flag.Int("alike", 4000, "how many trials (policy, caller, permission) to run at least of policies whose decisions callers share")

// TestAlike draws policies of which many ask more of a caller than which of the policy's
// own texts the claims are. It asks each as it serves, where callers who are alike share
// decisions, and compares with stock OPA over the whole input of each caller.
func TestAlike(t *testing.T) {
	run := newAlikeRun(t)
	times := max(60, *alikeTrials/2500)
	for i := uint64(0); run.trials < *alikeTrials; i++ {
		r := rand.New(rand.NewPCG(*seed, i))
		source := (&alikeGrammar{r: r}).draw()
		if err := run.policy(t, r, source, times); err != nil {
			t.Fatalf("seed %d, policy %d: %v\n%s", *seed, i, err, source)
		}
	}
	t.Logf("%v", run)
	if run.shared < run.trials/4 {
		t.Error("too little is shared to show anything")
	}
}

// TestAlikePolicies does so with policies of one construct each, those included whose
// decisions are not shared: were one of them, this would show why it must not be.
func TestAlikePolicies(t *testing.T) {
	all, err := txtar.ParseFile("../adapter/alike/flow/testdata/policies.txtar")
	if err != nil {
		t.Fatal(err)
	}
	run := newAlikeRun(t)
	for i, file := range all.Files {
		r := rand.New(rand.NewPCG(*seed, uint64(i)))
		if err := run.policy(t, r, string(file.Data), 200); err != nil {
			t.Errorf("%s: %v\n%s", file.Name, err, file.Data)
		}
	}
	t.Logf("%v", run)
}

// alikeRun counts.
type alikeRun struct {
	answers                                                    *entityAnswers
	policies, apart, none, trials, shared, conditional, failed int
}

func newAlikeRun(t *testing.T) *alikeRun {
	return &alikeRun{answers: &entityAnswers{newLeafEvaluator(t), map[entityQuestion]bool{}}}
}

func (r *alikeRun) String() string {
	return fmt.Sprintf("%d policies, %d of them apart, and %d that do not compile; %d trials, %d of them answered as somebody alike was; %d conditional, %d failed",
		r.policies, r.apart, r.none, r.trials, r.shared, r.conditional, r.failed)
}

// policy asks a policy so many times.
func (r *alikeRun) policy(t *testing.T, random *rand.Rand, source string, times int) error {
	t.Helper()
	dir := t.TempDir()
	defer func() { _ = os.RemoveAll(dir) }()
	stock, err := newStockAlike(t, source)
	if _, compiled := errors.AsType[ast.Errors](err); compiled {
		r.none++ // the grammar knows nothing of types
		return nil
	}
	if err != nil {
		return err
	}
	decides, err := serveAlike(t, dir, source)
	if err != nil {
		return err
	}
	defer decides.Close()
	state, err := decides.State()
	if err != nil {
		return err
	}
	r.policies++
	shared := state.Alike() != nil
	if !shared {
		r.apart++
		times = min(times, 40)
	}
	before := drawnPermission(random)
	for range times {
		caller, permission := drawnCaller(random), drawnPermission(random)
		batch, err := decides.Decide(t.Context(), caller, []wire.Permission{permission})
		if err != nil {
			return err
		}
		o := batch.Outcomes[0]
		if err := stock.compare(t, r.answers, caller, permission, o); err != nil {
			return fmt.Errorf("%+v asks for %+v, shared %t: %w", caller, permission, shared, err)
		}
		if !shared {
			continue // it is no trial of this, and yet it has to be right
		}
		// The second time it is known of the caller, or of the caller's kind.
		again, err := decides.Decide(t.Context(), caller, []wire.Permission{before, permission})
		if err != nil {
			return err
		}
		if got := again.Outcomes[1]; got.Decision.Text() != o.Decision.Text() || got.Reason != o.Reason || (got.Err != nil) != (o.Err != nil) {
			return fmt.Errorf("%+v asks for %+v: got %s, and %s when asked again", caller, permission, o.Decision.Text(), got.Decision.Text())
		}
		before = permission
		r.trials++
		switch {
		case o.Err != nil:
			r.failed++
		case o.Decision.Result == wire.Conditional:
			r.conditional++
		}
		if o.Remembered {
			r.shared++
		}
	}
	return nil
}

// alikeData are the data of all these policies.
const alikeData = `{
	"roles": {"group:default/admins": ["admin"], "group:default/web": ["developer", "reader"], "User:Default/Ann": ["reader"], "user:default/ann": ["reader"]},
	"lists": {
		"admins": ["group:default/admins", "Group:Default/Web"], "required": ["group:default/web", "group:default/admins"],
		"first": 0, "path": ["c", 0], "names": ["a", "b"], "grants": {"admin": "read", "reader": "delete"}
	},
	"parents": {"group:default/web": ["group:default/all"], "group:default/all": [], "user:default/ann": ["group:default/web"]}
}`

func serveAlike(t *testing.T, dir, source string) (*engine.Engine, error) {
	t.Helper()
	for name, text := range map[string]string{
		".manifest": `{"roots": ["p", "roles", "lists", "parents"]}`, "data.json": alikeData, "policy.rego": "package p\n\n" + source,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	log := logrus.New()
	log.SetOutput(io.Discard)
	modules := map[string]string{}
	if strings.Contains(source, "data.backstage") {
		modules = library.Modules()
	}
	vetter, err := vetted.New(vetted.Options{Entrypoint: "p/decision", Library: modules})
	if err != nil {
		return nil, err
	}
	policies := supply.New(supply.Options{Path: dir}, vetter, logrus.NewEntry(log))
	if _, err := policies.Load(t.Context()); err != nil {
		return nil, err
	}
	return engine.New(engine.Options{}, policies.Serving, logrus.NewEntry(log))
}

// stockAlike is the policy in stock OPA.
type stockAlike struct {
	query rego.PreparedEvalQuery
	about bool // the resource
}

func newStockAlike(t *testing.T, source string) (*stockAlike, error) {
	t.Helper()
	compiler := ast.NewCompiler()
	module, err := ast.ParseModuleWithOpts("policy.rego", "package p\n\n"+source, ast.ParserOptions{ProcessAnnotation: true})
	if err != nil {
		return nil, err
	}
	modules := map[string]*ast.Module{"policy.rego": module}
	about := strings.Contains(source, "data.backstage")
	if about {
		for name, m := range parsedLibrary() {
			modules[name] = m
		}
	}
	if compiler.Compile(modules); compiler.Failed() {
		return nil, compiler.Errors
	}
	query, err := rego.New(rego.Query("data.p.decision"), rego.Compiler(compiler), rego.Store(inmem.NewFromObject(decodeObject(alikeData))),
		rego.StrictBuiltinErrors(true)).PrepareForEval(t.Context())
	return &stockAlike{query: query, about: about}, err
}

// alikeEntities are what a policy about the resource is asked about.
var alikeEntities = []map[string]any{
	entityOf("api", "a", "group:default/x1", "group:default/admins"),
	entityOf("component", "group:default/web", "user:default/ann"),
	entityOf("component", "user:default/bob", "group:default/web"),
	entityOf("api", "b", "user:default/bob"),
	entityOf("component", "a", "group:default/x2", "group:default/x3"),
	entityOf("component", "a"),
}

func entityOf(kind, label string, owners ...string) map[string]any {
	var relations []any
	for _, owner := range owners {
		relations = append(relations, map[string]any{"type": "ownedBy", "targetRef": owner})
	}
	return map[string]any{
		"kind": kind, "metadata": map[string]any{"name": "n", "labels": map[string]any{label: "x"}}, "relations": relations,
	}
}

// entityAnswers are the rules of the library, with what they answered of an entity of alikeEntities.
type entityAnswers struct {
	leaves leafEvaluator
	known  map[entityQuestion]bool
}

type entityQuestion struct {
	rule   criteria.Rule
	entity int
}

func (a *entityAnswers) holds(t *testing.T, rule criteria.Rule, entity int) bool {
	t.Helper()
	key := entityQuestion{rule, entity}
	holds, known := a.known[key]
	if !known {
		var err error
		if holds, err = a.leaves.holds(t.Context(), rule, ast.NewTerm(ast.MustInterfaceToValue(alikeEntities[entity]))); err != nil {
			t.Fatal(err)
		}
		if len(a.known) > 100_000 {
			clear(a.known)
		}
		a.known[key] = holds
	}
	return holds
}

// compare holds an outcome against stock OPA.
func (s *stockAlike) compare(t *testing.T, answers *entityAnswers, caller serving.Caller, p wire.Permission, o *serving.Outcome) error {
	t.Helper()
	input := serving.Input(p, serving.Identity(caller))
	if s.about {
		for n, entity := range alikeEntities {
			whole := ast.NewObject()
			input.Foreach(whole.Insert)
			whole.Insert(ast.StringTerm("resource"), ast.NewTerm(ast.MustInterfaceToValue(entity)))
			results, err := s.query.Eval(t.Context(), rego.EvalParsedInput(whole))
			if _, failed := errors.AsType[*topdown.Error](err); failed && (o.Err != nil || len(o.Excluded) > 0) {
				return nil //nolint:nilerr // it fails, or without the branch that fails
			}
			if err != nil {
				return err
			}
			got := o.Decision.Result == wire.Allow || o.Decision.Result == wire.Conditional && o.Decision.Conditions.Eval(func(rule criteria.Rule) bool {
				return answers.holds(t, rule, n)
			})
			if o.Err != nil || got != results.Allowed() {
				return fmt.Errorf("of %v: got %s, %w, want %t", entity, o.Decision.Text(), o.Err, results.Allowed())
			}
		}
		return nil
	}
	results, err := s.query.Eval(t.Context(), rego.EvalParsedInput(input))
	want, reason := wire.Decision{}, ""
	if err == nil && len(results) > 0 {
		want, reason, err = wire.ParseDecision(results[0].Expressions[0].Value)
	} else if _, failed := errors.AsType[*topdown.Error](err); err != nil && !failed {
		return err
	}
	switch {
	case (err != nil) != (o.Err != nil):
		return fmt.Errorf("got %s, %w, want %s, %w", o.Decision.Text(), o.Err, want.Text(), err)
	case err != nil:
		return nil //nolint:nilerr // both fail
	case asSets(o.Decision) != asSets(want) || o.Reason != reason:
		return fmt.Errorf("got %s %q, want %s %q", o.Decision.Text(), o.Reason, want.Text(), reason)
	}
	return nil
}

// asSets is a decision in which the order of lists, and repetitions, make no difference.
func asSets(d wire.Decision) string {
	var document any
	if err := json.Unmarshal([]byte(d.Text()), &document); err != nil {
		panic(err)
	}
	return compact(sorted(document))
}

func sorted(v any) any {
	switch v := v.(type) {
	case []any:
		texts := make([]string, len(v))
		for i, element := range v {
			texts[i] = compact(sorted(element))
		}
		slices.Sort(texts)
		return slices.Compact(texts)
	case map[string]any:
		for key, member := range v {
			v[key] = sorted(member)
		}
	}
	return v
}

// drawnCaller is a caller with texts of the policy, of its data, of the permission, and of
// none of these.
func drawnCaller(r *rand.Rand) serving.Caller {
	if r.IntN(40) == 0 {
		return serving.Caller{Anonymous: true}
	}
	texts := []string{
		"group:default/admins", "group:default/web", "Group:Default/Web", "GROUP:DEFAULT/ADMINS", "user:default/ann", "User:Default/Ann",
		"group:default/contractors", "0", "1", "01", "2", "group:default/x1", "group:default/x2", "Group:Default/X3", "group:default/x3", "user:default/bob",
		"User:Default/Bob", "group:default/all", "a", "b", "api", "", "catalog.entity.read", "plugin:catalog", "group:default/admins,x", "x", "group:default/x2",
	}
	c := serving.Caller{User: one(r, "user:default/ann", "User:Default/Ann", "user:default/bob", "User:Default/Bob", "user:default/carl", "a")}
	if r.IntN(3) > 0 {
		c.Claims = append(c.Claims, c.User)
	}
	for range r.IntN(5) {
		c.Claims = append(c.Claims, one(r, texts...))
	}
	r.Shuffle(len(c.Claims), func(i, j int) { c.Claims[i], c.Claims[j] = c.Claims[j], c.Claims[i] })
	if r.IntN(4) == 0 {
		c.Actor = one(r, "plugin:catalog", "group:default/x1")
	}
	return c
}

func drawnPermission(r *rand.Rand) wire.Permission {
	return wire.Permission{
		Name: one(r, "catalog.entity.read", "a", "group:default/x1"), Action: one(r, "read", "delete"), Resource: true, ResourceType: "catalog-entity",
	}
}

// alikeGrammar draws policies.
type alikeGrammar struct {
	r     *rand.Rand
	rules []string
	n     int
	made  bool // whether to draw rules that make something of the caller, to be read where the permission counts
}

func (g *alikeGrammar) pick(s ...string) string { return one(g.r, s...) }

func (g *alikeGrammar) name(prefix string) string {
	g.n++
	return fmt.Sprintf("%s%d", prefix, g.n)
}

// rule adds a rule, whose text begins with the name, and returns the name.
func (g *alikeGrammar) rule(format string, args ...any) string {
	name := g.name("rule")
	g.rules = append(g.rules, name+fmt.Sprintf(format, args...))
	return name
}

func (g *alikeGrammar) draw() string {
	g.rules = nil
	var heads []string
	if g.r.IntN(3) == 0 { // about the resource
		for range 1 + g.r.IntN(3) {
			heads = append(heads, fmt.Sprintf("decision if {\n\t%s\n\t%s\n}", g.condition(2), g.about()))
		}
		return "import data.backstage.catalog\n\ndefault decision := false\n\n" + strings.Join(append(heads, g.rules...), "\n\n") + "\n"
	}
	if g.r.IntN(2) == 0 {
		heads = append(heads, fmt.Sprintf("decision if {\n\t%s\n\t%s\n}", g.condition(3), g.condition(2)))
	} else {
		heads = append(heads, fmt.Sprintf("decision := %s if {\n\t%s\n} else := %s if {\n\t%s\n} else := {\"result\": \"DENY\", \"reason\": %s}",
			g.document(), g.condition(2), g.document(), g.condition(2), g.pick(`"no"`, "input.identity.user", "lower(input.identity.user)")))
	}
	return strings.Join(append(heads, g.rules...), "\n\n") + "\n"
}

// about is a question about the resource.
func (g *alikeGrammar) about() string {
	not := g.pick("", "", "", "not ")
	switch g.r.IntN(8) {
	case 0:
		return not + `catalog.is_entity_kind(input.resource, {"kinds": ["api"]})`
	case 1:
		return not + fmt.Sprintf("catalog.has_label(input.resource, {\"label\": %s})", g.pick(`"a"`, `"b"`, "input.identity.user"))
	case 2:
		return fmt.Sprintf("some c in %s\n\tcatalog.has_label(input.resource, {\"label\": c})", g.list(1)) // of one claim
	case 3:
		return fmt.Sprintf("some ref in data.lists.admins\n\tref in %s\n\t%scatalog.is_entity_owner(input.resource, {\"claims\": [ref]})", g.list(1), not)
	}
	return not + fmt.Sprintf("catalog.is_entity_owner(input.resource, {\"claims\": %s})", g.list(2))
}

func (g *alikeGrammar) document() string {
	if g.r.IntN(3) == 0 {
		return g.pick(`{"result": "ALLOW"}`, `{"result": "ALLOW", "reason": input.identity.user}`, `{"result": "DENY"}`)
	}
	return fmt.Sprintf(`{"result": "CONDITIONAL", "pluginId": "catalog", "resourceType": "catalog-entity", "conditions": %s}`, g.conditions(2))
}

func (g *alikeGrammar) conditions(depth int) string {
	leaf := func(params string) string {
		return fmt.Sprintf(`{"rule": "R", "resourceType": "catalog-entity", "params": %s}`, params)
	}
	switch n := g.r.IntN(12); {
	case n == 0 && depth > 0:
		return fmt.Sprintf(`{"not": %s}`, g.conditions(depth-1))
	case n <= 2 && depth > 0:
		return fmt.Sprintf(`{%q: [%s, %s]}`, g.pick("anyOf", "allOf"), g.conditions(depth-1), g.conditions(depth-1))
	case n == 3:
		return leaf(fmt.Sprintf(`{"label": %s}`, g.pick("input.identity.user", "lower(input.identity.user)", `"a"`)))
	case n == 4:
		return fmt.Sprintf(`{"anyOf": [%s | some c in %s]}`, leaf(g.pick(`{"label": c}`, `{"l": [c]}`, `{"l": "x"}`)), g.list(1))
	case n == 5:
		return leaf(fmt.Sprintf(`{"n": count(%s)}`, g.list(1)))
	case n == 6:
		name := g.rule(" contains %s if {\n\t%s\n}", leaf(fmt.Sprintf(`{"claims": %s}`, g.list(1))), g.condition(1))
		return fmt.Sprintf(`{"anyOf": [c | some c in %s]}`, name)
	case n == 7:
		return fmt.Sprintf(`json.patch({"anyOf": [%s]}, [{"op": "replace", "path": "anyOf/0/params", "value": {"claims": %s, "u": [input.identity.user]}}])`,
			leaf("{}"), g.list(1))
	case n == 8:
		return leaf(fmt.Sprintf(`{"claims": %s, "also": %s}`, g.list(2), g.set(1)))
	}
	return leaf(fmt.Sprintf(`{"claims": %s}`, g.list(2)))
}

// hostile is once in a while: a construct that asks more of the caller.
func (g *alikeGrammar) hostile() bool { return g.r.IntN(30) == 0 }

// list is an expression for a list of claims.
func (g *alikeGrammar) list(depth int) string {
	if depth == 0 {
		return g.pick("input.identity.claims", "input.identity.claims", `object.get(input.identity, "claims", [])`)
	}
	if g.hostile() {
		return fmt.Sprintf(g.pick("sort(%s)", "array.slice(%s, 0, 1)", "array.reverse(%s)", `[upper(c) | some c in %s]`,
			`[trim_prefix(c, "group:") | some c in %s]`, `[c | some i, c in %s; i == 0]`), g.list(depth-1))
	}
	v := g.name("c")
	switch g.r.IntN(9) {
	case 0:
		return fmt.Sprintf("[lower(%s) | some %s in %s]", v, v, g.list(depth-1))
	case 1:
		return fmt.Sprintf("[%s | some %s in %s; %s]", v, v, g.list(depth-1), g.of(v))
	case 2:
		return fmt.Sprintf(`array.concat(%s, ["group:default/web"])`, g.list(depth-1))
	case 3:
		return g.rule(" := %s", g.list(depth-1))
	case 4:
		return fmt.Sprintf("[%s | some %s in %s]", v, v, g.set(depth-1))
	case 5:
		return fmt.Sprintf("[%s | some x in [%s, [%s]]; some %s in x]", v, g.list(depth-1), g.pick(`"a"`, "input.identity.user"), v)
	case 6:
		return g.set(depth - 1)
	}
	return g.list(0)
}

// set is an expression for a set with claims.
func (g *alikeGrammar) set(depth int) string {
	v := g.name("c")
	switch g.r.IntN(6) {
	case 0:
		return fmt.Sprintf("{lower(%s) | some %s in %s}", v, v, g.list(max(depth-1, 0)))
	case 1:
		return fmt.Sprintf("({input.identity.user} | {%s | some %s in %s})", v, v, g.list(max(depth-1, 0)))
	case 2:
		return fmt.Sprintf("({%s | some %s in %s} - {x | some x in data.lists.admins})", v, v, g.list(0))
	case 3:
		return g.rule(" contains %s if some %s in %s", g.pick(v, "lower("+v+")"), v, g.list(max(depth-1, 0)))
	}
	return fmt.Sprintf("{%s | some %s in %s}", v, v, g.list(max(depth-1, 0)))
}

func (g *alikeGrammar) text() string {
	return g.pick(`"group:default/admins"`, `"group:default/web"`, `"user:default/ann"`, `"a"`, `lower("Group:Default/Web")`)
}

// of is a condition on one claim.
func (g *alikeGrammar) of(v string) string {
	if g.hostile() {
		return fmt.Sprintf(g.pick(`startswith(%s, "group:")`, "%s == input.permission.name", "%s == input.identity.user", `contains(%s, "x")`,
			"%s == concat(\"/\", [\"group:default\", \"x1\"])", "%[1]s == lower(%[1]s)", "%s < \"m\"", "%s == upper(\"a\")", "count(%s) > 3",
			"%s == input.identity.actor"), v)
	}
	switch g.r.IntN(9) {
	case 0:
		return fmt.Sprintf("%s != %s", v, g.text())
	case 1:
		return v + " in data.lists.admins"
	case 2:
		return fmt.Sprintf("not %s in data.lists.admins", v)
	case 3:
		return fmt.Sprintf("data.roles[%s][_] == %s", v, g.pick(`"admin"`, `"reader"`))
	case 4:
		return fmt.Sprintf("not data.roles[%s]", v)
	case 5:
		return fmt.Sprintf("%s(%s) == %s", g.rule("(x) := lower(x)"), v, g.text())
	case 6:
		return fmt.Sprintf("%s(%s)", g.rule("(x) if x in {%s, %s}", g.text(), g.text()), v)
	}
	return fmt.Sprintf("%s == %s", v, g.text())
}

// condition is one on the caller.
func (g *alikeGrammar) condition(depth int) string {
	if g.made && g.r.IntN(3) == 0 {
		return g.readsMade(max(depth-1, 0))
	}
	if depth == 0 {
		return g.pick("true", "input.identity", `input.permission.attributes.action == "read"`)
	}
	v := g.name("c")
	if g.hostile() {
		return fmt.Sprintf(g.pick("count(%s) == 2", "count(%s) > 1", `%s == ["a"]`, "input.identity.user in %s", "input.permission.name in %s",
			`object.get({"c": %s}, data.lists.path, "") == "a"`, `concat(",", %s) == "a"`, "count({c: 1 | some c in %s}) == 1",
			`{c: c | some c in %s}["a"] == "a"`, `json.marshal(%s) == "[]"`, "input.identity.claims[data.lists.first] in %s",
			"count({l | some c in %s; l := data.roles[c]}) == 1", "{\"x\": c | some c in %s}.x", "sum([1 | some c in %s; c != \"a\"]) == 1"), g.list(1))
	}
	switch g.r.IntN(14) {
	case 0:
		return fmt.Sprintf("%s in %s", g.text(), g.list(depth-1))
	case 1:
		return fmt.Sprintf("%s in %s", g.text(), g.set(depth-1))
	case 2:
		return fmt.Sprintf("some %s in %s\n\t%s", v, g.list(depth-1), g.of(v))
	case 3:
		return fmt.Sprintf("every %s in %s { %s }", v, g.list(depth-1), g.of(v))
	case 4:
		return fmt.Sprintf("count(%s) %s", g.set(depth-1), g.pick("> 0", "== 0", "!= 0", ">= 1", "< 1"))
	case 5:
		return fmt.Sprintf("count({x | some x in data.lists.required} - %s) %s", g.set(depth-1), g.pick("== 0", "== 1", "< 2"))
	case 6:
		return fmt.Sprintf("count(%s & {x | some x in data.lists.admins}) == %s", g.set(depth-1), g.pick("0", "1", "2"))
	case 7:
		return "not " + g.rule(" if {\n\t%s\n}", g.condition(depth-1))
	case 8:
		return fmt.Sprintf("input.identity.user %s %s", g.pick("==", "!="), g.text())
	case 9:
		return fmt.Sprintf("count(%s) == %s", g.rule(" contains x if {\n\tsome y in %s\n\tsome x in data.roles[y]\n}", g.list(depth-1)), g.pick("1", "2"))
	case 10:
		return fmt.Sprintf("%s in graph.reachable(data.parents, %s)", g.text(), g.pick(g.list(depth-1), g.set(depth-1)))
	case 11:
		return fmt.Sprintf("%s[%s]", g.rule("[x] := %s if some x in %s", g.pick("true", "1"), g.list(depth-1)), g.text())
	case 12:
		return fmt.Sprintf("%s == %s", g.rule(" := %s if {\n\t%s\n} else := %s", g.pick("1", `"a"`), g.condition(depth-1), g.pick("2", `"a"`)), g.pick("1", "2", `"a"`))
	}
	return fmt.Sprintf("%s[_] == %s", g.list(depth-1), g.text())
}
