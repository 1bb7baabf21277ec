// Package bearer knows the tokens that operators come with.
package bearer

import (
	"crypto/sha256"
	"crypto/subtle"
	"sync/atomic"
)

// Tokens are those that are known, as digests. None are in the zero value. It is safe for
// concurrent use.
type Tokens struct {
	digests atomic.Pointer[[][sha256.Size]byte]
}

// Renew has the tokens be known from now on, and no others.
func (t *Tokens) Renew(tokens []string) {
	digests := make([][sha256.Size]byte, len(tokens))
	for i, token := range tokens {
		digests[i] = sha256.Sum256([]byte(token))
	}
	t.digests.Store(&digests)
}

// None reports whether no token is known.
func (t *Tokens) None() bool {
	digests := t.digests.Load()
	return digests == nil || len(*digests) == 0
}

// Has reports whether a token is known. It takes as long for any that are given.
func (t *Tokens) Has(token string) bool {
	if t.None() {
		return false
	}
	given, same := sha256.Sum256([]byte(token)), 0
	for _, known := range *t.digests.Load() {
		same |= subtle.ConstantTimeCompare(given[:], known[:])
	}
	return same == 1
}
