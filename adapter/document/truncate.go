package document

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/util"

	"github.com/stagedoor/stagedoor/adapter/document/token"
	"github.com/stagedoor/stagedoor/adapter/document/touch"
)

// Truncate implements [storage.Store]: all data below the roots, which params has, is then
// that of a bundle, and policies are added.
func (s *Store) Truncate(
	_ context.Context, txn storage.Transaction, params storage.TransactionParams, files storage.Iterator,
) error {
	t, err := s.transaction(txn, true)
	if err != nil {
		return err
	}
	roots := make([]storage.Path, len(params.BasePaths))
	for i, root := range params.BasePaths {
		var ok bool
		if roots[i], ok = storage.ParsePathEscaped("/" + root); !ok {
			return fmt.Errorf("storage path invalid: %v", root)
		}
	}
	var data []*storage.Update
	for {
		file, err := files.Next()
		switch {
		case errors.Is(err, io.EOF):
			if values, ok := t.compareRoots(roots, data); ok {
				return t.putRoots(roots, values)
			}
			return t.writeRoots(roots, params.BasePaths, data)
		case err != nil:
			return err
		case !file.IsPolicy:
			data = append(data, file)
		case !bytes.Equal(t.policies[file.Path.PolicyID()], file.Value):
			t.upsert(file.Path.PolicyID(), file.Value)
		}
	}
}

// arrival is what is to be at a root: nothing where there is no node.
type arrival struct {
	node
	touched []storage.Path
}

// compareRoots reads what is to be at each root, over what is there. It is false where
// anything is not as most bundles have it, and then nobody knows whether it is right.
func (t *Transaction) compareRoots(roots []storage.Path, files []*storage.Update) ([]arrival, bool) {
	if slices.ContainsFunc(roots, func(root storage.Path) bool { return len(root) == 0 }) {
		return nil, false
	}
	values, below := make([]arrival, len(roots)), make([][]*storage.Update, len(roots))
	for _, file := range files {
		if i := slices.IndexFunc(roots, file.Path.HasPrefix); i >= 0 {
			below[i] = append(below[i], file)
		} else if r := newReading(file.Value, file.Path); !t.above(r, file.Path, roots, values) || !r.End() {
			return nil, false
		}
	}
	for i, files := range below {
		if len(files) == 0 {
			continue
		}
		if values[i].node != nil {
			return nil, false
		}
		r := newReading(nil, roots[i])
		if !t.compare(&values[i], r, roots[i], func(old node) (node, bool) { return r.files(old, files) }) {
			return nil, false
		}
	}
	return values, true
}

// compare reads what is to be at a path.
func (t *Transaction) compare(into *arrival, r *reading, at storage.Path, read func(node) (node, bool)) bool {
	old, had := t.writing.document.at(at)
	n, ok := read(old)
	if ok && (!had || n != old) {
		r.differs(old, had, n)
	}
	into.node, into.touched = n, r.touched
	if len(r.touched) > touch.MostPaths {
		into.touched = []storage.Path{at}
	}
	r.touched = nil
	return ok
}

// above reads an object at a path that has roots below it, and nothing else.
func (t *Transaction) above(r *reading, at storage.Path, roots []storage.Path, values []arrival) bool {
	empty := true
	return r.Peek() == '{' && r.members(func(key []byte, read func(node) (node, bool)) bool {
		empty = false
		below := append(slices.Clone(at), string(key))
		if i := slices.IndexFunc(roots, below.Equal); i >= 0 {
			return values[i].node == nil && t.compare(&values[i], r, below, read)
		}
		return !bytes.ContainsRune(key, '/') &&
			slices.ContainsFunc(roots, func(root storage.Path) bool { return root.HasPrefix(below) }) &&
			t.above(r, below, roots, values)
	}) && !empty
}

// files reads what files have that are where r is or below, none of them below another.
func (r *reading) files(old node, files []*storage.Update) (node, bool) {
	depth := len(r.root) + len(r.at)
	if len(files) == 1 && len(files[0].Path) == depth {
		r.Reader = token.New(files[0].Value)
		if r.Peek() != '{' {
			return nil, false
		}
		n, ok := r.value(old)
		return n, ok && r.End()
	}
	steps := map[string][]*storage.Update{}
	for _, file := range files {
		if len(file.Path) == depth {
			return nil, false
		}
		steps[file.Path[depth]] = append(steps[file.Path[depth]], file)
	}
	o := r.over(old)
	for step, files := range steps {
		r.at = append(r.at, []byte(step))
		ok := o.add([]byte(step), func(old node) (node, bool) { return r.files(old, files) })
		r.at = r.at[:len(r.at)-1]
		if !ok {
			return nil, false
		}
	}
	return o.node(), true
}

// putRoots has at each root what was compared.
func (t *Transaction) putRoots(roots []storage.Path, values []arrival) error {
	for i, at := range roots {
		was, had := t.writing.document.at(at)
		switch v := values[i]; {
		case v.node == nil:
			if err := t.remove(at); err != nil {
				return err
			}
		case !had || was != v.node:
			if err := t.writing.MakeDir(at[:max(len(at)-1, 0)]); err != nil {
				return err
			}
			if err := t.writing.put(storage.AddOp, at, v.node); err != nil {
				return err
			}
			t.writing.touched = append(t.writing.touched, v.touched...)
		}
	}
	return nil
}

func (t *Transaction) remove(at storage.Path) error {
	if err := t.writing.Write(storage.RemoveOp, at, nil); err != nil && !storage.IsNotFound(err) {
		return err
	}
	return nil
}

// writeRoots writes what there is of a bundle's data at its roots, and refuses what is
// beside them.
func (t *Transaction) writeRoots(roots []storage.Path, names []string, files []*storage.Update) error {
	data := map[string]any{}
	for _, file := range files {
		var value any
		if err := util.Unmarshal(file.Value, &value); err != nil {
			return err
		}
		if value != nil && !merge(data, file.Path, value) {
			return fmt.Errorf("failed to insert data file from path %s", path.Join(file.Path...))
		}
	}
	if beside := besideRoots(names, data, ""); beside != "" {
		return fmt.Errorf(
			"manifest roots %v do not permit data at path '/%s' (hint: check bundle directory structure)", names, beside)
	}
	for _, at := range roots {
		value, ok := lookup(data, at)
		if !ok {
			if err := t.remove(at); err != nil {
				return err
			}
			continue
		}
		if err := t.writing.MakeDir(at[:max(len(at)-1, 0)]); err != nil {
			return err
		}
		if err := t.writing.Write(storage.AddOp, at, value); err != nil {
			return err
		}
	}
	return nil
}

// merge puts a value into a document at a path. It is false where something else is there.
func merge(into map[string]any, at storage.Path, value any) bool {
	if len(at) > 0 {
		below, _ := into[at[0]].(map[string]any)
		switch _, there := into[at[0]]; {
		case !there && len(at) == 1:
			into[at[0]] = value
			return true
		case !there:
			below = map[string]any{}
			into[at[0]] = below
		case below == nil:
			return false
		}
		return merge(below, at[1:], value)
	}
	object, is := value.(map[string]any)
	if !is {
		return false
	}
	for key, member := range object {
		if !merge(into, storage.Path{key}, member) {
			return false
		}
	}
	return true
}

// besideRoots is a path of data that is not below the roots; empty for none.
func besideRoots(roots []string, data map[string]any, at string) string {
	for key, value := range data {
		path := strings.TrimPrefix(at+"/"+key, "/")
		if bundle.RootPathsContain(roots, path) {
			continue
		}
		below, is := value.(map[string]any)
		above := func(root string) bool { return strings.HasPrefix(strings.Trim(root, "/"), path) }
		if !is || !slices.ContainsFunc(roots, above) {
			return path
		}
		if beside := besideRoots(roots, below, path); beside != "" {
			return beside
		}
	}
	return ""
}

func lookup(data map[string]any, at storage.Path) (any, bool) {
	value := any(data)
	for _, step := range at {
		object, _ := value.(map[string]any)
		var ok bool
		if value, ok = object[step]; !ok {
			return nil, false
		}
	}
	return value, true
}
