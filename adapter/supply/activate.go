package supply

import (
	"context"
	"crypto/sha256"
	"maps"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/plugins"
	bundleplugin "github.com/open-policy-agent/opa/v1/plugins/bundle"
	"github.com/open-policy-agent/opa/v1/plugins/discovery"
	"github.com/sirupsen/logrus"

	"github.com/stagedoor/stagedoor/adapter/opa"
	"github.com/stagedoor/stagedoor/adapter/vetted"
)

// activate vets what OPA activates, inside the write transaction.
func (s *Supply) activate(opts *bundle.ActivateOpts, w *writing) error {
	w.vetted, w.arrived = true, s.fingerprints(opts.Bundles)
	if w.unchanged = s.servesAlready(w.arrived); w.unchanged {
		s.accept(opts.Bundles)
		return nil
	}
	state, err := s.vetter.Vet(opts, s.awaits, s.store.made)
	if err != nil {
		for name, b := range opts.Bundles {
			s.reports.refuse(name, b.Manifest.Revision, err.Error(), s.now())
		}
		return err
	}
	s.accept(opts.Bundles)
	if state == nil {
		s.reports.fallBehind(s.now())
	}
	w.state = state
	return nil
}

func (s *Supply) accept(bundles map[string]*bundle.Bundle) {
	for name := range bundles {
		s.reports.accept(name, s.confirmation(name))
	}
}

// fingerprint is that of a bundle; zero where it was not taken.
type fingerprint [sha256.Size]byte

// fingerprints are taken of bundles that OPA is to persist.
func (s *Supply) fingerprints(bundles map[string]*bundle.Bundle) map[string]fingerprint {
	var sources map[string]*bundleplugin.Source
	if p := s.bundlePlugin(); p != nil {
		sources = p.Config().Bundles
	}
	all := make(map[string]fingerprint, len(bundles))
	for name, b := range bundles {
		all[name] = fingerprint{}
		if source := sources[name]; source != nil && source.Persist {
			all[name] = vetted.Fingerprint(b)
		}
	}
	return all
}

// servesAlready reports whether the policy that serves is made of the very bundles that
// OPA brings, as it does at each poll where it cannot persist one. The store has them.
func (s *Supply) servesAlready(arrived map[string]fingerprint) bool {
	state := s.state.Load()
	if state == nil || !s.reports.behindSince().IsZero() {
		return false
	}
	for name, of := range arrived {
		if _, serves := state.Revisions[name]; !serves || of == (fingerprint{}) || of != s.store.holds[name] {
			return false
		}
	}
	return true
}

// changed is called by the store before it commits what activated nothing. Where
// OPA took bundles out, what is left must be vetted to serve without them. That is
// so too where the one that was taken out had been awaited: what came meanwhile has
// to serve now.
func (s *Supply) changed(ctx context.Context, w *writing) *vetted.State {
	var serves map[string]string
	if state := s.state.Load(); state != nil {
		serves = state.Revisions
	}
	behind := !s.reports.behindSince().IsZero()
	if w.context == nil || serves == nil && !behind {
		return nil
	}
	active, err := vetted.Active(ctx, s.store, w.Transaction)
	if err != nil {
		s.log.WithError(err).Error("the bundles that OPA holds cannot be read; the last good policy goes on serving")
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
	s.reports.forget(gone)
	for _, name := range gone {
		delete(s.store.holds, name)
	}
	compiler := ast.NewCompiler()
	state, err := s.vetter.Vet(&bundle.ActivateOpts{
		Ctx: ctx, Store: s.store, Txn: w.Transaction, TxnCtx: w.context,
		Compiler: compiler, Metrics: metrics.New(), ParserOptions: opa.ParserOptions(),
	}, s.awaits, nil)
	if err != nil {
		s.log.WithError(err).Error("what is left of the bundles must not serve")
		for _, name := range gone {
			why := "it is configured no more, but still serves, since without it: " + err.Error()
			s.reports.refuse(name, serves[name], why, s.now())
		}
		compiler = s.manager.GetCompiler() // for the masks of the decision log
	}
	plugins.SetCompilerOnContext(w.context, compiler)
	return state
}

// publish lets a state serve; the store publishes one at a time, after its
// transaction is committed.
func (s *Supply) publish(state *vetted.State) {
	s.state.Store(state)
	s.reports.catchUp()
	s.reports.settle(func(name string) bool {
		_, serves := state.Revisions[name]
		return serves || name == discovery.Name || slices.Contains(s.configured(), name)
	})
	s.log.WithFields(logrus.Fields{
		"revision": state.Revision, "entrypoint": state.Entrypoint,
		"about_resource": state.AboutResource(), "deterministic": state.Deterministic(),
	}).Info("policy is active")
	if len(state.LeftOut) > 0 {
		s.log.WithField("at", state.LeftOut).
			Warn("OPA's index leaves out rules that can hold; stagedoor check says what to write")
	}
}

// awaits reports whether a configured bundle is not among the active ones, so
// that the policy is not whole. The one that serves goes on until it is.
func (s *Supply) awaits(active map[string]vetted.Bundle) bool {
	for _, name := range s.configured() {
		if _, is := active[name]; !is {
			return true
		}
	}
	return false
}

// configured are the names of the bundles that OPA's plugin is to bring, sorted.
func (s *Supply) configured() []string {
	bundles := s.bundlePlugin()
	if bundles == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(bundles.Config().Bundles))
}

// bundlePlugin is OPA's plugin for bundles; nil where there is none.
func (s *Supply) bundlePlugin() *bundleplugin.Plugin {
	if s.manager == nil {
		return nil
	}
	return bundleplugin.Lookup(s.manager.Manager)
}
