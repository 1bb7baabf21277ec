//go:build deploy

package main

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"fmt"
	"os"
	"strings"
	"testing"
	"unsafe"

	"filippo.io/nistec"
	"github.com/lestrrat-go/jwx/v3/jwk"

	"github.com/stagedoor/stagedoor/adapter/sample"
)

// turnBits turns a bit in each of the precomputed multiples of a key that a process has
// in its memory (package comb). Nothing else is changed: it is what faulty memory does.
func turnBits(t *testing.T, pid int, key *sample.Key) {
	t.Helper()
	memory, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
	must(t, err)
	defer memory.Close()
	maps, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	must(t, err)
	defer maps.Close()
	const points = 8 * 128
	first := firstMultiple(t, key)
	turned := 0
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		var from, to int64
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x rw-p", &from, &to); err != nil || strings.Contains(lines.Text(), "[") {
			continue
		}
		content := make([]byte, to-from)
		if n, err := memory.ReadAt(content, from); n < len(content) {
			t.Logf("%s: %d bytes were read: %v", lines.Text(), n, err)
		}
		for at := 0; ; at += len(first) {
			next := bytes.Index(content[at:], first)
			if next < 0 || at+next+points*len(first) > len(content) {
				break
			}
			at += next
			for point := range points {
				place := at + point*len(first)
				_, err := memory.WriteAt([]byte{content[place] ^ 1}, from+int64(place))
				must(t, err)
			}
			turned++
		}
	}
	if turned == 0 {
		t.Fatal("the process has no multiples of the key in its memory")
	}
}

// firstMultiple is what is first in the table of a key: the last row's power of it, less
// the others (package comb), computed in the same order, so that its bytes are the same.
func firstMultiple(t *testing.T, key *sample.Key) []byte {
	t.Helper()
	text, err := key.Set()
	must(t, err)
	set, err := jwk.Parse(text)
	must(t, err)
	only, _ := set.Key(0)
	var public ecdsa.PublicKey
	must(t, jwk.Export(only, &public))
	encoded, err := public.Bytes()
	must(t, err)
	q, err := nistec.NewP256Point().SetBytes(encoded)
	must(t, err)
	first := nistec.NewP256Point().Set(q)
	const rows, columns = 8, 32
	for row := 1; row < rows; row++ {
		for range columns {
			q.Double(q)
		}
		if row == rows-1 {
			first.Negate(first)
		}
		first.Add(first, q)
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(first)), unsafe.Sizeof(*first))
}
