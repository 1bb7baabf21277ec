package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/stagedoor/stagedoor/adapter/discovery"
)

// backstage is the part of a Backstage that matters here: an auth backend and
// plugins with key sets. It signs by code of its own, with nothing of the package
// under test.
type backstage struct {
	userKey, pluginKey, stranger *signer

	mu      sync.Mutex
	hits    map[string]int
	faults  map[string]http.HandlerFunc // by path, in place of the usual answer
	keySets map[string][]map[string]any // by path
	owned   map[string][]string         // by user
}

const (
	authKeys = "/api/auth/.well-known/jwks.json"
	userInfo = "/api/auth/v1/userinfo"
	todoKeys = "/api/todo/.backstage/auth/v1/jwks.json"
)

func newBackstage() *backstage {
	b := &backstage{
		userKey: newSigner("user-key"), pluginKey: newSigner("plugin-key"), stranger: newSigner("stranger-key"),
		hits: map[string]int{}, faults: map[string]http.HandlerFunc{},
		owned: map[string][]string{"user:default/alice": {"user:default/alice", "group:default/devs"}},
	}
	b.keySets = map[string][]map[string]any{authKeys: {b.userKey.jwk}, todoKeys: {b.pluginKey.jwk}}
	return b
}

func (b *backstage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	b.hits[r.URL.Path]++
	fault := b.faults[r.URL.Path]
	keys, known := b.keySets[r.URL.Path]
	b.mu.Unlock()
	switch {
	case fault != nil:
		fault(w, r)
	case known:
		writeJSON(w, map[string]any{"keys": keys})
	case r.URL.Path == userInfo:
		b.userInfo(w, r)
	default:
		http.NotFound(w, r)
	}
}

func (b *backstage) userInfo(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), ".")
	var claims struct{ Sub string }
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(payload, &claims) != nil {
		http.Error(w, "no token", http.StatusUnauthorized)
		return
	}
	b.mu.Lock()
	owned, ok := b.owned[claims.Sub]
	b.mu.Unlock()
	if !ok {
		http.NotFound(w, r)
		return
	}
	writeJSON(w, map[string]any{"claims": map[string]any{"sub": claims.Sub, "ent": owned}})
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		panic(err)
	}
}

// RoundTrip makes b a transport without sockets, for tests in which time is fake.
func (b *backstage) RoundTrip(r *http.Request) (*http.Response, error) {
	answer := make(chan *http.Response, 1)
	go func() {
		w := httptest.NewRecorder()
		b.ServeHTTP(w, r)
		answer <- w.Result()
	}()
	select {
	case response := <-answer:
		return response, nil
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

func (b *backstage) count(path string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.hits[path]
}

// fail puts a fault in the place of path's answer; nil takes it away.
func (b *backstage) fail(path string, fault http.HandlerFunc) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.faults[path] = fault
}

func (b *backstage) publish(path string, keys ...*signer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.keySets[path] = nil
	for _, k := range keys {
		b.keySets[path] = append(b.keySets[path], k.jwk)
	}
}

func (b *backstage) own(user string, refs ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.owned[user] = refs
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "fault", code) }
}

// identity returns an Identity that sees b without sockets.
func (b *backstage) identity(t testing.TB, o Options) *Identity {
	t.Helper()
	i := newIdentity(t, o, "http://backstage.test")
	i.client.Transport = b
	return i
}

// listening returns an Identity that sees b through a real server.
func (b *backstage) listening(t testing.TB, o Options) (*Identity, *httptest.Server) {
	t.Helper()
	server := httptest.NewServer(b)
	t.Cleanup(server.Close)
	i := newIdentity(t, o, server.URL)
	return i, server
}

func newIdentity(t testing.TB, o Options, baseURL string) *Identity {
	t.Helper()
	d, err := discovery.New(discovery.Options{BaseURL: baseURL})
	if err != nil {
		t.Fatal(err)
	}
	log := logrus.New()
	log.SetOutput(io.Discard)
	i, err := New(o, d, logrus.NewEntry(log))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(i.Close)
	return i
}

// ordered is a JSON object whose members have an order, so that tokens are written as JavaScript
// would write them.
type ordered []member

type member struct {
	name  string
	value any
}

func (o ordered) MarshalJSON() ([]byte, error) {
	var members []string
	for _, m := range o {
		if m.value == nil {
			continue
		}
		value, err := json.Marshal(m.value)
		if err != nil {
			return nil, err
		}
		members = append(members, fmt.Sprintf("%q:%s", m.name, value))
	}
	return []byte("{" + strings.Join(members, ",") + "}"), nil
}

// with overrides members, or adds them. A nil value takes one away.
func (o ordered) with(changes ordered) ordered {
	result := append(ordered{}, o...)
next:
	for _, change := range changes {
		for n := range result {
			if result[n].name == change.name {
				result[n].value = change.value
				continue next
			}
		}
		result = append(result, change)
	}
	return result
}

// null is a JSON null; nil is no member at all.
var null = json.RawMessage("null")

// signer is a key pair as a JWK set publishes it.
type signer struct {
	id, alg string
	private any
	jwk     map[string]any
}

func newSigner(id string) *signer {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return describe(id, "ES256", private)
}

func describe(id, alg string, private any) *signer {
	b64 := func(n *big.Int, size int) string {
		return base64.RawURLEncoding.EncodeToString(n.FillBytes(make([]byte, size)))
	}
	s := &signer{id: id, alg: alg, private: private}
	switch k := private.(type) {
	case *ecdsa.PrivateKey:
		size := (k.Params().BitSize + 7) / 8
		point, err := k.PublicKey.Bytes()
		if err != nil {
			panic(err)
		}
		s.jwk = map[string]any{"kty": "EC", "crv": k.Params().Name,
			"x": base64.RawURLEncoding.EncodeToString(point[1 : 1+size]),
			"y": base64.RawURLEncoding.EncodeToString(point[1+size:])}
	case *rsa.PrivateKey:
		s.jwk = map[string]any{"kty": "RSA", "n": b64(k.N, k.Size()), "e": b64(big.NewInt(int64(k.E)), 3)}
	case ed25519.PrivateKey:
		s.jwk = map[string]any{"kty": "OKP", "crv": "Ed25519",
			"x": base64.RawURLEncoding.EncodeToString(k.Public().(ed25519.PublicKey))}
	}
	s.jwk["kid"], s.jwk["alg"] = id, alg
	return s
}

// as returns the signer with members of its JWK changed; nil takes one away.
func (s *signer) as(changes map[string]any) *signer {
	other := *s
	other.jwk = map[string]any{}
	for name, value := range s.jwk {
		other.jwk[name] = value
	}
	for name, value := range changes {
		if other.jwk[name] = value; value == nil {
			delete(other.jwk, name)
		}
	}
	return &other
}

// sign signs input by the algorithm.
func (s *signer) sign(alg, input string) []byte {
	sum := sha256.Sum256([]byte(input))
	digest, hash := sum[:], crypto.SHA256
	switch {
	case strings.HasSuffix(alg, "384"):
		sum := sha512.Sum384([]byte(input))
		digest, hash = sum[:], crypto.SHA384
	case strings.HasSuffix(alg, "512"):
		sum := sha512.Sum512([]byte(input))
		digest, hash = sum[:], crypto.SHA512
	}
	switch k := s.private.(type) {
	case *ecdsa.PrivateKey:
		r, v, err := ecdsa.Sign(rand.Reader, k, digest)
		if err != nil {
			panic(err)
		}
		size := (k.Params().BitSize + 7) / 8
		return append(r.FillBytes(make([]byte, size)), v.FillBytes(make([]byte, size))...)
	case *rsa.PrivateKey:
		var signature []byte
		var err error
		if strings.HasPrefix(alg, "PS") {
			signature, err = rsa.SignPSS(rand.Reader, k, hash, digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		} else {
			signature, err = rsa.SignPKCS1v15(nil, k, hash, digest)
		}
		if err != nil {
			panic(err)
		}
		return signature
	case ed25519.PrivateKey:
		return ed25519.Sign(k, []byte(input))
	}
	panic("no such key")
}

// token signs a token. The header's alg says how: none leaves the signature
// empty, an HMAC takes the public key's text.
func (s *signer) token(header, claims ordered) string {
	header = ordered{{"typ", nil}, {"alg", s.alg}, {"kid", s.id}}.with(header)
	encode := func(v ordered) string {
		text, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		return base64.RawURLEncoding.EncodeToString(text)
	}
	input := encode(header) + "." + encode(claims)
	alg, _ := header[1].value.(string)
	switch {
	case alg == "none":
		return input + "."
	case strings.HasPrefix(alg, "HS"):
		mac := hmac.New(sha256.New, s.publicPEM())
		mac.Write([]byte(input))
		return input + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
	}
	return input + "." + base64.RawURLEncoding.EncodeToString(s.sign(s.alg, input))
}

// publicPEM is the public key as a file.
func (s *signer) publicPEM() []byte {
	der, err := x509.MarshalPKIXPublicKey(s.private.(crypto.Signer).Public())
	if err != nil {
		panic(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// spec is how a token differs from the usual one of its kind, in the terms of the
// recorded cases.
type spec struct {
	user           string
	plugin         string
	key            *signer
	header, claims ordered
	obo            any // nil is a limited token
}

func in(seconds int64) int64 { return time.Now().Unix() + seconds }

// limited mints a limited token.
func (b *backstage) limited(s spec) string {
	return keyOr(s.key, b.userKey).token(ordered{{"typ", "vnd.backstage.limited-user"}}.with(s.header),
		ordered{{"sub", userOr(s.user)}, {"iat", in(0)}, {"exp", in(3600)}}.with(s.claims))
}

// user mints a full token, with the limited one's signature as uip.
func (b *backstage) user(s spec) string {
	usual := ordered{{"sub", userOr(s.user)}, {"iat", in(0)}, {"exp", in(3600)}}
	proof := b.userKey.token(ordered{{"typ", "vnd.backstage.limited-user"}}, usual)
	claims := ordered{{"iss", "https://auth.test"}, usual[0], {"aud", "backstage"}, usual[1], usual[2],
		{"uip", proof[strings.LastIndexByte(proof, '.')+1:]}}
	return keyOr(s.key, b.userKey).token(ordered{{"typ", "vnd.backstage.user"}}.with(s.header), claims.with(s.claims))
}

// service mints a plugin's token.
func (b *backstage) service(s spec) string {
	plugin := s.plugin
	if plugin == "" {
		plugin = "todo"
	}
	claims := ordered{{"sub", plugin}, {"aud", "permission"}, {"iat", in(0)}, {"exp", in(3600)}}
	return keyOr(s.key, b.pluginKey).token(
		ordered{{"typ", "vnd.backstage.plugin"}}.with(s.header), claims.with(s.claims))
}

// onBehalf mints a plugin's token with an obo.
func (b *backstage) onBehalf(s spec) string {
	obo := s.obo
	if obo == nil {
		obo = b.limited(spec{user: s.user})
	}
	s.claims = append(s.claims, member{"obo", obo})
	return b.service(s)
}

func keyOr(k, usual *signer) *signer {
	if k == nil {
		return usual
	}
	return k
}

func userOr(user string) string {
	if user == "" {
		return "user:default/alice"
	}
	return user
}
