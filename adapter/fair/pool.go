package fair

import "sync"

// Pool is an amount that parties take from and give back to. It is safe for
// concurrent use.
type Pool struct {
	total int64

	mu      sync.Mutex
	held    int64
	active  int // plugins that hold something
	plugins map[string]*holder
}

// holder is a plugin that holds something for users, or has done so.
type holder struct {
	held  int64
	users map[string]int64
}

// NewPool returns a Pool of that amount. Plugins that took from it are remembered, so
// the ids of plugins that nobody has verified are not for it.
func NewPool(total int64) *Pool {
	return &Pool{total: total, plugins: map[string]*holder{}}
}

// Take takes an amount for the party and reports whether it could be had. What was
// taken must be given back.
//
// The first half of a Pool is for whoever comes. Of the rest nobody gets more than a
// share, unless it is the first that it takes. The share of a plugin is the whole by
// the number of plugins that hold something and one, and that of a user is such a part
// of the plugin's. The one is whoever comes next, for whom there is room however much
// the others want. A plugin over its share may go on, up to three quarters of the whole,
// for those of its users who are within theirs.
func (p *Pool) Take(of Party, n int64) bool {
	if n == 0 {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	plugin := p.plugins[of.Plugin]
	if plugin == nil {
		plugin = &holder{users: map[string]int64{}}
		p.plugins[of.Plugin] = plugin
	}
	if p.held+n > p.total/2 && !p.fits(plugin, of.User, n) {
		return false
	}
	if plugin.held == 0 {
		p.active++
	}
	p.held += n
	plugin.held += n
	plugin.users[of.User] += n
	return true
}

// fits reports whether a scarce amount is there, and within the share of the party.
func (p *Pool) fits(plugin *holder, user string, n int64) bool {
	share := p.total / int64(p.active+1)
	room := p.total
	if plugin.held > 0 && plugin.held+n > share {
		room = p.total / 4 * 3
	}
	held, holds := plugin.users[user]
	return p.held+n <= room && (!holds || held+n <= share/int64(len(plugin.users)+1))
}

// Give gives back what the party took.
func (p *Pool) Give(of Party, n int64) {
	if n == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held -= n
	plugin := p.plugins[of.Plugin]
	if plugin.held -= n; plugin.held == 0 {
		p.active--
	}
	if plugin.users[of.User] -= n; plugin.users[of.User] == 0 {
		delete(plugin.users, of.User)
	}
}

// Held returns how much is taken.
func (p *Pool) Held() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.held
}

// Total returns how much there is.
func (p *Pool) Total() int64 { return p.total }
