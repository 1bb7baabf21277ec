package policy

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	bundleplugin "github.com/open-policy-agent/opa/v1/plugins/bundle"
	"github.com/open-policy-agent/opa/v1/plugins/discovery"
	"github.com/sirupsen/logrus"

	"github.com/stagedoor/stagedoor/adapter/wire"
	"github.com/stagedoor/stagedoor/rego"
)

// logBuffer keeps what was logged. It is safe for concurrent use.
type logBuffer struct {
	mutex sync.Mutex
	text  bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.text.String()
}

func newTestLog() (*logrus.Entry, *logBuffer) {
	buffer := &logBuffer{}
	logger := logrus.New()
	logger.SetOutput(buffer)
	logger.SetLevel(logrus.DebugLevel)
	logger.SetFormatter(&logrus.JSONFormatter{})
	return logrus.NewEntry(logger), buffer
}

// newEngine starts an engine that ends with the test.
func newEngine(t testing.TB, o Options) *Engine {
	t.Helper()
	e, err := tryEngine(t, o)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func tryEngine(t testing.TB, o Options) (*Engine, error) {
	t.Helper()
	if o.Log == nil {
		o.Log, _ = newTestLog()
	}
	if o.Library == nil {
		o.Library = rego.Modules()
	}
	e, err := New(t.Context(), o)
	if err == nil {
		t.Cleanup(func() { e.Close(context.Background()) })
	}
	return e, err
}

// files are those of a bundle, by path.
type files map[string]string

// with returns the files with some more, or others.
func (f files) with(more files) files {
	all := maps.Clone(f)
	maps.Copy(all, more)
	return all
}

func manifest(revision string, roots ...string) string {
	text, err := json.Marshal(map[string]any{"revision": revision, "roots": roots})
	if err != nil {
		panic(err)
	}
	return string(text)
}

// archive is a bundle.tar.gz of the files.
func archive(t testing.TB, f files) []byte {
	t.Helper()
	var buffer bytes.Buffer
	zip := gzip.NewWriter(&buffer)
	tape := tar.NewWriter(zip)
	for _, name := range slices.Sorted(maps.Keys(f)) {
		header := &tar.Header{Name: "/" + name, Mode: 0o644, Size: int64(len(f[name])), Typeflag: tar.TypeReg}
		if err := tape.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		if _, err := tape.Write([]byte(f[name])); err != nil {
			t.Fatal(err)
		}
	}
	if err := tape.Close(); err != nil {
		t.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	return buffer.Bytes()
}

// bundleServer serves bundles by path, with ETag. It is safe for concurrent use.
type bundleServer struct {
	*httptest.Server
	mutex   sync.Mutex
	bundles map[string][]byte
}

func newBundleServer(t testing.TB) *bundleServer {
	s := &bundleServer{bundles: map[string][]byte{}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *bundleServer) put(path string, content []byte) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.bundles["/"+path] = content
}

func (s *bundleServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mutex.Lock()
	content := s.bundles[r.URL.Path]
	s.mutex.Unlock()
	if content == nil {
		http.NotFound(w, r)
		return
	}
	etag := fmt.Sprintf("%q", fmt.Sprintf("%x", sha256.Sum256(content)))
	w.Header().Set("ETag", etag)
	if r.Header.Get("If-None-Match") == etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.Header().Set("Content-Type", "application/gzip")
	_, _ = w.Write(content)
}

// opaFor is OPA's configuration for bundles of the server that are fetched when
// the test says so.
func opaFor(t testing.TB, s *bundleServer, extra map[string]any, bundles ...string) json.RawMessage {
	t.Helper()
	sources := map[string]any{}
	for _, name := range bundles {
		sources[name] = map[string]any{"service": "s", "resource": name, "trigger": "manual"}
	}
	document := map[string]any{
		"services": map[string]any{"s": map[string]any{"url": s.URL}},
		"bundles":  sources,
	}
	maps.Copy(document, extra)
	return toJSON(t, document)
}

func toJSON(t testing.TB, v any) json.RawMessage {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// fetch lets OPA ask for one bundle now.
func (e *Engine) fetch(t testing.TB, name string) error {
	t.Helper()
	loader := bundleplugin.Lookup(e.manager).Loaders()[name]
	if loader == nil {
		t.Fatalf("no bundle %s is configured", name)
	}
	return loader.Trigger(t.Context())
}

func (e *Engine) mustFetch(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := e.fetch(t, name); err != nil {
			t.Fatalf("bundle %s: %v", name, err)
		}
	}
}

// discover lets OPA ask for its configuration now.
func (e *Engine) discover(t testing.TB) {
	t.Helper()
	if err := discovery.Lookup(e.manager).Trigger(t.Context()); err != nil {
		t.Fatal(err)
	}
}

var ann = Caller{User: "user:default/ann", Claims: []string{"user:default/ann", "group:default/web"}}

func basic(name string) wire.Permission { return wire.Permission{Name: name} }

// answer is the answer to a basic permission for ann, and the revision that gave it.
func (e *Engine) answer(t testing.TB, name string) (wire.Result, string) {
	t.Helper()
	batch, err := e.Decide(t.Context(), ann, []wire.Permission{basic(name)})
	if err != nil {
		t.Fatal(err)
	}
	if err := batch.Outcomes[0].Err; err != nil {
		t.Fatal(err)
	}
	return batch.Outcomes[0].Decision.Result, batch.Revision
}

func (e *Engine) wantAnswer(t testing.TB, name string, want wire.Result) {
	t.Helper()
	if got, revision := e.answer(t, name); got != want {
		t.Errorf("%s is answered %v by revision %s, want %v", name, got, revision, want)
	}
}

// refusal is why the bundle was refused.
func (s Status) refusal(bundle string) string {
	for _, r := range s.Refused {
		if r.Bundle == bundle {
			return r.Reason
		}
	}
	return ""
}

// eventually waits until ok.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	// A busy machine takes more than a minute to mask and send some ten megabytes.
	for end := time.Now().Add(3 * time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("it did not come to be: %s", what)
}

// allowing is a policy that allows the named permission alone.
func allowing(revision, name string) files {
	return files{
		".manifest": manifest(revision, "a"),
		"a.rego": `package a

# METADATA
# entrypoint: true
default allow := false

allow if input.permission.name == "` + name + `"
`,
	}
}

func mustContain(t testing.TB, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q\ndoes not contain %q", text, part)
		}
	}
}
