package identity

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/stagedoor/stagedoor/adapter/identity/keyset"
)

// echo answers with bytes in which the caller's Authorization header, or a token
// where there is none, stands where net/http would quote it.
func echo(answer string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		if token == "" {
			token = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.c2lnbmF0dXJl"
		}
		fmt.Fprintf(conn, answer, token)
	}
}

// A server that sends tokens back in what is no HTTP gets them into no error and
// no log line.
func TestEchoedTokensAreNotQuoted(t *testing.T) {
	for name, answer := range map[string]string{
		"status":   "HTTP/1.1 %s\r\n\r\n",
		"header":   "HTTP/1.1 200 OK\r\n%s\r\n\r\n",
		"location": "HTTP/1.1 302 Found\r\nLocation: http://[%s\r\nContent-Length: 0\r\n\r\n",
		"chunk":    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%s\r\n",
	} {
		for _, path := range []string{authKeys, todoKeys, userInfo} {
			t.Run(name+strings.ReplaceAll(path, "/", " "), func(t *testing.T) {
				t.Parallel()
				expectNoEcho(t, path, echo(answer))
			})
		}
	}
}

func expectNoEcho(t *testing.T, path string, fault http.HandlerFunc) {
	b := newBackstage()
	i, _ := b.listening(t, Options{UserInfoTTL: time.Second})
	log := &lockedLog{}
	i.log.Logger.SetOutput(log)
	i.log.Logger.SetLevel(logrus.DebugLevel)
	token := b.onBehalf(spec{})
	noToken := func(text string) {
		t.Helper()
		for _, part := range append(strings.Split(token, "."), "eyJ") {
			if strings.Contains(text, part) {
				t.Error(text)
			}
		}
	}
	if path == userInfo { // so that there is something to renew
		if _, err := everything(t.Context(), i, token); err != nil {
			t.Fatal(err)
		}
	}
	b.fail(path, fault)
	failed := false
	for begun := time.Now(); !failed && time.Since(begun) < time.Minute; time.Sleep(10 * time.Millisecond) {
		_, err := everything(t.Context(), i, token)
		for ; err != nil; err = errors.Unwrap(err) {
			failed = true
			noToken(fmt.Sprintf("%v %+v", err, err))
		}
	}
	if !failed {
		t.Error("no error")
	}
	noToken(log.String())
	if path == userInfo && !strings.Contains(log.String(), "renewing user info") {
		t.Error("the failed renewal was not logged")
	}
}

type lockedLog struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// A panic while foreign bytes are read ends neither the process nor the waiting.
func TestPanicsOfFetchesAreErrors(t *testing.T) {
	b := newBackstage()
	i := b.identity(t, Options{})
	caller, err := i.Authenticate(t.Context(), "Bearer "+b.user(spec{}))
	if err != nil {
		t.Fatal(err)
	}
	i.client.Transport = panics{}
	if claims, _, err := i.UserInfo(t.Context(), caller); err == nil || claims != nil {
		t.Errorf("user info: %v, %v", claims, err)
	}
	if c, err := i.Authenticate(t.Context(), "Bearer "+b.service(spec{})); err == nil || c.Kind != None {
		t.Errorf("key set: %v, %v", c, err)
	}
	for range 2 { // and the set is not left as if it were being fetched
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		_, err := i.plugins.Of("todo").Fresh(ctx)
		cancel()
		if err == nil || !strings.Contains(err.Error(), "panic") || strings.Contains(err.Error(), "eyJ") {
			t.Errorf("key set: %v", err)
		}
	}
}

type panics struct{}

func (panics) RoundTrip(*http.Request) (*http.Response, error) { panic("eyJ") }

// Close ends what is under way, and nothing is begun after it. That no goroutine
// is left is for synctest to find.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackstage()
		i := b.identity(t, Options{})
		token := b.user(spec{})
		caller, err := i.Authenticate(t.Context(), "Bearer "+token)
		if err != nil {
			t.Fatal(err)
		}
		b.fail(todoKeys, stuck)
		b.fail(userInfo, stuck)
		begun := time.Now()
		var waiting sync.WaitGroup
		waiting.Go(func() {
			if c, err := i.Authenticate(t.Context(), "Bearer "+b.service(spec{})); err == nil {
				t.Errorf("a plugin passed: %v", c)
			}
		})
		waiting.Go(func() {
			if claims, _, err := i.UserInfo(t.Context(), caller); err == nil {
				t.Errorf("user info: %v", claims)
			}
		})
		synctest.Wait()
		i.Close()
		waiting.Wait()
		if took := time.Since(begun); took > 0 {
			t.Errorf("waited for %v", took)
		}
		time.Sleep(keyset.FailureTTL)
		fetched := b.count(todoKeys)
		if c, err := i.Authenticate(t.Context(), "Bearer "+b.service(spec{})); err == nil {
			t.Errorf("after Close a plugin passed: %v", c)
		}
		if b.count(todoKeys) != fetched {
			t.Error("something was fetched after Close")
		}
		i.Close() // again is fine
	})
}

func TestCloseClosesIdleConnections(t *testing.T) {
	b := newBackstage()
	closed := make(chan struct{}, 8)
	server := httptest.NewUnstartedServer(b)
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			closed <- struct{}{}
		}
	}
	server.Start()
	defer server.Close()
	i := newIdentity(t, Options{}, server.URL)
	if _, err := everything(t.Context(), i, b.user(spec{})); err != nil {
		t.Fatal(err)
	}
	i.Close()
	select {
	case <-closed:
	case <-time.After(time.Minute):
		t.Error("the connection is left open")
	}
}
