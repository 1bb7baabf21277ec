package bundles

import (
	"embed"
	"errors"
	"io/fs"
)

//go:embed dev/policy.rego dev/todo.rego
var dev embed.FS

// Dev returns the default bundle with what the sample todo plugin of
// `stagedoor serve --dev` adds to it. It is safe for concurrent use.
func Dev() fs.FS {
	added, err := fs.Sub(dev, ".")
	if err != nil { // fs.Sub refuses invalid paths alone, and this one is a constant.
		panic(err)
	}
	return union{Default(), added}
}

// union is several trees as one; of files with the same path the first counts.
type union []fs.FS

func (u union) Open(name string) (fs.File, error) {
	for _, tree := range u {
		file, err := tree.Open(name)
		if !errors.Is(err, fs.ErrNotExist) {
			return file, err
		}
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

// ReadDir lists what all trees have at name.
func (u union) ReadDir(name string) ([]fs.DirEntry, error) {
	var entries []fs.DirEntry
	found := false
	for _, tree := range u {
		of, err := fs.ReadDir(tree, name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		found = found || err == nil
		entries = append(entries, of...)
	}
	if !found {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrNotExist}
	}
	return entries, nil
}
