// Package files reads policies that lie on this machine: in a folder, in a bundle.tar.gz,
// or compiled in.
//
// [Read] and [ReadFS] return the [Content] of a bundle as it was at one time, for OPA to
// read the bundle of. Only regular files are read, and links to such inside the folder,
// within bounds of number and size. A pipe, a device or a link that leads out is an error,
// and nobody waits for a file system that does not answer. [Folder] and [ReadRegular] hold
// single files to the same. [Walk] visits what is below a folder, for who watches it.
package files

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/loader/filter"

	"github.com/stagedoor/stagedoor/adapter/vetted"
)

// What a local policy may consist of: so many files and folders, and so many bytes of
// files that are read.
const (
	maxEntries = 100_000
	maxBytes   = 256 << 20
)

// Content is the files of a bundle with their content, as they were at one time. OPA reads
// the bundle of them.
type Content struct {
	// Fingerprint is equal where the content is.
	Fingerprint string

	list []file
	next int
}

type file struct {
	name    string // with slashes
	content []byte
}

// NextFile implements OPA's bundle.DirectoryLoader.
func (c *Content) NextFile() (*bundle.Descriptor, error) {
	if c.next == len(c.list) {
		return nil, io.EOF
	}
	file := c.list[c.next]
	c.next++
	return bundle.NewDescriptor("/"+file.name, "/"+file.name, bytes.NewReader(file.content)), nil
}

// WithFilter does nothing: what is no part of a bundle is not among the files.
func (c *Content) WithFilter(filter.LoaderFilter) bundle.DirectoryLoader { return c }

// WithPathFormat does nothing: paths are as OPA has them by default.
func (c *Content) WithPathFormat(bundle.PathFormat) bundle.DirectoryLoader { return c }

// WithSizeLimitBytes does nothing: all files together are bounded.
func (c *Content) WithSizeLimitBytes(int64) bundle.DirectoryLoader { return c }

// WithFollowSymlinks does nothing: there are no links any more.
func (c *Content) WithFollowSymlinks(bool) bundle.DirectoryLoader { return c }

// Read reads the policy at a path, a directory or a bundle.tar.gz, as it is now. Regular
// files are read, and links to regular files inside the folder: a mounted ConfigMap
// consists of them. Anything else under a name that belongs to a bundle is an error. With
// an error the content is nil, or has no more than a fingerprint to name it by.
//
// It returns when ctx is done, though a file system may never answer.
func Read(ctx context.Context, at string) (*Content, error) {
	return inTime(ctx, func(r *reading) (*Content, error) { return r.local(ctx, at) })
}

// ReadFS reads the policy that a file system has, such as one that is compiled in, without
// its tests. It returns when ctx is done, too.
func ReadFS(ctx context.Context, fsys fs.FS) (*Content, error) {
	return inTime(ctx, func(r *reading) (*Content, error) { return r.embedded(fsys) })
}

// inTime reads until ctx is done.
func inTime(ctx context.Context, readWith func(*reading) (*Content, error)) (*Content, error) {
	type result struct {
		content *Content
		err     error
	}
	read := make(chan result, 1)
	go func() {
		content, err := readWith(&reading{left: maxBytes})
		read <- result{content, err}
	}()
	select {
	case r := <-read:
		return r.content, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// reading is one reading of a source.
type reading struct {
	left  int64 // bytes that may still be read
	found []file
}

func (r *reading) local(ctx context.Context, at string) (*Content, error) {
	info, err := os.Stat(at)
	switch {
	case err != nil:
		return nil, err
	case !info.IsDir():
		return r.archive(ctx, at)
	}
	root, err := os.OpenRoot(at)
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	err = Walk(ctx, root, func(name string, entry fs.DirEntry) error {
		switch {
		case entry.Type()&fs.ModeSymlink != 0 && !isLeftOut(entry.Name()):
			// Without what lies behind it the policy would not be whole.
			if to, err := os.Stat(filepath.Join(at, filepath.FromSlash(name))); err == nil && to.IsDir() {
				return fmt.Errorf("%s is a link, and what it leads to is a directory: put the folder itself there", name)
			}
		case entry.IsDir():
			return nil
		}
		if !isTakenIn(entry.Name()) {
			return nil
		}
		content, err := r.regular(ctx, root.Stat, root.OpenFile, name)
		r.found = append(r.found, file{name, content})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", at, err)
	}
	return r.content(r.found), nil
}

// content is what was found, with the fingerprint of others, or of the same.
func (r *reading) content(of []file) *Content {
	h := sha256.New()
	for _, file := range of {
		sum := sha256.Sum256(file.content)
		_, _ = fmt.Fprintf(h, "%q %x\n", file.name, sum)
	}
	return &Content{list: r.found, Fingerprint: vetted.RevisionOfHash(h.Sum(nil))}
}

func (r *reading) embedded(fsys fs.FS) (*Content, error) {
	err := fs.WalkDir(fsys, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() || isTest(entry.Name()) || !isPart(entry.Name()):
			return nil
		}
		content, err := fs.ReadFile(fsys, name)
		r.found = append(r.found, file{name, content})
		return err
	})
	return r.content(r.found), err
}

// archive reads a bundle.tar.gz. Its fingerprint is that of the archive.
func (r *reading) archive(ctx context.Context, at string) (*Content, error) {
	packed, err := r.regular(ctx, os.Stat, os.OpenFile, at)
	if err != nil {
		return nil, err
	}
	whole := []file{{filepath.Base(at), packed}}
	unzipped, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return r.content(whole), fmt.Errorf("%s: it is no bundle.tar.gz: %w", at, err)
	}
	content := tar.NewReader(unzipped)
	for entries := 0; ; entries++ {
		header, err := content.Next()
		switch {
		case errors.Is(err, io.EOF):
			return r.content(whole), nil
		case err != nil:
			return r.content(whole), fmt.Errorf("%s: it is no tar archive: %w", at, err)
		case entries == maxEntries:
			return r.content(whole), errTooMany
		}
		name := strings.TrimPrefix(path.Clean("/"+header.Name), "/")
		if header.Typeflag != tar.TypeReg || !isPart(path.Base(name)) {
			// It is read all the same, to come to the next one.
			if err := r.copy(ctx, io.Discard, content, header.Name); err != nil {
				return r.content(whole), err
			}
			continue
		}
		var text bytes.Buffer
		if err := r.copy(ctx, &text, content, header.Name); err != nil {
			return r.content(whole), err
		}
		r.found = append(r.found, file{name, text.Bytes()})
	}
}

// isLeftOut reports whether a file or folder of the name is no part of a policy in a folder.
func isLeftOut(name string) bool {
	return isTest(name) || strings.HasPrefix(name, ".") && name != ".manifest" && name != "."
}

func isTest(name string) bool { return strings.HasSuffix(name, "_test.rego") }

// isTakenIn reports whether a file of the name is taken from a folder into a bundle. What
// else lies there does not make it another policy.
func isTakenIn(name string) bool { return isPart(name) && !isLeftOut(name) }

// isPart reports whether OPA takes a file of the name for a part of a bundle. An archive
// is taken as it was built, and as OPA's own plugin takes it: with tests, if it has any.
func isPart(name string) bool {
	switch name {
	case "data.json", "data.yaml", "data.yml", ".manifest", "patch.json", "policy.wasm":
		return true
	}
	return strings.HasSuffix(name, ".rego")
}

// A stater and an opener are those of a folder, or of the file system.
type (
	stater func(string) (fs.FileInfo, error)
	opener func(string, int, fs.FileMode) (*os.File, error)
)

// regular reads a regular file.
func (r *reading) regular(ctx context.Context, stat stater, open opener, name string) ([]byte, error) {
	file, err := openRegular(stat, open, name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() > r.left {
		return nil, fmt.Errorf("%s: %w", name, errTooLarge)
	}
	text := bytes.NewBuffer(make([]byte, 0, info.Size()+bytes.MinRead))
	err = r.copy(ctx, text, file, name)
	return text.Bytes(), err
}

// openRegular opens a regular file. That waits for nobody, as the opening of a pipe would.
func openRegular(stat stater, open opener, name string) (*os.File, error) {
	info, err := stat(name) // opening a device can do something
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, irregular(name)
	}
	file, err := open(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err = file.Stat() // it may have been exchanged
	if err == nil && !info.Mode().IsRegular() {
		err = irregular(name)
	}
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return file, nil
}

func irregular(name string) error {
	return fmt.Errorf("%s is no regular file: take it away, or give it another name", name)
}

// errTooMany and errTooLarge are for sources that are no policies.
var (
	errTooMany  = fmt.Errorf("more than %d files and folders: a policy needs a folder of its own", maxEntries)
	errTooLarge = fmt.Errorf("more than %d MiB of files in all", maxBytes>>20)
)

// copy copies within what may still be read, and while ctx is not done.
func (r *reading) copy(ctx context.Context, to io.Writer, from io.Reader, name string) error {
	const chunk = 1 << 20
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := io.CopyN(to, from, min(chunk, r.left+1))
		if r.left -= n; r.left < 0 {
			return fmt.Errorf("%s: %w", name, errTooLarge)
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("%s: %w", name, err)
		}
	}
}

// Walk visits what is below a folder, in the order of fs.WalkDir, but for what is left
// out of bundles. Links are visited, and not followed. A folder is read in parts, so that
// one of a million files is noticed before it is in memory.
func Walk(ctx context.Context, root *os.Root, visit func(name string, entry fs.DirEntry) error) error {
	entries := 0
	var below func(dir string) error
	below = func(dir string) error {
		folder, err := root.Open(dir)
		if err != nil {
			return err
		}
		defer func() { _ = folder.Close() }()
		var all []fs.DirEntry
		for {
			const part = 1024
			some, err := folder.ReadDir(part)
			all = append(all, some...)
			entries += len(some)
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case entries > maxEntries:
				return errTooMany
			case errors.Is(err, io.EOF):
			case err != nil:
				return err
			default:
				continue
			}
			break
		}
		slices.SortFunc(all, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
		for _, entry := range all {
			if entry.IsDir() && isLeftOut(entry.Name()) {
				continue
			}
			name := path.Join(dir, entry.Name())
			if err := visit(name, entry); err != nil {
				return err
			}
			if entry.IsDir() {
				if err := below(name); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return below(".")
}
