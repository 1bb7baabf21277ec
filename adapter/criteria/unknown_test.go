package criteria

import (
	"errors"
	"math/rand/v2"
	"testing"
)

// TestCertain holds quantification to its definition: by all answers to the unknown
// variables, for random functions of three rules and up to four unknown variables.
func TestCertain(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 0))
	for range 3_000 {
		s := NewSpace()
		variables := make([]Function, 3+r.IntN(5))
		for i := range variables {
			if i >= 3 {
				variables[i] = s.Unknown()
			} else {
				var err error
				if variables[i], err = s.Rule("R", "t", map[string]any{"n": string(rune('a' + i))}, ""); err != nil {
					t.Fatal(err)
				}
			}
		}
		var draw func(depth int) Function
		draw = func(depth int) Function {
			if depth == 0 {
				return variables[r.IntN(len(variables))] ^ Function(r.IntN(2))
			}
			of := make([]Function, 1+r.IntN(4))
			for i := range of {
				of[i] = draw(depth - 1)
			}
			if r.IntN(2) == 0 {
				return s.All(of...)
			}
			return s.Any(of...)
		}
		f := draw(1 + r.IntN(4))
		got, err := s.Certain(f)
		if err != nil {
			t.Fatal(err)
		}
		if unknowns := s.Unknowns(got); len(unknowns) > 0 {
			t.Fatalf("depends on the unknown variables %v", unknowns)
		}
		for rules := range 8 {
			want := true
			for unknowns := range 1 << (len(variables) - 3) {
				known := make(map[Function]bool)
				for i, v := range variables {
					known[v] = (rules|unknowns<<3)>>i&1 == 1
				}
				want = want && s.holds(f, known)
			}
			known := make(map[Function]bool)
			for i, v := range variables {
				known[v] = rules>>i&1 == 1
			}
			if s.holds(got, known) != want {
				t.Fatalf("%v is certain of %v", got, f)
			}
		}
	}
}

// TestCertainOfMany takes out many unknown variables at once, as a claim each.
func TestCertainOfMany(t *testing.T) {
	s := NewSpace()
	rule, err := s.Rule("R", "t", nil, "")
	if err != nil {
		t.Fatal(err)
	}
	var alternatives []Function
	for range 2_000 {
		alternatives = append(alternatives, s.All(s.Unknown(), s.Unknown().Not()))
	}
	if got, err := s.Certain(s.Any(append(alternatives, rule)...)); err != nil || got != rule {
		t.Errorf("%v, %v", got, err)
	}
}

// TestCertainTooLarge gives up on a function whose parts share all of its unknown
// variables.
func TestCertainTooLarge(t *testing.T) {
	s := NewSpace()
	r := rand.New(rand.NewPCG(7, 0))
	unknowns := make([]Function, 60)
	for i := range unknowns {
		unknowns[i] = s.Unknown()
	}
	var products []Function
	for range 400 {
		var product []Function
		for range 5 {
			product = append(product, unknowns[r.IntN(len(unknowns))]^Function(r.IntN(2)))
		}
		products = append(products, s.All(product...))
	}
	if got, err := s.Certain(s.Any(products...)); !errors.Is(err, ErrTooLarge) || got != Denied {
		t.Errorf("%v, %v", got, err)
	}
}
