// Package touch tells whether a change of data reaches what somebody read of it.
package touch

import (
	"encoding/binary"
	"maps"
	"slices"

	"github.com/open-policy-agent/opa/v1/storage"
)

// Reads note what somebody reads of a document. The zero value is ready for use. It is
// not safe for concurrent use.
//
// A path is noted by 32 bits of its hash. Two that have the same let something be taken
// for changed that is not, and nothing else.
type Reads struct{ marks map[mark]struct{} }

// Read is what was read, and can be kept and compared. Of the zero Read nobody knows what
// it was.
type Read struct {
	marks string // each of 4 bytes, little-endian, in their order
	known bool
}

// Size is how many bytes it takes.
func (r Read) Size() int { return len(r.marks) }

// Touch is what changes of a document reach.
type Touch struct{ marks map[mark]struct{} }

// mark stands for a path that was read, or for one below which something was.
type mark uint32

// mostReads is how many paths are noted. Who reads more depends on everything.
const mostReads = 4096

// FNV-1a of 64 bits.
const (
	offset64 = 14695981039346656037
	prime64  = 1099511628211
)

type hash uint64

func (h hash) step(name string) hash {
	for i := range len(name) {
		h = (h ^ hash(name[i])) * prime64
	}
	return (h ^ 0xff) * prime64 // which no text in UTF-8 has
}

func (h hash) exactly() mark { return mark(h>>32) ^ mark(h) } //nolint:gosec // bits are folded

func (h hash) below() mark { return (h * prime64).exactly() }

// Note notes that the value at path was read, or that there is none.
func (r *Reads) Note(path []string) {
	if r.marks == nil {
		r.marks = make(map[mark]struct{}, len(path)+1)
	}
	h := hash(offset64)
	for _, step := range path {
		r.marks[h.below()] = struct{}{}
		h = h.step(step)
	}
	r.marks[h.exactly()] = struct{}{}
	if len(r.marks) > mostReads {
		r.marks = map[mark]struct{}{hash(offset64).exactly(): {}}
	}
}

// Read is what was read.
func (r *Reads) Read() Read {
	b := make([]byte, 0, 4*len(r.marks))
	for _, m := range slices.Sorted(maps.Keys(r.marks)) {
		b = binary.LittleEndian.AppendUint32(b, uint32(m))
	}
	return Read{string(b), true}
}

// New is what changes at the paths reach.
func New(paths []storage.Path) Touch {
	t := Touch{map[mark]struct{}{}}
	for _, path := range paths {
		h := hash(offset64)
		for _, step := range path {
			t.marks[h.exactly()] = struct{}{}
			h = h.step(step)
		}
		t.marks[h.exactly()] = struct{}{}
		t.marks[h.below()] = struct{}{}
	}
	return t
}

// Reaches reports whether what was read may be another now. Of the zero Read nobody knows
// what it was.
func (t Touch) Reaches(r Read) bool {
	if !r.known {
		return true
	}
	for marks := []byte(r.marks); len(marks) > 0; marks = marks[4:] {
		if _, is := t.marks[mark(binary.LittleEndian.Uint32(marks))]; is {
			return true
		}
	}
	return false
}
