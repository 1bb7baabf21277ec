package touch

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/storage"
)

// Changes are the last changes of a document, in order. They are immutable. So many are
// remembered, of so many paths together.
type Changes []change

const (
	mostChanges = 256
	// MostPaths is how many paths changes have together.
	MostPaths = 16_384
)

type change struct {
	paths int
	touch Touch
}

// And are the changes with a further one, of the paths.
func (c Changes) And(paths []storage.Path) Changes {
	all, n := append(slices.Clone(c), change{len(paths), New(paths)}), len(paths)
	from := len(all) - 1
	for from > 0 && len(all)-from < mostChanges && n+all[from-1].paths <= MostPaths {
		from--
		n += all[from].paths
	}
	return slices.Clone(all[from:])
}

// Last are the last n changes. It is false where not so many are known.
func (c Changes) Last(n uint64) (Changes, bool) {
	if n > uint64(len(c)) {
		return nil, false
	}
	return c[uint64(len(c))-n:], true
}

// Reach reports whether any of the changes reaches what was read.
func (c Changes) Reach(r Read) bool {
	return slices.ContainsFunc(c, func(c change) bool { return c.touch.Reaches(r) })
}
