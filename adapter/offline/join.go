package offline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"testing/fstest"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"

	"github.com/stagedoor/stagedoor/adapter/supply/files"
	"github.com/stagedoor/stagedoor/adapter/vetted"
)

// join makes the policy's source one with the bundles at other PATHs: a single bundle with
// the modules, the data and the roots of all. What one of them is refused for is a
// [*RefusedError] with its PATH.
func (p *Policy) join(ctx context.Context, others []string) error {
	vetter, err := p.vetter()
	if err != nil {
		return err
	}
	j := &joining{
		vetter: vetter, files: fstest.MapFS{}, names: map[string]string{},
		data: map[string]any{}, roots: map[string]string{},
	}
	if err := j.add(ctx, p.source); err != nil {
		return err
	}
	for _, at := range others {
		other, err := read(ctx, at)
		if err != nil {
			return err
		}
		if err := errors.Join(j.add(ctx, other), other.close()); err != nil {
			return err
		}
	}
	for name, document := range map[string]any{
		".manifest": map[string]any{"roots": slices.Sorted(maps.Keys(j.roots)), "revision": j.revision}, "data.json": j.data,
	} {
		text, err := json.Marshal(document)
		if err != nil {
			return err
		}
		j.files[name] = &fstest.MapFile{Data: text, Mode: 0o644}
	}
	p.source.files, p.source.names = j.files, j.names
	return nil
}

// joining is a bundle that is made of several.
type joining struct {
	vetter   *vetted.Vetter
	files    fstest.MapFS
	names    map[string]string // of the modules, as the PATHs were given
	data     map[string]any
	roots    map[string]string // and the PATH of each
	revision string            // of the first
}

// add adds a bundle.
func (j *joining) add(ctx context.Context, part *source) error {
	if _, _, err := part.parse(); err != nil {
		return &RefusedError{part.given, err}
	}
	content, err := files.ReadFS(ctx, part.files)
	if err != nil {
		return &RefusedError{part.given, err}
	}
	b, err := bundle.NewCustomReader(content).
		WithSkipBundleVerification(true).
		WithRegoVersion(ast.DefaultRegoVersion).
		Read()
	if err == nil {
		err = j.vetter.Acceptable(part.given, &b)
	}
	if err == nil {
		err = j.own(*b.Manifest.Roots, part.given)
	}
	if err == nil {
		err = merge(j.data, b.Data, nil)
	}
	if err != nil {
		return &RefusedError{part.given, err}
	}
	if j.revision == "" {
		j.revision = b.Manifest.Revision
	}
	if j.revision == "" {
		j.revision = content.Fingerprint
	}
	for _, file := range b.Modules {
		name := strings.TrimPrefix(file.Path, "/")
		j.files[j.name(part, name)] = &fstest.MapFile{Data: file.Raw, Mode: 0o644}
	}
	return nil
}

// own notes whose the roots are. OPA refuses bundles whose roots overlap.
func (j *joining) own(roots []string, at string) error {
	for _, root := range roots {
		for other, of := range j.roots {
			if of != at && bundle.RootPathsOverlap(root, other) {
				return fmt.Errorf("the roots %q and, of %s, %q overlap, and OPA refuses both bundles: give each roots of its own",
					root, of, other)
			}
		}
		j.roots[root] = at
	}
	return nil
}

// merge adds the data of a bundle to that of others.
func merge(into, from map[string]any, at []string) error {
	for name, value := range from {
		had, has := into[name]
		if !has {
			into[name] = value
			continue
		}
		at := append(slices.Clone(at), name)
		below, is := value.(map[string]any)
		above, too := had.(map[string]any)
		if !is || !too {
			return fmt.Errorf("data.%s is outside the roots: another bundle has it, too", strings.Join(at, "."))
		}
		if err := merge(above, below, at); err != nil {
			return err
		}
	}
	return nil
}

// name is what a module is called: as the PATH was given, where a file of a bundle may be
// called so.
func (j *joining) name(part *source, file string) string {
	given := part.name(file)
	name := strings.TrimPrefix(given, "/")
	if !fs.ValidPath(name) || slices.ContainsFunc(strings.Split(path.Dir(name), "/"), hidden) {
		name = fmt.Sprintf("%d/%s", len(j.roots), file) // of which there are more with each bundle
	}
	j.names[name] = given
	return name
}
