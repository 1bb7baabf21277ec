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

	"github.com/maypok86/otter/v2"
	"github.com/sirupsen/logrus"

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
	// maxMemo bounds what is remembered of checked params, and of checked
	// decisions, in bytes.
	maxMemo = 16 << 20
)

// metadata fetches what plugins publish, in the background.
type metadata struct {
	service   TokenSource
	params    *otter.Cache[checkedParams, error]
	decisions *otter.Cache[checkedDecision, error]

	mu       sync.Mutex
	stopped  bool
	underWay map[*plugin]context.CancelFunc
	fetches  sync.WaitGroup // grows only under mu and before stopped
}

// published is what is known of one plugin's metadata.
type published struct {
	rules   atomic.Pointer[ruleset] // nil where unknown; kept while fetching fails
	fetched atomicTime              // when rules came
	tried   atomicTime              // when the last fetch ended, well or not
	failing atomic.Bool             // the last fetch failed
	first   chan struct{}           // closed when the first fetch has ended
	ended   sync.Once               // closes first
}

// atomicTime is a point in time, at first one long past.
type atomicTime struct{ nanos atomic.Int64 }

func (t *atomicTime) set(to time.Time)           { t.nanos.Store(to.UnixNano()) }
func (t *atomicTime) before(then time.Time) bool { return t.nanos.Load() < then.UnixNano() }

// checkedParams are params held against the schema of a rule. Rules are compared
// by address: metadata that is no longer the same is checked anew.
type checkedParams struct {
	rule   *rule
	params string
}

// checkedDecision is a decision, as JSON, held against the rules of its plugin. They
// are compared by address, too.
type checkedDecision struct {
	rules    *ruleset
	decision string
}

func (m *metadata) init(service TokenSource) (err error) {
	m.service, m.underWay = service, map[*plugin]context.CancelFunc{}
	m.params, err = newMemo(func(key checkedParams) string { return key.params })
	if err == nil {
		m.decisions, err = newMemo(func(key checkedDecision) string { return key.decision })
	}
	if err != nil {
		return fmt.Errorf("conditions: memo of what was checked: %w", err)
	}
	return nil
}

// newMemo makes a cache of what came of checks, within maxMemo. text is what a key
// weighs by.
func newMemo[K comparable](text func(K) string) (*otter.Cache[K, error], error) {
	return otter.New(&otter.Options[K, error]{
		MaximumWeight: maxMemo,
		Weigher:       func(key K, _ error) uint32 { return uint32(min(len(text(key)), maxMemo)) + 128 },
	})
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
//
// The schemas are read as the plugin's runtime acts: params that a schema does
// not name are ignored there, though the schema says additionalProperties:
// false; and a rule with a schema refuses absent params, while a rule without one
// publishes the empty closed object and takes anything.
func (c *Client) Check(d wire.Decision) error {
	if d.Result != wire.Conditional {
		return nil
	}
	p := c.plugin(d.PluginID)
	err := c.metadata.check(p, d)
	c.refresh(p, err)
	return err
}

// refresh has metadata fetched again that is old, or has just refused a decision.
func (c *Client) refresh(p *plugin, refused error) {
	now := time.Now()
	stale := p.published.fetched.before(now.Add(-freshFor))
	if (stale || refused != nil) && p.published.tried.before(now.Add(-againAfter)) {
		c.fetchSoon(p)
	}
}

// check holds d against what the plugin publishes. Decisions are remembered where
// they are made and come again and again, so what came of it is remembered too.
func (m *metadata) check(p *plugin, d wire.Decision) error {
	rules := p.published.rules.Load()
	if rules == nil {
		return nil
	}
	key := checkedDecision{rules, d.Text()}
	if err, ok := m.decisions.GetIfPresent(key); ok {
		return err
	}
	err := rules.check(m.params, d.ResourceType, d.Conditions)
	if err != nil {
		err = fmt.Errorf("plugin %q: %w", d.PluginID, err)
	}
	_, _ = m.decisions.Set(key, err)
	return err
}

// fetchSoon starts a fetch unless one is under way, or too many are.
func (c *Client) fetchSoon(p *plugin) {
	m := &c.metadata
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stopped || m.underWay[p] != nil || len(m.underWay) == fetchesAtOnce {
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
	rules, err := c.fetchRules(ctx, p)
	if err != nil {
		c.logFailure(ctx, p, err)
		return
	}
	p.published.failing.Store(false)
	if rules != p.published.rules.Load() {
		c.take(p, rules)
	}
	p.published.fetched.set(time.Now())
}

// take puts new rules in the place of what is known of p. What was remembered of
// checks would keep the old ones in memory, and is forgotten.
func (c *Client) take(p *plugin, rules *ruleset) {
	for _, problem := range rules.problems {
		c.log.WithField("plugin", p.id).WithField(logrus.ErrorKey, peer.WithoutTokens(problem.Error())).
			Warn("the params of a permission rule cannot be checked")
	}
	p.published.rules.Store(rules)
	c.relearn()
	c.metadata.params.InvalidateAll()
	c.metadata.decisions.InvalidateAll()
}

// fetchRules fetches what the plugin publishes, and returns the rules that are known
// where it is the same. A panic over that ends here, as no request waits for it.
func (c *Client) fetchRules(ctx context.Context, p *plugin) (rules *ruleset, err error) {
	defer func() {
		if panicked := peer.Panic(recover()); panicked != nil {
			rules, err = nil, panicked
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
	known, sum := p.published.rules.Load(), sha256.Sum256(body)
	if known != nil && known.sum == sum {
		return known, nil
	}
	if rules, err = readRules(body); err != nil {
		return nil, err
	}
	rules.sum = sum
	return rules, nil
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
