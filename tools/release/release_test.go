package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"archive/tar"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// linux makes the linux half of a release of the commit, from a clone in a folder of
// its own.
func linux(t *testing.T) *release {
	t.Helper()
	root := filepath.Join(t.TempDir(), "clone")
	if _, err := output(t.Context(), ".", "git", "clone", "--quiet", "../..", root); err != nil {
		t.Fatal(err)
	}
	r, err := newRelease(t.Context(), root, filepath.Join(t.TempDir(), "dist"), "v0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	r.platforms = []platform{{"linux", "amd64"}, {"linux", "arm64"}}
	if err := r.make(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRelease(t *testing.T) {
	first, second := linux(t), linux(t)
	sums := func(r *release) string {
		text, err := os.ReadFile(filepath.Join(r.out, "SHA256SUMS"))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if a, b := sums(first), sums(second); a != b || strings.Count(a, "\n") < 10 {
		t.Errorf("two builds in two folders differ:\n%s\n%s", a, b)
	}
	t.Run("checksums", func(t *testing.T) {
		if text, err := output(t.Context(), first.out, "sha256sum", "--check", "--quiet", "SHA256SUMS"); err != nil {
			t.Error(text, err)
		}
	})
	t.Run("bills", func(t *testing.T) { bills(t, first) })
	t.Run("image", func(t *testing.T) { image(t, first) })
}

// bills looks for what the binary is made of, and that tests' modules are not in it.
func bills(t *testing.T, r *release) {
	for _, suffix := range []string{".spdx.json", ".cdx.json"} {
		text, err := os.ReadFile(r.binary(platform{"linux", "amd64"}) + suffix)
		if err != nil || !json.Valid(text) {
			t.Fatal(suffix, err)
		}
		for _, module := range []string{"pkg:golang/github.com/open-policy-agent/opa@v1.", "pkg:golang/std@1."} {
			if !bytes.Contains(text, []byte(module)) {
				t.Errorf("%s does not name %s", suffix, module)
			}
		}
		for _, module := range []string{"gofakes3", "pgregory.net/rapid", "go-containerregistry", "rogpeppe/go-internal"} {
			if bytes.Contains(text, []byte(module)) {
				t.Errorf("%s: the binary has %s, which only tests use", suffix, module)
			}
		}
	}
}

// image unpacks the image and runs it as its user on a root that cannot be written.
func image(t *testing.T, r *release) {
	if os.Getuid() != 0 {
		t.Fatal("run this as root: it changes root and user")
	}
	path, err := layout.FromPath(filepath.Join(r.out, "image"))
	if err != nil {
		t.Fatal(err)
	}
	index, err := path.ImageIndex()
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil || len(manifest.Manifests) != 2 {
		t.Fatal(len(manifest.Manifests), err)
	}
	for _, entry := range manifest.Manifests {
		img, err := index.Image(entry.Digest)
		if err != nil {
			t.Fatal(err)
		}
		config, err := img.ConfigFile()
		if err != nil || config.Architecture != entry.Platform.Architecture || config.Config.User != "65532:65532" {
			t.Fatalf("%+v %v", config, err)
		}
		if entry.Platform.Architecture == "amd64" {
			runImage(t, img, config)
		}
	}
}

func runImage(t *testing.T, img v1.Image, config *v1.ConfigFile) {
	root := t.TempDir()
	unpack(t, mutate.Extract(img), root)
	settings := filepath.Join(root, "etc/stagedoor")
	if err := os.MkdirAll(settings, 0o755); err != nil {
		t.Fatal(err)
	}
	yaml := "backend: {baseUrl: 'http://127.0.0.1:1'}\nstagedoor: {listen: '127.0.0.1:17008', admin: {listen: '127.0.0.1:17009'}}\n"
	if err := os.WriteFile(filepath.Join(settings, "stagedoor.yaml"), []byte(yaml), 0o644); err != nil {
		t.Fatal(err)
	}
	script := `mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec chroot --userspec=65532:65532 "$0" "$@"`
	args := append([]string{"--mount", "sh", "-c", script, root}, append(config.Config.Entrypoint, config.Config.Cmd...)...)
	cmd := exec.CommandContext(t.Context(), "unshare", args...)
	var log bytes.Buffer
	cmd.Stderr = &log
	cmd.Env = config.Config.Env
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v\n%s", err, log.String())
		}
	}()
	client := &http.Client{Timeout: time.Minute}
	for range 1200 {
		response, err := client.Get("http://127.0.0.1:17009/ready")
		if err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				status, err := os.ReadFile("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/status")
				if err != nil || !strings.Contains(string(status), "Uid:\t65532\t65532") {
					t.Errorf("it runs as another user: %s %v", status, err)
				}
				return
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("it is not ready after two minutes:\n%s", log.String())
}

func unpack(t *testing.T, archive io.ReadCloser, root string) {
	t.Helper()
	defer func() { _ = archive.Close() }()
	if err := os.Chmod(root, 0o755); err != nil { //nolint:gosec // another user looks into it
		t.Fatal(err)
	}
	for dir := filepath.Dir(root); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // likewise
			t.Fatal(err)
		}
	}
	for r := tar.NewReader(archive); ; {
		header, err := r.Next()
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		at := filepath.Join(root, header.Name) //nolint:gosec // of our own image
		if header.Typeflag == tar.TypeDir {
			err = os.MkdirAll(at, 0o755)
		} else {
			var content []byte
			if content, err = io.ReadAll(r); err == nil {
				err = os.WriteFile(at, content, os.FileMode(header.Mode)) //nolint:gosec // a mode of ours
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
