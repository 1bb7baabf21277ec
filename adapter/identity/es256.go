package identity

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"errors"
)

// es256 verifies the signatures of nearly all tokens there are, by crypto/ecdsa.
// That is what the JOSE library does too, but by way of big.Int, which costs 14
// allocations and shows in BenchmarkAuthenticateToFloor. It is a [jws.Verifier2].
type es256 struct{}

var errSignature = errors.New("the signature does not fit the key")

// Verify verifies a signature of RFC 7518, section 3.4, by an *ecdsa.PublicKey on
// P-256.
func (es256) Verify(key any, payload, signature []byte) error {
	public, ok := key.(*ecdsa.PublicKey)
	if !ok || len(signature) != 64 {
		return errSignature
	}
	digest := sha256.Sum256(payload)
	// SEQUENCE of two INTEGERs, the form that crypto/ecdsa takes.
	var buffer [2 + 2*(2+33)]byte
	der := appendInteger(buffer[:2], signature[:32])
	der = appendInteger(der, signature[32:])
	der[0], der[1] = 0x30, byte(len(der)-2) //nolint:gosec // at most 70
	if !ecdsa.VerifyASN1(public, digest[:], der) {
		return errSignature
	}
	return nil
}

// appendInteger appends the DER of a big-endian number of at most 126 bytes.
func appendInteger(der, number []byte) []byte {
	for len(number) > 1 && number[0] == 0 {
		number = number[1:]
	}
	length := byte(len(number)) //nolint:gosec // at most 126
	if number[0] < 0x80 {
		return append(append(der, 0x02, length), number...)
	}
	return append(append(der, 0x02, length+1, 0), number...) // a leading zero keeps it positive
}
