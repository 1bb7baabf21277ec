package policy

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/loader/filter"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/plugins"
	"github.com/open-policy-agent/opa/v1/storage"
)

// local is a policy on this machine: a directory, a bundle.tar.gz, or the
// embedded default. OPA reads such a source once only; watching it is ours.
type local struct {
	path string // of a directory or a bundle.tar.gz; empty for the embedded bundle
	fsys fs.FS  // the embedded bundle
	seen string // the fingerprint of what was last read
}

// localBundle is the name under which a local policy is activated.
const localBundle = "local"

// How a changed policy is noticed: by the file system's word, once writing has
// paused, and every while by looking, for what no word comes of (a network file
// system, an exchanged symbolic link).
const (
	settle = 100 * time.Millisecond
	look   = 5 * time.Second
)

// localSource returns the local source that o asks for; nil where OPA's
// configuration brings the policy.
func (o Options) localSource(opa map[string]any) (*local, error) {
	if o.Path != "" {
		if _, err := os.Stat(o.Path); err != nil {
			return nil, fmt.Errorf("stagedoor.policy.path: %w", err)
		}
		return &local{path: o.Path}, nil
	}
	if opa["bundles"] != nil || opa["discovery"] != nil {
		return nil, nil
	}
	return &local{fsys: o.Default}, nil
}

// read reads the bundle. Tests are left out: they are for opa test, and what
// they import need not be here.
func (l *local) read() (*bundle.Bundle, error) {
	reader, done, err := l.reader()
	if err != nil {
		return nil, err
	}
	defer done()
	b, err := reader.
		WithBundleName(localBundle).
		WithProcessAnnotations(true).
		WithSkipBundleVerification(true).
		WithRegoVersion(ast.DefaultRegoVersion).
		Read()
	if err != nil {
		return nil, err
	}
	if b.Manifest.Revision == "" {
		b.Manifest.Revision = l.seen
	}
	return &b, nil
}

func (l *local) reader() (*bundle.Reader, func(), error) {
	if l.path == "" {
		return bundle.NewCustomReader(bundle.NewFSLoaderWithRoot(l.fsys, ".").WithFilter(withoutTests)), func() {}, nil
	}
	info, err := os.Stat(l.path)
	if err != nil {
		return nil, nil, err
	}
	if info.IsDir() {
		loader := bundle.NewDirectoryLoader(l.path).WithFilter(withoutTests)
		return bundle.NewCustomReader(loader).WithBaseDir(l.path), func() {}, nil
	}
	file, err := os.Open(l.path)
	if err != nil {
		return nil, nil, err
	}
	return bundle.NewReader(file).WithBaseDir(l.path), func() { file.Close() }, nil
}

var withoutTests filter.LoaderFilter = func(_ string, info fs.FileInfo, _ int) bool {
	name := info.Name()
	return strings.HasSuffix(name, "_test.rego") || strings.HasPrefix(name, ".") && name != ".manifest" && name != "."
}

// fingerprint names the content of the source, so that equal content is equal.
func (l *local) fingerprint() (string, error) {
	h := sha256.New()
	fsys, root := l.fsys, "."
	if l.path != "" {
		dir, name := filepath.Split(filepath.Clean(l.path))
		if dir == "" {
			dir = "."
		}
		fsys, root = os.DirFS(dir), name
		if info, err := os.Stat(l.path); err != nil {
			return "", err
		} else if info.IsDir() {
			fsys, root = os.DirFS(l.path), "."
		}
	}
	err := fs.WalkDir(fsys, root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		file, err := fsys.Open(name)
		if err != nil {
			return err
		}
		defer file.Close()
		if info, err := file.Stat(); err != nil || info.IsDir() {
			return err
		}
		fmt.Fprintf(h, "%q", name)
		_, err = io.Copy(h, file)
		return err
	})
	if err != nil {
		return "", err
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil)[:6]), nil
}

// watch calls changed when the source may have changed, until ctx is done.
func (l *local) watch(ctx context.Context, changed func(context.Context)) {
	if l.path == "" {
		return
	}
	events, stop := l.notify()
	defer stop()
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-events:
			pause(ctx, settle, events)
		}
		changed(ctx)
	}
}

// notify sends on the channel when the file system says that something under
// the source, or the source itself, has changed. Where it says nothing, looking
// has to do.
func (l *local) notify() (<-chan fsnotify.Event, func()) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, func() {}
	}
	// A directory's own entry is watched by its parent, which also sees a file
	// that is exchanged by renaming.
	_ = watcher.Add(filepath.Dir(filepath.Clean(l.path)))
	l.addDirectories(watcher)
	events := make(chan fsnotify.Event)
	go func() {
		defer close(events)
		for event := range watcher.Events {
			if event.Has(fsnotify.Create) {
				l.addDirectories(watcher)
			}
			events <- event
		}
	}()
	go func() {
		for range watcher.Errors { // overflow: looking will notice
		}
	}()
	return events, func() {
		go func() {
			for range events {
			}
		}()
		watcher.Close()
	}
}

func (l *local) addDirectories(watcher *fsnotify.Watcher) {
	_ = filepath.WalkDir(l.path, func(name string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			_ = watcher.Add(name)
		}
		return nil
	})
}

// pause returns when no event has come for d.
func pause(ctx context.Context, d time.Duration, events <-chan fsnotify.Event) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			return
		case _, open := <-events:
			if !open {
				return
			}
			timer.Reset(d)
		}
	}
}

// reload loads the local policy again where it has changed. A failure leaves the
// last good policy serving and is logged and recorded.
func (e *Engine) reload(ctx context.Context) {
	if err := e.load(ctx); err != nil && ctx.Err() == nil {
		e.options.Log.WithError(err).Error("the changed policy is refused; the last good one goes on serving")
	}
}

// load activates the local policy where it has changed since it was last read.
func (e *Engine) load(ctx context.Context) error {
	fingerprint, err := e.local.fingerprint()
	if err != nil {
		e.record.refuse(localBundle, "", err, e.now())
		return err
	}
	if fingerprint == e.local.seen {
		e.record.confirm(e.now())
		return nil
	}
	e.local.seen = fingerprint
	b, err := e.local.read()
	if err != nil {
		e.record.refuse(localBundle, fingerprint, err, e.now())
		return err
	}
	if err := e.activateLocal(ctx, b); err != nil {
		return err
	}
	e.record.confirm(e.now())
	return nil
}

// activateLocal takes a bundle into the store as OPA's bundle plugin would.
func (e *Engine) activateLocal(ctx context.Context, b *bundle.Bundle) error {
	params := storage.WriteParams
	params.Context = storage.NewContext()
	return storage.Txn(ctx, e.manager.Store, params, func(txn storage.Transaction) error {
		compiler := ast.NewCompiler().
			WithPathConflictsCheck(storage.NonEmpty(ctx, e.manager.Store, txn)).
			WithPathConflictsCheckRoots(*b.Manifest.Roots)
		err := bundle.Activate(&bundle.ActivateOpts{
			Ctx:           ctx,
			Store:         e.manager.Store,
			Txn:           txn,
			TxnCtx:        params.Context,
			Compiler:      compiler,
			Metrics:       metrics.New(),
			Bundles:       map[string]*bundle.Bundle{localBundle: b},
			ParserOptions: e.manager.ParserOptions(),
		})
		plugins.SetCompilerOnContext(params.Context, compiler)
		return err
	})
}
