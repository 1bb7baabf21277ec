package identity

import (
	"crypto/ecdsa"
	"crypto/fips140"
	"crypto/sha256"
	"errors"
	"sync/atomic"
)

// es256 verifies the signatures of one key, those of nearly all tokens there are.
// A key's first signatures are verified by crypto/ecdsa. One that has proved to be
// in use gets a table of multiples, by which a signature takes less than half the
// time; that is the larger part of a request's. Under GODEBUG=fips140 there is none,
// as signatures must stay with the validated module. It is a [jws.Verifier2].
type es256 struct {
	public *ecdsa.PublicKey
	good   atomic.Int64 // signatures so far, until there is a table
	table  atomic.Pointer[multiples]
}

// inUse is how many good signatures show that a key is in use. A table takes as long
// as some seven signatures without one, and its memory.
const inUse = 64

var errSignature = errors.New("the signature does not fit the key")

// Verify verifies a signature of RFC 7518, section 3.4. The key is the *ecdsa.PublicKey
// that e was made for.
func (e *es256) Verify(key any, payload, signature []byte) error {
	if public, ok := key.(*ecdsa.PublicKey); !ok || public != e.public || len(signature) != 64 {
		return errSignature
	}
	digest := sha256.Sum256(payload)
	if table := e.table.Load(); table != nil {
		if !table.verify(digest, [64]byte(signature)) {
			return errSignature
		}
		return nil
	}
	if !ecdsa.VerifyASN1(e.public, digest[:], toASN1([64]byte(signature))) {
		return errSignature
	}
	if !fips140.Enabled() && e.good.Add(1) == inUse {
		e.table.Store(newMultiples(e.public)) // nil, should the key be none
	}
	return nil
}

// toASN1 returns the SEQUENCE of two INTEGERs that crypto/ecdsa takes. The JOSE
// library gets there by way of big.Int, at a cost of 14 allocations.
func toASN1(signature [64]byte) []byte {
	der := make([]byte, 2, 2+2*(2+33))
	der = appendInteger(der, signature[:32])
	der = appendInteger(der, signature[32:])
	der[0], der[1] = 0x30, byte(len(der)-2) //nolint:gosec // at most 70
	return der
}

// appendInteger appends the DER of a big-endian number of at most 127 bytes.
func appendInteger(der, number []byte) []byte {
	for len(number) > 1 && number[0] == 0 {
		number = number[1:]
	}
	length := byte(len(number)) //nolint:gosec // at most 127
	if number[0] < 0x80 {
		der = append(der, 0x02, length)
	} else {
		der = append(der, 0x02, length+1, 0) // a leading zero keeps it positive
	}
	return append(der, number...)
}
