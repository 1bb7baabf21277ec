package adapter_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// supplied is a good policy of the given revision: always is allowed, never is
// not, a catalog entity may be deleted by its owners, and rev.N by revision N.
func supplied(revision string) map[string]string {
	return map[string]string{
		".manifest":                 manifest(revision, "backstage/authz"),
		"backstage/authz/data.json": fmt.Sprintf(`{"revision": %q}`, revision),
		"policy.rego": `package backstage.authz

import data.backstage.catalog

# METADATA
# entrypoint: true
default allow := false

allow if input.permission.name in {"always", concat(".", ["rev", data.backstage.authz.revision])}

allow if {
	input.permission.name == "catalog.entity.delete"
	catalog.is_entity_owner(input.resource, {"claims": input.identity.claims})
}
`,
	}
}

// bad is a policy of revision bad that would allow everything, but for what is
// wrong with it.
func bad(changes map[string]string) map[string]string {
	files := supplied("bad")
	files["policy.rego"] = "package backstage.authz\n\n# METADATA\n# entrypoint: true\nallow := true\n"
	maps.Copy(files, changes)
	return files
}

const suppliedQuestions = `{"items":[
	{"id":"1","permission":{"type":"basic","name":"always","attributes":{}}},
	{"id":"2","permission":{"type":"basic","name":"never","attributes":{}}},
	{"id":"3","permission":{"type":"resource","name":"catalog.entity.delete","attributes":{"action":"delete"},"resourceType":"catalog-entity"}}]}`

const suppliedAnswers = `{"items":[{"id":"1","result":"ALLOW"},{"id":"2","result":"DENY"},` +
	`{"id":"3","result":"CONDITIONAL","pluginId":"catalog","resourceType":"catalog-entity",` +
	`"conditions":{"rule":"IS_ENTITY_OWNER","resourceType":"catalog-entity","params":{"claims":["group:default/devs","user:default/alice"]}}}]}`

// traffic asks without an end and counts what is answered.
type traffic struct {
	stop     context.CancelFunc
	group    sync.WaitGroup
	answered atomic.Int64
	failed   atomic.Int64
	mutex    sync.Mutex
	wrong    []string
}

func (s *site) traffic(t testing.TB) *traffic {
	t.Helper()
	token, err := s.backstage.PluginToken("user:default/alice")
	check(t, err)
	ctx, stop := context.WithCancel(t.Context())
	tr := &traffic{stop: stop}
	for range 2 {
		tr.group.Go(func() {
			for ctx.Err() == nil {
				tr.ask(ctx, s, token)
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	t.Cleanup(tr.end)
	return tr
}

func (tr *traffic) ask(ctx context.Context, s *site, token string) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/authorize", strings.NewReader(suppliedQuestions))
	if err != nil {
		tr.note("%v", err)
		return
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := s.client.Do(request)
	if err != nil {
		if ctx.Err() == nil {
			tr.note("%v", err)
		}
		return
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	switch text := string(body); {
	case err != nil:
		if ctx.Err() == nil {
			tr.note("%v", err)
		}
	case response.StatusCode == http.StatusOK && text == suppliedAnswers:
		tr.answered.Add(1)
	case response.StatusCode == http.StatusServiceUnavailable && !strings.Contains(text, "ALLOW"):
		tr.failed.Add(1)
	default:
		tr.note("%d %s", response.StatusCode, text)
	}
}

func (tr *traffic) note(format string, args ...any) {
	tr.mutex.Lock()
	defer tr.mutex.Unlock()
	tr.wrong = append(tr.wrong, fmt.Sprintf(format, args...))
}

func (tr *traffic) end() {
	tr.stop()
	tr.group.Wait()
}

// flows waits until a good many more requests were answered, or failed.
func (tr *traffic) flows(t testing.TB) {
	t.Helper()
	const many = 40
	from := tr.answered.Load() + tr.failed.Load()
	eventually(t, "traffic", func() bool { return tr.answered.Load()+tr.failed.Load() >= from+many || tr.firstWrong() != "" })
	if wrong := tr.firstWrong(); wrong != "" {
		t.Fatalf("wrong: %s", wrong)
	}
}

func (tr *traffic) firstWrong() string {
	tr.mutex.Lock()
	defer tr.mutex.Unlock()
	if len(tr.wrong) == 0 {
		return ""
	}
	return tr.wrong[0]
}

// deliveries is what a row of the fault table has at hand.
type deliveries struct {
	server *bundleServer
	signer *signer
	dir    string // of what OPA persists
	site   *site
}

// opa is OPA's configuration of the row.
func (w *deliveries) opa(persist, discovery bool) map[string]any {
	source := func(name string) map[string]any {
		return map[string]any{
			"service": "s", "resource": name, "polling": polling, "persist": persist, "signing": map[string]any{"keyid": "k"},
		}
	}
	document := map[string]any{
		"services":              map[string]any{"s": map[string]any{"url": w.server.URL(), "response_header_timeout_seconds": 1}},
		"keys":                  map[string]any{"k": map[string]any{"key": w.signer.public, "algorithm": "ES256"}},
		"persistence_directory": w.dir,
	}
	if discovery {
		document["discovery"] = map[string]any{"resource": "discovery", "decision": "config", "polling": polling, "signing": map[string]any{"keyid": "k"}}
		return document
	}
	document["bundles"] = map[string]any{"authz": source("authz")}
	return document
}

func (w *deliveries) discover(t testing.TB, bundle string) {
	t.Helper()
	w.server.put("discovery", w.signer.signed(t, map[string]string{"data.json": fmt.Sprintf(
		`{"config": {"bundles": {%q: {"service": "s", "resource": %q, "polling": {"min_delay_seconds": 1, "max_delay_seconds": 1}, "signing": {"keyid": "k"}}}}}`,
		bundle, bundle)}))
}

// faultOfSupply is one row of the fault table.
type faultOfSupply struct {
	persist, discovery bool
	// fullDisk lets there be no room to persist.
	fullDisk bool
	// start lets stagedoor start when the fault is there already.
	start bool
	// inject brings the fault about.
	inject func(testing.TB, *deliveries)
	// refused is what the status says of the bundle meanwhile, and serves the
	// revision that answers: 1 is the one from before, and none is none at all.
	refused, serves string
	// repaired is the revision that serves in the end; 9 where it is not said.
	repaired string
}

func brings(files map[string]string) func(testing.TB, *deliveries) {
	return func(t testing.TB, w *deliveries) { w.server.put("authz", w.signer.signed(t, files)) }
}

func answersWith(fault http.HandlerFunc) func(testing.TB, *deliveries) {
	return func(_ testing.TB, w *deliveries) { w.server.fail(fault) }
}

func goesDown(_ testing.TB, w *deliveries) { w.server.down() }

var faultsOfSupply = map[string]faultOfSupply{
	"down at start":                   {start: true, inject: goesDown, refused: "connection refused", serves: ""},
	"down at start, persisted":        {persist: true, start: true, inject: goesDown, refused: "connection refused", serves: "1"},
	"changed on disk, down at start":  {persist: true, start: true, inject: changedOnDisk, refused: "connection refused", serves: ""},
	"garbage at start, persisted":     {persist: true, start: true, inject: answersWith(garbage), refused: "archive read failed", serves: "1"},
	"down later":                      {inject: goesDown, refused: "connection refused", serves: "1"},
	"slow to answer":                  {inject: answersWith(dawdle), refused: "timeout awaiting response headers", serves: "1"},
	"slow to send":                    {inject: answersWith(trickle), refused: "archive read failed", serves: "1"},
	"garbage":                         {inject: answersWith(garbage), refused: "archive read failed", serves: "1"},
	"an error page":                   {inject: answersWith(errorPage), refused: "Internal Server Error", serves: "1"},
	"truncated":                       {inject: cutOff, refused: "unexpected EOF", serves: "1"},
	"cut connection":                  {inject: cutConnection, refused: "unexpected EOF", serves: "1"},
	"wrong signature":                 {inject: signedByAnother, refused: "verif", serves: "1"},
	"unsigned":                        {inject: unsigned, refused: "bundle missing .signatures.json file", serves: "1"},
	"changed after it was signed":     {inject: tampered, refused: "digest mismatch", serves: "1"},
	"without roots":                   {inject: brings(bad(map[string]string{".manifest": `{"revision": "bad"}`})), refused: `{"roots": ["backstage/authz"]}`, serves: "1"},
	"does not parse":                  {inject: brings(bad(map[string]string{"policy.rego": "package backstage.authz\n\nallow if {"})), refused: "policy.rego:3", serves: "1"},
	"does not compile":                {inject: brings(bad(map[string]string{"more.rego": "package backstage.authz\n\nx := unknown(1)\n"})), refused: "undefined function unknown", serves: "1"},
	"entrypoint gone":                 {inject: brings(bad(map[string]string{"policy.rego": "package backstage.authz\n\nallow := true\n"})), refused: "no rule decides", serves: "1"},
	"resource used outside of a rule": {inject: brings(bad(resourceOutside)), refused: "input.resource.metadata", serves: "1"},
	"unknown rule":                    {inject: brings(bad(unknownRule)), refused: "undefined function data.backstage.catalog.is_entity_ownr", serves: "1"},
	"a rule of a plugin replaced":     {inject: brings(bad(replacedRule)), refused: "is of the rule library", serves: "1"},
	"200 MB":                          {inject: enormous, refused: "exceeds configured size_limit_bytes (67108864 bytes)", serves: "1"},
	"disk full":                       {persist: true, fullDisk: true, inject: brings(supplied("2")), refused: "it serves, but could not be persisted", serves: "2"},
	"discovery points elsewhere":      {discovery: true, inject: elsewhere, refused: "Not Found", serves: "authz", repaired: "elsewhere"},
	"rollback":                        {inject: brings(supplied("0")), serves: "0"},
}

var (
	resourceOutside = map[string]string{"policy.rego": "package backstage.authz\n\n# METADATA\n# entrypoint: true\n" +
		"allow if input.resource.metadata.name\n\nallow := true\n"}
	unknownRule = map[string]string{"policy.rego": "package backstage.authz\n\nimport data.backstage.catalog\n\n# METADATA\n# entrypoint: true\n" +
		"allow if not catalog.is_entity_ownr(input.resource, {\"claims\": []})\n"}
	replacedRule = map[string]string{
		".manifest":    manifest("bad", "backstage"),
		"catalog.rego": "package backstage.catalog\n\nis_entity_owner(_, _) := true\n",
	}
)

func garbage(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "no bundle at all") }

func errorPage(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusInternalServerError)
	_, _ = io.WriteString(w, "<html>sorry</html>")
}

func dawdle(_ http.ResponseWriter, r *http.Request) {
	select {
	case <-r.Context().Done():
	case <-time.After(3 * time.Second):
	}
}

// trickle sends a byte now and then until the connection breaks.
func trickle(w http.ResponseWriter, r *http.Request) {
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end) && r.Context().Err() == nil; {
		if _, err := w.Write([]byte{0x1f, 0x8b}); err != nil {
			return
		}
		_ = http.NewResponseController(w).Flush()
		time.Sleep(50 * time.Millisecond)
	}
	panic(http.ErrAbortHandler)
}

func cutOff(t testing.TB, w *deliveries) {
	content := w.signer.signed(t, bad(nil))
	w.server.put("authz", content[:len(content)/2])
}

func cutConnection(t testing.TB, w *deliveries) {
	content := w.signer.signed(t, bad(nil))
	w.server.fail(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Length", strconv.Itoa(len(content)))
		_, _ = rw.Write(content[:len(content)/2])
		_ = http.NewResponseController(rw).Flush()
		panic(http.ErrAbortHandler)
	})
}

func signedByAnother(t testing.TB, w *deliveries) {
	w.server.put("authz", newSigner(t).signed(t, bad(nil)))
}

func unsigned(t testing.TB, w *deliveries) { w.server.put("authz", archive(t, bad(nil))) }

func tampered(t testing.TB, w *deliveries) {
	files := w.signer.sign(t, supplied("2"))
	files["policy.rego"] = bad(nil)["policy.rego"]
	w.server.put("authz", archive(t, files))
}

// persisted is where OPA persists the bundle.
func (w *deliveries) persisted() string {
	return filepath.Join(w.dir, "bundles", "authz", "bundle.tar.gz")
}

// changedOnDisk puts another policy in the place of the one that was persisted, with
// the signatures of that.
func changedOnDisk(t testing.TB, w *deliveries) {
	w.server.down()
	files := w.signer.sign(t, supplied("1"))
	files["policy.rego"] = bad(nil)["policy.rego"]
	check(t, os.WriteFile(w.persisted(), archive(t, files), 0o600))
}

// enormous brings data of 200 MB that compress well.
func enormous(t testing.TB, w *deliveries) {
	var buffer bytes.Buffer
	zip, err := gzip.NewWriterLevel(&buffer, gzip.BestSpeed)
	check(t, err)
	tape := tar.NewWriter(zip)
	for name, text := range bad(nil) {
		check(t, tape.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text)), Typeflag: tar.TypeReg}))
		_, err := io.WriteString(tape, text)
		check(t, err)
	}
	const size = 200 << 20
	check(t, tape.WriteHeader(&tar.Header{Name: "backstage/authz/more/data.json", Mode: 0o644, Size: size, Typeflag: tar.TypeReg}))
	block := bytes.Repeat([]byte{' '}, 1<<20)
	for range size / len(block) {
		_, err := tape.Write(block)
		check(t, err)
	}
	check(t, tape.Close())
	check(t, zip.Close())
	w.server.put("authz", buffer.Bytes())
}

func elsewhere(t testing.TB, w *deliveries) { w.discover(t, "elsewhere") }

// TestFaultsOfSupply is the fault table: traffic runs the whole time, and while
// there is a good policy no request fails and no answer is another one.
func TestFaultsOfSupply(t *testing.T) {
	for name, row := range faultsOfSupply {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := &deliveries{server: newBundleServer(t), signer: newSigner(t), dir: t.TempDir()}
			if row.fullDisk {
				w.dir = fullDisk(t)
			}
			bundle := "authz"
			if row.repaired == "" {
				row.repaired = "9"
			}
			first := "1"
			if row.discovery {
				first = row.serves
				w.discover(t, bundle)
			}
			w.server.put("authz", w.signer.signed(t, supplied(first)))
			options := siteOptions{opa: w.opa(row.persist, row.discovery)}
			if row.persist && row.start {
				newSite(t, options).serves(t, first)
				eventually(t, "it is persisted", func() bool {
					_, err := os.Stat(w.persisted())
					return err == nil
				})
			}
			if row.start {
				row.inject(t, w)
			}
			w.site = newSite(t, options)
			tr := w.site.traffic(t)
			if !row.start {
				w.site.serves(t, first)
			}
			tr.flows(t)
			failed := tr.failed.Load()
			if !row.start {
				row.inject(t, w)
			}
			w.endures(t, row, bundle)
			tr.flows(t)
			during := w.site.status()
			if during.Revision != row.serves || during.Ready != (row.serves != "") {
				t.Errorf("meanwhile: %+v", during)
			}
			if row.serves != "" && tr.failed.Load() != failed {
				t.Errorf("%d requests failed though there is a good policy", tr.failed.Load()-failed)
			}
			if row.start && row.serves != "" && failed != 0 {
				t.Errorf("%d requests failed at the start, though a policy was persisted", failed)
			}
			w.repair(t, row)
			w.site.serves(t, row.repaired)
			tr.flows(t) // what was asked before it served
			failed = tr.failed.Load()
			tr.flows(t)
			tr.end()
			if tr.failed.Load() != failed {
				t.Errorf("%d requests failed after the repair", tr.failed.Load()-failed)
			}
			if wrong := tr.firstWrong(); wrong != "" {
				t.Errorf("wrong: %s", wrong)
			}
			t.Logf("%d right answers, %d wrong, %d without a policy", tr.answered.Load(), len(tr.wrong), tr.failed.Load())
		})
	}
}

// endures waits until the fault shows, and has been met a few times.
func (w *deliveries) endures(t testing.TB, row faultOfSupply, bundle string) {
	t.Helper()
	if row.discovery {
		bundle = "elsewhere"
	}
	if row.refused == "" {
		w.site.serves(t, row.serves)
		return
	}
	for end := time.Now().Add(patience); !strings.Contains(refusalOf(w.site, bundle), row.refused); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("refused because of %q, want %q", refusalOf(w.site, bundle), row.refused)
		}
	}
	if row.serves != "" {
		w.site.serves(t, row.serves)
	} else {
		status, body := get(t, w.site.admin+"/ready")
		if status != http.StatusServiceUnavailable || !strings.Contains(body, "waiting for bundles: authz") {
			t.Errorf("readiness: %d %s", status, body)
		}
	}
}

func (w *deliveries) repair(t testing.TB, row faultOfSupply) {
	t.Helper()
	if row.discovery {
		w.server.put(row.repaired, w.signer.signed(t, supplied(row.repaired)))
		return
	}
	w.server.put("authz", w.signer.signed(t, supplied(row.repaired)))
	w.server.mutex.Lock()
	down := w.server.server == nil
	w.server.mutex.Unlock()
	if down {
		w.server.up(t)
	}
}

func refusalOf(s *site, bundle string) string {
	for _, r := range s.status().Refused {
		if r.Bundle == bundle {
			return r.Reason
		}
	}
	return ""
}

func get(t testing.TB, url string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	check(t, err)
	response, err := (&http.Client{}).Do(request)
	check(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	check(t, err)
	return response.StatusCode, string(body)
}

// fullDisk is a folder on a full disk, or where that cannot be had a path below
// which there can be no folder.
func fullDisk(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=16k"); err == nil {
		t.Cleanup(func() { check(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
		file, err := os.Create(filepath.Join(dir, "ballast"))
		check(t, err)
		defer file.Close()
		for err == nil {
			_, err = file.Write(make([]byte, 1024))
		}
		t.Logf("the disk is full: %v", err)
		return dir
	}
	obstacle := filepath.Join(dir, "file")
	check(t, os.WriteFile(obstacle, nil, 0o600))
	return obstacle
}
