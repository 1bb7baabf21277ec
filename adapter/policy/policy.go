// Package policy is the policy that serves: it gets the policy from wherever it
// is kept, lets none serve that was not vetted, and decides by it.
//
// # Where a policy comes from
//
// A policy is an OPA bundle: a directory or a bundle.tar.gz (Options.Path), which
// is watched; or whatever OPA's own configuration (Options.OPA) brings by
// bundles, discovery, signatures and persistence, which are OPA's own plugins; or
// else the embedded default. However it arrives, OPA activates it through the
// one activator of this package, which adds the rule library, compiles, finds
// the entrypoint, and vets. What fails leaves the last good policy serving and
// shows in [Engine.Status]; what passes becomes a [State], immutable with its
// data, and takes over in one atomic swap.
//
// # How a decision is made
//
// [Engine.Decide] takes the state as it is at that moment, and answers every item
// of a request by it: from the memo where the policy is deterministic and was
// asked before, by exploration (package explore) where the entrypoint is about
// the resource, and by plain evaluation otherwise. Nothing is locked meanwhile.
//
// [Remote] decides by an OPA server instead.
package policy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/plugins"
	bundleplugin "github.com/open-policy-agent/opa/v1/plugins/bundle"
	"github.com/open-policy-agent/opa/v1/plugins/discovery"
	"github.com/open-policy-agent/opa/v1/topdown/cache"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
)

// Options say which policy serves. The zero value of a field is its default.
type Options struct {
	// Path is a directory or a bundle.tar.gz (stagedoor.policy.path). Empty: the
	// bundles of OPA, else Default.
	Path string
	// Entrypoint is the path of the rule that decides, such as
	// backstage/authz/allow (stagedoor.policy.entrypoint). Empty: the one rule
	// annotated with entrypoint: true.
	Entrypoint string
	// Decision is how long one decision may take (stagedoor.limits.decision); one
	// second by default.
	Decision time.Duration
	// MaxAge is how old the last confirmation of the policy may be before
	// readiness fails (stagedoor.policy.maxAge); 0 is for ever.
	MaxAge time.Duration
	// DenyStale makes decisions fail too once MaxAge is over.
	DenyStale bool
	// AuditRequired makes a decision fail that cannot be recorded
	// (stagedoor.audit.required).
	AuditRequired bool
	// OPA is OPA's own configuration as JSON, verbatim (opa).
	OPA json.RawMessage
	// Library is the rule library: source by path.
	Library map[string]string
	// Mask is the source of the module that masks the decision log unless a bundle
	// has one in package system.log; empty for none.
	Mask string
	// Default is the bundle that serves where nothing else is configured.
	Default fs.FS
	// Log gets what the operator should know; it never sees an input.
	Log *logrus.Entry
	// Registry gets OPA's metrics; nil for none.
	Registry prometheus.Registerer
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// The defaults of Options, and what nobody has needed to set.
const (
	defaultDecision = time.Second
	gracefulStop    = 10 // seconds in which OPA's plugins may flush
)

// ErrNoPolicy is the answer of an Engine that has no policy yet.
var ErrNoPolicy = errors.New("no policy is active yet")

// ErrStale is the answer of an Engine whose policy is older than MaxAge, with DenyStale.
var ErrStale = errors.New("the policy was not confirmed for longer than stagedoor.policy.maxAge")

// Engine decides in process. It is safe for concurrent use.
type Engine struct {
	options  Options
	now      func() time.Time
	vetter   *vetter
	manager  *plugins.Manager
	started  bool
	builtins struct {
		query cache.InterQueryCache
		value cache.InterQueryValueCache
	}
	memo  *memo
	turns chan struct{} // held by who evaluates; see ask
	audit *Audit
	local *local // nil where OPA's plugins bring the policy

	state  atomic.Pointer[State]
	serial uint64 // of the last state; the store publishes one at a time
	record record

	stop context.CancelFunc
	done sync.WaitGroup
}

// New starts an engine. A local policy that cannot serve is an error; remote
// bundles are loaded in the background, and [Engine.Status] tells how they fare.
// Close must be called in the end.
func New(ctx context.Context, o Options) (*Engine, error) {
	registerActivator()
	if o.Decision == 0 {
		o.Decision = defaultDecision
	}
	e := &Engine{options: o, now: o.Now}
	if e.now == nil {
		e.now = time.Now
	}
	var err error
	if e.vetter, err = newVetter(o); err != nil {
		return nil, err
	}
	if e.memo, err = newMemo(); err != nil {
		return nil, err
	}
	e.turns = make(chan struct{}, runtime.GOMAXPROCS(0))
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	e.stop = stop
	if err := e.start(ctx, run); err != nil {
		e.Close(ctx)
		return nil, err
	}
	return e, nil
}

func (e *Engine) start(ctx, run context.Context) error {
	config, err := e.options.opaDocument()
	if err != nil {
		return err
	}
	if e.local, err = e.options.localSource(config); err != nil {
		return err
	}
	counters := metrics.New()
	store := newStore(storeHooks{
		activate: e.activate, changed: e.changed, publish: e.publish, extra: e.vetter.maskModules,
	})
	if e.manager, err = newManager(config, store, e.options, counters); err != nil {
		return err
	}
	e.builtins.query = cache.NewInterQueryCacheWithContext(run, e.manager.InterQueryBuiltinCacheConfig())
	e.builtins.value = cache.NewInterQueryValueCache(run, e.manager.InterQueryBuiltinCacheConfig())
	e.watchBundles()
	if e.audit, err = newAudit(e.manager, e.options, counters); err != nil {
		return err
	}
	if err := startManager(ctx, e.manager); err != nil {
		return err
	}
	e.started = true
	switch {
	case e.local == nil:
		return nil
	case e.local.embedded():
		return e.load(ctx)
	}
	// Listening comes first, so that no change is missed.
	events, stop := e.local.notify()
	if err := e.load(ctx); err != nil {
		stop()
		return err
	}
	e.done.Go(func() {
		defer stop()
		e.local.watch(run, events, e.reload)
	})
	return nil
}

// Close stops what New started and lets OPA's plugins flush what they hold.
func (e *Engine) Close(ctx context.Context) {
	e.stop()
	e.done.Wait()
	if e.audit != nil {
		e.audit.close()
	}
	if e.started { // plugins that were not wait for ever when they are stopped
		e.manager.Stop(ctx)
	}
}

// Audit returns the decision log.
func (e *Engine) Audit() *Audit { return e.audit }

// State returns the policy that serves at this moment, or nil.
func (e *Engine) State() *State { return e.state.Load() }

// activate is called by the store inside its write transaction.
func (e *Engine) activate(opts *bundle.ActivateOpts) (*State, error) {
	state, err := e.vetter.activate(opts, e.awaits)
	for name, b := range opts.Bundles {
		if err != nil {
			e.record.refuse(name, b.Manifest.Revision, err.Error(), e.now())
		} else {
			e.record.accept(name, e.confirmation(name))
		}
	}
	if state == nil && err == nil {
		e.record.fallBehind(e.now())
	}
	return state, err
}

// changed is called by the store before it commits what activated nothing. Where
// OPA took bundles out, what is left must be vetted to serve without them. That is
// so too where the one that was taken out had been awaited: what came meanwhile has
// to serve now.
func (e *Engine) changed(ctx context.Context, w *writing) *State {
	var serves map[string]string
	if s := e.state.Load(); s != nil {
		serves = s.Revisions
	}
	behind := !e.record.behindSince().IsZero()
	if w.context == nil || serves == nil && !behind {
		return nil
	}
	active, err := activeBundles(ctx, e.manager.Store, w.Transaction)
	if err != nil {
		e.options.Log.WithError(err).Error("the bundles that OPA holds cannot be read; the last good policy goes on serving")
		return nil
	}
	var gone []string
	for name := range serves {
		if _, still := active[name]; !still {
			gone = append(gone, name)
		}
	}
	if len(gone) == 0 && !behind {
		return nil
	}
	e.record.forget(gone)
	compiler := ast.NewCompiler()
	state, err := e.vetter.activate(&bundle.ActivateOpts{
		Ctx: ctx, Store: e.manager.Store, Txn: w.Transaction, TxnCtx: w.context,
		Compiler: compiler, Metrics: metrics.New(), ParserOptions: e.manager.ParserOptions(),
	}, e.awaits)
	if err != nil {
		e.options.Log.WithError(err).Error("what is left of the bundles must not serve")
		for _, name := range gone {
			why := "it is configured no more, but still serves, since without it: " + err.Error()
			e.record.refuse(name, serves[name], why, e.now())
		}
		compiler = e.manager.GetCompiler() // for the masks of the decision log
	}
	plugins.SetCompilerOnContext(w.context, compiler)
	return state
}

// publish is called by the store, one state at a time, when its transaction is committed.
func (e *Engine) publish(s *State) {
	e.serial++
	s.serial = e.serial
	s.Since = e.now()
	e.state.Store(s)
	e.record.catchUp()
	e.record.settle(func(name string) bool {
		_, serves := s.Revisions[name]
		return serves || name == discovery.Name || slices.Contains(e.configured(), name)
	})
	e.options.Log.WithFields(logrus.Fields{
		"revision": s.Revision, "entrypoint": s.Entrypoint,
		"about_resource": s.AboutResource(), "deterministic": s.Deterministic(),
	}).Info("policy is active")
}

// awaits reports whether a configured bundle is not among the active ones, so
// that the policy is not whole. The one that serves goes on until it is.
func (e *Engine) awaits(active []string) bool {
	for _, name := range e.configured() {
		if !slices.Contains(active, name) {
			return true
		}
	}
	return false
}

// configured are the names of the bundles that OPA's plugin is to bring, sorted.
func (e *Engine) configured() []string {
	bundles := bundleplugin.Lookup(e.manager)
	if bundles == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(bundles.Config().Bundles))
}

// fresh fails for a policy that is older than it may be.
func (e *Engine) fresh(s *State) error {
	if !e.options.DenyStale || e.options.MaxAge == 0 {
		return nil
	}
	if age := e.now().Sub(e.confirmed(s)); age > e.options.MaxAge {
		return fmt.Errorf("%w: %s old", ErrStale, age.Round(time.Second))
	}
	return nil
}
