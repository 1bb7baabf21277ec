package criteria

import (
	"cmp"
	"math/bits"
	"slices"
)

// maxExact is how many variables a function may have for its least sum of products
// to be looked for. Its truth table has 1<<maxExact bits.
const maxExact = 5

// maxCovers is how many partial sums are looked at for the least one.
const maxCovers = 20_000

// leastProducts returns a sum of products of f with the least literals, where f
// depends on few variables and the search ends soon; otherwise false. The first
// such sum in a fixed order is returned, so that equal functions have equal sums.
func (b *bdd) leastProducts(f edge, levels []int) ([]cube, bool) {
	if len(levels) > maxExact {
		return nil, false
	}
	search := leastSum{levels: levels, best: -1}
	search.want = b.table(f, levels)
	search.findPrimes()
	search.try(0, 0, nil)
	if !b.step(search.steps) || search.steps > maxCovers {
		return nil, false
	}
	cubes := make([]cube, len(search.chosen))
	for i, p := range search.chosen {
		cubes[i] = p.cube
	}
	return cubes, true
}

// table is the truth table of f: bit i is its value where the bits of i are the
// values of the levels.
func (b *bdd) table(f edge, levels []int) uint32 {
	var table uint32
	for i := range 1 << len(levels) {
		e := f
		for v, level := range levels {
			lo, hi := b.cofactors(e, level)
			if e = lo; i>>v&1 != 0 {
				e = hi
			}
		}
		if e == yes {
			table |= 1 << i
		}
	}
	return table
}

// leastSum looks for the least sum of prime products with the truth table want.
type leastSum struct {
	levels []int
	want   uint32
	primes []prime
	chosen []prime
	best   int // literals of chosen, or -1
	steps  int
}

type prime struct {
	cube  cube
	table uint32
}

// findPrimes lists the products within want of which no literal can be dropped,
// short ones first.
func (s *leastSum) findPrimes() {
	var extend func(v int, p prime)
	extend = func(v int, p prime) {
		if v == len(s.levels) {
			if p.table&^s.want == 0 && s.isPrime(p) {
				s.primes = append(s.primes, prime{slices.Clone(p.cube), p.table})
			}
			return
		}
		extend(v+1, p)
		for sign := range literal(2) {
			c := slices.Concat(p.cube, cube{literal(s.levels[v]<<1) | sign})
			extend(v+1, prime{c, p.table & s.literalTable(v, sign)})
		}
	}
	extend(0, prime{table: s.everything()})
	slices.SortStableFunc(s.primes, func(a, b prime) int {
		return cmp.Or(cmp.Compare(len(a.cube), len(b.cube)), slices.Compare(a.cube, b.cube))
	})
}

func (s *leastSum) everything() uint32 { return uint32(1<<(1<<len(s.levels)) - 1) }

func (s *leastSum) literalTable(v int, sign literal) uint32 {
	var table uint32
	for i := range 1 << len(s.levels) {
		if i>>v&1 != int(sign) {
			table |= 1 << i
		}
	}
	return table
}

func (s *leastSum) isPrime(p prime) bool {
	for skip := range p.cube {
		table := s.everything()
		for i, l := range p.cube {
			if i != skip {
				table &= s.literalTable(slices.Index(s.levels, int(l>>1)), l&1)
			}
		}
		if table&^s.want == 0 {
			return false
		}
	}
	return true
}

// try completes a sum that covers a part of want already.
func (s *leastSum) try(covered uint32, literals int, sum []prime) {
	if s.steps++; s.steps > maxCovers {
		return
	}
	if s.best >= 0 && literals >= s.best {
		return
	}
	missing := s.want &^ covered
	if missing == 0 {
		s.best, s.chosen = literals, slices.Clone(sum)
		return
	}
	for _, p := range s.covering(missing) {
		s.try(covered|p.table, literals+len(p.cube), append(sum, p))
	}
}

// covering are the primes that hold under that missing assignment which has the
// fewest.
func (s *leastSum) covering(missing uint32) []prime {
	var fewest []prime
	for ; missing != 0; missing &= missing - 1 {
		bit := uint32(1) << bits.TrailingZeros32(missing)
		var covering []prime
		for _, p := range s.primes {
			if p.table&bit != 0 {
				covering = append(covering, p)
			}
		}
		if fewest == nil || len(covering) < len(fewest) {
			fewest = covering
		}
	}
	return fewest
}
