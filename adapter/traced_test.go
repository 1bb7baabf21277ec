package adapter

import (
	"net/http/httptest"
	"strings"
	"testing"
)

// TestOnlyQuestionsAreTraced holds the names of spans to the routes that there are.
func TestOnlyQuestionsAreTraced(t *testing.T) {
	s := &Server{options: Options{BasePath: "/api/permission"}}
	for request, want := range map[string]bool{
		"POST /api/permission/authorize":  true,
		"POST /API/permission/Authorize/": true,
		"POST /api/permission/explain":    true,
		"GET /api/permission/authorize":   false,
		"GET /api/permission/health":      false,
		"POST /api/permission/made-up":    false,
		"POST /api/permission/authorize2": false,
	} {
		method, path, _ := strings.Cut(request, " ")
		if got := s.asks(httptest.NewRequest(method, path, nil)); got != want {
			t.Errorf("%s: %t", request, got)
		}
	}
}
