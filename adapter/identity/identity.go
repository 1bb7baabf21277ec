// Package identity knows who calls and speaks for stagedoor itself: it verifies
// the tokens that come in, asks the auth backend what a user owns, and signs the
// tokens that go out to plugins.
//
// [Identity.Authenticate] turns an Authorization header into a [Caller]. Three
// kinds of token are good: a plugin's on behalf of a user, a user's own, and a
// plugin's on its own, which is a service and for the handler to refuse. The
// rules are those of DefaultAuthService and DefaultHttpAuthService in
// @backstage/backend-defaults 0.19.0 with jose 6, as far as they can be seen
// from outside:
//
//   - A plugin's token (typ vnd.backstage.plugin) needs iat, exp, sub and aud,
//     and aud must name permission. Its sub is the plugin whose key set, at
//     {plugin}/.backstage/auth/v1/jwks.json, must hold the key. Its obo is the
//     user's token; without one it is a service.
//   - A user's token (typ vnd.backstage.user) and a limited one (typ
//     vnd.backstage.limited-user, good inside obo alone) need iat, exp and sub,
//     and a key of {auth}/.well-known/jwks.json. Neither aud nor iss is looked at.
//   - Any other token whose aud is exactly the string "backstage" is a user's, of
//     an older form; iat may be missing there.
//   - exp must lie ahead and nbf, where given, behind, by the clock of this
//     machine and [Options].Leeway. An iat ahead is no fault.
//   - The key decides the algorithm: ES256, ES384, ES512, RS*, PS* or EdDSA, and
//     never none or an HMAC. Any crit is refused.
//
// Nothing unverified chooses a URL, but for the plugin's id, which must look like
// one and only selects or fills in what [discovery.Discovery] was configured with.
//
// # What is remembered
//
// Key sets are used for 10 minutes at most, as in the reference, and renewed in
// the background from the fifth on, so that an auth backend may be away for five
// minutes unnoticed; after that nobody passes until it is back, which is noticed
// within seconds. An unknown kid renews a set that is older than 30 seconds at
// once, and a younger one up to 10 times a minute. Fetches are shared by all who
// wait for them, bounded in time and size, and follow no redirect. A plugin that
// has never sent a good token is a stranger: of those, 1,000 are
// remembered at most and only a few sets a second are asked for, so that a stream
// of made-up ids floods nobody. Under such a stream, a real plugin that this process
// has not met yet is refused until it gets a turn, unless it comes with the good token
// of a user: for those as many sets again may be fetched.
//
// What verified user tokens say is remembered by their SHA-256 until they expire,
// within a bounded cache, and the tokens themselves are not. They count only as
// long as the key that verified them stands in the current key set: a withdrawn key
// ends its tokens as soon as the set is renewed. exp and nbf are looked at each
// time. Plugins' tokens are signed anew for every call and so are not remembered:
// each is verified, of a key in use by multiples of it that were computed in
// advance, 96 KiB a key (package [comb]). Should that ever disagree with Go's own
// library, what it let in is forgotten and no signature is verified that way any more.
//
// [Identity.UserInfo] is remembered per token for [Options].UserInfoTTL from the
// question on, never longer, and renewed in the background by requests that come in
// the last fifth of that time: a token in steady use waits once. Failures are not
// remembered, but a renewal that failed has a second's pause. With
// [Options].UserInfoStale, what was said last of a user is kept for so much longer, and
// used while the auth backend cannot be reached or fails.
//
// No error of this package, and no log line, holds any part of a token.
package identity

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"

	"github.com/maypok86/otter/v2"
	"github.com/sirupsen/logrus"

	"github.com/stagedoor/stagedoor/adapter/discovery"
	"github.com/stagedoor/stagedoor/adapter/fair"
	"github.com/stagedoor/stagedoor/adapter/identity/comb"
	"github.com/stagedoor/stagedoor/adapter/identity/jose"
	"github.com/stagedoor/stagedoor/adapter/identity/keyring"
	"github.com/stagedoor/stagedoor/adapter/identity/keyset"
	"github.com/stagedoor/stagedoor/adapter/peer"
)

// ownPluginID is who stagedoor is: the audience of incoming plugin tokens and the
// subject of its own.
const ownPluginID = "permission"

// maxTurnsWaiting is how many signatures may wait until they are looked at.
const maxTurnsWaiting = 10_000

// Bounds of what is remembered, in bytes.
const (
	defaultCache   = 32 << 20
	maxIssuedCache = 16 << 20
)

// Identity verifies callers and signs stagedoor's own tokens. It is safe for
// concurrent use.
type Identity struct {
	options   Options
	discovery *discovery.Discovery
	log       *logrus.Entry
	client    *http.Client
	calls     peer.Calls
	tripwire  *comb.Tripwire
	turns     *fair.Line // to verify signatures
	userKeys  *keyset.Set
	plugins   *keyset.Plugins
	tokens    *otter.Cache[fingerprint, *userToken]
	claims    *otter.Cache[fingerprint, userClaims]
	renewals  chan struct{} // of claims, each that is under way
	last      *lastClaims   // nil unless claims may be stale
	ownKeys   *keyring.Store
	issued    *otter.Cache[issuedFor, string]
}

// New returns an Identity that finds plugins by d. It reads the files of a static
// key store, and makes no request. Every problem of o is in the error, joined.
func New(o Options, d *discovery.Discovery, log *logrus.Entry) (*Identity, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if d == nil || log == nil {
		return nil, errors.New("identity: discovery and log are required")
	}
	keys, err := keyring.New(o.PluginKeyStore)
	if err != nil {
		return nil, err
	}
	o = o.withDefaults()
	i := &Identity{
		options: o, discovery: d, log: log, client: newClient(o), ownKeys: keys,
		renewals: make(chan struct{}, maxRenewals),
	}
	i.turns = fair.NewLine(runtime.GOMAXPROCS(0), maxTurnsWaiting)
	i.tripwire = comb.NewTripwire(!o.Bare, i.tripped)
	i.userKeys = keyset.New("the users' key set", i.fetchKeys("auth", "/.well-known/jwks.json"), i.turns, log)
	if i.plugins, err = keyset.NewPlugins(i.fetchPluginKeys, i.turns, log); err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	if i.tokens, err = newTokenCache(o.Leeway, o.TokenCache); err != nil {
		return nil, fmt.Errorf("identity: cache of tokens: %w", err)
	}
	if i.claims, err = newClaimsCache(o.UserInfoTTL, o.UserInfoCache, log); err != nil {
		return nil, fmt.Errorf("identity: cache of user info: %w", err)
	}
	if i.last, err = newLastClaims(i); err != nil {
		return nil, fmt.Errorf("identity: cache of last user info: %w", err)
	}
	if i.issued, err = newIssuedCache(); err != nil {
		return nil, fmt.Errorf("identity: cache of issued tokens: %w", err)
	}
	return i, nil
}

// tripped is called once, when a table of multiples was seen to be wrong. Who was let
// in by it and is remembered must be verified anew.
func (i *Identity) tripped() {
	i.tokens.InvalidateAll()
	i.log.Error("verifying signatures by precomputed multiples disagreed with crypto/ecdsa: the request has failed, " +
		"remembered tokens are forgotten, and every signature is verified by crypto/ecdsa until this process ends. " +
		"Please report it as a security fault")
}

// Close ends the calls under way, waits until they have ended, stops what the
// caches run in the background, and closes idle connections. An Identity that is
// closed makes no more calls: who would need one to be verified is refused.
func (i *Identity) Close() {
	i.calls.Close()
	i.tokens.StopAllGoroutines()
	i.claims.StopAllGoroutines()
	if i.last != nil {
		i.last.known.StopAllGoroutines()
	}
	i.issued.StopAllGoroutines()
	i.client.CloseIdleConnections()
}

// Kind is what a [Caller] is.
type Kind uint8

const (
	// None is a caller without credentials. It is the zero Kind, and passes only
	// where [Options].DangerouslyDisableDefaultAuthPolicy says so.
	None Kind = iota
	// User is a user, in person or through a plugin.
	User
	// Service is a plugin that speaks for itself. The permission API answers it
	// with 403.
	Service
)

// Caller is who asks. It is immutable, safe for concurrent use, and shows no
// token however it is printed.
type Caller struct {
	Kind Kind
	// User is the user's entity ref, the sub of the token as it stands. It is empty
	// unless Kind is User.
	User string
	// Actor is the id of the plugin that asks, for the user or for itself; empty
	// where the user asks in person.
	Actor string
	// Direct is whether a user asks in person, with the user's own token.
	Direct bool

	// token is that of a User. Within another value fmt cannot call Format, and would
	// follow no pointer.
	token *credential
}

// KindName names the kind of the caller in metrics and logs.
func (c Caller) KindName() string {
	switch {
	case c.Kind == Service:
		return "service"
	case c.Kind == None:
		return "nobody"
	case c.Direct:
		return "user"
	}
	return "user through plugin"
}

// Fingerprint returns what sets the sessions of users apart: the SHA-256 of the
// user's token. It is the same for all calls that plugins make with one session's
// token, and empty unless Kind is User.
func (c Caller) Fingerprint() string {
	if c.token == nil {
		return ""
	}
	return string(c.token.sum[:])
}

// Format writes who the caller is, whatever the verb: fmt would else write the
// token for some.
func (c Caller) Format(f fmt.State, _ rune) {
	switch {
	case c.Kind == None:
		_, _ = io.WriteString(f, "nobody")
	case c.Kind == Service:
		_, _ = io.WriteString(f, "plugin:"+c.Actor)
	case c.Direct:
		_, _ = io.WriteString(f, c.User)
	default:
		_, _ = io.WriteString(f, c.User+" through plugin:"+c.Actor)
	}
}

// Authenticate returns who sent a request with this Authorization header, of
// which the first is meant where there are several, and "" where there is none.
// Without a bearer token that is nobody: an error, or a Caller of Kind None where
// the default auth policy is disabled. A token that is no good is always an error.
//
// The error is a [*wire.Error] of status 401, or 503 where too many signatures wait to
// be verified. ctx bounds the time that it takes.
func (i *Identity) Authenticate(ctx context.Context, authorization string) (Caller, error) {
	raw, ok := bearer(authorization)
	if !ok {
		if i.options.DangerouslyDisableDefaultAuthPolicy {
			return Caller{}, nil
		}
		return Caller{}, unauthenticated("Missing credentials", nil)
	}
	t, err := jose.Parse([]byte(raw))
	if err != nil {
		return Caller{}, unauthenticated(invalidToken, err)
	}
	if typ, _ := jose.Text(t.Typ); typ == jose.TypPlugin {
		return i.pluginCaller(ctx, t)
	}
	u, err := i.credential(ctx, t.Raw, t)
	if err != nil {
		return Caller{}, unauthenticated(invalidToken, err)
	}
	if u.limited {
		return Caller{}, unauthenticated(invalidToken, errors.New("a limited user token was sent directly"))
	}
	return Caller{Kind: User, User: u.user, Direct: true, token: u}, nil
}

// Claimed is who a request with this Authorization header says to be from: a plugin, and
// the user for whom it asks. Nothing is verified.
func Claimed(authorization string) fair.Party {
	raw, _ := bearer(authorization)
	t, err := jose.Parse([]byte(raw))
	if err != nil || t.ReadClaims() != nil {
		return fair.Party{}
	}
	sub, _ := jose.Text(t.Sub)
	return unverified(sub, t)
}

// Valid reports whether the user's token that c came with is good at this moment, for
// it may have expired since, or lost its key. nil is that it is, and of any other
// Kind than User nothing is to be said. The error is that of [Identity.Authenticate].
func (i *Identity) Valid(ctx context.Context, c Caller) error {
	if c.token == nil {
		return nil
	}
	if _, err := i.verified(ctx, c.token.raw, nil); err != nil {
		return unauthenticated(invalidToken, err)
	}
	return nil
}

// pluginCaller verifies a plugin's token and the user's token within.
func (i *Identity) pluginCaller(ctx context.Context, t *jose.Token) (Caller, error) {
	id, err := i.pluginToken(ctx, t)
	if err != nil {
		return Caller{}, unauthenticated(invalidToken, fmt.Errorf("plugin token: %w", err))
	}
	if jose.Falsy(t.Obo) {
		return Caller{Kind: Service, Actor: id}, nil
	}
	obo, ok := jose.Unquoted(t.Obo)
	if !ok {
		return Caller{}, unauthenticated(invalidToken, fmt.Errorf("plugin token of %s: obo is no string", id))
	}
	u, err := i.credential(ctx, obo, nil)
	if err != nil {
		return Caller{}, unauthenticated(invalidToken, fmt.Errorf("obo in a plugin token of %s: %w", id, err))
	}
	return Caller{Kind: User, User: u.user, Actor: id, token: u}, nil
}

// bearer takes the token out of an Authorization header, as
// /^Bearer[ ]+(\S+)$/i would. HTTP lets no other white space into a header.
func bearer(authorization string) (string, bool) {
	const scheme = "bearer"
	if len(authorization) <= len(scheme) || !strings.EqualFold(authorization[:len(scheme)], scheme) {
		return "", false
	}
	rest := authorization[len(scheme):]
	token := strings.TrimLeft(rest, " ")
	words := strings.IndexByte(token, ' ') >= 0 || strings.IndexByte(token, '\t') >= 0
	if len(token) == len(rest) || token == "" || words {
		return "", false
	}
	return token, true
}
