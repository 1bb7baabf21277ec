package offline

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing/fstest"

	"github.com/stagedoor/stagedoor/adapter/supply/files"
)

// maxFile is how large a file of a bundle may be, unpacked, as for OPA.
const maxFile = 1 << 30

// checkOut writes what git has at REV:path into a directory of its own.
func (s *source) checkOut(ctx context.Context, spec string) error {
	revision, at, ok := strings.Cut(spec, ":")
	if !ok || revision == "" || at == "" {
		return errors.New("want git:REV:path, such as git:main:policy")
	}
	if strings.HasPrefix(revision, "-") {
		return fmt.Errorf("%q is no revision", revision)
	}
	dir, err := os.MkdirTemp("", "stagedoor-")
	if err != nil {
		return err
	}
	s.prune, s.at = dir, filepath.Join(dir, "policy")
	object, err := git(ctx, ".", "rev-parse", "--verify", revision+":./"+filepath.ToSlash(filepath.Clean(at)))
	if err != nil {
		return err
	}
	kind, err := git(ctx, ".", "cat-file", "-t", string(object))
	if err != nil {
		return err
	}
	if string(kind) == "blob" {
		content, err := git(ctx, ".", "cat-file", "blob", string(object))
		if err != nil {
			return err
		}
		s.at += ".tar.gz"
		return os.WriteFile(s.at, content, 0o600)
	}
	// In a folder of the repository, git would archive that folder of the tree alone.
	top, err := git(ctx, ".", "rev-parse", "--show-toplevel")
	if err != nil {
		return err
	}
	archive, err := git(ctx, string(top), "archive", "--format=tar", string(object))
	if err != nil {
		return err
	}
	files, err := untar(bytes.NewReader(archive))
	if err != nil {
		return err
	}
	return os.CopyFS(s.at, files)
}

// git runs git in a folder and returns what it prints, without the end of a last
// line for the commands that print one; its error is what it complains of.
func git(ctx context.Context, dir string, args ...string) ([]byte, error) {
	command := exec.CommandContext(ctx, "git", args...)
	command.Dir = dir
	var complaint bytes.Buffer
	command.Stderr = &complaint
	out, err := command.Output()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil && complaint.Len() > 0 {
		return nil, errors.New("git: " + strings.TrimPrefix(strings.TrimSpace(complaint.String()), "fatal: "))
	}
	if args[0] == "rev-parse" || args[1] == "-t" {
		out = bytes.TrimSpace(out)
	}
	return out, err
}

// unpack reads a bundle.tar.gz into memory.
func unpack(ctx context.Context, at string) (fs.FS, error) {
	packed, err := files.ReadRegular(ctx, at)
	if err != nil {
		return nil, err
	}
	unzipped, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, fmt.Errorf("not a bundle.tar.gz: %w", err)
	}
	return untar(unzipped)
}

func untar(r io.Reader) (fs.FS, error) {
	files := fstest.MapFS{}
	for archive := tar.NewReader(r); ; {
		header, err := archive.Next()
		switch {
		case errors.Is(err, io.EOF):
			return files, nil
		case err != nil:
			return nil, fmt.Errorf("not a tar archive: %w", err)
		case header.Typeflag != tar.TypeReg:
			continue
		}
		name := strings.TrimPrefix(path.Clean("/"+header.Name), "/")
		if !fs.ValidPath(name) {
			return nil, fmt.Errorf("a file of the archive is called %q", header.Name)
		}
		content, err := io.ReadAll(io.LimitReader(archive, maxFile+1))
		if err != nil {
			return nil, err
		}
		if len(content) > maxFile {
			return nil, fmt.Errorf("%s is larger than %d bytes", name, maxFile)
		}
		files[name] = &fstest.MapFile{Data: content, Mode: 0o644}
	}
}

// roots are those of the manifest.
func (s *source) roots() ([]string, error) {
	text, err := fs.ReadFile(s.files, ".manifest")
	if err != nil {
		return nil, err
	}
	var manifest struct {
		Roots []string `json:"roots"`
	}
	if err := json.Unmarshal(text, &manifest); err != nil {
		return nil, fmt.Errorf("%s: %w", s.name(".manifest"), err)
	}
	for i, root := range manifest.Roots {
		manifest.Roots[i] = strings.Trim(root, "/") // as OPA does
	}
	return manifest.Roots, nil
}
