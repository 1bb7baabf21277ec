package identity

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
	"github.com/stagedoor/stagedoor/adapter/peer"
)

// How key sets age, as in jose 6 and JwksClient of @backstage/backend-defaults
// 0.19.0, where there is neither a renewal in the background nor a memory of
// failures.
const (
	keysMaxAge     = 10 * time.Minute
	keysRenewAge   = 5 * time.Minute  // renewed in the background from here on
	keysCooldown   = 30 * time.Second // an unknown kid renews a set that is older
	keysForced     = 10               // and a younger one as often
	keysForcedTime = time.Minute      // in such a time
	keysFailureTTL = 2 * time.Second  // after a failure, the next try
	fetchTimeout   = 5 * time.Second
)

// errNoKey is that no key of a set fits a token, which a newer set may cure.
var errNoKey = errors.New("no key of the set fits kid and alg")

// errNoTurn is that a signature could not be looked at for want of a processor.
var errNoTurn = errors.New("the signature's turn did not come")

// fetchedKeys are a key set as it was fetched. It is immutable.
type fetchedKeys struct {
	all     []*key
	fetched time.Time
}

// keySet is a key set elsewhere. It is safe for concurrent use.
type keySet struct {
	name  string // for logs and errors
	fetch func(context.Context) ([]*key, error)
	log   *logrus.Entry
	turns *fair.Line // at the processors
	// proven is whether a token has ever been verified with the set; until then
	// admit is asked before each fetch. vouched is whether a token that needs the set
	// has come with the good token of a user.
	proven, vouched atomic.Bool
	admit           func(vouched bool) bool

	current atomic.Pointer[fetchedKeys] // nil until the first fetch succeeds

	mu      sync.Mutex
	flight  *flight // the fetch under way, or nil
	tried   time.Time
	failure error       // of the last fetch, or nil
	forced  []time.Time // fetches that an unknown kid forced, at most keysForced
}

// flight is a fetch that all who need it wait for. keys and err may be read once
// done is closed.
type flight struct {
	done chan struct{}
	keys *fetchedKeys
	err  error
}

func newKeySet(
	name string, fetch func(context.Context) ([]*key, error), turns *fair.Line, log *logrus.Entry,
) *keySet {
	return &keySet{name: name, fetch: fetch, turns: turns, log: log}
}

// verify verifies the signature of t and returns the key of it. Only after that
// may t be believed. Signatures are most of what a request costs, so they are verified
// in turns: of says whose turn it is, which nobody has verified yet. Who claims to be
// somebody else waits in that one's place, and would else wait in the only one.
func (s *keySet) verify(ctx context.Context, t *token, of func() fair.Party) (*key, error) {
	k, err := s.find(ctx, t)
	if err != nil {
		return nil, err
	}
	if !s.turns.Try() {
		if err := s.turns.Begin(ctx, of()); err != nil {
			return nil, fmt.Errorf("%w: %w", errNoTurn, err)
		}
	}
	defer s.turns.End()
	alg, _ := text(t.Alg)
	if err := k.algorithms[alg].Verify(k.public, t.raw[:t.signed], t.signature); err != nil {
		return nil, fmt.Errorf("the signature does not fit the key of %s", s.name)
	}
	return k, nil
}

// find returns the one key that fits t's header.
func (s *keySet) find(ctx context.Context, t *token) (*key, error) {
	alg, _ := text(t.Alg)
	if _, ok := algorithms[alg]; !ok {
		return nil, errors.New("alg is missing, or none that is accepted")
	}
	if len(t.Crit) > 0 {
		return nil, errors.New("crit is not supported")
	}
	kid, ok := text(t.Kid)
	if !ok && len(t.Kid) > 0 {
		return nil, errors.New("kid is no string")
	}
	have, err := s.fresh(ctx)
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
func (k *fetchedKeys) find(named bool, kid, alg string) (*key, error) {
	var found *key
	for _, one := range k.all {
		if named && one.id != kid || one.algorithms[alg] == nil {
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

// fresh returns keys that are not too old to be used. It waits only where there
// are none.
func (s *keySet) fresh(ctx context.Context) (*fetchedKeys, error) {
	have := s.current.Load()
	if have == nil || time.Since(have.fetched) >= keysMaxAge {
		return s.newer(ctx, have, s.mayTry)
	}
	if time.Since(have.fetched) >= keysRenewAge {
		// In the background: a failure is logged where it happens, and only costs
		// somebody the access once the keys are too old.
		_, _, _ = s.start(have, s.mayRenew)
	}
	return have, nil
}

// renewed returns keys that are newer than those in which a kid was not found.
func (s *keySet) renewed(ctx context.Context, have *fetchedKeys) (*fetchedKeys, error) {
	return s.newer(ctx, have, s.mayForce)
}

// newer returns keys other than have, by a fetch where need be and may agrees,
// which is called with mu held.
func (s *keySet) newer(ctx context.Context, have *fetchedKeys, may func(now time.Time) error) (*fetchedKeys, error) {
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
func (s *keySet) start(have *fetchedKeys, may func(now time.Time) error) (*fetchedKeys, *flight, error) {
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
func (s *keySet) mayTry(now time.Time) error {
	if s.failure != nil && now.Sub(s.tried) < keysFailureTTL {
		return s.failure
	}
	return nil
}

// mayRenew allows a fetch in the background.
func (s *keySet) mayRenew(now time.Time) error {
	if now.Sub(s.tried) < keysCooldown {
		return errors.New("fetched a moment ago")
	}
	return nil
}

// mayForce allows a fetch because of an unknown kid.
func (s *keySet) mayForce(now time.Time) error {
	if now.Sub(s.tried) >= keysCooldown {
		return nil
	}
	s.forced = slices.DeleteFunc(s.forced, func(at time.Time) bool { return now.Sub(at) >= keysForcedTime })
	if len(s.forced) >= keysForced {
		return errNoKey
	}
	s.forced = append(s.forced, now)
	return nil
}

// run fetches for f. It belongs to no request, so that none can cut it short.
func (s *keySet) run(f *flight) {
	ctx, cancel := context.WithTimeout(context.Background(), fetchTimeout)
	defer cancel()
	begun := time.Now()
	all, err := s.fetchRecovered(ctx)
	last := s.current.Load() // which only this flight may replace
	if err != nil && last != nil && !errors.Is(err, errClosed) {
		s.log.WithError(err).Warnf("%s could not be renewed; the last one is used until it is %v old", s.name, keysMaxAge)
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	s.failure = err
	if err != nil {
		f.err = fmt.Errorf("%s: %w", s.name, err)
	} else {
		f.keys = &fetchedKeys{all: last.keep(all), fetched: begun}
		s.current.Store(f.keys)
	}
	s.tried = time.Now()
	s.flight = nil
	close(f.done)
}

// fetchRecovered fetches, and makes an error of a panic: what is read there comes
// from outside.
func (s *keySet) fetchRecovered(ctx context.Context) (all []*key, err error) {
	defer func() {
		if panicked := peer.Panic(recover()); panicked != nil {
			all, err = nil, panicked
		}
	}()
	return s.fetch(ctx)
}

// keep returns the keys of a newer set, as those that they were in k where they
// are the same: what a key has verified stands as long as the key does.
func (k *fetchedKeys) keep(newer []*key) []*key {
	if k == nil {
		return newer
	}
	for n, one := range newer {
		if at := slices.IndexFunc(k.all, one.equal); at >= 0 {
			newer[n] = k.all[at]
		}
	}
	return newer
}
