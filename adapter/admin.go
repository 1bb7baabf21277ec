package adapter

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/gorilla/mux"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/stagedoor/stagedoor/adapter/audit"
	"github.com/stagedoor/stagedoor/adapter/engine"
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
	router.Handle("/metrics", promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{})).Methods(http.MethodGet)
	data := routed(s.withOperatorBody(s.admitted(s.data)), writeOPAError)
	router.Handle("/v1/data/{entrypoint:.+}", data).Methods(http.MethodPost)
	router.NotFoundHandler = s.route(notFound)
	router.MethodNotAllowedHandler = router.NotFoundHandler
	return s.observed(router, nil)
}

func (s *Server) ready(w http.ResponseWriter, _ *http.Request) error {
	status := s.supply()
	if !status.Ready {
		return wire.ServiceUnavailableError(1, "waiting for %s", status.Waiting)
	}
	return writeValue(w, map[string]string{"status": "ok", "revision": status.Revision})
}

func (s *Server) version(w http.ResponseWriter, _ *http.Request) error {
	return writeValue(w, map[string]string{"version": s.options.Version})
}

func (s *Server) status(w http.ResponseWriter, _ *http.Request) error {
	return writeValue(w, s.supply())
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
			Answers:     []audit.Answer{{Final: outcome.Decision.Result}},
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
	case http.StatusNotFound:
		code = "resource_not_found"
	}
	body, _ := json.Marshal(map[string]string{"code": code, "message": failed.Public}) // texts can be written
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(failed.Status)
	_, _ = w.Write(body)
}
