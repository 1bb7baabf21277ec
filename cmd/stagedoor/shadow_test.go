package main

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestShadow serves with a candidate beside that allows nothing, that fails, that takes
// its time, and that must not serve: answers stay, and the operator is told. So it is where a
// candidate is replaced.
func TestShadow(t *testing.T) {
	l := newLifecycle(t)
	const allowsNothing, mustNotServe = "allow := false", `allow if input.resource.kind == "API"`
	for name, test := range map[string]struct{ rule, told string }{
		"a candidate that allows nothing": {
			allowsNothing, `"differences":[{"permission":"todo.list","change":"NARROWER","count":20,"examples":[{"user":"user:default/alice"`,
		},
		"a candidate that fails": {
			"allow := answer if some answer in [true, false]", `"change":"BREAKS","count":20,"examples":[{"user":"user:default/alice"`,
		},
		"a candidate that takes its time": {
			"allow if count([1 | numbers.range(1, 5000)[_]; numbers.range(1, 5000)[_]]) == 0", `"compared":0`,
		},
		"a candidate that must not serve": {mustNotServe, `"refused":"`},
		"a candidate that is not there":   {"", `"refused":"stagedoor.policy.shadow.path: stat `},
	} {
		t.Run(name, func(t *testing.T) {
			candidate := t.TempDir()
			writeConfig(t, filepath.Join(candidate, ".manifest"), `{"roots": ["shop"]}`)
			writeConfig(t, filepath.Join(candidate, "policy.rego"), "package shop\n\n# METADATA\n# entrypoint: true\n"+test.rule+"\n")
			if test.rule == "" {
				must(t, os.RemoveAll(candidate))
			}
			// The level's braces end, so that the candidate stands beside it.
			p := l.start(t, l.configure(t, "shadow", "k1", `info}, policy: {shadow: {path: "`+candidate+`"}`, ""))
			defer p.kill()
			token, err := l.backstage.PluginToken("user:default/alice")
			must(t, err)
			want := `{"items":[{"id":"1","result":"ALLOW"}]}`
			for range 20 { // also while the candidate decides
				got := ask(t, p.URL+"/authorize", token, `{"items":[{"id":"1","permission":{"type":"basic","name":"todo.list","attributes":{"action":"read"}}}]}`)
				if got != want {
					t.Fatalf("answers %s", got)
				}
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
			if test.rule != allowsNothing {
				return
			}
			writeConfig(t, filepath.Join(candidate, "policy.rego"), "package shop\n\n# METADATA\n# entrypoint: true\n"+mustNotServe+"\n")
			told(`"refused":"`)
			told(`"count":20`) // by the last good one
		})
	}
}

// TestShadowOfAShare has a candidate decide about a share of the requests.
func TestShadowOfAShare(t *testing.T) {
	const requests, share = 1000, "0.1"
	l := newLifecycle(t)
	candidate := t.TempDir()
	writeConfig(t, filepath.Join(candidate, ".manifest"), `{"roots": ["shop"]}`)
	writeConfig(t, filepath.Join(candidate, "policy.rego"), "package shop\n\n# METADATA\n# entrypoint: true\nallow := false\n")
	p := l.start(t, l.configure(t, "shadow", "k1", `info}, policy: {shadow: {path: "`+candidate+`", share: `+share+`}`, ""))
	defer p.kill()
	token, err := l.backstage.PluginToken("user:default/alice")
	must(t, err)
	for range requests {
		ask(t, p.URL+"/authorize", token, `{"items":[{"id":"1","permission":{"type":"basic","name":"todo.list","attributes":{"action":"read"}}}]}`)
	}
	// The worker rests, so some of the share wait. By chance fewer than 20 or more than 300 of
	// 1,000 are of it once in 10^20 times.
	var of struct{ Compared, Dropped int }
	for deadline := time.Now().Add(patience); of.Compared+of.Dropped < 20 && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		_, body := p.get(t, "/shadow")
		must(t, json.Unmarshal([]byte(body), &of))
	}
	if all := of.Compared + of.Dropped; all < 20 || all > 300 {
		t.Errorf("%+v of %d requests", of, requests)
	}
}
