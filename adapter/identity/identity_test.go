package identity

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/stagedoor/stagedoor/adapter/fair"
	"github.com/stagedoor/stagedoor/adapter/identity/jose"
	"github.com/stagedoor/stagedoor/adapter/identity/keyset"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// outcome is what a token comes to: a caller, or the error's name and status.
type outcome struct {
	Caller Caller
	Name   string
	Status int
}

func outcomeOf(c Caller, err error) outcome {
	if err == nil {
		return outcome{Caller: c}
	}
	failure, ok := errors.AsType[*wire.Error](err)
	if !ok {
		return outcome{Caller: c, Name: fmt.Sprintf("%T", err)}
	}
	return outcome{c, failure.Name, failure.Status}
}

var (
	same         = cmpopts.IgnoreUnexported(Caller{})
	asAlice      = outcome{Caller: Caller{Kind: User, User: "user:default/alice", Direct: true}}
	asTodo       = outcome{Caller: Caller{Kind: User, User: "user:default/alice", Actor: "todo"}}
	asService    = outcome{Caller: Caller{Kind: Service, Actor: "todo"}}
	unauthorized = outcome{Name: "AuthenticationError", Status: 401}
)

func TestAuthenticate(t *testing.T) {
	b := newBackstage()
	b.keySets["/api/no_such-plugin/.backstage/auth/v1/jwks.json"] = b.keySets[todoKeys]
	i := b.identity(t, Options{})
	raw := base64.RawURLEncoding.EncodeToString
	userHeader := raw([]byte(`{"typ":"vnd.backstage.user","alg":"ES256","kid":"user-key"}`))
	pluginHeader := raw([]byte(`{"typ":"vnd.backstage.plugin","alg":"ES256","kid":"plugin-key"}`))
	older := func(claims ordered) spec { return spec{header: ordered{{"typ", nil}}, claims: claims} }

	for _, test := range []struct {
		name  string
		token string
		want  outcome
	}{
		{"user token", b.user(spec{}), asAlice},
		{"user token, other aud and iss", b.user(spec{claims: ordered{{"aud", "x"}, {"iss", 7}}}), asAlice},
		{"user token, no aud", b.user(spec{claims: ordered{{"aud", nil}}}), asAlice},
		{"user token with empty ent", b.user(spec{claims: ordered{{"ent", []string{}}}}), asAlice},
		{"user token with sub that is no entity ref", b.user(spec{user: "alice"}),
			outcome{Caller: Caller{Kind: User, User: "alice", Direct: true}}},
		{"user token, sub with escapes", b.user(spec{user: "user:default/\"ü\\"}),
			outcome{Caller: Caller{Kind: User, User: "user:default/\"ü\\", Direct: true}}},
		{"user token, sub a number", b.user(spec{claims: ordered{{"sub", 7}}}),
			outcome{Caller: Caller{Kind: User, Direct: true}}},
		{"user token, sub empty", b.user(spec{claims: ordered{{"sub", ""}}}), unauthorized},
		{"user token, sub null", b.user(spec{claims: ordered{{"sub", null}}}), unauthorized},
		{"user token, sub 0", b.user(spec{claims: ordered{{"sub", 0}}}), unauthorized},
		{"user token without sub", b.user(spec{claims: ordered{{"sub", nil}}}), unauthorized},
		{"user token, Sub in capitals", b.user(spec{claims: ordered{{"sub", nil}, {"Sub", "user:default/alice"}}}),
			unauthorized},
		{"user token, EXP in capitals", b.user(spec{claims: ordered{{"exp", nil}, {"EXP", in(60)}}}), unauthorized},
		{"expired user token", b.user(spec{claims: ordered{{"iat", in(-7200)}, {"exp", in(-3600)}}}), unauthorized},
		{"user token expired one second ago", b.user(spec{claims: ordered{{"exp", in(-1)}}}), unauthorized},
		{"user token that expires now", b.user(spec{claims: ordered{{"exp", in(0)}}}), unauthorized},
		{"user token, exp a fraction ahead", b.user(spec{claims: ordered{{"exp", float64(in(5)) + 0.5}}}), asAlice},
		{"user token, exp beyond all years", b.user(spec{claims: ordered{{"exp", 1e300}}}), asAlice},
		{"user token, exp a string", b.user(spec{claims: ordered{{"exp", strconv.FormatInt(in(60), 10)}}}), unauthorized},
		{"user token, exp null", b.user(spec{claims: ordered{{"exp", null}}}), unauthorized},
		{"user token without exp", b.user(spec{claims: ordered{{"exp", nil}}}), unauthorized},
		{"user token not yet valid", b.user(spec{claims: ordered{{"nbf", in(600)}}}), unauthorized},
		{"user token, nbf passed", b.user(spec{claims: ordered{{"nbf", in(-1)}}}), asAlice},
		{"user token, nbf null", b.user(spec{claims: ordered{{"nbf", null}}}), unauthorized},
		{"user token, nbf a string", b.user(spec{claims: ordered{{"nbf", "0"}}}), unauthorized},
		{"user token without iat", b.user(spec{claims: ordered{{"iat", nil}}}), unauthorized},
		{"user token, iat null", b.user(spec{claims: ordered{{"iat", null}}}), unauthorized},
		{"user token, iat ahead", b.user(spec{claims: ordered{{"iat", in(600)}}}), asAlice},
		{"user token, no kid", b.user(spec{header: ordered{{"kid", nil}}}), asAlice},
		{"user token, unknown kid", b.user(spec{header: ordered{{"kid", "other"}}}), unauthorized},
		{"user token, kid a number", b.user(spec{header: ordered{{"kid", 7}}}), unauthorized},
		{"user token, kid null", b.user(spec{header: ordered{{"kid", null}}}), unauthorized},
		{"user token, wrong signature", b.user(spec{key: b.stranger, header: ordered{{"kid", "user-key"}}}), unauthorized},
		{"user token signed with the plugin key", b.user(spec{key: b.pluginKey}), unauthorized},
		{"user token, no kid, wrong key", b.user(spec{key: b.pluginKey, header: ordered{{"kid", nil}}}), unauthorized},
		{"user token, alg none", b.user(spec{header: ordered{{"alg", "none"}}}), unauthorized},
		{"user token, alg None", b.user(spec{header: ordered{{"alg", "None"}}}), unauthorized},
		{"user token, no alg", b.user(spec{header: ordered{{"alg", nil}}}), unauthorized},
		{"user token, HS256 with the public key", b.user(spec{header: ordered{{"alg", "HS256"}}}), unauthorized},
		{"user token, another alg than the key's", b.user(spec{header: ordered{{"alg", "ES384"}}}), unauthorized},
		{"user token, unknown crit header", b.user(spec{header: ordered{{"crit", []string{"x"}}, {"x", 1}}}), unauthorized},
		{"user token, crit null", b.user(spec{header: ordered{{"crit", null}}}), unauthorized},
		{"user token, crit b64", b.user(spec{header: ordered{{"crit", []string{"b64"}}, {"b64", false}}}), unauthorized},
		{"user token, typ in capitals", b.user(spec{header: ordered{{"typ", "VND.BACKSTAGE.USER"}}}), asAlice},
		{"user token, typ application/", b.user(spec{header: ordered{{"typ", "application/vnd.backstage.user"}}}), asAlice},
		{"user token, typ a number", b.user(spec{header: ordered{{"typ", 7}}}), asAlice},
		{"user token, typ JWT, aud backstage", b.user(spec{header: ordered{{"typ", "JWT"}}}), asAlice},
		{"user token, typ JWT, other aud", b.user(spec{header: ordered{{"typ", "JWT"}}, claims: ordered{{"aud", "x"}}}),
			unauthorized},
		{"user token, no typ", b.user(older(nil)), asAlice},
		{"user token, no typ, no aud", b.user(older(ordered{{"aud", nil}})), unauthorized},
		{"user token, no typ, aud array", b.user(older(ordered{{"aud", []string{"backstage"}}})), unauthorized},
		{"user token, no typ, no iat", b.user(older(ordered{{"iat", nil}})), asAlice},
		{"user token, no typ, iat a string", b.user(older(ordered{{"iat", "x"}})), unauthorized},
		{"user token, no typ, no exp", b.user(older(ordered{{"exp", nil}})), unauthorized},
		{"user token, no typ, no sub", b.user(older(ordered{{"sub", nil}})), unauthorized},
		{"user token, no typ, expired", b.user(older(ordered{{"exp", in(-1)}})), unauthorized},
		{"limited user token directly", b.limited(spec{}), unauthorized},

		{"three garbage parts", "a.b.c", unauthorized},
		{"one part", "garbage", unauthorized},
		{"two parts", userHeader + ".e30", unauthorized},
		{"four parts", b.user(spec{}) + ".e30", unauthorized},
		{"empty parts", "..", unauthorized},
		{"valid header, garbage payload", userHeader + "." + raw([]byte("not json")) + ".AAAA", unauthorized},
		{"plugin header, garbage payload", pluginHeader + "." + raw([]byte("not json")) + ".AAAA", unauthorized},
		{"header null", raw([]byte("null")) + ".e30.AAAA", unauthorized},
		{"header an array", raw([]byte("[]")) + ".e30.AAAA", unauthorized},
		{"payload an array", userHeader + "." + raw([]byte("[]")) + ".AAAA", unauthorized},
		{"no signature", userHeader + ".e30.", unauthorized},
		{"signature with padding", b.user(spec{}) + "==", unauthorized},
		{"too long", b.user(spec{claims: ordered{{"x", strings.Repeat("x", jose.MaxToken)}}}), unauthorized},

		{"plugin token", b.onBehalf(spec{}), asTodo},
		{"plugin token with aud array", b.onBehalf(spec{claims: ordered{{"aud", []string{"catalog", "permission"}}}}), asTodo},
		{"plugin token, aud array with others", b.onBehalf(spec{claims: ordered{{"aud", []any{7, "permission"}}}}), asTodo},
		{"plugin token, aud array of others", b.onBehalf(spec{claims: ordered{{"aud", []any{"permissions", nil}}}}),
			unauthorized},
		{"plugin token, other aud", b.onBehalf(spec{claims: ordered{{"aud", "catalog"}}}), unauthorized},
		{"plugin token without aud", b.onBehalf(spec{claims: ordered{{"aud", nil}}}), unauthorized},
		{"plugin token, aud an object", b.onBehalf(spec{claims: ordered{{"aud", map[string]any{"permission": 1}}}}),
			unauthorized},
		{"plugin token, other id", b.onBehalf(spec{plugin: "no_such-PLUGIN"}),
			outcome{Caller: Caller{Kind: User, User: "user:default/alice", Actor: "no_such-plugin"}}},
		{"plugin token, sub in another case", b.onBehalf(spec{plugin: "Todo"}), asTodo},
		{"service token, sub in another case", b.service(spec{plugin: "TODO"}), asService},
		{"plugin token of a plugin that is not there", b.onBehalf(spec{plugin: "nosuch"}), unauthorized},
		{"plugin token with a sub that is a path", b.onBehalf(spec{plugin: "../todo"}), unauthorized},
		{"plugin token, sub with a line end", b.onBehalf(spec{plugin: "todo\n"}), unauthorized},
		{"plugin token, sub a number", b.onBehalf(spec{claims: ordered{{"sub", 7}}}), unauthorized},
		{"plugin token, sub empty", b.onBehalf(spec{claims: ordered{{"sub", ""}}}), unauthorized},
		{"plugin token without sub", b.onBehalf(spec{claims: ordered{{"sub", nil}}}), unauthorized},
		{"expired plugin token", b.onBehalf(spec{claims: ordered{{"iat", in(-7200)}, {"exp", in(-3600)}}}), unauthorized},
		{"plugin token without exp", b.onBehalf(spec{claims: ordered{{"exp", nil}}}), unauthorized},
		{"plugin token without iat", b.onBehalf(spec{claims: ordered{{"iat", nil}}}), unauthorized},
		{"plugin token not yet valid", b.onBehalf(spec{claims: ordered{{"nbf", in(600)}}}), unauthorized},
		{"plugin token, wrong signature", b.onBehalf(spec{key: b.stranger, header: ordered{{"kid", "plugin-key"}}}),
			unauthorized},
		{"plugin token signed with the user key", b.onBehalf(spec{key: b.userKey}), unauthorized},
		{"plugin token, HS256 with the public key", b.onBehalf(spec{header: ordered{{"alg", "HS256"}}}), unauthorized},
		{"plugin token, typ JWT", b.onBehalf(spec{header: ordered{{"typ", "JWT"}}}), unauthorized},
		{"plugin token, typ in capitals", b.onBehalf(spec{header: ordered{{"typ", "VND.BACKSTAGE.PLUGIN"}}}), unauthorized},

		{"service token", b.service(spec{}), asService},
		{"obo empty", b.onBehalf(spec{obo: ""}), asService},
		{"obo null", b.onBehalf(spec{obo: null}), asService},
		{"obo false", b.onBehalf(spec{obo: false}), asService},
		{"obo 0", b.onBehalf(spec{obo: 0}), asService},
		{"obo a number", b.onBehalf(spec{obo: 7}), unauthorized},
		{"obo true", b.onBehalf(spec{obo: true}), unauthorized},
		{"obo an array", b.onBehalf(spec{obo: []string{}}), unauthorized},
		{"obo an object", b.onBehalf(spec{obo: map[string]string{"protected": userHeader}}), unauthorized},
		{"obo garbage", b.onBehalf(spec{obo: "garbage"}), unauthorized},
		{"obo with a line end", b.onBehalf(spec{obo: b.limited(spec{}) + "\n"}), unauthorized},
		{"obo a full user token", b.onBehalf(spec{obo: b.user(spec{})}), asTodo},
		{"obo an older user token", b.onBehalf(spec{obo: b.user(older(nil))}), asTodo},
		{"obo a plugin token", b.onBehalf(spec{obo: b.service(spec{})}), unauthorized},
		{"obo a plugin token on behalf", b.onBehalf(spec{obo: b.onBehalf(spec{})}), unauthorized},
		{"obo expired", b.onBehalf(spec{obo: b.limited(spec{claims: ordered{{"exp", in(-1)}}})}), unauthorized},
		{"obo without exp", b.onBehalf(spec{obo: b.limited(spec{claims: ordered{{"exp", nil}}})}), unauthorized},
		{"obo without sub", b.onBehalf(spec{obo: b.limited(spec{claims: ordered{{"sub", nil}}})}), unauthorized},
		{"obo, wrong signature", b.onBehalf(spec{obo: b.limited(spec{key: b.stranger,
			header: ordered{{"kid", "user-key"}}})}), unauthorized},
		{"obo signed with the plugin key", b.onBehalf(spec{obo: b.limited(spec{key: b.pluginKey})}), unauthorized},
		{"good obo in a bad plugin token", b.onBehalf(spec{key: b.stranger}), unauthorized},
	} {
		t.Run(test.name, func(t *testing.T) {
			// Twice, since what is remembered must mean the same.
			for range 2 {
				got := outcomeOf(i.Authenticate(t.Context(), "Bearer "+test.token))
				if diff := cmp.Diff(test.want, got, same); diff != "" {
					t.Fatalf("(-want +got)\n%s", diff)
				}
			}
		})
	}
}

// A payload may have a member twice; the last one counts, as in JavaScript.
func TestAuthenticateTakesTheLastOfDuplicateMembers(t *testing.T) {
	b := newBackstage()
	i := b.identity(t, Options{})
	for _, test := range []struct {
		claims ordered
		want   outcome
	}{
		{ordered{{"sub", "user:default/mallory"}, {"sub", "user:default/alice"}, {"iat", 1}, {"exp", in(60)}}, asAlice},
		{ordered{{"sub", "user:default/alice"}, {"iat", 1}, {"exp", in(60)}, {"exp", in(-60)}}, unauthorized},
	} {
		token := b.userKey.token(ordered{{"typ", "vnd.backstage.user"}}, test.claims)
		if diff := cmp.Diff(test.want, outcomeOf(i.Authenticate(t.Context(), "Bearer "+token)), same); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	}
}

func TestAuthenticateReadsTheHeader(t *testing.T) {
	b := newBackstage()
	strict, lax := b.identity(t, Options{}), b.identity(t, Options{DangerouslyDisableDefaultAuthPolicy: true})
	token := b.user(spec{})
	nobody := outcome{Caller: Caller{Kind: None}}
	for _, test := range []struct {
		header    string
		want, lax outcome
	}{
		{"Bearer " + token, asAlice, asAlice},
		{"bEARER    " + token, asAlice, asAlice},
		{"", unauthorized, nobody},
		{"Bearer", unauthorized, nobody},
		{"Bearer ", unauthorized, nobody},
		{"Bearer\t" + token, unauthorized, nobody},
		{"Bearer " + token + " x", unauthorized, nobody},
		{"Bearer \t" + token, unauthorized, nobody},
		{" Bearer " + token, unauthorized, nobody},
		{"Bearer" + token, unauthorized, nobody},
		{"Basic " + token, unauthorized, nobody},
		{token, unauthorized, nobody},
		{"Bearer garbage", unauthorized, unauthorized},
		{"Bearer " + b.user(spec{key: b.stranger}), unauthorized, unauthorized},
		{"Bearer " + b.limited(spec{}), unauthorized, unauthorized},
	} {
		name := strings.ReplaceAll(test.header, token, "TOKEN")
		if diff := cmp.Diff(test.want, outcomeOf(strict.Authenticate(t.Context(), test.header)), same); diff != "" {
			t.Errorf("%q (-want +got)\n%s", name, diff)
		}
		if diff := cmp.Diff(test.lax, outcomeOf(lax.Authenticate(t.Context(), test.header)), same); diff != "" {
			t.Errorf("%q without the default policy (-want +got)\n%s", name, diff)
		}
	}
}

func TestLeeway(t *testing.T) {
	b := newBackstage()
	i := b.identity(t, Options{Leeway: 30 * time.Second})
	for name, test := range map[string]struct {
		token string
		want  outcome
	}{
		"exp within":              {b.user(spec{claims: ordered{{"exp", in(-20)}}}), asAlice},
		"exp outside":             {b.user(spec{claims: ordered{{"exp", in(-31)}}}), unauthorized},
		"nbf within":              {b.user(spec{claims: ordered{{"nbf", in(20)}}}), asAlice},
		"nbf outside":             {b.user(spec{claims: ordered{{"nbf", in(90)}}}), unauthorized},
		"exp of a plugin within":  {b.onBehalf(spec{claims: ordered{{"exp", in(-20)}}}), asTodo},
		"exp of a plugin outside": {b.onBehalf(spec{claims: ordered{{"exp", in(-31)}}}), unauthorized},
	} {
		for range 2 {
			if diff := cmp.Diff(test.want, outcomeOf(i.Authenticate(t.Context(), "Bearer "+test.token)), same); diff != "" {
				t.Errorf("%s (-want +got)\n%s", name, diff)
			}
		}
	}
}

func TestCallerTellsOfItsToken(t *testing.T) {
	b := newBackstage()
	i := b.identity(t, Options{})
	limited := b.limited(spec{claims: ordered{{"exp", in(1000)}}})
	one, err := i.Authenticate(t.Context(), "Bearer "+b.onBehalf(spec{obo: limited}))
	if err != nil {
		t.Fatal(err)
	}
	two, err := i.Authenticate(t.Context(), "Bearer "+b.onBehalf(spec{obo: limited}))
	if err != nil {
		t.Fatal(err)
	}
	other, err := i.Authenticate(t.Context(), "Bearer "+b.onBehalf(spec{}))
	if err != nil {
		t.Fatal(err)
	}
	if one.Fingerprint() == "" || one.Fingerprint() != two.Fingerprint() || one.Fingerprint() == other.Fingerprint() {
		t.Errorf("fingerprints %x, %x of one user token and %x of another",
			one.Fingerprint(), two.Fingerprint(), other.Fingerprint())
	}
	if service := (Caller{Kind: Service}); service.Fingerprint() != "" {
		t.Errorf("a service has the fingerprint %x", service.Fingerprint())
	}
	holder := struct{ caller Caller }{one}
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x"} {
		text := fmt.Sprintf(format, one)
		if format != "%s" { // by which nobody prints a struct
			text += fmt.Sprintf(format, holder)
		}
		for _, part := range []string{limited[:20], limited[len(limited)-20:]} {
			for _, shown := range []string{"%s", "%x", "%d"} {
				if strings.Contains(text, strings.Trim(fmt.Sprintf(shown, []byte(part)), "[]")) {
					t.Errorf("%s shows the token: %s", format, text)
				}
			}
		}
	}
	for want, caller := range map[string]Caller{
		"user:default/alice through plugin:todo": one,
		"user:default/bob":                       {Kind: User, User: "user:default/bob", Direct: true},
		"plugin:todo":                            {Kind: Service, Actor: "todo"},
		"nobody":                                 {},
	} {
		if got := fmt.Sprint(caller); got != want {
			t.Errorf("%q; want %q", got, want)
		}
	}
}

// Whatever is wrong with a token, its text is in no error.
func TestErrorsQuoteNoToken(t *testing.T) {
	b := newBackstage()
	i := b.identity(t, Options{})
	const secret = "S3cretS3cret"
	encoded := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	user := `{"typ":"vnd.backstage.user","alg":"ES256","kid":"user-key"}`
	for _, token := range []string{
		secret, secret + "." + secret + "." + secret,
		encoded(`{"typ":"`+secret+`","x`) + ".e30.AAAA",
		encoded(`{"`+secret+`":}`) + ".e30.AAAA",
		encoded(`{"alg":"`+secret+`","typ":"vnd.backstage.user"}`) + "." + encoded(`{"sub":"x","iat":1,"exp":9e9}`) + ".AAAA",
		encoded(`{"alg":"ES256","kid":"`+secret+`","typ":"vnd.backstage.user"}`) + "." + encoded(`{"sub":"x","iat":1,"exp":9e9}`) + ".AAAA",
		encoded(user) + "." + encoded(`{"`+secret+`":"\x"}`) + ".AAAA",
		encoded(user) + "." + encoded(`{"sub":{"`+secret+`":[}}`) + ".AAAA",
		encoded(user) + "." + encoded(`{"sub":"`+secret+`","iat":1,"exp":9e9}`) + "." + secret,
		encoded(user) + "." + encoded(`{"sub":"`+secret+`","iat":"`+secret+`","exp":9e9}`) + ".AAAA",
		b.service(spec{plugin: "../" + secret}),
		b.onBehalf(spec{obo: secret}),
		b.onBehalf(spec{claims: ordered{{"aud", secret}}}),
	} {
		_, err := i.Authenticate(t.Context(), "Bearer "+token)
		if err == nil {
			t.Fatalf("%s was accepted", token)
		}
		for err := err; err != nil; err = errors.Unwrap(err) {
			for _, text := range []string{secret, encoded(secret), token} {
				if strings.Contains(err.Error(), text) {
					t.Errorf("the error quotes the token: %v", err)
				}
			}
		}
	}
}

// Whoever a wrong table let in is not remembered, and what was verified while it turned
// out to be wrong is not either.
func TestTripwireForgets(t *testing.T) {
	b := newBackstage()
	i := b.identity(t, Options{})
	var log strings.Builder
	i.log.Logger.SetOutput(&log)
	c := caller(t, i, b.user(spec{}))
	if _, ok := i.tokens.GetIfPresent(c.token.sum); !ok {
		t.Fatal("nothing is remembered")
	}
	i.tripped()
	if _, ok := i.tokens.GetIfPresent(c.token.sum); ok {
		t.Error("still remembered")
	}
	if !strings.Contains(log.String(), "level=error") || !strings.Contains(log.String(), "crypto/ecdsa") {
		t.Errorf("not loud: %s", log.String())
	}
	bare := b.identity(t, Options{Bare: true})
	for _, verifiedBare := range []bool{false, true} {
		bare.remember(c.token.sum, c.token.userToken, verifiedBare)
		if _, ok := bare.tokens.GetIfPresent(c.token.sum); ok != verifiedBare {
			t.Errorf("verified by crypto/ecdsa %t, remembered %t", verifiedBare, ok)
		}
	}
}

// Signatures are verified in turns: who claims to be somebody waits behind others that
// do, and too many are told so with 503, which is no word on the token.
func TestTurnsToVerify(t *testing.T) {
	b := newBackstage()
	i := b.identity(t, Options{})
	i.turns = fair.NewLine(1, 1)
	i.userKeys = keyset.New("the users' key set", i.fetchKeys("auth", "/.well-known/jwks.json"), i.turns, i.log)
	i.plugins, _ = keyset.NewPlugins(i.fetchPluginKeys, i.turns, i.log)
	flood := b.onBehalf(spec{plugin: "todo"})
	if !i.turns.Try() {
		t.Fatal("no turn")
	}
	outcomes := make(chan outcome, 3)
	go func() { outcomes <- outcomeOf(i.Authenticate(t.Context(), "Bearer "+flood)) }()
	for i.turns.Waiting() == 0 {
		time.Sleep(time.Millisecond)
	}
	busy := outcome{Name: "ServiceUnavailableError", Status: 503}
	if diff := cmp.Diff(busy, outcomeOf(i.Authenticate(t.Context(), "Bearer "+flood)), same); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	i.turns.End()
	if got := <-outcomes; got.Status != 0 {
		t.Errorf("%v", got)
	}
	if !i.turns.Try() {
		t.Error("the turn was not given back")
	}
}
