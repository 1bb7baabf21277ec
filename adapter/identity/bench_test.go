package identity

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// pool mints tokens of plugins, a thousand over 50 users.
func pool(b *backstage, mint func(spec) string) []string {
	obos := make([]string, 50)
	for n := range obos {
		user := fmt.Sprintf("user:default/user-%d", n)
		b.owned[user] = []string{user, "group:default/devs"}
		obos[n] = b.limited(spec{user: user})
	}
	tokens := make([]string, 1000)
	for n := range tokens {
		tokens[n] = "Bearer " + mint(spec{obo: obos[n%len(obos)]})
	}
	return tokens
}

// BenchmarkAuthenticate verifies plugin tokens on behalf of 50 users. Its floor is
// BenchmarkVerify.
func BenchmarkAuthenticate(b *testing.B) {
	backstage := newBackstage()
	i := backstage.identity(b, Options{})
	tokens := pool(backstage, backstage.onBehalf)
	for _, token := range tokens {
		if _, err := i.Authenticate(b.Context(), token); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		if _, err := i.Authenticate(b.Context(), tokens[n%len(tokens)]); err != nil {
			b.Fatal(err)
		}
		n++
	}
}

// bareVerification returns one ES256 verification by the standard library, of as
// many bytes as a plugin's token has.
func bareVerification(b *testing.B, backstage *backstage) func() bool {
	b.Helper()
	token := backstage.onBehalf(spec{})
	input := []byte(token[:strings.LastIndexByte(token, '.')])
	key := backstage.pluginKey.private.(*ecdsa.PrivateKey)
	digest := sha256.Sum256(input)
	signature, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		b.Fatal(err)
	}
	return func() bool {
		digest := sha256.Sum256(input)
		return ecdsa.VerifyASN1(&key.PublicKey, digest[:], signature)
	}
}

// BenchmarkVerify is the floor of BenchmarkAuthenticate.
func BenchmarkVerify(b *testing.B) {
	verify := bareVerification(b, newBackstage())
	b.ReportAllocs()
	for b.Loop() {
		if !verify() {
			b.Fatal("not verified")
		}
	}
}

// BenchmarkAuthenticateToFloor does both in turn, so that whatever else the
// machine does befalls both, and
// reports the ratios of
// their medians and, for busy machines, of their lowest tenths.
func BenchmarkAuthenticateToFloor(b *testing.B) {
	backstage := newBackstage()
	i := backstage.identity(b, Options{})
	tokens := pool(backstage, backstage.onBehalf)
	verify := bareVerification(b, backstage)
	var ours, floor []time.Duration
	for b.Loop() {
		begin := time.Now()
		_, err := i.Authenticate(b.Context(), tokens[len(ours)%len(tokens)])
		between := time.Now()
		good := verify()
		ours, floor = append(ours, between.Sub(begin)), append(floor, time.Since(between))
		if err != nil || !good {
			b.Fatal(err, good)
		}
	}
	slices.Sort(ours)
	slices.Sort(floor)
	b.ReportMetric(float64(ours[len(ours)/2])/float64(floor[len(floor)/2]), "p50/floor")
	b.ReportMetric(float64(ours[len(ours)/10])/float64(floor[len(floor)/10]), "p10/floor")
}

// BenchmarkRemembered is a user's own token, sent again.
func BenchmarkRemembered(b *testing.B) {
	backstage := newBackstage()
	i := backstage.identity(b, Options{})
	token := "Bearer " + backstage.user(spec{})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := i.Authenticate(b.Context(), token); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkUserInfo is user info that is remembered.
func BenchmarkUserInfo(b *testing.B) {
	backstage := newBackstage()
	i := backstage.identity(b, Options{UserInfoTTL: maxUserInfoTTL})
	c, err := i.Authenticate(b.Context(), "Bearer "+backstage.user(spec{}))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := i.UserInfo(b.Context(), c); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPluginToken issues tokens to one plugin for one user, which are signed
// once a minute.
func BenchmarkPluginToken(b *testing.B) {
	backstage := newBackstage()
	i := backstage.identity(b, Options{})
	c, err := i.Authenticate(b.Context(), "Bearer "+backstage.user(spec{}))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := i.PluginToken(b.Context(), "todo", c); err != nil {
			b.Fatal(err)
		}
	}
}
