package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stagedoor/stagedoor/adapter/fixture"
	"github.com/stagedoor/stagedoor/adapter/sample"
)

// blobBytes is the size of what makes bundles slow to persist.
const blobBytes = 4 << 20

// published is one revision of the policy.
type published struct {
	revision string
	digest   string // of its data
	bundle   []byte
}

// publish makes a revision, which allows rev.N and sha256.D: its own revision,
// and the digest of its own data.
func publish(t *testing.T, random *rand.ChaCha8, number int) published {
	t.Helper()
	blob := make([]byte, blobBytes)
	_, _ = random.Read(blob) // never fails
	text := base64.StdEncoding.EncodeToString(blob)
	digest := sha256.Sum256([]byte(text))
	p := published{revision: strconv.Itoa(number), digest: hex.EncodeToString(digest[:])}
	var buffer bytes.Buffer
	zip, err := gzip.NewWriterLevel(&buffer, gzip.NoCompression)
	must(t, err)
	tape := tar.NewWriter(zip)
	for _, file := range [][2]string{
		{".manifest", fmt.Sprintf(`{"revision": %q, "roots": ["backstage/authz"]}`, p.revision)},
		{"backstage/authz/data.json", fmt.Sprintf(`{"revision": %q, "blob": %q}`, p.revision, text)},
		{"policy.rego", `package backstage.authz

# METADATA
# entrypoint: true
default allow := false

allow if input.permission.name == concat(".", ["rev", data.backstage.authz.revision])

allow if {
	startswith(input.permission.name, "sha256.")
	input.permission.name == concat(".", ["sha256", crypto.sha256(data.backstage.authz.blob)])
}
`},
	} {
		must(t, tape.WriteHeader(&tar.Header{Name: file[0], Mode: 0o644, Size: int64(len(file[1])), Typeflag: tar.TypeReg}))
		_, err := io.WriteString(tape, file[1])
		must(t, err)
	}
	must(t, tape.Close())
	must(t, zip.Close())
	p.bundle = buffer.Bytes()
	return p
}

// publisher is a bundle server with long polling, always at the same address. It
// is safe for concurrent use.
type publisher struct {
	address string
	server  *http.Server
	mutex   sync.Mutex
	current published
	changed chan struct{} // closed with the next revision
}

// newPublisher is one that is not up yet.
func newPublisher(t *testing.T) *publisher {
	t.Helper()
	return &publisher{address: fixture.Address(t)}
}

func (p *publisher) put(next published) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if p.changed != nil {
		close(p.changed)
	}
	p.current, p.changed = next, make(chan struct{})
}

func (p *publisher) up(t *testing.T) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", p.address)
	must(t, err)
	p.server = &http.Server{Handler: p, ReadHeaderTimeout: time.Minute}
	go func(server *http.Server) { _ = server.Serve(listener) }(p.server)
}

func (p *publisher) down() { _ = p.server.Close() }

func (p *publisher) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/vnd.openpolicyagent.bundles")
	for {
		p.mutex.Lock()
		current, changed := p.current, p.changed
		p.mutex.Unlock()
		if r.Header.Get("If-None-Match") != `"`+current.revision+`"` {
			w.Header().Set("ETag", `"`+current.revision+`"`)
			_, _ = w.Write(current.bundle)
			return
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}

// process is a stagedoor that runs on its own.
type process struct {
	command    *exec.Cmd
	URL, Admin string
	mutex      sync.Mutex
	log        strings.Builder
	exited     chan struct{} // closed when it has ended and its log was read
	took       time.Duration // from its start until it served
}

// start starts stagedoor and returns when it serves. It ends with the test.
func (w *persistence) start(t *testing.T) *process {
	t.Helper()
	p := &process{command: exec.Command(w.binary, "serve", "--config", w.config), exited: make(chan struct{})}
	stderr, err := p.command.StderrPipe()
	must(t, err)
	started := time.Now()
	must(t, p.command.Start())
	t.Cleanup(p.kill)
	serving := make(chan struct{})
	go func() {
		defer close(p.exited)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			var line struct{ Msg, URL, Admin string }
			if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "serving" {
				p.URL, p.Admin = line.URL, line.Admin
				close(serving)
			}
			p.mutex.Lock()
			p.log.WriteString(lines.Text() + "\n")
			p.mutex.Unlock()
		}
		_ = p.command.Wait()
	}()
	select {
	case <-serving:
		p.took = time.Since(started)
	case <-p.exited:
		t.Fatalf("it ended before it served:\n%s", p.text())
	case <-time.After(patience):
		t.Fatal("it does not serve")
	}
	return p
}

// text is what it has logged.
func (p *process) text() string {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return p.log.String()
}

// kill ends the process as kill -9 does.
func (p *process) kill() {
	_ = p.command.Process.Kill()
	<-p.exited
}

func (p *process) get(t *testing.T, path string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.Admin+path, http.NoBody)
	must(t, err)
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
	must(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	must(t, err)
	return response.StatusCode, string(text)
}

// serving is what /status says of the revision, and of what was refused.
func (p *process) serving(t *testing.T) (revision, refused string) {
	t.Helper()
	_, text := p.get(t, "/status")
	var status struct {
		Revision string
		Refused  []struct{ Reason string }
	}
	must(t, json.Unmarshal([]byte(text), &status))
	if len(status.Refused) > 0 {
		refused = status.Refused[0].Reason
	}
	return status.Revision, refused
}

// allowed asks about the names and returns those that are allowed.
func (p *process) allowed(t *testing.T, token string, names []string) (allowed []string, answer string) {
	t.Helper()
	items := make([]string, len(names))
	for i, name := range names {
		items[i] = fmt.Sprintf(`{"id":%q,"permission":{"type":"basic","name":%q,"attributes":{}}}`, name, name)
	}
	answer = ask(t, p.URL+"/authorize", token, `{"items":[`+strings.Join(items, ",")+`]}`)
	var document struct{ Items []struct{ ID, Result string } }
	must(t, json.Unmarshal([]byte(answer), &document))
	for _, item := range document.Items {
		if item.Result == "ALLOW" {
			allowed = append(allowed, item.ID)
		}
	}
	return allowed, answer
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// persistence is a stagedoor with policies from a server, which it persists.
type persistence struct {
	backstage *sample.Backstage
	publisher *publisher
	random    *rand.ChaCha8
	binary    string
	config    string
	folder    string // of what is persisted
	history   []published
}

func newPersistence(t *testing.T) *persistence {
	t.Helper()
	backstage, err := sample.New(t.Context())
	must(t, err)
	t.Cleanup(backstage.Close)
	backstage.Serve("")
	seed := [32]byte([]byte(fmt.Sprintf("%032d", time.Now().UnixNano())))
	t.Logf("seed %s", seed)
	dir := t.TempDir()
	binary, err := exec.LookPath("stagedoor") // TestMain has put it there
	must(t, err)
	w := &persistence{
		backstage: backstage, publisher: newPublisher(t), random: rand.NewChaCha8(seed),
		binary: binary, config: filepath.Join(dir, "stagedoor.yaml"),
		folder: filepath.Join(dir, "persisted", "bundles", "authz"),
	}
	w.publisher.up(t)
	t.Cleanup(w.publisher.down)
	writeConfig(t, w.config, fmt.Sprintf(`
backend: {baseUrl: %q}
stagedoor: {listen: "127.0.0.1:0", admin: {listen: "127.0.0.1:0"}}
opa:
  services: {s: {url: "http://%s"}}
  persistence_directory: %q
  bundles:
    authz:
      service: s
      resource: authz
      persist: true
      polling: {min_delay_seconds: 1, max_delay_seconds: 1, long_polling_timeout_seconds: 30}
`, backstage.URL, w.publisher.address, filepath.Join(dir, "persisted")))
	return w
}

// next publishes one more revision.
func (w *persistence) next(t *testing.T) {
	t.Helper()
	p := publish(t, w.random, len(w.history)+1)
	w.history = append(w.history, p)
	w.publisher.put(p)
	w.history[len(w.history)-1].bundle = nil // it is not needed twice
}

// file is where the last good bundle is persisted, as far as it is there.
func (w *persistence) file() string { return filepath.Join(w.folder, "bundle.tar.gz") }

// unfinished are the files that were begun to be persisted and did not come to be
// the bundle.
func (w *persistence) unfinished(t *testing.T) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(w.folder, ".bundle.tar.gz.*.tmp"))
	must(t, err)
	return names
}

// persisted publishes a revision and waits until it is the persisted one.
func (w *persistence) persisted(t *testing.T) time.Duration {
	t.Helper()
	before, _ := os.Stat(w.file())
	started := time.Now()
	w.next(t)
	for time.Since(started) < patience {
		if after, err := os.Stat(w.file()); err == nil && (before == nil || !os.SameFile(before, after)) {
			return time.Since(started)
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("nothing was persisted")
	return 0
}

// holds starts stagedoor without the server and holds it to serve, at once, what
// was published. It returns the number of that revision, and how long it took.
func (w *persistence) holds(t *testing.T) (int, time.Duration) {
	t.Helper()
	w.publisher.down()
	p := w.start(t)
	defer p.kill()
	if status, body := p.get(t, "/ready"); status != http.StatusOK {
		t.Fatalf("it is not ready: %d %s", status, body)
	}
	revision, _ := p.serving(t)
	at := slices.IndexFunc(w.history, func(p published) bool { return p.revision == revision })
	if at < 0 {
		t.Fatalf("revision %q serves, which was not published", revision)
	}
	token, err := w.backstage.PluginToken("user:default/alice")
	must(t, err)
	names := []string{"sha256." + w.history[at].digest, "sha256." + w.history[max(at-1, 0)].digest + "0"}
	for _, p := range w.history {
		names = append(names, "rev."+p.revision)
	}
	allowed, answer := p.allowed(t, token, names)
	if want := []string{names[0], "rev." + revision}; !slices.Equal(allowed, want) {
		t.Fatalf("revision %s allows %v, want %v: %s", revision, allowed, want, answer)
	}
	w.publisher.up(t)
	return at + 1, p.took
}

// TestKilledWhilePersisting kills stagedoor at random moments while new revisions
// arrive: half of the time at any of downloading, activating and persisting, and
// half of the time when the file has just been begun. Whenever it was, without the
// server a revision serves afterwards that was published, whole, and none from
// before the last one.
func TestKilledWhilePersisting(t *testing.T) {
	const kills, most = 20, 60 // as many more as it takes to meet one file that is being written
	w := newPersistence(t)
	first := w.start(t)
	longest := max(w.persisted(t), w.persisted(t), w.persisted(t))
	first.kill()
	serving, slowest := w.holds(t)
	random := rand.New(w.random)
	inMidst, older, kill := 0, 0, 0
	for ; kill < kills || inMidst == 0 && kill < most; kill++ {
		before := len(w.unfinished(t))
		p := w.start(t)
		w.next(t)
		delay := time.Duration(random.Int64N(int64(longest) * 3 / 2))
		if kill%2 == 0 {
			delay = 0 // the file is written in a few milliseconds, in which a sleep may end too late
			for begun := time.Now(); len(w.unfinished(t)) == before && time.Since(begun) < 2*longest; {
				runtime.Gosched()
			}
		}
		if delay > 0 {
			time.Sleep(delay)
		}
		p.kill()
		if len(w.unfinished(t)) > before {
			inMidst++
		}
		now, took := w.holds(t)
		if now < serving {
			t.Fatalf("kill %d: revision %d serves, after %d did", kill, now, serving)
		}
		if now < len(w.history) {
			older++
		}
		serving, slowest = now, max(slowest, took)
	}
	if inMidst == 0 {
		t.Error("no kill met a file that was being written")
	}
	t.Logf("%d kills, %d of them while a file was being written; afterwards the newest of the revisions served %d times, "+
		"an older one %d times; up to %v from publishing to persisting, up to %v from start to serving",
		kill, inMidst, kill-older, older, longest, slowest)
}

// TestPersistedFileIsDamaged shows what a persisted bundle that is not whole comes
// to: no policy serves, it says why, and nothing is allowed.
func TestPersistedFileIsDamaged(t *testing.T) {
	w := newPersistence(t)
	p := w.start(t)
	w.persisted(t)
	p.kill()
	w.holds(t)
	w.publisher.down()
	whole, err := os.ReadFile(w.file())
	must(t, err)
	token, err := w.backstage.PluginToken("user:default/alice")
	must(t, err)
	for name, length := range map[string]int{
		"empty": 0, "one byte": 1, "a third": len(whole) / 3, "without the policy": len(whole) - 2048,
	} {
		t.Run(name, func(t *testing.T) {
			must(t, os.WriteFile(w.file(), whole[:length], 0o600))
			p := w.start(t)
			defer p.kill()
			status, body := p.get(t, "/ready")
			if status != http.StatusServiceUnavailable || !strings.Contains(body, "waiting for bundles: authz") {
				t.Errorf("readiness: %d %s", status, body)
			}
			if !strings.Contains(p.text(), "Failed to load bundle from disk") {
				t.Errorf("the log does not say why:\n%s", p.text())
			}
			// It serves, and answers 503, before it has first failed to reach the server.
			revision, refused := p.serving(t)
			for begun := time.Now(); refused == "" && time.Since(begun) < patience; time.Sleep(time.Millisecond) {
				revision, refused = p.serving(t)
			}
			if revision != "" || !strings.Contains(refused, "connection refused") {
				t.Errorf("revision %q serves, refused because of %q", revision, refused)
			}
			allowed, answer := p.allowed(t, token, []string{"rev.1", "sha256." + w.history[0].digest})
			if len(allowed) > 0 || !strings.Contains(answer, "ServiceUnavailableError") {
				t.Errorf("answered %s", answer)
			}
		})
	}
}
