package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestGuide follows docs/guide.md: it writes its files, and runs its commands, in order.
// A line that begins with ! is to fail.
func TestGuide(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "guide.md"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	commands := 0
	for _, block := range regexp.MustCompile("(?s)```(sh|yaml|rego)\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		language, text := block[1], block[2]
		switch language {
		case "yaml":
			name, content, _ := strings.Cut(strings.TrimPrefix(text, "# "), "\n")
			writeConfig(t, filepath.Join(dir, name), content)
		case "rego":
			replaceRule(t, filepath.Join(dir, "policy.rego"), text)
		case "sh":
			for line := range strings.SplitSeq(strings.TrimSpace(text), "\n") {
				if after, ok := strings.CutPrefix(line, "cd "); ok {
					dir = filepath.Join(dir, after)
					continue
				}
				command, fails := strings.CutPrefix(line, "! ")
				run := exec.CommandContext(t.Context(), "sh", "-c", command)
				run.Dir = dir
				out, err := run.CombinedOutput()
				if (err != nil) != fails {
					t.Fatalf("%s: %v\n%s", line, err, out)
				}
				commands++
			}
		}
	}
	if commands < 12 {
		t.Errorf("%d commands", commands)
	}
}

// replaceRule puts a rule with its METADATA in the place of the one with the same title.
func replaceRule(t *testing.T, file, text string) {
	t.Helper()
	_, rule, _ := strings.Cut(text, "\n")
	title := regexp.MustCompile(`# METADATA\n# title: .*\n`).FindString(rule)
	policy, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, after, ok := strings.Cut(string(policy), title)
	_, rest, ends := strings.Cut(after, "\n}\n")
	if !ok || !ends {
		t.Fatalf("no rule with %s", title)
	}
	writeConfig(t, file, before+rule+rest)
}
