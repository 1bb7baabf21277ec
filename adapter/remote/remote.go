// Package remote decides by the data API of an OPA server that runs elsewhere
// (OPA's REST API, POST /v1/data/{path}), asking again where that helps, and leaving
// a server alone for a while that fails.
package remote

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-retryablehttp"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/sirupsen/logrus"
	"github.com/sony/gobreaker/v2"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/singleflight"

	"github.com/stagedoor/stagedoor/adapter/breaker"
	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/peer"
	"github.com/stagedoor/stagedoor/adapter/supply"
	"github.com/stagedoor/stagedoor/adapter/tracing"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// Options say which OPA server decides (stagedoor.policy.remote).
type Options struct {
	// Entrypoint is the path of the rule that decides, such as backstage/authz/decision
	// (stagedoor.policy.entrypoint); it is required.
	Entrypoint string
	// Decision is how long one decision may take (stagedoor.limits.decision); one
	// second by default.
	Decision time.Duration
	// URL is the server's, such as http://127.0.0.1:8181.
	URL string
	// Token is sent as bearer; TokenFile is read anew for every call instead, so
	// that a rotated token is noticed.
	Token, TokenFile string
	// CAFile is a PEM file of the authorities to trust instead of the system's, and
	// CertFile and KeyFile are of the client certificate. All may be empty.
	CAFile, CertFile, KeyFile string
	// Parallel is how many items of one request are asked about at a time; 16 by
	// default.
	Parallel int
	// Tracer gets a span for each call; nil for none.
	Tracer *tracing.Tracer
}

// How the remote server is asked.
const (
	defaultDecision = time.Second
	defaultParallel = 16
	maxParallel     = 1024
	retries         = 3
	retryLeast      = 20 * time.Millisecond
	retryMost       = 200 * time.Millisecond
	maxAnswer       = 8 << 20
	breakerFailures = 5               // in a row, until the server is left alone
	breakerPause    = 2 * time.Second // for so long
	maxIdle         = 64
)

// Remote decides by the data API of an OPA server (OPA's REST API, POST
// /v1/data/{path}). Such policies have to be of decision style: one about the
// resource finds no resource there, and a not over what looks at it holds. Nothing
// is remembered, since neither the policy's revision nor what it reads is known here.
//
// It is safe for concurrent use.
type Remote struct {
	options   Options
	url       string
	transport *http.Transport
	http      *retryablehttp.Client
	breaker   *breaker.Breaker
	heard     atomic.Int64 // when the server answered last, in nanoseconds since 1970
	looks     singleflight.Group
}

// errRequestOver is an item of a request that ended meanwhile, since its time was
// up or its caller left. That says nothing of the server, or one caller could have
// it left alone for all.
var errRequestOver = errors.New("the request is over")

// errPanicked is a call that came to no end.
var errPanicked = errors.New("it panicked")

// errTooSlow is a decision that the server was asked for and did not come to in time.
// That is the policy's failure, as in process: a server that decides much else is not
// to be left alone because of one who asks what takes long.
var errTooSlow = &decision.Failure{Kind: decision.FailureDeadline, Cause: context.DeadlineExceeded}

// New returns a Remote. Close must be called in the end.
func New(o Options, log *logrus.Entry) (*Remote, error) {
	if o.Decision == 0 {
		o.Decision = defaultDecision
	}
	if o.Parallel == 0 {
		o.Parallel = defaultParallel
	}
	if err := o.Validate(); err != nil {
		return nil, err
	}
	transport, err := o.transport()
	if err != nil {
		return nil, err
	}
	d := &Remote{
		options: o, transport: transport,
		// As in process, what a builtin could not find out must not look like no.
		url: strings.TrimRight(o.URL, "/") + "/v1/data/" + o.Entrypoint + "?strict-builtin-errors=true",
	}
	d.http = &retryablehttp.Client{
		HTTPClient:   peer.NewClient(o.Tracer.Transport(transport)),
		RetryMax:     retries,
		RetryWaitMin: retryLeast,
		RetryWaitMax: retryMost,
		CheckRetry:   retry,
		Backoff:      retryablehttp.DefaultBackoff,
		ErrorHandler: retryablehttp.PassthroughErrorHandler,
	}
	d.breaker = breaker.New(gobreaker.Settings{
		Name:        "policy.remote",
		Timeout:     breakerPause,
		MaxRequests: uint32(min(o.Parallel, maxParallel)), //nolint:gosec // it is bounded
		ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= breakerFailures },
		IsSuccessful: func(err error) bool {
			_, policy := errors.AsType[*decision.Failure](err)
			return err == nil || policy // which says that the server is well
		},
		IsExcluded: func(err error) bool { return errors.Is(err, errRequestOver) || errors.Is(err, errTooSlow) },
	}, o.Decision/2)
	log.WithField("url", o.URL).Info("decisions are made by a remote OPA server; its policy must be of decision style")
	return d, nil
}

// Validate reports what is wrong with the options, with its key path.
func (o Options) Validate() error {
	u, err := url.Parse(o.URL)
	switch {
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Host == "", u.User != nil, u.RawQuery != "":
		// Not shown, since what is too much in it can be a secret.
		return errors.New("stagedoor.policy.remote.url: want an http or https URL without user and query")
	case o.Entrypoint == "":
		return errors.New("stagedoor.policy.entrypoint: required with stagedoor.policy.remote, " +
			"whose policy cannot be looked at")
	case o.Token != "" && o.TokenFile != "":
		return errors.New("stagedoor.policy.remote: token and tokenFile are both given")
	case (o.CertFile == "") != (o.KeyFile == ""):
		return errors.New("stagedoor.policy.remote: certFile and keyFile go together")
	case o.Parallel < 0:
		return errors.New("stagedoor.policy.remote.parallel: want more than 0")
	}
	_, err = o.transport()
	return err
}

func (o Options) transport() (*http.Transport, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CAFile != "" {
		text, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("stagedoor.policy.remote.caFile: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("stagedoor.policy.remote.caFile: no certificate in %s", o.CAFile)
		}
	}
	if o.CertFile != "" {
		certificate, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("stagedoor.policy.remote.certFile: %w", err)
		}
		config.Certificates = []tls.Certificate{certificate}
	}
	return peer.NewTransport(peer.Options{Idle: maxIdle, IdleFor: 90 * time.Second, TLS: config}), nil
}

// retry tries again where the server was not reached or says that it cannot
// for now: a decision changes nothing, so asking twice does no harm.
func retry(ctx context.Context, response *http.Response, err error) (bool, error) {
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if err != nil {
		_, network := errors.AsType[*net.OpError](err)
		return network || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF), nil
	}
	switch response.StatusCode {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true, nil
	}
	return false, nil
}

// Close closes the connections.
func (d *Remote) Close() { d.transport.CloseIdleConnections() }

// Status says that a remote server decides. Whether that is well is not known
// before it is asked. Where it is left alone after failures no other replica would do
// better, so this one is ready all the same.
func (d *Remote) Status() supply.Status {
	status := supply.Status{Ready: true, Entrypoint: d.options.Entrypoint, Remote: d.options.URL}
	if d.breaker.Open() {
		status.Degraded = []supply.Degradation{{Part: supply.RemoteOPA, Reason: "it failed, and is left alone for a while"}}
	}
	return status
}

// Decide answers every permission for the caller, in order, side by side within
// bounds. Equal permissions are asked about once, and none once ctx is done. What
// fails for one item is in its Outcome; the error is the context's.
func (d *Remote) Decide(
	ctx context.Context, caller decision.Caller, permissions []wire.Permission,
) (decision.Batch, error) {
	unique, index := distinct(permissions)
	decided := make([]decision.Outcome, len(unique))
	identity := decision.Identity(caller)
	var group errgroup.Group
	group.SetLimit(d.options.Parallel)
	for i, p := range unique {
		group.Go(func() error {
			if ctx.Err() == nil {
				decided[i] = d.decide(ctx, p, identity)
			}
			return nil
		})
	}
	_ = group.Wait() // no function returns an error
	if err := ctx.Err(); err != nil {
		return decision.Batch{}, err
	}
	outcomes := make([]*decision.Outcome, len(permissions))
	for i, at := range index {
		outcomes[i] = &decided[at]
	}
	return decision.Batch{Outcomes: outcomes, Entrypoint: d.options.Entrypoint}, nil
}

func (d *Remote) decide(ctx context.Context, p wire.Permission, identity *ast.Term) decision.Outcome {
	limited, cancel := context.WithTimeout(ctx, d.options.Decision)
	defer cancel()
	var decides atomic.Bool // The server has the question, and has not begun to answer.
	limited = httptrace.WithClientTrace(limited, &httptrace.ClientTrace{
		WroteRequest: func(info httptrace.WroteRequestInfo) { decides.Store(info.Err == nil) },
		GotFirstResponseByte: func() {
			decides.Store(false)
			d.heard.Store(time.Now().UnixNano())
		},
	})
	answer, err := d.guarded(limited, func() (any, error) {
		answer, err := d.ask(limited, decision.Input(p, identity))
		switch {
		case err != nil && ctx.Err() != nil:
			return nil, errRequestOver
		case errors.Is(err, context.DeadlineExceeded) && decides.Load() && d.alive(ctx):
			return nil, errTooSlow
		}
		return answer, err
	})
	if failure, ok := errors.AsType[*decision.Failure](err); ok {
		return decision.Outcome{Err: failure}
	}
	if err != nil {
		return decision.Outcome{Err: &decision.Failure{Kind: decision.FailureRemote, Cause: err}}
	}
	if answer == nil { // undefined is DENY
		return decision.Outcome{}
	}
	answered, reason, err := wire.ParseDecision(answer)
	if err != nil {
		return decision.Outcome{Err: &decision.Failure{Kind: decision.FailureAnswer, Cause: err}}
	}
	return decision.Outcome{Decision: answered, Reason: reason}
}

// guarded makes a call unless the server is left alone, and tells the breaker what came of
// it.
func (d *Remote) guarded(ctx context.Context, call func() (any, error)) (answer any, err error) {
	done, err := d.breaker.Allow(ctx)
	if err != nil {
		return nil, err
	}
	outcome := errPanicked
	defer func() { done(outcome) }()
	answer, outcome = call()
	return answer, outcome
}

// alive reports whether the server has answered anybody just now, or else answers now. One
// that hangs takes questions in too, and may have answered others until it did.
func (d *Remote) alive(ctx context.Context) bool {
	if time.Since(time.Unix(0, d.heard.Load())) < d.options.Decision/4 {
		return true
	}
	_, err, _ := d.looks.Do("", func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.options.Decision)
		defer cancel()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(d.options.URL, "/")+"/health", nil)
		if err != nil {
			return nil, err
		}
		response, err := d.http.HTTPClient.Do(request) // Whatever it says, it says something.
		if err != nil {
			return nil, err
		}
		return nil, response.Body.Close()
	})
	return err == nil
}

// ask returns the result of the entrypoint as decoded JSON, or nil where it is
// undefined. An error of the policy is a [*decision.Failure], any other one the server's.
func (d *Remote) ask(ctx context.Context, input ast.Object) (any, error) {
	document, err := ast.JSON(input)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(map[string]any{"input": document})
	if err != nil {
		return nil, err
	}
	request, err := retryablehttp.NewRequestWithContext(ctx, http.MethodPost, d.url, body)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	if err := d.authorize(request.Request); err != nil {
		return nil, err
	}
	response, err := d.http.Do(request)
	if err != nil {
		return nil, peer.Error(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := peer.Read(response.Body, maxAnswer)
	switch {
	case err != nil:
		return nil, err
	case response.StatusCode == http.StatusInternalServerError:
		return nil, internalError(text)
	case response.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("the server answered with status %d", response.StatusCode)
	}
	return readResult(text)
}

func (d *Remote) authorize(request *http.Request) error {
	token := d.options.Token
	if d.options.TokenFile != "" {
		text, err := os.ReadFile(d.options.TokenFile)
		if err != nil {
			return fmt.Errorf("stagedoor.policy.remote.tokenFile: %w", err)
		}
		token = strings.TrimSpace(string(text))
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	return nil
}

// internalError is what OPA's server says with status 500 (OPA's REST API, Errors):
// a [*decision.Failure] where evaluating the policy met an error. Of that its code alone is
// told, since the words are the server's own.
func internalError(text []byte) error {
	var document struct {
		Errors []struct {
			Code string `json:"code"`
		} `json:"errors"`
	}
	if err := json.Unmarshal(text, &document); err == nil && len(document.Errors) > 0 {
		switch code := document.Errors[0].Code; code {
		case topdown.ConflictErr, topdown.BuiltinErr, topdown.TypeErr, topdown.WithMergeErr:
			return &decision.Failure{Kind: decision.FailureEvaluation, Cause: errors.New("the remote policy: " + code)}
		}
	}
	return fmt.Errorf("the server answered with status %d", http.StatusInternalServerError)
}

// readResult takes the result out of an answer of the data API: an object, without
// a member result where the document is undefined.
func readResult(text []byte) (any, error) {
	var answer map[string]any
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	if err := decoder.Decode(&answer); err != nil || answer == nil {
		return nil, errors.New("the answer is no JSON object")
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the answer")
	}
	result, defined := answer["result"]
	if defined && result == nil {
		return nil, errors.New("the result is null")
	}
	return result, nil
}

// distinct maps every permission to the index of its first occurrence among
// those that differ, so that a batch of a thousand equal questions is one.
func distinct(permissions []wire.Permission) (unique []wire.Permission, index []int) {
	if len(permissions) == 1 {
		return permissions, []int{0}
	}
	index = make([]int, len(permissions))
	seen := make(map[wire.Permission]int, min(len(permissions), 64))
	for i, p := range permissions {
		at, known := seen[p]
		if !known {
			at = len(unique)
			seen[p] = at
			unique = append(unique, p)
		}
		index[i] = at
	}
	return slices.Clip(unique), index
}
