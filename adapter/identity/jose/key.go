package jose

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jws"

	"github.com/stagedoor/stagedoor/adapter/identity/comb"
)

// algorithms are those that a token may be signed with: of a key pair, each of
// them. Ed25519 is the newer name of EdDSA with such a key (RFC 9864).
var algorithms = map[string]jwa.SignatureAlgorithm{
	"ES256": jwa.ES256(), "ES384": jwa.ES384(), "ES512": jwa.ES512(),
	"RS256": jwa.RS256(), "RS384": jwa.RS384(), "RS512": jwa.RS512(),
	"PS256": jwa.PS256(), "PS384": jwa.PS384(), "PS512": jwa.PS512(),
	"EdDSA": jwa.EdDSA(), "Ed25519": jwa.EdDSA(),
}

// Algorithm returns the algorithm of that name, and whether a token may be signed with
// it.
func Algorithm(name string) (jwa.SignatureAlgorithm, bool) {
	alg, ok := algorithms[name]
	return alg, ok
}

// AlgorithmsOf lists the algorithms that a public key can be used with.
func AlgorithmsOf(public any) []string {
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return []string{"ES256"}
		case elliptic.P384():
			return []string{"ES384"}
		case elliptic.P521():
			return []string{"ES512"}
		}
	case *rsa.PublicKey:
		// RFC 7518, section 3.3, and OPENSSL_RSA_MAX_MODULUS_BITS, the most that Node verifies by.
		if bits := k.N.BitLen(); bits >= 2048 && bits <= 16384 {
			return []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
		}
	case ed25519.PublicKey:
		return []string{"EdDSA", "Ed25519"}
	}
	return nil
}

// Key is a public key of a key set. It is immutable.
type Key struct {
	id     string
	jwk    []byte // as it was published
	public any
	// algorithms are those that the key may be used with: the one that its JWK
	// names, or all that fit where it names none.
	algorithms map[string]jws.Verifier2
}

// ID is the kid, or empty.
func (k *Key) ID() string { return k.id }

// Fits reports whether the key may be used with the algorithm.
func (k *Key) Fits(alg string) bool { return k.algorithms[alg] != nil }

// Verify verifies the signature of t, whose claims must have been read and whose
// algorithm must fit. Only where it returns nil may t be believed.
func (k *Key) Verify(t *Token) error {
	alg, _ := Text(t.Alg)
	verifier := k.algorithms[alg]
	if verifier == nil {
		return errors.New("the key is none for the algorithm")
	}
	return verifier.Verify(k.public, t.Raw[:t.signed], t.signature)
}

// Equal reports whether both were published in the same words.
func (k *Key) Equal(other *Key) bool { return bytes.Equal(k.jwk, other.jwk) }

// MaxKeys is how many keys a set may have. With TokenFactory of
// @backstage/plugin-auth-backend each replica makes a key an hour, and one at each
// start, and all are published for three hours. A key in use takes 100 kB here.
const MaxKeys = 256

// ParseKeys reads a JSON Web Key Set (RFC 7517). Keys that are of no use here,
// such as those for encryption or of a kind not known, are left out. Too many are an
// error. tripwire says whether what their signatures need is precomputed.
func ParseKeys(body []byte, tripwire *comb.Tripwire) ([]*Key, error) {
	var set struct {
		Keys []jsontext.Value `json:"keys"`
	}
	if jsontext.Value(body).Kind() != '{' || json.Unmarshal(body, &set, LastWins) != nil || set.Keys == nil {
		return nil, errors.New("the answer is no JSON Web Key Set")
	}
	if len(set.Keys) > MaxKeys {
		return nil, fmt.Errorf("the answer is a JSON Web Key Set of %d keys, and %d are accepted", len(set.Keys), MaxKeys)
	}
	var all []*Key
	for _, text := range set.Keys {
		if text.Kind() != '{' {
			return nil, errors.New("the answer is no JSON Web Key Set")
		}
		if k := parseKey(text, tripwire); k != nil {
			all = append(all, k)
		}
	}
	return all, nil
}

// parseKey returns nil for a key of no use.
func parseKey(text jsontext.Value, tripwire *comb.Tripwire) *Key {
	parsed, err := jwk.ParseKey(text)
	if err != nil {
		return nil
	}
	if asymmetric, ok := parsed.(jwk.AsymmetricKey); !ok || asymmetric.IsPrivate() {
		return nil
	}
	if use, ok := parsed.KeyUsage(); ok && use != "sig" {
		return nil
	}
	if ops, ok := parsed.KeyOps(); ok && !slices.Contains(ops, jwk.KeyOpVerify) {
		return nil
	}
	k := &Key{jwk: slices.Clone(text), algorithms: map[string]jws.Verifier2{}}
	if err := jwk.Export(parsed, &k.public); err != nil {
		return nil
	}
	k.id, _ = parsed.KeyID()
	alg, named := parsed.Algorithm()
	for _, name := range AlgorithmsOf(k.public) {
		if named && alg.String() != name {
			continue
		}
		if k.algorithms[name], err = verifierFor(name, k.public, tripwire); err != nil {
			return nil
		}
	}
	if len(k.algorithms) == 0 {
		return nil
	}
	return k
}

func verifierFor(alg string, public any, tripwire *comb.Tripwire) (jws.Verifier2, error) {
	if public, ok := public.(*ecdsa.PublicKey); ok && alg == "ES256" {
		return comb.New(public, tripwire), nil
	}
	return jws.VerifierFor(algorithms[alg])
}
