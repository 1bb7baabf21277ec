package files

import (
	"context"
	"errors"
	"io/fs"
	"os"
)

// Folder is a folder as one that serves is read: its regular files, and links to such
// inside it. Anything else is an error, and nothing is waited for, as the opening of a
// pipe would. It is an [fs.FS], which is safe for concurrent use.
type Folder struct{ root *os.Root }

// OpenFolder opens a folder. Close must be called in the end.
func OpenFolder(path string) (*Folder, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	return &Folder{root}, nil
}

// Close closes the folder.
func (f *Folder) Close() error { return f.root.Close() }

// Open implements [fs.FS].
func (f *Folder) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	info, err := f.root.Stat(name)
	switch {
	case err != nil:
		return nil, opening(err)
	case info.IsDir():
		folder, err := f.root.Open(name)
		return folder, opening(err)
	}
	file, err := openRegular(f.root.Stat, f.root.OpenFile, name)
	return file, opening(err)
}

// ReadFile implements [fs.ReadFileFS].
func (f *Folder) ReadFile(name string) ([]byte, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	text, err := (&reading{left: maxBytes}).regular(context.Background(), f.root.Stat, f.root.OpenFile, name)
	return text, opening(err)
}

// opening has an error say of what it kept, and not by which call of the system.
func opening(err error) error {
	if problem, ok := errors.AsType[*fs.PathError](err); ok {
		return &fs.PathError{Op: "open", Path: problem.Path, Err: problem.Err}
	}
	return err
}

// ReadRegular reads a regular file, such as a bundle.tar.gz, as one that serves is read.
func ReadRegular(ctx context.Context, name string) ([]byte, error) {
	return (&reading{left: maxBytes}).regular(ctx, os.Stat, os.OpenFile, name)
}
