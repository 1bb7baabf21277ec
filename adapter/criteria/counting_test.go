package criteria

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestMinimiseCounting holds how large "k of n" comes out. BenchmarkCounting prints
// the whole table.
func TestMinimiseCounting(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 0))
	for _, test := range []struct{ k, n, leaves, bytes int }{
		{2, 10, 34, 2_833},
		{3, 10, 64, 5_395},
		{5, 10, 98, 8_277},
		{5, 12, 164, 13_913},
		{2, 20, 88, 7_275},
		{3, 20, 216, 18_143},
		{10, 20, 1_176, 99_707},
		{2, 40, 216, 17_729},
		{3, 40, 648, 54_137},
		{20, 40, 25_872, 2_199_587},
		{2, 60, 356, 29_125},
		{3, 60, 1_172, 97_622},
		{30, 60, 209_856, 17_834_663},
	} {
		t.Run(fmt.Sprintf("%d of %d", test.k, test.n), func(t *testing.T) {
			s := NewSpace()
			c, err := s.Minimise(atLeast(s, test.k, test.n))
			if err != nil {
				t.Fatal(err)
			}
			if got, bytes := leaves(c), len(c.AppendJSON(nil)); got != test.leaves || bytes != test.bytes {
				t.Errorf("has %d leaves and %d bytes", got, bytes)
			}
			for range 50 {
				holding := min(max(0, test.k+r.IntN(5)-2), test.n)
				holds := make(map[Rule]bool)
				for _, i := range r.Perm(test.n)[:holding] {
					holds[ruleNo(i)] = true
				}
				if c.Eval(func(r Rule) bool { return holds[r] }) != (holding >= test.k) {
					t.Fatalf("is wrong where %d hold", holding)
				}
			}
		})
	}
}

// TestCountingIsIrredundant tries to drop every branch and leaf of conditions that
// count.
func TestCountingIsIrredundant(t *testing.T) {
	const n = 8
	for name, build := range map[string]func(*Space) Function{
		"2 of 8":       func(s *Space) Function { return atLeast(s, 2, n) },
		"4 of 8":       func(s *Space) Function { return atLeast(s, 4, n) },
		"exactly 3":    func(s *Space) Function { return s.All(atLeast(s, 3, n), atLeast(s, 4, n).Not()) },
		"none or all":  func(s *Space) Function { return s.Any(atLeast(s, 1, n).Not(), atLeast(s, n, n)) },
		"3, or 5 of 8": func(s *Space) Function { return s.If(ruleFunction(s, 0), atLeast(s, 3, n), atLeast(s, 5, n)) },
		"an odd number": func(s *Space) Function {
			f := Denied
			for i := range n {
				f = s.If(ruleFunction(s, i), f.Not(), f)
			}
			return f
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := NewSpace()
			f := build(s)
			c := written(t, s, f)
			want := wideTable(c)
			for a := range want {
				if want[a] != s.holds(f, s.known(func(r Rule) bool { return a>>ruleIndex[r]&1 != 0 })) {
					t.Fatalf("is wrong under %b", a)
				}
			}
			drops(c, func(less Criteria) {
				if wideTable(less) == want {
					t.Fatalf("%s could be %s", c.AppendJSON(nil), less.AppendJSON(nil))
				}
			})
			t.Log(leaves(c), "leaves")
		})
	}
}

// BenchmarkCounting prints leaves and bytes of k of n. Run it with -benchtime=1x.
func BenchmarkCounting(b *testing.B) {
	for _, n := range []int{10, 20, 40, 60} {
		for k := 2; k <= n/2; k++ {
			b.Run(fmt.Sprintf("%dof%d", k, n), func(b *testing.B) {
				for b.Loop() {
					s := NewSpace()
					c, err := s.Minimise(atLeast(s, k, n))
					if err != nil {
						b.Fatal(err)
					}
					b.ReportMetric(float64(leaves(c)), "leaves")
					b.ReportMetric(float64(len(c.AppendJSON(nil))), "bytes")
				}
			})
		}
	}
}
