package criteria

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// rule is a leaf without params.
func rule(name string) Criteria {
	return Criteria{Op: Leaf, Rule: Rule{Name: name, ResourceType: "todo-item"}}
}

func not(c Criteria) Criteria { return Criteria{Op: Not, Of: []Criteria{c}} }

func allOf(of ...Criteria) Criteria { return Criteria{Op: AllOf, Of: of} }

func anyOf(of ...Criteria) Criteria { return Criteria{Op: AnyOf, Of: of} }

var (
	never  = Criteria{Op: Never}
	always = Criteria{Op: Always}
	a, b   = rule("A"), rule("B")
)

// trueOf answers yes to the rules named.
func trueOf(names string) func(Rule) bool {
	return func(r Rule) bool { return strings.Contains(names, r.Name) }
}

func TestEval(t *testing.T) {
	tests := []struct {
		name  string
		of    Criteria
		holds []string // of "", "A", "B", "AB": the rules that are true
	}{
		{"the zero Criteria", Criteria{}, nil},
		{"never", never, nil},
		{"always", always, []string{"", "A", "B", "AB"}},
		{"a rule", a, []string{"A", "AB"}},
		{"not", not(a), []string{"", "B"}},
		{"not not", not(not(a)), []string{"A", "AB"}},
		{"all of", allOf(a, b), []string{"AB"}},
		{"any of", anyOf(a, b), []string{"A", "B", "AB"}},
		{"all of none", allOf(), []string{"", "A", "B", "AB"}},
		{"any of none", anyOf(), nil},
		{"nested", anyOf(allOf(a, not(b)), allOf(not(a), b)), []string{"A", "B"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for _, names := range []string{"", "A", "B", "AB"} {
				if got, want := test.of.Eval(trueOf(names)), slices.Contains(test.holds, names); got != want {
					t.Errorf("with %q true: got %v, want %v", names, got, want)
				}
			}
		})
	}
}

func TestEvalAsksNoMoreThanItNeeds(t *testing.T) {
	var asked []string
	answer := func(r Rule) bool {
		asked = append(asked, r.Name)
		return r.Name == "A"
	}
	anyOf(a, b).Eval(answer)
	allOf(b, a).Eval(answer)
	if diff := cmp.Diff([]string{"A", "B"}, asked); diff != "" {
		t.Errorf("rules asked (-want +got):\n%s", diff)
	}
}

// A node that is no node must not decide anything: negated, a guess allows.
func TestMalformedTreesPanic(t *testing.T) {
	tests := []struct {
		name string
		of   Criteria
	}{
		{"unknown Op", Criteria{Op: AnyOf + 1}},
		{"unknown Op under a Not", not(Criteria{Op: AnyOf + 1})},
		{"Not of none", Criteria{Op: Not}},
		{"Not of two", Criteria{Op: Not, Of: []Criteria{a, b}}},
	}
	for _, test := range tests {
		for does, call := range map[string]func(){
			"Eval":       func() { test.of.Eval(trueOf("")) },
			"AppendJSON": func() { test.of.AppendJSON(nil) },
		} {
			t.Run(test.name+"/"+does, func(t *testing.T) {
				defer func() {
					if recover() == nil {
						t.Error("no panic")
					}
				}()
				call()
			})
		}
	}
}

func TestRules(t *testing.T) {
	tree := allOf(a, not(anyOf(b, a)), always)
	var got []string
	for r := range tree.Rules() {
		got = append(got, r.Name)
	}
	if diff := cmp.Diff([]string{"A", "B", "A"}, got); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
	for r := range tree.Rules() {
		if r.Name == "B" {
			break // the walk must stop here, or it panics
		}
	}
}

func TestNormalise(t *testing.T) {
	tests := []struct {
		name     string
		of, want Criteria
	}{
		{"empty anyOf", anyOf(), never},
		{"empty allOf", allOf(), always},
		{"not of an empty anyOf", not(anyOf()), always},
		{"not of an empty allOf", not(allOf()), never},
		{"single anyOf", anyOf(a), a},
		{"single allOf within not", not(allOf(anyOf(a))), not(a)},
		{"duplicates", anyOf(a, b, a), anyOf(a, b)},
		{"duplicates that leave one", allOf(a, a), a},
		{"duplicates that unwrapping makes", anyOf(a, allOf(a), b), anyOf(a, b)},
		{"duplicate trees", allOf(anyOf(a, b), a, anyOf(a, b)), allOf(anyOf(a, b), a)},
		{"never in anyOf", anyOf(a, anyOf(), b), anyOf(a, b)},
		{"always in anyOf", anyOf(a, allOf(), b), always},
		{"never in allOf", allOf(a, anyOf(), b), never},
		{"always in allOf", allOf(a, allOf()), a},
		{"constants all the way up", anyOf(allOf(a, not(allOf())), not(anyOf(b, allOf()))), never},
		{"order stays", anyOf(b, a), anyOf(b, a)},
		{"other order is another tree", anyOf(allOf(a, b), allOf(b, a)), anyOf(allOf(a, b), allOf(b, a))},
		{"double negation stays", not(not(a)), not(not(a))},
		{"lists in lists stay", anyOf(a, anyOf(b, rule("C"))), anyOf(a, anyOf(b, rule("C")))},
		{"params tell rules apart", anyOf(a, withParams(a, `{}`)), anyOf(a, withParams(a, `{}`))},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := test.of.Normalise()
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func withParams(c Criteria, params string) Criteria {
	c.Rule.Params = params
	return c
}

func TestEqual(t *testing.T) {
	tests := []struct {
		name  string
		x, y  Criteria
		equal bool
	}{
		{"rules", a, rule("A"), true},
		{"other rule", a, b, false},
		{"other params", a, withParams(a, `{}`), false},
		{"other operator", anyOf(a, b), allOf(a, b), false},
		{"other order", anyOf(a, b), anyOf(b, a), false},
		{"fewer", anyOf(a, b), anyOf(a), false},
		{"nil and empty", Criteria{Op: AnyOf}, Criteria{Op: AnyOf, Of: []Criteria{}}, true},
		{"deep", not(allOf(a, not(b))), not(allOf(a, not(b))), true},
		{"deep difference", not(allOf(a, not(b))), not(allOf(a, not(a))), false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := test.x.Equal(test.y); got != test.equal {
				t.Errorf("got %v", got)
			}
			if got := test.y.Equal(test.x); got != test.equal {
				t.Errorf("the other way round: got %v", got)
			}
		})
	}
}

func TestAppendJSON(t *testing.T) {
	tests := []struct {
		name string
		of   Criteria
		want string
	}{
		{"never", never, `{"anyOf":[]}`},
		{"always", always, `{"allOf":[]}`},
		{"a rule", a, `{"rule":"A","resourceType":"todo-item"}`},
		{"params", withParams(a, `{"x":[1]}`), `{"rule":"A","resourceType":"todo-item","params":{"x":[1]}}`},
		{
			"quotes", Criteria{Op: Leaf, Rule: Rule{Name: `a"b`, ResourceType: "<\n>"}},
			`{"rule":"a\"b","resourceType":"<\n>"}`,
		},
		{
			"nested", allOf(not(a), anyOf(a, b)),
			`{"allOf":[{"not":{"rule":"A","resourceType":"todo-item"}},` +
				`{"anyOf":[{"rule":"A","resourceType":"todo-item"},{"rule":"B","resourceType":"todo-item"}]}]}`,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := string(test.of.AppendJSON([]byte("> "))); got != "> "+test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
			if got, err := test.of.MarshalJSON(); err != nil || string(got) != test.want {
				t.Errorf("MarshalJSON: got %s, %v", got, err)
			}
		})
	}
}
