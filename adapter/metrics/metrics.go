// Package metrics are what an operator graphs of requests and decisions. All are there
// from the start, at 0, and no label takes what a caller or a policy makes up.
package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// Metrics count and time. It is safe for concurrent use.
type Metrics struct {
	requests  map[string]map[string]prometheus.Counter // by route and outcome
	ok        prometheus.Counter                       // of authorize: the one that the hot path counts
	decisions map[string]*decided                      // by permission
	others    *decided                                 // of all that have no label of their own
	// Stages are the steps of a request, see [Took].
	Stages   Stages
	plugins  map[string]prometheus.Observer // by id, what their calls took
	duration prometheus.Histogram
	failures prometheus.Counter
}

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
	Internal        = "internal"
)

var outcomes = []string{
	OK, Unauthenticated, Forbidden, NotFound, BadRequest, TooLarge, Shed,
	NoPolicy, Policy, Plugin, UserInfo, Audit, Timeout, Internal,
}

// Stages are the steps of an authorize request that take time, and the whole of it.
type Stages struct{ Verify, UserInfo, Evaluate, Apply, Log, Whole prometheus.Observer }

// other stands for all that has no label of its own.
const other = "other"

var buckets = []float64{
	.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10,
}

// New makes the metrics and registers them, with a label for each of the permissions, whose values
// are the plugins that own them.
func New(registry *prometheus.Registry, permissions map[string]string) *Metrics {
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "stagedoor_requests_total", Help: "Requests by route and by what came of them.",
	}, []string{"route", "outcome"})
	decisions := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "stagedoor_decisions_total",
		Help: "Decisions of the policy by permission, of those in the inventory, " +
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
	label := func(permission, plugin string) {
		m.decisions[permission] = &decided{
			allow: decisions.WithLabelValues(permission, "allow"), deny: decisions.WithLabelValues(permission, "deny"),
			conditional: decisions.WithLabelValues(permission, "conditional"),
			failed:      decisions.WithLabelValues(permission, "failed"),
		}
		m.plugins[plugin] = plugins.WithLabelValues(plugin)
	}
	label(other, other)
	m.others = m.decisions[other]
	for permission, plugin := range permissions {
		label(permission, plugin)
	}
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
	d, known := m.decisions[permission]
	if !known {
		d = m.others
	}
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
		observer = m.plugins[other]
	}
	observer.Observe(took.Seconds())
}

// Failed counts an item that the policy or a plugin did not decide.
func (m *Metrics) Failed() { m.failures.Inc() }
