// Package supply brings policies: it gets them from wherever they are kept, lets none
// serve that was not vetted, and tells how that fares.
//
// A policy is an OPA bundle: a directory or a bundle.tar.gz ([Options.Path]), which
// is read (package files) and watched; or whatever OPA's own configuration brings by bundles, discovery,
// signatures and persistence, which are OPA's own plugins; or else the embedded
// default. However it arrives, OPA activates it in a write transaction of the one
// store ([Supply.Store]), which has it vetted (package vetted). What fails leaves the
// last good policy serving and shows in [Supply.Status]; what passes becomes a
// [vetted.State], immutable with its data, and takes over in one atomic swap when the
// transaction is committed. Nothing that serves is ever locked.
package supply

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/sirupsen/logrus"

	"github.com/stagedoor/stagedoor/adapter/document/patch"
	"github.com/stagedoor/stagedoor/adapter/opa"
	"github.com/stagedoor/stagedoor/adapter/vetted"
)

// Options say where the policy is and how old it may get. The zero value of a field
// is its default.
type Options struct {
	// Path is a directory or a bundle.tar.gz (stagedoor.policy.path). Empty: the
	// bundles of OPA, else Default.
	Path string
	// Key is the key that Path is of; stagedoor.policy.path where it is empty.
	Key string
	// Default is the bundle that serves where nothing else is configured.
	Default fs.FS
	// MaxAge is how old the last confirmation of the policy may be before it is
	// stale (stagedoor.policy.maxAge); 0 is for ever.
	MaxAge time.Duration
	// DenyStale makes decisions fail by a stale policy.
	DenyStale bool
	// DataRoots are the roots of data that is written from outside
	// (stagedoor.admin.dataRoots), which the vetter has to know of as well.
	DataRoots []string
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// ErrNoPolicy is why nothing can be decided before a first policy is active.
var ErrNoPolicy = errors.New("no policy is active yet")

// ErrStale is why nothing is decided by a policy older than MaxAge, with DenyStale.
var ErrStale = errors.New("the policy was not confirmed for longer than stagedoor.policy.maxAge")

// Supply is the supply of policies. It is safe for concurrent use.
type Supply struct {
	options Options
	now     func() time.Time
	log     *logrus.Entry
	vetter  *vetted.Vetter
	store   *store
	manager *opa.Manager // nil where nothing of OPA's runs
	local   *local       // nil where OPA's plugins bring the policy
	state   atomic.Pointer[vetted.State]
	reports reports

	stop context.CancelFunc
	done sync.WaitGroup
}

// New returns a Supply that brings nothing before Start or Load.
func New(o Options, v *vetted.Vetter, log *logrus.Entry) *Supply {
	s := &Supply{options: o, now: o.Now, log: log, vetter: v, stop: func() {}}
	if s.now == nil {
		s.now = time.Now
	}
	registerActivator()
	s.store = newStore(s)
	return s
}

// Validate reports what is wrong with the options beside a configuration of OPA that
// says under these keys where a policy is.
func (o Options) Validate(policyKeys []string) error {
	var problems []error
	if err := patch.CheckRoots(o.DataRoots); err != nil {
		problems = append(problems, fmt.Errorf("stagedoor.admin.dataRoots: %w", err))
	}
	if o.Path == "" {
		return errors.Join(problems...)
	}
	for _, key := range policyKeys {
		problems = append(problems, fmt.Errorf("stagedoor.policy.path and %s both say where the policy is: keep one", key))
	}
	return errors.Join(problems...)
}

// Store is the store that OPA's plugins are to activate bundles into.
func (s *Supply) Store() storage.Store { return s.store }

// Start starts the manager, which must be over the Store, and what watches a policy
// on this machine. A local policy that cannot serve is an error; remote bundles are
// loaded in the background, and [Supply.Status] tells how they fare. Close must be
// called in the end, whether or not there is an error.
func (s *Supply) Start(ctx context.Context, m *opa.Manager) error {
	s.manager = m
	if s.options.Path != "" || !m.BringsPolicy() {
		if err := s.open(); err != nil {
			return err
		}
	}
	s.watchBundles()
	if err := m.Start(ctx); err != nil {
		return err
	}
	switch {
	case s.local == nil:
		return nil
	case s.local.embedded():
		return s.load(ctx)
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	// Listening comes first, so that no change is missed.
	events, ignore := s.local.notify(run)
	if err := s.load(ctx); err != nil {
		ignore()
		return err
	}
	s.done.Go(func() {
		defer ignore()
		s.local.watch(run, events, s.reload)
	})
	return nil
}

// Load takes in the policy at Path, or else Default, once: for who decides without
// serving. Nothing is watched, and nothing of OPA's runs. The error is what the
// policy's author must mend, with file and line where there is one.
func (s *Supply) Load(ctx context.Context) (*vetted.State, error) {
	if err := s.open(); err != nil {
		return nil, err
	}
	if err := s.load(ctx); err != nil {
		return nil, err
	}
	return s.state.Load(), nil
}

// LoadBundle takes in a bundle that was read already, likewise. It must not be used any more.
func (s *Supply) LoadBundle(ctx context.Context, b *bundle.Bundle) (*vetted.State, error) {
	s.local = &local{}
	if err := s.activateLocal(ctx, b); err != nil {
		return nil, err
	}
	return s.state.Load(), nil
}

// open finds the policy on this machine.
func (s *Supply) open() error {
	s.local = &local{fsys: s.options.Default}
	if s.options.Path == "" {
		return nil
	}
	s.local = &local{path: s.options.Path}
	info, err := os.Stat(s.options.Path)
	if err == nil && !info.IsDir() && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is neither a directory nor a regular file", s.options.Path)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", cmp.Or(s.options.Key, "stagedoor.policy.path"), err)
	}
	return nil
}

// Close ends the watching. What serves goes on, and so does the manager.
func (s *Supply) Close() {
	s.stop()
	s.done.Wait()
}

// State returns the policy that serves at this moment, or nil.
func (s *Supply) State() *vetted.State { return s.state.Load() }

// Serving returns the policy that decides at this moment. The error is [ErrNoPolicy]
// or [ErrStale].
func (s *Supply) Serving() (*vetted.State, error) {
	state := s.state.Load()
	if state == nil {
		return nil, ErrNoPolicy
	}
	if !s.options.DenyStale {
		return state, nil
	}
	if confirmed := s.confirmed(state); s.stale(confirmed) {
		return nil, fmt.Errorf("%w: %s old", ErrStale, s.now().Sub(confirmed).Round(time.Second))
	}
	return state, nil
}

// stale reports whether a policy is that was confirmed then.
func (s *Supply) stale(confirmed time.Time) bool {
	return s.options.MaxAge > 0 && s.now().Sub(confirmed) > s.options.MaxAge
}
