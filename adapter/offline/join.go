package offline

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"

	"github.com/stagedoor/stagedoor/adapter/supply/files"
	"github.com/stagedoor/stagedoor/adapter/vetted"
)

// joined is a single bundle with the modules, the data and the roots of several.
type joined struct {
	bundle  bundle.Bundle
	modules map[string]*ast.Module // as [Policy.Modules]
	roots   map[string]string      // and the PATH of each
}

// join reads the policy's own bundle and those at other PATHs. What one of them is refused
// for is a [*RefusedError] with its PATH.
func (p *Policy) join(ctx context.Context, others []string) (*joined, error) {
	vetter, err := p.vetter()
	if err != nil {
		return nil, err
	}
	j := &joined{
		bundle:  bundle.Bundle{Data: map[string]any{}},
		modules: map[string]*ast.Module{}, roots: map[string]string{},
	}
	if err := j.add(ctx, vetter, p.source); err != nil {
		return nil, err
	}
	for _, at := range others {
		other, err := read(ctx, at)
		if err != nil {
			return nil, err
		}
		if err := errors.Join(j.add(ctx, vetter, other), other.close()); err != nil {
			return nil, err
		}
	}
	roots := slices.Sorted(maps.Keys(j.roots))
	j.bundle.Manifest.Roots = &roots
	return j, nil
}

// add adds a bundle.
func (j *joined) add(ctx context.Context, vetter *vetted.Vetter, part *source) error {
	modules, _, err := part.parse()
	if err != nil {
		return &RefusedError{part.given, err}
	}
	maps.Copy(j.modules, modules)
	content, err := files.ReadFS(ctx, part.files)
	if err != nil {
		return &RefusedError{part.given, err}
	}
	b, err := bundle.NewCustomReader(content).
		WithBaseDir(part.given).
		WithProcessAnnotations(true).
		WithSkipBundleVerification(true).
		WithRegoVersion(ast.DefaultRegoVersion).
		Read()
	if err == nil {
		err = vetter.Acceptable(part.given, &b)
	}
	if err == nil {
		err = j.own(*b.Manifest.Roots, part.given)
	}
	if err == nil {
		err = merge(j.bundle.Data, b.Data, nil)
	}
	if err != nil {
		return &RefusedError{part.given, err}
	}
	j.bundle.Modules = append(j.bundle.Modules, b.Modules...)
	if j.bundle.Manifest.Revision == "" { // of the first
		j.bundle.Manifest.Revision = b.Manifest.Revision
	}
	if j.bundle.Manifest.Revision == "" {
		j.bundle.Manifest.Revision = content.Fingerprint
	}
	return nil
}

// own notes whose the roots are. OPA refuses bundles whose roots overlap.
func (j *joined) own(roots []string, at string) error {
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

// roots are those of the policy's bundle, or bundles.
func (p *Policy) roots() ([]string, error) {
	if p.joined != nil {
		return *p.joined.bundle.Manifest.Roots, nil
	}
	return p.source.roots()
}
