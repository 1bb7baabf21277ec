// Package patch has changes of data as somebody asks for them: OPA's delta bundles and
// its API.
package patch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/storage"

	"github.com/stagedoor/stagedoor/adapter/document"
)

// Change is one change of data, as OPA's delta bundles and its API have them.
type Change struct {
	Op storage.PatchOp
	// Path is where, with the meaning of its characters taken out.
	Path  storage.Path
	Value any
	// MakesWay is whether what is not there above Path is made.
	MakesWay bool
	// OnlyNew is whether nothing may be there before.
	OnlyNew bool
}

// ErrThere is why something that may only be new is not written.
var ErrThere = errors.New("there is something already")

// ErrTooMuch is why data is not written of which there would be more than may be.
var ErrTooMuch = errors.New("there would be too much data")

// Apply makes the changes, all of which must be below the roots.
func Apply(ctx context.Context, store storage.Store, txn storage.Transaction, roots []string, changes []Change) error {
	for _, c := range changes {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !slices.ContainsFunc(roots, func(root string) bool {
			at, ok := storage.ParsePathEscaped("/" + root)
			return ok && c.Path.HasPrefix(at)
		}) {
			return fmt.Errorf("%w: %s is below none of the roots %s", ErrOutside, c.Path, strings.Join(roots, ", "))
		}
		there := false
		if t, ours := txn.(*document.Transaction); ours && (c.OnlyNew || c.MakesWay) {
			there = t.Has(c.Path)
		}
		if there && c.OnlyNew {
			return fmt.Errorf("%s: %w", c.Path, ErrThere)
		}
		if c.MakesWay && !there { // what is there can be in an array, as OPA has it
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

// mostSteps is how long a path may be. Values are not nested deeper than some ten
// thousand levels by any reader of JSON, and a path makes a level of each step.
const mostSteps = 1_000

// ParsePointer is the path of a JSON pointer in a URL or a patch, as OPA reads it. It is
// false for what is no path, and for one of more than a thousand steps.
func ParsePointer(text string) (storage.Path, bool) {
	path, ok := parsePath(text)
	for i, step := range path {
		path[i] = strings.ReplaceAll(strings.ReplaceAll(step, "~1", "/"), "~0", "~")
	}
	return path, ok
}

func parsePath(text string) (storage.Path, bool) {
	if strings.Count(text, "/") > mostSteps {
		return nil, false
	}
	path, ok := storage.ParsePathEscaped("/" + strings.Trim(text, "/"))
	if !ok || len(path) == 1 && path[0] == "" {
		return storage.Path{}, ok
	}
	return path, true
}

// ErrMalformed is a request for changes that is none.
var ErrMalformed = errors.New("this says no change of data")

// ParsePatch reads a JSON patch of what is at a path, as OPA's PATCH /v1/data takes it.
func ParsePatch(at string, body []byte) ([]Change, error) {
	var operations []struct {
		Op    string          `json:"op"`
		Path  *string         `json:"path"`
		Value json.RawMessage `json:"value"`
	}
	if err := decode(body, &operations); err != nil {
		return nil, fmt.Errorf("%w: want a list of operations: %w", ErrMalformed, err)
	}
	changes := make([]Change, 0, len(operations))
	for i, o := range operations {
		var c Change
		switch o.Op {
		case "add":
			c.Op = storage.AddOp
		case "remove":
			c.Op = storage.RemoveOp
		case "replace":
			c.Op = storage.ReplaceOp
		default:
			return nil, fmt.Errorf("%w: [%d].op is %q: want add, remove or replace", ErrMalformed, i, o.Op)
		}
		var ok bool
		switch {
		case o.Path == nil:
			return nil, fmt.Errorf("%w: [%d] has no path; an empty one means all that is asked about", ErrMalformed, i)
		case c.Op != storage.RemoveOp && o.Value == nil:
			return nil, fmt.Errorf("%w: [%d] has no value; write null for nothing", ErrMalformed, i)
		case o.Value != nil:
			if err := decode(o.Value, &c.Value); err != nil {
				return nil, fmt.Errorf("%w: [%d].value: %w", ErrMalformed, i, err)
			}
		}
		if c.Path, ok = ParsePointer(strings.TrimRight(at, "/") + "/" + strings.TrimLeft(*o.Path, "/")); !ok {
			return nil, fmt.Errorf("%w: [%d].path is no path: %.100q", ErrMalformed, i, *o.Path)
		}
		changes = append(changes, c)
	}
	return changes, nil
}

// ParsePut reads a value for a path, as OPA's PUT /v1/data takes it.
func ParsePut(at string, body []byte) ([]Change, error) {
	c := Change{Op: storage.AddOp, MakesWay: true}
	if err := decode(body, &c.Value); err != nil {
		return nil, fmt.Errorf("%w: want a value: %w", ErrMalformed, err)
	}
	return c.at(at)
}

// ParseDelete reads which path is removed, as OPA's DELETE /v1/data takes it.
func ParseDelete(at string) ([]Change, error) { return Change{Op: storage.RemoveOp}.at(at) }

// at is the change of a path in a URL, in which ~ has no meaning.
func (c Change) at(text string) ([]Change, error) {
	path, ok := parsePath(text)
	if !ok {
		return nil, fmt.Errorf("%w: %.100q is no path", ErrMalformed, text)
	}
	c.Path = path
	return []Change{c}, nil
}

// decode reads one JSON value, with its numbers as they are written.
func decode(body []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	if err := decoder.Decode(into); err != nil {
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is more behind it")
	}
	return nil
}

// CheckRoots says what is wrong with roots of data that is written from outside.
func CheckRoots(roots []string) error {
	for _, root := range roots {
		path, ok := storage.ParsePathEscaped("/" + root)
		switch {
		case !ok || len(path) == 0 || slices.Contains(path, "") || !IsPlainRoot(root):
			return fmt.Errorf("%q is no root: want one such as shop/teams", root)
		case path[0] == "system":
			return fmt.Errorf("%s is OPA's own", root)
		}
	}
	return nil
}

// IsPlainRoot reports whether a root is written as it is read. OPA compares roots as they
// are written, and writes data where they are read: team%73 meets with nothing that is
// called teams, and is it.
func IsPlainRoot(root string) bool {
	return !strings.Contains(root, "%") && strings.Count(root, "/") < mostSteps
}
