package keyset

import (
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/sirupsen/logrus"
	"golang.org/x/time/rate"

	"github.com/stagedoor/stagedoor/adapter/fair"
)

// Bounds of what plugins, and those who only say they are, may cost.
const (
	maxPlugins   = 1000
	MaxStrangers = 1000
	// Key sets of strangers are fetched at this pace, after a burst that is enough
	// for a whole backend to introduce itself to a new process. Those who come with
	// the token of a user have another such pace.
	StrangersPace  = 200 * time.Millisecond
	StrangersBurst = 64
)

// Plugins are the key sets of plugins. A plugin is a stranger until a token of
// it has been verified: anybody can make up an id, and even one whose key set is
// found, as routers take Catalog for catalog. Strangers share a bounded cache and
// a pace; plugins that are known are not in their way, and those who come with the
// token of a user, which nobody can make up, have a pace of their own. It is safe for
// concurrent use.
type Plugins struct {
	fetch     func(id string) Fetch
	turns     *fair.Line
	log       *logrus.Entry
	mu        sync.Mutex                      // held while known is replaced
	known     atomic.Pointer[map[string]*Set] // by id; the map never changes
	strangers *otter.Cache[string, *Set]
	pace      *rate.Limiter
	vouched   *rate.Limiter // the pace of those who come with a user's token
}

// NewPlugins returns the sets of plugins, none of which is known. fetch says how to get
// that of a plugin, by its id.
func NewPlugins(fetch func(id string) Fetch, turns *fair.Line, log *logrus.Entry) (*Plugins, error) {
	strangers, err := otter.New(&otter.Options[string, *Set]{MaximumSize: MaxStrangers})
	if err != nil {
		return nil, fmt.Errorf("cache of plugins: %w", err)
	}
	p := &Plugins{
		fetch: fetch, turns: turns, log: log,
		strangers: strangers,
		pace:      rate.NewLimiter(rate.Every(StrangersPace), StrangersBurst),
		vouched:   rate.NewLimiter(rate.Every(StrangersPace), StrangersBurst),
	}
	p.known.Store(&map[string]*Set{})
	return p, nil
}

// Known returns of how many plugins a token has been verified.
func (p *Plugins) Known() int { return len(*p.known.Load()) }

// Strangers returns of how many others something is remembered.
func (p *Plugins) Strangers() int {
	p.strangers.CleanUp()
	return p.strangers.EstimatedSize()
}

// Of returns the key set of the plugin with that id, which must look like one.
func (p *Plugins) Of(id string) *Set {
	if set, ok := (*p.known.Load())[id]; ok {
		return set
	}
	set, _ := p.strangers.ComputeIfAbsent(id, func() (*Set, bool) {
		return &Set{
			name: "the key set of plugin " + id, fetch: p.fetch(id), turns: p.turns, log: p.log, admit: p.admit,
		}, false
	})
	return set
}

// admit reports whether the key set of a stranger may be fetched.
func (p *Plugins) admit(vouched bool) bool {
	if vouched {
		return p.vouched.Allow()
	}
	return p.pace.Allow()
}

// Prove notes that a token of the plugin has been verified with set.
func (p *Plugins) Prove(id string, set *Set) {
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
