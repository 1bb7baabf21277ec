package criteria

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// vars is how many rules the functions of these tests have: few enough to try
// every assignment.
const vars = 4

func ruleNo(i int) Rule {
	return Rule{Name: "HAS_LABEL", ResourceType: "catalog-entity", Params: fmt.Sprintf(`{"label":"l%d"}`, i)}
}

func ruleFunction(s *Space, i int) Function {
	f, err := s.Rule("HAS_LABEL", "catalog-entity", map[string]any{"label": fmt.Sprint("l", i)}, "")
	if err != nil {
		panic(err)
	}
	return f
}

// table is a truth table: bit i says whether a function holds under assignment i,
// whose bit v is the answer to rule v.
type table uint32

const full table = 1<<(1<<vars) - 1

func variableTable(v int) table {
	var t table
	for a := range 1 << vars {
		if a>>v&1 != 0 {
			t |= 1 << a
		}
	}
	return t
}

func tableOf(c Criteria) table {
	var t table
	for a := range 1 << vars {
		if c.Eval(func(r Rule) bool {
			return a>>ruleIndex[r]&1 != 0
		}) {
			t |= 1 << a
		}
	}
	return t
}

// randomFunction puts a function together in one of many ways and tells its table.
func randomFunction(r *rand.Rand, s *Space, depth int) (Function, table) {
	if depth == 0 || r.IntN(6) == 0 {
		v := r.IntN(vars)
		f, t := ruleFunction(s, v), variableTable(v)
		if r.IntN(2) == 0 {
			return f.Not(), full &^ t
		}
		return f, t
	}
	a, ta := randomFunction(r, s, depth-1)
	b, tb := randomFunction(r, s, depth-1)
	switch r.IntN(4) {
	case 0:
		return s.All(a, b), ta & tb
	case 1:
		return s.Any(a, b), ta | tb
	case 2:
		return a.Not(), full &^ ta
	}
	c, tc := randomFunction(r, s, depth-1)
	return s.If(a, b, c), ta&tb | tc&^ta
}

// fromTable puts a function together from its table, its products in any order.
func fromTable(r *rand.Rand, s *Space, t table) Function {
	var products []Function
	for _, a := range r.Perm(1 << vars) {
		if t>>a&1 == 0 {
			continue
		}
		var product []Function
		for _, v := range r.Perm(vars) {
			f := ruleFunction(s, v)
			if a>>v&1 == 0 {
				f = f.Not()
			}
			product = append(product, f)
		}
		products = append(products, s.All(product...))
	}
	return s.Any(products...)
}

func leaves(c Criteria) int {
	n := 0
	for range c.Rules() {
		n++
	}
	return n
}

// drops yields the trees that lack one branch or leaf of c.
func drops(c Criteria, yield func(Criteria)) {
	for i, child := range c.Of {
		if c.Op == AllOf || c.Op == AnyOf {
			yield(Criteria{Op: c.Op, Of: slices.Delete(slices.Clone(c.Of), i, i+1)})
		}
		drops(child, func(less Criteria) {
			of := slices.Clone(c.Of)
			of[i] = less
			yield(Criteria{Op: c.Op, Of: of})
		})
	}
}

func TestMinimiseSmallFunctions(t *testing.T) {
	seed := uint64(1)
	r := rand.New(rand.NewPCG(seed, 0))
	trials := 30_000
	if testing.Short() {
		trials = 3_000
	}
	for trial := range trials {
		s := NewSpace()
		f, want := randomFunction(r, s, 1+r.IntN(5))
		c, err := s.Minimise(f)
		if err != nil {
			t.Fatal(err)
		}
		if got := tableOf(c); got != want {
			t.Fatalf("seed %d, trial %d: %s holds under %x, want %x", seed, trial, c.AppendJSON(nil), got, want)
		}
		if diff := cmp.Diff(c, c.Normalise()); diff != "" {
			t.Fatalf("%s is not normal: %s", c.AppendJSON(nil), diff)
		}
		drops(c, func(less Criteria) {
			if tableOf(less) == want {
				t.Fatalf("seed %d, trial %d: %s could be %s", seed, trial, c.AppendJSON(nil), less.AppendJSON(nil))
			}
		})
		again := NewSpace()
		other, err := again.Minimise(fromTable(r, again, want))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c, other); diff != "" {
			t.Fatalf("seed %d, trial %d: two forms of a function:\n%s\n%s", seed, trial, c.AppendJSON(nil), other.AppendJSON(nil))
		}
	}
}

// kindOf holds where the kind is one of some.
func kindOf(t *testing.T, s *Space, kinds ...any) Function {
	t.Helper()
	f, err := s.Rule("IS_ENTITY_KIND", "catalog-entity", map[string]any{"kinds": kinds}, "kinds")
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func kinds(list string) string {
	return `{"rule":"IS_ENTITY_KIND","resourceType":"catalog-entity","params":{"kinds":[` + list + `]}}`
}

func TestMinimiseLists(t *testing.T) {
	label := `{"rule":"HAS_LABEL","resourceType":"catalog-entity","params":{"label":"l0"}}`
	for name, test := range map[string]struct {
		build func(*Space) Function
		want  string
	}{
		"order and repetitions": {
			func(s *Space) Function { return kindOf(t, s, "b", "a", "b") },
			kinds(`"a","b"`),
		},
		"empty": {
			func(s *Space) Function { return kindOf(t, s) },
			`{"anyOf":[]}`,
		},
		"joined": {
			func(s *Space) Function { return s.Any(kindOf(t, s, "b"), kindOf(t, s, "a", "c")) },
			kinds(`"a","b","c"`),
		},
		"joined under a not": {
			func(s *Space) Function {
				return s.All(kindOf(t, s, "b").Not(), ruleFunction(s, 0), kindOf(t, s, "a").Not())
			},
			`{"allOf":[` + label + `,{"not":` + kinds(`"a","b"`) + `}]}`,
		},
		"both": {
			func(s *Space) Function { return s.All(kindOf(t, s, "b"), kindOf(t, s, "a")) },
			`{"allOf":[` + kinds(`"a"`) + `,` + kinds(`"b"`) + `]}`,
		},
		"contained": {
			func(s *Space) Function { return s.All(kindOf(t, s, "a", "b"), kindOf(t, s, "a")) },
			kinds(`"a"`),
		},
		"contradicting": {
			func(s *Space) Function { return s.All(kindOf(t, s, "a", "b").Not(), kindOf(t, s, "a")) },
			`{"anyOf":[]}`,
		},
		"contained beside another rule": {
			func(s *Space) Function {
				return s.Any(kindOf(t, s, "a", "b"), s.All(kindOf(t, s, "a"), ruleFunction(s, 0)))
			},
			kinds(`"a","b"`),
		},
		"overlapping": {
			func(s *Space) Function {
				return s.Any(s.All(kindOf(t, s, "a", "b"), ruleFunction(s, 0)), s.All(kindOf(t, s, "b", "c"), ruleFunction(s, 0)))
			},
			`{"allOf":[` + label + `,` + kinds(`"a","b","c"`) + `]}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := NewSpace()
			c, err := s.Minimise(test.build(s))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, string(c.AppendJSON(nil))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// atLeast holds where k of the first n rules do.
func atLeast(s *Space, k, n int) Function {
	after := make([]Function, n+1)
	for i := k; i <= n; i++ {
		after[i] = Granted
	}
	for i := n - 1; i >= 0; i-- {
		for j := range i + 1 {
			after[j] = s.If(ruleFunction(s, i), after[j+1], after[j])
		}
	}
	return after[0]
}

// randomSum is a disjunction of conjunctions of three literals.
func randomSum(r *rand.Rand, s *Space, rules, products int) Function {
	of := make([]Function, products)
	for i := range of {
		var product []Function
		for range 3 {
			f := ruleFunction(s, r.IntN(rules))
			if r.IntN(3) == 0 {
				f = f.Not()
			}
			product = append(product, f)
		}
		of[i] = s.All(product...)
	}
	return s.Any(of...)
}

var largeFunctions = map[string]func(*rand.Rand, *Space) Function{
	"3 of 10":               func(_ *rand.Rand, s *Space) Function { return atLeast(s, 3, 10) },
	"2 of 40":               func(_ *rand.Rand, s *Space) Function { return atLeast(s, 2, 40) },
	"3 of 40":               func(_ *rand.Rand, s *Space) Function { return atLeast(s, 3, 40) },
	"50 of 100":             func(_ *rand.Rand, s *Space) Function { return atLeast(s, 50, 100) },
	"20 rules, 60 products": func(r *rand.Rand, s *Space) Function { return randomSum(r, s, 20, 60) },
	"60 rules, 60 products": func(r *rand.Rand, s *Space) Function { return randomSum(r, s, 60, 60) },
	"parity of 20": func(_ *rand.Rand, s *Space) Function {
		f := Denied
		for i := range 20 {
			f = s.If(ruleFunction(s, i), f.Not(), f)
		}
		return f
	},
	"20 of two kinds": func(_ *rand.Rand, s *Space) Function {
		var of []Function
		for i := range 20 { // The worst order for a diagram: all first ones before all second ones.
			of = append(of, s.Any(ruleFunction(s, i), ruleFunction(s, 20+i)))
		}
		return s.All(append(of, s.Any(s.All(of[:10]...), ruleFunction(s, 40)))...)
	},
}

func TestMinimiseLargeFunctions(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for name, build := range largeFunctions {
		t.Run(name, func(t *testing.T) {
			s := NewSpace()
			f := build(r, s)
			c, err := s.Minimise(f)
			if errors.Is(err, ErrTooLarge) {
				t.Log(err)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			t.Log(leaves(c), "leaves")
			for range 300 {
				answers := make(map[Rule]bool)
				often := 1 + r.IntN(9)
				for _, v := range s.variables {
					answers[v.rule] = r.IntN(10) < often
				}
				answer := func(r Rule) bool { return answers[r] }
				if c.Eval(answer) != s.holds(f, s.known(answer)) {
					t.Fatal("differs")
				}
			}
		})
	}
}

func BenchmarkMinimise(b *testing.B) {
	for name, build := range largeFunctions {
		b.Run(name, func(b *testing.B) {
			s := NewSpace()
			f := build(rand.New(rand.NewPCG(1, 1)), s)
			for b.Loop() {
				_, _ = s.Minimise(f)
			}
		})
	}
}

// randomRules is how many rules the functions of TestMinimiseRandomFunctions have.
const randomRules = 8

// wideTable is the truth table of criteria of so many rules.
func wideTable(c Criteria) (table [1 << randomRules]bool) {
	for a := range table {
		table[a] = c.Eval(func(r Rule) bool { return a>>ruleIndex[r]&1 != 0 })
	}
	return table
}

func TestMinimiseRandomFunctions(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 0))
	trials := 2_000
	if testing.Short() {
		trials = 200
	}
	for trial := range trials {
		s := NewSpace()
		f := randomSum(r, s, randomRules, 2+r.IntN(7))
		if r.IntN(2) == 0 {
			f = s.If(ruleFunction(s, r.IntN(randomRules)), f, randomSum(r, s, randomRules, 3))
		}
		c, err := s.Minimise(f)
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			var a [randomRules]bool
			for v := range a {
				a[v] = r.IntN(2) == 0
			}
			answer := func(r Rule) bool { return a[ruleIndex[r]] }
			if c.Eval(answer) != s.holds(f, s.known(answer)) {
				t.Fatalf("trial %d: %s differs", trial, c.AppendJSON(nil))
			}
		}
		if c.Op <= Always {
			continue
		}
		want := wideTable(c)
		drops(c, func(less Criteria) {
			if wideTable(less) == want {
				t.Fatalf("trial %d: %s could be %s", trial, c.AppendJSON(nil), less.AppendJSON(nil))
			}
		})
	}
}

var ruleIndex = func() map[Rule]int {
	index := make(map[Rule]int)
	for v := range randomRules {
		index[ruleNo(v)] = v
	}
	return index
}()

// known are the rules that hold.
func (s *Space) known(answer func(Rule) bool) map[Function]bool {
	known := make(map[Function]bool)
	for rule, f := range s.byRule {
		known[f] = answer(rule)
	}
	return known
}

func TestPossible(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 0))
	for range 2_000 {
		s := NewSpace()
		f, want := randomFunction(r, s, 1+r.IntN(5))
		if got := s.Possible(f); got != (want != 0) {
			t.Fatalf("says %v of %x", got, want)
		}
		answers, ok := s.Model(f)
		if ok != (want != 0) || ok && !answers(f) {
			t.Fatalf("has no answers for %x", want)
		}
	}
}

// TestSettled drops a leaf that a leaf around it has settled, which joining lists can
// make: here the one of a, since c is a part of a.
func TestSettled(t *testing.T) {
	s := NewSpace()
	claims := func(list ...any) Function {
		f, err := s.Rule("IS_OWNER", "t", map[string]any{"claims": list}, "claims")
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	a, b, c := claims("core", "web", "bob"), claims("ann", "web"), claims("bob")
	got, err := s.Minimise(s.All(b, s.Any(s.All(a, c.Not()), s.All(a.Not(), c))))
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"allOf":[{"rule":"IS_OWNER","resourceType":"t","params":{"claims":["ann","web"]}},` +
		`{"rule":"IS_OWNER","resourceType":"t","params":{"claims":["bob","core","web"]}},` +
		`{"not":{"rule":"IS_OWNER","resourceType":"t","params":{"claims":["bob"]}}}]}`
	if text := string(got.AppendJSON(nil)); text != want {
		t.Errorf("%s, want %s", text, want)
	}
}
