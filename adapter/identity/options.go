package identity

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/stagedoor/stagedoor/adapter/identity/keyring"
	"github.com/stagedoor/stagedoor/adapter/tracing"
)

const (
	defaultUserInfoTTL = 5 * time.Second
	maxUserInfoTTL     = 10 * time.Minute
	maxUserInfoStale   = 24 * time.Hour
	maxLeeway          = 5 * time.Minute
)

// Options are the settings of an [Identity]. The zero Options are good.
type Options struct {
	// DangerouslyDisableDefaultAuthPolicy is
	// backend.auth.dangerouslyDisableDefaultAuthPolicy: callers without a token
	// pass, as a [Caller] of Kind None.
	DangerouslyDisableDefaultAuthPolicy bool
	// PluginKeyStore is backend.auth.pluginKeyStore.
	PluginKeyStore keyring.Options
	// UserInfoTTL is stagedoor.identity.userInfoTtl: for how long the auth backend's
	// answer about a token's user is used, and so how late a change of groups may
	// be noticed. Zero is 5 seconds, as in Backstage; the most is 10 minutes.
	UserInfoTTL time.Duration
	// UserInfoStale is stagedoor.identity.userInfoStale: for how long the last answer
	// about a user goes on to be used while the auth backend gives none. Zero is not
	// at all; the most is 24 hours.
	UserInfoStale time.Duration
	// TokenCache and UserInfoCache are stagedoor.caches.tokens and .userInfo: how many bytes
	// remembered tokens and answers about users may take. Zero is 32 MiB each.
	TokenCache, UserInfoCache int64
	// Leeway is stagedoor.identity.leeway: by how much clocks may differ where exp
	// and nbf are looked at. Zero, as in Backstage, is not at all; the most is 5
	// minutes.
	Leeway time.Duration
	// Bare is the opposite of stagedoor.identity.precompute: every signature is
	// verified by Go's own library, and none by a table of its key's multiples.
	Bare bool
	// Tracer gets a span for each call; nil for none.
	Tracer *tracing.Tracer
	// Transport makes the calls; nil is one of its own. Tests put theirs here.
	Transport http.RoundTripper
}

// withDefaults are the Options with what is zero at its default.
func (o Options) withDefaults() Options {
	if o.UserInfoTTL == 0 {
		o.UserInfoTTL = defaultUserInfoTTL
	}
	if o.TokenCache == 0 {
		o.TokenCache = defaultCache
	}
	if o.UserInfoCache == 0 {
		o.UserInfoCache = defaultCache
	}
	return o
}

// Validate reports everything that is wrong with o, each problem with its key
// path. It reads the key files.
func (o Options) Validate() error {
	problems := []error{o.PluginKeyStore.Validate()}
	if o.UserInfoTTL < 0 || o.UserInfoTTL > maxUserInfoTTL {
		problems = append(problems, fmt.Errorf("stagedoor.identity.userInfoTtl: want 0s to %v, have %v",
			maxUserInfoTTL, o.UserInfoTTL))
	}
	if o.UserInfoStale < 0 || o.UserInfoStale > maxUserInfoStale {
		problems = append(problems, fmt.Errorf("stagedoor.identity.userInfoStale: want 0s to %v, have %v",
			maxUserInfoStale, o.UserInfoStale))
	}
	if o.Leeway < 0 || o.Leeway > maxLeeway {
		problems = append(problems, fmt.Errorf("stagedoor.identity.leeway: want 0s to %v, have %v",
			maxLeeway, o.Leeway))
	}
	return errors.Join(problems...)
}
