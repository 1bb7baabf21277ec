// Package vetted is what may serve: policies that were looked through and are
// immutable from then on.
//
// A [Vetter] looks at each bundle as it arrives, brings stagedoor's own modules to it,
// and makes a [State] of what OPA compiles of them ([Vetter.Vet]): it finds the
// entrypoint, proves that a policy about the resource only hands it to permission
// rules (package explore), and notes what a decision depends on: calls that forbid to
// remember it, and the parts of the input that it reads. The state gets its
// data, a snapshot of its own, when the transaction that brought it is committed
// ([State.Complete]), and is exchanged whole.
package vetted

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage"

	"github.com/stagedoor/stagedoor/adapter/alike"
	"github.com/stagedoor/stagedoor/adapter/document"
	"github.com/stagedoor/stagedoor/adapter/explore"
	"github.com/stagedoor/stagedoor/adapter/reach"
	"github.com/stagedoor/stagedoor/adapter/vetted/bounds"
)

// Options say what policies are held to. The zero value of a field is its default.
type Options struct {
	// Entrypoint is the path of the rule that decides, such as
	// backstage/authz/allow (stagedoor.policy.entrypoint). Empty: the one rule
	// annotated with entrypoint: true.
	Entrypoint string
	// Library is the rule library: source by path.
	Library map[string]string
	// Mask is the source of the module that masks the decision log unless a bundle
	// has one in package system.log; empty for none.
	Mask string
	// Reach is what policies may reach beyond their input and data.
	Reach reach.Options
	// Writable are the roots of data that is written from outside
	// (stagedoor.admin.dataRoots). No bundle may have any of it.
	Writable []string
	// WritableBytes is how many bytes of JSON these may have together
	// (stagedoor.limits.data); 0 is without a limit.
	WritableBytes int64
}

// Vetter turns what OPA activates into a [State], or says why it must not serve.
// It is immutable and safe for concurrent use.
type Vetter struct {
	// library are the modules of the rule library, added to every bundle.
	library map[string]*ast.Module
	// mask is added unless a bundle has modules in its package; it can be nil.
	mask *ast.Module
	// entrypoint is the configured path, or empty for the annotated rule.
	entrypoint string
	reach      reach.Options
	writable   []string
	// writableBytes is how much data may be there; 0 is without a limit.
	writableBytes int64
}

// The files of stagedoor's own modules begin with libraryPrefix.
const (
	libraryPrefix = "stagedoor/"
	// MaskFile is the file name of the module that masks the decision log.
	MaskFile = libraryPrefix + "system/log/mask.rego"
)

// New returns a Vetter. The error is that of a module of ours that does not parse.
func New(o Options) (*Vetter, error) {
	bounds.Guard()
	reach.Guard()
	v := &Vetter{
		library: make(map[string]*ast.Module, len(o.Library)), entrypoint: o.Entrypoint, reach: o.Reach, writable: o.Writable,
		writableBytes: o.WritableBytes,
	}
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
	mask, err := parseModule(MaskFile, o.Mask, ast.DefaultRegoVersion)
	if err != nil {
		return nil, fmt.Errorf("default mask of the decision log: %w", err)
	}
	v.mask = mask
	return v, nil
}

func parseModule(file, text string, version ast.RegoVersion) (*ast.Module, error) {
	return ast.ParseModuleWithOpts(file, text, ast.ParserOptions{ProcessAnnotation: true, RegoVersion: version})
}

// Library returns copies of the modules of the rule library, by file.
func (v *Vetter) Library() map[string]*ast.Module {
	modules := make(map[string]*ast.Module, len(v.library))
	for name, module := range v.library {
		modules[name] = module.Copy()
	}
	return modules
}

// Mask returns a copy of the module that masks the decision log where no bundle
// does, by file; nothing where there is none.
func (v *Vetter) Mask() map[string]*ast.Module {
	if v.mask == nil {
		return nil
	}
	return map[string]*ast.Module{MaskFile: v.mask.Copy()}
}

// Vet lets OPA activate the bundles of opts, none of them where OPA has taken some
// out, with stagedoor's own modules beside them, and makes a state of the result,
// which serves once it is completed. The error is whatever the bundle's author must
// mend. The state is nil, without an error, where a further bundle is awaited beside
// the active ones: a policy serves whole or not at all, for what is missing could be
// what denies.
//
// Made is the state that was made of what the store holds, or nil. Where the policies
// of the bundles are the same, and their data alone is other, nothing is compiled.
func (v *Vetter) Vet(
	opts *bundle.ActivateOpts, awaits func(active map[string]Bundle) bool, made *State,
) (*State, error) {
	snapshots := map[string]*bundle.Bundle{}
	for name, b := range opts.Bundles {
		if err := v.accept(name, b); err != nil {
			return nil, err
		}
		if b.Type() == bundle.SnapshotBundleType {
			snapshots[name] = b
		} else if err := applyDelta(opts, name, b); err != nil {
			return nil, err
		} else if made != nil {
			if err := made.conflicts(opts.Ctx, opts.Store, opts.Txn, *b.Manifest.Roots); err != nil {
				return nil, err
			}
		}
	}
	same := false
	if len(opts.Bundles) > 0 {
		var err error
		if same, err = activateData(opts, snapshots, made); err != nil {
			return nil, err
		}
	}
	full := *opts
	full.Bundles = snapshots
	if !same {
		if err := v.compile(&full, len(snapshots) < len(opts.Bundles)); err != nil {
			return nil, err
		}
	}
	active, err := Active(opts.Ctx, opts.Store, opts.Txn)
	if err != nil {
		return nil, err
	}
	switch {
	case awaits(active):
		return nil, nil
	case same:
		return made.with(active), nil
	}
	state, err := v.state(opts.Ctx, full.Compiler, active)
	if err == nil {
		return state, nil
	}
	for _, b := range opts.Bundles {
		if slices.ContainsFunc(b.Modules, isOptimized) {
			return nil, fmt.Errorf("%w\n%s", err, optimizedHint)
		}
	}
	return nil, err
}

// compile lets OPA activate bundles, with stagedoor's own modules beside them. Where there
// was a delta bundle among them, the compiler is the one of what serves, and not for this.
func (v *Vetter) compile(opts *bundle.ActivateOpts, delta bool) error {
	masked, err := masksItself(opts)
	if err != nil {
		return err
	}
	own := v.Library()
	if !masked {
		maps.Copy(own, v.Mask())
	}
	maps.Copy(own, opts.ExtraModules)
	opts.ExtraModules = own
	if delta {
		opts.Compiler = ast.NewCompiler().WithPathConflictsCheck(storage.NonEmpty(opts.Ctx, opts.Store, opts.Txn))
	}
	opts.Compiler.WithKeepModules(true).WithCapabilities(v.reach.Capabilities())
	return (&bundle.DefaultActivator{}).Activate(opts)
}

// accept looks at a bundle before it is compiled. It parses modules again that were
// parsed without their METADATA, and gives the bundle a revision where it has none.
func (v *Vetter) accept(name string, b *bundle.Bundle) error {
	if err := annotate(b); err != nil {
		return err
	}
	if err := v.Acceptable(name, b); err != nil {
		return err
	}
	for _, file := range b.Modules {
		if err := v.reach.Check(file.Parsed); err != nil {
			return err
		}
	}
	if b.Manifest.Revision == "" && b.Type() == bundle.SnapshotBundleType {
		b.Manifest.Revision = contentRevision(b)
	}
	return v.takeOwn(b)
}

// state makes the state of what was compiled of the bundles by name.
func (v *Vetter) state(ctx context.Context, c *ast.Compiler, bundles map[string]Bundle) (*State, error) {
	entrypoint, err := v.findEntrypoint(c)
	if err != nil {
		return nil, err
	}
	ref := entrypointRef(entrypoint)
	rules := reachable(c, ref)
	if err := noTestDecides(rules); err != nil {
		return nil, err
	}
	s := &State{
		Entrypoint:       entrypoint,
		Reach:            v.reach,
		Nondeterministic: nondeterminism(rules),
		LeftOut:          leftOut(c, rules),
		reads:            inputParts(rules),
		policy:           alike.Look(c, ref), // before exploration changes the rules
		data:             &snapshot{data: document.New()},
		compiler:         c,
		modules:          c.ParsedModules(),
	}
	s.setBundles(bundles)
	o := explore.Options{Modules: c.ParsedModules(), Entrypoint: ref, Capabilities: v.reach.Capabilities()}
	if !share(rules, reachable(c, maskPackage)) {
		o.Compiled = c
	}
	explorer, err := explore.Compile(o)
	if err != nil {
		return nil, err
	}
	s.rules = make(map[ruleKey]*explore.PermissionRule, len(explorer.Rules()))
	for _, rule := range explorer.Rules() {
		s.rules[ruleKey{rule.PluginID, rule.Name}] = rule
	}
	if explorer.AboutResource() {
		s.explorer = explorer
		// What the decision is checked against is read even where the policy does not.
		s.reads |= PartType | PartResourceType
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

// noTestDecides wants no rule of a test among those by which is decided. A bundle has its
// tests with it where `opa build` was told of no others, and what reads a folder leaves
// them out: so nobody would see what they say before it serves.
func noTestDecides(rules []*ast.Rule) error {
	for _, rule := range rules {
		if at := rule.Loc(); strings.HasSuffix(at.File, "_test.rego") {
			return fmt.Errorf("%s:%d: a test must not decide, but the policy asks %s, which is there; "+
				"put the rule into a file whose name does not end in _test.rego", at.File, at.Row, rule.Ref())
		}
	}
	return nil
}

// share reports whether a rule is in both. The decision log is masked by what OPA
// compiled, and where its masks ask the policy, exploration may not change that.
func share(a, b []*ast.Rule) bool {
	return slices.ContainsFunc(a, func(r *ast.Rule) bool { return slices.Contains(b, r) })
}
