package decision

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
)

// ClaimsHash names the caller's claims without telling them: SHA-256, in hexadecimal, of
// the claims sorted, each once and preceded by its length. A decision log has it in place
// of the claims. It is empty for a caller without credentials.
func (c Caller) ClaimsHash() string {
	if c.Anonymous {
		return ""
	}
	claims := slices.Clone(c.Claims)
	slices.Sort(claims)
	h := sha256.New()
	var length [8]byte
	for _, claim := range slices.Compact(claims) {
		for i := range length {
			length[i] = byte(len(claim) >> (8 * i)) //nolint:gosec // byte by byte
		}
		h.Write(length[:])
		h.Write([]byte(claim))
	}
	return hex.EncodeToString(h.Sum(nil))
}
