// Package peer is how stagedoor calls others: plugins, the auth backend, a remote OPA
// server.
//
// A call asks the host of the configuration and no other: it follows no redirect and,
// as Backstage's own backends, takes no proxy. It reads no more of an answer than it
// has room for ([Read]). What goes wrong is told in words that this machine chose
// ([Error]), since an answer may repeat the token that it was sent; and foreign texts
// lose their secrets before anybody sees them ([WithoutSecrets], [WithoutTokens]).
package peer

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// Options say how connections are made and kept.
type Options struct {
	// Idle is how many connections to a host, and in all, are kept for further calls.
	Idle int
	// IdleFor is how long they are kept.
	IdleFor time.Duration
	// TLS is for https; nil trusts the system's authorities.
	TLS *tls.Config
	// Plain asks for no compression, which costs a plugin's only thread more than the
	// network gains.
	Plain bool
}

const (
	// dialTimeout is how long a connection may take to be made, and again for TLS.
	dialTimeout = 5 * time.Second
	// maxHeader is how many bytes the header of an answer may have.
	maxHeader = 64 << 10
)

// NewTransport returns the transport of calls. It is safe for concurrent use.
func NewTransport(o Options) *http.Transport {
	return &http.Transport{
		DialContext:            (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSClientConfig:        o.TLS,
		TLSHandshakeTimeout:    dialTimeout,
		MaxIdleConns:           o.Idle,
		MaxIdleConnsPerHost:    o.Idle,
		IdleConnTimeout:        o.IdleFor,
		DisableCompression:     o.Plain,
		ForceAttemptHTTP2:      true,
		MaxResponseHeaderBytes: maxHeader,
	}
}

// NewClient returns a client that follows no redirect. It is safe for concurrent use.
func NewClient(t http.RoundTripper) *http.Client {
	return &http.Client{
		Transport:     t,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// ErrTooLong is the error of an answer that is longer than it may be.
var ErrTooLong = errors.New("the answer is longer than is accepted")

// Read reads the body of an answer to its end. The error is [ErrTooLong] where it has
// more bytes than the limit, and else as [Error] tells it.
func Read(body io.Reader, limit int64) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(body, limit+1))
	switch {
	case err != nil:
		return nil, Error(err)
	case int64(len(text)) > limit:
		return nil, fmt.Errorf("%w: more than %d bytes", ErrTooLong, limit)
	}
	return text, nil
}
