package alike

import (
	"hash/maphash"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// texts are the texts of a policy and its data, as they are and in lower case. They take
// two bytes a text: what they keep is a Bloom filter. It may take one in a thousand of
// other texts for one of them, and then a caller is told apart who need not be. It never
// misses one.
//
// They are immutable and safe for concurrent use.
type texts struct {
	seed    maphash.Seed
	filters []*filter
	wide    map[ast.Object]*filter // those of the wide objects among the data
}

// wideObject is how many members an object has whose filter is kept for the next state:
// most data stays as it is when some of it changes.
const wideObject = 10_000

// newTexts are those of a policy, and of data. What is wide and the same in previous,
// which can be nil, is not read again.
func newTexts(policy []string, data ast.Value, previous *texts) *texts {
	t := &texts{seed: maphash.MakeSeed(), wide: make(map[ast.Object]*filter)}
	if previous != nil {
		t.seed = previous.seed
	}
	small := &gathered{seed: t.seed}
	for _, text := range policy {
		small.add(text)
	}
	t.gather(small, data, previous)
	t.filters = append(t.filters, small.filter())
	return t
}

// gather gathers the texts of a document, those of wide objects by themselves.
func (t *texts) gather(into *gathered, v ast.Value, previous *texts) {
	switch v := v.(type) {
	case ast.String:
		into.add(string(v))
	case *ast.Array:
		v.Foreach(func(element *ast.Term) { t.gather(into, element.Value, previous) })
	case ast.Set:
		v.Foreach(func(element *ast.Term) { t.gather(into, element.Value, previous) })
	case ast.Object:
		each := func(into *gathered) {
			v.Foreach(func(key, value *ast.Term) {
				t.gather(into, key.Value, previous)
				t.gather(into, value.Value, previous)
			})
		}
		if v.Len() < wideObject {
			each(into)
			return
		}
		f := (*filter)(nil)
		if previous != nil {
			f = previous.wide[v]
		}
		if f == nil {
			own := &gathered{seed: t.seed}
			each(own)
			f = own.filter()
		}
		t.wide[v] = f
		t.filters = append(t.filters, f)
	}
}

// has reports whether the text is one of them, or one in lower case is.
func (t *texts) has(text string) bool {
	if t.hasExactly(text) {
		return true
	}
	lower := strings.ToLower(text)
	return lower != text && t.hasExactly(lower)
}

func (t *texts) hasExactly(text string) bool {
	hash := maphash.String(t.seed, text)
	for _, f := range t.filters {
		if f.has(hash) {
			return true
		}
	}
	return false
}

// gathered are hashes of texts that become a filter.
type gathered struct {
	seed   maphash.Seed
	hashes []uint64
	last   [2]string // those that were added last, since values repeat
}

func (g *gathered) add(text string) {
	if text == g.last[0] || text == g.last[1] {
		return
	}
	g.last = [2]string{text, g.last[0]}
	g.hashes = append(g.hashes, maphash.String(g.seed, text))
	if lower := strings.ToLower(text); lower != text {
		g.hashes = append(g.hashes, maphash.String(g.seed, lower))
	}
}

// filter is a Bloom filter.
type filter struct{ words []uint64 }

const (
	wordBits = 64
	// bitsForEach is how many bits a text gets, and probes how many of them it sets:
	// about one in a thousand of other texts finds all of its own set.
	bitsForEach = 16
	probes      = 8
)

func (g *gathered) filter() *filter {
	f := &filter{words: make([]uint64, len(g.hashes)*bitsForEach/wordBits+1)}
	for _, hash := range g.hashes {
		f.each(hash, func(word int, bit uint64) bool {
			f.words[word] |= bit
			return true
		})
	}
	return f
}

func (f *filter) has(hash uint64) bool {
	found := true
	f.each(hash, func(word int, bit uint64) bool {
		found = f.words[word]&bit != 0
		return found
	})
	return found
}

// each calls visit for the bits of a hash until it says no (Kirsch and Mitzenmacher, Less
// hashing, same performance, 2006).
func (f *filter) each(hash uint64, visit func(word int, bit uint64) bool) {
	const half = 32
	bits := uint64(len(f.words)) * wordBits
	at, step := hash, hash>>half|1
	for range probes {
		bit := at % bits
		if !visit(int(bit/wordBits), 1<<(bit%wordBits)) { //nolint:gosec // it is below the number of words
			return
		}
		at += step
	}
}
