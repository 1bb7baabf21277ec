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
	"time"

	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/sirupsen/logrus"

	"github.com/stagedoor/stagedoor/adapter/fair"
	"github.com/stagedoor/stagedoor/adapter/identity/jose"
)

// published is a key set of one new key.
func published(t *testing.T) []*jose.Key {
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
	keys, err := jose.ParseKeys(fmt.Appendf(nil, `{"keys":[%s]}`, text), nil)
	if err != nil || len(keys) != 1 {
		t.Fatal(keys, err)
	}
	return keys
}

// For the race detector: keys change and fetches fail while many ask. Whoever gets keys
// gets one of the sets that were published, whole.
func TestSetChangesWhileAsked(t *testing.T) {
	log := logrus.New()
	log.SetOutput(io.Discard)
	sets := [][]*jose.Key{published(t), published(t)}
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
