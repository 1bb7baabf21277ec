//go:build linux

package main

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/stagedoor/stagedoor/adapter/sample"
)

// The files in which keys are published to the processes that need them.
const (
	userSetFile   = "users.jwks"
	pluginSetFile = "plugin.jwks"
	pluginKeyFile = "plugin.pem"
)

// askingPlugin is the plugin on whose behalf all requests are sent.
const askingPlugin = "bench"

// keys sign what Backstage would: users' tokens and a plugin's.
type keys struct {
	user, plugin *sample.Key
}

// newKeys makes keys and publishes them in dir.
func newKeys(dir string) (*keys, error) {
	user, err := sample.NewKey("users-1")
	if err != nil {
		return nil, err
	}
	plugin, err := sample.NewKey("plugin-1")
	if err != nil {
		return nil, err
	}
	public, err := x509.MarshalPKIXPublicKey(&plugin.Private.PublicKey)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{pluginKeyFile: pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})}
	for name, key := range map[string]*sample.Key{userSetFile: user, pluginSetFile: plugin} {
		if files[name], err = key.Set(); err != nil {
			return nil, err
		}
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			return nil, err
		}
	}
	return &keys{user: user, plugin: plugin}, nil
}

// userRef is the user of that number. All are of one length, so that answers are.
func userRef(n int) string { return fmt.Sprintf("user:default/user-%05d", n) }

// claimsOf are what the user of that number owns by: itself and its groups.
func claimsOf(ref string) []string {
	n := ref[len(ref)-5:]
	return []string{
		ref, "group:default/everybody", "group:default/engineering",
		"group:default/guild-" + n[4:], "group:default/tribe-" + n[3:], "group:default/team-" + n[1:],
	}
}

// sessions returns limited tokens of the users, each good for an hour.
func (k *keys) sessions(users int) ([]string, error) {
	now := time.Now()
	tokens := make([]string, users)
	return tokens, signAll(tokens, func(n int) (string, error) {
		return k.user.Sign(
			tokenHeader{"vnd.backstage.limited-user", "ES256", k.user.ID},
			tokenClaims{Sub: userRef(n), Iat: now.Unix(), Exp: now.Add(time.Hour).Unix()},
		)
	})
}

// pool is requests' tokens, of which each is used once.
type pool struct {
	users  int
	tokens []string
}

// pool signs n tokens of the plugin, on behalf of the sessions in turn.
func (k *keys) pool(sessions []string, n int) (pool, error) {
	now := time.Now()
	p := pool{users: len(sessions), tokens: make([]string, n)}
	return p, signAll(p.tokens, func(n int) (string, error) {
		return k.plugin.Sign(
			tokenHeader{"vnd.backstage.plugin", "ES256", k.plugin.ID},
			tokenClaims{
				Sub: askingPlugin, Aud: "permission",
				Iat: now.Unix(), Exp: now.Add(time.Hour).Unix(), Obo: sessions[n%len(sessions)],
			},
		)
	})
}

type tokenHeader struct {
	Typ string `json:"typ"`
	Alg string `json:"alg"`
	Kid string `json:"kid"`
}

type tokenClaims struct {
	Sub string `json:"sub"`
	Aud string `json:"aud,omitempty"`
	Iat int64  `json:"iat"`
	Exp int64  `json:"exp"`
	Obo string `json:"obo,omitempty"`
}

// signAll fills tokens by sign, on all processors.
func signAll(tokens []string, sign func(n int) (string, error)) error {
	workers := runtime.GOMAXPROCS(0)
	failed := make([]error, workers)
	var group sync.WaitGroup
	for w := range workers {
		group.Go(func() {
			for n := w; n < len(tokens) && failed[w] == nil; n += workers {
				tokens[n], failed[w] = sign(n)
			}
		})
	}
	group.Wait()
	for _, err := range failed {
		if err != nil {
			return err
		}
	}
	return nil
}
