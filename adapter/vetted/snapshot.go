package vetted

import (
	"context"

	"github.com/open-policy-agent/opa/v1/storage"

	"github.com/stagedoor/stagedoor/adapter/document"
	"github.com/stagedoor/stagedoor/adapter/document/touch"
)

// snapshot is the data of one policy state as a read-only [storage.Store]. It
// has no lock: an evaluation that waits, for http.send say, holds nothing that
// an activation needs, and no activation changes what an evaluation reads.
type snapshot struct {
	storage.WritesNotSupported
	storage.PolicyNotSupported
	data *document.Document
}

// View is a transaction over the data of a state that notes what is read. It is for one
// decision, and needs no end.
type View struct {
	data  *document.Document
	reads touch.Reads
}

// ID implements [storage.Transaction]. There is nothing to tell apart.
func (*View) ID() uint64 { return 0 }

// Read is all that was read so far.
func (v *View) Read() touch.Read { return v.reads.Read() }

func (s *snapshot) NewTransaction(context.Context, ...storage.TransactionParams) (storage.Transaction, error) {
	return &View{data: s.data}, nil
}

func (*snapshot) Commit(context.Context, storage.Transaction) error { return nil }

func (*snapshot) Abort(context.Context, storage.Transaction) {}

func (*snapshot) Register(context.Context, storage.Transaction, storage.TriggerConfig) (storage.TriggerHandle, error) {
	return nil, &storage.Error{Code: storage.TriggersNotSupportedErr, Message: "a snapshot never changes"}
}

func (*snapshot) Truncate(context.Context, storage.Transaction, storage.TransactionParams, storage.Iterator) error {
	return &storage.Error{Code: storage.WritesNotSupportedErr, Message: "a snapshot never changes"}
}

// Read returns the value at path as the transaction has it, or a not-found error as OPA's
// stores do. A query is prepared once for all data that its policy will have.
func (*snapshot) Read(_ context.Context, txn storage.Transaction, path storage.Path) (any, error) {
	view, ours := txn.(*View)
	if !ours {
		return nil, &storage.Error{Code: storage.InvalidTransactionErr, Message: "unknown transaction"}
	}
	view.reads.Note(path)
	if v, ok := view.data.Read(path); ok {
		return v, nil
	}
	return nil, document.NotFound(path)
}
