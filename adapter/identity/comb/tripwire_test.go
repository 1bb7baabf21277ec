package comb

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"math/big"
	"sync"
	"testing"

	"filippo.io/nistec"
)

// planted returns a Verifier whose table has one wrong entry, a payload, a forged
// signature of it that this table takes for good, and a good one of which it thinks
// so too. Whoever knew of such an entry could sign for anybody with a key of his own
// choice; the test does with less, as it knows the private number.
func planted(t *testing.T, tripwire *Tripwire) (v *Verifier, payload, forged, good []byte) {
	t.Helper()
	d, wrong := big.NewInt(1234567), big.NewInt(987654321)
	key := keyOf(t, d)
	v = New(&key.PublicKey, tripwire)
	table := newMultiples(&key.PublicKey)
	by, err := nistec.NewP256Point().ScalarBaseMult(wrong.FillBytes(make([]byte, 32)))
	if err != nil {
		t.Fatal(err)
	}
	table[0][5].Add(&table[0][5], by)
	v.table.Store(table)
	payload = []byte("header.payload")
	digest := sha256.Sum256(payload)
	e := new(big.Int).SetBytes(digest[:])
	for k := int64(1); k < 100_000 && (forged == nil || good == nil); k++ {
		// Where the entry is used once, kG comes out of what is in truth (k-wrong)G.
		r, s := signWith(d, big.NewInt(k), digest)
		if signature := pack(r, s); good == nil && table.verify(digest, signature) {
			good = signature[:]
		}
		s = new(big.Int).Mul(r, d)
		s.Add(s, e).Mul(s, new(big.Int).ModInverse(new(big.Int).Sub(big.NewInt(k), wrong), order)).Mod(s, order)
		if signature := pack(r, s); forged == nil && table.verify(digest, signature) {
			forged = signature[:]
		}
	}
	if forged == nil || good == nil {
		t.Fatal("no signature uses the entry; the test is worth nothing")
	}
	if v.bare(digest, [64]byte(forged)) || !v.bare(digest, [64]byte(good)) {
		t.Fatal("crypto/ecdsa sees it otherwise")
	}
	return v, payload, forged, good
}

// A wrong entry lets in whoever can use it, but not for long: the first signature
// that is looked at again fails, is told of once, and no table is used after it.
func TestTripwire(t *testing.T) {
	told := 0
	tripwire := NewTripwire(true, func() { told++ })
	v, payload, forged, good := planted(t, tripwire)
	if err := v.Verify(v.public, payload, good); err != nil { // the first, which is looked at
		t.Fatal(err)
	}
	let := 0
	for ; let < every; let++ {
		if err := v.Verify(v.public, payload, forged); err != nil {
			if !errors.Is(err, errDisagree) {
				t.Fatal(err)
			}
			break
		}
		if tripwire.Off() || told != 0 {
			t.Fatal("tripped without a failure")
		}
	}
	if let != every-1 {
		t.Errorf("%d forged signatures passed; want %d", let, every-1)
	}
	if !tripwire.Off() || !tripwire.Tripped() || told != 1 {
		t.Errorf("off %t, tripped %t, told %d times", tripwire.Off(), tripwire.Tripped(), told)
	}
	for range 2 * every {
		if v.Verify(v.public, payload, forged) == nil {
			t.Fatal("a forged signature passes after the tripwire has tripped")
		}
		if err := v.Verify(v.public, payload, good); err != nil {
			t.Fatal(err)
		}
	}
	if v.Tabled() {
		t.Error("the table is kept")
	}
	// Nor is one made or used for any other key.
	key := ecKey(t, elliptic.P256())
	other := New(&key.PublicKey, tripwire)
	for range 2 * inUse {
		if err := other.Verify(&key.PublicKey, payload, signed(t, key, payload)); err != nil {
			t.Fatal(err)
		}
	}
	if other.Tabled() || told != 1 {
		t.Errorf("tabled %t, told %d times", other.Tabled(), told)
	}
}

// A forged signature that is the first one of a table does not pass at all.
func TestTripwireLooksAtTheFirst(t *testing.T) {
	tripwire := NewTripwire(true, func() {})
	v, payload, forged, _ := planted(t, tripwire)
	if err := v.Verify(v.public, payload, forged); !errors.Is(err, errDisagree) || !tripwire.Tripped() {
		t.Errorf("%v", err)
	}
}

// A table that refuses what is good is wrong as well.
func TestTripwireLooksAtRefusals(t *testing.T) {
	tripwire := NewTripwire(true, func() {})
	key, other := ecKey(t, elliptic.P256()), ecKey(t, elliptic.P256())
	v := New(&key.PublicKey, tripwire)
	v.table.Store(newMultiples(&other.PublicKey))
	payload := []byte("header.payload")
	signature := signed(t, key, payload)
	if err := v.Verify(&key.PublicKey, payload, signature); !errors.Is(err, errDisagree) || !tripwire.Tripped() {
		t.Errorf("%v", err)
	}
	if err := v.Verify(&key.PublicKey, payload, signature); err != nil {
		t.Error(err)
	}
}

func TestNoPrecompute(t *testing.T) {
	tripwire := NewTripwire(false, func() { t.Error("tripped") })
	key := ecKey(t, elliptic.P256())
	v, payload := New(&key.PublicKey, tripwire), []byte("header.payload")
	for range 2 * inUse {
		if err := v.Verify(&key.PublicKey, payload, signed(t, key, payload)); err != nil {
			t.Fatal(err)
		}
	}
	if v.Tabled() || !tripwire.Off() || tripwire.Tripped() {
		t.Error("a table is used")
	}
}

// Whoever comes at the same time is told once.
func TestTripwireTellsOnce(t *testing.T) {
	n := 0
	tripwire := NewTripwire(true, func() { n++ })
	v, payload, forged, _ := planted(t, tripwire)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 2 * every {
				_ = v.Verify(v.public, payload, forged)
			}
		})
	}
	all.Wait()
	if n != 1 || !tripwire.Off() {
		t.Errorf("told %d times", n)
	}
}

func signed(t *testing.T, key *ecdsa.PrivateKey, payload []byte) []byte {
	t.Helper()
	digest := sha256.Sum256(payload)
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	signature := pack(r, s)
	return signature[:]
}
