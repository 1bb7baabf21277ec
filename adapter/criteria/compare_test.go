package criteria

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestCompareSmallFunctions holds every comparison to truth tables, with and without
// assumptions.
func TestCompareSmallFunctions(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 0))
	trials := 10_000
	if testing.Short() {
		trials = 1_000
	}
	for trial := range trials {
		s := NewSpace()
		f, tf := randomFunction(r, s, 1+r.IntN(4))
		g, tg := randomFunction(r, s, 1+r.IntN(4))
		for range r.IntN(3) {
			a, _ := randomFunction(r, s, r.IntN(3))
			s.Assume(a)
		}
		possible := possibleFor(t, s, s.All(f, g.Not()))
		name := fmt.Sprintf("trial %d, %x and %x where %x", trial, tf, tg, possible)
		holdCompared(t, name, s, f, g, tf, tg, possible)
	}
}

// possibleFor are the assignments that are possible by what is assumed and shares
// rules with a function.
func possibleFor(t *testing.T, s *Space, f Function) table {
	t.Helper()
	possible := full
	for _, a := range (&minimiser{space: s, work: maxWork}).about(f) {
		possible &= tableOf(written(t, s, a))
	}
	return possible
}

func written(t *testing.T, s *Space, f Function) Criteria {
	t.Helper()
	c, err := s.Minimise(f)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func holdCompared(t *testing.T, name string, s *Space, f, g Function, tf, tg, possible table) {
	t.Helper()
	difference, err := s.Difference(f, g)
	if err != nil {
		t.Fatal(err)
	}
	want := tf &^ tg & possible
	if got := tableOf(difference); got&possible != want || (difference.Op == Never) != (want == 0) {
		t.Fatalf("%s: the difference is %s, want %x", name, difference.AppendJSON(nil), want)
	}
	whole := tableOf(difference)
	drops(difference, func(less Criteria) {
		if tableOf(less) == whole {
			t.Fatalf("%s: the difference %s could be %s", name, difference.AppendJSON(nil), less.AppendJSON(nil))
		}
	})
	if is, err := s.Implies(f, g); err != nil || is != (want == 0) {
		t.Fatalf("%s: implied is %v, %v", name, is, err)
	}
	if is, err := s.Equal(f, g); err != nil || is != (want|tg&^tf&possibleFor(t, s, s.All(g, f.Not())) == 0) {
		t.Fatalf("%s: equal is %v, %v", name, is, err)
	}
	answers, err := s.Witness(s.All(f, g.Not()))
	if err != nil || (answers == nil) != (want == 0) {
		t.Fatalf("%s: witness %v, %v", name, answers, err)
	}
	for a := range 1 << vars {
		fits := answers != nil
		for rule, holds := range answers {
			fits = fits && (a>>ruleIndex[rule]&1 != 0) == holds
		}
		if fits && want>>a&1 == 0 {
			t.Fatalf("%s: answers %v do not make it so", name, answers)
		}
	}
}

// TestAssumptionsElsewhere holds that what is assumed of other rules does not matter,
// even where it contradicts itself.
func TestAssumptionsElsewhere(t *testing.T) {
	s := NewSpace()
	s.Assume(ruleFunction(s, 3))
	s.Assume(ruleFunction(s, 3).Not())
	if is, err := s.Implies(ruleFunction(s, 0), ruleFunction(s, 1)); err != nil || is {
		t.Errorf("implied is %v, %v", is, err)
	}
}

func TestCompareLists(t *testing.T) {
	s := NewSpace()
	for name, test := range map[string]struct {
		f, g         Function
		gained, lost string
	}{
		"an element more":  {kindOf(t, s, "a", "b"), kindOf(t, s, "a"), kinds(`"b"`), ""},
		"another order":    {kindOf(t, s, "a", "b"), kindOf(t, s, "b", "a", "b"), "", ""},
		"another element":  {kindOf(t, s, "a", "b"), kindOf(t, s, "b", "c"), kinds(`"a"`), kinds(`"c"`)},
		"split in two":     {s.Any(kindOf(t, s, "a"), kindOf(t, s, "b", "c")), kindOf(t, s, "a", "b", "c"), "", ""},
		"under a negation": {kindOf(t, s, "a").Not(), kindOf(t, s, "a", "b").Not(), kinds(`"b"`), ""},
	} {
		t.Run(name, func(t *testing.T) {
			s.Assume(s.All(kindOf(t, s, "a"), kindOf(t, s, "b")).Not())
			s.Assume(s.All(kindOf(t, s, "a"), kindOf(t, s, "c")).Not())
			s.Assume(s.All(kindOf(t, s, "b"), kindOf(t, s, "c")).Not())
			for _, way := range []struct {
				f, g Function
				want string
			}{{test.f, test.g, test.gained}, {test.g, test.f, test.lost}} {
				c, err := s.Difference(way.f, way.g)
				if err != nil {
					t.Fatal(err)
				}
				if way.want == "" {
					way.want = `{"anyOf":[]}`
				}
				if diff := cmp.Diff(way.want, string(c.AppendJSON(nil))); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
}

// TestReadBack holds that reading what was written gives an equal function.
func TestReadBack(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 0))
	for range 1_000 {
		s := NewSpace()
		f, _ := randomFunction(r, s, 4)
		f = s.All(f, kindOf(t, s, "a", "b"))
		again, err := s.Read(written(t, s, f), func(r Rule) string {
			return map[string]string{"IS_ENTITY_KIND": "kinds"}[r.Name]
		})
		if err != nil {
			t.Fatal(err)
		}
		if is, err := s.Equal(f, again); err != nil || !is {
			t.Fatalf("equal is %v, %v", is, err)
		}
	}
}

func TestReadRefuses(t *testing.T) {
	_, err := NewSpace().Read(Criteria{Op: Leaf, Rule: Rule{Name: "R", ResourceType: "t", Params: "[1]"}}, nil)
	if err == nil {
		t.Error("read params that are no object")
	}
}

func TestCompareTooLarge(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	s := NewSpace()
	f, g := randomSum(r, s, 80, 200), randomSum(r, s, 80, 200)
	if _, err := s.Implies(f, g); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v", err)
	}
	if is, err := s.Implies(f, f); err != nil || !is {
		t.Errorf("of itself: %v, %v", is, err)
	}
}
