package adapter

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/gorilla/mux"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/stagedoor/stagedoor/adapter/policy"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// AdminHandler returns what is for operators, to be served at
// stagedoor.admin.listen, which must not be reachable from outside: it asks for
// no credentials.
//
//   - GET /health: the process lives.
//   - GET /ready: 200 once a policy is active and fresh enough, else 503 with what
//     it waits for.
//   - GET /version, /status, /metrics (Prometheus).
//   - POST /v1/data/{entrypoint}: a decision in the shape of OPA's data API, for a
//     stock permission backend with the OPA wrapper module.
func (s *Server) AdminHandler() http.Handler {
	router := mux.NewRouter()
	get := func(path string, h handler) {
		router.Handle(path, s.route(h)).Methods(http.MethodGet, http.MethodHead)
	}
	get("/health", s.health)
	get("/ready", s.ready)
	get("/version", s.version)
	get("/status", s.status)
	router.Handle("/metrics", promhttp.HandlerFor(s.Registry, promhttp.HandlerOpts{})).Methods(http.MethodGet)
	router.Handle("/v1/data/{entrypoint:.+}", s.route(s.admitted(s.withBody(s.data)))).Methods(http.MethodPost)
	router.NotFoundHandler = s.route(notFound)
	router.MethodNotAllowedHandler = router.NotFoundHandler
	return s.observed(router)
}

func (s *Server) ready(w http.ResponseWriter, _ *http.Request) error {
	status := s.Policy.Status()
	if !status.Ready {
		return wire.ServiceUnavailableError(1, "waiting for %s", status.Waiting)
	}
	return writeValue(w, map[string]string{"status": "ok", "revision": status.Revision})
}

func (s *Server) version(w http.ResponseWriter, _ *http.Request) error {
	return writeValue(w, map[string]string{"version": s.options.Version})
}

func (s *Server) status(w http.ResponseWriter, _ *http.Request) error {
	return writeValue(w, s.Policy.Status())
}

func writeValue(w http.ResponseWriter, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return writeJSON(w, append(body, '\n'))
}

// data answers as OPA's POST /v1/data/{path} does: {"result": …}, without a
// result for a path at which there is none, and {"code", "message"} for an error.
func (s *Server) data(w http.ResponseWriter, r *http.Request) error {
	var request struct {
		Input map[string]any `json:"input"`
	}
	if err := json.Unmarshal(exchangeOf(r).body, &request); err != nil {
		return writeOPAError(w, http.StatusBadRequest, "invalid_parameter", "the body is no object with an object as input")
	}
	engine, ok := s.Policy.(*policy.Engine)
	if !ok {
		return wire.NotFoundError("The policy is decided by a remote OPA server: ask that")
	}
	state := engine.State()
	if state != nil && strings.Trim(mux.Vars(r)["entrypoint"], "/") != state.Entrypoint {
		return writeValue(w, struct{}{})
	}
	outcome, err := engine.DecideDocument(r.Context(), request.Input)
	if err == nil {
		err = s.Conditions.Check(outcome.Decision)
	}
	if err != nil {
		exchangeOf(r).err = err
		status := http.StatusInternalServerError
		if errors.Is(err, policy.ErrNoPolicy) || errors.Is(err, policy.ErrStale) {
			status = http.StatusServiceUnavailable
		}
		return writeOPAError(w, status, "internal_error", "the permission policy failed")
	}
	return writeValue(w, map[string]wire.Decision{"result": outcome.Decision})
}

func writeOPAError(w http.ResponseWriter, status int, code, message string) error {
	body, err := json.Marshal(map[string]string{"code": code, "message": message})
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(body)
	return nil
}
