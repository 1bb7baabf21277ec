// Release makes everything that a release of stagedoor consists of, in one folder:
// static binaries for linux and darwin on amd64 and arm64, an OCI image for both
// linux architectures, two bills of materials for each binary (SPDX and
// CycloneDX), and the checksums of all files.
//
// The same commit gives the same bytes, in any folder and on any machine with the
// same Go: no clock, no path and no user of the machine gets in. The time in the
// image and in the bills is that of the commit.
//
// It builds without Docker and asks nothing but the Go module proxy.
package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	root := flag.String("root", ".", "the `folder` of the checkout")
	out := flag.String("out", "dist", "the `folder` to write; what is in it is replaced")
	version := flag.String("version", "", "the `version`, such as v1.2.3")
	push := flag.String("push", "", "an image `reference` to push the image to, such as registry.example.com/stagedoor:v1.2.3")
	flag.Parse()
	if *version == "" {
		return errors.New("-version is missing: name the release, such as -version v1.2.3")
	}
	r, err := newRelease(ctx, *root, *out, *version)
	if err != nil {
		return err
	}
	if err := r.make(ctx); err != nil {
		return err
	}
	if *push == "" {
		return nil
	}
	return r.push(ctx, *push)
}

// A release is one version of the product, made from one commit into one folder.
type release struct {
	root, out string
	version   string
	commit    string
	time      time.Time // of the commit
	platforms []platform
}

// platform is what a binary runs on.
type platform struct{ os, arch string }

func (p platform) String() string { return p.os + "-" + p.arch }

// newRelease reads the commit of the checkout at root and empties the folder out.
func newRelease(ctx context.Context, root, out, version string) (*release, error) {
	commit, err := output(ctx, root, "git", "rev-parse", "HEAD")
	if err != nil {
		return nil, err
	}
	seconds, err := output(ctx, root, "git", "show", "-s", "--format=%cI", "HEAD")
	if err != nil {
		return nil, err
	}
	at, err := time.Parse(time.RFC3339, seconds)
	if err != nil {
		return nil, fmt.Errorf("the time of the commit: %w", err)
	}
	if err := os.RemoveAll(out); err != nil {
		return nil, err
	}
	if out, err = filepath.Abs(out); err != nil {
		return nil, err
	}
	return &release{
		root: root, out: out, version: version, commit: commit, time: at.UTC(),
		platforms: []platform{{"darwin", "amd64"}, {"darwin", "arm64"}, {"linux", "amd64"}, {"linux", "arm64"}},
	}, os.MkdirAll(out, 0o755)
}

// make writes all files of the release.
func (r *release) make(ctx context.Context) error {
	for _, p := range r.platforms {
		if err := r.build(ctx, p); err != nil {
			return err
		}
		if err := r.bills(p); err != nil {
			return err
		}
	}
	if err := r.writeImage(); err != nil {
		return err
	}
	return r.sums()
}

// binary is the file of the binary for a platform.
func (r *release) binary(p platform) string { return filepath.Join(r.out, "stagedoor-"+p.String()) }

// build builds the binary for a platform: static, stripped, and the same wherever
// it is built.
func (r *release) build(ctx context.Context, p platform) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false",
		"-ldflags", fmt.Sprintf("-s -w -buildid= -X main.release=%s -X main.commit=%s", r.version, r.commit),
		"-o", r.binary(p), "./cmd/stagedoor")
	cmd.Dir = r.root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOOS="+p.os, "GOARCH="+p.arch, "GOAMD64=v1", "GOARM64=v8.0")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build for %v: %w", p, err)
	}
	return nil
}

// sums writes SHA256SUMS, which `sha256sum --check` reads.
func (r *release) sums() error {
	var lines []string
	err := filepath.WalkDir(r.out, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		sum, err := sha256Of(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(r.out, path)
		lines = append(lines, fmt.Sprintf("%x  %s\n", sum, filepath.ToSlash(name)))
		return err
	})
	if err != nil {
		return err
	}
	slices.SortFunc(lines, func(a, b string) int { return strings.Compare(a[64:], b[64:]) })
	return os.WriteFile(filepath.Join(r.out, "SHA256SUMS"), []byte(strings.Join(lines, "")), 0o644) //nolint:gosec // to be published
}

func sha256Of(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	h := sha256.New()
	if _, err := io.Copy(h, file); err != nil {
		return nil, err
	}
	return h.Sum(nil), nil
}

func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	text, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(text)), nil
}
