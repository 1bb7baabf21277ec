package identity

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/maypok86/otter/v2"
	"github.com/maypok86/otter/v2/stats"

	"github.com/stagedoor/stagedoor/adapter/identity/jose"
	"github.com/stagedoor/stagedoor/adapter/identity/keyring"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// issuedReuse is for how long a token that was issued is issued again to the same
// plugin for the same user's token. Plugins do not mind, since Backstage's tokens are
// good for an hour; it saves a signature a callback.
const issuedReuse = time.Minute

// issuedFor is what a token was issued for.
type issuedFor struct {
	user     fingerprint // of the user's token
	pluginID string
}

// newIssuedCache makes the cache of tokens that may be issued again.
func newIssuedCache() (*otter.Cache[issuedFor, string], error) {
	return otter.New(&otter.Options[issuedFor, string]{
		MaximumWeight: maxIssuedCache,
		StatsRecorder: stats.NewCounter(),
		Weigher: func(to issuedFor, token string) uint32 {
			return weight(256+len(to.pluginID)+len(token), nil)
		},
		ExpiryCalculator: otter.ExpiryWriting[issuedFor, string](issuedReuse),
	})
}

// RenewKeys has tokens signed by other keys from here on. Where something is wrong with
// them, the old ones go on. Keys made in memory stay while they are asked for. It is
// safe for concurrent use.
func (i *Identity) RenewKeys(o keyring.Options) error {
	if err := i.ownKeys.Renew(o); err != nil {
		return err
	}
	i.issued.InvalidateAll()
	return nil
}

// JWKS returns the public keys that verify stagedoor's own tokens, as a JSON Web
// Key Set. It must not be changed.
func (i *Identity) JWKS() []byte { return i.ownKeys.Current().JWKS() }

// PluginToken returns a token with which to call the plugin on behalf of c, good
// for an hour or until the user's token expires. For a caller without credentials
// it is "": such a call goes without a token, as in the reference. A service
// cannot be spoken for.
//
// The token carries, as obo, what UserTokenHandler.createLimitedUserToken of
// @backstage/backend-defaults 0.19.0 makes of the user's token: a limited token,
// and one without a typ, as it is; of a full one the limited token that the auth
// backend signed in advance, put together byte for byte.
//
// A limited token that is put together is verified before it goes out: a uip that
// is no signature of it is the fault of whoever sent the token, and the plugin's 401
// would look like one of ours.
//
// The error is a [*wire.Error], of status 401 where the caller's token cannot be
// passed on. ctx bounds the time that it takes.
func (i *Identity) PluginToken(ctx context.Context, pluginID string, c Caller) (string, error) {
	switch {
	case c.Kind == None:
		return "", nil
	case c.token == nil:
		return "", wire.NotAllowedError("Services cannot be spoken for")
	}
	to := issuedFor{c.token.sum, pluginID}
	if token, ok := i.issued.GetIfPresent(to); ok {
		return token, nil
	}
	obo, err := i.limitedToken(ctx, c.token)
	if err != nil {
		return "", err
	}
	now := time.Now()
	expires := min(now.Add(keyring.TokenLife).Unix(), c.token.Expires().Unix())
	token, err := i.issue(pluginID, now, expires, "obo", jose.Quoted(obo))
	if err != nil {
		return "", err
	}
	i.issued.Set(to, token)
	return token, nil
}

// ServiceToken returns a token with which stagedoor calls the plugin on its own
// behalf, good for an hour. The error is a [*wire.Error].
func (i *Identity) ServiceToken(pluginID string) (string, error) {
	now := time.Now()
	return i.issue(pluginID, now, now.Add(keyring.TokenLife).Unix())
}

// issue signs a token for the plugin, with more members after the usual ones.
func (i *Identity) issue(pluginID string, now time.Time, expires int64, more ...string) (string, error) {
	members := append([]string{
		"sub", jose.Quoted(ownPluginID), "aud", jose.Quoted(pluginID),
		"iat", strconv.FormatInt(now.Unix(), 10), "exp", strconv.FormatInt(expires, 10),
	}, more...)
	token, err := i.ownKeys.Current().Sign(jose.Object(members...))
	if err != nil {
		return "", wire.InternalError("No token for the plugin could be made").Because(err)
	}
	return token, nil
}

// limitedToken returns what may be passed on of a user's token, verified.
func (i *Identity) limitedToken(ctx context.Context, c *credential) (string, error) {
	obo, err := c.limitedToken()
	if err != nil || obo == string(c.raw) {
		return obo, err
	}
	limited, err := i.credential(ctx, []byte(obo), nil)
	if err == nil && (!limited.limited || limited.user != c.user) {
		err = errors.New("it is of another user")
	}
	if err != nil {
		return "", unauthenticated("The token cannot be passed on to a plugin",
			fmt.Errorf("the limited token of the user token, by its uip: %w", err))
	}
	return obo, nil
}

// limitedToken returns what may be passed on of a user's token. A full token
// holds, as uip, the signature of a limited one, whose header and payload are
// therefore written exactly as the auth backend wrote them.
func (c *credential) limitedToken() (string, error) {
	t, err := jose.Parse(c.raw)
	if err == nil {
		err = t.ReadClaims()
	}
	if err != nil {
		return "", unauthenticated(invalidToken, err)
	}
	typ, _ := jose.Text(t.Typ)
	if jose.Falsy(t.Typ) || typ == jose.TypLimited {
		return string(c.raw), nil
	}
	if typ != jose.TypUser {
		return "", unauthenticated("The token cannot be passed on to a plugin",
			errors.New("no limited token for a user token of another typ"))
	}
	uip, _ := jose.Text(t.Uip)
	if uip == "" {
		return "", unauthenticated("The token cannot be passed on to a plugin",
			errors.New("the user token has no uip, the signature of its limited token"))
	}
	for _, v := range []*jsontext.Value{&t.Alg, &t.Kid, &t.Sub, &t.Iat, &t.Exp} {
		if len(*v) == 0 {
			continue
		}
		// The canonical form of RFC 8785 is that of JSON.stringify.
		if err := v.Canonicalize(); err != nil {
			return "", unauthenticated(invalidToken, fmt.Errorf("limited token: %w", err))
		}
	}
	header := jose.Object("typ", jose.Quoted(jose.TypLimited), "alg", string(t.Alg), "kid", string(t.Kid))
	payload := jose.Object("sub", string(t.Sub), "iat", string(t.Iat), "exp", string(t.Exp))
	encode := base64.RawURLEncoding.EncodeToString
	return encode(header) + "." + encode(payload) + "." + uip, nil
}
