package sample

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwk"
)

// Key is an ES256 signing key with its id.
type Key struct {
	ID      string
	Private *ecdsa.PrivateKey
}

// NewKey makes a key.
func NewKey(id string) (*Key, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return &Key{ID: id, Private: private}, nil
}

// Set returns the JWK set that publishes the key.
func (k *Key) Set() ([]byte, error) {
	public, err := jwk.Import(k.Private.PublicKey)
	if err != nil {
		return nil, err
	}
	for name, value := range map[string]any{jwk.KeyIDKey: k.ID, jwk.AlgorithmKey: jwa.ES256(), jwk.KeyUsageKey: "sig"} {
		if err := public.Set(name, value); err != nil {
			return nil, err
		}
	}
	set := jwk.NewSet()
	if err := set.AddKey(public); err != nil {
		return nil, err
	}
	return json.Marshal(set)
}

// Sign returns the compact JWS (RFC 7515, section 7.1) of header and payload,
// which are encoded as they are given: the members and their order are the
// caller's, since Backstage's limited tokens depend on both.
func (k *Key) Sign(header, payload any) (string, error) {
	h, err := json.Marshal(header)
	if err != nil {
		return "", err
	}
	p, err := json.Marshal(payload)
	if err != nil {
		return "", err
	}
	input := base64.RawURLEncoding.EncodeToString(h) + "." + base64.RawURLEncoding.EncodeToString(p)
	digest := sha256.Sum256([]byte(input))
	r, s, err := ecdsa.Sign(rand.Reader, k.Private, digest[:])
	if err != nil {
		return "", err
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return input + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}

// header has the members in the order in which Backstage writes them.
type header struct {
	Type      string `json:"typ"`
	Algorithm string `json:"alg"`
	KeyID     string `json:"kid"`
}

type limitedClaims struct {
	Subject  string `json:"sub"`
	IssuedAt int64  `json:"iat"`
	Expiry   int64  `json:"exp"`
}

type userClaims struct {
	Issuer   string `json:"iss"`
	Subject  string `json:"sub"`
	Audience string `json:"aud"`
	IssuedAt int64  `json:"iat"`
	Expiry   int64  `json:"exp"`
	Proof    string `json:"uip"`
}

type pluginClaims struct {
	Subject  string `json:"sub"`
	Audience string `json:"aud"`
	IssuedAt int64  `json:"iat"`
	Expiry   int64  `json:"exp"`
	OnBehalf string `json:"obo,omitempty"`
}

// tokenLifetime is how long the sample's tokens are good for, as Backstage's are.
const tokenLifetime = time.Hour

// LimitedToken issues the limited token of a user.
func (b *Backstage) LimitedToken(user string) (string, error) {
	iat, exp := b.lifetime()
	return b.limitedToken(user, iat, exp)
}

func (b *Backstage) limitedToken(user string, iat, exp int64) (string, error) {
	return b.UserKey.Sign(header{"vnd.backstage.limited-user", "ES256", b.UserKey.ID}, limitedClaims{user, iat, exp})
}

// UserToken issues a user token as Backstage's auth plugin does: with the proof
// from which its limited token can be rebuilt, and without the ownership claims.
func (b *Backstage) UserToken(user string) (string, error) {
	// Both live as long, or the proof would fit no token.
	iat, exp := b.lifetime()
	limited, err := b.limitedToken(user, iat, exp)
	if err != nil {
		return "", err
	}
	return b.UserKey.Sign(header{"vnd.backstage.user", "ES256", b.UserKey.ID}, userClaims{
		Issuer:   b.URL + "/api/auth",
		Subject:  user,
		Audience: "backstage",
		IssuedAt: iat,
		Expiry:   exp,
		Proof:    limited[len(limited)-base64.RawURLEncoding.EncodedLen(64):],
	})
}

// PluginToken issues the todo plugin's token for the permission backend, on
// behalf of the user unless that is empty.
func (b *Backstage) PluginToken(user string) (string, error) {
	limited := ""
	if user != "" {
		var err error
		if limited, err = b.LimitedToken(user); err != nil {
			return "", err
		}
	}
	return b.OnBehalfOf(limited)
}

// OnBehalfOf issues the todo plugin's token for the permission backend with a
// limited token that was issued before.
func (b *Backstage) OnBehalfOf(limited string) (string, error) {
	iat, exp := b.lifetime()
	return b.PluginKey.Sign(header{"vnd.backstage.plugin", "ES256", b.PluginKey.ID},
		pluginClaims{"todo", "permission", iat, exp, limited})
}

func (b *Backstage) lifetime() (iat, exp int64) {
	now := b.now()
	return now.Unix(), now.Add(tokenLifetime).Unix()
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(fmt.Sprintf("sample: %v", err))
	}
	return v
}
