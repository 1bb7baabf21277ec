// Package keyring holds the keys by which stagedoor signs tokens of its own: from files,
// the same for all replicas, or made in memory and rotated every hour.
//
// [New] reads or makes them, [Store.Current] returns those of this moment, and
// [Ring.Sign] signs. What [Ring.JWKS] says is published, so that plugins can verify it.
// The rotation is that of @backstage/backend-defaults 0.19.0.
package keyring

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jws"

	"github.com/stagedoor/stagedoor/adapter/identity/jose"
)

// TokenLife is how long stagedoor's own tokens are good at most, and how long
// a key made in memory signs, both as in @backstage/backend-defaults 0.19.0.
const TokenLife = time.Hour

const configPath = "backend.auth.pluginKeyStore"

// Options says which keys sign stagedoor's own tokens, in the terms of
// StaticConfigPluginKeySource in @backstage/backend-defaults 0.19.0.
//
// Without static keys they are made in memory: each signs for an hour, is
// published for an hour or more before, and for as long after as a token of it
// may live. Such keys are known to their own process alone: replicas behind one
// address publish different sets and plugins refuse a part of their calls. More
// than one replica needs static keys, the same for all.
type Options struct {
	// Type is backend.auth.pluginKeyStore.type: "static", or "database", Backstage's
	// default, which for want of a database means keys in memory, as "" does.
	Type string
	// Keys is backend.auth.pluginKeyStore.static.keys. The first signs, all are
	// published: a key is replaced by publishing the new one as second first.
	Keys []KeyFiles
}

// KeyFiles is one key of static [Options].
type KeyFiles struct {
	// PublicKeyFile is a PEM file of the public key (SPKI).
	PublicKeyFile string
	// PrivateKeyFile is a PEM file of its private key (PKCS #8, not encrypted). The
	// first key needs one.
	PrivateKeyFile string
	// KeyID is the kid.
	KeyID string
	// Algorithm is the JWS algorithm; "" is ES256.
	Algorithm string
}

// Validate reports everything that is wrong with o, each problem with its key path. It
// reads the key files.
func (o Options) Validate() error {
	_, err := o.load()
	return err
}

// key is a key of stagedoor's own. It is immutable.
type key struct {
	header  string         // of the tokens it signs, encoded
	public  jsontext.Value // its JWK
	private any            // nil for a key that is only published
	signer  jws.Signer2
}

// newKey describes a key pair; private may be nil.
func newKey(id, alg string, public crypto.PublicKey, private any) (*key, error) {
	if !slices.Contains(jose.AlgorithmsOf(public), alg) {
		return nil, fmt.Errorf("the key is none for %s", alg)
	}
	described, err := jwk.Import(public)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(described.Set(jwk.KeyIDKey, id), described.Set(jwk.AlgorithmKey, alg)); err != nil {
		return nil, err
	}
	text, err := json.Marshal(described)
	if err != nil {
		return nil, err
	}
	algorithm, _ := jose.Algorithm(alg) // which AlgorithmsOf knows
	signer, err := jws.SignerFor(algorithm)
	if err != nil {
		return nil, err
	}
	header := jose.Object("typ", jose.Quoted(jose.TypPlugin), "alg", jose.Quoted(alg), "kid", jose.Quoted(id))
	return &key{
		header: base64.RawURLEncoding.EncodeToString(header), public: text, private: private, signer: signer,
	}, nil
}

// generateKey makes a key for ES256.
func generateKey() (*key, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return newKey(uuid.NewString(), "ES256", &private.PublicKey, private)
}

// sign returns a token with this payload.
func (k *key) sign(payload []byte) (string, error) {
	input := k.header + "." + base64.RawURLEncoding.EncodeToString(payload)
	signature, err := k.signer.Sign(k.private, []byte(input))
	if err != nil {
		return "", fmt.Errorf("sign a plugin token: %w", err)
	}
	return input + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}

// Ring is the keys of a moment. It is immutable.
type Ring struct {
	signing *key
	next    *key      // signs from until on; nil where keys are static
	until   time.Time // zero where keys are static
	jwks    []byte
}

// JWKS returns the public keys as a JSON Web Key Set. It must not be changed.
func (r *Ring) JWKS() []byte { return r.jwks }

// Sign returns a token with this payload, a JSON object.
func (r *Ring) Sign(payload []byte) (string, error) { return r.signing.sign(payload) }

// newRing describes the keys, of which the first signs.
func newRing(published ...*key) (*Ring, error) {
	var set struct {
		Keys []jsontext.Value `json:"keys"`
	}
	for _, k := range published {
		set.Keys = append(set.Keys, k.public)
	}
	text, err := json.Marshal(set)
	if err != nil {
		return nil, err
	}
	return &Ring{signing: published[0], jwks: text}, nil
}

// Store holds stagedoor's own keys. It is safe for concurrent use.
type Store struct {
	mu   sync.Mutex // held while rotating
	ring atomic.Pointer[Ring]
}

// New returns a Store with the keys that o says. It reads their files. The error
// joins all problems, each with its key path.
func New(o Options) (*Store, error) {
	static, err := o.load()
	if err != nil {
		return nil, err
	}
	s := &Store{}
	if len(static) > 0 {
		ring, err := newRing(static...)
		s.ring.Store(ring)
		return s, err
	}
	first, err := generateKey()
	if err != nil {
		return nil, err
	}
	ring, err := rotated(&Ring{next: first})
	s.ring.Store(ring)
	return s, err
}

// Renew replaces the keys by what o says. Keys made in memory stay while they are
// asked for. On an error the old ones stay.
func (s *Store) Renew(o Options) error {
	next, err := New(o)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	ring := next.ring.Load()
	if inMemory := !ring.until.IsZero(); inMemory && !s.ring.Load().until.IsZero() {
		return nil
	}
	s.ring.Store(ring)
	return nil
}

// Current returns the keys of now. Where they are made in memory and the signing
// one has had its time, they change first.
func (s *Store) Current() *Ring {
	ring := s.ring.Load()
	if ring.until.IsZero() || time.Now().Before(ring.until) {
		return ring
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if ring = s.ring.Load(); ring.until.IsZero() || time.Now().Before(ring.until) {
		return ring
	}
	newer, err := rotated(ring)
	if err != nil {
		return ring // which still works; the next call tries again
	}
	s.ring.Store(newer)
	return newer
}

// rotated returns the keys that come after ring: the next key signs, and a newer
// one is published in its place. The last key stays published for as long as this
// one signs, which is as long as the last key's tokens live; the one before has
// none left.
func rotated(ring *Ring) (*Ring, error) {
	next, err := generateKey()
	if err != nil {
		return nil, err
	}
	published := []*key{ring.next, next}
	if ring.signing != nil {
		published = append(published, ring.signing)
	}
	newer, err := newRing(published...)
	if err != nil {
		return nil, err
	}
	newer.next, newer.until = next, time.Now().Add(TokenLife)
	return newer, nil
}

// load reads the static keys, none where the store is not static. The error joins
// all problems, each with its key path.
func (o Options) load() ([]*key, error) {
	switch {
	case o.Type == "static":
	case o.Type != "" && o.Type != "database":
		return nil, fmt.Errorf("%s.type: want static or database, have %q", configPath, o.Type)
	case len(o.Keys) > 0:
		return nil, fmt.Errorf("%s.static: has keys, which count only where type is static", configPath)
	default:
		return nil, nil
	}
	if len(o.Keys) == 0 {
		return nil, fmt.Errorf("%s.static.keys: names no key", configPath)
	}
	var keys []*key
	var problems []error
	ids := map[string]int{}
	for n, files := range o.Keys {
		path := fmt.Sprintf("%s.static.keys[%d]", configPath, n)
		if first, ok := ids[files.KeyID]; ok && files.KeyID != "" {
			problems = append(problems, fmt.Errorf("%s.keyId: %q is that of keys[%d] too", path, files.KeyID, first))
		}
		ids[files.KeyID] = n
		if n == 0 && files.PrivateKeyFile == "" {
			problems = append(problems, fmt.Errorf("%s.privateKeyFile: missing; the first key signs", path))
		}
		k, err := files.load(path)
		keys, problems = append(keys, k), append(problems, err)
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	return keys, nil
}

// load reads one key; path is that of its configuration.
func (f KeyFiles) load(path string) (*key, error) {
	var problems []error
	if f.KeyID == "" {
		problems = append(problems, fmt.Errorf("%s.keyId: missing", path))
	}
	alg := f.Algorithm
	if alg == "" {
		alg = "ES256"
	}
	if _, ok := jose.Algorithm(alg); !ok {
		problems = append(problems, fmt.Errorf("%s.algorithm: %q is not supported", path, alg))
	}
	public, err := readPEM(f.PublicKeyFile, "PUBLIC KEY", x509.ParsePKIXPublicKey)
	if err != nil {
		problems = append(problems, fmt.Errorf("%s.publicKeyFile: %w", path, err))
	}
	var private any
	if f.PrivateKeyFile != "" {
		if private, err = readPEM(f.PrivateKeyFile, "PRIVATE KEY", x509.ParsePKCS8PrivateKey); err != nil {
			problems = append(problems, fmt.Errorf("%s.privateKeyFile: %w", path, err))
		}
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	k, err := newKey(f.KeyID, alg, public, private)
	if err != nil {
		return nil, fmt.Errorf("%s.publicKeyFile: %w", path, err)
	}
	if private != nil && !pair(private, public) {
		return nil, fmt.Errorf("%s.privateKeyFile: is not the private key of publicKeyFile", path)
	}
	return k, nil
}

// pair reports whether public is the public key of private.
func pair(private, public any) bool {
	signer, ok := private.(crypto.Signer)
	if !ok {
		return false
	}
	of, ok := signer.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && of.Equal(public)
}

// readPEM reads a PEM file of one block, of the kind given.
func readPEM(file, kind string, parse func([]byte) (any, error)) (any, error) {
	if file == "" {
		return nil, errors.New("missing")
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s is not a PEM file", file)
	}
	if block.Type != kind {
		return nil, fmt.Errorf("%s holds a block %q, want %q%s", file, block.Type, kind, conversion[block.Type])
	}
	parsed, err := parse(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return parsed, nil
}

// conversion is how to make the wanted kind of PEM block of some others.
var conversion = map[string]string{
	"EC PRIVATE KEY":  "; convert it with openssl pkcs8 -topk8 -nocrypt",
	"RSA PRIVATE KEY": "; convert it with openssl pkcs8 -topk8 -nocrypt",
	"PRIVATE KEY":     "; take the public key out with openssl pkey -pubout",
}
