package document

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/open-policy-agent/opa/v1/storage"

	"github.com/stagedoor/stagedoor/adapter/document/touch"
)

// Store is a [storage.Store] whose data is a [Document]: who reads has the version that
// there was when the transaction began, and waits for nobody. One transaction writes at
// a time. Values are read as OPA's values.
type Store struct {
	writer   Turn
	content  atomic.Pointer[content]
	number   atomic.Uint64
	mutex    sync.Mutex // guards triggers
	triggers []*trigger
}

// Turn is taken by one at a time.
type Turn chan struct{}

// NewTurn returns a turn that nobody has.
func NewTurn() Turn { return make(Turn, 1) }

// Take waits for the turn. The error is the context's.
func (t Turn) Take(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Give gives the turn back.
func (t Turn) Give() { <-t }

// content is what is committed. It is immutable.
type content struct {
	document *Document
	policies map[string][]byte
}

// Transaction is a transaction of a [Store]. It is not safe for concurrent use.
type Transaction struct {
	of       *Store
	number   uint64
	content  *content
	writing  *Editor // nil where it only reads
	policies map[string][]byte
	events   storage.TriggerEvent
	ended    bool
}

// NewStore returns an empty store.
func NewStore() *Store {
	s := &Store{writer: NewTurn()}
	s.content.Store(&content{document: New()})
	return s
}

// Document is the data that is committed.
func (s *Store) Document() *Document { return s.content.Load().document }

// ID implements [storage.Transaction].
func (t *Transaction) ID() uint64 { return t.number }

// Touched are the paths of all data that it wrote.
func (t *Transaction) Touched() []storage.Path { return t.writing.Touched() }

// Has reports whether there is a value at a path, as the transaction has it.
func (t *Transaction) Has(at storage.Path) bool {
	found, _ := t.document().Has(at)
	return found
}

// Growth is by how many bytes the data has grown in a transaction, as JSON.
func (t *Transaction) Growth() int64 {
	before, after := t.content.document, &t.writing.document
	changed, all := Differences(before, after, t.Touched(), touch.MostPaths)
	if !all {
		changed = []storage.Path{{}}
	}
	grown := int64(0)
	for _, path := range changed {
		grown += after.sizeAt(path) - before.sizeAt(path)
	}
	return grown
}

// NewTransaction implements [storage.Store]. The error of one that writes is the context's.
func (s *Store) NewTransaction(ctx context.Context, params ...storage.TransactionParams) (storage.Transaction, error) {
	t := &Transaction{of: s, number: s.number.Add(1)}
	if len(params) > 0 && params[0].Write {
		if err := s.writer.Take(ctx); err != nil {
			return nil, err
		}
		t.content = s.content.Load()
		t.writing, t.policies = t.content.document.Edit(), maps.Clone(t.content.policies)
		t.events.Context = params[0].Context
		return t, nil
	}
	t.content = s.content.Load()
	return t, nil
}

func (s *Store) transaction(txn storage.Transaction, writes bool) (*Transaction, error) {
	t, ours := txn.(*Transaction)
	var why string
	switch {
	case !ours || t.of != s:
		why = "unknown transaction"
	case t.ended:
		why = "stale transaction"
	case writes && t.writing == nil:
		why = "data write during read transaction"
	default:
		return t, nil
	}
	return nil, &storage.Error{Code: storage.InvalidTransactionErr, Message: why}
}

// document is the data as the transaction has it.
func (t *Transaction) document() *Document {
	if t.writing != nil {
		return &t.writing.document
	}
	return t.content.document
}

// Read implements [storage.Store].
func (s *Store) Read(_ context.Context, txn storage.Transaction, at storage.Path) (any, error) {
	t, err := s.transaction(txn, false)
	if err != nil {
		return nil, err
	}
	if v, ok := t.document().Read(at); ok {
		return v, nil
	}
	return nil, NotFound(at)
}

// NotFound is the error of OPA's stores for what is not at a path.
func NotFound(at storage.Path) error {
	return &storage.Error{Code: storage.NotFoundErr, Message: at.String() + ": document does not exist"}
}

// NonEmpty implements [storage.NonEmptyer], without making anything whole.
func (s *Store) NonEmpty(_ context.Context, txn storage.Transaction) func([]string) (bool, error) {
	return func(at []string) (bool, error) {
		t, err := s.transaction(txn, false)
		if err != nil {
			return false, err
		}
		for i := len(at); i > 0; i-- {
			if found, object := t.document().Has(at[:i]); found {
				return i == len(at) || !object, nil
			}
		}
		return false, nil
	}
}

// Write implements [storage.Store].
func (s *Store) Write(
	_ context.Context, txn storage.Transaction, op storage.PatchOp, at storage.Path, value any,
) error {
	t, err := s.transaction(txn, true)
	if err != nil {
		return err
	}
	return t.writing.Write(op, at, value)
}

// MakeDir implements [storage.MakeDirer].
func (s *Store) MakeDir(_ context.Context, txn storage.Transaction, at storage.Path) error {
	t, err := s.transaction(txn, true)
	if err != nil {
		return err
	}
	return t.writing.MakeDir(at)
}

// ListPolicies implements [storage.Policy].
func (s *Store) ListPolicies(_ context.Context, txn storage.Transaction) ([]string, error) {
	t, err := s.transaction(txn, false)
	if err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(t.texts())), nil
}

// texts are the policies as the transaction has them.
func (t *Transaction) texts() map[string][]byte {
	if t.writing != nil {
		return t.policies
	}
	return t.content.policies
}

// GetPolicy implements [storage.Policy].
func (s *Store) GetPolicy(_ context.Context, txn storage.Transaction, id string) ([]byte, error) {
	t, err := s.transaction(txn, false)
	if err != nil {
		return nil, err
	}
	if text, ok := t.texts()[id]; ok {
		return text, nil
	}
	return nil, &storage.Error{Code: storage.NotFoundErr, Message: fmt.Sprintf("policy id %q", id)}
}

// UpsertPolicy implements [storage.Policy].
func (s *Store) UpsertPolicy(_ context.Context, txn storage.Transaction, id string, text []byte) error {
	t, err := s.transaction(txn, true)
	if err == nil {
		t.upsert(id, text)
	}
	return err
}

func (t *Transaction) upsert(id string, text []byte) {
	if t.policies == nil {
		t.policies = map[string][]byte{}
	}
	t.policies[id] = text
	t.events.Policy = append(t.events.Policy, storage.PolicyEvent{ID: id, Data: text})
}

// DeletePolicy implements [storage.Policy].
func (s *Store) DeletePolicy(ctx context.Context, txn storage.Transaction, id string) error {
	if _, err := s.GetPolicy(ctx, txn, id); err != nil {
		return err
	}
	t, err := s.transaction(txn, true)
	if err != nil {
		return err
	}
	delete(t.policies, id)
	t.events.Policy = append(t.events.Policy, storage.PolicyEvent{ID: id, Removed: true})
	return nil
}

// Commit implements [storage.Store]. Triggers are told which paths were written, and not
// what is there: nobody but the plugin manager registers one, and it looks at data for
// WebAssembly only, which is refused.
func (s *Store) Commit(ctx context.Context, txn storage.Transaction) error {
	t, err := s.transaction(txn, false)
	if err != nil || t.writing == nil {
		return err
	}
	defer s.writer.Give()
	defer func() { t.ended = true }()
	s.content.Store(&content{t.writing.Document(), t.policies})
	for _, path := range t.writing.Touched() {
		t.events.Data = append(t.events.Data, storage.DataEvent{Path: path})
	}
	s.mutex.Lock()
	triggers := slices.Clone(s.triggers)
	s.mutex.Unlock()
	for _, trigger := range triggers {
		trigger.OnCommit(ctx, t, t.events)
	}
	return nil
}

// Abort implements [storage.Store].
func (s *Store) Abort(_ context.Context, txn storage.Transaction) {
	t, err := s.transaction(txn, false)
	if err != nil {
		return
	}
	t.ended = true
	if t.writing != nil {
		s.writer.Give()
	}
}

// trigger is a registered one.
type trigger struct {
	storage.TriggerConfig
	of *Store
}

// Register implements [storage.Trigger].
func (s *Store) Register(
	_ context.Context, txn storage.Transaction, config storage.TriggerConfig,
) (storage.TriggerHandle, error) {
	if _, err := s.transaction(txn, true); err != nil {
		return nil, err
	}
	t := &trigger{config, s}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.triggers = append(s.triggers, t)
	return t, nil
}

// Unregister implements [storage.TriggerHandle].
func (t *trigger) Unregister(context.Context, storage.Transaction) {
	t.of.mutex.Lock()
	defer t.of.mutex.Unlock()
	t.of.triggers = slices.DeleteFunc(t.of.triggers, func(other *trigger) bool { return other == t })
}

var (
	_ storage.Store      = (*Store)(nil)
	_ storage.NonEmptyer = (*Store)(nil)
	_ storage.MakeDirer  = (*Store)(nil)
)
