package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
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
		{"chunks", head + "Transfer-Encoding: chunked\r\n\r\n4\r\nhell\r\n00A\r\no\r\n, world\r\n0\r\n\r\n", "hello\r\n, world", ""},
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
			got, complete, err := readAnswer([]byte(test.bytes))
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
				if _, complete, err := readAnswer([]byte(test.bytes[:n])); err != nil || complete {
					t.Fatalf("of %d bytes: complete: %t, %v", n, complete, err)
				}
			}
		})
	}
}

// shooting returns a client of a handler, whose address is in the messages that it
// returns beside, for two users.
func shooting(t *testing.T, connections int, handler http.HandlerFunc, body string) (*client, ammunition, *httptest.Server) {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	address := strings.TrimPrefix(server.URL, "http://")
	all, err := messages(2, address, "/", true, false, func(int) any { return body })
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
	return c, a, server
}

func echo(w http.ResponseWriter, r *http.Request) {
	text, _ := io.ReadAll(r.Body)
	_, _ = fmt.Fprint(w, r.Header.Get("Authorization"), string(text))
}

// TestFire asks a server of net/http, whose long answers come in chunks.
func TestFire(t *testing.T) {
	for _, body := range []string{"short", strings.Repeat("long", 50_000)} {
		c, a, _ := shooting(t, 7, echo, body)
		want, got := map[string]int{}, map[string]int{}
		for n := range a.to {
			want[fmt.Sprintf("Bearer %03d%q", n, body)] = 1
		}
		a.inspect = func(a answer) error {
			got[string(a.body)]++
			return nil
		}
		s, err := c.fire(t.Context(), a, time.Hour)
		if err != nil || len(s.latencies) != a.to || s.percentile(50) > s.percentile(99) {
			t.Fatalf("got %v, %v", s, err)
		}
		if !maps.Equal(got, want) {
			t.Fatalf("not every message was answered once with what it says: %.2000v", got)
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

func TestFireFails(t *testing.T) {
	c, a, _ := shooting(t, 2, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "")
	if _, err := c.fire(t.Context(), a, time.Hour); err == nil || !strings.Contains(err.Error(), "closed the connection") {
		t.Errorf("a connection that is aborted: %v", err)
	}

	silence := make(chan struct{})
	c, a, _ = shooting(t, 2, func(http.ResponseWriter, *http.Request) { <-silence }, "")
	t.Cleanup(func() { close(silence) })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.fire(ctx, a, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that is done: %v", err)
	}
}

// TestRefresh has a server close connections while they are idle.
func TestRefresh(t *testing.T) {
	c, a, server := shooting(t, 3, echo, "")
	for range 2 {
		if s, err := c.fire(t.Context(), a, time.Hour); err != nil || len(s.latencies) != a.to {
			t.Fatalf("got %v, %v", s, err)
		}
		for _, conn := range c.connections {
			conn.sent = conn.sent.Add(-time.Minute)
		}
		server.CloseClientConnections()
	}
}
