package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestSign signs a small release in a registry by the commands of the release workflow,
// with a key of its own, and verifies it by those of docs/operate/README.md. Nothing but
// the registry can be reached meanwhile.
func TestSign(t *testing.T) {
	root := filepath.Join(t.TempDir(), "clone")
	if _, err := output(t.Context(), ".", "git", "clone", "--quiet", "../..", root); err != nil {
		t.Fatal(err)
	}
	image := registry(t) + "/stagedoor"
	r, err := newRelease(t.Context(), root, filepath.Join(root, "dist"), "v0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	r.platforms = []platform{{"linux", "amd64"}}
	if err := os.WriteFile(r.binary(r.platforms[0]), []byte("a binary\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	push := func() error { return r.push(t.Context(), image+":"+r.version) }
	for _, step := range []func() error{r.writeImage, r.sums, push} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}

	page := contentOf(t, root, "docs", "operate", "README.md")
	generate, _, _ := strings.Cut(block(t, page, "sh release"), "\n")
	workflow := contentOf(t, root, ".github", "workflows", "release.yaml")
	sign := regexp.MustCompile(`(?s)- name: Sign\n.*?run: (.*?)\n`).FindStringSubmatch(workflow)
	if sign == nil {
		t.Fatal("the workflow does not sign")
	}
	s := newShell(t, root)
	s.must(t, ".", generate)
	s.must(t, ".", sign[1], "IMAGE="+image, "COSIGN_PRIVATE_KEY="+contentOf(t, root, "cosign.key"))

	verify := block(t, page, "sh verify")
	s.must(t, "dist", "cp ../cosign.pub .\n"+verify, "IMAGE="+image+":v0.0.1")
	r.version = "v0.0.2" // which nobody signed
	if err := push(); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(verify), "\n")
	const another = "rm cosign.pub && cosign generate-key-pair"
	for i, refused := range []struct{ name, before, command, tag, want string }{
		{"checksums that were changed", "echo >>SHA256SUMS", lines[0], "v0.0.1", "invalid signature"},
		{"a binary that was changed", "echo >>stagedoor-linux-amd64", lines[1], "v0.0.1", "stagedoor-linux-amd64: FAILED"},
		{"an image that was not signed", "true", lines[2], "v0.0.2", "no signatures found"},
		{"checksums by another's key", another, lines[0], "v0.0.1", "invalid signature"},
		{"an image by another's key", another, lines[2], "v0.0.1", "failed to verify signature"},
	} {
		dir := fmt.Sprintf("dist-%d", i)
		s.must(t, ".", "cp -r dist "+dir)
		s.must(t, dir, refused.before)
		text, err := s.run(t, dir, refused.command, "IMAGE="+image+":"+refused.tag)
		if err == nil || !strings.Contains(text, refused.want) {
			t.Errorf("%s: %v, want %q\n%s", refused.name, err, refused.want, text)
		}
	}
}

// shell runs commands in folders of a checkout, with its cosign on the path.
type shell struct {
	root string
	env  []string
}

func newShell(t *testing.T, root string) *shell {
	t.Helper()
	bin := t.TempDir()
	script := "#!/bin/sh\nexec go tool -modfile=" + root + "/tools/cosign/go.mod cosign \"$@\"\n"
	if err := os.WriteFile(filepath.Join(bin, "cosign"), []byte(script), 0o700); err != nil { //nolint:gosec // to be run
		t.Fatal(err)
	}
	s := &shell{root: root, env: append(os.Environ(),
		"PATH="+bin+":"+os.Getenv("PATH"), "COSIGN_PASSWORD=a password", "VERSION=v0.0.1")}
	s.must(t, ".", "cosign version") // builds it, with modules from elsewhere
	const nowhere = "http://127.0.0.1:1"
	s.env = append(s.env, "GOPROXY=off", "HTTP_PROXY="+nowhere, "HTTPS_PROXY="+nowhere, "http_proxy="+nowhere,
		"https_proxy="+nowhere, "NO_PROXY=127.0.0.1", "no_proxy=127.0.0.1")
	return s
}

func (s *shell) run(t *testing.T, dir, commands string, env ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-euc", commands)
	cmd.Dir = filepath.Join(s.root, dir)
	cmd.Env = append(append([]string{}, s.env...), env...)
	text, err := cmd.CombinedOutput()
	return string(text), err
}

func (s *shell) must(t *testing.T, dir, commands string, env ...string) {
	t.Helper()
	if text, err := s.run(t, dir, commands, env...); err != nil {
		t.Fatalf("%s: %v\n%s", commands, err, text)
	}
}

func contentOf(t *testing.T, elements ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(elements...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// block is the first block of the language in a Markdown text.
func block(t *testing.T, markdown, language string) string {
	t.Helper()
	match := regexp.MustCompile("(?s)```" + language + "\n(.*?)```").FindStringSubmatch(markdown)
	if match == nil {
		t.Fatalf("no block of %s", language)
	}
	return match[1]
}

// registry runs Debian's registry and returns its host:port.
func registry(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "registry.yaml")
	text := fmt.Sprintf("version: 0.1\nstorage: {filesystem: {rootdirectory: %q}}\nhttp: {addr: %q}\nlog: {level: error}\n",
		dir, address)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	command := exec.Command("docker-registry", "serve", config)
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	})
	for begun := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		response, err := http.Get("http://" + address + "/v2/")
		if err == nil {
			_ = response.Body.Close()
			return address
		}
		if time.Since(begun) > 2*time.Minute {
			t.Fatal(err)
		}
	}
}
