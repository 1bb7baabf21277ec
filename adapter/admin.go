package adapter

import (
	"encoding/json"
	"net/http"
	"net/http/pprof"
	"strings"

	"github.com/gorilla/mux"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/stagedoor/stagedoor/adapter/dataapi"
	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/endpoint"
	"github.com/stagedoor/stagedoor/adapter/engine"
	"github.com/stagedoor/stagedoor/adapter/metrics"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// AdminOptions say what the operator's API tells to whom.
type AdminOptions struct {
	// Tokens open what is for operators alone, each of them. [Server.RenewTokens] changes
	// them.
	Tokens []string
	// Data is whether decisions can be asked (POST /v1/data).
	Data bool
	// Strict has /ready be what /ready?strict is (stagedoor.admin.strict).
	Strict bool
}

// AdminHandler returns what is for operators, to be served at
// stagedoor.admin.listen.
//
// For everybody who can reach it, such as probes and scrapers:
//
//   - GET /health: the process lives.
//   - GET /ready: 200 once a policy is active, else 503 with what it waits for, and
//     from the moment on at which the process is told to end. With ?strict, 503 too
//     where something is degraded.
//   - GET /metrics (Prometheus), /version, and of /status whether it is ready.
//
// For operators alone (see [Server.operator]):
//
//   - GET /status: the policy that serves, and what was refused.
//   - GET /debug/pprof/: Go's profiles, where [Options].Profiles says so.
//   - GET /shadow: where the candidate of stagedoor.policy.shadow decides otherwise.
//   - POST /v1/data/{entrypoint}: a decision in the shape of OPA's data API, for a
//     stock permission backend with the OPA wrapper module.
//   - PATCH, PUT and DELETE /v1/data/{path}: data is changed, as OPA's data API does it,
//     below the roots of stagedoor.admin.dataRoots.
func (s *Server) AdminHandler() http.Handler {
	router := mux.NewRouter()
	get := func(path string, h handler) {
		router.Handle(path, s.route("", h)).Methods(http.MethodGet, http.MethodHead)
	}
	get("/health", s.health)
	get("/ready", s.ready)
	get("/version", s.version)
	get("/status", s.tellStatus)
	if s.shadow != nil {
		get("/shadow", s.operators(func(w http.ResponseWriter, _ *http.Request) error {
			return writeValue(w, s.shadow.Status())
		}))
	}
	router.Handle("/metrics", promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{})).Methods(http.MethodGet)
	if s.options.Admin.Data {
		data := routed(metrics.AtData, s.operators(asJSON(s.withOperatorBody(s.admitted(s.data)))), dataapi.WriteError)
		router.Handle(dataPath+"/{entrypoint:.+}", data).Methods(http.MethodPost)
	}
	if s.write != nil {
		writes := s.writers(asJSON(s.withOperatorBody(s.admitted(s.writeData))))
		write := routed(metrics.AtDataWrite, writes, dataapi.WriteError)
		methods := []string{http.MethodPatch, http.MethodPut, http.MethodDelete}
		router.Handle(dataPath, write).Methods(methods...)
		router.PathPrefix(dataPath + "/").Handler(write).Methods(methods...)
	}
	if s.options.Profiles {
		router.PathPrefix("/debug/pprof/").Handler(s.route("", s.operators(profiles)))
	}
	router.NotFoundHandler = s.route("", notFound)
	router.MethodNotAllowedHandler = router.NotFoundHandler
	return s.observed(router)
}

// RenewTokens has the tokens open what is for operators alone from now on, and no others.
func (s *Server) RenewTokens(tokens []string) { s.tokens.Renew(tokens) }

// operator reports whether a request is an operator's: it comes with the token, with a
// client certificate that was verified, through a unix socket, or from this machine.
func (s *Server) operator(r *http.Request) bool {
	if given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok && !s.tokens.None() {
		return s.tokens.Has(given)
	}
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		return true
	}
	return endpoint.Local(r)
}

// operators lets operators alone in.
func (s *Server) operators(next handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		if !s.operator(r) {
			return wire.AuthenticationError("This is for operators: ask from this machine, with the token of " +
				"stagedoor.admin.token, or with a client certificate")
		}
		return next(w, r)
	}
}

// writers lets operators in by the token alone, or a certificate, where there is a token.
func (s *Server) writers(next handler) handler {
	return s.operators(func(w http.ResponseWriter, r *http.Request) error {
		given := strings.HasPrefix(r.Header.Get("Authorization"), "Bearer ") // which operators has compared
		if !s.tokens.None() && !given && (r.TLS == nil || len(r.TLS.VerifiedChains) == 0) {
			return wire.AuthenticationError("Who writes data needs the token of stagedoor.admin.token, or a client certificate")
		}
		return next(w, r)
	})
}

// profiles are those of net/http/pprof.
func profiles(w http.ResponseWriter, r *http.Request) error {
	switch strings.TrimPrefix(r.URL.Path, "/debug/pprof/") {
	case "cmdline":
		pprof.Cmdline(w, r)
	case "profile":
		pprof.Profile(w, r)
	case "symbol":
		pprof.Symbol(w, r)
	case "trace":
		pprof.Trace(w, r)
	default:
		pprof.Index(w, r)
	}
	return nil
}

func (s *Server) ready(w http.ResponseWriter, r *http.Request) error {
	exchangeOf(r).quiet = true // to be late is no error, and comes from every probe
	if s.ending.Load() {
		return wire.ServiceUnavailableError(1, "this process is ending")
	}
	status := s.status()
	if !status.Ready {
		return wire.ServiceUnavailableError(1, "waiting for %s", status.Waiting)
	}
	if len(status.Degraded) > 0 && (s.options.Admin.Strict || r.URL.Query().Has("strict")) {
		worst := status.Degraded[0]
		return wire.ServiceUnavailableError(1, "degraded: %s: %s", worst.Part, worst.Reason)
	}
	return writeValue(w, map[string]string{"status": "ok", "revision": status.Revision})
}

func (s *Server) version(w http.ResponseWriter, _ *http.Request) error {
	return writeValue(w, map[string]string{"version": s.options.Version})
}

func (s *Server) tellStatus(w http.ResponseWriter, r *http.Request) error {
	status := s.status()
	if !s.operator(r) {
		return writeValue(w, map[string]bool{"ready": status.Ready})
	}
	return writeValue(w, status)
}

func writeValue(w http.ResponseWriter, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return writeJSON(w, append(body, '\n'))
}

// dataPath is where OPA has its data API.
const dataPath = "/v1/data"

// asJSON takes the body for JSON, as OPA does whatever its content type says: OPAL sends
// application/json-patch+json.
func asJSON(next handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		r.Header.Set("Content-Type", "application/json")
		return next(w, r)
	}
}

// writeData answers as OPA's PATCH, PUT and DELETE /v1/data/{path} do.
func (s *Server) writeData(w http.ResponseWriter, r *http.Request) error {
	status, err := dataapi.Write(r, strings.TrimPrefix(r.URL.EscapedPath(), dataPath), exchangeOf(r).body, s.write)
	if err == nil {
		w.WriteHeader(status)
	}
	return err
}

// data answers as OPA's POST /v1/data/{path} does.
func (s *Server) data(w http.ResponseWriter, r *http.Request) error {
	inProcess, ok := s.policy.(*engine.Engine)
	if !ok {
		return wire.NotFoundError("the policy is decided by a remote OPA server: ask that")
	}
	x, api := exchangeOf(r), dataapi.API{
		Engine: inProcess, Conditions: s.conditions, Audit: s.audit,
		Told: func(err error) error { return publicError(err) },
	}
	answer, err := api.Decide(r.Context(), dataapi.Request{
		ID: x.id, TraceID: x.trace.ID(), Entrypoint: mux.Vars(r)["entrypoint"], Body: x.body,
	})
	if as[*decision.Failure](err) {
		s.metrics.Failed()
	}
	if err != nil {
		return err
	}
	return writeValue(w, answer)
}
