// Package offline opens a policy that serves nobody, and decides by it with the
// engine that serves.
//
// [Open] takes a PATH as the commands do:
//
//	policy                  a bundle directory
//	bundle.tar.gz           a bundle as opa build writes it
//	git:REV:policy          a directory or bundle of another revision of the
//	                        repository that the working directory is in
//
// What opens is what would serve: the same vetting, the same decisions. A policy
// that must not serve does not open, and the error says what its author must mend.
//
// A [Policy] also keeps its sources: the author's modules with their METADATA, the
// tests among them, and the files beside them. [Policy.With] is the same policy
// with other modules, for questions of the kind "and if this rule were not there".
package offline

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/sirupsen/logrus"

	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/engine"
	"github.com/stagedoor/stagedoor/adapter/explore"
	"github.com/stagedoor/stagedoor/adapter/reach"
	"github.com/stagedoor/stagedoor/adapter/supply"
	"github.com/stagedoor/stagedoor/adapter/supply/files"
	"github.com/stagedoor/stagedoor/adapter/vetted"
	"github.com/stagedoor/stagedoor/adapter/wire"
	"github.com/stagedoor/stagedoor/adapter/words"
	"github.com/stagedoor/stagedoor/rego"
)

// Options say how a policy is opened. The zero value of a field is its default.
type Options struct {
	// Entrypoint is the path of the rule that decides, such as
	// backstage/authz/allow. Empty: the one rule annotated with entrypoint: true.
	Entrypoint string
	// Decision is how long one decision may take; 30 seconds by default, since
	// nobody waits for it.
	Decision time.Duration
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// Reach is what the policy may reach beyond its input and data.
	Reach reach.Options
}

// defaultDecision is the default of Options.Decision.
const defaultDecision = 30 * time.Second

// A Policy is one that was vetted and decides. It is safe for concurrent use.
type Policy struct {
	// Path is what Open was given.
	Path string

	options Options
	source  *source
	joined  *joined // with the bundles beside it; nil without
	modules map[string]*ast.Module
	tests   map[string]*ast.Module
	rules   []*explore.PermissionRule
	state   *vetted.State
	engine  *engine.Engine
	stock   func() (*stock, error) // made when it is needed first
}

// Open reads the policy at a PATH and vets it. Close must be called in the end.
//
// The error is that of reading; a [*RefusedError] where the policy must not serve; or
// the context's.
func Open(ctx context.Context, at string, o Options) (*Policy, error) {
	return OpenBeside(ctx, at, nil, o)
}

// OpenBeside does so with the bundles at other PATHs beside, as where they serve together:
// their modules and data are the policy's, too. The rule that decides is to be in the first.
// What these bundles must not do to each other, such as to have the same root, is a
// [*RefusedError]. Files are those of the first, and [Policy.With] cannot change the others.
func OpenBeside(ctx context.Context, at string, others []string, o Options) (*Policy, error) {
	s, err := read(ctx, at)
	if err != nil {
		return nil, err
	}
	p := &Policy{Path: at, options: o, source: s}
	if len(others) > 0 {
		p.joined, err = p.join(ctx, others)
	}
	if err == nil {
		err = p.open(ctx, supply.Options{Path: s.at})
	}
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return p, nil
}

// RefusedError says why a policy must not serve, with file and line where there is one.
type RefusedError struct {
	Path  string
	Cause error
}

// Error returns the path and the cause.
func (r *RefusedError) Error() string { return r.Path + ": " + r.Cause.Error() }

// Unwrap returns the cause.
func (r *RefusedError) Unwrap() error { return r.Cause }

func (p *Policy) open(ctx context.Context, from supply.Options) error {
	var err error
	p.stock = sync.OnceValues(p.openStock)
	if p.modules, p.tests, err = p.source.parse(); err != nil {
		return &RefusedError{p.Path, err}
	}
	vetter, err := p.vetter()
	if err != nil {
		return err
	}
	logger := logrus.New()
	logger.SetLevel(logrus.ErrorLevel)
	log := logrus.NewEntry(logger)
	policies := supply.New(from, vetter, log)
	if p.joined == nil {
		p.state, err = policies.Load(ctx)
	} else {
		maps.Copy(p.modules, p.joined.modules)
		p.state, err = policies.LoadBundle(ctx, &p.joined.bundle)
	}
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return &RefusedError{p.Path, p.source.named(err)}
	}
	if p.rules, err = explore.Rules(p.withLibrary()); err != nil {
		return err
	}
	return p.decideBy(policies.Serving)
}

// vetter is what holds the policy to what may serve.
func (p *Policy) vetter() (*vetted.Vetter, error) {
	return vetted.New(vetted.Options{Entrypoint: p.options.Entrypoint, Library: rego.Modules(), Reach: p.options.Reach})
}

// Of is a policy that serves, to be looked at: it decides by this state, whatever
// serves next. It has neither tests nor files, and [Policy.With] cannot change it. Close
// must be called in the end.
func Of(s *vetted.State, o Options) (*Policy, error) {
	o.Reach = s.Reach
	p := &Policy{Path: s.Revision, options: o, state: s, source: &source{}, modules: map[string]*ast.Module{}}
	p.stock = sync.OnceValues(p.openStock)
	for name, module := range s.Modules() {
		if !strings.HasPrefix(name, LibraryPrefix) {
			p.modules[name] = module
		}
	}
	var err error
	if p.rules, err = explore.Rules(p.withLibrary()); err != nil {
		return nil, err
	}
	err = p.decideBy(func() (*vetted.State, error) { return s, nil })
	return p, err
}

// decideBy gives the policy an engine of its own.
func (p *Policy) decideBy(serving engine.Serving) (err error) {
	logger := logrus.New()
	logger.SetLevel(logrus.ErrorLevel)
	o := engine.Options{Decision: p.options.Decision, Now: p.options.Now}
	if o.Decision == 0 {
		o.Decision = defaultDecision
	}
	p.engine, err = engine.New(o, serving, logrus.NewEntry(logger))
	return err
}

// Close ends the policy.
func (p *Policy) Close(context.Context) error {
	p.engine.Close()
	return p.source.close()
}

// Decide answers one permission for the caller. A failure of the policy is in the
// Outcome; the error is the context's.
func (p *Policy) Decide(
	ctx context.Context, caller decision.Caller, permission wire.Permission,
) (*decision.Outcome, error) {
	batch, err := p.DecideAll(ctx, caller, []wire.Permission{permission})
	if err != nil {
		return nil, err
	}
	return batch.Outcomes[0], nil
}

// DecideAll answers every permission for the caller, in order, as one request.
func (p *Policy) DecideAll(
	ctx context.Context, caller decision.Caller, permissions []wire.Permission,
) (decision.Batch, error) {
	return p.engine.Decide(ctx, caller, permissions)
}

// Outcomes are those of DecideAll.
func (p *Policy) Outcomes(
	ctx context.Context, caller decision.Caller, permissions []wire.Permission,
) ([]*decision.Outcome, error) {
	batch, err := p.DecideAll(ctx, caller, permissions)
	return batch.Outcomes, err
}

// DecideDocument answers an input document as it stands, but for its member
// resource: a decision is made before the resource is known.
func (p *Policy) DecideDocument(ctx context.Context, document map[string]any) (*decision.Outcome, error) {
	batch, _, err := p.engine.DecideDocument(ctx, document)
	if err != nil {
		return nil, err
	}
	return batch.Outcomes[0], nil
}

// Entrypoint is the path of the rule that decides, such as backstage/authz/allow.
func (p *Policy) Entrypoint() string { return p.state.Entrypoint }

// AboutResource is whether that is a rule about the resource; otherwise it answers
// with a boolean or a decision document.
func (p *Policy) AboutResource() bool { return p.state.AboutResource() }

// Revision names the policy: what its manifest says, else its content.
func (p *Policy) Revision() string { return p.state.Revision }

// Apart says what the policy asks of callers beside which of its own texts their claims are,
// and where; empty where the data flow finds nothing.
func (p *Policy) Apart() string {
	if reasons := p.state.Apart(); len(reasons) > 0 {
		return reasons[0].Construct + " at " + reasons[0].Location
	}
	return ""
}

// Nondeterministic says what makes its answers differ from one time to the next.
func (p *Policy) Nondeterministic() []vetted.Source { return p.state.Nondeterministic }

// Changing says what makes what it answers now differ from what it answers later, and where;
// empty for nothing.
func (p *Policy) Changing() string {
	if sources := p.Nondeterministic(); len(sources) > 0 {
		return fmt.Sprintf("%s at %s", sources[0].Builtin, sources[0].Location)
	}
	return ""
}

// Capabilities are those of OPA for whoever compiles its modules again, and the
// builtins given.
func (p *Policy) Capabilities(more ...*ast.Builtin) *ast.Capabilities {
	return p.options.Reach.Capabilities(more...)
}

// Rules are the permission rules that it may ask, the library's among them, in the
// order of their paths. They must not be changed.
func (p *Policy) Rules() []*explore.PermissionRule { return p.rules }

// Vocabulary is how its rules are said.
func (p *Policy) Vocabulary() words.Vocabulary { return vocabulary(p.rules) }

// LibraryVocabulary is how the rules of the library are said.
func LibraryVocabulary() words.Vocabulary {
	rules, err := explore.Rules(Library())
	if err != nil { // What is embedded was tested.
		panic(err)
	}
	return vocabulary(rules)
}

func vocabulary(rules []*explore.PermissionRule) words.Vocabulary {
	v := make(words.Vocabulary, len(rules))
	for _, r := range rules {
		v[words.Rule{Name: r.Name, ResourceType: r.ResourceType}] = r.Words
	}
	return v
}

// Modules are the author's modules by file, parsed with their METADATA, without
// tests. Files are named as the PATH was given. They must not be changed.
func (p *Policy) Modules() map[string]*ast.Module { return p.modules }

// Tests are the author's modules of the files *_test.rego, likewise.
func (p *Policy) Tests() map[string]*ast.Module { return p.tests }

// Files are all files of the bundle, tests and tables among them. What a name is
// called in a report is [Policy.Name].
func (p *Policy) Files() fs.FS { return p.source.files }

// Name is the name of one of the Files as the PATH was given.
func (p *Policy) Name(file string) string { return p.source.name(file) }

func (p *Policy) withLibrary() map[string]*ast.Module {
	all := make(map[string]*ast.Module, len(p.modules))
	for name, module := range p.modules {
		all[name] = module
	}
	for name, module := range Library() {
		all[name] = module
	}
	return all
}

// LibraryPrefix is what the names of the modules of the rule library begin with.
const LibraryPrefix = "stagedoor/"

// Library are the parsed modules of the rule library, by names that begin with
// LibraryPrefix. They are the caller's to change.
func Library() map[string]*ast.Module {
	copied := make(map[string]*ast.Module)
	for name, module := range library() {
		copied[name] = module.Copy()
	}
	return copied
}

var library = sync.OnceValue(func() map[string]*ast.Module {
	modules := make(map[string]*ast.Module)
	for name, text := range rego.Modules() {
		module, err := parse(LibraryPrefix+name, text)
		if err != nil { // What is embedded was tested.
			panic(err)
		}
		modules[LibraryPrefix+name] = module
	}
	return modules
})

func parse(name, text string) (*ast.Module, error) {
	return ast.ParseModuleWithOpts(name, text, ast.ParserOptions{ProcessAnnotation: true})
}

// inLibrary reports whether the module is one of the library as it stands.
func inLibrary(module *ast.Module, library map[string]*ast.Module) bool {
	for _, own := range library {
		if module.Package.Path.Equal(own.Package.Path) && module.Equal(own) {
			return true
		}
	}
	return false
}

func isTest(name string) bool { return strings.HasSuffix(name, "_test.rego") }

// hides is whether a file or folder of the name is no part of the policy: a folder hides
// what begins with a dot, and an archive nothing.
func (s *source) hides(name string) bool {
	return s.folder != nil && strings.HasPrefix(name, ".") && name != ".manifest" && name != "."
}

// source is where a policy was read from.
type source struct {
	given string // the PATH
	at    string // the directory or bundle.tar.gz that holds it
	files fs.FS
	// folder is files, where it is to be closed; nil where files are in memory.
	folder *files.Folder
	prune  string // a directory that goes with the source; empty where there is none
}

func read(ctx context.Context, given string) (*source, error) {
	s := &source{given: given, at: given}
	if spec, ok := strings.CutPrefix(given, "git:"); ok {
		if err := s.checkOut(ctx, spec); err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", given, err), s.close())
		}
	}
	info, err := os.Stat(s.at)
	if err != nil {
		return nil, errors.Join(s.named(err), s.close())
	}
	if info.IsDir() {
		if s.folder, err = files.OpenFolder(s.at); err != nil {
			return nil, errors.Join(s.named(err), s.close())
		}
		s.files = s.folder
		return s, nil
	}
	if s.files, err = unpack(ctx, s.at); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", given, err), s.close())
	}
	return s, nil
}

func (s *source) close() error {
	var problem error
	if s.folder != nil {
		problem = s.folder.Close()
	}
	if s.prune != "" {
		problem = errors.Join(problem, os.RemoveAll(s.prune))
	}
	return problem
}

// named is the error with files named as the PATH was given.
func (s *source) named(err error) error {
	if s.at == s.given || !strings.Contains(err.Error(), s.at) {
		return err
	}
	return errors.New(strings.ReplaceAll(err.Error(), s.at, s.given))
}

func (s *source) name(file string) string {
	if strings.HasPrefix(s.given, "git:") {
		return strings.TrimRight(s.given, "/") + "/" + file
	}
	return filepath.ToSlash(filepath.Join(s.given, filepath.FromSlash(file)))
}

// parse parses the author's modules, and the tests among them.
func (s *source) parse() (modules, tests map[string]*ast.Module, err error) {
	modules, tests = map[string]*ast.Module{}, map[string]*ast.Module{}
	library := Library()
	var problems ast.Errors
	err = fs.WalkDir(s.files, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case s.hides(entry.Name()) && entry.IsDir():
			return fs.SkipDir
		case path.Ext(name) != ".rego" || s.hides(entry.Name()):
			return nil
		}
		text, err := fs.ReadFile(s.files, name)
		if err != nil {
			at := &ast.Location{File: s.name(name), Row: 1, Col: 1}
			problems = append(problems, ast.NewError(ast.ParseErr, at, "%v", err))
			return nil
		}
		module, err := parse(s.name(name), string(text))
		if several, ok := errors.AsType[ast.Errors](err); ok {
			problems = append(problems, several...)
			return nil
		}
		if err != nil || module == nil {
			return err
		}
		if inLibrary(module, library) {
			return nil // `opa build -b` puts it in beside the policy
		}
		into := modules
		if isTest(name) {
			into = tests
		}
		into[s.name(name)] = module
		return nil
	})
	if err == nil && len(problems) > 0 {
		err = problems
	}
	return modules, tests, err
}
