//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestReadAnswer(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nDate: today\r\n"
	tests := []struct {
		name, bytes, body, refused string
	}{
		{"a length", head + "content-length:  5\r\n\r\nhello", "hello", ""},
		{"nothing", head + "Content-Length: 0\r\n\r\n", "", ""},
		{"chunks", head + "transfer-encoding: Chunked\r\n\r\n4\r\nhell\r\n00A\r\no\r\n, world\r\n0\r\n\r\n", "hello\r\n, world", ""},
		{"another status", "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\nno", "", `answered with "HTTP/1.1 503 Service`},
		{"one that closes", head + "Connection: Close\r\nContent-Length: 2\r\n\r\nno", "", "does not keep the connection"},
		{"no length", head + "\r\nhello", "", "the length of the answer"},
		{"another length", head + "Content-Length: -1\r\n\r\nhello", "", "the length of the answer"},
		{"more than its length", head + "Content-Length: 4\r\n\r\nhello", "", "more came than that"},
		{"a chunk without length", head + "Transfer-Encoding: chunked\r\n\r\nx\r\n", "", "the length of a chunk"},
		{"a chunk that is longer", head + "Transfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n", "", "a chunk of 2 bytes goes on"},
		{"more than chunks", head + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nH", "", "more came than the last chunk"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, complete, err := readAnswer([]byte(test.bytes), nil)
			if test.refused != "" {
				if err == nil || !strings.Contains(err.Error(), test.refused) || complete {
					t.Fatalf("want %q, got %v, complete: %t", test.refused, err, complete)
				}
				return
			}
			if err != nil || !complete || string(got.body) != test.body || string(got.field("date")) != "today" {
				t.Fatalf("got %q, complete: %t, %v", got, complete, err)
			}
			for n := range test.bytes {
				if _, complete, err := readAnswer([]byte(test.bytes[:n]), nil); err != nil || complete {
					t.Fatalf("of %d bytes: complete: %t, %v", n, complete, err)
				}
			}
		})
	}
}

// shooting returns a client of a handler, whose address is in the messages that it
// returns beside, one for each of two users: a JSON string of the user and the body.
func shooting(t *testing.T, connections int, server *httptest.Server, body string) (*client, ammunition) {
	t.Helper()
	server.Start()
	t.Cleanup(server.Close)
	address := strings.TrimPrefix(server.URL, "http://")
	all, err := messages(2, address, "/", true, false, func(user int) any { return strconv.Itoa(user) + body })
	if err != nil {
		t.Fatal(err)
	}
	a := ammunition{messages: all, pool: pool{users: 2}, to: 100}
	for n := range a.to {
		a.pool.tokens = append(a.pool.tokens, fmt.Sprintf("%03d", n))
	}
	c, err := dial(address, connections)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.close)
	return c, a
}

func echo(w http.ResponseWriter, r *http.Request) {
	text, _ := io.ReadAll(r.Body)
	_, _ = fmt.Fprint(w, r.Header.Get("Authorization"), string(text))
}

// TestFire asks a server of net/http, whose long answers come in chunks.
func TestFire(t *testing.T) {
	for _, body := range []string{"short", strings.Repeat("long", 50_000)} {
		c, a := shooting(t, 7, httptest.NewUnstartedServer(http.HandlerFunc(echo)), body)
		want, got := map[string]int{}, map[string]int{}
		for n := range a.to {
			want[fmt.Sprintf("Bearer %03d%q", n, strconv.Itoa(n%2)+body)] = 1
		}
		a.inspect = func(a answer) error {
			got[string(a.body)]++
			return nil
		}
		s, err := c.fire(t.Context(), a, time.Hour)
		if err != nil || len(s.latencies) != a.to {
			t.Fatalf("got %v, %v", s, err)
		}
		if !maps.Equal(got, want) {
			t.Fatalf("not every message was answered once with what it says: %d answers", len(got))
		}

		// When the time is over, every connection has sent one and no more.
		a.inspect = nil
		if s, err = c.fire(t.Context(), a, 0); err != nil || len(s.latencies) != 7 {
			t.Fatalf("got %v, %v", s, err)
		}

		a.inspect = length(3)
		if _, err = c.fire(t.Context(), a, time.Hour); err == nil || !strings.Contains(err.Error(), "where it was 3 at first") {
			t.Fatalf("got %v", err)
		}
	}
}

// TestFireMeasures has every tenth request take its time.
func TestFireMeasures(t *testing.T) {
	const slow = 30 * time.Millisecond
	c, a := shooting(t, 2, httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.Header.Get("Authorization"), "9") {
			time.Sleep(slow)
		}
	})), "")
	s, err := c.fire(t.Context(), a, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	var sum time.Duration
	for _, latency := range s.latencies {
		sum += latency
	}
	if s.percentile(50) >= slow || s.percentile(95) < slow || !slices.IsSorted(s.latencies) {
		t.Errorf("got %v", s.latencies)
	}
	if s.elapsed < sum/2 || s.elapsed > 2*sum {
		t.Errorf("two connections took %s, of which they waited %s", s.elapsed, sum)
	}
}

func TestSlice(t *testing.T) {
	s := slice{elapsed: 2 * time.Second}
	for n := range 200 {
		s.latencies = append(s.latencies, time.Duration(n+1))
	}
	for p, want := range map[float64]time.Duration{0: 1, 50: 101, 99: 199, 99.5: 200, 100: 200} {
		if got := s.percentile(p); got != want {
			t.Errorf("percentile %g: got %d, want %d", p, got, want)
		}
	}
	if got := s.throughput(); got != 100 {
		t.Errorf("throughput: got %g", got)
	}
}

func TestFireFails(t *testing.T) {
	c, a := shooting(t, 2, httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		panic(http.ErrAbortHandler)
	})), "")
	if _, err := c.fire(t.Context(), a, time.Hour); err == nil || !strings.Contains(err.Error(), "closed the connection") {
		t.Errorf("a connection that is aborted: %v", err)
	}

	silence := make(chan struct{})
	c, a = shooting(t, 2, httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-silence })), "")
	t.Cleanup(func() { close(silence) })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.fire(ctx, a, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that is done: %v", err)
	}
}

// TestRefresh has a server close connections while they are idle: all between two
// times of asking, and one while another one waits.
func TestRefresh(t *testing.T) {
	var idle sync.Map
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for closed := r.Header.Get("Authorization") != "Bearer 099"; !closed; time.Sleep(time.Millisecond) {
			idle.Range(func(conn, _ any) bool {
				closed = conn.(net.Conn).Close() == nil
				return !closed
			})
		}
		echo(w, r)
	}))
	server.Config.ConnState = func(conn net.Conn, state http.ConnState) {
		if idle.Delete(conn); state == http.StateIdle {
			idle.Store(conn, true)
		}
	}
	c, a := shooting(t, 2, server, "")
	a.to = 50
	for range 2 {
		if s, err := c.fire(t.Context(), a, time.Hour); err != nil || len(s.latencies) != a.to {
			t.Fatalf("got %v, %v", s, err)
		}
		for _, conn := range c.connections {
			conn.sent = conn.sent.Add(-time.Minute)
		}
		server.CloseClientConnections()
	}
	a.from, a.to = 98, 100
	if s, err := c.fire(t.Context(), a, time.Hour); err != nil || len(s.latencies) != 2 {
		t.Fatalf("got %v, %v", s, err)
	}
	a.from, a.to = 0, 50
	if s, err := c.fire(t.Context(), a, time.Hour); err != nil || len(s.latencies) != a.to {
		t.Fatalf("got %v, %v", s, err)
	}
}
