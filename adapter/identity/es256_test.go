package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"math/big"
	"testing"
)

// The verifier agrees with crypto/ecdsa, also where r or s is short.
func TestES256(t *testing.T) {
	key := ecKey(t, elliptic.P256())
	payload := []byte("header.payload")
	digest := sha256.Sum256(payload)
	short := 0
	for range 2000 {
		r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
		if err != nil {
			t.Fatal(err)
		}
		if r.BitLen() <= 248 || s.BitLen() <= 248 {
			short++
		}
		signature := append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
		if err := (es256{}).Verify(&key.PublicKey, payload, signature); err != nil {
			t.Fatalf("%x: %v", signature, err)
		}
	}
	if short == 0 {
		t.Error("no number was short; the test is worth nothing")
	}
}

func TestES256Refuses(t *testing.T) {
	key, other := ecKey(t, elliptic.P256()), ecKey(t, elliptic.P256())
	payload := []byte("header.payload")
	digest := sha256.Sum256(payload)
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	pack := func(r, s *big.Int) []byte {
		return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	}
	good := pack(r, s)
	verify := es256{}.Verify
	if err := verify(&key.PublicKey, payload, good); err != nil {
		t.Fatal(err)
	}
	order, zero := elliptic.P256().Params().N, new(big.Int)
	for name, err := range map[string]error{
		"other key":       verify(&other.PublicKey, payload, good),
		"other payload":   verify(&key.PublicKey, []byte("x"), good),
		"no key":          verify(nil, payload, good),
		"key by value":    verify(key.PublicKey, payload, good),
		"private key":     verify(key, payload, good),
		"key of a secret": verify([]byte("secret"), payload, good),
		"empty":           verify(&key.PublicKey, payload, nil),
		"short":           verify(&key.PublicKey, payload, good[:63]),
		"long":            verify(&key.PublicKey, payload, append(good[:64:64], 0)),
		"zeros":           verify(&key.PublicKey, payload, pack(zero, zero)),
		"r zero":          verify(&key.PublicKey, payload, pack(zero, s)),
		"s zero":          verify(&key.PublicKey, payload, pack(r, zero)),
		"r the order":     verify(&key.PublicKey, payload, pack(order, s)),
		"s the order":     verify(&key.PublicKey, payload, pack(r, order)),
		"swapped":         verify(&key.PublicKey, payload, pack(s, r)),
	} {
		if err == nil {
			t.Errorf("%s: verified", name)
		}
	}
	for bit := range 64 * 8 {
		changed := append([]byte{}, good...)
		changed[bit/8] ^= 1 << (bit % 8)
		if verify(&key.PublicKey, payload, changed) == nil {
			t.Errorf("verified with bit %d flipped", bit)
		}
	}
}
