package adapter_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// reader is a policy that tells what data it has.
const reader = `package a

# METADATA
# entrypoint: true
default decision := {"result": "DENY"}

decision := {"result": "ALLOW", "reason": json.marshal(data.w)} if data.w.allowed[input.permission.name]
`

// TestDataIsWritten writes data as OPAL does, and asks for decisions by it.
func TestDataIsWritten(t *testing.T) {
	dir := t.TempDir()
	check(t, os.WriteFile(filepath.Join(dir, "a.rego"), []byte(reader), 0o600))
	check(t, os.WriteFile(filepath.Join(dir, ".manifest"), []byte(`{"revision": "1", "roots": ["a", "b"]}`), 0o600))
	s := newSite(t, siteOptions{policyDir: dir, dataRoots: []string{"w", "deep/er"}})
	send := func(method, path, body string) (int, string) {
		request, err := http.NewRequestWithContext(t.Context(), method, s.admin+path, strings.NewReader(body))
		check(t, err)
		request.Header.Set("Content-Type", "application/json-patch+json")
		response, err := s.client.Do(request)
		check(t, err)
		text, err := io.ReadAll(response.Body)
		check(t, errors.Join(err, response.Body.Close()))
		return response.StatusCode, string(text)
	}
	allows := func() string {
		var names []string
		for _, name := range []string{"x", "y", "a/b"} {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.admin+"/v1/data/a/decision",
				strings.NewReader(fmt.Sprintf(`{"input": {"permission": {"name": %q}}}`, name)))
			check(t, err)
			request.Header.Set("Content-Type", "application/json")
			response, err := s.client.Do(request)
			check(t, err)
			text, err := io.ReadAll(response.Body)
			check(t, errors.Join(err, response.Body.Close()))
			if strings.Contains(string(text), "ALLOW") {
				names = append(names, name)
			}
		}
		return strings.Join(names, " ")
	}
	revision := s.status().Revision
	large := `"` + strings.Repeat("x", 11<<20) + `"`
	for _, step := range []struct {
		method, path, body string
		status             int
		says, allowed      string
	}{
		{"PATCH", "/v1/data", `[{"op": "add", "path": "/w/allowed/x", "value": true}]`, 404, "document does not exist", ""},
		{"PUT", "/v1/data/w/allowed/x", `true`, 204, "", "x"},
		{"PATCH", "/v1/data", `[{"op": "add", "path": "/w/allowed/y", "value": true}, {"op": "remove", "path": "w/allowed/x"}]`, 204, "", "y"},
		{"PATCH", "/v1/data/w", `[{"op": "add", "path": "/allowed/a~1b", "value": true}]`, 204, "", "y a/b"},
		{"PATCH", "/v1/data/w/allowed", `[{"op": "replace", "path": "", "value": {"x": 1.0}}]`, 204, "", "x"},
		{"PUT", "/v1/data/deep/er", `{"n": 1}`, 204, "", "x"},
		// What is refused changes nothing.
		{"PATCH", "/v1/data", `[{"op": "add", "path": "/w/allowed/y", "value": true}, {"op": "remove", "path": "/w/z"}]`, 404, "w/z", "x"},
		{"PATCH", "/v1/data", `[{"op": "add", "path": "/w/allowed/y", "value": true}, {"op": "add", "path": "/b/z", "value": 1}]`, 400, "/b/z is below none of the roots w, deep/er", "x"},
		{"PATCH", "/v1/data/w", `[{"op": "replace", "vaule": {}, "path": "/allowed"}]`, 400, "[0] has no value", "x"},
		{"PATCH", "/v1/data/w", `[{"op": "remove"}]`, 400, "[0] has no path", "x"},
		{"PATCH", "/v1/data/w", `[{"op": "add", "path": "` + strings.Repeat("/a", 1_001) + `", "value": 1}]`, 400, "[0].path is no path", "x"},
		{"PUT", "/v1/data/wide", `1`, 400, "below none", "x"},
		{"PUT", "/v1/data", `{}`, 400, "below none", "x"},
		{"PUT", "/v1/data/", `{}`, 400, "below none", "x"},
		{"PUT", "/v1/data/deep", `{}`, 400, "below none", "x"},
		{"PUT", "/v1/data/w/../a/decision", `{"result": "ALLOW"}`, 404, "", "x"},
		{"PUT", "/v1/data/w/%2e%2e/a/decision", `{"result": "ALLOW"}`, 404, "", "x"},
		{"PUT", "/v1/data/w/one%2Ftwo", `1`, 204, "", "x"},
		{"PUT", "/v1/data/system/bundles", `{}`, 400, "below none", "x"},
		{"PATCH", "/v1/data", `[{"op": "move", "from": "/w/allowed", "path": "/w/y"}]`, 400, "want add, remove or replace", "x"},
		{"PATCH", "/v1/data", `{"op": "add"}`, 400, "want a list of operations", "x"},
		{"PATCH", "/v1/data", ``, 400, "want a list of operations", "x"},
		{"PATCH", "/v1/data", `[] []`, 400, "there is more behind it", "x"},
		{"PUT", "/v1/data/w/x", `{`, 400, "want a value", "x"},
		{"PUT", "/v1/data/w/x", large, 413, "", "x"},
		{"DELETE", "/v1/data/w", ``, 404, "", "x"},
	} {
		status, text := send(step.method, step.path, step.body)
		if status != step.status || !strings.Contains(text, step.says) {
			t.Errorf("%s %s %.100s: %d %s, want %d %s", step.method, step.path, step.body, status, text, step.status, step.says)
		}
		if got := allows(); got != step.allowed {
			t.Errorf("%s %s %.100s: it allows %q, want %q", step.method, step.path, step.body, got, step.allowed)
		}
	}
	if now := s.status().Revision; !strings.HasPrefix(now, "local="+revision+",/v1/data=sha256:") {
		t.Errorf("the revision was %s, and is %s", revision, now)
	}
	if n := s.scrape(t)[`stagedoor_requests_total{outcome="ok",route="data_write"}`]; n != "6" {
		t.Errorf("%s writes are counted", n)
	}
}

// TestStrangersWriteNothing writes as who may not.
func TestStrangersWriteNothing(t *testing.T) {
	for _, o := range []siteOptions{{}, {dataRoots: []string{"w"}}} {
		s := newSite(t, o)
		for _, method := range []string{"PUT", "PATCH"} {
			request, err := http.NewRequestWithContext(t.Context(), method, s.admin+"/v1/data/w", strings.NewReader(`[]`))
			check(t, err)
			request.Header.Set("X-Forwarded-For", "192.0.2.7")
			response, err := s.client.Do(request)
			check(t, err)
			check(t, response.Body.Close())
			want := http.StatusUnauthorized
			if o.dataRoots == nil {
				want = http.StatusNotFound
			}
			if response.StatusCode != want {
				t.Errorf("%s: %d, want %d", method, response.StatusCode, want)
			}
		}
	}
}
