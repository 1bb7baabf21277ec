package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
)

// Error is what went wrong with an HTTP call of ours, in words that this
// machine chose: net/http quotes what does not read as HTTP, and a server may have
// put the very token there that it was sent. err is the error of an [http.Client]
// that follows no redirect, or of reading an answer's body; it is not nil, and
// what is returned does not wrap it. errors.Is finds the end of a context, io.EOF
// and io.ErrUnexpectedEOF, and the system's own errors.
func Error(err error) error {
	kind := kindOf(err)
	if call, ok := errors.AsType[*url.Error](err); ok {
		return fmt.Errorf("%s %s: %w", call.Op, call.URL, kind)
	}
	return kind
}

func kindOf(err error) error {
	for _, known := range []error{
		context.Canceled, context.DeadlineExceeded, io.ErrUnexpectedEOF, io.EOF, http.ErrSchemeMismatch,
	} {
		if errors.Is(err, known) {
			return known
		}
	}
	if e, ok := errors.AsType[*net.OpError](err); ok {
		return e
	}
	if e, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return e
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return errors.New("no answer in time")
	}
	return errors.New("the answer does not read as HTTP")
}
