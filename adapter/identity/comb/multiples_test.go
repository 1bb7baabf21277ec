package comb

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"math/big"
	"testing"

	"filippo.io/nistec"
	"pgregory.net/rapid"
)

// keyOf is the key pair of a private number.
func keyOf(t testing.TB, d *big.Int) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), d.FillBytes(make([]byte, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// agree holds the table against crypto/ecdsa and returns what both say.
func agree(t testing.TB, key *ecdsa.PublicKey, table *multiples, digest [32]byte, r, s *big.Int) bool {
	t.Helper()
	signature := pack(r, s)
	want := ecdsa.VerifyASN1(key, digest[:], toASN1(signature))
	if got := table.verify(digest, signature); got != want {
		t.Fatalf("key %v, digest %x, signature %x: got %t, crypto/ecdsa says %t", key, digest, signature, got, want)
	}
	return want
}

// signWith is the signature of a digest by the private number d with the secret
// number k, which nobody could choose who does not know d.
func signWith(d, k *big.Int, digest [32]byte) (r, s *big.Int) {
	x, _ := elliptic.P256().ScalarBaseMult(k.Bytes()) //nolint:staticcheck // no other code is independent of what is tested
	r = new(big.Int).Mod(x, order)
	s = new(big.Int).Mul(r, d)
	s.Add(s, new(big.Int).SetBytes(digest[:]))
	s.Mul(s, new(big.Int).ModInverse(k, order)).Mod(s, order)
	return r, s
}

// numbers are those below the order at which something may go wrong: powers of two,
// a step of bits apart, their neighbours, and as many at the end.
func numbers(step int) []*big.Int {
	all := []*big.Int{}
	for bit := 0; bit < 256; bit += step {
		power := new(big.Int).Lsh(big.NewInt(1), uint(bit))
		for _, n := range []*big.Int{
			new(big.Int).Sub(power, big.NewInt(1)), power, new(big.Int).Add(power, big.NewInt(1)), new(big.Int).Sub(order, power),
		} {
			if n.Sign() > 0 && n.Cmp(order) < 0 {
				all = append(all, n)
			}
		}
	}
	return all
}

// TestMultiplesOfScalars compares sums of the table with nistec's own multiplication.
func TestMultiplesOfScalars(t *testing.T) {
	key := ecKey(t, elliptic.P256())
	table := newMultiples(&key.PublicKey)
	encoded, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	q, err := nistec.NewP256Point().SetBytes(encoded)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range append(numbers(1), new(big.Int), new(big.Int).Sub(order, big.NewInt(1)),
		new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 256), big.NewInt(1))) {
		scalar := [32]byte(n.FillBytes(make([]byte, 32)))
		want, err := nistec.NewP256Point().ScalarMult(q, scalar[:])
		if err != nil {
			t.Fatal(err)
		}
		if got := table.times(n.Mod(n, order)); got.Equal(want) != 1 {
			t.Fatalf("%x·Q is another point", scalar)
		}
	}
}

// TestMultiplesAtTheEdges has keys and signatures in which points meet: both
// summands equal, each other's negative, or at infinity on the way.
func TestMultiplesAtTheEdges(t *testing.T) {
	one := big.NewInt(1)
	last := new(big.Int).Sub(order, one)
	valid := 0
	for _, d := range []*big.Int{one, big.NewInt(2), big.NewInt(33), last} {
		key := keyOf(t, d)
		table := newMultiples(&key.PublicKey)
		for _, k := range numbers(spacing) {
			// Digests for which u is 0, u·G = v·Q, and u·G = -v·Q.
			r, _ := signWith(d, k, [32]byte{})
			equal := new(big.Int).Mul(r, d)
			equal.Mod(equal, order)
			opposite := new(big.Int).Sub(order, equal)
			for _, e := range []*big.Int{new(big.Int), order, equal, opposite, one, last} {
				digest := [32]byte(e.FillBytes(make([]byte, 32)))
				r, s := signWith(d, k, digest)
				if s.Sign() == 0 {
					s = one // what no signer gives
				}
				if agree(t, &key.PublicKey, table, digest, r, s) {
					valid++
				}
				agree(t, &key.PublicKey, table, digest, r, new(big.Int).Sub(order, s))
				agree(t, &key.PublicKey, table, digest, r, one)
				agree(t, &key.PublicKey, table, digest, one, s)
				agree(t, &key.PublicKey, table, digest, last, last)
			}
		}
	}
	if valid < 3_000 {
		t.Errorf("only %d signatures were good; the test is worth little", valid)
	}
}

// TestMultiplesAgree compares with crypto/ecdsa on random keys, digests and
// signatures, good ones and those that somebody has tampered with.
func TestMultiplesAgree(t *testing.T) {
	valid, invalid := 0, 0
	number := rapid.Custom(func(t *rapid.T) *big.Int {
		n := new(big.Int).SetBytes(rapid.SliceOfN(rapid.Byte(), 1, 32).Draw(t, "bytes"))
		return n.Mod(n, order).Add(n, big.NewInt(1)).Mod(n, order)
	})
	rapid.Check(t, func(rt *rapid.T) {
		d := number.Draw(rt, "d")
		if d.Sign() == 0 {
			d.SetInt64(1)
		}
		key := keyOf(t, d)
		table := newMultiples(&key.PublicKey)
		digest := sha256.Sum256(rapid.SliceOf(rapid.Byte()).Draw(rt, "payload"))
		r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
		if err != nil {
			rt.Fatal(err)
		}
		if !agree(t, &key.PublicKey, table, digest, r, s) {
			rt.Fatal("a good signature was refused")
		}
		signature := pack(r, s)
		bit := rapid.IntRange(0, 511).Draw(rt, "bit")
		signature[bit/8] ^= 1 << (bit % 8)
		for _, other := range [][2]*big.Int{
			{new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])},
			{r, new(big.Int).Sub(order, s)}, // the other good one
			{number.Draw(rt, "r"), s},
			{r, number.Draw(rt, "s")},
			{s, r},
		} {
			if agree(t, &key.PublicKey, table, digest, other[0], other[1]) {
				valid++
			} else {
				invalid++
			}
		}
	})
	if valid == 0 || invalid == 0 {
		t.Errorf("%d good and %d bad signatures; the test is worth nothing", valid, invalid)
	}
}

// TestMultiplesBeyondTheOrder has points whose x is larger than the order, which
// nobody meets by chance: the key is made up for the signature.
func TestMultiplesBeyondTheOrder(t *testing.T) {
	found := 0
	for j := int64(1); found < 5; j++ {
		x := new(big.Int).Add(order, big.NewInt(j))
		point, err := nistec.NewP256Point().SetBytes(append([]byte{2}, x.FillBytes(make([]byte, 32))...))
		if err != nil {
			continue // no point has this x
		}
		found++
		// point = u·G + v·Q, so Q = (point - u·G)/v; r = j, s = r/v, digest = u·s.
		u, v := big.NewInt(1234567), big.NewInt(7654321)
		ug, err := nistec.NewP256Point().ScalarBaseMult(u.FillBytes(make([]byte, 32)))
		if err != nil {
			t.Fatal(err)
		}
		q := nistec.NewP256Point().Add(point, ug.Negate(ug))
		inverse := new(big.Int).ModInverse(v, order)
		if q, err = q.ScalarMult(q, inverse.FillBytes(make([]byte, 32))); err != nil {
			t.Fatal(err)
		}
		key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), q.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		r := big.NewInt(j)
		s := new(big.Int).Mul(r, inverse)
		s.Mod(s, order)
		e := new(big.Int).Mul(u, s)
		digest := [32]byte(e.Mod(e, order).FillBytes(make([]byte, 32)))
		table := newMultiples(key)
		if !agree(t, key, table, digest, r, s) {
			t.Errorf("x = n + %d: refused", j)
		}
		agree(t, key, table, digest, big.NewInt(j+1), s)
	}
}

// TestMultiplesRefuseAnotherS has the one s of which n + s fits into 32 bytes as well.
func TestMultiplesRefuseAnotherS(t *testing.T) {
	d, k, one := big.NewInt(5), big.NewInt(12345), big.NewInt(1)
	key := keyOf(t, d)
	table := newMultiples(&key.PublicKey)
	r, _ := signWith(d, k, [32]byte{})
	e := new(big.Int).Mul(r, d)
	e.Sub(k, e).Mod(e, order) // so that s is 1
	digest := [32]byte(e.FillBytes(make([]byte, 32)))
	if !agree(t, &key.PublicKey, table, digest, r, one) {
		t.Error("s = 1: refused")
	}
	if agree(t, &key.PublicKey, table, digest, r, new(big.Int).Add(order, one)) {
		t.Error("s = n + 1: accepted")
	}
}

func TestMultiplesOfNoKey(t *testing.T) {
	p384 := ecKey(t, elliptic.P384())
	if newMultiples(&p384.PublicKey) != nil {
		t.Error("a table of a key on another curve")
	}
	off := ecKey(t, elliptic.P256()).PublicKey
	off.Y = new(big.Int).Add(off.Y, big.NewInt(1)) //nolint:staticcheck // it is to be invalid
	if newMultiples(&off) != nil {
		t.Error("a table of a point that is not on the curve")
	}
}

// FuzzMultiples compares with crypto/ecdsa on whatever comes.
func FuzzMultiples(f *testing.F) {
	key := keyOf(f, big.NewInt(7))
	table := newMultiples(&key.PublicKey)
	digest := sha256.Sum256([]byte("header.payload"))
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		f.Fatal(err)
	}
	signature := pack(r, s)
	f.Add(digest[:], signature[:])
	f.Fuzz(func(t *testing.T, digest, signature []byte) {
		if len(digest) != 32 || len(signature) != 64 {
			return
		}
		agree(t, &key.PublicKey, table, [32]byte(digest),
			new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:]))
	})
}

// BenchmarkMultiples verifies by the table; BenchmarkVerify is crypto/ecdsa.
func BenchmarkMultiples(b *testing.B) {
	key := ecKey(b, elliptic.P256())
	table := newMultiples(&key.PublicKey)
	digest := sha256.Sum256([]byte("header.payload"))
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		b.Fatal(err)
	}
	signature := pack(r, s)
	b.ReportAllocs()
	for b.Loop() {
		if !table.verify(digest, signature) {
			b.Fatal("not verified")
		}
	}
}

// BenchmarkNewMultiples makes the table of a key.
func BenchmarkNewMultiples(b *testing.B) {
	key := ecKey(b, elliptic.P256())
	for b.Loop() {
		newMultiples(&key.PublicKey)
	}
}
