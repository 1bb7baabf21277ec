package adapter

import (
	"context"
	"errors"
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/stagedoor/stagedoor/adapter/conditions"
	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/supply"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// metrics are what an operator graphs. All are there from the start, at 0, and no
// label takes what a caller or a policy makes up. It is safe for concurrent use.
type metrics struct {
	requests  map[string]map[string]prometheus.Counter // by route and outcome
	ok        prometheus.Counter                       // of authorize: the one that the hot path counts
	decisions map[string]*decided                      // by permission
	others    *decided                                 // of all that have no label of their own
	stages    stages
	plugins   map[string]prometheus.Observer // by id, what their calls took
	duration  prometheus.Histogram
	failures  prometheus.Counter
}

// decided counts the decisions about one permission, by what they came to.
type decided struct{ allow, deny, conditional, failed prometheus.Counter }

// The routes that metrics tell apart.
const (
	atAuthorize = "authorize"
	atExplain   = "explain"
	atHealth    = "health"
	atKeySet    = "key_set"
	atElsewhere = "elsewhere"
	atData      = "data" // on the operator's address
)

// What comes of requests.
const (
	outcomeOK              = "ok"
	outcomeUnauthenticated = "unauthenticated"
	outcomeForbidden       = "forbidden"
	outcomeNotFound        = "not_found"
	outcomeBadRequest      = "bad_request"
	outcomeTooLarge        = "too_large"
	outcomeShed            = "shed"
	outcomeNoPolicy        = "no_policy"
	outcomePolicy          = "policy"
	outcomePlugin          = "plugin"
	outcomeUserInfo        = "userinfo"
	outcomeAudit           = "audit"
	outcomeTimeout         = "timeout"
	outcomeInternal        = "internal"
)

var outcomes = []string{
	outcomeOK, outcomeUnauthenticated, outcomeForbidden, outcomeNotFound, outcomeBadRequest, outcomeTooLarge, outcomeShed,
	outcomeNoPolicy, outcomePolicy, outcomePlugin, outcomeUserInfo, outcomeAudit, outcomeTimeout, outcomeInternal,
}

// stages are the steps of a request that take time, and the whole of it.
type stages struct{ verify, userInfo, evaluate, apply, log, whole prometheus.Observer }

// other stands for all that has no label of its own.
const other = "other"

var buckets = []float64{
	.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10,
}

// newMetrics makes the metrics, with a label for each of the permissions, whose values
// are the plugins that own them.
func newMetrics(registry *prometheus.Registry, permissions map[string]string) *metrics {
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
	m := &metrics{
		requests: map[string]map[string]prometheus.Counter{}, decisions: map[string]*decided{},
		plugins: map[string]prometheus.Observer{},
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "stagedoor_request_duration_seconds", Help: "How long authorize requests took.", Buckets: buckets,
		}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "stagedoor_failures_total", Help: "Items that the policy or a plugin did not decide.",
		}),
	}
	for _, route := range []string{atAuthorize, atExplain, atHealth, atKeySet, atElsewhere, atData} {
		m.requests[route] = map[string]prometheus.Counter{}
		for _, outcome := range outcomes {
			m.requests[route][outcome] = requests.WithLabelValues(route, outcome)
		}
	}
	m.ok = m.requests[atAuthorize][outcomeOK]
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
	m.stages = stages{
		verify: durations.WithLabelValues("verify"), userInfo: durations.WithLabelValues("userinfo"),
		evaluate: durations.WithLabelValues("evaluate"), apply: durations.WithLabelValues("apply_conditions"),
		log: durations.WithLabelValues("log"), whole: durations.WithLabelValues("whole"),
	}
	registry.MustRegister(requests, decisions, durations, plugins, m.duration, m.failures)
	return m
}

// request counts a request.
func (m *metrics) request(route, outcome string, took time.Duration) {
	if route == atAuthorize {
		m.duration.Observe(took.Seconds())
		m.stages.whole.Observe(took.Seconds())
		if outcome == outcomeOK {
			m.ok.Inc()
			return
		}
	}
	m.requests[route][outcome].Inc()
}

// decision counts what the policy decided.
func (m *metrics) decision(permission string, o *decision.Outcome) {
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

// took notes the time of a stage that began then, and returns the time by now.
func took(stage prometheus.Observer, begun time.Time) time.Time {
	now := time.Now()
	stage.Observe(now.Sub(begun).Seconds())
	return now
}

// asked notes how long a plugin took.
func (m *metrics) asked(plugin string, took time.Duration) {
	observer, known := m.plugins[plugin]
	if !known {
		observer = m.plugins[other]
	}
	observer.Observe(took.Seconds())
}

// errShed is that a request was turned away for want of room.
var errShed = errors.New("turned away for want of room")

// errUserInfo is that what the caller owns could not be found out, and errUnrecorded
// that the decision could not be recorded.
var (
	errUserInfo   = errors.New("user info")
	errUnrecorded = errors.New("decision log")
)

// outcomeOf names what came of a request.
func outcomeOf(err error, status int) string {
	if err == nil {
		if status == http.StatusNotFound {
			return outcomeNotFound
		}
		return outcomeOK
	}
	for _, known := range []struct {
		err     error
		outcome string
	}{
		{errShed, outcomeShed},
		{errUserInfo, outcomeUserInfo},
		{errUnrecorded, outcomeAudit},
		{supply.ErrNoPolicy, outcomeNoPolicy},
		{supply.ErrStale, outcomeNoPolicy},
	} {
		if errors.Is(err, known.err) {
			return known.outcome
		}
	}
	if _, ok := errors.AsType[*decision.Failure](err); ok {
		return outcomePolicy
	}
	_, refused := errors.AsType[*conditions.RefusedError](err)
	_, unavailable := errors.AsType[*conditions.UnavailableError](err)
	switch e := wire.AsError(err); {
	case e.Status == http.StatusUnauthorized:
		return outcomeUnauthenticated
	case refused || unavailable:
		return outcomePlugin
	case e.Status == http.StatusForbidden:
		return outcomeForbidden
	case e.Status == http.StatusNotFound:
		return outcomeNotFound
	case e.Status == http.StatusRequestEntityTooLarge:
		return outcomeTooLarge
	case e.Status < http.StatusInternalServerError:
		return outcomeBadRequest
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return outcomeTimeout
	case e.Status == http.StatusServiceUnavailable && e.RetryAfter > 0:
		return outcomeShed // by whoever verifies credentials
	}
	return outcomeInternal
}

var (
	inFlightDesc = prometheus.NewDesc("stagedoor_requests_in_flight", "Requests that are worked on.", nil, nil)
	slotsDesc    = prometheus.NewDesc("stagedoor_requests_in_flight_limit",
		"How many may be (stagedoor.limits.inFlight).", nil, nil)
	askingDesc = prometheus.NewDesc("stagedoor_requests_waiting",
		"Requests that wait for user info or metadata.", nil, nil)
	memoryDesc = prometheus.NewDesc("stagedoor_memory_bytes",
		"Bytes of bodies and answers that requests hold, by part.", []string{"part"}, nil)
	limitDesc = prometheus.NewDesc("stagedoor_memory_limit_bytes", "How many they may hold.", []string{"part"}, nil)
	buildDesc = prometheus.NewDesc("stagedoor_build_info",
		"The version of stagedoor and Go.", []string{"version", "go"}, nil)
	policyDesc = prometheus.NewDesc("stagedoor_policy_info",
		"The policy that serves.", []string{"revision", "entrypoint"}, nil)
	readyDesc = prometheus.NewDesc("stagedoor_policy_ready", "Whether requests can be decided: 1 or 0.", nil, nil)
	sinceDesc = prometheus.NewDesc("stagedoor_policy_activated_timestamp_seconds",
		"When the policy that serves was activated.", nil, nil)
	newestDesc = prometheus.NewDesc("stagedoor_policy_confirmed_timestamp_seconds",
		"When the policy was last known to be the newest.", nil, nil)
	refusedDesc = prometheus.NewDesc("stagedoor_policy_refused",
		"Bundles and folders whose newest policy could not be had or must not serve, by name.", []string{"bundle"}, nil)
	refusalsDesc = prometheus.NewDesc("stagedoor_policy_refusals", "How many these are.", nil, nil)
)

// Describe implements [prometheus.Collector].
func (s *Server) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		inFlightDesc, slotsDesc, askingDesc, memoryDesc, limitDesc, buildDesc,
		policyDesc, readyDesc, sinceDesc, newestDesc, refusedDesc, refusalsDesc,
	} {
		to <- d
	}
}

// Collect implements [prometheus.Collector]. It is safe for concurrent use.
func (s *Server) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(inFlightDesc, float64(s.slots.Held()))
	gauge(slotsDesc, float64(s.slots.Total()))
	gauge(askingDesc, float64(s.asking.Held()))
	for name, pool := range s.memory.parts() {
		gauge(memoryDesc, float64(pool.Held()), name)
		gauge(limitDesc, float64(pool.Total()), name)
	}
	gauge(buildDesc, 1, s.options.Version, runtime.Version())
	status := s.supply()
	ready := 0.0
	if status.Ready {
		ready = 1
	}
	gauge(readyDesc, ready)
	gauge(refusalsDesc, float64(len(status.Refused)))
	refused := map[string]float64{}
	for name := range status.Revisions {
		refused[name] = 0
	}
	for _, one := range status.Refused {
		refused[one.Bundle] = 1
	}
	for name, is := range refused {
		gauge(refusedDesc, is, name)
	}
	if status.Revision != "" || status.Entrypoint != "" {
		gauge(policyDesc, 1, status.Revision, status.Entrypoint)
	}
	seconds := func(t time.Time) float64 {
		if t.IsZero() {
			return 0
		}
		return float64(t.UnixMilli()) / 1000
	}
	gauge(sinceDesc, seconds(status.Since))
	gauge(newestDesc, seconds(status.Confirmed))
}
