package vetted

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/storage"

	"github.com/stagedoor/stagedoor/adapter/document"
	"github.com/stagedoor/stagedoor/adapter/document/patch"
)

// activateData lets the data of bundles be activated whose policies are those that made
// was made of, so that nothing has to be compiled. It is false where one has others, and
// then nothing was written.
func activateData(opts *bundle.ActivateOpts, snapshots map[string]*bundle.Bundle, made *State) (bool, error) {
	if made == nil {
		return false, nil
	}
	for name, b := range snapshots {
		if same, err := hasPoliciesOf(opts, name, b); !same || err != nil {
			return false, err
		}
	}
	for name, b := range snapshots {
		if err := writeSnapshot(opts, b); err != nil {
			return false, fmt.Errorf("bundle %s: %w", name, err)
		}
		if err := register(opts, name, b); err != nil {
			return false, err
		}
		if err := made.conflicts(opts.Ctx, opts.Store, opts.Txn, *b.Manifest.Roots); err != nil {
			return false, err
		}
	}
	return true, nil
}

// hasPoliciesOf reports whether the store has a bundle of the name with the same policies
// and roots.
func hasPoliciesOf(opts *bundle.ActivateOpts, name string, b *bundle.Bundle) (bool, error) {
	m, err := manifestOf(opts, name)
	if m == nil || err != nil {
		return false, err
	}
	was, is := m.RegoVersion, b.Manifest.RegoVersion
	if !sameRoots(*m, b.Manifest) || !maps.Equal(m.FileRegoVersions, b.Manifest.FileRegoVersions) ||
		(was == nil) != (is == nil) || was != nil && *was != *is {
		return false, nil
	}
	texts, err := policiesOf(name, b)
	if err != nil {
		return false, err
	}
	ids, err := opts.Store.ListPolicies(opts.Ctx, opts.Txn)
	if err != nil {
		return false, err
	}
	stored := 0
	for _, id := range ids {
		if !isReplaced(id, map[string]*bundle.Bundle{name: b}) {
			continue
		}
		stored++
		text, err := opts.Store.GetPolicy(opts.Ctx, opts.Txn, id)
		if err != nil {
			return false, err
		}
		if other, has := texts[strings.Trim(id, "/")]; !has || !bytes.Equal(text, other) {
			return false, nil
		}
	}
	return stored == len(texts), nil
}

// policiesOf are the texts of a bundle's policies, under the names that OPA stores them by.
func policiesOf(name string, b *bundle.Bundle) (map[string][]byte, error) {
	texts := map[string][]byte{}
	if len(b.Raw) == 0 {
		for _, file := range b.Modules {
			of := bundle.Bundle{Modules: []bundle.ModuleFile{file}}
			for id := range of.ParsedModules(name) {
				texts[strings.Trim(id, "/")] = file.Raw
			}
		}
		return texts, nil
	}
	for files := bundle.NewIterator(b.Raw); ; {
		file, err := files.Next()
		switch {
		case errors.Is(err, io.EOF):
			return texts, nil
		case err != nil:
			return nil, err
		case file.IsPolicy:
			texts[strings.Trim(file.Path.PolicyID(), "/")] = file.Value
		}
	}
}

// writeSnapshot exchanges all data below the bundle's roots.
func writeSnapshot(opts *bundle.ActivateOpts, b *bundle.Bundle) error {
	raw := b.Raw
	if len(raw) == 0 { // it was not read by OPA's plugin
		data, err := json.Marshal(b.Data)
		if err != nil {
			return err
		}
		raw = []bundle.Raw{{Path: "/data.json", Value: data}}
	}
	params := storage.WriteParams
	params.BasePaths, params.Context = *b.Manifest.Roots, opts.TxnCtx
	return opts.Store.Truncate(opts.Ctx, opts.Txn, params, bundle.NewIterator(raw))
}

// register notes in the store which revision of a bundle is active.
func register(opts *bundle.ActivateOpts, name string, b *bundle.Bundle) error {
	if err := bundle.WriteManifestToStore(opts.Ctx, opts.Store, opts.Txn, name, b.Manifest); err != nil {
		return err
	}
	return bundle.WriteEtagToStore(opts.Ctx, opts.Store, opts.Txn, name, b.Etag)
}

// manifestOf is the manifest of the active bundle of the name; nil where there is none.
func manifestOf(opts *bundle.ActivateOpts, name string) (*bundle.Manifest, error) {
	value, err := opts.Store.Read(opts.Ctx, opts.Txn, bundle.ManifestStoragePath(name))
	switch {
	case storage.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, err
	}
	if v, is := value.(ast.Value); is {
		if value, err = ast.JSON(v); err != nil {
			return nil, err
		}
	}
	text, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	m := &bundle.Manifest{}
	return m, json.Unmarshal(text, m)
}

func sameRoots(a, b bundle.Manifest) bool {
	if a.Roots == nil || b.Roots == nil {
		return false
	}
	return slices.Equal(slices.Sorted(slices.Values(*a.Roots)), slices.Sorted(slices.Values(*b.Roots)))
}

// conflicts refuses data where a rule is.
func (s *State) conflicts(ctx context.Context, store storage.Store, txn storage.Transaction, roots []string) error {
	s.compiler.WithPathConflictsCheckRoots(roots) // who writes is alone
	if errs := ast.CheckPathConflicts(s.compiler, storage.NonEmpty(ctx, store, txn)); len(errs) > 0 {
		return errs
	}
	return nil
}

// applyDelta changes the data of an active bundle as a delta bundle says.
func applyDelta(opts *bundle.ActivateOpts, name string, b *bundle.Bundle) error {
	m, err := manifestOf(opts, name)
	switch {
	case err != nil:
		return err
	case m == nil:
		return fmt.Errorf("bundle %s is a delta bundle, and no bundle of the name is active that it could change", name)
	case !sameRoots(*m, b.Manifest):
		return fmt.Errorf("bundle %s: a delta bundle has the roots of the bundle that it changes, which are %v",
			name, *m.Roots)
	}
	var changes []patch.Change
	for _, p := range b.Patch.Data {
		c := patch.Change{Value: p.Value}
		switch p.Op {
		case "upsert":
			c.Op, c.MakesWay = storage.AddOp, true
		case "remove":
			c.Op = storage.RemoveOp
		case "replace":
			c.Op = storage.ReplaceOp
		default:
			return fmt.Errorf("bundle %s: patch.json: %q is no operation; they are upsert, replace and remove", name, p.Op)
		}
		var ok bool
		if c.Path, ok = patch.ParsePointer(p.Path); !ok {
			return fmt.Errorf("bundle %s: patch.json: %.100q is no path", name, p.Path)
		}
		changes = append(changes, c)
	}
	if err := patch.Apply(opts.Ctx, opts.Store, opts.Txn, *m.Roots, changes); err != nil {
		return fmt.Errorf("bundle %s: patch.json: %w", name, err)
	}
	if b.Manifest.Revision == "" {
		if b.Manifest.Revision, err = revisionAfter(m.Revision, b.Patch); err != nil {
			return err
		}
	}
	// A delta bundle says nothing of these.
	b.Manifest.RegoVersion, b.Manifest.FileRegoVersions = m.RegoVersion, m.FileRegoVersions
	return register(opts, name, b)
}

// revisionAfter names the data after a change of it.
func revisionAfter(before string, change any) (string, error) {
	text, err := json.Marshal(change)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %s", before, text))
	return RevisionOfHash(sum[:]), nil
}

// Write changes data that no bundle has, below roots that the options name. The state is
// made's policy with that data.
func (v *Vetter) Write(
	ctx context.Context, store storage.Store, txn storage.Transaction, made *State, changes []patch.Change,
) (*State, error) {
	if err := patch.Apply(ctx, store, txn, v.writable, changes); err != nil {
		return nil, err
	}
	if err := made.conflicts(ctx, store, txn, v.writable); err != nil {
		return nil, err
	}
	written, err := revisionAfter(made.written, changes)
	if err != nil {
		return nil, err
	}
	next := *made
	next.samePolicy, next.written = true, written
	t, _ := txn.(*document.Transaction) // there are no others
	grown := t.Growth()
	if next.writtenBytes += grown; grown > 0 && v.writableBytes > 0 && next.writtenBytes > v.writableBytes {
		return nil, fmt.Errorf("%w: the data of %s would have %d bytes, and %d are allowed (stagedoor.limits.data)",
			patch.ErrTooMuch, strings.Join(v.writable, ", "), next.writtenBytes, v.writableBytes)
	}
	next.Revision = RevisionOf(next.Revisions, written)
	return &next, nil
}

// with is the same policy with other data, which is of these bundles.
func (s *State) with(bundles map[string]Bundle) *State {
	next := *s
	next.samePolicy = true
	next.setBundles(bundles)
	return &next
}
