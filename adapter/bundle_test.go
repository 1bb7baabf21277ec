package adapter_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stagedoor/stagedoor/adapter/fixture"
)

// opaTool is the path of the stock OPA that go.mod names, which Go builds and caches.
var opaTool = sync.OnceValues(func() (string, error) {
	path, err := exec.Command("go", "tool", "-n", "opa").Output()
	if err != nil {
		return "", fmt.Errorf("go tool -n opa: %w", err)
	}
	return strings.TrimSpace(string(path)), nil
})

// runOPA runs the stock OPA in the folder and returns what it wrote.
func runOPA(t testing.TB, dir string, args ...string) string {
	t.Helper()
	path, err := opaTool()
	check(t, err)
	command := exec.CommandContext(t.Context(), path, args...)
	command.Dir = dir
	out, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("opa %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// signer signs bundles by the stock OPA.
type signer struct {
	keyFile string
	public  string // PEM
}

func newSigner(t testing.TB) *signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	private, err := x509.MarshalECPrivateKey(key)
	check(t, err)
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	check(t, err)
	s := &signer{
		keyFile: filepath.Join(t.TempDir(), "key.pem"),
		public:  string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})),
	}
	check(t, os.WriteFile(s.keyFile, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private}), 0o600))
	return s
}

// sign returns the files with their signatures, made by opa sign. It signs the
// names as seen from where it runs.
func (s *signer) sign(t testing.TB, files map[string]string) map[string]string {
	t.Helper()
	dir := writeBundle(t, files)
	runOPA(t, dir, "sign", "--signing-key", s.keyFile, "--signing-alg", "ES256", "--bundle", ".")
	signatures, err := os.ReadFile(filepath.Join(dir, ".signatures.json"))
	check(t, err)
	signed := maps.Clone(files)
	signed[".signatures.json"] = string(signatures)
	return signed
}

// build returns the bundle that opa build makes of the files, signed.
func (s *signer) build(t testing.TB, files map[string]string, revision string) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "bundle.tar.gz")
	runOPA(t, writeBundle(t, files), "build", "-b", ".", "--revision", revision,
		"--signing-key", s.keyFile, "--signing-alg", "ES256", "-o", out)
	content, err := os.ReadFile(out)
	check(t, err)
	return content
}

// archive is a bundle.tar.gz of the files.
func archive(t testing.TB, files map[string]string) []byte {
	t.Helper()
	var buffer bytes.Buffer
	zip := gzip.NewWriter(&buffer)
	tape := tar.NewWriter(zip)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		check(t, tape.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(files[name])), Typeflag: tar.TypeReg}))
		_, err := tape.Write([]byte(files[name]))
		check(t, err)
	}
	check(t, tape.Close())
	check(t, zip.Close())
	return buffer.Bytes()
}

// signed is a bundle.tar.gz of the files, signed.
func (s *signer) signed(t testing.TB, files map[string]string) []byte {
	t.Helper()
	return archive(t, s.sign(t, files))
}

// bundleServer serves bundles by path, with ETag, always at the same address. It
// is safe for concurrent use.
type bundleServer struct {
	address  string
	mutex    sync.Mutex
	server   *http.Server
	bundles  map[string][]byte
	changed  chan struct{} // closed with the next put
	fault    http.HandlerFunc
	requests atomic.Int64
	// guard looks at each request first.
	guard func(*http.Request) bool
}

func newBundleServer(t testing.TB) *bundleServer {
	t.Helper()
	s := &bundleServer{address: fixture.Address(t), bundles: map[string][]byte{}, changed: make(chan struct{})}
	s.up(t)
	t.Cleanup(s.down)
	return s
}

// URL is where the server is, or was.
func (s *bundleServer) URL() string { return "http://" + s.address }

// up lets the server listen, always at the same address.
func (s *bundleServer) up(t testing.TB) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", s.address)
	check(t, err)
	server := &http.Server{Handler: s, ReadHeaderTimeout: time.Minute}
	s.mutex.Lock()
	s.server = server
	s.mutex.Unlock()
	go func() { _ = server.Serve(listener) }()
}

// down lets nothing be had from the server any more.
func (s *bundleServer) down() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.server != nil {
		_ = s.server.Close()
		s.server = nil
	}
}

// put lets the server have a bundle, and none of the faults.
func (s *bundleServer) put(path string, content []byte) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.bundles["/"+path], s.fault = content, nil
	close(s.changed)
	s.changed = make(chan struct{})
}

// fail lets the server answer by the fault.
func (s *bundleServer) fail(fault http.HandlerFunc) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.fault = fault
}

func (s *bundleServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.requests.Add(1)
	if s.guard != nil && !s.guard(r) {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	for {
		s.mutex.Lock()
		content, fault, changed := s.bundles[r.URL.Path], s.fault, s.changed
		s.mutex.Unlock()
		if fault != nil {
			fault(w, r)
			return
		}
		if content == nil {
			http.NotFound(w, r)
			return
		}
		etag := fmt.Sprintf("%q", fmt.Sprintf("%x", sha256.Sum256(content)))
		wait, polls := longPoll(r)
		if r.Header.Get("If-None-Match") == etag {
			if polls {
				select {
				case <-changed:
					continue
				case <-time.After(wait):
				case <-r.Context().Done():
				}
			}
			w.Header().Set("ETag", etag)
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Header().Set("ETag", etag)
		w.Header().Set("Content-Type", "application/gzip")
		if polls {
			w.Header().Set("Content-Type", "application/vnd.openpolicyagent.bundles")
		}
		_, _ = w.Write(content)
		return
	}
}

// longPoll is how long a request wants to wait for a change.
func longPoll(r *http.Request) (time.Duration, bool) {
	for preference := range strings.SplitSeq(r.Header.Get("Prefer"), ";") {
		if seconds, found := strings.CutPrefix(preference, "wait="); found {
			wait, err := time.ParseDuration(seconds + "s")
			return wait, err == nil
		}
	}
	return 0, false
}

// patience is for what a busy machine is slow to do.
const patience = time.Minute

// eventually waits until ok.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("it did not come to be: %s", what)
}

// serves waits until the revision serves.
func (s *site) serves(t testing.TB, revision string) {
	t.Helper()
	for end := time.Now().Add(patience); s.status().Revision != revision; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("revision %s does not serve: %+v", revision, s.status())
		}
	}
}

func manifest(revision string, roots ...string) string {
	text, err := json.Marshal(map[string]any{"revision": revision, "roots": roots})
	if err != nil {
		panic(err)
	}
	return string(text)
}

// polling fetches a bundle every second, the least that OPA takes.
var polling = map[string]any{"min_delay_seconds": 1, "max_delay_seconds": 1}
