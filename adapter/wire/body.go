package wire

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
	"golang.org/x/text/encoding/unicode"
)

// ReadBody reads the JSON body of r to its end and returns it as UTF-8, perhaps
// with a byte order mark. A body of another content type, or of none, is not
// looked at and counts as empty, which [DecodeRequest] reads as {}. The memory of
// buffer is overwritten, up to its capacity, and may be that of what is returned.
//
// The charset may be utf-8, which need not be said, utf-16, utf-16le or utf-16be,
// and the content encoding gzip or deflate (that is, zlib). limit is in bytes and
// holds for what comes over the connection as well as for what that inflates to.
//
// The error is an [*Error]: UnsupportedMediaTypeError for another charset or
// encoding, PayloadTooLargeError beyond the limit, InputError where the body broke
// off or does not inflate. All this is as body-parser 1.20 does it in
// @backstage/backend-defaults 0.19.0.
func ReadBody(r *http.Request, limit int64, buffer []byte) ([]byte, error) {
	charset, isJSON := jsonCharset(r.Header.Get("Content-Type"))
	if !isJSON || r.ContentLength == 0 {
		return nil, nil
	}
	toUTF8, err := decoderOf(charset)
	if err != nil {
		return nil, err
	}
	body, err := readInflated(r, limit, buffer)
	if err != nil {
		return nil, unreadable(err)
	}
	if body, err = toUTF8(body); err != nil {
		return nil, unreadable(err)
	}
	return body, nil
}

// jsonCharset returns the charset of a JSON content type, in lower case, and
// whether it is one.
func jsonCharset(contentType string) (charset string, isJSON bool) {
	mediaType, params, err := mime.ParseMediaType(contentType)
	return strings.ToLower(params["charset"]), err == nil && mediaType == "application/json"
}

// decoderOf returns what makes UTF-8 of a charset.
func decoderOf(charset string) (func([]byte) ([]byte, error), error) {
	switch charset {
	case "", "utf-8":
		return func(b []byte) ([]byte, error) { return b, nil }, nil
	case "utf-16le":
		return unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM).NewDecoder().Bytes, nil
	case "utf-16be":
		return unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM).NewDecoder().Bytes, nil
	case "utf-16":
		return decodeUTF16, nil
	default:
		return nil, UnsupportedMediaTypeError("charset %s is not supported", excerpt(charset))
	}
}

// decodeUTF16 finds the byte order by the byte order mark or, without one, by the
// first character, which is ASCII in any JSON (RFC 4627, section 3).
func decodeUTF16(b []byte) ([]byte, error) {
	order := unicode.LittleEndian
	if bytes.HasPrefix(b, []byte{0xFE, 0xFF}) || bytes.HasPrefix(b, []byte{0}) {
		order = unicode.BigEndian
	}
	return unicode.UTF16(order, unicode.IgnoreBOM).NewDecoder().Bytes(b)
}

// readInflated reads the body to its end into buffer and undoes its content encoding.
func readInflated(r *http.Request, limit int64, buffer []byte) ([]byte, error) {
	// Several headers are one list, and no list of encodings is known.
	encoding := strings.ToLower(strings.Join(r.Header.Values("Content-Encoding"), ", "))
	if r.ContentLength > limit {
		return nil, &http.MaxBytesError{Limit: limit}
	}
	// The compressed body is limited too, as it may go on for ever without inflating
	// to anything.
	body := http.MaxBytesReader(nil, r.Body, limit)
	var inflated io.ReadCloser
	var err error
	switch encoding {
	case "", "identity":
		return readAll(body, r.ContentLength, buffer)
	case "gzip":
		inflated, err = gzip.NewReader(body)
	case "deflate":
		inflated, err = zlib.NewReader(body)
	default:
		return nil, UnsupportedMediaTypeError("content encoding %s is not supported", excerpt(encoding))
	}
	if err != nil {
		return nil, err
	}
	return readAll(http.MaxBytesReader(nil, inflated, limit), r.ContentLength, buffer)
}

// readAll reads to the end, into buffer as far as it reaches. A caller may claim any
// size: there is room for a little of it at first, and then for a few times what has
// come.
func readAll(body io.Reader, size int64, buffer []byte) ([]byte, error) {
	const first, times = 64 << 10, 4
	room := int64(bytes.MinRead)
	if size > 0 {
		room = min(size, first) + 1 // by which the end shows
	}
	b := slices.Grow(buffer[:0], int(room))
	for {
		n, err := body.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		switch {
		case err == io.EOF:
			return b, nil
		case err != nil:
			return nil, err
		case len(b) < cap(b):
		case int64(len(b)) < size:
			b = slices.Grow(b, int(min(size-int64(len(b)), (times-1)*int64(len(b))))+bytes.MinRead)
		default:
			b = slices.Grow(b, len(b))
		}
	}
}

// unreadable is the answer to a body that did not come whole.
func unreadable(err error) error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if e, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return PayloadTooLargeError("the body is larger than %d bytes, the limit", e.Limit)
	}
	return InputError("the body could not be read to its end").Because(err)
}
