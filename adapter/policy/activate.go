package policy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage"

	"github.com/stagedoor/stagedoor/adapter/explore"
)

// vetter turns what OPA activates into a [State], or says why it must not serve.
// It is immutable and safe for concurrent use.
type vetter struct {
	// library are the modules of the rule library, added to every bundle.
	library map[string]*ast.Module
	// entrypoint is the configured path, or empty for the annotated rule.
	entrypoint string
}

// parseLibrary reads the rule library: source by path.
func parseLibrary(library map[string]string) (map[string]*ast.Module, error) {
	modules := make(map[string]*ast.Module, len(library))
	for path, text := range library {
		file := "stagedoor/" + path
		module, err := ast.ParseModuleWithOpts(file, text, ast.ParserOptions{ProcessAnnotation: true})
		if err != nil {
			return nil, fmt.Errorf("rule library: %w", err)
		}
		modules[file] = module
	}
	return modules, nil
}

// activate lets OPA activate the bundles of opts with the rule library beside
// them, and makes a state of the result. The error is whatever the bundle's
// author must mend. The state is nil, without an error, where a further bundle
// that has yet to arrive may bring the entrypoint: awaited says so.
func (v *vetter) activate(opts *bundle.ActivateOpts, awaited func(active []string) bool) (*State, error) {
	for name, b := range opts.Bundles {
		if err := v.acceptable(name, b); err != nil {
			return nil, err
		}
	}
	opts.ExtraModules = maps.Clone(opts.ExtraModules)
	if opts.ExtraModules == nil {
		opts.ExtraModules = map[string]*ast.Module{}
	}
	for name, module := range v.library {
		opts.ExtraModules[name] = module.Copy()
	}
	opts.Compiler.WithKeepModules(true)
	if err := (&bundle.DefaultActivator{}).Activate(opts); err != nil {
		return nil, err
	}
	active, err := activeBundles(opts.Ctx, opts.Store, opts.Txn)
	if err != nil {
		return nil, err
	}
	entrypoint, err := v.findEntrypoint(opts.Compiler)
	if err != nil {
		if errors.Is(err, errNoEntrypoint) && awaited(slices.Sorted(maps.Keys(active))) {
			return nil, nil
		}
		return nil, err
	}
	return v.state(opts.Ctx, opts.Compiler, entrypoint, active)
}

// acceptable refuses bundles that OPA would take and that would do harm.
func (v *vetter) acceptable(name string, b *bundle.Bundle) error {
	if b.Type() == bundle.DeltaBundleType {
		return fmt.Errorf("bundle %s is a delta bundle; stagedoor takes whole bundles only, since each policy serves its own immutable data", name)
	}
	if b.Manifest.Roots == nil || slices.Contains(*b.Manifest.Roots, "") {
		return fmt.Errorf("bundle %s declares no roots, so it would own all data and erase every other bundle: write a file .manifest beside its policies that says {\"roots\": [%s]}",
			name, strings.Join(suggestRoots(b), ", "))
	}
	for _, file := range b.Modules {
		for _, library := range v.library {
			if file.Parsed.Package.Path.Equal(library.Package.Path) {
				return fmt.Errorf("%s: package %s is of the rule library, which stagedoor brings itself: leave it out of the bundle",
					file.Path, trimData(library.Package.Path.String()))
			}
		}
	}
	return nil
}

// suggestRoots names the packages and top-level data of the bundle.
func suggestRoots(b *bundle.Bundle) []string {
	roots := map[string]bool{}
	for _, file := range b.Modules {
		if p, err := file.Parsed.Package.Path.Ptr(); err == nil {
			roots[strings.TrimPrefix(p, "data/")] = true
		}
	}
	covered := func(key string) bool {
		for root := range roots {
			if root == key || strings.HasPrefix(root, key+"/") {
				return true
			}
		}
		return false
	}
	for key := range b.Data {
		if !covered(key) {
			roots[key] = true
		}
	}
	var quoted []string
	for _, root := range slices.Sorted(maps.Keys(roots)) {
		quoted = append(quoted, fmt.Sprintf("%q", root))
	}
	return quoted
}

// activeBundle is what the store knows of one bundle.
type activeBundle struct {
	revision string
	roots    []storage.Path
}

func activeBundles(ctx context.Context, s storage.Store, txn storage.Transaction) (map[string]activeBundle, error) {
	names, err := bundle.ReadBundleNamesFromStore(ctx, s, txn)
	if err != nil {
		return nil, err
	}
	active := make(map[string]activeBundle, len(names))
	for _, name := range names {
		revision, err := bundle.ReadBundleRevisionFromStore(ctx, s, txn, name)
		if err != nil && !storage.IsNotFound(err) {
			return nil, err
		}
		roots, err := bundle.ReadBundleRootsFromStore(ctx, s, txn, name)
		if err != nil {
			return nil, err
		}
		b := activeBundle{revision: revision}
		for _, root := range roots {
			b.roots = append(b.roots, storage.Path(strings.Split(strings.Trim(root, "/"), "/")))
		}
		active[name] = b
	}
	return active, nil
}

var errNoEntrypoint = errors.New("no rule decides")

// findEntrypoint returns the path of the rule that decides, such as
// backstage/authz/allow: the configured one, or the one rule annotated.
func (v *vetter) findEntrypoint(c *ast.Compiler) (string, error) {
	if v.entrypoint != "" {
		if len(c.GetRules(entrypointRef(v.entrypoint))) == 0 {
			return "", fmt.Errorf("%w: the entrypoint %s (stagedoor.policy.entrypoint) is no rule of the policy%s",
				errNoEntrypoint, v.entrypoint, nearestRules(c, v.library))
		}
		return v.entrypoint, nil
	}
	found := map[string]string{}
	for _, a := range c.GetAnnotationSet().Flatten() {
		if a.Annotations.Entrypoint {
			found[trimData(pathOf(a.Path))] = location(a.Location)
		}
	}
	switch len(found) {
	case 1:
		for entrypoint := range found {
			return entrypoint, nil
		}
	case 0:
		return "", fmt.Errorf("%w: annotate the rule that decides with `# METADATA` and `# entrypoint: true`, or name it in stagedoor.policy.entrypoint%s",
			errNoEntrypoint, nearestRules(c, v.library))
	}
	var places []string
	for _, entrypoint := range slices.Sorted(maps.Keys(found)) {
		places = append(places, fmt.Sprintf("%s (%s)", entrypoint, found[entrypoint]))
	}
	return "", fmt.Errorf("several rules are annotated as entrypoint: %s; name the one that decides in stagedoor.policy.entrypoint",
		strings.Join(places, ", "))
}

// nearestRules lists rules that could have been meant.
func nearestRules(c *ast.Compiler, library map[string]*ast.Module) string {
	const most = 5
	rules := map[string]bool{}
	for name, module := range c.Modules {
		if library[name] != nil {
			continue
		}
		for _, rule := range module.Rules {
			if len(rule.Head.Args) == 0 {
				rules[trimData(pathOf(rule.Ref().GroundPrefix()))] = true
			}
		}
	}
	if len(rules) == 0 {
		return "; it has no rules"
	}
	names := slices.Sorted(maps.Keys(rules))
	if len(names) > most {
		names = append(names[:most], "…")
	}
	return "; its rules are " + strings.Join(names, ", ")
}

// state makes the state of a compiled policy. Its data is filled in when the
// transaction commits.
func (v *vetter) state(ctx context.Context, c *ast.Compiler, entrypoint string, active map[string]activeBundle) (*State, error) {
	ref := entrypointRef(entrypoint)
	rules := reachable(c, ref)
	s := &State{
		Entrypoint:       entrypoint,
		Revisions:        map[string]string{},
		Nondeterministic: nondeterminism(rules),
		read:             inputParts(rules),
		data:             &snapshot{},
	}
	for name, b := range active {
		s.Revisions[name] = b.revision
		s.roots = append(s.roots, b.roots...)
	}
	s.Revision = revisionOf(s.Revisions)
	modules := c.ParsedModules()
	known, err := explore.Rules(modules)
	if err != nil {
		return nil, err
	}
	s.rules = make(map[ruleKey]*explore.PermissionRule, len(known))
	for _, rule := range known {
		s.rules[ruleKey{rule.PluginID, rule.Name}] = rule
	}
	explorer, err := explore.Compile(explore.Options{Modules: modules, Entrypoint: ref})
	if err != nil {
		return nil, err
	}
	if explorer.AboutResource() {
		s.explorer = explorer
		// What the decision is checked against is read even where the policy does not.
		s.read |= partType | partResourceType
		return s, nil
	}
	s.query, err = rego.New(
		rego.Compiler(c),
		rego.Store(s.data),
		rego.ParsedQuery(ast.NewBody(ast.NewExpr(ast.NewTerm(ref)))),
		rego.StrictBuiltinErrors(true),
	).PrepareForEval(ctx)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// revisionOf names a set of bundles: the revision of a single one, else all by name.
func revisionOf(revisions map[string]string) string {
	if len(revisions) == 1 {
		for _, revision := range revisions {
			return revision
		}
	}
	var named []string
	for _, name := range slices.Sorted(maps.Keys(revisions)) {
		named = append(named, name+"="+revisions[name])
	}
	return strings.Join(named, ",")
}

// entrypointRef is the reference of an entrypoint's path.
func entrypointRef(entrypoint string) ast.Ref {
	ref := ast.Ref{ast.DefaultRootDocument}
	for step := range strings.SplitSeq(strings.Trim(entrypoint, "/"), "/") {
		ref = append(ref, ast.StringTerm(step))
	}
	return ref
}

// pathOf is the path of a ground reference, data included.
func pathOf(ref ast.Ref) string {
	p, err := ref.Ptr()
	if err != nil {
		return ref.String()
	}
	return p
}

func trimData(s string) string {
	return strings.TrimPrefix(strings.TrimPrefix(s, "data/"), "data.")
}
