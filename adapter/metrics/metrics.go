// Package metrics are what an operator graphs of requests and decisions. All are there
// from the start, at 0, and no label takes what a caller or a policy makes up.
package metrics

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// Metrics count and time. It is safe for concurrent use.
type Metrics struct {
	requests  map[string]map[string]prometheus.Counter // by route and outcome
	ok        prometheus.Counter                       // of authorize: the one that the hot path counts
	decisions map[string]*decided                      // by permission, of those that are known in advance
	others    *decided                                 // of all that have no label of their own
	// Stages are the steps of a request, see [Took].
	Stages   Stages
	plugins  map[string]prometheus.Observer // by id, what their calls took
	duration prometheus.Histogram
	failures prometheus.Counter

	publisher Publisher
	label     func(permission, plugin string) (*decided, prometheus.Observer)
	learning  sync.Mutex
	learned   atomic.Pointer[learned]
}

// A Publisher is asked which plugin publishes a permission, as far as that is known.
type Publisher func(permission string) (pluginID string, known bool)

// learned are labels of permissions that plugins were found to publish. It never changes.
type learned struct {
	decisions map[string]*decided
	plugins   map[string]prometheus.Observer
}

// The bounds of what is learned: how many permissions, and how long their names are.
const (
	mostLearned = 200
	longestName = 200
)

// decided counts the decisions about one permission, by what they came to.
type decided struct{ allow, deny, conditional, failed prometheus.Counter }

// The routes that metrics tell apart.
const (
	AtAuthorize = "authorize"
	AtExplain   = "explain"
	AtHealth    = "health"
	AtKeySet    = "key_set"
	AtElsewhere = "elsewhere"
	AtData      = "data" // on the operator's address, as is the next
	AtDataWrite = "data_write"
)

// What comes of requests.
const (
	OK              = "ok"
	Unauthenticated = "unauthenticated"
	Forbidden       = "forbidden"
	NotFound        = "not_found"
	BadRequest      = "bad_request"
	TooLarge        = "too_large"
	Shed            = "shed"
	NoPolicy        = "no_policy"
	Policy          = "policy"
	Plugin          = "plugin"
	UserInfo        = "userinfo"
	Audit           = "audit"
	Timeout         = "timeout"
	Gone            = "gone" // the caller left before the answer
	Internal        = "internal"
)

var outcomes = []string{
	OK, Unauthenticated, Forbidden, NotFound, BadRequest, TooLarge, Shed,
	NoPolicy, Policy, Plugin, UserInfo, Audit, Timeout, Gone, Internal,
}

// Stages are the steps of an authorize request that take time, and the whole of it.
type Stages struct{ Verify, UserInfo, Evaluate, Apply, Log, Whole prometheus.Observer }

// other stands for all that has no label of its own.
const other = "other"

var buckets = []float64{
	.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10,
}

// New makes the metrics and registers them, with a label for each of the permissions, whose values
// are the plugins that own them. Of other permissions those that have a publisher get a label when
// they are first decided, as long as there are not too many.
func New(registry *prometheus.Registry, permissions map[string]string, publisher Publisher) *Metrics {
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "stagedoor_requests_total", Help: "Requests by route and by what came of them.",
	}, []string{"route", "outcome"})
	decisions := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "stagedoor_decisions_total",
		Help: "Decisions of the policy by permission, of those in the inventory or published by a plugin, " +
			"and by result: allow, deny, conditional or failed.",
	}, []string{"permission", "result"})
	durations := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "stagedoor_stage_duration_seconds", Help: "How long the steps of authorize requests took.", Buckets: buckets,
	}, []string{"stage"})
	plugins := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "stagedoor_plugin_duration_seconds", Help: "How long plugins took to apply conditions, for a request.",
		Buckets: buckets,
	}, []string{"plugin"})
	m := &Metrics{
		requests: map[string]map[string]prometheus.Counter{}, decisions: map[string]*decided{},
		plugins: map[string]prometheus.Observer{},
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "stagedoor_request_duration_seconds", Help: "How long authorize requests took.", Buckets: buckets,
		}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "stagedoor_failures_total", Help: "Items that the policy or a plugin did not decide.",
		}),
	}
	for _, route := range []string{AtAuthorize, AtExplain, AtHealth, AtKeySet, AtElsewhere, AtData, AtDataWrite} {
		m.requests[route] = map[string]prometheus.Counter{}
		for _, outcome := range outcomes {
			m.requests[route][outcome] = requests.WithLabelValues(route, outcome)
		}
	}
	m.ok = m.requests[AtAuthorize][OK]
	m.publisher = publisher
	m.label = func(permission, plugin string) (*decided, prometheus.Observer) {
		return &decided{
			allow: decisions.WithLabelValues(permission, "allow"), deny: decisions.WithLabelValues(permission, "deny"),
			conditional: decisions.WithLabelValues(permission, "conditional"),
			failed:      decisions.WithLabelValues(permission, "failed"),
		}, plugins.WithLabelValues(plugin)
	}
	m.others, m.plugins[other] = m.label(other, other)
	for permission, plugin := range permissions {
		m.decisions[permission], m.plugins[plugin] = m.label(permission, plugin)
	}
	m.learned.Store(&learned{})
	m.Stages = Stages{
		Verify: durations.WithLabelValues("verify"), UserInfo: durations.WithLabelValues("userinfo"),
		Evaluate: durations.WithLabelValues("evaluate"), Apply: durations.WithLabelValues("apply_conditions"),
		Log: durations.WithLabelValues("log"), Whole: durations.WithLabelValues("whole"),
	}
	registry.MustRegister(requests, decisions, durations, plugins, m.duration, m.failures)
	return m
}

// Request counts a request, by what is said of routes and outcomes above.
func (m *Metrics) Request(route, outcome string, took time.Duration) {
	if route == AtAuthorize {
		m.duration.Observe(took.Seconds())
		m.Stages.Whole.Observe(took.Seconds())
		if outcome == OK {
			m.ok.Inc()
			return
		}
	}
	m.requests[route][outcome].Inc()
}

// Decision counts what the policy decided.
func (m *Metrics) Decision(permission string, o *decision.Outcome) {
	d := m.of(permission)
	switch {
	case o.Err != nil:
		d.failed.Inc()
	case o.Decision.Result == wire.Allow:
		d.allow.Inc()
	case o.Decision.Result == wire.Conditional:
		d.conditional.Inc()
	default:
		d.deny.Inc()
	}
}

// of is where decisions about a permission are counted.
func (m *Metrics) of(permission string) *decided {
	if d, known := m.decisions[permission]; known {
		return d
	}
	l := m.learned.Load()
	if d, known := l.decisions[permission]; known {
		return d
	}
	if len(l.decisions) == mostLearned || len(permission) > longestName {
		return m.others
	}
	plugin, known := m.publisher(permission)
	if !known {
		return m.others
	}
	return m.learn(permission, plugin)
}

// learn makes the label of a permission that the plugin publishes, and that of the plugin.
func (m *Metrics) learn(permission, plugin string) *decided {
	m.learning.Lock()
	defer m.learning.Unlock()
	l := m.learned.Load()
	if d, known := l.decisions[permission]; known {
		return d
	}
	if len(l.decisions) == mostLearned {
		return m.others
	}
	next := &learned{map[string]*decided{}, map[string]prometheus.Observer{}}
	maps.Copy(next.decisions, l.decisions)
	maps.Copy(next.plugins, l.plugins)
	next.decisions[permission], next.plugins[plugin] = m.label(permission, plugin)
	m.learned.Store(next)
	return next.decisions[permission]
}

// Took notes the time of a stage that began then, and returns the time by now.
func Took(stage prometheus.Observer, begun time.Time) time.Time {
	now := time.Now()
	stage.Observe(now.Sub(begun).Seconds())
	return now
}

// Asked notes how long a plugin took.
func (m *Metrics) Asked(plugin string, took time.Duration) {
	observer, known := m.plugins[plugin]
	if !known {
		observer, known = m.learned.Load().plugins[plugin]
	}
	if !known {
		observer = m.plugins[other]
	}
	observer.Observe(took.Seconds())
}

// Failed counts an item that the policy or a plugin did not decide.
func (m *Metrics) Failed() { m.failures.Inc() }
