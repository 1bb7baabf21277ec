package keyset

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jws"
	"github.com/sirupsen/logrus"

	"github.com/stagedoor/stagedoor/adapter/fair"
	"github.com/stagedoor/stagedoor/adapter/identity/comb"
	"github.com/stagedoor/stagedoor/adapter/identity/jose"
)

// For the race detector: keys change and fetches fail while many ask. Whoever gets keys
// gets one of the sets that were published, whole.
func TestSetChangesWhileAsked(t *testing.T) {
	log := logrus.New()
	log.SetOutput(io.Discard)
	sets := [][]*jose.Key{signer(t).published(t), signer(t).published(t)}
	var fetches atomic.Int64
	s := New("a set", func(context.Context) ([]*jose.Key, error) {
		n := fetches.Add(1)
		if n%3 == 2 {
			return nil, io.ErrUnexpectedEOF
		}
		return slices.Clone(sets[n%2]), nil // each fetch reads anew
	}, fair.NewLine(2, 100), logrus.NewEntry(log))
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 200 {
				have, err := s.Fresh(t.Context())
				if err == nil {
					if has := have.Has(sets[0][0]) != have.Has(sets[1][0]); !has {
						t.Error("neither of the sets, or both")
					}
					_, _ = s.renewed(t.Context(), have)
				}
				s.mu.Lock()
				s.tried = time.Time{} // so that the next may fetch
				s.mu.Unlock()
			}
		})
	}
	all.Wait()
	if n := fetches.Load(); n < 10 {
		t.Errorf("%d fetches", n)
	}
}

// TestKeyIsReplacedUnderItsKid has a key replaced by another with the same kid: the next
// token that does not fit has the set renewed, once in a Cooldown, whoever sends more.
func TestKeyIsReplacedUnderItsKid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, replaced := signer(t), signer(t)
		serves, fetches := old, 0
		s := New("a set", func(context.Context) ([]*jose.Key, error) {
			fetches++
			return serves.published(t), nil
		}, fair.NewLine(2, 100), logrus.NewEntry(logrus.New()))
		verifies := func(by *key) bool {
			_, err := s.Verify(t.Context(), by.token(t), func() fair.Party { return fair.Party{} })
			synctest.Wait() // for a fetch in the background
			return err == nil
		}
		if !verifies(old) || verifies(replaced) || fetches != 1 {
			t.Fatalf("at first: %d fetches", fetches)
		}
		serves = replaced
		if verifies(replaced) || fetches != 1 {
			t.Errorf("it was fetched a moment ago, and again: %d fetches", fetches)
		}
		time.Sleep(Cooldown)
		if verifies(replaced) || !verifies(replaced) || fetches != 2 {
			t.Errorf("the new key is not known after %d fetches", fetches)
		}
		for range 100 {
			if verifies(old) {
				t.Fatal("the old key verifies still")
			}
		}
		if fetches != 2 {
			t.Errorf("%d fetches", fetches)
		}
	})
}

// key is a private one.
type key struct{ private *ecdsa.PrivateKey }

func signer(t *testing.T) *key {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &key{private}
}

// published is a set of the key alone.
func (k *key) published(t *testing.T) []*jose.Key {
	t.Helper()
	public, err := jwk.Import(k.private.Public())
	if err != nil {
		t.Fatal(err)
	}
	if err := public.Set(jwk.KeyIDKey, "k"); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(public)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := jose.ParseKeys(fmt.Appendf(nil, `{"keys":[%s]}`, text), comb.NewTripwire(true, func() { t.Error("a table is wrong") }))
	if err != nil || len(keys) != 1 {
		t.Fatal(keys, err)
	}
	return keys
}

func (k *key) token(t *testing.T) *jose.Token {
	t.Helper()
	headers := jws.NewHeaders()
	if err := headers.Set(jws.KeyIDKey, "k"); err != nil {
		t.Fatal(err)
	}
	text, err := jws.Sign([]byte(`{}`), jws.WithKey(jwa.ES256(), k.private, jws.WithProtectedHeaders(headers)))
	if err != nil {
		t.Fatal(err)
	}
	token, err := jose.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	if err := token.ReadClaims(); err != nil {
		t.Fatal(err)
	}
	return token
}
