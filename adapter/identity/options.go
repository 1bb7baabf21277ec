package identity

import (
	"errors"
	"fmt"
	"time"

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
	PluginKeyStore PluginKeyStore
	// UserInfoTTL is stagedoor.identity.userInfoTtl: for how long the auth backend's
	// answer about a token's user is used, and so how late a change of groups may
	// be noticed. Zero is 5 seconds, as in Backstage; the most is 10 minutes.
	UserInfoTTL time.Duration
	// UserInfoStale is stagedoor.identity.userInfoStale: for how long the last answer
	// about a user goes on to be used while the auth backend gives none. Zero is not
	// at all; the most is 24 hours.
	UserInfoStale time.Duration
	// Leeway is stagedoor.identity.leeway: by how much clocks may differ where exp
	// and nbf are looked at. Zero, as in Backstage, is not at all; the most is 5
	// minutes.
	Leeway time.Duration
	// Bare is the opposite of stagedoor.identity.precompute: every signature is
	// verified by Go's own library, and none by a table of its key's multiples.
	Bare bool
	// Tracer gets a span for each call; nil for none.
	Tracer *tracing.Tracer
}

// PluginKeyStore says which keys sign stagedoor's own tokens, in the terms of
// StaticConfigPluginKeySource in @backstage/backend-defaults 0.19.0.
//
// Without static keys they are made in memory: each signs for an hour, is
// published for an hour or more before, and for as long after as a token of it
// may live. Such keys are known to their own process alone: replicas behind one
// address publish different sets and plugins refuse a part of their calls. More
// than one replica needs static keys, the same for all.
type PluginKeyStore struct {
	// Type is backend.auth.pluginKeyStore.type: "static", or "database", Backstage's
	// default, which for want of a database means keys in memory, as "" does.
	Type string
	// Keys is backend.auth.pluginKeyStore.static.keys. The first signs, all are
	// published: a key is replaced by publishing the new one as second first.
	Keys []KeyFiles
}

// KeyFiles is one key of a static [PluginKeyStore].
type KeyFiles struct {
	// PublicKeyFile is a PEM file of the public key (SPKI).
	PublicKeyFile string
	// PrivateKeyFile is a PEM file of its private key (PKCS #8, not encrypted). The
	// first key needs one.
	PrivateKeyFile string
	// KeyID is the kid.
	KeyID string
	// Algorithm is the JWS algorithm; "" is ES256.
	Algorithm string
}

// Validate reports everything that is wrong with o, each problem with its key
// path. It reads the key files.
func (o Options) Validate() error {
	_, problem := o.PluginKeyStore.load()
	problems := []error{problem}
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
