package identity

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
)

// ownTokenLife is how long stagedoor's own tokens are good at most, and how long
// a key made in memory signs, both as in @backstage/backend-defaults 0.19.0.
const ownTokenLife = time.Hour

const keyStorePath = "backend.auth.pluginKeyStore"

// ownKey is a key of stagedoor's own. It is immutable.
type ownKey struct {
	header  string         // of the tokens it signs, encoded
	public  jsontext.Value // its JWK
	private any            // nil for a key that is only published
	signer  jws.Signer2
}

// newOwnKey describes a key pair; private may be nil.
func newOwnKey(id, alg string, public crypto.PublicKey, private any) (*ownKey, error) {
	if !slices.Contains(algorithmsOf(public), alg) {
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
	signer, err := jws.SignerFor(algorithms[alg])
	if err != nil {
		return nil, err
	}
	header := object("typ", quoted(typPlugin), "alg", quoted(alg), "kid", quoted(id))
	return &ownKey{
		header: base64.RawURLEncoding.EncodeToString(header), public: text, private: private, signer: signer,
	}, nil
}

// generateKey makes a key for ES256.
func generateKey() (*ownKey, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return newOwnKey(uuid.NewString(), "ES256", &private.PublicKey, private)
}

// sign returns a token with this payload.
func (k *ownKey) sign(payload []byte) (string, error) {
	input := k.header + "." + base64.RawURLEncoding.EncodeToString(payload)
	signature, err := k.signer.Sign(k.private, []byte(input))
	if err != nil {
		return "", fmt.Errorf("sign a plugin token: %w", err)
	}
	return input + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}

// keyRing is the keys of a moment. It is immutable.
type keyRing struct {
	signing *ownKey
	next    *ownKey   // signs from until on; nil where keys are static
	until   time.Time // zero where keys are static
	jwks    []byte
}

// newKeyRing describes the keys, of which the first signs.
func newKeyRing(published ...*ownKey) (*keyRing, error) {
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
	return &keyRing{signing: published[0], jwks: text}, nil
}

// keyStore holds stagedoor's own keys. It is safe for concurrent use.
type keyStore struct {
	mu   sync.Mutex // held while rotating
	ring atomic.Pointer[keyRing]
}

func newKeyStore(o PluginKeyStore) (*keyStore, error) {
	static, err := o.load()
	if err != nil {
		return nil, err
	}
	s := &keyStore{}
	if len(static) > 0 {
		ring, err := newKeyRing(static...)
		s.ring.Store(ring)
		return s, err
	}
	first, err := generateKey()
	if err != nil {
		return nil, err
	}
	ring, err := rotated(&keyRing{next: first})
	s.ring.Store(ring)
	return s, err
}

// renew replaces the keys.
func (s *keyStore) renew(o PluginKeyStore) error {
	next, err := newKeyStore(o)
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

// current returns the keys of now. Where they are made in memory and the signing
// one has had its time, they change first.
func (s *keyStore) current() *keyRing {
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
func rotated(ring *keyRing) (*keyRing, error) {
	next, err := generateKey()
	if err != nil {
		return nil, err
	}
	published := []*ownKey{ring.next, next}
	if ring.signing != nil {
		published = append(published, ring.signing)
	}
	newer, err := newKeyRing(published...)
	if err != nil {
		return nil, err
	}
	newer.next, newer.until = next, time.Now().Add(ownTokenLife)
	return newer, nil
}

// load reads the static keys, none where the store is not static. The error joins
// all problems, each with its key path.
func (o PluginKeyStore) load() ([]*ownKey, error) {
	switch {
	case o.Type == "static":
	case o.Type != "" && o.Type != "database":
		return nil, fmt.Errorf("%s.type: want static or database, have %q", keyStorePath, o.Type)
	case len(o.Keys) > 0:
		return nil, fmt.Errorf("%s.static: has keys, which count only where type is static", keyStorePath)
	default:
		return nil, nil
	}
	if len(o.Keys) == 0 {
		return nil, fmt.Errorf("%s.static.keys: names no key", keyStorePath)
	}
	var keys []*ownKey
	var problems []error
	ids := map[string]int{}
	for n, files := range o.Keys {
		path := fmt.Sprintf("%s.static.keys[%d]", keyStorePath, n)
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
func (f KeyFiles) load(path string) (*ownKey, error) {
	var problems []error
	if f.KeyID == "" {
		problems = append(problems, fmt.Errorf("%s.keyId: missing", path))
	}
	alg := f.Algorithm
	if alg == "" {
		alg = "ES256"
	}
	if _, ok := algorithms[alg]; !ok {
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
	k, err := newOwnKey(f.KeyID, alg, public, private)
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
	key, err := parse(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return key, nil
}

// conversion is how to make the wanted kind of PEM block of some others.
var conversion = map[string]string{
	"EC PRIVATE KEY":  "; convert it with openssl pkcs8 -topk8 -nocrypt",
	"RSA PRIVATE KEY": "; convert it with openssl pkcs8 -topk8 -nocrypt",
	"PRIVATE KEY":     "; take the public key out with openssl pkey -pubout",
}
