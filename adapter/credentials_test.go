package adapter_test

import (
	"net/http"
	"testing"
	"time"
)

// pluginTokenOf is a plugin's token that names the plugin by sub.
func (s *site) pluginTokenOf(t *testing.T, sub, obo string) string {
	t.Helper()
	now := time.Now().Unix()
	token, err := s.backstage.PluginKey.Sign(
		map[string]any{"typ": "vnd.backstage.plugin", "alg": "ES256", "kid": s.backstage.PluginKey.ID},
		map[string]any{"sub": sub, "aud": "permission", "iat": now, "exp": now + 3600, "obo": obo})
	check(t, err)
	return token
}

// A denial by actor holds however the plugin writes its name.
func TestActorHasOneSpelling(t *testing.T) {
	site := newSite(t, siteOptions{
		policyDir: writeBundle(t, map[string]string{
			".manifest": `{"roots":["p"]}`,
			"p.rego":    "package p\n\ndefault allow := true\n\nallow := false if input.identity.actor == \"plugin:todo\"\n",
		}),
		entrypoint: "p/allow",
	})
	limited, err := site.backstage.LimitedToken(alice)
	check(t, err)
	for _, sub := range []string{"todo", "Todo", "TODO"} {
		token := site.pluginTokenOf(t, sub, limited)
		status, body := site.post(t, token, `{"items":[{"id":"1","permission":{"type":"basic","name":"x","attributes":{}}}]}`)
		if status != http.StatusOK || body != `{"items":[{"id":"1","result":"DENY"}]}` {
			t.Errorf("%s: %d %s", sub, status, body)
		}
	}
}

// A uip that is no signature is the caller's fault, and no failure of policy or plugin.
func TestForgedProof(t *testing.T) {
	for name, denyOnError := range map[string]bool{"failing": false, "denying": true} {
		t.Run(name, func(t *testing.T) {
			site := newSite(t, siteOptions{denyOnError: denyOnError})
			now := time.Now().Unix()
			token, err := site.backstage.UserKey.Sign(
				map[string]any{"typ": "vnd.backstage.user", "alg": "ES256", "kid": site.backstage.UserKey.ID},
				map[string]any{"sub": alice, "iat": now, "exp": now + 3600, "uip": "Zm9yZ2Vk"})
			check(t, err)
			if status, body := site.post(t, token, askUpdate); status != http.StatusUnauthorized {
				t.Errorf("%d %s", status, body)
			}
			good, err := site.backstage.UserToken(alice)
			check(t, err)
			if status, body := site.post(t, good, askUpdate); status != http.StatusOK {
				t.Errorf("%d %s", status, body)
			}
		})
	}
}
