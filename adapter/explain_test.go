package adapter_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// TestExplain asks why: about oneself everybody may, about others whom the policy allows
// stagedoor.explain, and nobody who is not signed in.
func TestExplain(t *testing.T) {
	site := newSite(t, siteOptions{})
	const remove = `{"type":"resource","name":"catalog.entity.delete","attributes":{"action":"delete"},"resourceType":"catalog-entity"}`
	alice, err := site.backstage.PluginToken("user:default/alice")
	check(t, err)
	for _, test := range []struct {
		name, token, body string
		status            int
		want              []string
	}{
		{"oneself", alice, `{"permission":` + remove + `}`, 200, []string{
			`"result":"CONDITIONAL"`, `"inWords":"owned by the caller or a group of the caller"`,
			`"decided":[{"title":"Owners change and delete what is theirs","file":"`, `"change":{"text":"a caller in group:default/admins","result":"ALLOW"`,
		}},
		{"another", alice, `{"permission":` + remove + `,"user":"user:default/bob","claims":["user:default/bob"]}`, 403,
			[]string{"NotAllowedError", "stagedoor.explain"}},
		{"no permission", alice, `{}`, 400, []string{"InputError", `want {\"permission\"`}},
		{"not a permission", alice, `{"permission":{"name":1}}`, 400, []string{"InputError"}},
		{"own claims", alice, `{"permission":` + remove + `,"claims":["group:default/admins"]}`, 400, []string{"claims are those of a user"}},
		{"own claims by name", alice, `{"permission":` + remove + `,"user":"user:default/alice","claims":["group:default/admins"]}`, 400,
			[]string{"the claims of the caller are known"}},
		{"a forged token", "x", `{"permission":` + remove + `}`, 401, []string{"AuthenticationError"}},
	} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, site.url+"/explain", strings.NewReader(test.body))
		check(t, err)
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Authorization", "Bearer "+test.token)
		status, body := site.do(t, request)
		if status != test.status {
			t.Errorf("%s: %d %s", test.name, status, body)
		}
		for _, want := range test.want {
			if !strings.Contains(body, want) {
				t.Errorf("%s: no %s in %s", test.name, want, body)
			}
		}
	}
}

// TestExplainOthers asks about somebody else where the policy allows that.
func TestExplainOthers(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		".manifest": `{"roots": ["shop"]}`,
		"policy.rego": "package shop\n\n# METADATA\n# entrypoint: true\ndefault allow := false\n\n" +
			"allow if input.permission.name == \"stagedoor.explain\"\n\nallow if input.identity.claims == [\"group:default/ops\"]\n",
	} {
		check(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	site := newSite(t, siteOptions{policyDir: dir})
	alice, err := site.backstage.PluginToken("user:default/alice")
	check(t, err)
	body := `{"permission":{"type":"basic","name":"a.b","attributes":{}},"user":"user:default/bob","claims":["group:default/ops"]}`
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, site.url+"/explain", strings.NewReader(body))
	check(t, err)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+alice)
	status, answer := site.do(t, request)
	if status != 200 || !strings.Contains(answer, `"user":"user:default/bob","result":"ALLOW"`) {
		t.Errorf("%d %s", status, answer)
	}
}

// However much one user has explained at once, few explanations are made at a time, and what
// is too much is turned away.
func TestExplainFew(t *testing.T) {
	site := newSite(t, siteOptions{})
	alice, err := site.backstage.PluginToken("user:default/alice")
	check(t, err)
	var all sync.WaitGroup
	var explained, turnedAway atomic.Int64
	for range 80 {
		all.Go(func() {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, site.url+"/explain", strings.NewReader(
				`{"permission":{"type":"basic","name":"a.b","attributes":{}}}`))
			check(t, err)
			request.Header.Set("Content-Type", "application/json")
			request.Header.Set("Authorization", "Bearer "+alice)
			switch status, body := site.do(t, request); status {
			case http.StatusOK:
				explained.Add(1)
			case http.StatusServiceUnavailable:
				turnedAway.Add(1)
			default:
				t.Errorf("%d %s", status, body)
			}
		})
	}
	all.Wait()
	if explained.Load() == 0 || turnedAway.Load() == 0 {
		t.Errorf("%d explained, %d turned away", explained.Load(), turnedAway.Load())
	}
}
