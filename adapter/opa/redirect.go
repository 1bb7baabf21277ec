package opa

import (
	"net/http"
	"sync"

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

// RoundTrip answers redirects that would lose the body without their Location, so
// that [http.Client] returns them as they are.
func (t uploadTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := t.next.RoundTrip(r)
	if err != nil || r.Method != http.MethodPost {
		return response, err
	}
	switch response.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther:
		response.Header.Del("Location")
	}
	return response, nil
}
