package endpoint

import (
	"bytes"
	"crypto/tls"
	"net"
	"strconv"
)

// plainConn is a connection of HTTP/1, or of HTTP/2 without TLS.
type plainConn struct{ checked }

// secureConn is a connection of HTTP/1 with TLS.
type secureConn struct{ checked }

// ConnectionState lets net/http tell of TLS in its requests.
func (c *secureConn) ConnectionState() tls.ConnectionState {
	if secure, ok := c.Conn.(*tls.Conn); ok {
		return secure.ConnectionState()
	}
	return tls.ConnectionState{}
}

// checked is a connection whose requests have no line of header that continues
// another (obs-fold; RFC 9112, section 5.2): net/http takes them, and what stands
// before stagedoor may read them otherwise. It reads along with net/http, which is the
// only reader.
type checked struct {
	net.Conn
	state  state
	line   []byte // the current line of a header, as far as it was read
	length int64  // of the body, of which so much is still to come
	last   bool   // whether the connection ends with the answer to this request
	put    []byte // to be read next
}

type state int

const (
	between  state = iota // before a request
	first                 // in the first line of a request
	header                // in a line of its header
	body                  // in its body
	finished              // no other request is read from this connection
)

// malformed is read in place of a line that continues another. Net/http answers it
// with 400, and closes the connection.
const malformed = "a line that continues another is not taken\r\n\r\n"

// mostOfLine is as much as is kept of a line, which net/http bounds too.
const mostOfLine = maxHeaderBytes

func (c *checked) Read(p []byte) (int, error) {
	if len(c.put) > 0 {
		n := copy(p, c.put)
		c.put = c.put[n:]
		return n, nil
	}
	n, err := c.Conn.Read(p)
	if good := c.check(p[:n]); good < n {
		c.state, c.put = finished, []byte(malformed)
		if good == 0 {
			return c.Read(p)
		}
		return good, nil
	}
	return n, err
}

// check reads on, and returns how much of text is good.
func (c *checked) check(text []byte) int {
	for i := 0; i < len(text); {
		rest := text[i:]
		switch c.state {
		case finished:
			return len(text)
		case body:
			n := min(c.length, int64(len(rest)))
			if c.length -= n; c.length == 0 {
				c.state = between
			}
			i += int(n)
			continue
		case between:
			if rest[0] == '\r' || rest[0] == '\n' { // net/http skips them
				i++
				continue
			}
			c.state, c.line, c.length, c.last = first, c.line[:0], 0, false
		case header:
			if len(c.line) == 0 && (rest[0] == ' ' || rest[0] == '\t') {
				return i
			}
		}
		end := bytes.IndexByte(rest, '\n')
		if end < 0 {
			if len(c.line) < mostOfLine {
				c.line = append(c.line, rest...)
			}
			return len(text)
		}
		line := rest[:end] // mostly whole, and then not copied
		if len(c.line) > 0 {
			line = append(c.line, line...)
		}
		c.ended(bytes.TrimRight(line, "\r"))
		c.line = c.line[:0]
		i += end + 1
	}
	return len(text)
}

// ended takes note of a line of the first line and the header, which is complete.
func (c *checked) ended(line []byte) {
	switch {
	case c.state == first:
		c.state = header
		if bytes.HasPrefix(line, []byte("PRI ")) { // HTTP/2 begins
			c.state = finished
		}
	case len(line) == 0:
		switch {
		case c.last:
			c.state = finished
		case c.length > 0:
			c.state = body
		default:
			c.state = between
		}
	default:
		c.field(line)
	}
}

// field takes note of a field of the header that says where the body ends.
func (c *checked) field(line []byte) {
	name, value, _ := bytes.Cut(line, []byte(":"))
	switch {
	case bytes.EqualFold(name, []byte("Transfer-Encoding")):
		c.last = true // see polite
	case bytes.EqualFold(name, []byte("Content-Length")):
		n, err := strconv.ParseInt(string(bytes.TrimSpace(value)), 10, 64)
		if err != nil || n < 0 {
			c.last = true // net/http refuses it, and closes
			return
		}
		c.length = n
	}
}
