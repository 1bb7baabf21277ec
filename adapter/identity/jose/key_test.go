package jose

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"testing"

	"github.com/lestrrat-go/jwx/v3/jwk"

	"github.com/stagedoor/stagedoor/adapter/identity/comb"
)

// publishedKey is a new public key as JSON.
func publishedKey(t *testing.T) string {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := jwk.Import(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestParseKeys(t *testing.T) {
	k := publishedKey(t)
	for _, test := range []struct {
		body string
		want int // keys, or -1 for an error
	}{
		{`{"keys":[]}`, 0},
		{`{"keys":[` + k + `]}`, 1},
		{`{"keys":[{"kty":"oct","k":"AAAA"},{"kty":"new"},{},` + k + `]}`, 1},
		{`{"keys":[null]}`, -1},
		{`{"keys":["x"]}`, -1},
		{`{"keys":null}`, -1},
		{`{"keys":{}}`, -1},
		{`{"Keys":[]}`, -1},
		{`{}`, -1},
		{`[]`, -1},
		{`null`, -1},
		{``, -1},
		{`<html>`, -1},
		{`{"keys":[]} x`, -1},
	} {
		got, err := ParseKeys([]byte(test.body), nil)
		if (err != nil) != (test.want < 0) || err == nil && len(got) != test.want {
			t.Errorf("%s: %d keys, %v; want %d", test.body, len(got), err, test.want)
		}
	}
}

// A signature takes as much longer as the key is longer, to the power of two.
func TestSizesOfRSAKeys(t *testing.T) {
	for bits, want := range map[int]int{2047: 0, 2048: 1, 4096: 1, 16384: 1, 16385: 0, 1 << 20: 0} {
		n := new(big.Int).Lsh(big.NewInt(1), uint(bits-1))
		n.SetBit(n, 0, 1)
		body := fmt.Sprintf(`{"keys":[{"kty":"RSA","e":"AQAB","n":%q}]}`, base64.RawURLEncoding.EncodeToString(n.Bytes()))
		if keys, err := ParseKeys([]byte(body), nil); err != nil || len(keys) != want {
			t.Errorf("%d bits: %d keys, %v; want %d", bits, len(keys), err, want)
		}
	}
}

// FuzzKeys holds that no answer for a key set makes for trouble, and that every
// key taken from one is fit for a signature.
func FuzzKeys(f *testing.F) {
	f.Add([]byte(`{"keys":[{"kty":"EC","crv":"P-256","x":"AAAA","y":"AAAA","kid":"k","alg":"ES256"}]}`))
	f.Add([]byte(`{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"},{"kty":"OKP","crv":"Ed25519","x":"AAAA"},{"kty":"oct","k":"AAAA"}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		all, err := ParseKeys(body, comb.NewTripwire(true, func() { t.Error("a table is wrong") }))
		if err != nil && all != nil {
			t.Errorf("%d keys and %v", len(all), err)
		}
		for _, k := range all {
			if len(k.algorithms) == 0 || k.public == nil {
				t.Errorf("%+v is of no use", k)
			}
			for alg, verifier := range k.algorithms {
				if verifier.Verify(k.public, []byte("input"), make([]byte, 64)) == nil {
					t.Errorf("a key for %s verifies nothing at all", alg)
				}
			}
		}
	})
}
