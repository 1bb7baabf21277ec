package criteria

import (
	"fmt"
	"math/bits"
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
			for v := range vars {
				if r == ruleNo(v) {
					return a>>v&1 != 0
				}
			}
			panic("unknown rule")
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

// product is a product of literals: the rules it names, and which of them hold.
type product struct{ care, holds uint }

func (p product) table() table {
	t := full
	for v := range vars {
		if p.care>>v&1 == 0 {
			continue
		}
		if p.holds>>v&1 != 0 {
			t &= variableTable(v)
		} else {
			t &^= variableTable(v)
		}
	}
	return t
}

// leastLiterals is the least number of literals that any sum of products of a function
// has, found by trying all sums of prime products.
func leastLiterals(t table) int {
	var primes []product
	for care := range uint(1 << vars) {
		for holds := range uint(1 << vars) {
			p := product{care, holds}
			if holds&^care != 0 || p.table()&^t != 0 {
				continue
			}
			prime := true
			for v := range vars {
				if care>>v&1 != 0 {
					prime = prime && (product{care &^ (1 << v), holds &^ (1 << v)}).table()&^t != 0
				}
			}
			if prime {
				primes = append(primes, p)
			}
		}
	}
	best := 1 << 20
	var try func(covered table, literals int)
	try = func(covered table, literals int) {
		if literals >= best {
			return
		}
		missing := t &^ covered
		if missing == 0 {
			best = literals
			return
		}
		first := table(1) << bits.TrailingZeros32(uint32(missing))
		for _, p := range primes {
			if p.table()&first != 0 {
				try(covered|p.table(), literals+bits.OnesCount(p.care))
			}
		}
	}
	try(0, 0)
	return best
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
	least := make(map[table]int)
	larger := 0
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
		if _, ok := least[want]; !ok {
			least[want] = leastLiterals(want)
		}
		if leaves(c) > least[want] {
			larger++
			t.Logf("%s has %d leaves, a sum of products has %d", c.AppendJSON(nil), leaves(c), least[want])
		}
		again := NewSpace()
		other, err := again.Minimise(fromTable(r, again, want))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c, other); diff != "" {
			t.Fatalf("seed %d, trial %d: two forms of a function:\n%s\n%s", seed, trial, c.AppendJSON(nil), other.AppendJSON(nil))
		}
	}
	t.Logf("%d trials, %d functions, %d larger", trials, len(least), larger)
	if larger > 0 {
		t.Errorf("%d functions came out larger than their least sum of products", larger)
	}
}
