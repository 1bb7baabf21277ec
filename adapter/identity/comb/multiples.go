package comb

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"math/big"
	"math/bits"

	"filippo.io/nistec"
)

// multiples is the table of one public key, as the package comment has it: for every
// spacing-th column the sums of the last row's power, added, and the others, each
// added or subtracted. Sum n adds the powers at the ones of n, and subtracts those at
// its zeros. It is immutable.
type multiples [columns / spacing][1 << (rows - 1)]nistec.P256Point

const (
	rows    = 8
	columns = 256 / rows
	spacing = 4 // of the columns that have sums
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
	var twice [len(m)][rows]nistec.P256Point // of every power
	for row := range rows {
		for c := range m {
			none := &m[c][0]
			switch row {
			case 0:
				none.Set(q)
			case rows - 1:
				none.Add(none.Negate(none), q)
			default:
				none.Add(none, q)
			}
			twice[c][row].Double(q)
			for range spacing {
				q.Double(q)
			}
		}
	}
	for c := range m {
		for n := 1; n < len(m[c]); n++ {
			m[c][n].Add(&m[c][n&(n-1)], &twice[c][bits.TrailingZeros(uint(n))])
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
	var u [32]byte
	product := new(big.Int).SetBytes(digest[:])
	product.Mul(product, inverse).Mod(product, order).FillBytes(u[:])
	point, err := nistec.NewP256Point().ScalarBaseMult(u[:])
	if err != nil {
		return false
	}
	product.Mul(r, inverse).Mod(product, order)
	x, err := point.Add(point, m.times(product)).BytesX()
	if err != nil { // the point at infinity
		return false
	}
	return product.SetBytes(x).Mod(product, order).Cmp(r) == 0
}

// times returns scalar·Q and changes scalar, which is not negative and less than the
// order.
//
// The digits are 1 and -1, of which the bits of (k + 2²⁵⁶ - 1) / 2 say which
// give an odd k. For an even one there is that of its negative, as the order is odd.
func (m *multiples) times(scalar *big.Int) *nistec.P256Point {
	even := scalar.Bit(0) == 0
	if even {
		scalar.Sub(order, scalar)
	}
	var digits [32]byte
	scalar.Rsh(scalar, 1).SetBit(scalar, 255, 1).FillBytes(digits[:])

	product := nistec.NewP256Point()
	var negative nistec.P256Point
	for shift := spacing - 1; shift >= 0; shift-- {
		product.Double(product)
		for c := range m {
			n := column(digits, c*spacing+shift)
			if n >= len(m[c]) { // the last row's digit is 1
				product.Add(product, &m[c][n-len(m[c])])
			} else {
				product.Add(product, negative.Negate(&m[c][len(m[c])-1-n]))
			}
		}
	}
	if even {
		product.Negate(product)
	}
	return product
}

// column returns the digits in a column of a big-endian number, one of each row.
func column(digits [32]byte, n int) int {
	column := 0
	for row := range rows {
		at := row*columns + n
		column |= int(digits[len(digits)-1-at/8]>>(at%8)&1) << row
	}
	return column
}
