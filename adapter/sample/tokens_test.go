package sample

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jws"
)

// TestProofFitsAtTheEndOfASecond has a second pass each time that somebody looks at the
// clock: the proof of a user token is of a limited token that lives as long as it does.
func TestProofFitsAtTheEndOfASecond(t *testing.T) {
	key, err := NewKey("k")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	b := &Backstage{UserKey: key, now: func() time.Time { now = now.Add(time.Second); return now }}
	token, err := b.UserToken("user:default/ann")
	if err != nil {
		t.Fatal(err)
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims userClaims
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	limited, err := b.limitedToken(claims.Subject, claims.IssuedAt, claims.Expiry)
	if err != nil {
		t.Fatal(err)
	}
	signed := limited[:strings.LastIndex(limited, ".")+1] + claims.Proof
	if _, err := jws.Verify([]byte(signed), jws.WithKey(jwa.ES256(), key.Private.Public())); err != nil {
		t.Error(err)
	}
}
