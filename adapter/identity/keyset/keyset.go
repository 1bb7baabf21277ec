// Package keyset holds the key sets of those who sign tokens: the auth backend, and each
// plugin. It fetches them when they are needed, renews them before they are too old, and
// verifies signatures by them.
//
// A [Set] is one key set elsewhere. [Plugins] are the sets of all plugins, of which
// anybody can make up more. How sets age is the same as in Backstage, see [MaxAge].
package keyset

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/stagedoor/stagedoor/adapter/fair"
	"github.com/stagedoor/stagedoor/adapter/identity/jose"
	"github.com/stagedoor/stagedoor/adapter/peer"
)

// How key sets age, as in jose 6 and JwksClient of @backstage/backend-defaults
// 0.19.0, where there is neither a renewal in the background nor a memory of
// failures.
const (
	MaxAge   = 10 * time.Minute // then nobody is verified by a set any more
	RenewAge = 5 * time.Minute  // renewed in the background from here on
	Cooldown = 30 * time.Second // an unknown kid renews a set that is older
	Forced   = 10               // and a younger one as often
	// ForcedTime is the time in which Forced fetches are allowed.
	ForcedTime = time.Minute
	// FailureTTL is how long a failure stands before the next try.
	FailureTTL   = 2 * time.Second
	fetchTimeout = 5 * time.Second
)

// errNoKey is that no key of a set fits a token, which a newer set may cure.
var errNoKey = errors.New("no key of the set fits kid and alg")

// ErrNoTurn is that a signature could not be looked at for want of a processor.
var ErrNoTurn = errors.New("the signature's turn did not come")

// Keys are a key set as it was fetched. It is immutable.
type Keys struct {
	all     []*jose.Key
	fetched time.Time
}

// Set is a key set elsewhere. It is safe for concurrent use.
type Set struct {
	name  string // for logs and errors
	fetch Fetch
	log   *logrus.Entry
	turns *fair.Line // at the processors
	// proven is whether a token has ever been verified with the set; until then
	// admit is asked before each fetch. vouched is whether a token that needs the set
	// has come with the good token of a user.
	proven, vouched atomic.Bool
	admit           func(vouched bool) bool

	current atomic.Pointer[Keys] // nil until the first fetch succeeds

	mu      sync.Mutex
	flight  *flight // the fetch under way, or nil
	tried   time.Time
	failure error       // of the last fetch, or nil
	unknown []time.Time // fetches that an unknown kid Forced, at most Forced
}

// flight is a fetch that all who need it wait for. keys and err may be read once
// done is closed.
type flight struct {
	done chan struct{}
	keys *Keys
	err  error
}

// Fetch gets the keys of a set. It may be called in a goroutine of its own.
type Fetch func(context.Context) ([]*jose.Key, error)

// New returns the set of somebody who is known. The name is for logs and errors, and
// signatures are verified in turns.
func New(name string, fetch Fetch, turns *fair.Line, log *logrus.Entry) *Set {
	s := &Set{name: name, fetch: fetch, turns: turns, log: log}
	s.proven.Store(true)
	return s
}

// Age is how old the keys are, and whether there are any.
func (s *Set) Age() (time.Duration, bool) {
	keys := s.current.Load()
	if keys == nil {
		return 0, false
	}
	return time.Since(keys.fetched), true
}

// Unmet reports whether no token has been verified with the set, and none has come with
// the good token of a user.
func (s *Set) Unmet() bool { return !s.proven.Load() && !s.vouched.Load() }

// Vouch notes that a token that needs the set has come with the good token of a user.
func (s *Set) Vouch() { s.vouched.Store(true) }

// Has reports whether the key is one of the set.
func (k *Keys) Has(key *jose.Key) bool { return slices.Contains(k.all, key) }

// Verify verifies the signature of t and returns the key of it. Only after that
// may t be believed. Signatures are most of what a request costs, so they are verified
// in turns: of says whose turn it is, which nobody has verified yet. Who claims to be
// somebody else waits in that one's place, and would else wait in the only one.
func (s *Set) Verify(ctx context.Context, t *jose.Token, of func() fair.Party) (*jose.Key, error) {
	k, err := s.find(ctx, t)
	if err != nil {
		return nil, err
	}
	if !s.turns.Try() {
		if err := s.turns.Begin(ctx, of()); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNoTurn, err)
		}
	}
	defer s.turns.End()
	if err := k.Verify(t); err != nil {
		// A key may have been replaced under its own kid, or the set been a wrong one for a
		// while. Whoever forges cannot have it fetched more often than once in a Cooldown.
		_, _, _ = s.start(s.current.Load(), s.mayRenew)
		return nil, fmt.Errorf("the signature does not fit the key of %s", s.name)
	}
	return k, nil
}

// find returns the one key that fits t's header.
func (s *Set) find(ctx context.Context, t *jose.Token) (*jose.Key, error) {
	alg, _ := jose.Text(t.Alg)
	if _, ok := jose.Algorithm(alg); !ok {
		return nil, errors.New("alg is missing, or none that is accepted")
	}
	if len(t.Crit) > 0 {
		return nil, errors.New("crit is not supported")
	}
	kid, ok := jose.Text(t.Kid)
	if !ok && len(t.Kid) > 0 {
		return nil, errors.New("kid is no string")
	}
	have, err := s.Fresh(ctx)
	if err != nil {
		return nil, err
	}
	k, err := have.find(ok, kid, alg)
	if errors.Is(err, errNoKey) {
		if have, err = s.renewed(ctx, have); err != nil {
			return nil, err
		}
		k, err = have.find(ok, kid, alg)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.name, err)
	}
	return k, nil
}

// find returns the key for the algorithm, of that kid where named.
func (k *Keys) find(named bool, kid, alg string) (*jose.Key, error) {
	var found *jose.Key
	for _, one := range k.all {
		if named && one.ID() != kid || !one.Fits(alg) {
			continue
		}
		if found != nil {
			return nil, errors.New("several keys of the set fit kid and alg")
		}
		found = one
	}
	if found == nil {
		return nil, errNoKey
	}
	return found, nil
}

// Fresh returns keys that are not too old to be used. It waits only where there
// are none.
func (s *Set) Fresh(ctx context.Context) (*Keys, error) {
	have := s.current.Load()
	if have == nil || time.Since(have.fetched) >= MaxAge {
		return s.newer(ctx, have, s.mayTry)
	}
	if time.Since(have.fetched) >= RenewAge {
		// In the background: a failure is logged where it happens, and only costs
		// somebody the access once the keys are too old.
		_, _, _ = s.start(have, s.mayRenew)
	}
	return have, nil
}

// renewed returns keys that are newer than those in which a kid was not found.
func (s *Set) renewed(ctx context.Context, have *Keys) (*Keys, error) {
	return s.newer(ctx, have, s.mayForce)
}

// newer returns keys other than have, by a fetch where need be and may agrees,
// which is called with mu held.
func (s *Set) newer(ctx context.Context, have *Keys, may func(now time.Time) error) (*Keys, error) {
	current, f, err := s.start(have, may)
	if f == nil {
		return current, err
	}
	select {
	case <-f.done:
		return f.keys, f.err
	case <-ctx.Done():
		return nil, fmt.Errorf("%s: %w", s.name, context.Cause(ctx))
	}
}

// start returns the current keys where they are no longer have, else the fetch
// under way, else a new one where may agrees.
func (s *Set) start(have *Keys, may func(now time.Time) error) (*Keys, *flight, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if current := s.current.Load(); current != have {
		return current, nil, nil
	}
	if s.flight != nil {
		return nil, s.flight, nil
	}
	if err := may(time.Now()); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", s.name, err)
	}
	if !s.proven.Load() && !s.admit(s.vouched.Load()) {
		return nil, nil, fmt.Errorf("%s: not fetched, too many of plugins not met before were", s.name)
	}
	s.flight = &flight{done: make(chan struct{})}
	go s.run(s.flight)
	return nil, s.flight, nil
}

// mayTry allows a fetch without which nobody can be verified.
func (s *Set) mayTry(now time.Time) error {
	if s.failure != nil && now.Sub(s.tried) < FailureTTL {
		return s.failure
	}
	return nil
}

// mayRenew allows a fetch in the background.
func (s *Set) mayRenew(now time.Time) error {
	if now.Sub(s.tried) < Cooldown {
		return errors.New("fetched a moment ago")
	}
	return nil
}

// mayForce allows a fetch because of an unknown kid.
func (s *Set) mayForce(now time.Time) error {
	if now.Sub(s.tried) >= Cooldown {
		return nil
	}
	s.unknown = slices.DeleteFunc(s.unknown, func(at time.Time) bool { return now.Sub(at) >= ForcedTime })
	if len(s.unknown) >= Forced {
		return errNoKey
	}
	s.unknown = append(s.unknown, now)
	return nil
}

// run fetches for f. It belongs to no request, so that none can cut it short.
func (s *Set) run(f *flight) {
	ctx, cancel := context.WithTimeout(context.Background(), fetchTimeout)
	defer cancel()
	begun := time.Now()
	all, err := s.fetchRecovered(ctx)
	last := s.current.Load() // which only this flight may replace
	if err != nil && last != nil && !errors.Is(err, peer.ErrClosed) {
		s.log.WithError(err).Warnf("%s could not be renewed; the last one is used until it is %v old", s.name, MaxAge)
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	s.failure = err
	if err != nil {
		f.err = fmt.Errorf("%s: %w", s.name, err)
	} else {
		f.keys = &Keys{all: last.keep(all), fetched: begun}
		s.current.Store(f.keys)
	}
	s.tried = time.Now()
	s.flight = nil
	close(f.done)
}

// fetchRecovered fetches, and makes an error of a panic: what is read there comes
// from outside.
func (s *Set) fetchRecovered(ctx context.Context) (all []*jose.Key, err error) {
	defer func() {
		if panicked := peer.Panic(recover()); panicked != nil {
			all, err = nil, panicked
		}
	}()
	return s.fetch(ctx)
}

// keep returns the keys of a newer set, as those that they were in k where they
// are the same: what a key has verified stands as long as the key does.
func (k *Keys) keep(newer []*jose.Key) []*jose.Key {
	if k == nil {
		return newer
	}
	for n, one := range newer {
		if at := slices.IndexFunc(k.all, one.Equal); at >= 0 {
			newer[n] = k.all[at]
		}
	}
	return newer
}
