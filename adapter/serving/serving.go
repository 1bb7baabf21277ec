// Package serving asks a running stagedoor what it decides.
package serving

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/offline"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// A Stagedoor is one that runs, asked at its admin address in the form of OPA's data API.
type Stagedoor struct {
	url        string
	entrypoint string
	revision   string
}

// Dial finds out what a running stagedoor serves. The error says what its status lacks.
func Dial(ctx context.Context, url string) (*Stagedoor, error) {
	s := &Stagedoor{url: strings.TrimRight(url, "/")}
	var status struct{ Revision, Entrypoint string }
	if err := s.call(ctx, http.MethodGet, "/status", nil, &status); err != nil {
		return nil, err
	}
	if status.Entrypoint == "" {
		return nil, fmt.Errorf("%s/status names no entrypoint: want the admin address of a stagedoor that serves", s.url)
	}
	s.entrypoint, s.revision = status.Entrypoint, status.Revision
	return s, nil
}

// String names it in a report.
func (s *Stagedoor) String() string { return fmt.Sprintf("%s, revision %s", s.url, s.revision) }

// Outcomes answers permissions for a caller, in order. A failure of the policy is told as one of its answer.
func (s *Stagedoor) Outcomes(
	ctx context.Context, c decision.Caller, permissions []wire.Permission,
) ([]*decision.Outcome, error) {
	outcomes := make([]*decision.Outcome, len(permissions))
	for i, p := range permissions {
		var answer struct{ Result any }
		input := offline.Question{Caller: c, Permission: p}.Input()
		if err := s.call(ctx, http.MethodPost, "/v1/data/"+s.entrypoint, map[string]any{"input": input},
			&answer); err != nil {
			return nil, fmt.Errorf("%s: %w", p.Name, err)
		}
		outcomes[i] = &decision.Outcome{}
		if answer.Result == nil { // undefined
			continue
		}
		d, reason, err := wire.ParseDecision(answer.Result)
		if err != nil {
			outcomes[i].Err = &decision.Failure{Kind: decision.FailureAnswer, Cause: err}
		}
		outcomes[i].Decision, outcomes[i].Reason = d, reason
	}
	return outcomes, nil
}

// client asks a running stagedoor.
var client = &http.Client{Timeout: time.Minute}

// maxAnswer is how long an answer may be.
const maxAnswer = 32 << 20

func (s *Stagedoor) call(ctx context.Context, method, path string, body, into any) error {
	var sent bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&sent).Encode(body); err != nil {
			return err
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, s.url+path, &sent)
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s%s: %s: %s", s.url, path, response.Status, bytes.TrimSpace(text))
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	if err := decoder.Decode(into); err != nil {
		return fmt.Errorf("%s%s: %w", s.url, path, err)
	}
	return nil
}
