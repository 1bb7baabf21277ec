package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"
)

// echoes answers with bytes in which the caller's Authorization header stands
// where net/http would quote it.
var echoes = map[string]string{
	"status":   "HTTP/1.1 %s\r\n\r\n",
	"protocol": "%s\r\n\r\n",
	"header":   "HTTP/1.1 200 OK\r\n%s\r\n\r\n",
	"location": "HTTP/1.1 302 Found\r\nLocation: http://[%s\r\nContent-Length: 0\r\n\r\n",
	"length":   "HTTP/1.1 200 OK\r\nContent-Length: %s\r\n\r\n",
	"encoding": "HTTP/1.1 200 OK\r\nTransfer-Encoding: %s\r\n\r\n",
	"chunk":    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%s\r\n",
	"trailer":  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n0\r\n%s\r\n\r\n",
}

func TestErrorQuotesNothingForeign(t *testing.T) {
	const token = "eyJhbGciOiJFUzI1NiJ9.secret.signature"
	quoted := 0
	for name, answer := range echoes {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			fmt.Fprintf(conn, answer, strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
		}))
		err := call(t, server.URL, token)
		server.Close()
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		if strings.Contains(err.Error(), "secret") {
			quoted++
		}
		for e := Error(err); e != nil; e = errors.Unwrap(e) {
			if strings.Contains(fmt.Sprintf("%v %+v %#v", e, e, e), "secret") {
				t.Errorf("%s: %v", name, e)
			}
		}
	}
	if quoted == 0 {
		t.Error("net/http quotes none of the answers, so nothing is tested")
	}
}

// call makes a call and reads the answer.
func call(t *testing.T, url, token string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	client := NewClient(&http.Transport{DisableKeepAlives: true})
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, err = io.ReadAll(response.Body)
	return err
}

func TestErrorTellsTheKind(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + listener.Addr().String()
	listener.Close()
	refused := Error(call(t, url, ""))
	if !errors.Is(refused, syscall.ECONNREFUSED) || !strings.HasPrefix(refused.Error(), "Get "+url+": dial tcp") {
		t.Error(refused)
	}
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	mismatch := Error(call(t, strings.Replace(plain.URL, "http:", "https:", 1), ""))
	if !errors.Is(mismatch, http.ErrSchemeMismatch) {
		t.Error(mismatch)
	}
	private := httptest.NewTLSServer(http.NotFoundHandler())
	private.Config.ErrorLog = nil
	defer private.Close()
	if untrusted := Error(call(t, private.URL, "")); !strings.Contains(untrusted.Error(), "x509") {
		t.Error(untrusted)
	}
	for _, known := range []error{context.Canceled, context.DeadlineExceeded, io.EOF, io.ErrUnexpectedEOF} {
		if got := Error(fmt.Errorf("foreign: %w", known)); !errors.Is(got, known) || strings.Contains(got.Error(), "foreign") {
			t.Errorf("%v: %v", known, got)
		}
	}
	if got := Error(timeout{}); got.Error() != "no answer in time" {
		t.Error(got)
	}
}

type timeout struct{}

func (timeout) Error() string   { return "foreign" }
func (timeout) Timeout() bool   { return true }
func (timeout) Temporary() bool { return true }

func TestPanic(t *testing.T) {
	panicking := func(what func()) (err error) {
		defer func() { err = Panic(recover()) }()
		what()
		return nil
	}
	var none []int
	next := len(none)
	for _, test := range []struct {
		what func()
		want string
	}{
		{func() {}, ""},
		{func() { none[next] = 1 }, "panic: runtime error: index out of range [0] with length 0\n"},
		{func() { panic("eyJsecret") }, "panic with a string\n"},
		{func() { panic(errors.New("eyJsecret")) }, "panic with a *errors.errorString\n"},
	} {
		err := panicking(test.what)
		if test.want == "" {
			if err != nil {
				t.Error(err)
			}
			continue
		}
		if err == nil || !strings.HasPrefix(err.Error(), test.want) || !strings.Contains(err.Error(), "TestPanic") ||
			strings.Contains(err.Error(), "eyJ") {
			t.Errorf("%v, want %s", err, test.want)
		}
	}
}
