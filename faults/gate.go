//go:build linux

package main

import (
	"context"
	"crypto/rand"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"sync"
	"time"
)

// faultNames are what is done to each neighbour, in the order of the table.
var faultNames = []string{"refuses", "slow", "hangs", "halfway", "flaps", "garbage", "wrong", "huge", "500"}

// gate stands before a healthy neighbour, and is at fault as long as it is told so.
type gate struct {
	URL     string
	address string
	healthy http.Handler
	wrong   http.Handler // what is well formed and must not be believed

	mutex  sync.Mutex
	fault  string        // empty for none
	healed chan struct{} // closed when the fault ends
	server *http.Server
}

// newGate stands before what serves at a URL.
func (r *rig) newGate(ctx context.Context, to string, wrong http.Handler) (*gate, error) {
	target, err := url.Parse(to)
	if err != nil {
		return nil, err
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	return r.newGateTo(ctx, proxy, wrong)
}

// newGateTo stands before a handler.
func (r *rig) newGateTo(ctx context.Context, healthy, wrong http.Handler) (*gate, error) {
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	g := &gate{URL: "http://" + address, address: address, healthy: healthy, wrong: wrong, healed: make(chan struct{})}
	r.later(func() {
		_ = g.set(context.WithoutCancel(ctx), "")
		g.close()
	})
	err = g.open(ctx)
	return g, err
}

// open listens where nobody does.
func (g *gate) open(ctx context.Context) error {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	if g.server != nil {
		return nil
	}
	var listener net.Listener
	var err error
	for range 100 {
		if listener, err = (&net.ListenConfig{}).Listen(ctx, "tcp", g.address); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		return err
	}
	server := &http.Server{Handler: g, ReadHeaderTimeout: time.Minute}
	g.server = server
	go func() { _ = server.Serve(listener) }()
	return nil
}

// close has connections refused, and ends those that are there.
func (g *gate) close() {
	g.mutex.Lock()
	server := g.server
	g.server = nil
	g.mutex.Unlock()
	if server != nil {
		_ = server.Close()
	}
}

// set begins a fault, or ends it where the name is empty.
func (g *gate) set(ctx context.Context, fault string) error {
	g.mutex.Lock()
	if g.fault != "" {
		close(g.healed)
	}
	g.fault, g.healed = fault, make(chan struct{})
	healed := g.healed
	g.mutex.Unlock()
	switch fault {
	case "refuses":
		g.close()
	case "flaps":
		go g.flap(ctx, healed)
	default:
		return g.open(ctx)
	}
	return nil
}

// flap is there and is not, by turns.
func (g *gate) flap(ctx context.Context, healed chan struct{}) {
	const each = 300 * time.Millisecond
	for away := true; ; away = !away {
		if away {
			g.close()
		} else if g.open(ctx) != nil {
			return
		}
		select {
		case <-healed:
			_ = g.open(ctx)
			return
		case <-time.After(each):
		}
	}
}

// ServeHTTP implements [http.Handler].
func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mutex.Lock()
	fault, healed := g.fault, g.healed
	g.mutex.Unlock()
	switch fault {
	case "slow":
		const slow = 600 * time.Millisecond // within every timeout
		select {
		case <-time.After(slow):
		case <-r.Context().Done():
		}
		g.healthy.ServeHTTP(w, r)
	case "hangs":
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-healed:
		case <-r.Context().Done():
		}
		hangUp(w, nil)
	case "halfway":
		recorded := httptest.NewRecorder()
		g.healthy.ServeHTTP(recorded, r)
		w.Header().Set("Content-Type", recorded.Header().Get("Content-Type"))
		w.Header().Set("Content-Length", strconv.Itoa(recorded.Body.Len()+1))
		w.WriteHeader(recorded.Code)
		_, _ = w.Write(recorded.Body.Bytes()[:recorded.Body.Len()/2])
		panic(http.ErrAbortHandler) // which breaks the connection
	case "garbage":
		hangUp(w, noise())
	case "wrong":
		g.wrong.ServeHTTP(w, r)
	case "huge":
		endless(w, r, healed)
	case "500":
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = io.WriteString(w, `{"error":{"name":"Error","message":"x"}}`)
	default:
		g.healthy.ServeHTTP(w, r)
	}
}

// hangUp closes the connection after some last bytes.
func hangUp(w http.ResponseWriter, last []byte) {
	if connection, _, err := http.NewResponseController(w).Hijack(); err == nil {
		_, _ = connection.Write(last)
		_ = connection.Close()
	}
}

func noise() []byte {
	b := make([]byte, 2000)
	_, _ = rand.Read(b) // never fails
	return b
}

// endless is a good beginning without an end.
func endless(w http.ResponseWriter, r *http.Request, healed chan struct{}) {
	w.Header().Set("Content-Type", "application/json")
	_, err := io.WriteString(w, `{"items":[{"id":"1","result":"ALLOW"}],"result":{"result":"ALLOW"},"x":"`)
	chunk := make([]byte, 256<<10)
	for n := range chunk {
		chunk[n] = 'x'
	}
	for err == nil && r.Context().Err() == nil {
		select {
		case <-healed:
			panic(http.ErrAbortHandler)
		default:
			_, err = w.Write(chunk)
		}
	}
}

// answers is a handler of one answer.
func answers(contentType, body string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		_, _ = io.WriteString(w, body)
	})
}
