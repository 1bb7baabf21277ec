package comb

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/fips140"
	"crypto/rand"
	"crypto/sha256"
	"math/big"
	"os"
	"os/exec"
	"testing"
)

func ecKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// quiet returns a Tripwire that must not trip.
func quiet(t testing.TB) *Tripwire {
	return NewTripwire(true, func() { t.Error("the tripwire has tripped") })
}

// verifiers returns the verifier of a key before and after it has a table.
func verifiers(t testing.TB, public *ecdsa.PublicKey) map[string]*Verifier {
	t.Helper()
	tripwire := quiet(t)
	tabled := New(public, tripwire)
	tabled.table.Store(newMultiples(public))
	if tabled.table.Load() == nil {
		t.Fatal("no table could be made")
	}
	return map[string]*Verifier{"first": New(public, tripwire), "with a table": tabled}
}

func pack(r, s *big.Int) (signature [64]byte) {
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return signature
}

// The verifier agrees with crypto/ecdsa, also where r or s is short.
func TestVerify(t *testing.T) {
	key := ecKey(t, elliptic.P256())
	payload := []byte("header.payload")
	digest := sha256.Sum256(payload)
	short := 0
	all := verifiers(t, &key.PublicKey)
	for range 2000 {
		r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
		if err != nil {
			t.Fatal(err)
		}
		if r.BitLen() <= 248 || s.BitLen() <= 248 {
			short++
		}
		signature := pack(r, s)
		for name, e := range all {
			if err := e.Verify(&key.PublicKey, payload, signature[:]); err != nil {
				t.Fatalf("%s: %x: %v", name, signature, err)
			}
		}
	}
	if short == 0 {
		t.Error("no number was short; the test is worth nothing")
	}
	if all["first"].table.Load() == nil && !fips140.Enabled() {
		t.Errorf("no table after %d signatures", all["first"].good.Load())
	}
}

// Where only the validated module may be used, signatures stay with it.
func TestVerifierUnderFIPS(t *testing.T) {
	if !fips140.Enabled() {
		again := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestVerifierUnderFIPS$", "-test.v")
		again.Env = append(os.Environ(), "GODEBUG=fips140=on")
		out, err := again.CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("--- PASS: TestVerifierUnderFIPS")) {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	key, payload := ecKey(t, elliptic.P256()), []byte("header.payload")
	digest := sha256.Sum256(payload)
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	e, signature := New(&key.PublicKey, quiet(t)), pack(r, s)
	for range 2 * inUse {
		if err := e.Verify(&key.PublicKey, payload, signature[:]); err != nil {
			t.Fatal(err)
		}
	}
	if e.table.Load() != nil {
		t.Error("signatures are verified by a table")
	}
}

// Nobody makes a key look used without its signatures.
func TestVerifierTableNeedsGoodSignatures(t *testing.T) {
	key := ecKey(t, elliptic.P256())
	e := New(&key.PublicKey, quiet(t))
	for range 2 * inUse {
		_ = e.Verify(&key.PublicKey, []byte("x"), make([]byte, 64))
	}
	if e.table.Load() != nil || e.good.Load() != 0 {
		t.Errorf("%d signatures counted as good", e.good.Load())
	}
}

func TestVerifierRefuses(t *testing.T) {
	key, other := ecKey(t, elliptic.P256()), ecKey(t, elliptic.P256())
	payload := []byte("header.payload")
	digest := sha256.Sum256(payload)
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	packed := func(r, s *big.Int) []byte {
		signature := pack(r, s)
		return signature[:]
	}
	good := packed(r, s)
	order, zero := elliptic.P256().Params().N, new(big.Int)
	for kind, e := range verifiers(t, &key.PublicKey) {
		verify := e.Verify
		if err := verify(&key.PublicKey, payload, good); err != nil {
			t.Fatal(err)
		}
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
			"zeros":           verify(&key.PublicKey, payload, packed(zero, zero)),
			"r zero":          verify(&key.PublicKey, payload, packed(zero, s)),
			"s zero":          verify(&key.PublicKey, payload, packed(r, zero)),
			"r the order":     verify(&key.PublicKey, payload, packed(order, s)),
			"s the order":     verify(&key.PublicKey, payload, packed(r, order)),
			"swapped":         verify(&key.PublicKey, payload, packed(s, r)),
		} {
			if err == nil {
				t.Errorf("%s, %s: verified", kind, name)
			}
		}
		for bit := range 64 * 8 {
			changed := append([]byte{}, good...)
			changed[bit/8] ^= 1 << (bit % 8)
			if verify(&key.PublicKey, payload, changed) == nil {
				t.Errorf("%s: verified with bit %d flipped", kind, bit)
			}
		}
	}
}
