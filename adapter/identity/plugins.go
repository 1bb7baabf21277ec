package identity

import (
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
	"golang.org/x/time/rate"
)

// Bounds of what plugins, and those who only say they are, may cost.
const (
	maxPlugins   = 1000
	maxStrangers = 1000
	// Key sets of strangers are fetched at this pace, after a burst that is enough
	// for a whole backend to introduce itself to a new process. Those who come with
	// the token of a user have another such pace.
	strangersPace  = 200 * time.Millisecond
	strangersBurst = 64
)

// pluginKeys are the key sets of plugins. A plugin is a stranger until a token of
// it has been verified: anybody can make up an id, and even one whose key set is
// found, as routers take Catalog for catalog. Strangers share a bounded cache and
// a pace; plugins that are known are not in their way, and those who come with the
// token of a user, which nobody can make up, have a pace of their own. It is safe for
// concurrent use.
type pluginKeys struct {
	identity  *Identity
	mu        sync.Mutex                         // held while known is replaced
	known     atomic.Pointer[map[string]*keySet] // by id; the map never changes
	strangers *otter.Cache[string, *keySet]
	pace      *rate.Limiter
	vouched   *rate.Limiter // the pace of those who come with a user's token
}

func newPluginKeys(i *Identity) (*pluginKeys, error) {
	strangers, err := otter.New(&otter.Options[string, *keySet]{MaximumSize: maxStrangers})
	if err != nil {
		return nil, fmt.Errorf("identity: cache of plugins: %w", err)
	}
	p := &pluginKeys{
		identity:  i,
		strangers: strangers,
		pace:      rate.NewLimiter(rate.Every(strangersPace), strangersBurst),
		vouched:   rate.NewLimiter(rate.Every(strangersPace), strangersBurst),
	}
	p.known.Store(&map[string]*keySet{})
	return p, nil
}

// of returns the key set of the plugin with that id, which must look like one.
func (p *pluginKeys) of(id string) *keySet {
	if set, ok := (*p.known.Load())[id]; ok {
		return set
	}
	set, _ := p.strangers.ComputeIfAbsent(id, func() (*keySet, bool) {
		i := p.identity
		set := newKeySet("the key set of plugin "+id, i.fetchKeys(id, "/.backstage/auth/v1/jwks.json"), i.turns, i.log)
		set.admit = p.admit
		return set, false
	})
	return set
}

// admit reports whether the key set of a stranger may be fetched.
func (p *pluginKeys) admit(vouched bool) bool {
	if vouched {
		return p.vouched.Allow()
	}
	return p.pace.Allow()
}

// prove notes that a token of the plugin has been verified with set.
func (p *pluginKeys) prove(id string, set *keySet) {
	if set.proven.Load() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	known := *p.known.Load()
	if _, ok := known[id]; ok || len(known) >= maxPlugins {
		return
	}
	known = maps.Clone(known)
	known[id] = set
	p.known.Store(&known)
	set.proven.Store(true)
	p.strangers.Invalidate(id)
}
