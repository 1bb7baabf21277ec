package supply

import (
	"context"
	"errors"
	"fmt"

	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/sirupsen/logrus"

	"github.com/stagedoor/stagedoor/adapter/document/patch"
)

// WriteError is a change of data that is not made, and why.
type WriteError struct {
	// Missing is whether there is nothing where something was to be changed, or something
	// above it that has no members.
	Missing bool
	Cause   error
}

func (e *WriteError) Error() string { return e.Cause.Error() }

// Unwrap returns the cause.
func (e *WriteError) Unwrap() error { return e.Cause }

// Write changes data below the roots that are written from outside (vetted.Options.Writable):
// all that is asked, or nothing. When it returns, decisions are made by that data. The error is a
// [*WriteError], [ErrNoPolicy], or the context's.
func (s *Supply) Write(ctx context.Context, changes []patch.Change) error {
	params := storage.WriteParams
	params.Context = storage.NewContext()
	log := s.log.WithField("changes", len(changes))
	err := storage.Txn(ctx, s.store, params, func(txn storage.Transaction) error {
		if err := ctx.Err(); err != nil { // it may have waited for an activation
			return err
		}
		if s.store.made == nil {
			return fmt.Errorf("%w that has all of its bundles", ErrNoPolicy)
		}
		state, err := s.vetter.Write(ctx, s.store, txn, s.store.made, changes)
		if err != nil && ctx.Err() == nil {
			cause, is := errors.AsType[*storage.Error](err)
			missing := is && (cause.Code == storage.NotFoundErr || cause.Code == storage.WriteConflictErr)
			return &WriteError{missing, err}
		}
		w := s.store.write.Load()
		w.vetted, w.state = true, state
		return err
	})
	if err != nil {
		log.WithError(err).Warn("data is not written")
		return err
	}
	log.WithFields(logrus.Fields{"revision": s.State().Revision}).Info("data is written")
	return nil
}
