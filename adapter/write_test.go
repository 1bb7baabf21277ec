package adapter_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/plugins"
	"github.com/open-policy-agent/opa/v1/server"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
)

// reader is a policy that tells what data it has.
const reader = `package a

# METADATA
# entrypoint: true
default decision := {"result": "DENY"}

decision := {"result": "ALLOW", "reason": json.marshal(data.w)} if data.w.allowed[input.permission.name]

decision := {
	"result": "CONDITIONAL", "pluginId": "catalog", "resourceType": "catalog-entity",
	"conditions": {"rule": "HAS_LABEL", "resourceType": "catalog-entity", "params": {"label": json.marshal(data.w)}},
} if input.permission.name == "told"
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
		{"PATCH", "/v1/data/w/allowed/", `[{"op": "add", "path": "/y", "value": true}]`, 204, "", "x y"},
		{"PATCH", "/v1/data/w/allowed/", `[{"op": "remove", "path": "/y"}]`, 204, "", "x"},
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
		{"PUT", "/v1/data/w/x", large, 413, `"code":"invalid_parameter"`, "x"},
		{"DELETE", "/v1/data/w/absent", ``, 404, "", "x"},
		{"DELETE", "/v1/data/a", ``, 400, "below none", "x"},
		{"DELETE", "/v1/data", ``, 400, "below none", "x"},
		{"DELETE", "/v1/data/w/allowed", ``, 204, "", ""},
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
	if n := s.scrape(t)[`stagedoor_requests_total{outcome="ok",route="data_write"}`]; n != "9" {
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

// stockOPA is a stock OPA server without a policy.
func stockOPA(t *testing.T) http.Handler {
	t.Helper()
	store := inmem.New()
	manager, err := plugins.New([]byte("{}"), "test", store)
	check(t, err)
	check(t, manager.Start(t.Context()))
	t.Cleanup(func() { manager.Stop(context.Background()) })
	s, err := server.New().WithStore(store).WithManager(manager).Init(t.Context())
	check(t, err)
	return s.Handler
}

// TestOPALIsAnsweredAsByOPA sends what OPAL's client sends (opa_client.py at d30e462) below a
// root, to stagedoor and to OPA's own server: PUT without a content type, PATCH with
// application/json-patch+json, DELETE, and GET /health. OPAL takes 204 and 304 for done, of
// DELETE 404 too, and whatever else for a failure.
func TestOPALIsAnsweredAsByOPA(t *testing.T) {
	dir := t.TempDir()
	check(t, os.WriteFile(filepath.Join(dir, "a.rego"), []byte(reader), 0o600))
	check(t, os.WriteFile(filepath.Join(dir, ".manifest"), []byte(`{"revision": "1", "roots": ["a"]}`), 0o600))
	ours, theirs := newSite(t, siteOptions{policyDir: dir, dataRoots: []string{"w"}}), stockOPA(t)
	for _, step := range []struct {
		method, path, body string
		onlyNew            bool
		want               int
	}{
		{"GET", "/health", ``, false, 200},
		{"PATCH", "/v1/data", `[{"op": "add", "path": "/w/early", "value": 1}]`, false, 404},
		{"PUT", "/v1/data/w", `{"allowed": {}}`, false, 204},
		{"PUT", "/v1/data/w", `{}`, true, 304},
		{"PUT", "/v1/data/w/new", `[1]`, true, 204},
		{"PUT", "/v1/data/w/new", `[1, {"n": 1.0}]`, false, 204},
		{"PUT", "/v1/data/w/deep/down", `null`, false, 204},
		{"PUT", "/v1/data/w/deep/down/further", `1`, false, 404},
		{"PUT", "/v1/data/w/deep/down/further", `1`, true, 404},
		{"PUT", "/v1/data/w/til~1de", `1`, false, 204},
		{"PUT", "/v1/data/w/sla%2Fsh", `1`, false, 204},
		{"PUT", "/v1/data/w/group:default%2Fweb", `["reader"]`, false, 204},
		{"PUT", "/v1/data/w/x", ``, false, 400},
		{"PUT", "/v1/data/w/x", `{`, false, 400},
		{"PATCH", "/v1/data/w", `[{"op": "add", "path": "/allowed/a~1b", "value": true}]`, false, 204},
		{"PATCH", "/v1/data/w", `[{"op": "replace", "path": "allowed", "value": {"x": true}}]`, false, 204},
		{"PATCH", "/v1/data/w/new", `[{"op": "add", "path": "-", "value": 2}, {"op": "add", "path": "/0", "value": 0}]`, false, 204},
		{"PATCH", "/v1/data/w/new", `[{"op": "remove", "path": "/9"}]`, false, 404},
		{"PATCH", "/v1/data/w/new", `[{"op": "replace", "path": "/x", "value": 2}]`, false, 404},
		{"PATCH", "/v1/data/w", `[{"op": "remove", "path": "/absent"}]`, false, 404},
		{"PATCH", "/v1/data/w", `[{"op": "add", "path": "/before", "value": 1}, {"op": "remove", "path": "/absent"}]`, false, 404},
		{"PATCH", "/v1/data/w", `[{"op": "move", "path": "/y", "from": "/new"}]`, false, 400},
		{"PATCH", "/v1/data/w", `[{"op": "test", "path": "/new", "value": 1}]`, false, 400},
		{"PATCH", "/v1/data/w", `{"items": []}`, false, 400},
		{"PATCH", "/v1/data/w", `[]`, false, 204},
		{"DELETE", "/v1/data/w/deep", ``, false, 204},
		{"DELETE", "/v1/data/w/deep", ``, false, 404},
		{"DELETE", "/v1/data/w/til~1de", ``, false, 204},
		{"PUT", "/v1/data/w/new/0", `"first"`, false, 204},
		{"PUT", "/v1/data/w/new/0", `"first"`, true, 304},
		{"PUT", "/v1/data/w/new/1/n", `2`, false, 404},
		{"PUT", "/v1/data/w/new/3/n", `2`, false, 204},
		{"PUT", "/v1/data/w/new/99", `1`, false, 404},
		{"PUT", "/v1/data/w/new/x/y", `1`, false, 404},
		{"DELETE", "/v1/data/w/new/0", ``, false, 204},
	} {
		name := fmt.Sprintf("%s %s %s, only new %t", step.method, step.path, step.body, step.onlyNew)
		request := func(base string) *http.Request {
			r, err := http.NewRequestWithContext(t.Context(), step.method, base+step.path, strings.NewReader(step.body))
			check(t, err)
			r.Header.Set("Content-Type", map[string]string{"PATCH": "application/json-patch+json"}[step.method])
			if step.method == "PUT" {
				r.Header.Set("Content-Type", "text/plain; charset=utf-8") // which aiohttp adds
			}
			if step.onlyNew {
				r.Header.Set("If-None-Match", "*")
			}
			return r
		}
		response, err := ours.client.Do(request(ours.admin))
		check(t, err)
		text, err := io.ReadAll(response.Body)
		check(t, errors.Join(err, response.Body.Close()))
		recorder := httptest.NewRecorder()
		theirs.ServeHTTP(recorder, request("http://opa"))
		if response.StatusCode != step.want || recorder.Code != step.want {
			t.Errorf("%s: %d %s, and OPA's server %d %s; want %d", name, response.StatusCode, text, recorder.Code, recorder.Body, step.want)
		}
		if kind := response.Header.Get("Content-Type"); response.StatusCode >= 400 && !strings.HasPrefix(kind, "application/json") {
			t.Errorf("%s: OPAL cannot read an error of type %q", name, kind)
		}
		if got, want := dataOf(t, ours), theirData(t, theirs); got != want {
			t.Fatalf("%s: the data is\n%s\nand OPA has\n%s", name, got, want)
		}
	}
}

// dataOf is the data that decisions are made by.
func dataOf(t *testing.T, s *site) string {
	t.Helper()
	var answer struct {
		Result struct {
			Conditions struct{ Params struct{ Label string } }
		}
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.admin+"/v1/data/a/decision",
		strings.NewReader(`{"input": {"permission": {"name": "told", "type": "resource", "resourceType": "catalog-entity"}}}`))
	check(t, err)
	request.Header.Set("Content-Type", "application/json")
	response, err := s.client.Do(request)
	check(t, err)
	check(t, errors.Join(json.NewDecoder(response.Body).Decode(&answer), response.Body.Close()))
	return answer.Result.Conditions.Params.Label
}

func theirData(t *testing.T, opa http.Handler) string {
	t.Helper()
	recorder := httptest.NewRecorder()
	opa.ServeHTTP(recorder, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/data/w", nil))
	var answer struct{ Result any }
	decoder := json.NewDecoder(recorder.Body)
	decoder.UseNumber()
	check(t, decoder.Decode(&answer))
	if answer.Result == nil {
		return ""
	}
	text, err := json.Marshal(answer.Result)
	check(t, err)
	return string(text)
}

// TestDataHasALimit writes until there may be no more, and makes room again.
func TestDataHasALimit(t *testing.T) {
	dir := t.TempDir()
	check(t, os.WriteFile(filepath.Join(dir, "a.rego"), []byte(reader), 0o600))
	check(t, os.WriteFile(filepath.Join(dir, ".manifest"), []byte(`{"revision": "1", "roots": ["a"]}`), 0o600))
	s := newSite(t, siteOptions{policyDir: dir, dataRoots: []string{"w"}, dataBytes: 1000})
	large := `"` + strings.Repeat("x", 400) + `"`
	for _, step := range []struct {
		method, path, body string
		want               int
	}{
		{"PUT", "/w", `{"one": ` + large + `}`, 204},
		{"PUT", "/w/two", large, 204},
		{"PUT", "/w/three", large, 413},
		{"PUT", "/w/one", large, 204}, // in its place
		{"PATCH", "/w", `[{"op": "add", "path": "/three", "value": ` + large + `}, {"op": "remove", "path": "/two"}]`, 204},
		{"PUT", "/w/list", `[` + large + `]`, 413},
		{"DELETE", "/w/one", ``, 204},
		{"PUT", "/w/list", `[` + large + `]`, 204},
		{"PATCH", "/w/list", `[{"op": "add", "path": "-", "value": ` + large + `}]`, 413},
	} {
		request, err := http.NewRequestWithContext(t.Context(), step.method, s.admin+"/v1/data"+step.path, strings.NewReader(step.body))
		check(t, err)
		response, err := s.client.Do(request)
		check(t, err)
		text, err := io.ReadAll(response.Body)
		check(t, errors.Join(err, response.Body.Close()))
		if response.StatusCode != step.want || step.want == 413 && !strings.Contains(string(text), "stagedoor.limits.data") {
			t.Errorf("%s %s %.40s: %d %s, want %d", step.method, step.path, step.body, response.StatusCode, text, step.want)
		}
	}
}
