package comb

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestWycheproof is Project Wycheproof's vectors for P-256 with SHA-256, whose
// signatures are r and s of 32 bytes each, as in tokens. The facts are in testdata:
// case, public key, message, signature and result.
func TestWycheproof(t *testing.T) {
	file, err := os.Open(filepath.Join("testdata", "p256.tsv"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	bytes := func(text string) []byte {
		b, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	vectors, valid := 0, 0
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		fields := strings.Split(lines.Text(), "\t")
		key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), bytes(fields[1]))
		if err != nil {
			t.Fatal(err)
		}
		vectors++
		want := fields[4] == "valid"
		if want {
			valid++
		}
		for name, v := range verifiers(t, key) {
			if got := v.Verify(key, bytes(fields[2]), bytes(fields[3])) == nil; got != want {
				t.Errorf("case %s, %s: verified %t; want %s", fields[0], name, got, fields[4])
			}
		}
	}
	if vectors != 262 || valid != 173 {
		t.Errorf("%d vectors, %d valid; want 262, 173", vectors, valid)
	}
}
