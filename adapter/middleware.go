package adapter

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"runtime/debug"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/stagedoor/stagedoor/adapter/identity"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// handler is an HTTP handler that returns its error, which [Server.route] writes.
type handler func(http.ResponseWriter, *http.Request) error

// exchange is one request as the middleware has come to know it.
type exchange struct {
	id      string
	traceID string
	caller  identity.Caller
	body    []byte
	err     error
}

type exchangeKey struct{}

// exchangeOf returns the exchange of a request that passed [Server.observed].
func exchangeOf(r *http.Request) *exchange {
	x, ok := r.Context().Value(exchangeKey{}).(*exchange)
	if !ok {
		panic("adapter: a request came by another way than Server.observed")
	}
	return x
}

// observed gives a request its id and its time, and logs and counts what came of it.
func (s *Server) observed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		started := time.Now()
		x := &exchange{id: requestID(r), traceID: traceID(r)}
		ctx, cancel := context.WithTimeout(context.WithValue(r.Context(), exchangeKey{}, x), requestTimeout)
		defer cancel()
		w.Header().Set("X-Request-Id", x.id)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		out := &recorder{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(out, r.WithContext(ctx))
		s.finish(r, x, out, time.Since(started))
	})
}

// route makes an http.Handler of h. It is the one place that answers with errors.
func (s *Server) route(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := exchangeOf(r)
		if x.err = recovered(h)(w, r); x.err != nil {
			url := s.relative(r.URL.Path)
			if r.URL.RawQuery != "" {
				url += "?" + r.URL.RawQuery
			}
			wire.WriteError(w, r, url, x.err)
		}
	})
}

// recovered turns a panic into an error.
func recovered(next handler) handler {
	return func(w http.ResponseWriter, r *http.Request) (err error) {
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
			}
		}()
		return next(w, r)
	}
}

// admitted lets no more requests in than the limit.
func (s *Server) admitted(next handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		defer s.inFlight.Add(-1)
		if s.inFlight.Add(1) > s.options.InFlight {
			return wire.ServiceUnavailableError(1, "Too many requests at once, try again").
				Because(errors.New("stagedoor.limits.inFlight is reached"))
		}
		return next(w, r)
	}
}

// authenticated lets only those in whom the reference lets in, before the body is
// read.
func (s *Server) authenticated(next handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		caller, err := s.Identity.Authenticate(r.Context(), r.Header.Get("Authorization"))
		if err != nil {
			return err
		}
		exchangeOf(r).caller = caller
		return next(w, r)
	}
}

// withBody reads the body.
func (s *Server) withBody(next handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		body, err := wire.ReadBody(r, s.options.Body)
		if err != nil {
			return err
		}
		exchangeOf(r).body = body
		return next(w, r)
	}
}

// bodyInOrder refuses a body that is no JSON, though nobody looks at it.
func bodyInOrder(next handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		if err := wire.CheckBody(exchangeOf(r).body); err != nil {
			return err
		}
		return next(w, r)
	}
}

// unless runs next within the guard, except where open says that there is none.
func (s *Server) unless(open func(*http.Request) bool, guard func(handler) handler, next handler) handler {
	guarded := guard(next)
	return func(w http.ResponseWriter, r *http.Request) error {
		if open(r) {
			return next(w, r)
		}
		return guarded(w, r)
	}
}

// recorder notes the status and size of an answer.
type recorder struct {
	http.ResponseWriter
	status, size int
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (int, error) {
	r.size += len(b)
	return r.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// finish counts a request and logs it. Success is worth a line only when debugging.
func (s *Server) finish(r *http.Request, x *exchange, out *recorder, took time.Duration) {
	s.metrics.observe(out.status, took)
	level := logrus.DebugLevel
	switch {
	case out.status >= http.StatusInternalServerError:
		level = logrus.ErrorLevel
	case out.status >= http.StatusBadRequest:
		level = logrus.InfoLevel
	}
	if !s.Log.Logger.IsLevelEnabled(level) {
		return
	}
	entry := s.logOf(x).WithFields(logrus.Fields{
		"method": r.Method, "path": r.URL.Path, "status": out.status,
		"bytes": out.size, "duration_ms": float64(took.Microseconds()) / 1000,
	})
	if x.err != nil {
		entry = entry.WithError(x.err)
		if cause := errors.Unwrap(x.err); cause != nil {
			entry = entry.WithField("cause", cause.Error())
		}
	}
	entry.Log(level, "request")
}

// logOf is the log with the ids of the exchange on every line.
func (s *Server) logOf(x *exchange) *logrus.Entry {
	fields := logrus.Fields{"request_id": x.id}
	if x.traceID != "" {
		fields["trace_id"] = x.traceID
	}
	return s.Log.WithFields(fields)
}

// usableID is a request id from outside that may stand in a log.
var usableID = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

func requestID(r *http.Request) string {
	if id := r.Header.Get("X-Request-Id"); id != "" && usableID.MatchString(id) {
		return id
	}
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// traceID is the trace id of a W3C Trace Context traceparent header (version
// 00), or empty.
func traceID(r *http.Request) string {
	const start, end, length = 3, 35, 55
	header := r.Header.Get("Traceparent")
	if len(header) != length || header[:start] != "00-" || header[end] != '-' {
		return ""
	}
	if _, err := hex.DecodeString(header[start:end]); err != nil {
		return ""
	}
	return header[start:end]
}
