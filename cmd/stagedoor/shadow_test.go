package main

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestShadow serves with a candidate beside that allows nothing, and with one that must
// not serve: answers stay, and the operator is told. So it is where a candidate is replaced.
func TestShadow(t *testing.T) {
	l := newLifecycle(t)
	const mustNotServe = `allow if input.resource.kind == "API"`
	for name, test := range map[string]struct{ rule, told string }{
		"a candidate that allows nothing": {
			"allow := false", `"differences":[{"permission":"todo.list","change":"NARROWER","count":1,"examples":[{"user":"user:default/alice"`,
		},
		"a candidate that must not serve": {mustNotServe, `"refused":"`},
	} {
		t.Run(name, func(t *testing.T) {
			candidate := t.TempDir()
			writeConfig(t, filepath.Join(candidate, ".manifest"), `{"roots": ["shop"]}`)
			writeConfig(t, filepath.Join(candidate, "policy.rego"), "package shop\n\n# METADATA\n# entrypoint: true\n"+test.rule+"\n")
			// The level's braces end, so that the candidate stands beside it.
			p := l.start(t, l.configure(t, "shadow", "k1", `info}, policy: {shadow: {path: "`+candidate+`"}`, ""))
			defer p.kill()
			token, err := l.backstage.PluginToken("user:default/alice")
			must(t, err)
			want := `{"items":[{"id":"1","result":"ALLOW"}]}`
			got := ask(t, p.URL+"/authorize", token, `{"items":[{"id":"1","permission":{"type":"basic","name":"todo.list","attributes":{"action":"read"}}}]}`)
			if got != want {
				t.Errorf("answers %s", got)
			}
			told := func(text string) {
				t.Helper()
				deadline := time.Now().Add(patience)
				for {
					status, body := p.get(t, "/shadow")
					if status == http.StatusOK && strings.Contains(body, text) {
						break
					}
					if time.Now().After(deadline) {
						t.Fatalf("%d %s\n%s", status, body, p.text())
					}
					time.Sleep(50 * time.Millisecond)
				}
			}
			told(test.told)
			if test.rule == mustNotServe {
				return
			}
			writeConfig(t, filepath.Join(candidate, "policy.rego"), "package shop\n\n# METADATA\n# entrypoint: true\n"+mustNotServe+"\n")
			told(`"refused":"`)
			told(`"count":1`) // by the last good one
		})
	}
}
