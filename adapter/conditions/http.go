package conditions

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/hashicorp/go-retryablehttp"
	"github.com/sirupsen/logrus"

	"github.com/stagedoor/stagedoor/adapter/conditions/guard"
	"github.com/stagedoor/stagedoor/adapter/flight"
	"github.com/stagedoor/stagedoor/adapter/peer"
	"github.com/stagedoor/stagedoor/adapter/tracing"
)

const (
	wellKnown = "/.well-known/backstage/permissions/"
	// maxAnswer bounds what is read of an answer. A body of maxBody bytes can ask
	// for some 34,000 results of 8 bytes.
	maxAnswer = 1 << 20
	// maxErrorBody bounds what is read of an error body, in bytes.
	maxErrorBody = 16 << 10
	// connections are kept for each host: in most installations all plugins live
	// in one.
	connections = 256

	// The first wait before a call is tried again is between firstWait and twice
	// that, and each further one as much longer, up to maxWait.
	firstWait = 25 * time.Millisecond
	maxWait   = time.Second
)

// endpoint is an endpoint of a plugin.
type endpoint struct {
	plugin *plugin
	url    string
}

// newTransport returns the transport that all calls share.
func newTransport() *http.Transport {
	return peer.NewTransport(peer.Options{Idle: connections, IdleFor: 30 * time.Second, Plain: true})
}

// roundTripper hides the other methods of a transport: after a failed call
// retryablehttp closes all idle connections if it can, and one dead plugin must
// not cost the others theirs.
type roundTripper struct{ http.RoundTripper }

func newHTTPClient(
	transport http.RoundTripper, tracer *tracing.Tracer, logOf func(context.Context) *logrus.Entry,
) *retryablehttp.Client {
	return &retryablehttp.Client{
		HTTPClient: peer.NewClient(tracer.Transport(roundTripper{transport})),
		RetryMax:   math.MaxInt, // the deadline ends it
		CheckRetry: func(ctx context.Context, resp *http.Response, err error) (bool, error) {
			return retry(ctx, logOf(ctx), resp, err), nil
		},
		Backoff:      backoff,
		RetryWaitMin: firstWait,
		RetryWaitMax: 2 * firstWait,
		ErrorHandler: retryablehttp.PassthroughErrorHandler,
	}
}

// onceKey is the key, in the context of a call, of its being made once.
type onceKey struct{}

// retry reports whether to try again: after a refused connection or a gateway's
// or starting plugin's status, and if what the plugin asks to wait ends in time.
func retry(ctx context.Context, log *logrus.Entry, resp *http.Response, err error) bool {
	fields := logrus.Fields{}
	switch {
	case ctx.Err() != nil, ctx.Value(onceKey{}) != nil:
		return false
	case err != nil:
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return false
		}
		fields[logrus.ErrorKey] = peer.Error(err)
	default:
		switch resp.StatusCode {
		case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		default:
			return false
		}
		fields["url"], fields["status"] = resp.Request.URL.Redacted(), resp.StatusCode
	}
	if flight.TimeLeft(ctx) <= retryAfter(resp) {
		return false
	}
	log.WithFields(fields).Debug("a plugin cannot be asked yet, trying again")
	return true
}

// backoff waits longer each time, and at least as long as the plugin asks for.
func backoff(least, most time.Duration, attempt int, resp *http.Response) time.Duration {
	return max(min(retryablehttp.LinearJitterBackoff(least, most, attempt, resp), maxWait), retryAfter(resp))
}

// retryAfter returns the wait that a Retry-After header asks for (RFC 9110,
// section 10.2.3), or 0.
func retryAfter(resp *http.Response) time.Duration {
	if resp == nil {
		return 0
	}
	value := resp.Header.Get("Retry-After")
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(0, time.Until(at))
	}
	return 0
}

// do makes a call, again where that may help, and returns the body of a 2xx
// answer. An answer that has the token in it is refused: parts of answers go into
// errors and logs.
func (c *Client) do(ctx context.Context, source TokenSource, to endpoint, method string, body []byte) ([]byte, error) {
	token := ""
	if source != nil {
		var err error
		if token, err = source(ctx, to.plugin.id); err != nil {
			return nil, err
		}
	}
	req, err := newRequest(ctx, method, to.url, token, body)
	if err != nil {
		return nil, &guard.RefusedError{PluginID: to.plugin.id, Reason: "no request can be made for its URL or token"}
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, broken(ctx, to.plugin.id, 0, peer.Error(err))
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return nil, failure(to.plugin.id, token, resp)
	}
	answer, err := peer.Read(resp.Body, maxAnswer)
	if err == nil && token != "" && bytes.Contains(answer, []byte(token)) {
		err = errors.New("the answer repeats the token of the call")
	}
	if err != nil {
		return nil, broken(ctx, to.plugin.id, resp.StatusCode, err)
	}
	return answer, nil
}

func newRequest(ctx context.Context, method, url, token string, body []byte) (*retryablehttp.Request, error) {
	var raw any
	if body != nil {
		raw = body
	}
	req, err := retryablehttp.NewRequestWithContext(ctx, method, url, raw)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	// Asking changes nothing, so a call that ran into a kept connection just
	// being closed may be sent again. The empty value tells net/http alone.
	req.Header["Idempotency-Key"] = nil
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return req, nil
}

func broken(ctx context.Context, pluginID string, status int, err error) error {
	if ctx.Err() != nil {
		return guard.Ended(ctx, pluginID)
	}
	return &guard.UnavailableError{PluginID: pluginID, Status: status, Cause: err}
}

// failure is the error of a status that is no success. A plugin that lacks the
// loader for a resource type says so with 501, for good; being asked too often
// or too slowly is no fault of the conditions.
func failure(pluginID, token string, resp *http.Response) error {
	reason := reasonOf(resp, token)
	switch status := resp.StatusCode; {
	case status == http.StatusTooManyRequests, status == http.StatusRequestTimeout,
		status >= 500 && status != http.StatusNotImplemented:
		return &guard.UnavailableError{
			PluginID: pluginID, Status: status, RetryAfter: retryAfter(resp),
			Cause: fmt.Errorf("status %d: %s", status, reason),
		}
	default:
		return &guard.RefusedError{PluginID: pluginID, Status: status, Reason: reason}
	}
}

// reasonOf returns name and message of Backstage's error body (ErrorResponseBody
// of @backstage/errors), shortened and without tokens.
func reasonOf(resp *http.Response, token string) string {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	var answer struct {
		Error struct {
			Name    string `json:"name"`
			Message string `json:"message"`
		} `json:"error"`
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer.Error.Name == "" {
		return "without an error body of Backstage's"
	}
	text := answer.Error.Name + ": " + answer.Error.Message
	if token != "" {
		text = strings.ReplaceAll(text, token, "[token]")
	}
	return peer.Shorten(peer.WithoutTokens(text))
}

// noBase is the error of a plugin whose URL is not to be had: of its id, unless
// only the look-up of its address failed.
func noBase(pluginID string, err error) error {
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return &guard.UnavailableError{PluginID: pluginID, Cause: err}
	}
	return &guard.RefusedError{PluginID: pluginID, Reason: err.Error()}
}
