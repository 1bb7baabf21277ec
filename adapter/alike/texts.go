package alike

import (
	"hash/maphash"
	"slices"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/storage"

	"github.com/stagedoor/stagedoor/adapter/document"
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
	// data are those of the data, with their filter, and added are those that came to it
	// since. What was taken out of the data stays among them until all is read again.
	data  *filter
	added []uint64
}

// mostAdded is how many texts are added before all data is read again, which takes
// longer: a tenth of a second for a million texts.
const mostAdded = 4096

// newTexts are those of a policy, and of data. Where the data differs from that of previous,
// which can be nil, at the changed paths only, no other is read.
func newTexts(policy []string, data *document.Document, previous *texts, changed []storage.Path) *texts {
	t := &texts{seed: maphash.MakeSeed()}
	if previous != nil {
		t.seed, t.data = previous.seed, previous.data
		added := &gathered{seed: t.seed, hashes: slices.Clone(previous.added)}
		for _, path := range changed {
			data.Texts(path, added.add)
		}
		if t.added = added.hashes; len(t.added) > mostAdded {
			t.data, t.added = nil, nil
		}
	}
	if t.data == nil {
		all := &gathered{seed: t.seed}
		data.Texts(nil, all.add)
		t.data = all.filter()
	}
	few := &gathered{seed: t.seed, hashes: slices.Clone(t.added)}
	for _, text := range policy {
		few.add(text)
	}
	t.filters = []*filter{t.data, few.filter()}
	return t
}

// has reports whether the text is one of them, or one in lower case is. A text that is a
// number counts as one too: OPA reads data by paths of text, so that it is the position of
// an element in an array.
func (t *texts) has(text string) bool {
	if isNumber(text) || t.hasExactly(text) {
		return true
	}
	lower := strings.ToLower(text)
	return lower != text && t.hasExactly(lower)
}

// isNumber is whether OPA takes the text for the position of an element.
func isNumber(text string) bool {
	if text == "" || strings.IndexByte("+-0123456789", text[0]) < 0 {
		return false // without the error that Atoi would make of most texts
	}
	_, err := strconv.Atoi(text)
	return err == nil
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
