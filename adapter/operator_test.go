package adapter_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestWhatStrangersAreTold asks everything of the operator's address as a probe, and as
// an operator.
func TestWhatStrangersAreTold(t *testing.T) {
	s := newSite(t, siteOptions{})
	for path, strangers := range map[string]string{
		"GET /health": `"ok"`, "GET /ready": `"ok"`, "GET /version": `"version"`, "GET /metrics": "stagedoor_requests_total",
		"GET /status": `{"ready":true}`, "POST /v1/data/x": "This is for operators",
	} {
		method, path, _ := strings.Cut(path, " ")
		for _, operator := range []bool{false, true} {
			request, err := http.NewRequestWithContext(t.Context(), method, s.admin+path, strings.NewReader(`{}`))
			check(t, err)
			if !operator {
				request.Header.Set("X-Forwarded-For", "192.0.2.7")
			}
			response, err := s.client.Do(request)
			check(t, err)
			body, err := io.ReadAll(response.Body)
			check(t, errors.Join(err, response.Body.Close()))
			status, text := response.StatusCode, string(body)
			told := strings.Contains(text, strangers)
			private := strings.HasPrefix(path, "/status") || strings.HasPrefix(path, "/v1")
			if told == (private && operator) || (status == http.StatusUnauthorized) != (path == "/v1/data/x" && !operator) {
				t.Errorf("%s %s, operator %v: %d %s", method, path, operator, status, text)
			}
		}
	}
}
