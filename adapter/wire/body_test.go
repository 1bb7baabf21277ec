package wire

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"
)

// pack compresses by a writer that compress makes.
func pack(t testing.TB, text string, compress func(io.Writer) io.WriteCloser) []byte {
	t.Helper()
	var b bytes.Buffer
	w := compress(&b)
	_, err := io.WriteString(w, text)
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gzipWriter(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) }

func zlibWriter(w io.Writer) io.WriteCloser { return zlib.NewWriter(w) }

// utf16Bytes is text in UTF-16, low byte first or not.
func utf16Bytes(text string, little bool) []byte {
	var b []byte
	for _, unit := range utf16.Encode([]rune(text)) {
		high, low := byte(unit>>8), byte(unit)
		if little {
			high, low = low, high
		}
		b = append(b, high, low)
	}
	return b
}

func TestReadBody(t *testing.T) {
	const text = `{"items":[],"x":"é😀"}`
	const limit = 1000
	long := strings.Repeat(" ", limit-len(text)) + text
	gz := func(text string) []byte { return pack(t, text, gzipWriter) }
	tests := []struct {
		name        string
		contentType string
		encoding    []string
		body        []byte
		want        string // the body, or the error's name and text
	}{
		{"plain", "application/json", nil, []byte(text), text},
		{"in capitals", "Application/JSON", nil, []byte(text), text},
		{"charset", "application/json; charset=utf-8", nil, []byte(text), text},
		{"charset in capitals and quotes", `application/json;charset="UTF-8"`, nil, []byte(text), text},
		{"other parameter", "application/json; x=y", nil, []byte(text), text},
		{"byte order mark", "application/json", nil, []byte("\uFEFF" + text), "\uFEFF" + text},
		{"what no JSON is", "application/json", nil, []byte("not json"), "not json"},

		{"utf-16, low first", "application/json; charset=utf-16", nil, utf16Bytes(text, true), text},
		{"utf-16, high first", "application/json; charset=utf-16", nil, utf16Bytes(text, false), text},
		{"utf-16 with mark, low first", "application/json; charset=UTF-16", nil, utf16Bytes("\uFEFF"+text, true),
			"\uFEFF" + text},
		{"utf-16 with mark, high first", "application/json; charset=utf-16", nil, utf16Bytes("\uFEFF"+text, false),
			"\uFEFF" + text},
		{"utf-16le", "application/json; charset=utf-16le", nil, utf16Bytes(text, true), text},
		{"utf-16be", "application/json; charset=utf-16be", nil, utf16Bytes(text, false), text},
		{"utf-16 cut in half", "application/json; charset=utf-16le", nil, utf16Bytes("[1", true)[:3], "[\uFFFD"},
		{"utf-16 inflated", "application/json; charset=utf-16le", []string{"gzip"}, gz(string(utf16Bytes(text, true))), text},

		{"no content type", "", nil, []byte(text), ""},
		{"text", "text/plain", nil, []byte(text), ""},
		{"form", "application/x-www-form-urlencoded", nil, []byte("items=1"), ""},
		{"JSON of another kind", "application/vnd.api+json", nil, []byte(text), ""},
		{"JSON in text", "text/json", nil, []byte(text), ""},
		{"content type that is none", "application/json; charset", nil, []byte(text), ""},
		{"two content types", "application/json, text/plain", nil, []byte(text), ""},
		{"not JSON in an unknown encoding", "text/plain", []string{"zstd-x"}, []byte(text), ""},
		{"empty", "application/json", nil, nil, ""},
		{"empty in an unknown encoding and charset", "application/json; charset=x", []string{"zstd-x"}, nil, ""},

		{"latin1", "application/json; charset=ISO-8859-1", nil, []byte(text),
			`UnsupportedMediaTypeError: charset "iso-8859-1" is not supported`},
		{"utf8 without its dash", "application/json; charset=utf8", nil, []byte(text),
			`UnsupportedMediaTypeError: charset "utf8" is not supported`},
		{"utf-7", "application/json; charset=utf-7", nil, []byte(text),
			`UnsupportedMediaTypeError: charset "utf-7" is not supported`},

		{"gzip", "application/json", []string{"gzip"}, gz(text), text},
		{"gzip in capitals", "application/json", []string{"GZIP"}, gz(text), text},
		{"gzip in two members", "application/json", []string{"gzip"}, append(gz(text[:9]), gz(text[9:])...), text},
		{"deflate", "application/json", []string{"deflate"}, pack(t, text, zlibWriter), text},
		{"identity", "application/json", []string{"identity"}, []byte(text), text},
		{"brotli", "application/json", []string{"br"}, []byte(text),
			`UnsupportedMediaTypeError: content encoding "br" is not supported`},
		{"unknown encoding", "application/json", []string{"zstd-x"}, []byte(text),
			`UnsupportedMediaTypeError: content encoding "zstd-x" is not supported`},
		{"two encodings", "application/json", []string{"gzip, gzip"}, gz(string(gz(text))),
			`UnsupportedMediaTypeError: content encoding "gzip, gzip" is not supported`},
		{"two encoding headers", "application/json", []string{"gzip", "deflate"}, gz(text),
			`UnsupportedMediaTypeError: content encoding "gzip, deflate" is not supported`},
		{"gzip that is none", "application/json", []string{"gzip"}, []byte(text),
			`InputError: the body could not be read to its end`},
		{"gzip cut short", "application/json", []string{"gzip"}, gz(text)[:len(gz(text))-1],
			`InputError: the body could not be read to its end`},
		{"gzip cut after its data", "application/json", []string{"gzip"}, gz(text)[:len(gz(text))-8],
			`InputError: the body could not be read to its end`},
		{"gzip with a wrong checksum", "application/json", []string{"gzip"}, flip(gz(text), -8),
			`InputError: the body could not be read to its end`},
		{"gzip with garbage after it", "application/json", []string{"gzip"}, append(gz(text), "garbage"...),
			`InputError: the body could not be read to its end`},
		{"deflate cut short", "application/json", []string{"deflate"}, pack(t, text, zlibWriter)[:20],
			`InputError: the body could not be read to its end`},
		{"deflate with a wrong checksum", "application/json", []string{"deflate"}, flip(pack(t, text, zlibWriter), -1),
			`InputError: the body could not be read to its end`},
		{"deflate without zlib", "application/json", []string{"deflate"}, pack(t, text, zlibWriter)[2:],
			`InputError: the body could not be read to its end`},

		{"at the limit", "application/json", nil, []byte(long), long},
		{"over the limit", "application/json", nil, []byte(" " + long),
			`PayloadTooLargeError: the body is larger than 1000 bytes, the limit`},
		{"inflated to the limit", "application/json", []string{"gzip"}, gz(long), long},
		{"inflated over the limit", "application/json", []string{"gzip"}, gz(" " + long),
			`PayloadTooLargeError: the body is larger than 1000 bytes, the limit`},
		{"deflate over the limit", "application/json", []string{"deflate"}, pack(t, " "+long, zlibWriter),
			`PayloadTooLargeError: the body is larger than 1000 bytes, the limit`},
		{"compressed over the limit though empty", "application/json", []string{"gzip"}, bytes.Repeat(gz(""), 100),
			`PayloadTooLargeError: the body is larger than 1000 bytes, the limit`},
	}
	for _, test := range tests {
		for _, chunked := range []bool{false, true} {
			if chunked && len(test.body) == 0 {
				continue // TestReadBodyEmptyChunked
			}
			t.Run(fmt.Sprintf("%s/chunked %t", test.name, chunked), func(t *testing.T) {
				for _, size := range []int{0, 1, 600, 4000} { // of memory that was another's
					r := httptest.NewRequest(http.MethodPost, "/authorize", bytes.NewReader(test.body))
					r.Header.Set("Content-Type", test.contentType)
					r.Header["Content-Encoding"] = test.encoding
					if chunked {
						r.Body, r.ContentLength = io.NopCloser(iotest.OneByteReader(r.Body)), -1
					}
					if diff := cmp.Diff(test.want, readBody(r, limit, bytes.Repeat([]byte("x"), size))); diff != "" {
						t.Errorf("into %d bytes (-want +got):\n%s", size, diff)
					}
				}
			})
		}
	}
}

// readBody is the body, or the name and text of the error.
func readBody(r *http.Request, limit int64, buffer []byte) string {
	body, err := ReadBody(r, limit, buffer)
	if err == nil {
		return string(body)
	}
	if body != nil {
		return fmt.Sprintf("%q came with %v", body, err)
	}
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return fmt.Sprintf("no *Error: %v", err)
	}
	status := map[string]int{"InputError": 400, "PayloadTooLargeError": 413, "UnsupportedMediaTypeError": 415}
	if e.Status != status[e.Name] {
		return fmt.Sprintf("%s with status %d", e.Name, e.Status)
	}
	return e.Name + ": " + e.Public
}

// flip changes one byte, counted from the end.
func flip(b []byte, i int) []byte {
	b = bytes.Clone(b)
	b[len(b)+i] ^= 1
	return b
}

func TestReadBodyEmptyChunked(t *testing.T) {
	r := httptest.NewRequest(http.MethodPost, "/authorize", io.NopCloser(strings.NewReader("")))
	r.Header.Set("Content-Type", "application/json")
	r.ContentLength = -1
	if got := readBody(r, 1000, nil); got != "" {
		t.Errorf("got %s", got)
	}
}

// A body that breaks off is an error, also where what came would do.
func TestReadBodyBrokenOff(t *testing.T) {
	broken := errors.New("connection reset")
	const text = `{"items":[]}`
	tests := []struct {
		name, encoding string
		body           io.Reader
	}{
		{"plain", "", strings.NewReader(text)},
		{"gzip", "gzip", bytes.NewReader(pack(t, text, gzipWriter))},
		{"gzip at once", "gzip", strings.NewReader("")},
		{"deflate cut", "deflate", bytes.NewReader(pack(t, text, zlibWriter)[:10])},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, "/authorize", io.MultiReader(test.body, iotest.ErrReader(broken)))
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("Content-Encoding", test.encoding)
			body, err := ReadBody(r, 1000, nil)
			e, ok := errors.AsType[*Error](err)
			if !ok || e.Name != "InputError" || e.Status != http.StatusBadRequest || body != nil {
				t.Fatalf("got %q and %#v", body, err)
			}
			if !errors.Is(err, broken) {
				t.Errorf("the cause is %v", e.Cause)
			}
		})
	}
}

// Over a real connection, the server's own errors count as well.
func TestReadBodyOfAClientThatGoesAway(t *testing.T) {
	got := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got <- readBody(r, 1000, nil)
	}))
	defer server.Close()
	request, err := http.NewRequest(http.MethodPost, server.URL, io.MultiReader(
		strings.NewReader(`{"items":[]}`), iotest.ErrReader(errors.New("gone"))))
	if err != nil {
		t.Fatal(err)
	}
	request.ContentLength = 20
	request.Header.Set("Content-Type", "application/json")
	if response, err := server.Client().Do(request); err == nil {
		response.Body.Close()
		t.Error("the request was answered")
	}
	if got, want := <-got, "InputError: the body could not be read to its end"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// A few bytes that inflate to very many cost no more than the limit.
func TestReadBodyBomb(t *testing.T) {
	bomb := pack(t, strings.Repeat(" ", 64<<20), gzipWriter)
	const limit = 1 << 20
	r := httptest.NewRequest(http.MethodPost, "/authorize", bytes.NewReader(bomb))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Content-Encoding", "gzip")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	got := readBody(r, limit, nil)
	runtime.ReadMemStats(&after)
	if want := "PayloadTooLargeError: the body is larger than 1048576 bytes, the limit"; got != want {
		t.Errorf("got %.100s", got)
	}
	if allocated := after.TotalAlloc - before.TotalAlloc; allocated > 8*limit {
		t.Errorf("allocated %d bytes", allocated)
	}
}

// A length that a caller merely claims is not allocated.
func TestReadBodyClaimedLength(t *testing.T) {
	r := httptest.NewRequest(http.MethodPost, "/authorize", strings.NewReader("{}"))
	r.Header.Set("Content-Type", "application/json")
	r.ContentLength = 1 << 30
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	readBody(r, 1<<31, nil)
	runtime.ReadMemStats(&after)
	if allocated := after.TotalAlloc - before.TotalAlloc; allocated > 1<<20 {
		t.Errorf("allocated %d bytes", allocated)
	}
}

// What a request of 10 MiB allocates on its way, garbage included, stays within a
// few times its size: room is made as the body comes, up to the length announced.
func TestRequestMemory(t *testing.T) {
	const size = 10 << 20
	body := `{"items":[]` + strings.Repeat(" ", size-len(`{"items":[]}`)) + `}`
	for name, length := range map[string]int64{"announced": size, "not announced": -1} {
		r := httptest.NewRequest(http.MethodPost, "/authorize", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		r.ContentLength = length
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		text, err := ReadBody(r, size, nil)
		if err == nil {
			_, err = DecodeRequest(text, usual)
		}
		runtime.ReadMemStats(&after)
		if err != nil || len(text) != size {
			t.Fatalf("%d bytes, %v", len(text), err)
		}
		allocated := after.TotalAlloc - before.TotalAlloc
		t.Logf("%s: %.1f MiB", name, float64(allocated)/(1<<20))
		if length > 0 && allocated > 4*size {
			t.Errorf("%s: allocated %d bytes for %d", name, allocated, size)
		}
	}
}
