package explore

import (
	"context"
	"errors"
	"maps"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/adapter/criteria"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

func mustCompile(t tb, policy string) *Policy {
	t.Helper()
	p, err := compile(t, policy)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestShapes counts what the shapes cost that are quadratic or worse when they are
// explored naively. Counts do not depend on the machine, as the benchmark does.
func TestShapes(t *testing.T) {
	for _, s := range shapes {
		t.Run(s.name, func(t *testing.T) {
			r, err := mustCompile(t, s.policy).Decide(t.Context(), newQuery(t, s.input, "{}"))
			if err != nil {
				t.Fatal(err)
			}
			if r.Evaluations > s.evaluations || leaves(r.Criteria) > s.leaves {
				t.Errorf("%d evaluations and %d leaves, want at most %d and %d",
					r.Evaluations, leaves(r.Criteria), s.evaluations, s.leaves)
			}
		})
	}
}

// TestLimits refuses what is beyond the bounds and says of what there is too much.
func TestLimits(t *testing.T) {
	for name, test := range map[string]struct {
		policy, input string
		limits        Limits
		want          string
	}{
		"branches": {
			policy: header + `
allow if sum([n |
	some g, n in {"a": 1, "b": 2, "c": 3, "d": 4}
	catalog.has_label(input.resource, {"label": g})
]) in {3, 7}`,
			limits: Limits{Branches: 5},
			want: `policy.rego:6: sum([n | some g, n in {"a": 1, "b": 2, "c": 3, "d": 4} ` +
				`catalog.has_label(input.resource, {"label": g}) ]) in {3, 7}: ` +
				`the decision takes more than 5 evaluations to explore this; asked are HAS_LABEL (4)`,
		},
		"branches of a rule": {
			policy: header + `
score := n if {
	n := sum([1 | some g in ["a", "b", "c", "d"]; catalog.has_label(input.resource, {"label": g})])
}

allow if score in {2, 4}`,
			limits: Limits{Branches: 5},
			want: `policy.rego:6: data.authz.score: the decision takes more than 5 evaluations to explore this; ` +
				`asked are HAS_LABEL (4)`,
		},
		"questions": {
			policy: teams,
			input:  input(50),
			limits: Limits{Questions: 40},
			want: `policy.rego:8: catalog.has_label(input.resource, {"label": "team", "value": g}): ` +
				`the decision takes more than 40 questions; asked are HAS_LABEL (40)`,
		},
		"answers": {
			policy: teams,
			input:  input(50),
			limits: Limits{Answers: 40},
			want: `policy.rego:8: catalog.has_label(input.resource, {"label": "team", "value": g}): ` +
				`the decision takes more than 40 answers; asked are HAS_LABEL (40)`,
		},
		"evaluations": {
			policy: helpers(12),
			limits: Limits{Evaluations: 10},
			want: `policy.rego:58: h4: the decision takes more than 10 evaluations; ` +
				`asked are HAS_ANNOTATION (4), HAS_LABEL (5)`,
		},
		"criteria": {
			policy: header + `
allow if count([g | some g in input.identity.claims; catalog.has_label(input.resource, {"label": g})]) == 100`,
			input: input(200),
			want: `data.authz.allow: the condition is too intertwined to be written as criteria; ` +
				`asked are HAS_LABEL (200)`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			modules := parse(t, test.policy)
			p, err := Compile(Options{Modules: modules, Entrypoint: ast.MustParseRef(entrypoint), Limits: test.limits})
			if err != nil {
				t.Fatal(err)
			}
			if test.input == "" {
				test.input = annInput
			}
			r, err := p.Decide(t.Context(), newQuery(t, test.input, "{}"))
			limit, ok := errors.AsType[*LimitError](err)
			if !ok {
				t.Fatalf("%v %s", err, outline(r.Criteria))
			}
			if diff := cmp.Diff(test.want, limit.Message); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestBasicPermission has no resource: what stock evaluation allows without one is
// allowed, where no answer to a rule would deny it.
func TestBasicPermission(t *testing.T) {
	const hasA = `catalog.has_label(input.resource, {"label": "a"})`
	for policy, want := range map[string]struct {
		op     criteria.Op
		method Method
		either int
	}{
		"allow if " + hasA:                                                                  {criteria.Never, Plain, 0},
		"allow if not " + hasA:                                                              {criteria.Never, Plain, 0},
		"allow if not labelled\nlabelled if " + hasA:                                        {criteria.Never, Proofs, 1},
		`allow if count(["a" | ` + hasA + `]) == 0`:                                         {criteria.Never, Proofs, 1},
		"allow if count([1 | " + hasA + "]) < 2":                                            {criteria.Always, Plain, 0},
		"allow := true\nallow if not " + hasA:                                               {criteria.Always, Plain, 0},
		"allow if " + hasA + "\nallow if not " + hasA:                                       {criteria.Never, Plain, 0},
		"allow if labelled\nallow if not labelled\nlabelled if " + hasA:                     {criteria.Always, Plain, 0},
		`allow if input.resource`:                                                           {criteria.Never, Plain, 0},
		`allow if not input.resource`:                                                       {criteria.Always, Plain, 0},
		"allow if not there\nthere if input.resource != null\nallow if " + hasA:             {criteria.Always, Plain, 0},
		"allow if not there\nthere if not is_null(input.resource)\nallow if " + hasA:        {criteria.Always, Plain, 0},
		"allow if not f(input)\nf(i) if catalog.has_label(i.resource, {\"label\": \"a\"})":  {criteria.Never, Proofs, 1},
		`allow if not catalog.has_label(object.get(input, "resource", {}), {"label": "a"})`: {criteria.Never, Proofs, 1},
		"allow if not input.resource\nallow if " + hasA:                                     {criteria.Always, Plain, 0},
	} {
		q := newQuery(t, annInput, "{}")
		q.Basic, q.ResourceType = true, ""
		r, err := mustCompile(t, header+policy).Decide(t.Context(), q)
		if err != nil || r.Criteria.Op != want.op || r.Method != want.method || len(r.Either) != want.either {
			t.Errorf("%s: %+v, %v", policy, r, err)
		}
	}
}

// TestResourceTypeUnknown takes the type of the first rule that is asked, and rules
// about others by either answer.
func TestResourceTypeUnknown(t *testing.T) {
	q := newQuery(t, annInput, "{}")
	q.ResourceType = ""
	r, err := mustCompile(t, typical).Decide(t.Context(), q)
	if err != nil || r.Decision.PluginID != "catalog" || r.Decision.ResourceType != "catalog-entity" {
		t.Errorf("%+v, %v", r, err)
	}
	r, err = mustCompile(t, header+`
import data.backstage.scaffolder

allow if {
	catalog.has_label(input.resource, {"label": "a"})
	scaffolder.has_tag(input.resource, {"tag": "b"})
}`).Decide(t.Context(), q)
	const want = "policy.rego:10: HAS_TAG is a rule of scaffolder about scaffolder-template, " +
		"and HAS_LABEL one of catalog about catalog-entity: only what both of its answers allow is allowed"
	if err != nil || r.Decision.Result != wire.Deny || len(r.Either) != 1 || r.Either[0] != want {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestEitherFailure is no failure where only one answer of a rule about another type
// fails, and is one where both do.
func TestEitherFailure(t *testing.T) {
	const other = "\nimport data.backstage.scaffolder\ntagged if scaffolder.has_tag(input.resource, {\"tag\": \"b\"})\n"
	r, err := mustCompile(t, header+other+`
allow if {
	tagged
	to_number("x") == 1
}`).Decide(t.Context(), newQuery(t, annInput, "{}"))
	if err != nil || r.Decision.Result != wire.Deny || len(r.Errors) != 1 || len(r.Either) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	r, err = mustCompile(t, header+other+`
allow if {
	tagged
	to_number("x") == 1
}

allow if {
	not tagged
	to_number("y") == 1
}`).Decide(t.Context(), newQuery(t, annInput, "{}"))
	if err == nil {
		t.Errorf("%+v", r)
	}
}

func TestContext(t *testing.T) {
	p := mustCompile(t, teams)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if r, err := p.Decide(cancelled, newQuery(t, annInput, "{}")); !errors.Is(err, context.Canceled) {
		t.Errorf("%+v, %v", r, err)
	}
	slow := mustCompile(t, header+`
allow if {
	catalog.has_label(input.resource, {"label": "a"})
	count([1 | some i in numbers.range(1, 100000000)]) > 1
}`)
	soon, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if r, err := slow.Decide(soon, newQuery(t, annInput, "{}")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestFrozenWorld sees one time, one random number and one id in all evaluations of
// a decision, even where a branch asks for them in another order.
func TestFrozenWorld(t *testing.T) {
	p := mustCompile(t, header+`
drawn := [rand.intn("a", 1000000), rand.intn("b", 1000000)] if catalog.has_label(input.resource, {"label": "a"})

drawn := [a, b] if {
	not catalog.has_label(input.resource, {"label": "a"})
	b := rand.intn("b", 1000000)
	a := rand.intn("a", 1000000)
}

seen contains [drawn, uuid.rfc4122("x"), time.now_ns()]

allow if {
	some [[a, b], id, now] in seen
	catalog.has_label(input.resource, {"label": sprintf("%d-%d-%s-%d", [a, b, id, now])})
}
`)
	q := newQuery(t, annInput, "{}")
	r, err := p.Decide(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	if r.Criteria.Op != criteria.Leaf {
		t.Fatal(outline(r.Criteria))
	}
	now := strconv.FormatInt(q.Time.UnixNano(), 10)
	if !strings.Contains(r.Criteria.Rule.Params, now) {
		t.Errorf("%s is not of the time %s", r.Criteria.Rule.Params, now)
	}
}

// TestConcurrentDecisions shares one policy.
func TestConcurrentDecisions(t *testing.T) {
	p := mustCompile(t, typicalRoles)
	var wait sync.WaitGroup
	for range 8 {
		q := newQuery(t, annInput, "{}")
		wait.Go(func() {
			for range 20 {
				r, err := p.Decide(t.Context(), q)
				if err != nil || leaves(r.Criteria) != 3 {
					t.Errorf("%+v, %v", r, err)
				}
			}
		})
	}
	wait.Wait()
}

// TestRepeatable decides alike twice, to the byte.
func TestRepeatable(t *testing.T) {
	for _, s := range shapes {
		p := mustCompile(t, s.policy)
		var first []byte
		for range 3 {
			r, err := p.Decide(t.Context(), newQuery(t, s.input, "{}"))
			if err != nil {
				t.Fatal(err)
			}
			if text := r.Criteria.AppendJSON(nil); first == nil {
				first = text
			} else if string(text) != string(first) {
				t.Errorf("%s: %s\n%s", s.name, first, text)
			}
		}
	}
}

// TestGuard refuses a first argument that is not the resource, though vetting lets
// none through.
func TestGuard(t *testing.T) {
	p := mustCompile(t, typical)
	q := newQuery(t, annInput, "{}")
	w, stop := newWorld(t.Context(), p, q, present)
	defer stop()
	rules, err := Rules(parse(t, typical))
	if err != nil {
		t.Fatal(err)
	}
	other := []*ast.Term{ast.StringTerm("resource"), ast.ObjectTerm()}
	if n, err := w.question(rules[0], other, nil); err == nil {
		t.Errorf("asked as question %d", n)
	}
}

// FuzzPolicy compiles and decides whatever can be parsed.
func FuzzPolicy(f *testing.F) {
	for _, file := range cases(f) {
		for _, part := range file.archive.Files {
			if part.Name == "policy.rego" {
				f.Add(string(part.Data))
			}
		}
	}
	f.Fuzz(func(t *testing.T, policy string) {
		m, err := ast.ParseModuleWithOpts("policy.rego", policy, ast.ParserOptions{ProcessAnnotation: true})
		if err != nil || m == nil {
			return
		}
		modules := maps.Clone(library())
		modules["policy.rego"] = m
		p, err := Compile(Options{
			Modules:    modules,
			Entrypoint: ast.MustParseRef(entrypoint),
			Limits:     Limits{Evaluations: 500, Branches: 100},
		})
		if err != nil || !p.AboutResource() {
			return
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, _ = p.Decide(ctx, newQuery(t, annInput, "{}"))
	})
}

// TestEitherKeepsEachOutcomeOnce joins branches without what is nowhere.
func TestEitherKeepsEachOutcomeOnce(t *testing.T) {
	w, stop := newWorld(t.Context(), mustCompile(t, typical), newQuery(t, annInput, "{}"), present)
	defer stop()
	is, err := w.space.Rule("HAS_LABEL", "catalog-entity", map[string]any{"label": "a"}, "")
	if err != nil {
		t.Fatal(err)
	}
	x := exploration{world: w}
	yes := outcome{value: ast.InternedTerm(true), where: criteria.Granted}
	no := outcome{where: criteria.Granted}
	joined := x.either(is, []outcome{yes}, []outcome{no})
	for range 3 { // The same question again excludes one of the two.
		joined = x.either(is, joined, []outcome{no})
		if len(joined) != 2 {
			t.Fatalf("%d outcomes, want the two that can be: %+v", len(joined), joined)
		}
	}
	for _, o := range x.either(is, []outcome{{where: criteria.Denied}}, []outcome{yes}) {
		if o.where == criteria.Denied {
			t.Errorf("%+v is nowhere", o)
		}
	}
}
