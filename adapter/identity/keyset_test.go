package identity

import (
	"context"
	"crypto/elliptic"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stagedoor/stagedoor/adapter/identity/jose"
	"github.com/stagedoor/stagedoor/adapter/identity/keyset"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// expect authenticates and compares.
func expect(t *testing.T, i *Identity, token string, want outcome) {
	t.Helper()
	if diff := cmp.Diff(want, outcomeOf(i.Authenticate(t.Context(), "Bearer "+token)), same); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func expectCount(t *testing.T, b *backstage, path string, want int) {
	t.Helper()
	if got := b.count(path); got != want {
		t.Errorf("%s was fetched %d times; want %d", path, got, want)
	}
}

// slow holds an answer back for d, or until nobody waits for it any more.
func slow(d time.Duration, then http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(d):
			then(w, r)
		case <-r.Context().Done():
		}
	}
}

func publishes(keys ...*signer) http.HandlerFunc {
	var set []any
	for _, k := range keys {
		set = append(set, k.jwk)
	}
	return func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, map[string]any{"keys": set}) }
}

func TestKeySetIsFetchedOnceForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackstage()
		i := b.identity(t, Options{})
		b.fail(authKeys, slow(time.Second, publishes(b.userKey)))
		b.fail(todoKeys, slow(time.Second, publishes(b.pluginKey)))
		var waiting sync.WaitGroup
		for n := range 100 {
			token := b.onBehalf(spec{user: fmt.Sprintf("user:default/u%d", n)})
			waiting.Go(func() {
				if c, err := i.Authenticate(t.Context(), "Bearer "+token); err != nil || c.Actor != "todo" {
					t.Errorf("%v, %v", c, err)
				}
			})
		}
		waiting.Wait()
		expectCount(t, b, authKeys, 1)
		expectCount(t, b, todoKeys, 1)
	})
}

func TestKeySetFetchOutlivesWhoBeganIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackstage()
		i := b.identity(t, Options{})
		b.fail(authKeys, slow(3*time.Second, publishes(b.userKey)))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begun := time.Now()
		var waiting sync.WaitGroup
		waiting.Go(func() {
			if got := outcomeOf(i.Authenticate(ctx, "Bearer "+b.user(spec{}))); got.Status != 401 {
				t.Errorf("%v", got)
			}
			if took := time.Since(begun); took != time.Second {
				t.Errorf("gave up after %v; want 1s", took)
			}
		})
		synctest.Wait()
		expect(t, i, b.user(spec{}), asAlice)
		waiting.Wait()
		expectCount(t, b, authKeys, 1)
	})
}

func TestKeySetAges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackstage()
		i := b.identity(t, Options{})
		token := b.user(spec{claims: ordered{{"exp", in(86400)}}})
		ask := func(want outcome) time.Duration {
			t.Helper()
			begun := time.Now()
			expect(t, i, token, want)
			took := time.Since(begun)
			time.Sleep(6 * time.Second) // until what goes on in the background has ended
			return took
		}
		ask(asAlice)
		time.Sleep(keyset.RenewAge - 7*time.Second)
		ask(asAlice)
		expectCount(t, b, authKeys, 1)

		// Renewed in the background; nobody waits.
		b.fail(authKeys, slow(4*time.Second, publishes(b.userKey)))
		if took := ask(asAlice); took != 0 {
			t.Errorf("waited %v", took)
		}
		expectCount(t, b, authKeys, 2)

		// The auth backend goes away: unnoticed for five minutes, asked every 30
		// seconds, and then nobody passes.
		b.fail(authKeys, status(500))
		time.Sleep(keyset.RenewAge - time.Second)
		for begun := time.Now(); time.Since(begun) < 4*time.Minute; {
			ask(asAlice)
		}
		if n := b.count(authKeys) - 2; n < 7 || n > 8 {
			t.Errorf("asked %d times in four minutes; want every 30s", n)
		}
		time.Sleep(time.Minute)
		ask(unauthorized)

		// It is back: noticed at once where the last try is two seconds ago.
		b.fail(authKeys, nil)
		ask(asAlice)
	})
}

func TestKeySetFailureIsRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackstage()
		i := b.identity(t, Options{})
		b.fail(authKeys, status(503))
		for range 1000 {
			expect(t, i, b.user(spec{}), unauthorized)
		}
		expectCount(t, b, authKeys, 1)
		time.Sleep(keyset.FailureTTL)
		for range 10 {
			expect(t, i, b.user(spec{}), unauthorized)
		}
		expectCount(t, b, authKeys, 2)
		b.fail(authKeys, nil)
		expect(t, i, b.user(spec{}), unauthorized)
		time.Sleep(keyset.FailureTTL)
		expect(t, i, b.user(spec{}), asAlice)
		expectCount(t, b, authKeys, 3)
	})
}

func TestUnknownKidRenewsTheKeySet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackstage()
		i := b.identity(t, Options{})
		next := func(n int) spec {
			s := spec{key: newSigner(fmt.Sprintf("key-%d", n))}
			b.publish(authKeys, b.userKey, s.key)
			return s
		}
		expect(t, i, b.user(spec{}), asAlice)
		expectCount(t, b, authKeys, 1)

		// A set older than 30 seconds is renewed.
		time.Sleep(keyset.Cooldown)
		expect(t, i, b.user(next(1)), asAlice)
		expectCount(t, b, authKeys, 2)

		// A younger one ten times a minute, whether the kid turns up or not.
		for n := range keyset.Forced {
			if n%2 == 0 {
				expect(t, i, b.user(next(100+n)), asAlice)
			} else {
				expect(t, i, b.user(spec{key: b.stranger}), unauthorized)
			}
		}
		expectCount(t, b, authKeys, 2+keyset.Forced)
		for range 1000 {
			expect(t, i, b.user(spec{key: b.stranger}), unauthorized)
		}
		expect(t, i, b.user(next(200)), unauthorized)
		expectCount(t, b, authKeys, 2+keyset.Forced)
		expect(t, i, b.user(spec{}), asAlice)

		time.Sleep(keyset.ForcedTime)
		expect(t, i, b.user(next(201)), asAlice)
		expectCount(t, b, authKeys, 3+keyset.Forced)

		// Tokens that no key set can help are no reason to ask.
		time.Sleep(keyset.ForcedTime)
		for _, alg := range []any{"none", "HS256", nil, 7} {
			expect(t, i, b.user(spec{header: ordered{{"alg", alg}}}), unauthorized)
		}
		expectCount(t, b, authKeys, 3+keyset.Forced)

		// A signature that does not fit may be that of a key replaced under its own kid: the
		// set is renewed in the background, once in a Cooldown.
		for range 100 {
			expect(t, i, b.user(spec{key: b.stranger, header: ordered{{"kid", "user-key"}}}), unauthorized)
		}
		synctest.Wait()
		expectCount(t, b, authKeys, 4+keyset.Forced)
	})
}

// Many tokens with a new kid at once cost one fetch and all pass.
func TestUnknownKidIsSharedByAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackstage()
		i := b.identity(t, Options{})
		expect(t, i, b.user(spec{}), asAlice)
		next := newSigner("next")
		b.fail(authKeys, slow(time.Second, publishes(b.userKey, next)))
		var waiting sync.WaitGroup
		for n := range 50 {
			token := b.user(spec{key: next, user: fmt.Sprintf("user:default/u%d", n)})
			waiting.Go(func() {
				if _, err := i.Authenticate(t.Context(), "Bearer "+token); err != nil {
					t.Error(err)
				}
			})
		}
		waiting.Wait()
		expectCount(t, b, authKeys, 2)
	})
}

// While the auth backend fails, unknown kids do not make it worse.
func TestUnknownKidWhileKeysCannotBeRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackstage()
		i := b.identity(t, Options{})
		expect(t, i, b.user(spec{}), asAlice)
		b.fail(authKeys, status(500))
		time.Sleep(keyset.Cooldown)
		for range 1000 {
			expect(t, i, b.user(spec{key: b.stranger}), unauthorized)
			expect(t, i, b.user(spec{}), asAlice)
		}
		expectCount(t, b, authKeys, 2+keyset.Forced)
	})
}

func TestWithdrawnKeyEndsItsTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackstage()
		i := b.identity(t, Options{})
		next := newSigner("next")
		b.publish(authKeys, b.userKey, next)
		old := b.user(spec{})
		stays := b.user(spec{key: next, user: "user:default/bob"})
		asBob := outcome{Caller: Caller{Kind: User, User: "user:default/bob", Direct: true}}
		expect(t, i, old, asAlice)
		expect(t, i, stays, asBob)
		b.publish(authKeys, next)
		expect(t, i, old, asAlice) // the set is remembered
		time.Sleep(keyset.RenewAge)
		expect(t, i, stays, asBob) // renews
		synctest.Wait()
		expect(t, i, old, unauthorized)
		expect(t, i, stays, asBob)
		// The same kid with another key is another key.
		other := newSigner("next")
		b.publish(authKeys, other)
		time.Sleep(keyset.RenewAge)
		expect(t, i, stays, asBob)
		synctest.Wait()
		expect(t, i, stays, unauthorized)
		expect(t, i, b.user(spec{key: other, user: "user:default/bob"}), asBob)
	})
}

func TestRememberedTokensStillExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackstage()
		i := b.identity(t, Options{})
		token := b.user(spec{claims: ordered{{"exp", in(60)}, {"ent", []string{"x"}}}})
		obo := b.limited(spec{claims: ordered{{"exp", in(60)}}})
		expect(t, i, token, asAlice)
		expect(t, i, b.onBehalf(spec{obo: obo}), asTodo)
		time.Sleep(59 * time.Second)
		expect(t, i, token, asAlice)
		expect(t, i, b.onBehalf(spec{obo: obo}), asTodo)
		time.Sleep(time.Second)
		expect(t, i, token, unauthorized)
		expect(t, i, b.onBehalf(spec{obo: obo}), unauthorized)
	})
}

// A stream of made-up plugin ids costs neither the backend nor this process much,
// and plugins that are known do not notice.
func TestMadeUpPlugins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackstage()
		i := b.identity(t, Options{})
		expect(t, i, b.onBehalf(spec{}), asTodo)
		fetches := func() (n int) {
			b.mu.Lock()
			defer b.mu.Unlock()
			for path, hits := range b.hits {
				if path != authKeys && path != todoKeys {
					n += hits
				}
			}
			return n
		}
		for n := range 5000 {
			expect(t, i, b.service(spec{plugin: fmt.Sprintf("made-up-%d", n), key: b.stranger}), unauthorized)
		}
		if n := fetches(); n > keyset.StrangersBurst {
			t.Errorf("5000 made-up plugins at once cost %d fetches; want %d at most", n, keyset.StrangersBurst)
		}
		for n := range 600 {
			time.Sleep(100 * time.Millisecond)
			expect(t, i, b.service(spec{plugin: fmt.Sprintf("made-up-%d", n), key: b.stranger}), unauthorized)
		}
		if n, most := fetches(), keyset.StrangersBurst+int(time.Minute/keyset.StrangersPace); n > most {
			t.Errorf("a minute of made-up plugins cost %d fetches; want %d at most", n, most)
		}
		if n := i.plugins.Strangers(); n > keyset.MaxStrangers {
			t.Errorf("%d made-up plugins are remembered; want %d at most", n, keyset.MaxStrangers)
		}
		// The known plugin comes through, also when its keys have to be fetched anew.
		time.Sleep(keyset.MaxAge)
		for n := range 1000 {
			expect(t, i, b.service(spec{plugin: fmt.Sprintf("more-%d", n), key: b.stranger}), unauthorized)
		}
		expect(t, i, b.onBehalf(spec{}), asTodo)
	})
}

// A stream of made-up ids does not keep out a plugin that nobody has met yet, where it
// comes with the token of a user; a user's token of one's own making does not help.
func TestMadeUpPluginsKeepOutNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackstage()
		i := b.identity(t, Options{})
		forged := b.limited(spec{key: b.stranger})
		n := 0
		flood := func(obo any) {
			for range 1000 {
				n++
				plugin := fmt.Sprintf("made-up-%d", n)
				token := b.onBehalf(spec{plugin: plugin, key: b.stranger, obo: obo})
				if n%2 == 0 {
					token = b.service(spec{plugin: plugin, key: b.stranger})
				}
				expect(t, i, token, unauthorized)
			}
		}
		b.fail(todoKeys, status(503)) // as it starts
		flood(forged)
		expect(t, i, b.onBehalf(spec{}), unauthorized)
		time.Sleep(keyset.FailureTTL)
		flood(forged)
		b.fail(todoKeys, nil)
		expect(t, i, b.onBehalf(spec{}), asTodo)

		// Users who make up ids have a pace, too.
		fetches := func() (all int) {
			b.mu.Lock()
			defer b.mu.Unlock()
			for _, hits := range b.hits {
				all += hits
			}
			return all
		}
		before := fetches()
		flood(b.limited(spec{}))
		if more := fetches() - before; more > 2*keyset.StrangersBurst {
			t.Errorf("a thousand ids made up by a user cost %d fetches; want %d at most", more, 2*keyset.StrangersBurst)
		}
		expect(t, i, b.onBehalf(spec{}), asTodo)
	})
}

// An id that is longer than any plugin's is no more than a bad token: nothing is
// remembered or fetched for it, and no error repeats it.
func TestLongPluginIDs(t *testing.T) {
	b := newBackstage()
	i := b.identity(t, Options{})
	for _, long := range []int{maxPluginID + 1, 45 << 10} {
		id := strings.Repeat("x", long)
		_, err := i.Authenticate(t.Context(), "Bearer "+b.service(spec{plugin: id, key: b.stranger}))
		failure, ok := errors.AsType[*wire.Error](err)
		if !ok || failure.Status != 401 || !strings.Contains(failure.Cause.Error(), "sub cannot be the id of a plugin") {
			t.Errorf("an id of %d bytes: %v", long, outcomeOf(Caller{}, err))
		}
	}
	if n := i.plugins.Strangers(); n != 0 || len(b.hits) != 0 {
		t.Errorf("%d are remembered, %d calls made", n, len(b.hits))
	}
	longest := strings.Repeat("x", maxPluginID)
	b.keySets["/api/"+longest+"/.backstage/auth/v1/jwks.json"] = b.keySets[todoKeys]
	expect(t, i, b.service(spec{plugin: longest}), outcome{Caller: Caller{Kind: Service, Actor: longest}})
}

// Ids whose key set is found are strangers too until a token is verified, and all ways
// to write an id are one plugin: what a policy compares is spelt one way.
func TestPluginsAreKnownByTheirTokensAlone(t *testing.T) {
	b := newBackstage()
	i := b.identity(t, Options{})
	ids := []string{"Todo", "TODO", "tOdo"}
	for _, id := range ids {
		expect(t, i, b.service(spec{plugin: id, key: b.stranger, header: ordered{{"kid", "plugin-key"}}}), unauthorized)
	}
	if known := i.plugins.Known(); known != 0 {
		t.Errorf("%d are known", known)
	}
	if n := i.plugins.Strangers(); n != 1 {
		t.Errorf("%d strangers; want 1", n)
	}
	for _, id := range ids {
		expect(t, i, b.service(spec{plugin: id}), outcome{Caller: Caller{Kind: Service, Actor: "todo"}})
	}
	if known := i.plugins.Known(); known != 1 {
		t.Errorf("%d are known; want todo alone", known)
	}
	if n := i.plugins.Strangers(); n != 0 {
		t.Errorf("%d strangers are left; want 0", n)
	}
}

func TestAlgorithms(t *testing.T) {
	rsa2048, ed := rsaKey(t, 2048), edKey(t)
	p256, p384, p521 := ecKey(t, elliptic.P256()), ecKey(t, elliptic.P384()), ecKey(t, elliptic.P521())
	noAlg := map[string]any{"alg": nil}
	with := func(k *signer, alg string) *signer { k.alg = alg; return k }
	for _, test := range []struct {
		name string
		key  *signer
		want outcome
	}{
		{"ES256", describe("k", "ES256", p256), asAlice},
		{"ES384", describe("k", "ES384", p384), asAlice},
		{"ES512", describe("k", "ES512", p521), asAlice},
		{"RS256", describe("k", "RS256", rsa2048), asAlice},
		{"RS384", describe("k", "RS384", rsa2048), asAlice},
		{"RS512", describe("k", "RS512", rsa2048), asAlice},
		{"PS256", describe("k", "PS256", rsa2048), asAlice},
		{"PS384", describe("k", "PS384", rsa2048), asAlice},
		{"PS512", describe("k", "PS512", rsa2048), asAlice},
		{"EdDSA", describe("k", "EdDSA", ed), asAlice},
		{"Ed25519", describe("k", "Ed25519", ed), asAlice},
		{"ES256, key without alg", describe("k", "ES256", p256).as(noAlg), asAlice},
		{"PS256, key without alg", describe("k", "PS256", rsa2048).as(noAlg), asAlice},
		{"EdDSA, key without alg", describe("k", "EdDSA", ed).as(noAlg), asAlice},
		{"key_ops verify", describe("k", "ES256", p256).as(map[string]any{"key_ops": []string{"verify"}}), asAlice},
		{"use sig", describe("k", "ES256", p256).as(map[string]any{"use": "sig"}), asAlice},

		{"ES256, key for ES384", with(describe("k", "ES384", p384), "ES256"), unauthorized},
		{"ES256 by a key of another curve", describe("k", "ES256", p384), unauthorized},
		{"ES256 by a key of another curve without alg", describe("k", "ES256", p384).as(noAlg), unauthorized},
		{"RS256, key for PS256", with(describe("k", "PS256", rsa2048), "RS256"), unauthorized},
		{"key for RS256 of a curve", describe("k", "RS256", p256).as(nil), unauthorized},
		{"use enc", describe("k", "ES256", p256).as(map[string]any{"use": "enc"}), unauthorized},
		{"key_ops sign", describe("k", "ES256", p256).as(map[string]any{"key_ops": []string{"sign"}}), unauthorized},
		{"private key", describe("k", "ES256", p256).as(map[string]any{
			"d": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE"}), unauthorized},
		{"point off the curve", describe("k", "ES256", p256).as(map[string]any{
			"x": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE"}), unauthorized},
		{"no such curve", describe("k", "ES256", p256).as(map[string]any{"crv": "P-999"}), unauthorized},
		{"no kty", describe("k", "ES256", p256).as(map[string]any{"kty": nil}), unauthorized},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBackstage()
			b.publish(authKeys, test.key, newSigner("another"))
			i := b.identity(t, Options{})
			expect(t, i, b.user(spec{key: test.key}), test.want)
		})
	}
}

func TestSmallRSAKeysAreRefused(t *testing.T) {
	t.Setenv("GODEBUG", "rsa1024min=0")
	b := newBackstage()
	k := describe("k", "RS256", rsaKey(t, 1024))
	b.publish(authKeys, k)
	expect(t, b.identity(t, Options{}), b.user(spec{key: k}), unauthorized)
}

// A set of too many keys is no set, and the last one stays.
func TestSetsOfTooManyKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackstage()
		i := b.identity(t, Options{})
		many := make([]*signer, jose.MaxKeys)
		for n := range many {
			many[n] = b.stranger
		}
		many[0] = b.userKey
		b.publish(authKeys, many...)
		expect(t, i, b.user(spec{}), asAlice)
		b.publish(authKeys, append(many, b.stranger)...)
		time.Sleep(keyset.RenewAge)
		for range 2 { // renews, and is verified by what is known
			expect(t, i, b.user(spec{user: "user:default/alice"}), asAlice)
			synctest.Wait()
		}
		expectCount(t, b, authKeys, 2)
		time.Sleep(keyset.MaxAge - keyset.RenewAge)
		expect(t, i, b.user(spec{}), unauthorized)
	})
}

// Which key is meant must be beyond doubt.
func TestKeyIsChosenByKid(t *testing.T) {
	one, two := newSigner("one"), newSigner("two")
	twin, nameless := newSigner("one"), newSigner("").as(map[string]any{"kid": nil})
	noKid := ordered{{"kid", nil}}
	other := newSigner("encrypts").as(map[string]any{"use": "enc"})
	for _, test := range []struct {
		name      string
		published []*signer
		token     spec
		want      outcome
	}{
		{"kid of one of two", []*signer{one, two}, spec{key: two}, asAlice},
		{"no kid, one key", []*signer{one}, spec{key: one, header: noKid}, asAlice},
		{"no kid, one key without", []*signer{nameless}, spec{key: nameless, header: noKid}, asAlice},
		{"kid, one key without", []*signer{nameless}, spec{key: nameless, header: ordered{{"kid", "x"}}}, unauthorized},
		{"no kid, one key of use", []*signer{other, one}, spec{key: one, header: noKid}, asAlice},
		{"no kid, two keys", []*signer{one, two}, spec{key: one, header: noKid}, unauthorized},
		{"two keys of one kid", []*signer{one, twin}, spec{key: one}, unauthorized},
		{"no keys", nil, spec{key: one}, unauthorized},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBackstage()
			b.publish(authKeys, test.published...)
			expect(t, b.identity(t, Options{}), b.user(test.token), test.want)
		})
	}
}
