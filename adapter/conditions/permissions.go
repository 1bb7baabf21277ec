package conditions

import (
	"context"
	"maps"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/stagedoor/stagedoor/adapter/conditions/rules"
	"github.com/stagedoor/stagedoor/adapter/discovery"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// How plugins are asked about permissions that nobody knows yet.
const (
	// metadataWait is how long a request waits for the metadata of a plugin that was
	// never asked before. Nobody waits for one that was.
	metadataWait = 2 * time.Second
	// Names of permissions may be made up, so plugins that only such a name speaks of
	// are asked at this pace, after a burst that is enough for a whole backend.
	guessPace  = 200 * time.Millisecond
	guessBurst = 64
)

// permissions are what is known of permissions by their names: those that plugins
// publish about resources. It is safe for concurrent use.
type permissions struct {
	published atomic.Pointer[map[string]claim] // the map never changes
	guesses   *rate.Limiter
	owner     map[string]string
}

// claim is what a plugin publishes under a name, or several do.
type claim struct {
	pluginID   string
	permission wire.Permission
	disputed   bool // by another plugin that publishes something else
}

func (p *permissions) init(owner map[string]string) {
	p.guesses, p.owner = rate.NewLimiter(rate.Every(guessPace), guessBurst), owner
	p.published.Store(&map[string]claim{})
}

// ownerOf is the plugin that should know the permission: who publishes it in the
// inventory, or else who gave it its name, as plugins begin the names of their
// permissions with their ids.
func (p *permissions) ownerOf(name string) string {
	if id, ok := p.owner[name]; ok {
		return id
	}
	id, _, _ := strings.Cut(name, ".")
	return id
}

// learn takes over what all plugins publish.
func (p *permissions) learn(plugins map[string]*rules.Set) {
	all := map[string]claim{}
	for id, published := range plugins {
		for name, permission := range published.Permissions {
			before, there := all[name]
			switch {
			case !there:
				all[name] = claim{pluginID: id, permission: permission}
			case before.permission == permission:
			case id == p.ownerOf(name):
				all[name] = claim{pluginID: id, permission: permission}
			case before.pluginID != p.ownerOf(name):
				before.disputed = true
				all[name] = before
			}
		}
	}
	p.published.Store(&all)
}

// Publisher is the plugin that publishes a permission, as far as plugins were asked. It
// does no I/O.
func (c *Client) Publisher(permission string) (pluginID string, known bool) {
	claim, known := (*c.permissions.published.Load())[permission]
	return claim.pluginID, known
}

// Hydrate replaces, among permissions, basic ones by what plugins publish under their
// names, where they say that these are about resources. Where plugins differ, it is what
// the owner of the name says, and without that nothing. It reports which were replaced,
// nil for none, and the names that a plugin should know that was never asked:
// [Client.Learn] asks it. It does no I/O itself.
func (c *Client) Hydrate(permissions []wire.Permission) (replaced []bool, unknown []string) {
	published, last := *c.permissions.published.Load(), ""
	for i := range permissions {
		if permissions[i].Resource {
			continue
		}
		name := permissions[i].Name
		if claim, ok := published[name]; ok {
			if claim.permission.Resource && !claim.disputed {
				if replaced == nil {
					replaced = make([]bool, len(permissions))
				}
				permissions[i], replaced[i] = claim.permission, true
			}
			continue
		}
		// Of a plugin that was asked and publishes no such permission there is no more
		// to know; mostly it is the same one for many items.
		if id := c.permissions.ownerOf(name); id != last {
			if last = id; !c.asked(id) {
				unknown = append(unknown, name)
			}
		}
	}
	return replaced, unknown
}

// asked reports whether the plugin was asked for its metadata, or cannot be. It is
// asked anew in the background from time to time.
func (c *Client) asked(id string) bool {
	if !discovery.ValidID(id) || len(id) > maxPluginID {
		return true
	}
	p, ok := c.plugins.GetIfPresent(id)
	if !ok || p.published.tried.nanos.Load() == 0 {
		return false
	}
	c.refresh(p, nil)
	return true
}

// maxPluginID is the length of the longest id that is taken for a plugin's.
const maxPluginID = 128

// Learn asks the plugins that should know the permissions what they publish, and waits
// until they have answered, but not for long. It does so once for each plugin.
func (c *Client) Learn(ctx context.Context, names []string) {
	wait := time.NewTimer(metadataWait)
	defer wait.Stop()
	for _, name := range names {
		id := c.permissions.ownerOf(name)
		p, ok := c.plugins.GetIfPresent(id)
		if !ok {
			if !c.permissions.guesses.Allow() {
				continue
			}
			p = c.plugin(id)
			p.published.failing.Store(true) // perhaps there is no such plugin, which is no news
		}
		c.fetchSoon(p)
		select {
		case <-p.published.first:
		case <-wait.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// relearn has permissions follow what plugins publish by now.
func (c *Client) relearn() {
	c.permissions.learn(maps.Collect(func(yield func(string, *rules.Set) bool) {
		for id, p := range c.plugins.All() {
			if known := p.published.rules.Load(); known != nil && !yield(id, known.rules) {
				return
			}
		}
	}))
}
