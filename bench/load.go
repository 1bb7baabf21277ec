package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// message is a request in bytes. Where head ends with the name of a bearer token,
// a token of the pool stands between head and tail.
type message struct {
	head, tail []byte
	bearer     bool
}

// longestAnswer bounds the time that a target may take for one request.
const longestAnswer = 2 * time.Minute

// client is a number of connections to one target.
type client struct {
	address     string
	connections []*connection
}

type connection struct {
	net.Conn
	answers *bufio.Reader
	request []byte
	used    time.Time // last
}

func dial(ctx context.Context, address string, connections int) (*client, error) {
	c := &client{address: address}
	for range connections {
		conn := &connection{}
		if err := conn.dial(ctx, address); err != nil {
			c.close()
			return nil, err
		}
		c.connections = append(c.connections, conn)
	}
	return c, nil
}

func (c *connection) dial(ctx context.Context, address string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	c.Conn, c.answers, c.used = conn, bufio.NewReaderSize(conn, 64<<10), time.Now()
	return nil
}

// refresh dials anew where a connection has been idle for so long, since its last
// request was answered long before another's, that a server may close it. Node does
// so after 5 seconds.
func (c *client) refresh(ctx context.Context) error {
	const idle = 2 * time.Second
	for _, conn := range c.connections {
		if time.Since(conn.used) < idle {
			continue
		}
		_ = conn.Close()
		if err := conn.dial(ctx, c.address); err != nil {
			return err
		}
	}
	return nil
}

func (c *client) close() {
	for _, conn := range c.connections {
		_ = conn.Close()
	}
}

// ask sends one message and hands the answer, which must be a 200, to read.
func (c *connection) ask(m message, token string, read func(*http.Response) error) error {
	c.request = append(c.request[:0], m.head...)
	if m.bearer {
		c.request = append(c.request, token...)
	}
	c.request = append(c.request, m.tail...)
	if _, err := c.Write(c.request); err != nil {
		return err
	}
	answer, err := http.ReadResponse(c.answers, nil)
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(answer.Body, 1000))
		return fmt.Errorf("answered with %s: %s", answer.Status, text)
	}
	if answer.Close {
		return errors.New("does not keep the connection")
	}
	return read(answer)
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
	length   int64 // of every answer's body; 0 for any
}

// fire has every connection ask, one request after the other, until the time is
// over or the ammunition used up.
func (c *client) fire(ctx context.Context, a ammunition, duration time.Duration) (slice, error) {
	if err := c.refresh(ctx); err != nil {
		return slice{}, err
	}
	var next atomic.Int64
	next.Store(int64(a.from))
	failed := make([]error, len(c.connections))
	latencies := make([][]time.Duration, len(c.connections))
	started := time.Now()
	end := started.Add(duration)
	var group sync.WaitGroup
	for i, conn := range c.connections {
		_ = conn.SetDeadline(end.Add(longestAnswer))
		group.Go(func() {
			for failed[i] == nil {
				sent := time.Now()
				n := int(next.Add(1) - 1)
				if sent.After(end) || n >= a.to || ctx.Err() != nil {
					conn.used = sent
					return
				}
				failed[i] = conn.ask(a.messages[n%a.pool.users], a.pool.tokens[n], a.check)
				latencies[i] = append(latencies[i], time.Since(sent))
			}
		})
	}
	group.Wait()
	s := slice{elapsed: time.Since(started), latencies: slices.Concat(latencies...)}
	slices.Sort(s.latencies)
	err := errors.Join(append(failed, ctx.Err())...)
	if err == nil && len(s.latencies) == 0 {
		err = errors.New("no request was sent")
	}
	return s, err
}

// check reads an answer to its end.
func (a ammunition) check(answer *http.Response) error {
	n, err := io.Copy(io.Discard, answer.Body)
	if err == nil && a.length != 0 && n != a.length {
		err = fmt.Errorf("answered with %d bytes where it was %d at first", n, a.length)
	}
	return err
}
