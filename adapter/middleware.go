package adapter

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/stagedoor/stagedoor/adapter/conditions/guard"
	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/fair"
	"github.com/stagedoor/stagedoor/adapter/identity"
	"github.com/stagedoor/stagedoor/adapter/metrics"
	"github.com/stagedoor/stagedoor/adapter/peer"
	"github.com/stagedoor/stagedoor/adapter/tracing"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// handler is an HTTP handler that returns its error, which [Server.route] writes.
type handler func(http.ResponseWriter, *http.Request) error

// exchange is one request as the middleware has come to know it.
type exchange struct {
	id     string
	trace  tracing.Trace
	caller identity.Caller
	party  fair.Party    // who gets the shares
	slot   bool          // is held
	stale  time.Duration // of user info that could not be renewed, its age
	body   []byte
	err    error
	denied denials

	started    time.Time
	route      string // for metrics; empty for what is not counted
	quiet      bool   // a failure that is no error
	permission string // the first that failed
	revision   string // of the policy that decided
}

// denials are the items that were denied because of a failure, for one line of log.
type denials struct {
	items      int
	permission string // of the first
	err        error  // of the first
}

func (d *denials) note(permission string, err error) {
	if d.items++; d.items == 1 {
		d.permission, d.err = permission, err
	}
}

// logDenied writes that line, if there is something to tell.
func (s *Server) logDenied(x *exchange) {
	if d := &x.denied; d.items > 0 {
		text := decision.Logged(d.err)
		entry := s.logOf(x).WithField(logrus.ErrorKey, text).WithFields(logrus.Fields{
			"permission": peer.Path(d.permission), "items": d.items, "revision": x.revision, "caller": x.caller.KindName(),
		})
		s.sampler.Log(entry, logrus.WarnLevel, "denied"+text,
			"denied because of a failure, of which this is the first")
	}
}

// Trace implements [tracing.Traced].
func (x *exchange) Trace() *tracing.Trace { return &x.trace }

// exchangeOf is the exchange of a request that passed [Server.observed].
func exchangeOf(r *http.Request) *exchange {
	x, ok := r.Context().Value(tracing.Key{}).(*exchange)
	if !ok {
		panic("adapter: a request came by another way than Server.observed")
	}
	return x
}

// observed gives a request its id and its time, and logs and counts what came of it.
func (s *Server) observed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		started := time.Now()
		x := &exchange{id: requestID(r), trace: s.tracer.Trace(r, s.asks), started: started}
		ctx, cancel := context.WithTimeout(context.WithValue(r.Context(), tracing.Key{}, x), requestTimeout)
		defer cancel()
		ctx, end := x.trace.Serve(ctx, r)
		w.Header().Set("X-Request-Id", x.id)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		out := &recorder{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(out, r.WithContext(ctx))
		end(out.status, out.size)
		took := time.Since(started)
		if x.route != "" {
			s.metrics.Request(x.route, outcomeOf(x.err, out.status), took)
		}
		s.logRequest(r, x, out, took)
	})
}

// route makes an http.Handler of h, whose errors are answered as Backstage does.
func (s *Server) route(name string, h handler) http.Handler { return routed(name, h, s.writeError) }

func (s *Server) writeError(w http.ResponseWriter, r *http.Request, err error) {
	url := s.relative(r.URL.Path)
	if r.URL.RawQuery != "" {
		url += "?" + r.URL.RawQuery
	}
	wire.WriteError(w, r, url, err)
}

// routed makes an http.Handler of h. It is the one place that answers with errors. The
// name is the route's in metrics.
func routed(name string, h handler, write func(http.ResponseWriter, *http.Request, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := exchangeOf(r)
		x.route = name
		if err := recovered(h)(w, r); err != nil {
			x.err = publicError(err)
			if errors.Is(err, context.Canceled) && errors.Is(r.Context().Err(), context.Canceled) {
				x.err = wire.ServiceUnavailableError(1, "The caller did not wait").Because(fmt.Errorf("%w: %w", errGone, err))
			}
			write(w, r, x.err)
		}
	})
}

// recovered turns a panic into an error.
func recovered(next handler) handler {
	return func(w http.ResponseWriter, r *http.Request) (err error) {
		defer func() {
			if p := recover(); p != nil {
				err = peer.Panic(p)
			}
		}()
		return next(w, r)
	}
}

// authenticated lets only those in whom the reference lets in, before the body is
// read. Where the processors do not keep up it is the parties' turn before that.
func (s *Server) authenticated(next handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		x, authorization := exchangeOf(r), r.Header.Get("Authorization")
		if s.gate.Crowded(x.started) {
			if err := s.gate.Wait(r.Context(), identity.Claimed(authorization)); err != nil {
				return err
			}
		}
		ctx, end := x.trace.Start(r.Context(), "verify")
		caller, err := s.identity.Authenticate(ctx, authorization)
		end(err)
		if err != nil {
			return err
		}
		metrics.Took(s.metrics.Stages.Verify, x.started)
		x.caller, x.party = caller, fair.Party{Plugin: caller.Actor, User: caller.User}
		fair.SpeakerOf(r.Context()).Was(x.party)
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

// logRequest logs a request. Success is worth a line only when debugging.
func (s *Server) logRequest(r *http.Request, x *exchange, out *recorder, took time.Duration) {
	if x.stale > 0 {
		s.sampler.Log(s.logOf(x).WithField("user_info_age", x.stale.Round(time.Second).String()),
			logrus.WarnLevel, "stale", "decided by user info that could not be renewed")
	}
	level := logrus.DebugLevel
	switch {
	case x.quiet:
	case out.status >= http.StatusInternalServerError && !errors.Is(x.err, errGone):
		level = logrus.ErrorLevel
	case out.status >= http.StatusBadRequest:
		level = logrus.InfoLevel
	}
	if !s.log.Logger.IsLevelEnabled(level) {
		return
	}
	entry := s.logOf(x).WithFields(logrus.Fields{
		"method": r.Method, "path": peer.Path(r.URL.Path), "status": out.status,
		"bytes": out.size, "duration_ms": float64(took.Microseconds()) / 1000,
	})
	if x.err == nil {
		entry.Log(level, "request")
		return
	}
	entry, key := s.failure(entry, x), x.err.Error()
	if cause := errors.Unwrap(x.err); cause != nil {
		text := decision.Logged(cause)
		entry, key = entry.WithField("cause", text), key+text
	}
	if level == logrus.DebugLevel {
		entry.Log(level, "request")
		return
	}
	s.sampler.Log(entry, level, x.route+strconv.Itoa(out.status)+key, "request")
}

// Where a cause says where it happened: a line of a policy, and the rule of a plugin. The
// last is a request id from outside that may stand in a log.
var (
	lineOfPolicy = regexp.MustCompile(`[^\s"]+\.rego:\d+`)
	ruleOfPlugin = regexp.MustCompile(`rule "([^"]{1,100})"`)
	usableID     = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
)

// failure says what is known of a request that failed.
func (s *Server) failure(entry *logrus.Entry, x *exchange) *logrus.Entry {
	fields := logrus.Fields{logrus.ErrorKey: x.err, "outcome": outcomeOf(x.err, 0), "caller": x.caller.KindName()}
	if x.caller.Actor != "" {
		fields["actor"] = x.caller.Actor
	}
	if x.permission != "" {
		fields["permission"] = peer.Path(x.permission)
	}
	if x.revision != "" {
		fields["revision"] = x.revision
	}
	if refused, ok := errors.AsType[*guard.RefusedError](x.err); ok {
		fields["plugin"] = refused.PluginID
	} else if unavailable, ok := errors.AsType[*guard.UnavailableError](x.err); ok {
		fields["plugin"] = unavailable.PluginID
	}
	if cause := errors.Unwrap(x.err); cause != nil {
		text := cause.Error()
		if at := lineOfPolicy.FindString(text); at != "" {
			fields["at"] = at
		}
		if rule := ruleOfPlugin.FindStringSubmatch(text); rule != nil {
			fields["rule"] = rule[1]
		}
	}
	return entry.WithFields(fields)
}

// logOf is the log with the ids of the exchange on every line.
func (s *Server) logOf(x *exchange) *logrus.Entry {
	fields := logrus.Fields{"request_id": x.id}
	if id := x.trace.ID(); id != "" {
		fields["trace_id"] = id
	}
	return s.log.WithFields(fields)
}

func requestID(r *http.Request) string {
	if id := r.Header.Get("X-Request-Id"); id != "" && usableID.MatchString(id) {
		return id
	}
	return rand.Text()
}
