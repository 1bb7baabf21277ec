package main

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestShadow serves with a candidate beside that allows nothing, and with one that must
// not serve: answers stay, and the operator is told.
func TestShadow(t *testing.T) {
	l := newLifecycle(t)
	for name, test := range map[string]struct{ rule, told string }{
		"a candidate that allows nothing": {
			"allow := false", `"differences":[{"permission":"todo.list","change":"NARROWER","count":1,"examples":[{"user":"user:default/alice"`,
		},
		"a candidate that must not serve": {`allow if input.resource.kind == "API"`, `"refused":"`},
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
			deadline := time.Now().Add(20 * time.Second)
			for {
				status, text := p.get(t, "/shadow")
				if status == http.StatusOK && strings.Contains(text, test.told) {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("%d %s\n%s", status, text, p.text())
				}
				time.Sleep(50 * time.Millisecond)
			}
		})
	}
}
