package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"math/big"

	"filippo.io/nistec"
)

// multiples are what verifying needs of one public key Q on P-256: d·2^(6w)·Q for
// each digit 1 ≤ d ≤ 32 of each window w. A multiple of Q is then a sum of 43 points
// where crypto/ecdsa, which knows nothing of the key in advance, doubles 256 times.
//
// The points, their addition and the multiples of the base point are nistec's, the
// code of Go's own P-256. What is computed here takes time that depends on its
// input, all of which is public. It is immutable.
type multiples [windows][1 << (windowBits - 1)]nistec.P256Point

const (
	windowBits = 6
	windows    = 256/windowBits + 1 // with room for the last carry
)

// order is the order n of P-256's base point.
var order = elliptic.P256().Params().N

// newMultiples returns nil for what is no point of P-256.
func newMultiples(public *ecdsa.PublicKey) *multiples {
	encoded, err := public.Bytes()
	if err != nil || public.Curve != elliptic.P256() {
		return nil
	}
	q, err := nistec.NewP256Point().SetBytes(encoded)
	if err != nil {
		return nil
	}
	m := new(multiples)
	for w := range m {
		m[w][0].Set(q)
		for d := 1; d < len(m[w]); d++ {
			m[w][d].Add(&m[w][d-1], q)
		}
		for range windowBits {
			q.Double(q)
		}
	}
	return m
}

// verify verifies a signature, r and s of 32 bytes each, as FIPS 186-5, section
// 6.4.2, has it.
func (m *multiples) verify(digest [32]byte, signature [64]byte) bool {
	r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
	if r.Sign() == 0 || r.Cmp(order) >= 0 || s.Sign() == 0 || s.Cmp(order) >= 0 {
		return false
	}
	inverse := s.ModInverse(s, order)
	var u, v [32]byte
	product := new(big.Int).SetBytes(digest[:])
	product.Mul(product, inverse).Mod(product, order).FillBytes(u[:])
	product.Mul(r, inverse).Mod(product, order).FillBytes(v[:])

	point, err := nistec.NewP256Point().ScalarBaseMult(u[:])
	if err != nil {
		return false
	}
	m.add(point, v)
	x, err := point.BytesX()
	if err != nil { // the point at infinity
		return false
	}
	return product.SetBytes(x).Mod(product, order).Cmp(r) == 0
}

// add adds scalar·Q to sum. A window's six bits that stand for more than 32 are a
// negative digit, of which the next window makes up for 64.
func (m *multiples) add(sum *nistec.P256Point, scalar [32]byte) {
	carry := 0
	var negative nistec.P256Point
	for w := range m {
		digit := window(scalar, w) + carry
		carry = 0
		if digit > 1<<(windowBits-1) {
			digit -= 1 << windowBits
			carry = 1
		}
		switch {
		case digit > 0:
			sum.Add(sum, &m[w][digit-1])
		case digit < 0:
			sum.Add(sum, negative.Negate(&m[w][-digit-1]))
		}
	}
}

// window returns the w-th six bits of a big-endian number, from its end.
func window(scalar [32]byte, w int) int {
	at, shift := len(scalar)-1-w*windowBits/8, w*windowBits%8
	bits := int(scalar[at])
	if at > 0 {
		bits |= int(scalar[at-1]) << 8
	}
	return bits >> shift & (1<<windowBits - 1)
}
