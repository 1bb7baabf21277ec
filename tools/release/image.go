package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// The image runs as a user without rights, who owns nothing in it.
const imageUser = "65532"

// writeImage writes the image for both linux architectures as an OCI layout, a
// folder that skopeo, crane and oras can copy to a registry.
//
// The image is the binary, the certificate authorities that Mozilla trusts, and
// the two files by which programs look up users. There is no shell in it.
func (r *release) writeImage() error {
	index, err := r.image()
	if err != nil {
		return fmt.Errorf("image: %w", err)
	}
	if _, err := layout.Write(filepath.Join(r.out, "image"), index); err != nil {
		return fmt.Errorf("image: %w", err)
	}
	return nil
}

// push pushes the image to a registry, with the credentials that docker and podman
// keep in the user's home.
func (r *release) push(ctx context.Context, reference string) error {
	ref, err := name.ParseReference(reference)
	if err != nil {
		return err
	}
	index, err := r.image()
	if err != nil {
		return err
	}
	return remote.WriteIndex(ref, index, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain))
}

func (r *release) image() (v1.ImageIndex, error) {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	roots, err := certificates()
	if err != nil {
		return nil, err
	}
	for _, p := range r.platforms {
		if p.os != "linux" {
			continue
		}
		image, err := r.imageFor(p, roots)
		if err != nil {
			return nil, err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        image,
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: p.os, Architecture: p.arch}},
		})
	}
	return index, nil
}

func (r *release) imageFor(p platform, roots []byte) (v1.Image, error) {
	binary, err := os.ReadFile(r.binary(p))
	if err != nil {
		return nil, err
	}
	base := []file{
		{"etc/group", 0o644, []byte("root:x:0:\nstagedoor:x:" + imageUser + ":\n")},
		{"etc/passwd", 0o644, []byte("root:x:0:0:root:/:/sbin/nologin\n" +
			"stagedoor:x:" + imageUser + ":" + imageUser + ":stagedoor:/:/sbin/nologin\n")},
		{"etc/ssl/certs/ca-certificates.crt", 0o644, roots},
	}
	image := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	image = mutate.ConfigMediaType(image, types.OCIConfigJSON)
	for _, files := range [][]file{base, {{"usr/bin/stagedoor", 0o755, binary}}} {
		layer, err := r.layer(files)
		if err != nil {
			return nil, err
		}
		if image, err = mutate.Append(image, mutate.Addendum{
			Layer: layer, MediaType: types.OCILayer, History: v1.History{Created: v1.Time{Time: r.time}, CreatedBy: "stagedoor-release"},
		}); err != nil {
			return nil, err
		}
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = p.os, p.arch, v1.Time{Time: r.time}
	config.Config = v1.Config{
		User:         imageUser + ":" + imageUser,
		Entrypoint:   []string{"/usr/bin/stagedoor"},
		Cmd:          []string{"serve", "--config", "/etc/stagedoor/stagedoor.yaml"},
		Env:          []string{"SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"},
		ExposedPorts: map[string]struct{}{"7008/tcp": {}, "7009/tcp": {}},
		Labels: map[string]string{
			"org.opencontainers.image.title":    "stagedoor",
			"org.opencontainers.image.version":  r.version,
			"org.opencontainers.image.revision": r.commit,
			"org.opencontainers.image.created":  r.time.Format(time.RFC3339),
			"org.opencontainers.image.licenses": "Apache-2.0",
		},
	}
	return mutate.ConfigFile(image, config)
}

// file is a file of a layer.
type file struct {
	name    string
	mode    int64
	content []byte
}

// layer makes a layer of files and of the folders that they are in.
func (r *release) layer(files []file) (v1.Layer, error) {
	var text bytes.Buffer
	w := tar.NewWriter(&text)
	made := map[string]bool{".": true}
	for _, f := range files {
		if err := r.folders(w, filepath.Dir(f.name), made); err != nil {
			return nil, err
		}
		header := &tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.content)), ModTime: r.time, Format: tar.FormatPAX}
		if err := w.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.content); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(text.Bytes())), nil
	}, tarball.WithMediaType(types.OCILayer))
}

func (r *release) folders(w *tar.Writer, dir string, made map[string]bool) error {
	if made[dir] {
		return nil
	}
	made[dir] = true
	if err := r.folders(w, filepath.Dir(dir), made); err != nil {
		return err
	}
	return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755, ModTime: r.time, Format: tar.FormatPAX})
}

// certificates are the authorities that Mozilla trusts, as PEM. They come from a Go
// module and not from the machine, so that every machine makes the same image. An
// authority that Mozilla trusts with a restriction is left out, since a PEM file
// cannot say the restriction.
func certificates() ([]byte, error) {
	var text bytes.Buffer
	seen := map[[sha256.Size]byte]bool{}
	for root := range bundle.Roots() {
		if root.Constraint != nil || seen[sha256.Sum256(root.Certificate)] {
			continue
		}
		seen[sha256.Sum256(root.Certificate)] = true
		if err := pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}); err != nil {
			return nil, err
		}
	}
	if text.Len() == 0 {
		return nil, fmt.Errorf("no certificate authorities were found")
	}
	return text.Bytes(), nil
}
