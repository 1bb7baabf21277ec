package main

import (
	"bytes"
	"errors"
	"path/filepath"
	"strings"
	"testing"
)

// TestDiffAgainst compares with what a stagedoor serves: the same policy, one that allows
// nothing, and one that fails.
func TestDiffAgainst(t *testing.T) {
	l := newLifecycle(t)
	p := l.start(t, l.configure(t, "against", "k1", "info", ""))
	defer p.kill()
	policy := func(rule string) string {
		dir := t.TempDir()
		writeConfig(t, filepath.Join(dir, ".manifest"), `{"roots": ["shop"]}`)
		writeConfig(t, filepath.Join(dir, "policy.rego"), "package shop\n\n# METADATA\n# entrypoint: true\n"+rule+"\n")
		return dir
	}
	for name, test := range map[string]struct {
		url, candidate string
		findings       bool
		told, failed   string
	}{
		"the same":   {p.Admin, "../../bundles/default", false, "SAME in ", ""},
		"nothing":    {p.Admin, policy("default allow := false"), false, "NARROWER  ", ""},
		"more":       {p.Admin, policy("allow if input.permission"), true, "WIDER  ", ""},
		"a failure":  {p.Admin, policy("allow := true if input.permission\n\nallow := false if input.identity"), true, "BREAKS  ", ""},
		"not there":  {"http://127.0.0.1:1", "../../bundles/default", false, "", "connection refused"},
		"no admin's": {p.URL, "../../bundles/default", false, "", "/status: 401"},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			cmd := newDiff()
			cmd.SetArgs([]string{"--against", test.url, test.candidate})
			cmd.SetOut(&out)
			cmd.SilenceErrors, cmd.SilenceUsage = true, true
			err := cmd.ExecuteContext(t.Context())
			if test.failed != "" {
				if err == nil || !strings.Contains(err.Error(), test.failed) {
					t.Fatalf("%v", err)
				}
				return
			}
			if errors.Is(err, errFindings) != test.findings || err != nil && !test.findings {
				t.Errorf("%v", err)
			}
			if !strings.Contains(out.String(), test.told) || !strings.Contains(out.String(), "old: "+test.url+", revision ") {
				t.Errorf("%s", out.String())
			}
			if strings.HasPrefix(test.told, "SAME") && !strings.HasPrefix(out.String(), "SAME") {
				t.Errorf("it says more:\n%s", out.String())
			}
			if !strings.Contains(out.String(), "there may be others, since ") {
				t.Errorf("it knows all callers of a policy that it does not read:\n%s", out.String())
			}
		})
	}
}
