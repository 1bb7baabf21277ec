package identity

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// FuzzToken holds that no Authorization header, whatever its bytes, makes for
// trouble or lets anybody in: the seeds are good in all but their keys, which
// nobody publishes.
func FuzzToken(f *testing.F) {
	b := newBackstage()
	forger := newBackstage() // of other keys under the same kids
	i := b.identity(f, Options{})
	raw := base64.RawURLEncoding.EncodeToString
	for _, token := range []string{
		forger.user(spec{}), forger.limited(spec{}), forger.onBehalf(spec{}), forger.service(spec{}),
		forger.user(spec{header: ordered{{"typ", nil}, {"kid", nil}}}),
		forger.user(spec{header: ordered{{"alg", "none"}}}), forger.onBehalf(spec{header: ordered{{"alg", "HS256"}}}),
		raw([]byte(`{"typ":"vnd.backstage.user","alg":"ES256"}`)) + "." +
			raw([]byte(`{"sub":"a","iat":0,"exp":9e99,"nbf":-1e9,"ent":["b"]}`)) + "." + raw(make([]byte, 64)),
		raw([]byte(`{"typ":"vnd.backstage.plugin","alg":"ES256"}`)) + "." +
			raw([]byte(`{"sub":"todo","aud":["permission"],"iat":0,"exp":9e99}`)) + "." + strings.Repeat("_", 86),
	} {
		f.Add("Bearer " + token)
	}
	f.Add("")
	f.Add("bearer   x")
	f.Fuzz(func(t *testing.T, header string) {
		c, err := i.Authenticate(t.Context(), header)
		if err == nil {
			t.Fatalf("%v got in by %q", c, header)
		}
		if diff := cmp.Diff(unauthorized, outcomeOf(c, err), same); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	})
}

// FuzzClaims holds the same for what is encoded, which FuzzToken seldom hits: of a
// header and a payload the token is made with the very key that is published, so
// that whoever gets in is the one whom sub names.
func FuzzClaims(f *testing.F) {
	b := newBackstage()
	i := b.identity(f, Options{})
	user := `{"typ":"vnd.backstage.user","alg":"ES256","kid":"user-key"}`
	f.Add(user, `{"sub":"user:default/alice","iat":1,"exp":9999999999,"uip":"AAAA","ent":["a"]}`)
	f.Add(user, `{"sub":"a","sub":"b","iat":1,"exp":9999999999.5,"nbf":1}`)
	f.Add(`{"alg":"ES256"}`, `{"sub":"\u00e4","aud":"backstage","exp":1e10}`)
	f.Add(`{"typ":"vnd.backstage.plugin","alg":"ES256"}`, `{"sub":"todo","aud":["permission"],"iat":1,"exp":9e9,"obo":"x"}`)
	f.Fuzz(func(t *testing.T, header, payload string) {
		encode := base64.RawURLEncoding.EncodeToString
		input := encode([]byte(header)) + "." + encode([]byte(payload))
		c, err := i.Authenticate(t.Context(), "Bearer "+input+"."+encode(b.userKey.sign("ES256", input)))
		if err != nil {
			if diff := cmp.Diff(unauthorized, outcomeOf(c, err), same); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			return
		}
		if c.Kind != User || !c.Direct || c.Actor != "" {
			t.Fatalf("%v got in by %s %s", c, header, payload)
		}
		claims, _, err := i.UserInfo(t.Context(), c)
		if err != nil && claims != nil {
			t.Errorf("%v, %v", claims, err)
		}
		if token, err := i.PluginToken(t.Context(), "todo", c); err == nil {
			opened(t, token, i.JWKS())
		}
	})
}
