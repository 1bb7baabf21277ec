// Package adapter is the permission backend that Backstage talks to: it answers
// POST {basePath}/authorize by the policy.
//
// A request passes the middleware (id, time, panics, log), then credentials,
// body and limits, and reaches authorize, which reads like the
// specification: who asks, what is asked, what the policy says, and, for
// conditions with a resourceRef, what the plugins say. Everything that can fail
// returns an error, and one place writes it.
//
// The order of the checks, the answers and the status codes are those of
// @backstage/plugin-permission-backend 0.7.18, with the differences that
// docs/differences.md names.
package adapter

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/mux"
	"github.com/klauspost/compress/gzhttp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/cors"
	"github.com/sirupsen/logrus"

	"github.com/stagedoor/stagedoor/adapter/audit"
	"github.com/stagedoor/stagedoor/adapter/bearer"
	"github.com/stagedoor/stagedoor/adapter/conditions"
	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/document/patch"
	"github.com/stagedoor/stagedoor/adapter/explain"
	"github.com/stagedoor/stagedoor/adapter/fair"
	"github.com/stagedoor/stagedoor/adapter/identity"
	"github.com/stagedoor/stagedoor/adapter/metrics"
	"github.com/stagedoor/stagedoor/adapter/sampler"
	"github.com/stagedoor/stagedoor/adapter/shadow"
	"github.com/stagedoor/stagedoor/adapter/supply"
	"github.com/stagedoor/stagedoor/adapter/tracing"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// Options are the settings of a [Server].
type Options struct {
	// BasePath is where the permission API is, such as /api/permission.
	BasePath string
	// DenyOnError makes a failure of the policy DENY for its item, instead of an
	// error for the whole request (stagedoor.policy.onError).
	DenyOnError bool
	// Body is the most bytes in a body, and Items the most items in a batch.
	Body  int64
	Items int
	// FromMetadata makes permissions that come as basic ones what plugins publish
	// under their names (stagedoor.permissions.fromMetadata).
	FromMetadata bool
	// Answer is the most bytes in an answer (stagedoor.limits.answer).
	Answer int64
	// InFlight is how many requests are worked on at a time, and how many more may wait
	// for user info; further ones are turned away with 503.
	InFlight int64
	// Memory is how many bytes the bodies and answers of all requests may take
	// (stagedoor.limits.memory).
	Memory int64
	// CORS is for front ends of another origin; nil for none.
	CORS *cors.Options
	// Profiles has the operator's address serve Go's profiles (stagedoor.admin.pprof).
	Profiles bool
	// Permissions are the permissions that metrics tell apart, by name, with the
	// plugins that own them.
	Permissions map[string]string
	// Version is what /version says.
	Version string
	// Admin is for the operator's API.
	Admin AdminOptions
}

// requestTimeout bounds a request with all that is asked on its behalf.
const requestTimeout = 15 * time.Second

// Decider is a policy that decides: an engine.Engine, in process, or a remote.Remote.
type Decider interface {
	Decide(context.Context, decision.Caller, []wire.Permission) (decision.Batch, error)
}

// Parts are what a [Server] is made of; all but Shadow, Write and Tracer are required.
type Parts struct {
	Gate     *fair.Gate
	Identity *identity.Identity
	Policy   Decider
	// Status tells how the policy's supply fares.
	Status func() supply.Status
	// Write changes data of the policy; nil where nobody may.
	Write      func(context.Context, []patch.Change) error
	Conditions *conditions.Client
	Audit      *audit.Log
	// Shadow compares a candidate with Policy; nil where there is none.
	Shadow   *shadow.Shadow
	Log      *logrus.Entry
	Registry *prometheus.Registry
	Tracer   *tracing.Tracer
}

// Server answers authorize requests. It is safe for concurrent use.
type Server struct {
	options    Options
	identity   *identity.Identity
	policy     Decider
	supply     func() supply.Status // see status
	write      func(context.Context, []patch.Change) error
	conditions *conditions.Client
	audit      *audit.Log
	shadow     *shadow.Shadow // nil where nothing is compared
	log        *logrus.Entry
	registry   *prometheus.Registry
	tracer     *tracing.Tracer
	metrics    *metrics.Metrics
	ending     atomic.Bool // see End
	tokens     bearer.Tokens
	sampler    sampler.Sampler
	gate       *fair.Gate
	memory     memory
	explains   *explain.Served
	buffers    sync.Pool // of *[]byte, for bodies and answers

	slots, asking *fair.Pool // of requests that are worked on, and of those that wait for user info
}

// New returns a Server.
func New(o Options, p Parts) *Server {
	o.BasePath = strings.TrimRight("/"+strings.Trim(o.BasePath, "/"), "/")
	p.Registry.MustRegister(p.Identity, p.Conditions)
	if counted, is := p.Policy.(prometheus.Collector); is { // one in process
		p.Registry.MustRegister(counted)
	}
	s := &Server{
		options: o, identity: p.Identity, policy: p.Policy, supply: p.Status, write: p.Write,
		conditions: p.Conditions, audit: p.Audit, shadow: p.Shadow, log: p.Log, registry: p.Registry, tracer: p.Tracer,
		metrics: metrics.New(p.Registry, o.Permissions, p.Conditions.Publisher), gate: p.Gate,
		explains: explain.NewServed(), memory: newMemory(o.Memory, o.Body),
		slots: fair.NewPool(o.InFlight), asking: fair.NewPool(o.InFlight),
	}
	s.RenewTokens(o.Admin.Tokens)
	p.Registry.MustRegister(s, supply.Gauges(s.status))
	return s
}

// status tells how the policy's supply and the decision log fare.
func (s *Server) status() supply.Status {
	status := s.supply()
	if s.audit.Fails() {
		status.Degraded = append(status.Degraded, supply.Degradation{
			Part: supply.DecisionLog, Reason: "its receiver did not take what was sent last",
		})
	}
	return status
}

// End says that this process is going to end: it is not ready from here on, and answers all the same.
func (s *Server) End() { s.ending.Store(true) }

// Close writes what the log has kept back so far.
func (s *Server) Close() { s.sampler.Flush() }

// The routes of the permission API, relative to the base path.
const (
	routeAuthorize = "/authorize"
	routeExplain   = "/explain"
	routeHealth    = "/health"
	routeKeySet    = "/.backstage/auth/v1/jwks.json"
)

// Handler returns the permission API, to be served at stagedoor.listen.
func (s *Server) Handler() (http.Handler, error) {
	// gorilla/mux would answer another case or a trailing slash with a redirect or
	// 404, where Express, and so the reference, takes either.
	at := func(route string) mux.MatcherFunc {
		return func(r *http.Request, _ *mux.RouteMatch) bool {
			return strings.EqualFold(s.options.BasePath+route, strings.TrimSuffix(r.URL.Path, "/"))
		}
	}
	router := mux.NewRouter().SkipClean(true)
	router.NewRoute().MatcherFunc(at(routeAuthorize)).Methods(http.MethodPost).
		Handler(s.route(metrics.AtAuthorize, s.authenticated(s.withBody(s.admitted(s.authorize)))))
	router.NewRoute().MatcherFunc(at(routeExplain)).Methods(http.MethodPost).
		Handler(s.route(metrics.AtExplain, s.authenticated(s.withBody(s.admitted(s.explain)))))
	router.NewRoute().MatcherFunc(at(routeHealth)).Methods(http.MethodGet, http.MethodHead).
		Handler(s.route(metrics.AtHealth, s.withSmallBody(bodyInOrder(s.health))))
	router.NewRoute().MatcherFunc(at(routeKeySet)).Methods(http.MethodGet, http.MethodHead).
		Handler(s.route(metrics.AtKeySet, s.withSmallBody(bodyInOrder(s.keySet))))
	router.NotFoundHandler = s.route(metrics.AtElsewhere, s.elsewhere)
	router.MethodNotAllowedHandler = router.NotFoundHandler

	compress, err := gzhttp.NewWrapper(gzhttp.MinSize(1024), gzhttp.CompressionLevel(1))
	if err != nil {
		return nil, err
	}
	handler := s.observed(compress(dispatch(router)))
	if s.options.CORS != nil {
		handler = cors.New(*s.options.CORS).Handler(handler)
	}
	return handler, nil
}

// asks reports whether a request is a question to the policy, and so worth a trace. A
// span has the path in its name, so none is made of paths that strangers make up.
func (s *Server) asks(r *http.Request) bool {
	path := strings.ToLower(strings.TrimSuffix(s.relative(r.URL.Path), "/"))
	return r.Method == http.MethodPost && (path == routeAuthorize || path == routeExplain)
}

// dispatch serves by the routes of a router that has a handler for whatever matches none. The router's own
// ServeHTTP would copy the request twice, to put the route and its variables where nobody looks.
func dispatch(router *mux.Router) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var match mux.RouteMatch
		router.Match(r, &match)
		match.Handler.ServeHTTP(w, r)
	})
}

// elsewhere is any other path, or an unknown method. What would lie below health
// and key set needs no credentials either.
func (s *Server) elsewhere(w http.ResponseWriter, r *http.Request) error {
	h := bodyInOrder(notFound)
	if s.open(r) {
		return s.withSmallBody(h)(w, r)
	}
	return s.authenticated(s.withBody(h))(w, r)
}

// open reports whether the path needs no credentials.
func (s *Server) open(r *http.Request) bool {
	path := strings.ToLower(s.relative(r.URL.Path))
	for _, route := range []string{routeHealth, routeKeySet} {
		if path == route || strings.HasPrefix(path, route+"/") {
			return true
		}
	}
	return false
}

// relative is the path within the plugin, as error bodies name it.
func (s *Server) relative(path string) string {
	base := s.options.BasePath
	if len(path) >= len(base) && strings.EqualFold(path[:len(base)], base) {
		path = path[len(base):]
	}
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	return path
}

func (s *Server) health(w http.ResponseWriter, _ *http.Request) error {
	return writeJSON(w, []byte(`{"status":"ok"}`))
}

func (s *Server) keySet(w http.ResponseWriter, _ *http.Request) error {
	return writeJSON(w, s.identity.JWKS())
}

// notFound answers as the reference does: with nothing.
func notFound(w http.ResponseWriter, _ *http.Request) error {
	w.WriteHeader(http.StatusNotFound)
	return nil
}

func writeJSON(w http.ResponseWriter, body []byte) error {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(body))) // or net/http would write a longer one in chunks
	_, _ = w.Write(body)                                      // a caller that is gone needs no answer
	return nil
}
