package adapter_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
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

// TestOperatorsQuestionsAreMarked finds in the decision log who asked.
func TestOperatorsQuestionsAreMarked(t *testing.T) {
	log := newReceiver(t)
	s := newSite(t, siteOptions{opa: log.opa(map[string]any{"min_delay_seconds": 1, "max_delay_seconds": 1})})
	token, err := s.backstage.PluginToken(alice)
	check(t, err)
	if status, text := s.post(t, token, askBasic); status != http.StatusOK {
		t.Fatalf("%d %s", status, text)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.admin+"/v1/data/"+s.status().Entrypoint,
		strings.NewReader(`{"input": {"permission": {"name": "todo.list"}, "identity": {"user": "user:default/x", "claims": []}}}`))
	check(t, err)
	response, err := s.client.Do(request)
	check(t, err)
	check(t, response.Body.Close())
	for end := time.Now().Add(patience); log.count() < 2; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d events", log.count())
		}
	}
	log.mutex.Lock()
	defer log.mutex.Unlock()
	if log.events[0].Custom["by_operator"] != nil || log.events[1].Custom["by_operator"] != true {
		t.Errorf("%v and %v", log.events[0].Custom, log.events[1].Custom)
	}
}
