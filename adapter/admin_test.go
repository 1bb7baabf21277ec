package adapter

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestOperators holds who counts as an operator.
func TestOperators(t *testing.T) {
	const token = "0123456789abcdef"
	local, far := "127.0.0.1:4711", "192.0.2.7:4711"
	verified := &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{{}}}}
	for name, c := range map[string]struct {
		token, from, host string
		header            map[string]string
		tls               *tls.ConnectionState
		socket            bool
		want              bool
	}{
		"this machine":                   {from: local, host: "127.0.0.1:7009", want: true},
		"this machine by name":           {from: local, host: "localhost:7009", want: true},
		"this machine by IPv6":           {from: "[::1]:4711", host: "[::1]:7009", want: true},
		"this machine without a port":    {from: local, host: "[::1]", want: true},
		"a page whose name is ours":      {from: local, host: "evil.example.org:7009"},
		"a page with a name like ours":   {from: local, host: "localhost.example.org"},
		"no host":                        {from: local, host: ""},
		"a proxy here":                   {from: local, host: "localhost", header: map[string]string{"X-Forwarded-For": "192.0.2.7"}},
		"a proxy here, by the standard":  {from: local, host: "localhost", header: map[string]string{"Forwarded": "for=192.0.2.7"}},
		"a proxy here, that says little": {from: local, host: "localhost", header: map[string]string{"Via": "1.1 p"}},
		"elsewhere":                      {from: far, host: "127.0.0.1:7009"},
		"elsewhere with the token":       {token: token, from: far, host: "h", header: map[string]string{"Authorization": "Bearer " + token}, want: true},
		"elsewhere with another token":   {token: token, from: far, host: "h", header: map[string]string{"Authorization": "Bearer " + token + "x"}},
		"elsewhere without a token":      {token: token, from: far, host: "h"},
		"no token is configured":         {from: far, host: "h", header: map[string]string{"Authorization": "Bearer "}},
		"here with another token":        {token: token, from: local, host: "localhost", header: map[string]string{"Authorization": "Bearer x"}},
		"a certificate":                  {from: far, host: "h", tls: verified, want: true},
		"TLS without a certificate":      {from: far, host: "h", tls: &tls.ConnectionState{}},
		"an unverified certificate":      {from: far, host: "h", tls: &tls.ConnectionState{PeerCertificates: []*x509.Certificate{{}}}},
		"a socket":                       {from: "@", host: "h", socket: true, want: true},
		"a proxy through a socket":       {from: "@", host: "h", socket: true, header: map[string]string{"X-Forwarded-For": "192.0.2.7"}},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/status", http.NoBody)
		r.RemoteAddr, r.Host, r.TLS = c.from, c.host, c.tls
		for key, value := range c.header {
			r.Header.Set(key, value)
		}
		if c.socket {
			r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, net.Addr(&net.UnixAddr{Net: "unix"})))
		}
		s := withToken(c.token)
		if got := s.operator(r); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// withToken is a server with that token, if it is any.
func withToken(token string) *Server {
	s := &Server{}
	if token != "" {
		s.RenewTokens([]string{token})
	}
	return s
}

// A token is changed while the old one still opens, and then the old one does not.
func TestTokensAreRenewed(t *testing.T) {
	const before, after = "0123456789abcdef", "fedcba9876543210"
	s := &Server{}
	for _, step := range []struct {
		tokens        []string
		before, after bool
	}{
		{tokens: []string{before}, before: true},
		{tokens: []string{after, before}, before: true, after: true},
		{tokens: []string{after}, after: true},
		{},
	} {
		s.RenewTokens(step.tokens)
		for token, want := range map[string]bool{before: step.before, after: step.after} {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/status", http.NoBody)
			r.RemoteAddr = "192.0.2.7:4711"
			r.Header.Set("Authorization", "Bearer "+token)
			if got := s.operator(r); got != want {
				t.Errorf("%v, asked with %s: %v", step.tokens, token, got)
			}
		}
	}
}

// Where there is a token, nobody writes data without it, on this machine neither.
func TestWritersSayWhoTheyAre(t *testing.T) {
	const token = "0123456789abcdef"
	certified := &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{{}}}}
	for name, test := range map[string]struct {
		token, given string
		tls          *tls.ConnectionState
		want         bool
	}{
		"no token is configured":  {want: true},
		"none is given":           {token: token},
		"another is given":        {token: token, given: "Bearer x"},
		"another way of signing":  {token: token, given: "Basic x"},
		"it is given":             {token: token, given: "Bearer " + token, want: true},
		"a client certificate is": {token: token, tls: certified, want: true},
	} {
		s := withToken(test.token)
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPut, "http://localhost/v1/data/w", nil)
		r.RemoteAddr, r.TLS = "127.0.0.1:4711", test.tls
		if test.given != "" {
			r.Header.Set("Authorization", test.given)
		}
		wrote := false
		_ = s.writers(func(http.ResponseWriter, *http.Request) error { wrote = true; return nil })(httptest.NewRecorder(), r)
		if wrote != test.want {
			t.Errorf("%s: wrote %t", name, wrote)
		}
	}
}
