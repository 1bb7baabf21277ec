package conditions

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/stagedoor/stagedoor/adapter/conditions/rules"
	"github.com/stagedoor/stagedoor/adapter/peer"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

const (
	// freshFor is how long metadata is taken as it is before it is fetched anew.
	freshFor = 10 * time.Minute
	// againAfter is the pause between fetches: failed ones, and those that a
	// decision starts which the metadata refuses, as the plugin may have been
	// upgraded.
	againAfter = 30 * time.Second
	// fetchesAtOnce bounds the fetches under way; more wait for another Check.
	fetchesAtOnce = 4
)

// metadata fetches what plugins publish, in the background.
type metadata struct {
	service TokenSource
	memo    *rules.Memo

	mu       sync.Mutex
	stopped  bool
	underWay map[*plugin]context.CancelFunc
	fetches  sync.WaitGroup // grows only under mu and before stopped
}

// published is what is known of one plugin's metadata.
type published struct {
	rules   atomic.Pointer[known] // nil where unknown; kept while fetching fails
	fetched atomicTime            // when rules came
	tried   atomicTime            // when the last fetch ended, well or not
	failing atomic.Bool           // the last fetch failed
	first   chan struct{}         // closed when the first fetch has ended
	ended   sync.Once             // closes first
}

// known are rules, and of which metadata. It is immutable.
type known struct {
	rules *rules.Set
	sum   [sha256.Size]byte
}

// atomicTime is a point in time, at first one long past.
type atomicTime struct{ nanos atomic.Int64 }

func (t *atomicTime) set(to time.Time)           { t.nanos.Store(to.UnixNano()) }
func (t *atomicTime) before(then time.Time) bool { return t.nanos.Load() < then.UnixNano() }

func (m *metadata) init(service TokenSource) (err error) {
	m.service, m.underWay = service, map[*plugin]context.CancelFunc{}
	if m.memo, err = rules.NewMemo(); err != nil {
		return fmt.Errorf("conditions: memo of what was checked: %w", err)
	}
	return nil
}

func (m *metadata) stop() {
	m.mu.Lock()
	m.stopped = true
	for _, cancel := range m.underWay {
		cancel()
	}
	m.mu.Unlock()
	m.fetches.Wait()
}

// Check reports what the plugin's published rules have against the conditions of
// d: a rule that it does not have for the decision's resource type, or params
// that the rule's schema refuses. It returns nil for decisions without
// conditions, and as long as the plugin's metadata is not known; being called is
// what has it fetched. It does no I/O itself.
func (c *Client) Check(d wire.Decision) error {
	if d.Result != wire.Conditional {
		return nil
	}
	p := c.plugin(d.PluginID)
	var err error
	if known := p.published.rules.Load(); known != nil {
		err = c.metadata.memo.Check(known.rules, d)
	}
	c.refresh(p, err)
	return err
}

// refresh has metadata fetched again that is old, or has just refused a decision.
func (c *Client) refresh(p *plugin, refused error) {
	stale := p.published.fetched.before(time.Now().Add(-freshFor))
	if (stale || refused != nil) && p.published.due() {
		c.fetchSoon(p)
	}
}

// due reports whether the last fetch ended long enough ago for another.
func (p *published) due() bool { return p.tried.before(time.Now().Add(-againAfter)) }

// fetchSoon starts a fetch unless one is under way, has ended just now, or too many
// are under way.
func (c *Client) fetchSoon(p *plugin) {
	m := &c.metadata
	m.mu.Lock()
	defer m.mu.Unlock()
	// A caller may have found it due before the fetch ended that another one started.
	if m.stopped || m.underWay[p] != nil || len(m.underWay) == fetchesAtOnce || !p.published.due() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.timeout)
	m.underWay[p] = cancel
	m.fetches.Go(func() {
		defer cancel()
		c.fetch(ctx, p)
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.underWay, p)
		p.published.tried.set(time.Now())
		p.published.ended.Do(func() { close(p.published.first) })
	})
}

// fetch is called once at a time for a plugin.
func (c *Client) fetch(ctx context.Context, p *plugin) {
	published, err := c.fetchRules(ctx, p)
	if err != nil {
		c.logFailure(ctx, p, err)
		return
	}
	p.published.failing.Store(false)
	if published != p.published.rules.Load() {
		c.take(p, published)
	}
	p.published.fetched.set(time.Now())
}

// take puts new rules in the place of what is known of p. What was remembered of
// checks would keep the old ones in memory, and is forgotten.
func (c *Client) take(p *plugin, published *known) {
	for _, problem := range published.rules.Problems {
		c.log.WithField("plugin", p.id).WithField(logrus.ErrorKey, peer.WithoutTokens(problem.Error())).
			Warn("the params of a permission rule cannot be checked")
	}
	p.published.rules.Store(published)
	c.relearn()
	c.metadata.memo.Forget()
}

// fetchRules fetches what the plugin publishes, and returns the rules that are known
// where it is the same. A panic over that ends here, as no request waits for it.
func (c *Client) fetchRules(ctx context.Context, p *plugin) (published *known, err error) {
	defer func() {
		if panicked := peer.Panic(recover()); panicked != nil {
			published, err = nil, panicked
		}
	}()
	base, err := c.discovery.BaseURL(ctx, p.id)
	if err != nil {
		return nil, err
	}
	from := endpoint{plugin: p, url: base + wellKnown + "metadata"}
	body, err := c.do(ctx, c.metadata.service, from, http.MethodGet, nil)
	if err != nil {
		return nil, err
	}
	before, sum := p.published.rules.Load(), sha256.Sum256(body)
	if before != nil && before.sum == sum {
		return before, nil
	}
	set, err := rules.Read(body)
	if err != nil {
		return nil, err
	}
	return &known{set, sum}, nil
}

// logFailure is loud once, until a fetch succeeds again.
func (c *Client) logFailure(ctx context.Context, p *plugin, err error) {
	level := logrus.WarnLevel
	if p.published.failing.Swap(true) || errors.Is(ctx.Err(), context.Canceled) {
		level = logrus.DebugLevel
	}
	c.log.WithField("plugin", p.id).WithError(err).
		Log(level, "the metadata of a plugin cannot be fetched, by which conditions for it would be checked")
}
