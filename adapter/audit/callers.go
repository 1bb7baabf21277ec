package audit

import (
	"sync"

	"github.com/google/uuid"
	"github.com/open-policy-agent/opa/v1/server"
)

// claimsHash names the claims of who asked; it is empty where the record does not know
// them, because the caller made the input.
func (r Record) claimsHash() string {
	if r.Batch.Input != nil {
		return ""
	}
	return r.Caller.ClaimsHash()
}

// maxTold is of how many sets of claims it is remembered that the log has them. More
// than these, and some are told again.
const maxTold = 100_000

// told are the sets of claims that the log has, by their hashes. It is safe for
// concurrent use.
type told struct {
	mu     sync.Mutex
	hashes map[string]bool
}

// first reports whether a set of claims is told for the first time.
func (t *told) first(hash string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.hashes[hash] {
		return false
	}
	if t.hashes == nil || len(t.hashes) >= maxTold {
		t.hashes = make(map[string]bool)
	}
	t.hashes[hash] = true
	return true
}

// forget notes that the log did not get a set of claims.
func (t *told) forget(hash string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.hashes, hash)
}

// callerEvent is the event that tells a set of claims, so that a log whose other events
// have its hash alone can be decided again. It says nothing of who has them.
func callerEvent(r Record, hash string) (*server.Info, error) {
	id, err := uuid.NewRandom()
	if err != nil {
		return nil, err
	}
	claims := make([]any, len(r.Caller.Claims))
	for i, claim := range r.Caller.Claims {
		claims[i] = claim
	}
	var input any = map[string]any{}
	return &server.Info{
		Bundles: map[string]server.BundleInfo{}, DecisionID: id.String(), Path: r.Batch.Entrypoint, Timestamp: r.Time.UTC(),
		Input: &input, Custom: map[string]any{"claims_sha256": hash, "caller_claims": claims},
	}, nil
}
