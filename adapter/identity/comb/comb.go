// Package comb verifies the signatures of tokens: ES256, which is ECDSA over P-256
// with SHA-256, as nearly all of Backstage's tokens have. It is the one place where a
// fault would let anybody in as anybody. That is why it stands alone, why nothing outside
// identity imports it, and why it is watched while it runs.
//
// # What is verified
//
// A public key Q is a point of the curve, the private number d times its base point
// G. A signature of a digest e is a pair of numbers r and s below the order n of G.
// It is good (FIPS 186-5, section 6.4.2) where
//
//	u = e/s,  v = r/s  (mod n),  R = uG + vQ,  and  x(R) = r (mod n).
//
// The signer chose a secret k, published r = x(kG), and solved s = (e + rd)/k. So
// uG + vQ = (e + rd)/s · G = kG. Whoever does not know d cannot solve for s.
//
// Nearly all of the time goes into the two products. Go has a table for uG, since G
// is always the same. For vQ it knows nothing in advance and doubles 256 times. But a
// key of Backstage lives for hours and verifies thousands of signatures, so that a
// table of its own pays after seven.
//
// # The comb
//
// The table is that of Lim and Lee ("More flexible exponentiation with
// precomputation", CRYPTO '94). Write the 256 bits of v in 8 rows of 32 bits:
//
//	row 0   bit   0 …  31
//	row 1   bit  32 …  63
//	…
//	row 7   bit 224 … 255
//
// A column holds one bit of each row: bit j of row i counts 2^(32i+j). So column j
// is worth 2^j times a sum of some of the eight points Q, 2^32·Q, …, 2^224·Q. There
// are 256 such sums. With all of them in a table, vQ is one addition a column:
//
//	vQ = S(column 0) + 2·S(column 1) + 4·S(column 2) + … + 2^31·S(column 31).
//
// Two things make it smaller and faster. The digits are 1 and -1 in place of 1 and 0,
// so that half of the sums are the negatives of the others and need no place: 128 are
// left. An odd number below 2^256 can always be written with such digits, and an even
// v is taken by way of n - v, which is odd. And there are tables for the columns 0,
// 4, 8, …, 28, so that only three doublings are left: those by which the columns
// between them are reached. The 8 · 128 points take 96 KiB for a key.
//
// The points, their addition and the multiples of G are those of
// filippo.io/nistec, which is the code of Go's own P-256. What is computed here takes
// time that depends on its input. All of that is public.
//
// # What holds it to the truth
//
// The tests compare it with crypto/ecdsa: on Project Wycheproof's vectors, on
// edges, on random keys, and by fuzzing. While it runs, a [Tripwire] compares it once
// in [every] signatures, of those that it accepts and of those that it refuses. The
// first that crypto/ecdsa sees otherwise ends the use of all tables.
package comb

import (
	"crypto/ecdsa"
	"crypto/fips140"
	"crypto/sha256"
	"errors"
	"sync/atomic"
)

const (
	// inUse is how many good signatures show that a key is in use. A table takes as
	// long as some seven signatures without one, and its memory.
	inUse = 64
	// every is how many signatures by a table there are for one that is verified by
	// crypto/ecdsa as well. The first of a table is one of them.
	every = 64
)

var (
	errSignature = errors.New("the signature does not fit the key")
	errDisagree  = errors.New("the table of the key and crypto/ecdsa disagree on the signature")
)

// Tripwire says whether tables are used. It is shared by the Verifiers of a process,
// and once it has tripped it stays so. It is safe for concurrent use.
type Tripwire struct {
	off     atomic.Bool
	tripped atomic.Bool
	loud    func()
}

// NewTripwire returns a Tripwire that lets tables be used, unless precompute is false
// or GODEBUG=fips140 keeps signatures with the validated module. It calls loud once,
// when it trips, after the last moment at which a table is used.
func NewTripwire(precompute bool, loud func()) *Tripwire {
	t := &Tripwire{loud: loud}
	t.off.Store(!precompute || fips140.Enabled())
	return t
}

// Off reports whether no table is used.
func (t *Tripwire) Off() bool { return t.off.Load() }

// Tripped reports whether a table was seen to be wrong.
func (t *Tripwire) Tripped() bool { return t.tripped.Load() }

func (t *Tripwire) trip() {
	t.off.Store(true)
	if !t.tripped.Swap(true) {
		t.loud()
	}
}

// Verifier verifies the signatures of one key. Its first ones are verified by
// crypto/ecdsa. A key that has proved to be in use gets a table, by which a signature
// takes less than half the time; that is the larger part of a request's. It is safe for
// concurrent use.
type Verifier struct {
	public   *ecdsa.PublicKey
	tripwire *Tripwire
	good     atomic.Int64 // signatures so far, until there is a table
	table    atomic.Pointer[multiples]
	accepted atomic.Uint64 // by the table
	refused  atomic.Uint64
}

// New returns a Verifier of the key's signatures.
func New(public *ecdsa.PublicKey, t *Tripwire) *Verifier {
	return &Verifier{public: public, tripwire: t}
}

// Tabled reports whether the key has a table, which takes 96 KiB.
func (v *Verifier) Tabled() bool { return v.table.Load() != nil }

// Verify verifies a signature of RFC 7518, section 3.4. The key is the *ecdsa.PublicKey
// that v was made for. Any error means that the signature is not to be believed.
func (v *Verifier) Verify(key any, payload, signature []byte) error {
	if public, ok := key.(*ecdsa.PublicKey); !ok || public != v.public || len(signature) != 64 {
		return errSignature
	}
	digest := sha256.Sum256(payload)
	if table := v.table.Load(); table != nil && !v.tripwire.Off() {
		return v.byTable(table, digest, [64]byte(signature))
	}
	if !v.bare(digest, [64]byte(signature)) {
		return errSignature
	}
	if v.tripwire.Off() {
		v.table.Store(nil)
		return nil
	}
	if v.good.Add(1) == inUse {
		v.table.Store(newMultiples(v.public)) // nil, should the key be none
	}
	return nil
}

// bare verifies by crypto/ecdsa.
func (v *Verifier) bare(digest [32]byte, signature [64]byte) bool {
	return ecdsa.VerifyASN1(v.public, digest[:], toASN1(signature))
}

// byTable verifies by the table, and from time to time by crypto/ecdsa as well.
func (v *Verifier) byTable(table *multiples, digest [32]byte, signature [64]byte) error {
	good := table.verify(digest, signature)
	count := &v.refused
	if good {
		count = &v.accepted
	}
	if count.Add(1)%every == 1 && v.bare(digest, signature) != good {
		v.tripwire.trip()
		return errDisagree
	}
	if !good {
		return errSignature
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
