package offline

import (
	"context"
	"encoding/json"
	"io/fs"
	"strings"
	"testing/fstest"

	"github.com/open-policy-agent/opa/v1/bundle"

	"github.com/stagedoor/stagedoor/adapter/supply"
)

// With opens the same policy with some files changed: text by name, as in
// [Policy.Files]; an empty text takes the file out. Tests are left out. Packages of
// the new modules that no root covers are added to the roots. The entrypoint is the
// policy's own where none is given.
//
// Close must be called in the end. The error is as that of [Open].
func (p *Policy) With(ctx context.Context, changes map[string]string, entrypoint string) (*Policy, error) {
	if entrypoint == "" {
		entrypoint = p.Entrypoint()
	}
	files, err := p.changed(changes)
	if err != nil {
		return nil, err
	}
	changed := &Policy{
		Path: p.Path, options: p.options, source: &source{given: p.source.given, at: p.source.at, files: files},
	}
	changed.options.Entrypoint = entrypoint
	if err := changed.open(ctx, supply.Options{Default: files}); err != nil {
		return nil, err
	}
	return changed, nil
}

func (p *Policy) changed(changes map[string]string) (fs.FS, error) {
	files := fstest.MapFS{}
	err := fs.WalkDir(p.source.files, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && p.source.hides(entry.Name()):
			return fs.SkipDir
		case entry.IsDir() || isTest(name) || p.source.hides(entry.Name()):
			return nil
		}
		text, err := fs.ReadFile(p.source.files, name)
		files[name] = &fstest.MapFile{Data: text, Mode: 0o644}
		return err
	})
	if err != nil {
		return nil, err
	}
	roots, err := p.source.roots()
	if err != nil {
		return nil, err
	}
	for name, text := range changes {
		if text == "" {
			delete(files, name)
			continue
		}
		files[name] = &fstest.MapFile{Data: []byte(text), Mode: 0o644}
		module, err := parse(name, text)
		if err != nil {
			return nil, &RefusedError{p.Path, err}
		}
		root := strings.TrimPrefix(strings.ReplaceAll(module.Package.Path.String(), ".", "/"), "data/")
		if !bundle.RootPathsContain(roots, root) {
			roots = append(roots, root)
		}
	}
	manifest, err := json.Marshal(map[string]any{"roots": roots, "revision": p.Revision()})
	if err != nil {
		return nil, err
	}
	files[".manifest"] = &fstest.MapFile{Data: manifest, Mode: 0o644}
	return files, nil
}
