package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stagedoor/stagedoor/rego"
)

// TestWriting runs the test of docs/writing.md by the stock OPA on the README's
// policy, and holds its rule to the one in bundles/dev.
func TestWriting(t *testing.T) {
	root := filepath.Join("..", "..")
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	page := read("docs/writing.md")
	blocks := regexp.MustCompile("(?s)```rego\n(.*?)```").FindAllStringSubmatch(page, -1)
	if len(blocks) != 2 {
		t.Fatalf("%d blocks", len(blocks))
	}
	if !strings.Contains(read("bundles/dev/todo.rego"), blocks[1][1]) {
		t.Errorf("the rule is not the one of bundles/dev:\n%s", blocks[1][1])
	}
	dir := t.TempDir()
	writeConfig(t, filepath.Join(dir, "policy.rego"), block(t, read("README.md"), "rego"))
	writeConfig(t, filepath.Join(dir, "policy_test.rego"), blocks[0][1])
	for name, text := range rego.Modules() {
		writeConfig(t, filepath.Join(dir, strings.ReplaceAll(name, "/", "_")), text)
	}
	out, err := exec.CommandContext(t.Context(), "go", "tool", "opa", "test", dir).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "PASS: 1/1") {
		t.Errorf("opa test: %v\n%s", err, out)
	}
}
