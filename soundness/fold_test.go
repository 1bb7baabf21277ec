package soundness

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"

	serving "github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/fold"
	"github.com/stagedoor/stagedoor/adapter/offline"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

var foldTrials = flag.Int("folded", 600, "how many trials (policy, two callers who fold together, permission) to run at least")

// TestFold draws policies and callers. Two callers who fold together must get the same answer from stock OPA for every
// permission, but for their own texts: what the answer for one says of some of its texts, that of the other says of as
// many others.
func TestFold(t *testing.T) {
	var policies, apart, none, trials, pairs, differ int
	for i := uint64(0); trials < *foldTrials; i++ {
		r := rand.New(rand.NewPCG(*seed, i))
		source := (&alikeGrammar{r: r, made: true}).draw()
		f, err := newFolded(t, source)
		if _, compiled := errors.AsType[ast.Errors](err); compiled {
			none++ // the grammar knows nothing of types
			continue
		}
		if err != nil {
			t.Fatalf("seed %d, policy %d: %v\n%s", *seed, i, err, source)
		}
		policies++
		if f.folder.Why() != "" {
			apart++
			continue
		}
		known := make(map[string]answersOf)
		for range 60 {
			c := foldedCaller(r)
			key, err := f.folder.Key(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			first, ok := known[key]
			if !ok {
				known[key] = answersOf{caller: c}
				continue
			}
			if first.texts == nil {
				first.texts = f.answers(t, first.caller)
				known[key] = first
			}
			got := f.answers(t, c)
			for n, p := range foldedPermissions {
				if got[n] != first.texts[n] {
					t.Fatalf("seed %d, policy %d, %+v:\n%+v: %s\n%+v: %s\nkey %s\n%s", *seed, i, p, first.caller,
						leftOver(first.texts[n], got[n]), c, leftOver(got[n], first.texts[n]), key, source)
				}
			}
			pairs++
			if fmt.Sprint(first.caller) != fmt.Sprint(c) {
				differ++
				trials += len(foldedPermissions)
			}
		}
	}
	t.Logf("%d policies, %d of them apart, and %d that do not compile; %d trials with %d pairs of callers, %d of them the same one",
		policies, apart, none, trials, differ, pairs-differ)
	if apart > policies*2/3 {
		t.Error("too little folds to show anything")
	}
}

// leftOver are the lines that one text has beside those of another.
func leftOver(text, other string) []string {
	others := strings.Split(other, "\n")
	return slices.DeleteFunc(strings.Split(text, "\n"), func(line string) bool {
		at := slices.Index(others, line)
		if at >= 0 {
			others = slices.Delete(others, at, at+1)
		}
		return at >= 0
	})
}

// answersOf are the answers to a caller, by permission; nil where nobody asked yet.
type answersOf struct {
	caller serving.Caller
	texts  []string
}

// foldedPermissions are those that callers are asked for.
var foldedPermissions = func() (all []wire.Permission) {
	for _, name := range []string{"catalog.entity.read", "a", "group:default/x1"} {
		for _, action := range []string{"read", "delete"} {
			all = append(all, wire.Permission{Name: name, Action: action, Resource: true, ResourceType: "catalog-entity"})
		}
	}
	return all
}()

// foldedTexts are those that callers have or that can be made of them, and some beside. None is another one in upper
// case, since rules of the catalog take some of these for the same.
var foldedTexts = []string{
	"group:default/admins", "group:default/web", "user:default/ann", "group:default/x1", "group:default/x2", "group:default/x3",
	"user:default/bob", "user:default/carl", "group:default/all", "a", "b", "", "catalog.entity.read", "group:default/contractors", "group:default/y1",
	"group:default/y2", "group:default/y3", "group:default/y4", "group:default/y5", "admin", "reader", "x1", "x2", "default", "web", "bob",
	"carl", "x", "c", "api", "plugin:catalog", "group:default/admins,x",
}

// foldedCaller is a drawn caller, mostly one in lower case: others fold with nobody.
func foldedCaller(r *rand.Rand) serving.Caller {
	c := drawnCaller(r)
	if r.IntN(8) == 0 {
		return c
	}
	c.User = strings.ToLower(c.User)
	for i := range c.Claims {
		c.Claims[i] = strings.ToLower(c.Claims[i])
	}
	return c
}

// folded is a policy of which callers are folded, and the same in stock OPA.
type folded struct {
	folder *fold.Folder
	stock  *stockAlike
}

func newFolded(t *testing.T, source string) (*folded, error) {
	t.Helper()
	stock, err := newStockAlike(t, source)
	if err != nil {
		return nil, err
	}
	dir := t.TempDir()
	defer func() { _ = os.RemoveAll(dir) }()
	for name, text := range map[string]string{
		".manifest": `{"roots": ["p", "roles", "lists", "parents"]}`, "data.json": alikeData, "policy.rego": "package p\n\n" + source,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	p, err := offline.Open(t.Context(), dir, offline.Options{Entrypoint: "p/decision"})
	if err != nil {
		return nil, err
	}
	defer func() { _ = p.Close(t.Context()) }()
	texts := []any{"api", "component", "a", "none", "group:default/web"} // of the entities
	for _, of := range foldedPermissions {
		texts = append(texts, of.Name, of.Action, of.ResourceType, "resource")
	}
	folder, err := fold.New(t.Context(), texts, p)
	return &folded{folder, stock}, err
}

// answers are what stock OPA answers a caller, by permission: for each text there is, how the answer treats it. They
// are sorted, so that it does not matter which text it is.
func (f *folded) answers(t *testing.T, c serving.Caller) []string {
	t.Helper()
	var all []string
	for _, p := range foldedPermissions {
		input := serving.Input(p, serving.Identity(c))
		treated := make([]string, len(foldedTexts))
		if f.stock.about {
			for i, text := range foldedTexts {
				treated[i] = f.aboutText(t, input, text)
			}
		} else {
			document := f.ask(t, input)
			for i, text := range foldedTexts {
				treated[i] = compact(withoutTexts(document, text))
			}
		}
		slices.Sort(treated)
		all = append(all, strings.Join(treated, "\n"))
	}
	return all
}

// aboutText is what the policy answers of some entities that have a text in all the places that rules look at.
func (f *folded) aboutText(t *testing.T, input ast.Object, text string) string {
	t.Helper()
	var said strings.Builder
	for _, entity := range []map[string]any{
		entityOf("api", "none", text), entityOf("component", "a", text), entityOf("api", text, "group:default/web"),
	} {
		whole := ast.NewObject()
		input.Foreach(whole.Insert)
		whole.Insert(ast.StringTerm("resource"), ast.NewTerm(ast.MustInterfaceToValue(entity)))
		fmt.Fprint(&said, f.ask(t, whole), " ")
	}
	return said.String()
}

// ask is what stock OPA answers, nil where it fails or where nothing is defined.
func (f *folded) ask(t *testing.T, input ast.Object) any {
	t.Helper()
	results, err := f.stock.query.Eval(t.Context(), rego.EvalParsedInput(input))
	if err != nil || len(results) == 0 {
		return nil
	}
	return results[0].Expressions[0].Value
}

// withoutTexts is an answer in which one text has a mark, all others of a caller have another one, and the order of
// lists makes no difference.
func withoutTexts(v any, marked string) any {
	switch v := v.(type) {
	case string:
		switch {
		case v == marked:
			return "this"
		case slices.Contains(foldedTexts, v):
			return "another"
		}
	case []any:
		texts := make([]string, len(v))
		for i, element := range v {
			texts[i] = compact(withoutTexts(element, marked))
		}
		slices.Sort(texts)
		return texts
	case map[string]any:
		without := make(map[string]any, len(v))
		for name, member := range v {
			without[name] = withoutTexts(member, marked)
		}
		return without
	}
	return v
}

// readsMade is a condition on what a rule makes of the caller alone. Read where the permission counts as well, its
// value is what callers are folded by.
func (g *alikeGrammar) readsMade(depth int) string {
	c, v := g.name("c"), g.name("v")
	list := g.list(depth)
	switch g.r.IntN(10) {
	case 0:
		roles := g.rule(" contains %s if {\n\tsome %s in %s\n\tsome %s in data.roles[%s]\n}", v, c, list, v, c)
		return fmt.Sprintf(g.pick(`"admin" in %s`, `%s[input.permission.name]`, `count(%s) == 1`,
			"some x in %s\n\tdata.lists.grants[x] == input.permission.attributes.action", "some x in %s\n\tnot data.lists.grants[x]"), roles)
	case 1:
		record := g.rule(` := {"user": input.identity.user, "claims": %s, "a": %s}`, list, g.pick(`"a"`, `"x"`, "count(input.identity.claims)"))
		return fmt.Sprintf(g.pick("some x in %s.claims\n\tx == input.permission.name", "%[1]s.user in %[1]s.claims", `%s[_] == "a"`,
			`"group:default/web" in %s.claims`, "count(%s.claims) == 2", `%s[input.permission.name]`, `walk(%s, [["claims", _], "group:default/web"])`), record)
	case 2:
		pairs := g.rule(" contains [%s, %s] if {\n\tsome %s in %s\n\tsome %s in %s\n}", c, v, c, list, v,
			g.pick(fmt.Sprintf("data.roles[%s]", c), g.list(0), "["+c+"]", `["a", "group:default/web"]`))
		return fmt.Sprintf(g.pick(`some [x, "admin"] in %s`, "some [x, y] in %s\n\tx == y", "some [x, y] in %s\n\tx == input.permission.name\n\ty != x",
			"some [x, y] in %s\n\tx == \"group:default/web\"\n\ty in data.lists.admins", "count(%s) == 2", `[input.permission.name, "a"] in %s`), pairs)
	case 3:
		keyed := g.rule("[%s] := %s if some %s in %s", c,
			g.pick("true", "lower("+c+")", fmt.Sprintf("data.roles[%s]", c), "input.identity.user", `"a"`, "count("+c+")", "["+c+"]"), c, list)
		return fmt.Sprintf(g.pick("%s[input.permission.name]", `%s["a"]`, "some x, y in %s\n\tx == y", "count(%s) == 1", `%s[_] == "a"`, `%s[_][_] == "reader"`,
			"some x in object.keys(%s)\n\tx == \"group:default/web\""), keyed)
	case 4:
		records := g.rule(` := [{"of": %s, "as": %s} | some %s in %s]`, c, g.pick(c, `"a"`, "input.identity.user", "lower("+c+")", "data.roles["+c+"][_]"), c, list)
		return fmt.Sprintf(g.pick("some x in %s\n\tx.of == x.as", "some x in %s\n\tx.of == input.permission.name\n\tx.as == \"a\"",
			"some x in %s\n\tx.as == \"admin\"\n\tx.of != \"group:default/admins\"", "count(%s) == 1", `%s[_].of == "group:default/web"`), records)
	case 5:
		looked := g.rule(g.pick(` := [c | some c in %s; startswith(c, "group:")]`, ` := count(%s)`, ` := sort(%s)`, ` contains upper(c) if some c in %s`,
			" contains y if {\n\tsome x in %s\n\tsome y in split(x, \"/\")\n}", ` := concat(",", %s)`, ` := min(%s)`), g.list(0))
		return fmt.Sprintf(g.pick("%s == input.permission.name", `%s[_] == "x1"`, `%s == ["group:default/web"]`, "%s == 2", `"x1" in %s`, `%s == "a"`,
			"is_string(%s)", "%s[_] == input.permission.name"), looked)
	case 6:
		either := g.rule(" := {%s} if {\n\t%s\n} else := [%s] if {\n\t%s\n} else := %s", g.pick(`"a"`, "input.identity.user"), g.condition(depth),
			g.pick(`"a"`, "input.identity.user"), g.condition(0), g.pick(`{"a": true}`, `{"a"}`, "null", "false"))
		return fmt.Sprintf(g.pick("is_set(%s)", `"a" in %s`, "%s[_] == input.identity.user", "count(%s) == 1", `%s["a"]`, "is_array(%s)", "%s[_] == input.permission.name"), either)
	case 7:
		sets := g.rule(" contains {%s, %s} if some %s in %s", c, g.pick("input.identity.user", `"a"`, c), c, list)
		return fmt.Sprintf(g.pick("some x in %s\n\tcount(x) == 1", "some x in %s\n\tinput.permission.name in x", "count(%s) == 2", `some x in %s; "group:default/web" in x`), sets)
	}
	if g.r.IntN(2) == 0 {
		return fmt.Sprintf(g.pick("%[1]s in %[2]s", "%[2]s[_] == %[1]s", "object.get({x: true | some x in %[2]s}, %[1]s, false)",
			"count({x | some x in %[2]s} & {%[1]s}) == 1", "some x in %[2]s\n\t{%[1]s: true}[x]", "some x in {%[1]s, \"a\"}\n\tx in %[2]s",
			"some x in %[2]s\n\tcount({x, %[1]s}) == 1", "is_string(%[1]s)\n\tcount(%[2]s) == 2", "%[1]s == \"group:default/y2\"\n\t\"a\" in %[2]s"),
			g.anew(), list)
	}
	nested := g.rule(` := {"a": {"a": %s, "b": {%s: true}}}`, list, g.pick("input.identity.user", `"a"`))
	return fmt.Sprintf(g.pick("%s.a.a[_] == input.permission.name", "%s.a.b[input.identity.user]", `%s[_][_][_] == "group:default/web"`, `%s.a.b["a"]`,
		"some k, x in %s.a\n\tcount(x) == 1", "%s.a.b[input.permission.name]"), nested)
}

// anew is a text that the policy makes of texts which are nobody's. Callers may have it, and neither source nor data do.
func (g *alikeGrammar) anew() string {
	return g.pick(`sprintf("group:default/y%d", [count(input.permission.attributes.action) - 2])`, `concat("/", ["group:default", "x2"])`,
		`trim_suffix("group:default/x33", "3")`, `replace(input.permission.name, "catalog.entity.read", "group:default/x2")`,
		`split("group:default/x3 a", " ")[0]`, `$"group:default/y{count(input.permission.attributes.action)}"`,
		`concat("", sort(["up:default/y1", "gro"]))`)
}
