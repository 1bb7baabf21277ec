// Package endpoint is an address at which HTTP is served: TCP or a unix socket, plain
// or with TLS, HTTP/1 and HTTP/2, with a bounded number of connections and an end in
// good order.
//
// [Listen] opens it, [Endpoint.Serve] serves. To end it without a client noticing,
// call [Endpoint.Drain] when no new clients come any more: every answer from there on
// tells its client to go elsewhere (Connection: close in HTTP/1, GOAWAY in HTTP/2).
// [Endpoint.Shutdown] then closes what is idle and waits for what is under way.
//
// Where there are as many connections as there may be, a further one takes the place
// of the oldest that has not asked within a second, or else of the one that is idle for
// longest. Where all are busy, it waits.
package endpoint

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	stdlog "log"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/stagedoor/stagedoor/adapter/fair"
)

// Options say where and how to serve.
type Options struct {
	// Address is host:port, or unix: and the path of a socket.
	Address string
	// TLS is nil where none is spoken.
	TLS *TLS
	// H2C lets clients speak HTTP/2 without TLS, besides HTTP/1.
	H2C bool
	// Connections are the most at a time.
	Connections int
}

// The timeouts of connections. A request has its own, which end before.
const (
	readHeaderTimeout = 10 * time.Second
	readTimeout       = 15 * time.Second
	writeTimeout      = 30 * time.Second
	idleTimeout       = 2 * time.Minute
	handshakeTimeout  = 10 * time.Second
	maxHeaderBytes    = 128 << 10
)

// unixPrefix begins an address that is a path.
const unixPrefix = "unix:"

// Check says what is wrong with an address, before anybody listens there.
func Check(address string) error {
	if path, isUnix := strings.CutPrefix(address, unixPrefix); isUnix {
		if path == "" {
			return errors.New("want unix: and a path, have no path")
		}
		return nil
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("want host:port, or unix: and a path, have %q", address)
	}
	if number, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("want a port of 0 to 65535, have %q in %q", port, address)
	} else if strconv.FormatUint(number, 10) != port {
		return fmt.Errorf("want the port %d, have %q", number, port)
	}
	return nil
}

// Same reports whether nobody can listen at both addresses at a time.
func Same(one, other string) bool {
	oneHost, onePort, err := net.SplitHostPort(one)
	otherHost, otherPort, otherErr := net.SplitHostPort(other)
	if err != nil || otherErr != nil || strings.HasPrefix(one, unixPrefix) || strings.HasPrefix(other, unixPrefix) {
		return one == other
	}
	all := func(host string) bool { return host == "" || net.ParseIP(host).IsUnspecified() }
	return onePort == otherPort && onePort != "0" && (oneHost == otherHost || all(oneHost) || all(otherHost))
}

// Endpoint is an address that is open. It is safe for concurrent use.
type Endpoint struct {
	options      Options
	listener     net.Listener
	certificates *certificates // nil without TLS
	server       *http.Server
	draining     atomic.Bool
	accepted     chan net.Conn // ready to be served
	closed       chan struct{}
	closeOnce    sync.Once

	mutex       sync.Mutex
	connections map[net.Conn]*connection
	changed     chan struct{} // closed when a connection ended or became idle; nil where nobody waits
	closing     bool
}

// connection is what is known of one. The states are those of net/http.
type connection struct {
	state http.ConnState
	since time.Time
}

// Listen opens the address. An old socket file at which nobody listens is replaced.
func Listen(ctx context.Context, o Options) (*Endpoint, error) {
	e := &Endpoint{
		options: o, accepted: make(chan net.Conn), closed: make(chan struct{}),
		connections: map[net.Conn]*connection{},
	}
	if o.TLS != nil {
		e.certificates = &certificates{}
		if err := e.certificates.reload(*o.TLS); err != nil {
			return nil, err
		}
	}
	network, address := "tcp", o.Address
	if path, isUnix := strings.CutPrefix(o.Address, unixPrefix); isUnix {
		network, address = "unix", path
		if err := removeStale(ctx, path); err != nil {
			return nil, err
		}
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, network, address)
	if err != nil {
		return nil, err
	}
	e.listener = listener
	return e, nil
}

// removeStale removes a socket at which nobody listens.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode()&fs.ModeSocket == 0:
		return fmt.Errorf("%s is there and is no socket: remove it, or name another path", path)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	connection, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if err == nil {
		_ = connection.Close()
		return fmt.Errorf("somebody listens at %s already", path)
	}
	return os.Remove(path)
}

// Address is where clients reach it: host:port, or unix: and a path.
func (e *Endpoint) Address() string {
	if e.listener.Addr().Network() == "unix" {
		return unixPrefix + e.listener.Addr().String()
	}
	return e.listener.Addr().String()
}

// URL is the address as a URL.
func (e *Endpoint) URL() string {
	switch {
	case e.listener.Addr().Network() == "unix":
		return e.Address()
	case e.options.TLS != nil:
		return "https://" + e.Address()
	}
	return "http://" + e.Address()
}

// CanReload says what stands against Reload with these files.
func (e *Endpoint) CanReload(files *TLS) error {
	switch {
	case (files == nil) != (e.certificates == nil):
		return errors.New("whether TLS is spoken cannot change without a restart")
	case files == nil:
		return nil
	}
	return files.Validate()
}

// Reload reads the certificates anew, and from these files. Where it fails, the old
// ones go on. They are also read anew when their files change.
func (e *Endpoint) Reload(files *TLS) error {
	if err := e.CanReload(files); err != nil || files == nil {
		return err
	}
	return e.certificates.reload(*files)
}

// Serve serves until Shutdown or Close is called, and returns nil then.
func (e *Endpoint) Serve(handler http.Handler, log *logrus.Entry) error {
	protocols := &http.Protocols{}
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(e.options.H2C && e.options.TLS == nil)
	server := &http.Server{
		Handler:           e.polite(handler),
		Protocols:         protocols,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          stdlog.New(warnings{log}, "", 0),
		ConnState:         e.note,
		ConnContext:       fair.WithSpeaker,
	}
	e.mutex.Lock()
	if e.closing {
		e.mutex.Unlock()
		return nil
	}
	e.server = server
	e.mutex.Unlock()
	if e.certificates != nil {
		e.certificates.tellTo(log)
	}
	go e.accept(log)
	if err := server.Serve(ready{e}); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// polite ends the connection with the answer where that is due: while draining, and
// after a request of which a proxy before stagedoor may have seen another end (RFC
// 9112, section 6.1): one with a Transfer-Encoding, or of HTTP/1.0.
func (e *Endpoint) polite(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if e.draining.Load() || r.ProtoMajor == 1 && (r.ProtoMinor == 0 || len(r.TransferEncoding) > 0) {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

// Drain has every answer from here on end its connection.
func (e *Endpoint) Drain() { e.draining.Store(true) }

// Shutdown takes no more connections, closes those that are idle, and waits for what
// is under way. When ctx is done it cuts off the rest, and fails.
func (e *Endpoint) Shutdown(ctx context.Context) error {
	e.Drain()
	e.mutex.Lock()
	e.closing = true
	server := e.server
	for c, of := range e.connections {
		if of.state == http.StateNew && time.Since(of.since) > time.Second {
			_ = c.Close()
		}
	}
	e.mutex.Unlock()
	if server == nil {
		return e.stop()
	}
	if err := server.Shutdown(ctx); err != nil {
		return errors.Join(fmt.Errorf("requests were cut off: %w", err), server.Close())
	}
	return nil
}

// stop takes no more connections.
func (e *Endpoint) stop() (err error) {
	e.closeOnce.Do(func() {
		close(e.closed)
		err = e.listener.Close()
	})
	return err
}

// accept takes connections and makes them ready to be served.
func (e *Endpoint) accept(log *logrus.Entry) {
	const shortest, longest = 5 * time.Millisecond, time.Second
	pause := shortest
	for {
		c, err := e.listener.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // such as no more file descriptors
			log.WithError(err).Warn("no connection could be taken")
			e.evict()
			time.Sleep(pause)
			pause = min(2*pause, longest)
			continue
		}
		pause = shortest
		if !e.admit(c) {
			_ = c.Close()
			return
		}
		go e.prepare(c, log)
	}
}

// admit waits until there is room for one more connection. It fails when the endpoint
// closes.
func (e *Endpoint) admit(c net.Conn) bool {
	for {
		e.mutex.Lock()
		if e.closing {
			e.mutex.Unlock()
			return false
		}
		if len(e.connections) < e.options.Connections {
			e.connections[c] = &connection{state: http.StateNew, since: time.Now()}
			e.mutex.Unlock()
			return true
		}
		if e.changed == nil {
			e.changed = make(chan struct{})
		}
		changed := e.changed
		e.mutex.Unlock()
		if !e.evict() {
			select {
			case <-changed:
			case <-time.After(patience / 10):
			}
		}
	}
}

// patience is how long a new connection may take until it asks.
const patience = time.Second

// evict closes the connection that is missed least, and reports whether there was one.
func (e *Endpoint) evict() bool {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	var idle []net.Conn
	for c, of := range e.connections {
		if of.state == http.StateIdle || of.state == http.StateNew && time.Since(of.since) >= patience {
			idle = append(idle, c)
		}
	}
	if len(idle) == 0 {
		return false
	}
	victim := slices.MinFunc(idle, func(a, b net.Conn) int {
		x, y := e.connections[a], e.connections[b]
		return cmp.Or(cmp.Compare(x.state, y.state), x.since.Compare(y.since)) // StateNew is before StateIdle
	})
	delete(e.connections, victim)
	_ = victim.Close()
	return true
}

// note follows what net/http says of a connection.
func (e *Endpoint) note(c net.Conn, state http.ConnState) {
	if state == http.StateNew {
		return // admit has noted it
	}
	e.mutex.Lock()
	defer e.mutex.Unlock()
	c = rawOf(c)
	if state == http.StateClosed || state == http.StateHijacked {
		delete(e.connections, c)
	} else if of := e.connections[c]; of != nil {
		of.state, of.since = state, time.Now()
	}
	if state != http.StateActive && e.changed != nil {
		close(e.changed)
		e.changed = nil
	}
}

// prepare speaks TLS, where that is asked for, and hands the connection on.
func (e *Endpoint) prepare(c net.Conn, log *logrus.Entry) {
	served := net.Conn(&plainConn{checked{Conn: c}})
	if e.certificates != nil {
		secure := tls.Server(c, e.certificates.config())
		ctx, cancel := context.WithTimeout(context.Background(), handshakeTimeout)
		err := secure.HandshakeContext(ctx)
		cancel()
		if err != nil {
			log.WithError(err).WithField("from", c.RemoteAddr().String()).Debug("no TLS handshake")
			_ = c.Close()
			e.note(c, http.StateClosed)
			return
		}
		served = secure // HTTP/2 must be served on a *tls.Conn
		if secure.ConnectionState().NegotiatedProtocol != "h2" {
			served = &secureConn{checked{Conn: secure}}
		}
	}
	select {
	case e.accepted <- served:
	case <-e.closed:
		_ = c.Close()
	}
}

// rawOf is the connection as it was accepted.
func rawOf(c net.Conn) net.Conn {
	switch of := c.(type) {
	case *plainConn:
		return of.Conn
	case *secureConn:
		return rawOf(of.Conn)
	case *tls.Conn:
		return of.NetConn()
	}
	return c
}

// ready is the listener of an endpoint's connections that are ready to be served.
type ready struct{ *Endpoint }

func (r ready) Accept() (net.Conn, error) {
	select {
	case c := <-r.accepted:
		return c, nil
	case <-r.closed:
		return nil, net.ErrClosed
	}
}

func (r ready) Close() error { return r.stop() }

func (r ready) Addr() net.Addr { return r.listener.Addr() }

// warnings are what net/http has to say.
type warnings struct{ *logrus.Entry }

func (w warnings) Write(line []byte) (int, error) {
	w.Warn(strings.TrimSpace(string(line)))
	return len(line), nil
}
