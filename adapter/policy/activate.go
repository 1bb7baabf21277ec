package policy

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/rego"

	"github.com/stagedoor/stagedoor/adapter/explore"
)

// vetter turns what OPA activates into a [State], or says why it must not serve.
// It is immutable and safe for concurrent use.
type vetter struct {
	// library are the modules of the rule library, added to every bundle.
	library map[string]*ast.Module
	// mask is added unless a bundle has modules in its package; it can be nil.
	mask *ast.Module
	// entrypoint is the configured path, or empty for the annotated rule.
	entrypoint string
}

// The files of stagedoor's own modules begin with libraryPrefix.
const (
	libraryPrefix = "stagedoor/"
	maskFile      = libraryPrefix + "system/log/mask.rego"
)

func newVetter(o Options) (*vetter, error) {
	v := &vetter{library: make(map[string]*ast.Module, len(o.Library)), entrypoint: o.Entrypoint}
	for path, text := range o.Library {
		module, err := parseModule(libraryPrefix+path, text, ast.DefaultRegoVersion)
		if err != nil {
			return nil, fmt.Errorf("rule library: %w", err)
		}
		v.library[libraryPrefix+path] = module
	}
	if o.Mask == "" {
		return v, nil
	}
	mask, err := parseModule(maskFile, o.Mask, ast.DefaultRegoVersion)
	if err != nil {
		return nil, fmt.Errorf("default mask of the decision log: %w", err)
	}
	v.mask = mask
	return v, nil
}

func parseModule(file, text string, version ast.RegoVersion) (*ast.Module, error) {
	return ast.ParseModuleWithOpts(file, text, ast.ParserOptions{ProcessAnnotation: true, RegoVersion: version})
}

// activate lets OPA activate the bundles of opts, none of them where OPA has
// taken some out, with stagedoor's own modules beside them, and makes a state of
// the result. The error is whatever the bundle's author must mend. The state is
// nil, without an error, where a further bundle is awaited: a policy serves whole
// or not at all, for what is missing could be what denies.
func (v *vetter) activate(opts *bundle.ActivateOpts, awaited func(active []string) bool) (*State, error) {
	for name, b := range opts.Bundles {
		if err := annotate(b); err != nil {
			return nil, err
		}
		if err := v.acceptable(name, b); err != nil {
			return nil, err
		}
		if b.Manifest.Revision == "" {
			b.Manifest.Revision = contentRevision(b)
		}
	}
	masked, err := masksItself(opts)
	if err != nil {
		return nil, err
	}
	opts.ExtraModules = withModules(opts.ExtraModules, v.library)
	if !masked {
		opts.ExtraModules = withModules(opts.ExtraModules, v.maskModules())
	}
	opts.Compiler.WithKeepModules(true)
	if err := (&bundle.DefaultActivator{}).Activate(opts); err != nil {
		return nil, err
	}
	active, err := activeBundles(opts.Ctx, opts.Store, opts.Txn)
	if err != nil {
		return nil, err
	}
	if awaited(slices.Sorted(maps.Keys(active))) {
		return nil, nil
	}
	entrypoint, err := v.findEntrypoint(opts.Compiler)
	if err != nil {
		return nil, err
	}
	return v.state(opts.Ctx, opts.Compiler, entrypoint, active)
}

// withModules adds copies of modules, which compiling changes, to those given.
func withModules(given, modules map[string]*ast.Module) map[string]*ast.Module {
	all := make(map[string]*ast.Module, len(given)+len(modules))
	maps.Copy(all, given)
	for name, module := range modules {
		all[name] = module.Copy()
	}
	return all
}

// maskModules are the modules that mask the decision log where no bundle does.
func (v *vetter) maskModules() map[string]*ast.Module {
	if v.mask == nil {
		return nil
	}
	return map[string]*ast.Module{maskFile: v.mask}
}

// state makes the state of a compiled policy. Its data is filled in when the
// transaction commits.
func (v *vetter) state(
	ctx context.Context, c *ast.Compiler, entrypoint string, active map[string]activeBundle,
) (*State, error) {
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
