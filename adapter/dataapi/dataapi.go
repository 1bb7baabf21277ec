// Package dataapi answers questions in the shape of OPA's data API, POST
// /v1/data/{path}, for a stock permission backend with the OPA wrapper module. An
// operator asks there, about whomever: the input says who.
package dataapi

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/stagedoor/stagedoor/adapter/audit"
	"github.com/stagedoor/stagedoor/adapter/conditions"
	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/engine"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// API decides by the policy that serves in process. All of its parts are required. It
// is safe for concurrent use.
type API struct {
	Engine     *engine.Engine
	Conditions *conditions.Client
	Audit      *audit.Log
	// Told is the error that the caller is told for another one.
	Told func(error) error
}

// Request is one question.
type Request struct {
	// ID and TraceID are for the decision log.
	ID, TraceID string
	// Entrypoint is the path that is asked for, and Body the request's.
	Entrypoint string
	Body       []byte
}

// answer is what OPA's data API answers.
type answer struct {
	Result  wire.Decision `json:"result"`
	Warning *caution      `json:"warning,omitempty"`
}

// Decide returns what to answer as JSON: {"result": …}, without a result for a path at
// which there is none, and with OPA's "warning" where a member of the input
// is misspelt. The error is a [*wire.Error] of status 400, what Told makes of a
// [*decision.Failure] of the policy, [audit.ErrUnrecorded], or why no policy serves.
func (a *API) Decide(ctx context.Context, r Request) (any, error) {
	document, err := inputDocument(r.Body)
	if err != nil {
		return nil, err
	}
	batch, permission, err := a.Engine.DecideDocument(ctx, document)
	if err != nil {
		return nil, err
	}
	if strings.Trim(r.Entrypoint, "/") != batch.Entrypoint {
		return struct{}{}, nil
	}
	outcome := batch.Outcomes[0]
	if err = outcome.Err; err == nil {
		if refused := a.Conditions.Check(outcome.Decision); refused != nil {
			err = &decision.Failure{Kind: decision.FailureAnswer, Cause: refused}
		}
	}
	if err != nil {
		err = a.Told(err)
	}
	if a.Audit.Enabled() {
		record := audit.Record{
			RequestID: r.ID, TraceID: r.TraceID, Time: time.Now(), Batch: batch, Err: err,
			Permissions: []wire.Permission{permission},
			Answers:     []audit.Answer{{Final: outcome.Decision.Result}}, ByOperator: true,
		}
		if unrecorded := a.Audit.Record(ctx, record); unrecorded != nil && err == nil {
			err = unrecorded
		}
	}
	if err != nil {
		return nil, err
	}
	return answer{outcome.Decision, warning(document)}, nil
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

// WriteError answers with an error in the form of OPA's REST API.
func WriteError(w http.ResponseWriter, _ *http.Request, err error) {
	failed := wire.AsError(err)
	code := "internal_error"
	switch failed.Status {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge:
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
