package supply

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/plugins"
	"github.com/open-policy-agent/opa/v1/storage"

	"github.com/stagedoor/stagedoor/adapter/opa"
	"github.com/stagedoor/stagedoor/adapter/supply/files"
)

// local is a policy on this machine: a directory, a bundle.tar.gz, or the
// embedded default. OPA reads such a source once only; watching it is ours.
type local struct {
	path string // of a directory or a bundle.tar.gz; empty for the embedded bundle
	fsys fs.FS  // the embedded bundle
	seen string // the fingerprint of what was last taken in or refused
	bad  bool   // whether that was refused

	complaint string // what was logged last
}

// localBundle is the name under which a local policy is activated.
const localBundle = "local"

// How a changed policy is noticed: by the file system's word, once writing has
// paused, and every while by looking, for what no word comes of (a network file
// system, an exchanged symbolic link).
const (
	settle     = 100 * time.Millisecond
	settleMost = 2 * time.Second
	look       = 5 * time.Second
)

// embedded reports whether the source is compiled in, and never changes.
func (l *local) embedded() bool { return l.path == "" }

// content reads the source as it is now.
func (l *local) content(ctx context.Context) (*files.Content, error) {
	if l.embedded() {
		return files.ReadFS(ctx, l.fsys)
	}
	return files.Read(ctx, l.path)
}

// read reads the bundle of its files. Tests are left out: they are for opa test, and
// what they import need not be here.
func (l *local) read(of *files.Content) (*bundle.Bundle, error) {
	b, err := bundle.NewCustomReader(of).
		WithBaseDir(l.path).
		WithBundleName(localBundle).
		WithProcessAnnotations(true).
		WithSkipBundleVerification(true).
		WithRegoVersion(ast.DefaultRegoVersion).
		Read()
	if err != nil {
		return nil, err
	}
	return &b, nil
}

// watch calls changed when the source may have changed, as the events tell and
// else by looking, until ctx is done.
func (l *local) watch(ctx context.Context, events <-chan struct{}, changed func(context.Context)) {
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-events:
			pause(ctx, events)
		}
		changed(ctx)
	}
}

// notify sends on the channel when the file system says that something under
// the source, or the source itself, has changed. Where it says nothing, looking
// has to do.
func (l *local) notify(ctx context.Context) (<-chan struct{}, func()) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, func() {}
	}
	// A directory's own entry is watched by its parent, which also sees a file
	// or a link that is exchanged by renaming.
	_ = watcher.Add(filepath.Dir(filepath.Clean(l.path)))
	l.addDirectories(ctx, watcher)
	events := make(chan struct{}, 1)
	go func() {
		for event := range watcher.Events {
			if !l.concerns(event.Name) {
				continue
			}
			if event.Has(fsnotify.Create) {
				l.addDirectories(ctx, watcher)
			}
			select {
			case events <- struct{}{}:
			default: // one is waiting already
			}
		}
	}()
	go func() {
		for range watcher.Errors { // overflow: looking will notice
		}
	}()
	return events, func() { _ = watcher.Close() }
}

// concerns reports whether the path is the source's or below it.
func (l *local) concerns(name string) bool {
	name = filepath.Clean(name)
	for _, path := range []string{filepath.Clean(l.path), l.target()} {
		if name == path || strings.HasPrefix(name, path+string(filepath.Separator)) {
			return true
		}
	}
	return false
}

// target is the path without symbolic links.
func (l *local) target() string {
	if path, err := filepath.EvalSymlinks(l.path); err == nil {
		return path
	}
	return filepath.Clean(l.path)
}

func (l *local) addDirectories(ctx context.Context, watcher *fsnotify.Watcher) {
	target := l.target()
	root, err := os.OpenRoot(target)
	if err != nil {
		return // it is an archive
	}
	defer func() { _ = root.Close() }()
	_ = watcher.Add(target)
	_ = files.Walk(ctx, root, func(name string, entry fs.DirEntry) error {
		if entry.IsDir() {
			_ = watcher.Add(filepath.Join(target, filepath.FromSlash(name)))
		}
		return nil
	})
}

// pause returns when no event has come for a while, or when they will not end.
func pause(ctx context.Context, events <-chan struct{}) {
	timer, end := time.NewTimer(settle), time.NewTimer(settleMost)
	defer timer.Stop()
	defer end.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			return
		case <-end.C:
			return
		case <-events:
			timer.Reset(settle)
		}
	}
}

// reload loads the local policy again where it has changed. A failure leaves the
// last good policy serving; it is recorded, and logged once.
func (s *Supply) reload(ctx context.Context) {
	err := s.load(ctx)
	if ctx.Err() != nil {
		return
	}
	complaint := ""
	if err != nil {
		complaint = err.Error()
	}
	if complaint != "" && complaint != s.local.complaint {
		s.log.WithError(err).Error("the changed policy is refused; the last good one goes on serving")
	}
	s.local.complaint = complaint
}

// errChanging is a source that is being written while it is read.
var errChanging = errors.New("it is being written")

// loadAttempts is how many times a source is read that changes meanwhile.
const loadAttempts = 3

// load activates the local policy where it has changed since it was last read.
func (s *Supply) load(ctx context.Context) (err error) {
	for range loadAttempts {
		if err = s.loadOnce(ctx); !errors.Is(err, errChanging) {
			break
		}
	}
	return err
}

func (s *Supply) loadOnce(ctx context.Context) error {
	content, err := s.local.content(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if content == nil || err != nil {
		// What comes back is looked at again, though it be the same.
		fingerprint := ""
		if content != nil {
			fingerprint = content.Fingerprint
		}
		s.local.seen, s.local.bad = "", true
		s.reports.refuse(localBundle, fingerprint, err.Error(), s.now())
		return err
	}
	fingerprint := content.Fingerprint
	if fingerprint == s.local.seen {
		if !s.local.bad {
			s.reports.accept(localBundle, s.now())
		}
		return nil
	}
	b, err := s.local.read(content)
	if again, changed := s.local.content(ctx); changed != nil || again.Fingerprint != fingerprint {
		return errChanging // and will be looked at soon
	}
	s.local.seen, s.local.bad = fingerprint, true
	if err != nil {
		s.reports.refuse(localBundle, fingerprint, err.Error(), s.now())
		return err
	}
	if b.Manifest.Revision == "" {
		b.Manifest.Revision = fingerprint
	}
	if err := s.activateLocal(ctx, b); err != nil {
		return err
	}
	s.local.bad = false
	return nil
}

// activateLocal takes a bundle into the store as OPA's bundle plugin would.
func (s *Supply) activateLocal(ctx context.Context, b *bundle.Bundle) error {
	params := storage.WriteParams
	params.Context = storage.NewContext()
	return storage.Txn(ctx, s.store, params, func(txn storage.Transaction) error {
		compiler := ast.NewCompiler().
			WithPathConflictsCheck(storage.NonEmpty(ctx, s.store, txn)).
			WithPathConflictsCheckRoots(*b.Manifest.Roots)
		err := bundle.Activate(&bundle.ActivateOpts{
			Ctx:           ctx,
			Store:         s.store,
			Txn:           txn,
			TxnCtx:        params.Context,
			Compiler:      compiler,
			Metrics:       metrics.New(),
			Bundles:       map[string]*bundle.Bundle{localBundle: b},
			ParserOptions: opa.ParserOptions(),
		})
		plugins.SetCompilerOnContext(params.Context, compiler)
		return err
	})
}
