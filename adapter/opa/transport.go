package opa

import (
	"context"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/open-policy-agent/opa/v1/tracing"
)

// registerUploads makes OPA's clients of services use [uploads]. OPA has one
// registry for the process, and no other way to their transports.
var registerUploads = sync.OnceFunc(func() { tracing.RegisterHTTPTracing(uploads{}) })

// uploads keeps OPA's clients from following a redirect that makes an upload a GET
// of another page, as those to a login do: were that page there, OPA would take
// the decision log for received. It is immutable.
type uploads struct{}

// NewTransport implements OPA's tracing.HTTPTracingService.
func (uploads) NewTransport(next http.RoundTripper, _ tracing.Options) http.RoundTripper {
	return uploadTransport{next}
}

// NewHandler implements OPA's tracing.HTTPTracingService.
func (uploads) NewHandler(h http.Handler, _ string, _ tracing.Options) http.Handler { return h }

type uploadTransport struct{ next http.RoundTripper }

type uploadKey struct{}

// UploadWithin is a context with which OPA's decision log is triggered, and whatever it
// sends ends within so long. It is not done then itself: at that the log's Trigger
// returns while its upload goes on, beside the next.
func UploadWithin(ctx context.Context, within time.Duration) context.Context {
	return context.WithValue(ctx, uploadKey{}, time.Now().Add(within))
}

// RoundTrip answers redirects that would lose the body without their Location, so
// that [http.Client] returns them as they are.
func (t uploadTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	end := func() {}
	if deadline, ok := r.Context().Value(uploadKey{}).(time.Time); ok {
		ctx, cancel := context.WithDeadline(r.Context(), deadline)
		r, end = r.WithContext(ctx), cancel
	}
	response, err := t.next.RoundTrip(r)
	if err != nil {
		end()
		return nil, err
	}
	response.Body = body{response.Body, end}
	if r.Method != http.MethodPost {
		return response, nil
	}
	switch response.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther:
		response.Header.Del("Location")
	}
	return response, nil
}

// body is an answer's, whose request ends when it is closed.
type body struct {
	io.ReadCloser
	end context.CancelFunc
}

func (b body) Close() error {
	defer b.end()
	return b.ReadCloser.Close()
}
