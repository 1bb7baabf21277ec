package document

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/storage"
)

// Change is one change of data, as OPA's delta bundles and its API have them.
type Change struct {
	Op storage.PatchOp
	// Path is where, with the meaning of its characters taken out.
	Path  storage.Path
	Value any
	// MakesWay is whether what is not there above Path is made.
	MakesWay bool
}

// Apply makes the changes, all of which must be below the roots.
func Apply(ctx context.Context, store storage.Store, txn storage.Transaction, roots []string, changes []Change) error {
	for _, c := range changes {
		if !slices.ContainsFunc(roots, func(root string) bool {
			at, ok := storage.ParsePathEscaped("/" + root)
			return ok && c.Path.HasPrefix(at)
		}) {
			return fmt.Errorf("%w: %s is below none of the roots %s", ErrOutside, c.Path, strings.Join(roots, ", "))
		}
		if c.MakesWay {
			if err := storage.MakeDir(ctx, store, txn, c.Path[:len(c.Path)-1]); err != nil {
				return fmt.Errorf("%s: %w", c.Path, err)
			}
		}
		if err := store.Write(ctx, txn, c.Op, c.Path, c.Value); err != nil {
			return fmt.Errorf("%s: %w", c.Path, err)
		}
	}
	return nil
}

// ErrOutside is data that is not where it may be.
var ErrOutside = errors.New("this data may not be written")

// ParsePointer is the path of a JSON pointer in a URL or a patch, as OPA reads it.
func ParsePointer(text string) (storage.Path, bool) {
	path, ok := storage.ParsePathEscaped("/" + strings.Trim(text, "/"))
	if !ok || len(path) == 1 && path[0] == "" {
		return storage.Path{}, ok
	}
	for i, step := range path {
		path[i] = strings.ReplaceAll(strings.ReplaceAll(step, "~1", "/"), "~0", "~")
	}
	return path, true
}
