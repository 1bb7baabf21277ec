package wire

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// Error is an error with two texts: a public one, which may go to any caller,
// and an internal cause for the log. Its Error text is the public one alone.
type Error struct {
	// Name is the error's name in Backstage's terms, such as InputError
	// (@backstage/errors).
	Name string
	// Status is the HTTP status that answers it.
	Status int
	// Public is the text for the caller. It names nothing internal.
	Public string
	// RetryAfter is the number of seconds after which to try again, or 0.
	RetryAfter int
	// Cause is why, for the log; nil where Public says it all.
	Cause error
}

// Error returns the public text.
func (e *Error) Error() string { return e.Public }

// Unwrap returns the internal cause, for errors.Is and errors.AsType.
func (e *Error) Unwrap() error { return e.Cause }

// Because returns the same error with its internal cause.
func (e *Error) Because(cause error) *Error {
	because := *e
	because.Cause = cause
	return &because
}

// InputError is a malformed request: 400.
func InputError(format string, args ...any) *Error {
	return newError("InputError", http.StatusBadRequest, format, args...)
}

// SyntaxError is a body that is no JSON object: 400.
func SyntaxError(format string, args ...any) *Error {
	return newError("SyntaxError", http.StatusBadRequest, format, args...)
}

// AuthenticationError is a missing or bad token: 401.
func AuthenticationError(format string, args ...any) *Error {
	return newError("AuthenticationError", http.StatusUnauthorized, format, args...)
}

// NotAllowedError is a good token of somebody who may not ask: 403.
func NotAllowedError(format string, args ...any) *Error {
	return newError("NotAllowedError", http.StatusForbidden, format, args...)
}

// NotFoundError is something asked about that is not there: 404.
func NotFoundError(format string, args ...any) *Error {
	return newError("NotFoundError", http.StatusNotFound, format, args...)
}

// PayloadTooLargeError is a request beyond a limit, which the text names: 413.
func PayloadTooLargeError(format string, args ...any) *Error {
	return newError("PayloadTooLargeError", http.StatusRequestEntityTooLarge, format, args...)
}

// UnsupportedMediaTypeError is a body in an encoding that nobody reads: 415.
func UnsupportedMediaTypeError(format string, args ...any) *Error {
	return newError("UnsupportedMediaTypeError", http.StatusUnsupportedMediaType, format, args...)
}

// InternalError is a failure of our own, of the policy or of a plugin: 500. Its
// name on the wire is plain Error, as that of any failure in a Backstage backend.
func InternalError(format string, args ...any) *Error {
	return newError("Error", http.StatusInternalServerError, format, args...)
}

// ServiceUnavailableError is a failure that passes: 503, to be tried again after
// so many seconds.
func ServiceUnavailableError(retryAfter int, format string, args ...any) *Error {
	e := newError("ServiceUnavailableError", http.StatusServiceUnavailable, format, args...)
	e.RetryAfter = retryAfter
	return e
}

func newError(name string, status int, format string, args ...any) *Error {
	return &Error{Name: name, Status: status, Public: fmt.Sprintf(format, args...)}
}

// AsError returns the [*Error] that err is or wraps. Any other error was not made
// for the caller: it becomes the cause of an InternalError that says nothing.
func AsError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return InternalError("internal error").Because(err)
}

// WriteError answers r with err, by way of [AsError], in the error body of a
// Backstage backend (@backstage/errors, ErrorResponseBody). url is the path of
// the request within the plugin, such as /authorize.
func WriteError(w http.ResponseWriter, r *http.Request, url string, err error) {
	e := AsError(err)
	header := w.Header()
	header.Set("Content-Type", "application/json; charset=utf-8")
	if e.RetryAfter > 0 {
		header.Set("Retry-After", strconv.Itoa(e.RetryAfter))
	}
	w.WriteHeader(e.Status)
	_, _ = w.Write(e.appendBody(nil, r.Method, url)) // a caller that is gone needs no answer
}

func (e *Error) appendBody(b []byte, method, url string) []byte {
	// In all these texts, what is ill-formed becomes U+FFFD.
	b = append(b, `{"error":{"name":`...)
	b, _ = jsontext.AppendQuote(b, e.Name)
	b = append(b, `,"message":`...)
	b, _ = jsontext.AppendQuote(b, e.Public)
	b = append(b, `},"request":{"method":`...)
	b, _ = jsontext.AppendQuote(b, method)
	b = append(b, `,"url":`...)
	b, _ = jsontext.AppendQuote(b, url)
	b = append(b, `},"response":{"statusCode":`...)
	b = strconv.AppendInt(b, int64(e.Status), 10)
	return append(b, "}}"...)
}
