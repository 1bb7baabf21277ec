package files_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stagedoor/stagedoor/adapter/fixture"
	"github.com/stagedoor/stagedoor/adapter/supply/files"
)

// A folder with very many files is refused in little time and memory, and its reading
// ends with the context.
func TestFolderOfManyFiles(t *testing.T) {
	dir := t.TempDir()
	fixture.Write(t, dir, fixture.Allowing("", "a"))
	fixture.Must(t, os.Mkdir(dir+"/many", 0o700))
	file := dir + "/many/0"
	fixture.Must(t, os.WriteFile(file, nil, 0o600))
	for i := range files.MaxEntries {
		// Links to one file are made fast, up to so many.
		if i%60_000 == 59_999 {
			file = dir + "/many/of" + string(rune('a'+i/60_000))
			fixture.Must(t, os.WriteFile(file, nil, 0o600))
		}
		fixture.Must(t, os.Link(file, dir+"/many/"+strings.Repeat("x", i%7)+itoa(i)))
	}
	_, err := fixture.Try(t, fixture.Options{Path: dir})
	if err == nil || !strings.Contains(err.Error(), "more than 100000 files and folders") {
		t.Errorf("got %v", err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if _, err := files.Read(ended, dir); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func itoa(i int) string {
	const digits = "0123456789abcdefghijklmnopqrstuv"
	text := []byte{'n'}
	for ; i > 0; i /= len(digits) {
		text = append(text, digits[i%len(digits)])
	}
	return string(text)
}

// A file that grows while it is read ends at the bound, not at the disk's.
func TestFileThatGrows(t *testing.T) {
	dir := t.TempDir()
	fixture.Write(t, dir, fixture.Allowing("", "a"))
	file, err := os.Create(dir + "/data.json")
	fixture.Must(t, err)
	t.Cleanup(func() { _ = file.Close() })
	grows, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for size := int64(1); grows.Err() == nil; size += 64 << 20 {
			_ = file.Truncate(size) // without taking room
		}
	}()
	fixture.Eventually(t, "the bound", func() bool {
		_, err := files.Read(t.Context(), dir)
		return err != nil && strings.Contains(err.Error(), "more than 256 MiB")
	})
	stop()
	<-done
}

// A file system that does not answer keeps nobody from ending: here, one whose reading
// waits until the test lets it go.
func TestReadingEndsWithItsContext(t *testing.T) {
	hanging := &hangingFS{release: make(chan struct{})}
	t.Cleanup(func() { close(hanging.release) })
	ctx, end := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer end()
	if _, err := files.ReadFS(ctx, hanging); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

type hangingFS struct{ release chan struct{} }

// Open waits.
func (f *hangingFS) Open(name string) (fs.File, error) {
	<-f.release
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}
