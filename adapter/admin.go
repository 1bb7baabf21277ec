package adapter

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"time"

	"github.com/gorilla/mux"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/stagedoor/stagedoor/adapter/audit"
	"github.com/stagedoor/stagedoor/adapter/engine"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// AdminOptions say what the operator's API tells to whom.
type AdminOptions struct {
	// Token opens what is for operators alone; empty for none.
	Token string
	// Data is whether decisions can be asked (POST /v1/data).
	Data bool
}

// AdminHandler returns what is for operators, to be served at
// stagedoor.admin.listen.
//
// For everybody who can reach it, such as probes and scrapers:
//
//   - GET /health: the process lives.
//   - GET /ready: 200 once a policy is active and fresh enough, else 503 with what
//     it waits for, and from the moment on at which the process is told to end.
//   - GET /metrics (Prometheus), /version, and of /status whether it is ready.
//
// For operators alone (see [Server.operator]):
//
//   - GET /status: the policy that serves, and what was refused.
//   - GET /debug/pprof/: Go's profiles, where [Options].Profiles says so.
//   - GET /shadow: where the candidate of stagedoor.policy.shadow decides otherwise.
//   - POST /v1/data/{entrypoint}: a decision in the shape of OPA's data API, for a
//     stock permission backend with the OPA wrapper module.
func (s *Server) AdminHandler() http.Handler {
	router := mux.NewRouter()
	get := func(path string, h handler) {
		router.Handle(path, s.route("", h)).Methods(http.MethodGet, http.MethodHead)
	}
	get("/health", s.health)
	get("/ready", s.ready)
	get("/version", s.version)
	get("/status", s.status)
	if s.shadow != nil {
		get("/shadow", s.operators(func(w http.ResponseWriter, _ *http.Request) error {
			return writeValue(w, s.shadow.Status())
		}))
	}
	router.Handle("/metrics", promhttp.HandlerFor(bounded(s.registry), promhttp.HandlerOpts{})).Methods(http.MethodGet)
	if s.options.Admin.Data {
		data := routed(atData, s.operators(s.withOperatorBody(s.admitted(s.data))), writeOPAError)
		router.Handle("/v1/data/{entrypoint:.+}", data).Methods(http.MethodPost)
	}
	if s.options.Profiles {
		router.PathPrefix("/debug/pprof/").Handler(s.route("", s.operators(profiles)))
	}
	router.NotFoundHandler = s.route("", notFound)
	router.MethodNotAllowedHandler = router.NotFoundHandler
	return s.observed(router)
}

// operator reports whether a request is an operator's: it comes with the token, with a
// client certificate that was verified, through a unix socket, or from this machine.
//
// From this machine counts only where nobody hands it on: no proxy says that it
// forwards it, and Host names this machine, which it does not where a web page has
// its own name resolve to a loopback address.
func (s *Server) operator(r *http.Request) bool {
	if given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok && s.options.Admin.Token != "" {
		have, want := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(s.options.Admin.Token))
		return subtle.ConstantTimeCompare(have[:], want[:]) == 1
	}
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		return true
	}
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip", "Via"} {
		if len(r.Header.Values(name)) > 0 {
			return false
		}
	}
	if local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok && local.Network() == "unix" {
		return true
	}
	from, _, err := net.SplitHostPort(r.RemoteAddr)
	return err == nil && isLoopback(from) && isLoopback(hostOf(r.Host))
}

// hostOf is a Host header's name without its port.
func hostOf(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	return strings.Trim(host, "[]")
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
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
	if s.ending.Load() {
		exchangeOf(r).quiet = true
		return wire.ServiceUnavailableError(1, "this process is ending")
	}
	status := s.supply()
	if !status.Ready {
		exchangeOf(r).quiet = true // that is no error, and comes from every probe
		return wire.ServiceUnavailableError(1, "waiting for %s", status.Waiting)
	}
	return writeValue(w, map[string]string{"status": "ok", "revision": status.Revision})
}

func (s *Server) version(w http.ResponseWriter, _ *http.Request) error {
	return writeValue(w, map[string]string{"version": s.options.Version})
}

func (s *Server) status(w http.ResponseWriter, r *http.Request) error {
	status := s.supply()
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

// data answers as OPA's POST /v1/data/{path} does: {"result": …}, without a
// result for a path at which there is none.
func (s *Server) data(w http.ResponseWriter, r *http.Request) error {
	inProcess, ok := s.policy.(*engine.Engine)
	if !ok {
		return wire.NotFoundError("the policy is decided by a remote OPA server: ask that")
	}
	x := exchangeOf(r)
	document, err := inputDocument(x.body)
	if err != nil {
		return err
	}
	batch, permission, err := inProcess.DecideDocument(r.Context(), document)
	if err != nil {
		return undecided(err)
	}
	if strings.Trim(mux.Vars(r)["entrypoint"], "/") != batch.Entrypoint {
		return writeValue(w, struct{}{})
	}
	outcome := batch.Outcomes[0]
	if err = outcome.Err; err == nil {
		err = s.conditions.Check(outcome.Decision)
	}
	if err != nil {
		s.metrics.failures.Inc()
		err = policyFailed(err)
	}
	if s.audit.Enabled() {
		record := audit.Record{
			RequestID: x.id, TraceID: x.traceID, Time: time.Now(), Batch: batch, Err: err,
			Permissions: []wire.Permission{permission},
			Answers:     []audit.Answer{{Final: outcome.Decision.Result}}, ByOperator: true,
		}
		if unrecorded := s.audit.Record(r.Context(), record); unrecorded != nil && err == nil {
			err = unrecordedError(unrecorded)
		}
	}
	if err != nil {
		return err
	}
	return writeValue(w, map[string]wire.Decision{"result": outcome.Decision})
}

// inputDocument is the input of a request of the data API, its numbers as they
// were written.
func inputDocument(body []byte) (map[string]any, error) {
	var request struct {
		Input map[string]any `json:"input"`
	}
	if len(body) > 0 {
		decoder := json.NewDecoder(bytes.NewReader(body))
		decoder.UseNumber()
		if err := decoder.Decode(&request); err != nil {
			return nil, wire.InputError("the body is no object with an object as input")
		}
	}
	return request.Input, nil
}

// writeOPAError answers with an error in the form of OPA's REST API.
func writeOPAError(w http.ResponseWriter, _ *http.Request, err error) {
	failed := wire.AsError(err)
	code := "internal_error"
	switch failed.Status {
	case http.StatusBadRequest:
		code = "invalid_parameter"
	case http.StatusUnauthorized:
		code = "unauthorized"
	case http.StatusNotFound:
		code = "resource_not_found"
	}
	body, _ := json.Marshal(map[string]string{"code": code, "message": failed.Public}) // texts can be written
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(failed.Status)
	_, _ = w.Write(body)
}
