package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestComposeHasWhatItMounts makes what docs/operate/README.md has a laptop make beside the
// compose file, and checks the configuration with every mount in its place. Docker makes
// an empty folder of a mount that is not there.
func TestComposeHasWhatItMounts(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "operate", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	compose := filepath.Join(dir, "deploy", "compose")
	if err := os.CopyFS(compose, os.DirFS(filepath.Join("..", "..", "deploy", "compose"))); err != nil {
		t.Fatal(err)
	}
	run := func(command string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "sh", "-ec", command)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
	}
	run(block(t, string(page), "sh laptop"))
	text, err := os.ReadFile(filepath.Join(compose, "compose.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	workingDir := regexp.MustCompile(`working_dir: (\S+)`).FindStringSubmatch(string(text))
	mounts := regexp.MustCompile(`- \./(\S+):(\S+):ro`).FindAllStringSubmatch(string(text), -1)
	if len(mounts) < 2 || workingDir == nil {
		t.Fatalf("%d mounts, %v", len(mounts), workingDir)
	}
	for _, mount := range mounts {
		if _, err := os.Stat(filepath.Join(compose, mount[1])); err != nil {
			t.Errorf("nobody made it: %v", err)
		}
		if mount[2] != workingDir[1]+"/"+mount[1] { // so that the container finds what the binary finds beside the file
			t.Errorf("%s is at %s", mount[1], mount[2])
		}
	}
	run(strings.TrimSpace(block(t, string(page), "sh laptop-serve")) + " --check-config")
}
