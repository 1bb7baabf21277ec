//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// message is a request in bytes. Where head ends with the name of a bearer token,
// a token of the pool stands between head and tail.
type message struct {
	head, tail []byte
	bearer     bool
}

// longestAnswer bounds the time in which a target must answer some request.
const longestAnswer = 2 * time.Minute

// client is a number of connections to one target. They are served in turn by one
// thread, as they become ready: a goroutine for each would be woken for each answer,
// which costs as much as all else that is done here, and would be taken from the
// target.
type client struct {
	address     netip.AddrPort
	ready       int // epoll(7) of the connections, by their index
	connections []*connection
}

type connection struct {
	socket   int // -1 for none
	request  []byte
	received []byte
	chunks   []byte    // put together
	sent     time.Time // the request, or the last one
	waiting  bool      // for the answer
}

func dial(address string, connections int) (*client, error) {
	parsed, err := netip.ParseAddrPort(address)
	if err != nil || !parsed.Addr().Is4() {
		return nil, fmt.Errorf("%q is no address of IPv4 with a port", address)
	}
	c := &client{address: parsed}
	if c.ready, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	for n := range connections {
		c.connections = append(c.connections, &connection{socket: -1, received: make([]byte, 0, 64<<10)})
		if err := c.connect(n); err != nil {
			c.close()
			return nil, err
		}
	}
	return c, nil
}

// connect dials connection n anew.
func (c *client) connect(n int) error {
	conn := c.connections[n]
	conn.close()
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	conn.socket, conn.received, conn.sent = socket, conn.received[:0], time.Now()
	to := &unix.SockaddrInet4{Addr: c.address.Addr().As4(), Port: int(c.address.Port())}
	if err := unix.Connect(socket, to); err != nil {
		return os.NewSyscallError("connect", err)
	}
	if err := unix.SetsockoptInt(socket, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	limit := unix.NsecToTimeval(longestAnswer.Nanoseconds())
	if err := unix.SetsockoptTimeval(socket, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(n)}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(c.ready, unix.EPOLL_CTL_ADD, socket, &event))
}

// refresh dials anew where a connection has been idle for so long, since its last
// request was answered long before another's, that a server may close it, or did.
// Node does so after 5 seconds.
func (c *client) refresh() error {
	const idle = 2 * time.Second
	for n, conn := range c.connections {
		if conn.socket >= 0 && time.Since(conn.sent) < idle {
			continue
		}
		if err := c.connect(n); err != nil {
			return err
		}
	}
	return nil
}

func (c *client) close() {
	for _, conn := range c.connections {
		conn.close()
	}
	_ = unix.Close(c.ready)
}

func (c *connection) close() {
	if c.socket >= 0 {
		_ = unix.Close(c.socket)
	}
	c.socket, c.waiting = -1, false
}

// wait returns the connections on which something has arrived.
func (c *client) wait(ctx context.Context) ([]*connection, error) {
	const nap = 100 // ms, after which a cancelled ctx is noticed
	until := time.Now().Add(longestAnswer)
	var events [64]unix.EpollEvent
	for {
		n, err := unix.EpollWait(c.ready, events[:], nap)
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err != nil && !errors.Is(err, unix.EINTR):
			return nil, os.NewSyscallError("epoll_wait", err)
		case n > 0:
			ready := make([]*connection, n)
			for i, event := range events[:n] {
				ready[i] = c.connections[event.Fd]
			}
			return ready, nil
		case time.Now().After(until):
			return nil, fmt.Errorf("no answer for %s", longestAnswer)
		}
	}
}

// send sends a message. The kernel takes all of it at once or waits until it can:
// targets read a request to its end before they answer.
func (c *connection) send(m message, token string) error {
	c.request = append(c.request[:0], m.head...)
	if m.bearer {
		c.request = append(c.request, token...)
	}
	c.request = append(c.request, m.tail...)
	c.sent, c.waiting = time.Now(), true
	for rest := c.request; len(rest) > 0; {
		n, err := unix.Write(c.socket, rest)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("write", err)
		}
		rest = rest[max(n, 0):]
	}
	return nil
}

// receive reads what has arrived. It returns false until the answer is complete.
func (c *connection) receive() (answer, bool, error) {
	c.received = slices.Grow(c.received, 4<<10)
	n, err := unix.Read(c.socket, c.received[len(c.received):cap(c.received)])
	switch {
	case errors.Is(err, unix.EINTR):
		return answer{}, false, nil
	case (err != nil || n == 0) && !c.waiting:
		c.close() // as the target has; it is dialled anew before the next request
		return answer{}, false, nil
	case err != nil:
		return answer{}, false, os.NewSyscallError("read", err)
	case n == 0:
		return answer{}, false, fmt.Errorf("closed the connection after %.1000q", c.received)
	case !c.waiting:
		return answer{}, false, errors.New("sent something that nobody asked for")
	}
	c.received = c.received[:len(c.received)+n]
	a, complete, err := readAnswer(c.received, c.chunks[:0])
	if complete {
		c.chunks = a.chunks
		c.received, c.waiting = c.received[:0], false
	}
	return a, complete, err
}

// answer is a target's, which must be a 200.
type answer struct {
	header, body []byte
	chunks       []byte // the memory for chunks, which may be the body's
}

// readAnswer returns false where more of the answer is to come. It reads of HTTP/1.1
// what the targets use: RFC 9112, sections 6.2 and 7.1, without trailers. What comes
// in chunks is put together behind those given.
func readAnswer(b, chunks []byte) (a answer, complete bool, err error) {
	header, body, ok := bytes.Cut(b, []byte("\r\n\r\n"))
	if !ok {
		return a, false, nil
	}
	a.header, a.chunks = header, chunks
	if !bytes.HasPrefix(header, []byte("HTTP/1.1 200 ")) {
		return a, false, fmt.Errorf("answered with %.1000q", b)
	}
	if bytes.EqualFold(a.field("Connection"), []byte("close")) {
		return a, false, errors.New("does not keep the connection")
	}
	if bytes.EqualFold(a.field("Transfer-Encoding"), []byte("chunked")) {
		a.body, complete, err = readChunks(body, chunks)
		if complete {
			a.chunks = a.body
		}
		return a, complete, err
	}
	length, err := strconv.ParseUint(string(a.field("Content-Length")), 10, 31)
	if err == nil && len(body) > int(length) {
		err = errors.New("more came than that")
	}
	if err != nil {
		return a, false, fmt.Errorf("the length of the answer: %w", err)
	}
	a.body = body
	return a, len(body) == int(length), nil
}

// readChunks appends the chunks to body. It returns false where more of them are to
// come.
func readChunks(b, body []byte) (_ []byte, complete bool, err error) {
	end := []byte("\r\n")
	for {
		size, rest, ok := bytes.Cut(b, end)
		if !ok {
			return nil, false, nil
		}
		length, err := strconv.ParseUint(string(size), 16, 31)
		if err != nil {
			return nil, false, fmt.Errorf("the length of a chunk: %w", err)
		}
		if len(rest) < int(length)+len(end) {
			return nil, false, nil
		}
		chunk, after := rest[:length], rest[length:]
		if b, ok = bytes.CutPrefix(after, end); !ok {
			return nil, false, fmt.Errorf("a chunk of %d bytes goes on", length)
		}
		switch {
		case length > 0:
			body = append(body, chunk...)
		case len(b) > 0:
			return nil, false, errors.New("more came than the last chunk")
		default:
			return body, true, nil
		}
	}
}

// field is the value of a header's field, or empty.
func (a answer) field(name string) []byte {
	for line := range bytes.SplitSeq(a.header, []byte("\r\n")) {
		if got, value, _ := bytes.Cut(line, []byte(":")); len(got) == len(name) && strings.EqualFold(string(got), name) {
			return bytes.TrimSpace(value)
		}
	}
	return nil
}

// slice is what came of asking for a while.
type slice struct {
	elapsed   time.Duration
	latencies []time.Duration // sorted
}

func (s slice) throughput() float64 { return float64(len(s.latencies)) / s.elapsed.Seconds() }

// percentile is the latency that p percent of the requests did not exceed.
func (s slice) percentile(p float64) time.Duration {
	n := len(s.latencies)
	return s.latencies[min(n-1, int(float64(n)*p/100))]
}

// ammunition is what a slice may send: messages by user, with the tokens of the
// pool from ≤ n < to.
type ammunition struct {
	messages []message
	pool     pool
	from, to int
	// inspect, if any, looks at every answer, which is valid until it returns.
	inspect func(answer) error
}

func (a ammunition) look(got answer) error {
	if a.inspect == nil {
		return nil
	}
	return a.inspect(got)
}

// fire has every connection ask, one request after the other, until the time is
// over or the ammunition used up. After an error the client cannot be used again.
func (c *client) fire(ctx context.Context, a ammunition, duration time.Duration) (slice, error) {
	if err := c.refresh(); err != nil {
		return slice{}, err
	}
	s := slice{}
	started := time.Now()
	next, waiting := a.from, 0
	// ask sends the next message, if there is to be one.
	ask := func(conn *connection, now time.Time) error {
		if next == a.to || now.Sub(started) > duration {
			return nil
		}
		n := next
		next, waiting = n+1, waiting+1
		return conn.send(a.messages[n%a.pool.users], a.pool.tokens[n])
	}
	for _, conn := range c.connections {
		if err := ask(conn, started); err != nil {
			return s, err
		}
	}
	for waiting > 0 {
		ready, err := c.wait(ctx)
		if err != nil {
			return s, err
		}
		for _, conn := range ready {
			got, complete, err := conn.receive()
			if err == nil && complete {
				now := time.Now()
				s.latencies = append(s.latencies, now.Sub(conn.sent))
				waiting--
				err = errors.Join(a.look(got), ask(conn, now))
			}
			if err != nil {
				return s, err
			}
		}
	}
	s.elapsed = time.Since(started)
	if len(s.latencies) == 0 {
		return s, errors.New("no request was sent")
	}
	slices.Sort(s.latencies)
	return s, nil
}

// length has all answers' bodies be so long.
func length(want int) func(answer) error {
	return func(got answer) error {
		if len(got.body) != want {
			return fmt.Errorf("answered with %d bytes where it was %d at first", len(got.body), want)
		}
		return nil
	}
}
