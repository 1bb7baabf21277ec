package identity

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jws"

	"github.com/stagedoor/stagedoor/adapter/identity/keyset"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// opened verifies a token by a JWK set, with the library's own verification, and
// returns its header and payload.
func opened(t *testing.T, token string, jwks []byte) (header, payload map[string]any) {
	t.Helper()
	set, err := jwk.Parse(jwks)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := jws.Verify([]byte(token), jws.WithKeySet(set)); err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(token, ".")
	for n, into := range []*map[string]any{&header, &payload} {
		text, err := base64.RawURLEncoding.DecodeString(parts[n])
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, into); err != nil {
			t.Fatal(err)
		}
	}
	return header, payload
}

func caller(t *testing.T, i *Identity, token string) Caller {
	t.Helper()
	c, err := i.Authenticate(t.Context(), "Bearer "+token)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestPluginToken(t *testing.T) {
	b := newBackstage()
	i := b.identity(t, Options{})
	limited := b.limited(spec{})
	older := b.user(spec{header: ordered{{"typ", nil}}, claims: ordered{{"uip", nil}}})
	typEmpty := b.user(spec{header: ordered{{"typ", ""}}})
	// uip is the signature of the limited token with the same sub, iat and exp.
	full := b.user(spec{})
	rebuilt := rebuild(t, b, full)
	for _, test := range []struct {
		name, token, obo string
	}{
		{"forwarded", b.onBehalf(spec{obo: limited}), limited},
		{"rebuilt", full, rebuilt},
		{"rebuilt from obo", b.onBehalf(spec{obo: full}), rebuilt},
		{"older form", older, older},
		{"older form in obo", b.onBehalf(spec{obo: older}), older},
		{"empty typ", typEmpty, typEmpty},
	} {
		t.Run(test.name, func(t *testing.T) {
			token, err := i.PluginToken(t.Context(), "catalog", caller(t, i, test.token))
			if err != nil {
				t.Fatal(err)
			}
			header, payload := opened(t, token, i.JWKS())
			if diff := cmp.Diff(map[string]any{"typ": "vnd.backstage.plugin", "alg": "ES256", "kid": header["kid"]}, header); diff != "" {
				t.Errorf("header (-want +got)\n%s", diff)
			}
			now := float64(time.Now().Unix())
			iat, exp := payload["iat"].(float64), payload["exp"].(float64)
			if iat > now || iat < now-10 || exp > now+3600 || exp < now+3590 {
				t.Errorf("iat %v, exp %v; now %v", iat, exp, now)
			}
			delete(payload, "iat")
			delete(payload, "exp")
			if diff := cmp.Diff(map[string]any{"sub": "permission", "aud": "catalog", "obo": test.obo}, payload); diff != "" {
				t.Errorf("payload (-want +got)\n%s", diff)
			}
		})
	}
}

// rebuild makes the limited token of a full one by hand.
func rebuild(t *testing.T, b *backstage, full string) string {
	t.Helper()
	var claims struct {
		Sub, Uip string
		Iat, Exp int64
	}
	text, err := base64.RawURLEncoding.DecodeString(strings.Split(full, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &claims); err != nil {
		t.Fatal(err)
	}
	unsigned := b.userKey.token(ordered{{"typ", "vnd.backstage.limited-user"}},
		ordered{{"sub", claims.Sub}, {"iat", claims.Iat}, {"exp", claims.Exp}})
	return unsigned[:strings.LastIndexByte(unsigned, '.')+1] + claims.Uip
}

// The limited token must come out as the auth backend signed it, byte for byte,
// however the claims look.
func TestLimitedTokenIsRebuiltByteForByte(t *testing.T) {
	b := newBackstage()
	i := b.identity(t, Options{})
	for _, user := range []string{
		"user:default/alice", "user:default/ann-ö", "user:default/日本", "user:default/\u2028", "a\"b\\c/d<&>", "tab\tnew\nline\x01\x7f",
	} {
		token, err := i.PluginToken(t.Context(), "todo", caller(t, i, full(b, user)))
		if err != nil {
			t.Fatal(err)
		}
		_, payload := opened(t, token, i.JWKS())
		// Only with the very bytes does the signature fit.
		if got := outcomeOf(i.Authenticate(t.Context(), "Bearer "+b.onBehalf(spec{obo: payload["obo"]}))); got.Caller.User != user {
			t.Errorf("%q: %v", user, got)
		}
	}
}

// full mints a full token whose uip is right for users that encoding/json writes
// otherwise than JavaScript.
func full(b *backstage, user string) string {
	sub := json.RawMessage(javaScript(user))
	usual := []string{`"sub":` + string(sub), `"iat":1700000000`, `"exp":4000000000.5`}
	encode := base64.RawURLEncoding.EncodeToString
	proofInput := encode([]byte(`{"typ":"vnd.backstage.limited-user","alg":"ES256","kid":"user-key"}`)) + "." +
		encode([]byte("{"+strings.Join(usual, ",")+"}"))
	uip := encode(b.userKey.sign("ES256", proofInput))
	// The full token writes the same claims in another way.
	input := encode([]byte(`{ "kid":"user-\u006bey", "alg":"ES256", "typ":"vnd.backstage.user", "more":1 }`)) + "." +
		encode([]byte(`{"iss":"x", "exp":40000000005e-1 , "iat":17.0e8, "sub":`+string(sub)+`, "uip":"`+uip+`"}`))
	return input + "." + encode(b.userKey.sign("ES256", input))
}

// javaScript writes a string as JSON.stringify does.
func javaScript(s string) string {
	return `"` + strings.NewReplacer(`"`, `\"`, `\`, `\\`, "\t", `\t`, "\n", `\n`, "\x01", `\u0001`).Replace(s) + `"`
}

func TestPluginTokenRefuses(t *testing.T) {
	b := newBackstage()
	i := b.identity(t, Options{})
	for name, token := range map[string]string{
		"user token without uip":     b.user(spec{claims: ordered{{"uip", nil}}}),
		"user token, uip empty":      b.user(spec{claims: ordered{{"uip", ""}}}),
		"user token, uip a number":   b.user(spec{claims: ordered{{"uip", 7}}}),
		"user token, uip forged":     b.user(spec{claims: ordered{{"uip", strings.Repeat("A", 86)}}}),
		"user token, uip of another": b.user(spec{claims: ordered{{"uip", strings.Split(b.limited(spec{user: "user:default/bob"}), ".")[2]}}}),
		"user token, uip no base64":  b.user(spec{claims: ordered{{"uip", "a.b"}}}),
		"obo a user token, forged":   b.onBehalf(spec{obo: b.user(spec{claims: ordered{{"uip", strings.Repeat("A", 86)}}})}),
		"user token, typ JWT":        b.user(spec{header: ordered{{"typ", "JWT"}}}),
		"user token, typ a number":   b.user(spec{header: ordered{{"typ", 7}}}),
		"obo a user token, typ JWT":  b.onBehalf(spec{obo: b.user(spec{header: ordered{{"typ", "JWT"}}})}),
		"obo a user token, no uip":   b.onBehalf(spec{obo: b.user(spec{claims: ordered{{"uip", nil}}})}),
		"typ user with other letter": b.user(spec{header: ordered{{"typ", "vnd.backstage.User"}}}),
	} {
		got, err := i.PluginToken(t.Context(), "todo", caller(t, i, token))
		failure, ok := errors.AsType[*wire.Error](err)
		if !ok || failure.Status != 401 || failure.Name != "AuthenticationError" || got != "" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if token, err := i.PluginToken(t.Context(), "todo", Caller{}); token != "" || err != nil {
		t.Errorf("a token for nobody: %q, %v", token, err)
	}
	if token, err := i.PluginToken(t.Context(), "todo", caller(t, i, b.service(spec{}))); token != "" || outcomeOf(Caller{}, err).Status != 403 {
		t.Errorf("a token for a service: %q, %v", token, err)
	}
}

// A token that was good when it came may be so no more when a plugin refuses it.
func TestValid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackstage()
		i := b.identity(t, Options{})
		direct := caller(t, i, b.user(spec{}))
		through := caller(t, i, b.onBehalf(spec{}))
		for _, c := range []Caller{{}, caller(t, i, b.service(spec{})), direct, through} {
			if err := i.Valid(t.Context(), c); err != nil {
				t.Errorf("%v: %v", c, err)
			}
		}
		time.Sleep(time.Hour)
		for _, c := range []Caller{direct, through} {
			if got := outcomeOf(Caller{}, i.Valid(t.Context(), c)); !cmp.Equal(got, unauthorized, same) {
				t.Errorf("%v, expired: %v", c, got)
			}
		}
		b.publish(authKeys, b.stranger)
		withdrawn := caller(t, i, b.user(spec{key: b.stranger}))
		b.publish(authKeys, b.userKey)
		time.Sleep(keyset.MaxAge)
		if got := outcomeOf(Caller{}, i.Valid(t.Context(), withdrawn)); !cmp.Equal(got, unauthorized, same) {
			t.Errorf("of a key that was withdrawn: %v", got)
		}
	})
}

func TestServiceToken(t *testing.T) {
	i := newBackstage().identity(t, Options{})
	token, err := i.ServiceToken(`to"do`)
	if err != nil {
		t.Fatal(err)
	}
	_, payload := opened(t, token, i.JWKS())
	iat := payload["iat"].(float64)
	want := map[string]any{"sub": "permission", "aud": `to"do`, "iat": iat, "exp": iat + 3600}
	if diff := cmp.Diff(want, payload); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// What stagedoor signs is what stagedoor would accept, as another plugin would.
func TestPluginTokenIsGood(t *testing.T) {
	b := newBackstage()
	i := b.identity(t, Options{})
	b.fail("/api/permission/.backstage/auth/v1/jwks.json", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(i.JWKS())
	})
	token, err := i.PluginToken(t.Context(), "permission", caller(t, i, b.user(spec{})))
	if err != nil {
		t.Fatal(err)
	}
	expect(t, i, token, outcome{Caller: Caller{Kind: User, User: "user:default/alice", Actor: "permission"}})
	if token, err = i.ServiceToken("permission"); err != nil {
		t.Fatal(err)
	}
	expect(t, i, token, outcome{Caller: Caller{Kind: Service, Actor: "permission"}})
}

func TestPluginTokenIsReused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackstage()
		i := b.identity(t, Options{})
		obo := b.limited(spec{claims: ordered{{"exp", in(1800)}}})
		issue := func(plugin string) string {
			t.Helper()
			token, err := i.PluginToken(t.Context(), plugin, caller(t, i, b.onBehalf(spec{obo: obo})))
			if err != nil {
				t.Fatal(err)
			}
			return token
		}
		first := issue("todo")
		if _, payload := opened(t, first, i.JWKS()); payload["exp"].(float64) != float64(in(1800)) {
			t.Errorf("exp %v; want the user token's %d", payload["exp"], in(1800))
		}
		time.Sleep(issuedReuse - time.Second)
		if issue("todo") != first {
			t.Error("signed again within the minute")
		}
		if issue("catalog") == first {
			t.Error("one token for two plugins")
		}
		time.Sleep(time.Second)
		if issue("todo") == first {
			t.Error("not signed again after the minute")
		}
	})
}

// However many plugins and users tokens are issued for, they take bounded memory,
// none of it without a weight.
func TestIssuedTokensAreBounded(t *testing.T) {
	b := newBackstage()
	i := b.identity(t, Options{})
	i.issued.SetMaximum(64 << 10)
	for user := range 4 {
		c := caller(t, i, b.user(spec{user: fmt.Sprintf("user:default/u%d", user)}))
		for n := range 100 {
			if _, err := i.PluginToken(t.Context(), strings.Repeat("x", n+1), c); err != nil {
				t.Fatal(err)
			}
		}
	}
	i.issued.CleanUp()
	total := 0
	for key, token := range i.issued.All() {
		total += len(key.pluginID) + len(token)
	}
	if total == 0 || total > 64<<10 {
		t.Errorf("tokens of %d bytes are kept", total)
	}
	if n := i.issued.WeightedSize(); n < uint64(total) || n > 64<<10 {
		t.Errorf("tokens of %d bytes weigh %d", total, n)
	}
}
