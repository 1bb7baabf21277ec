package wire

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWriteError(t *testing.T) {
	secret := errors.New("dial tcp 10.0.0.7:7007: token eyJ")
	const internal = `{"error":{"name":"Error","message":"internal error"},` +
		`"request":{"method":"POST","url":"/authorize"},"response":{"statusCode":500}}`
	body := func(name, message string, status int) string {
		return fmt.Sprintf(`{"error":{"name":%q,"message":%q},"request":{"method":"POST","url":"/authorize"},`+
			`"response":{"statusCode":%d}}`, name, message, status)
	}
	tests := []struct {
		name       string
		err        error
		status     int
		retryAfter string
		body       string
	}{
		{"input", InputError("items[%d]", 3), 400, "", body("InputError", "items[3]", 400)},
		{"syntax", SyntaxError("x"), 400, "", body("SyntaxError", "x", 400)},
		{"authentication", AuthenticationError("x"), 401, "", body("AuthenticationError", "x", 401)},
		{"not allowed", NotAllowedError("x"), 403, "", body("NotAllowedError", "x", 403)},
		{"not found", NotFoundError("x"), 404, "", body("NotFoundError", "x", 404)},
		{"too large", PayloadTooLargeError("x"), 413, "", body("PayloadTooLargeError", "x", 413)},
		{"media type", UnsupportedMediaTypeError("x"), 415, "", body("UnsupportedMediaTypeError", "x", 415)},
		{"internal", InternalError("x"), 500, "", body("Error", "x", 500)},
		{"unavailable", ServiceUnavailableError(5, "x"), 503, "5", body("ServiceUnavailableError", "x", 503)},
		{"unavailable for who knows how long", ServiceUnavailableError(0, "x"), 503, "",
			body("ServiceUnavailableError", "x", 503)},
		{"with a cause", InternalError("the policy failed").Because(secret), 500, "", body("Error",
			"the policy failed", 500)},
		{"wrapped", fmt.Errorf("deciding: %w: %w", secret, InputError("x")), 400, "", body("InputError", "x", 400)},
		{"no *Error", secret, 500, "", internal},
		{"no error at all", nil, 500, "", internal},
		{"quotes and ill-formed text", InputError("a\"b\n<\xff"), 400, "",
			`{"error":{"name":"InputError","message":"a\"b\n<` + "\uFFFD" + `"},` +
				`"request":{"method":"POST","url":"/authorize"},"response":{"statusCode":400}}`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			WriteError(w, httptest.NewRequest(http.MethodPost, "/api/permission/authorize?x=1", nil), "/authorize", test.err)
			got := w.Result()
			defer got.Body.Close()
			b, err := io.ReadAll(got.Body)
			if err != nil {
				t.Fatal(err)
			}
			if got.StatusCode != test.status {
				t.Errorf("status %d, want %d", got.StatusCode, test.status)
			}
			if diff := cmp.Diff(test.body, string(b)); diff != "" {
				t.Errorf("body (-want +got):\n%s", diff)
			}
			if got := got.Header.Get("Content-Type"); got != "application/json; charset=utf-8" {
				t.Errorf("content type %s", got)
			}
			if got := got.Header.Get("Retry-After"); got != test.retryAfter {
				t.Errorf("Retry-After %q, want %q", got, test.retryAfter)
			}
		})
	}
}

func TestBecause(t *testing.T) {
	plain, cause := InputError("x"), errors.New("the cause")
	e := plain.Because(cause)
	if plain.Cause != nil {
		t.Error("Because changed the error it was called on")
	}
	if !errors.Is(e, cause) || strings.Contains(e.Error(), "cause") {
		t.Errorf("%v wraps %v", e, e.Unwrap())
	}
	if got := AsError(cause); got.Status != 500 || !errors.Is(got, cause) {
		t.Errorf("got %#v", got)
	}
	if AsError(fmt.Errorf("y: %w", e)) != e {
		t.Error("AsError made another error")
	}
}
