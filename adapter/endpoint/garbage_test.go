package endpoint

import (
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var garbageTime = flag.Duration("garbage", 2*time.Second, "how long TestGarbage sends garbage and good requests")

// TestGarbage sends garbage and good requests at a time, by HTTP/1 and HTTP/2, with TLS,
// mutual TLS and without: every good request is answered as it must be, and in the end
// neither goroutines nor connections are left, nor memory that was taken.
func TestGarbage(t *testing.T) {
	a := newAuthority(t)
	cert, key := a.issue("server", "server", a)
	known, knownKey := a.issue("ann", "ann", a)
	files := &TLS{CertFile: cert, KeyFile: key}
	mutual := &TLS{CertFile: cert, KeyFile: key, ClientCAFile: filepath.Join(a.dir, "ca.pem")}
	h2c := &http.Transport{Protocols: &http.Protocols{}}
	h2c.Protocols.SetUnencryptedHTTP2(true)
	before, heap := runtime.NumGoroutine(), liveBytes()
	good, bad := atomic.Int64{}, atomic.Int64{}
	var endpoints []*Endpoint
	for name, c := range map[string]struct {
		options Options
		clients []*http.Client
		want    string
	}{
		"plain": {Options{H2C: true}, []*http.Client{{Transport: &http.Transport{}}, {Transport: h2c}}, "nobody"},
		"TLS":   {Options{TLS: files}, []*http.Client{a.client("", "", false), a.client("", "", true)}, "nobody"},
		"mTLS":  {Options{TLS: mutual}, []*http.Client{a.client(known, knownKey, false), a.client(known, knownKey, true)}, "ann"},
	} {
		e := open(t, c.options, echo)
		endpoints = append(endpoints, e)
		t.Run(name, func(t *testing.T) {
			end := time.Now().Add(*garbageTime)
			var group sync.WaitGroup
			for range 4 {
				group.Go(func() {
					for time.Now().Before(end) {
						e.sendGarbage(a)
						bad.Add(1)
					}
				})
			}
			for i, client := range c.clients {
				group.Go(func() {
					want := fmt.Sprintf(`HTTP/%d.%d /p %s "b"`, i+1, 1-i, c.want)
					for time.Now().Before(end) {
						got, err := get(t, client, e.URL())
						if err != nil || got != want {
							t.Errorf("%q, %v, want %q", got, err, want)
							return
						}
						good.Add(1)
					}
				})
			}
			group.Wait()
			for _, client := range c.clients {
				client.CloseIdleConnections()
			}
		})
	}
	h2c.CloseIdleConnections()
	t.Logf("%d good requests, %d times garbage", good.Load(), bad.Load())
	for begun := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		left := 0
		for _, e := range endpoints {
			e.mutex.Lock()
			left += len(e.connections)
			e.mutex.Unlock()
		}
		goroutines := runtime.NumGoroutine() - before
		if left == 0 && goroutines < 5*len(endpoints) {
			if grown := liveBytes() - heap; grown > 4<<20 {
				t.Errorf("%d bytes more are live", grown)
			}
			return
		}
		if time.Since(begun) > 2*time.Minute {
			t.Fatalf("%d connections and %d goroutines are left", left, goroutines)
		}
	}
}

// liveBytes is what of the heap is in use.
func liveBytes() int64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

// sendGarbage opens a connection, sends what may begin well, and leaves.
func (e *Endpoint) sendGarbage(a *authority) {
	c, err := net.DialTimeout("tcp", e.Address(), 5*time.Second)
	if err != nil {
		return
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(200 * time.Millisecond))
	if e.certificates != nil && mathrand.IntN(2) == 0 {
		pool := x509.NewCertPool()
		pool.AddCert(a.cert)
		protocols := [][]string{{"h2"}, {"http/1.1"}, nil}[mathrand.IntN(3)]
		secure := tls.Client(c, &tls.Config{RootCAs: pool, ServerName: "localhost", NextProtos: protocols, MinVersion: tls.VersionTLS12})
		defer secure.Close()
		c = secure
	}
	whole := []string{
		"POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
		"GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", strings.Repeat("GET ", 5000),
	}[mathrand.IntN(5)]
	text := []byte(whole[:mathrand.IntN(len(whole)+1)])
	for range mathrand.IntN(4) {
		if len(text) > 0 {
			text[mathrand.IntN(len(text))] = byte(mathrand.IntN(256))
		}
	}
	if _, err := c.Write(text); err == nil {
		_, _ = io.Copy(io.Discard, io.LimitReader(c, 1<<16))
	}
}
