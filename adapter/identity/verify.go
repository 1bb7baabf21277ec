package identity

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/maypok86/otter/v2"
	"github.com/maypok86/otter/v2/stats"

	"github.com/stagedoor/stagedoor/adapter/discovery"
	"github.com/stagedoor/stagedoor/adapter/fair"
	"github.com/stagedoor/stagedoor/adapter/identity/jose"
	"github.com/stagedoor/stagedoor/adapter/identity/keyset"
)

// maxPluginID is the length of the longest id of a plugin in bytes. Anybody can send
// another, and it is remembered and logged.
const maxPluginID = 128

// pluginToken verifies a plugin's token and returns the plugin's id, in the one
// spelling that discovery knows. What costs nothing comes first.
func (i *Identity) pluginToken(ctx context.Context, t *jose.Token) (string, error) {
	if err := t.ReadClaims(); err != nil {
		return "", err
	}
	id, _ := jose.Text(t.Sub)
	if len(id) > maxPluginID || !discovery.ValidID(id) {
		return "", errors.New("sub cannot be the id of a plugin")
	}
	id = i.discovery.Spelling(id)
	if !audience(t.Aud, ownPluginID) {
		return "", fmt.Errorf("aud does not name %s", ownPluginID)
	}
	if len(t.Iat) == 0 {
		return "", errors.New("iat is missing")
	}
	life, err := t.Lifetime()
	if err != nil {
		return "", err
	}
	if err := life.Check(time.Now(), i.options.Leeway); err != nil {
		return "", err
	}
	set := i.plugins.Of(id)
	i.vouch(ctx, set, t.Obo)
	if _, err := set.Verify(ctx, t, func() fair.Party { return unverified(id, t) }); err != nil {
		return "", err
	}
	i.plugins.Prove(id, set)
	return id, nil
}

// unverified is who says to have sent a plugin's token: the plugin, for the user whose
// token is within. A user may have many of these.
func unverified(id string, t *jose.Token) fair.Party {
	claimed := fair.Party{Plugin: id}
	if raw, ok := jose.Unquoted(t.Obo); ok {
		if obo, err := jose.Parse(raw); err == nil && obo.ReadClaims() == nil {
			claimed.User, _ = jose.Text(obo.Sub)
		}
	}
	return claimed
}

// vouch notes that a user's token came with a plugin's that is not verified yet, if it
// is good. Of the plugin's own that says nothing, but it is worth a fetch to see.
func (i *Identity) vouch(ctx context.Context, set *keyset.Set, obo jsontext.Value) {
	if !set.Unmet() {
		return
	}
	raw, ok := jose.Unquoted(obo)
	if !ok {
		return
	}
	if _, err := i.credential(ctx, raw, nil); err == nil {
		set.Vouch()
	}
}

// audience reports whether aud is want, or an array that holds it.
func audience(aud jsontext.Value, want string) bool {
	if one, ok := jose.Text(aud); ok {
		return one == want
	}
	var many []jsontext.Value
	if aud.Kind() != '[' || json.Unmarshal(aud, &many, jose.LastWins) != nil {
		return false
	}
	return slices.ContainsFunc(many, func(v jsontext.Value) bool {
		one, ok := jose.Text(v)
		return ok && one == want
	})
}

// fingerprint is the SHA-256 of a token.
type fingerprint [sha256.Size]byte

// credential is a user's token as a request brought it, and what it says. It is
// immutable.
type credential struct {
	raw []byte
	sum fingerprint
	*userToken
}

// userToken is what a user's token says that has been verified. It is remembered, and
// so does not hold the token. It is immutable.
type userToken struct {
	key *jose.Key // that verified it
	jose.Lifetime
	limited bool
	user    string
	// claims are what the token itself says of the user, unless ask; problem is why
	// that cannot be used, or nil.
	claims  []string
	ask     bool
	problem error
}

// newTokenCache makes the cache of verified tokens, which forgets those that have
// expired.
func newTokenCache(leeway time.Duration, bytes int64) (*otter.Cache[fingerprint, *userToken], error) {
	return otter.New(&otter.Options[fingerprint, *userToken]{
		MaximumWeight: uint64(bytes), //nolint:gosec // it is positive
		StatsRecorder: stats.NewCounter(),
		Weigher:       func(_ fingerprint, u *userToken) uint32 { return weight(384+len(u.user), u.claims) },
		ExpiryCalculator: otter.ExpiryWritingFunc(func(e otter.Entry[fingerprint, *userToken]) time.Duration {
			return max(time.Until(e.Value.Expires())+leeway+time.Second, time.Second)
		}),
	})
}

// weight is about how many bytes the refs take, and n more.
func weight(n int, refs []string) uint32 {
	for _, ref := range refs {
		n += 16 + len(ref)
	}
	if n < 0 || n > math.MaxInt32 {
		return math.MaxInt32
	}
	return uint32(n)
}

// credential verifies a user's token, limited or not. raw must not change any more; t
// is its token where that has been split already, or nil.
func (i *Identity) credential(ctx context.Context, raw []byte, t *jose.Token) (*credential, error) {
	sum := fingerprint(sha256.Sum256(raw))
	u, err := i.remembered(ctx, sum)
	if u == nil && err == nil {
		bare := i.tripwire.Off()
		if u, err = i.verified(ctx, raw, t); err == nil {
			i.remember(sum, u, bare)
		}
	}
	if err != nil {
		return nil, err
	}
	return &credential{raw, sum, u}, nil
}

// remember puts a verified token where the next request finds it. One that may not
// have been verified by crypto/ecdsa is forgotten again where tables turned out to be
// wrong meanwhile.
func (i *Identity) remember(sum fingerprint, u *userToken, bare bool) {
	i.tokens.Set(sum, u)
	if !bare && i.tripwire.Off() {
		i.tokens.Invalidate(sum)
	}
}

// verified verifies a user's token that is not remembered.
func (i *Identity) verified(ctx context.Context, raw []byte, t *jose.Token) (*userToken, error) {
	if t == nil {
		var err error
		if t, err = jose.Parse(raw); err != nil {
			return nil, err
		}
	}
	u, err := newUserToken(t)
	if err != nil {
		return nil, err
	}
	if err := u.Check(time.Now(), i.options.Leeway); err != nil {
		return nil, err
	}
	if u.key, err = i.userKeys.Verify(ctx, t, func() fair.Party { return fair.Party{User: u.user} }); err != nil {
		return nil, err
	}
	return u, nil
}

// remembered returns the verified token of that fingerprint, or nil where there
// is none whose key still stands.
func (i *Identity) remembered(ctx context.Context, sum fingerprint) (*userToken, error) {
	u, ok := i.tokens.GetIfPresent(sum)
	if !ok {
		return nil, nil
	}
	if err := u.Check(time.Now(), i.options.Leeway); err != nil {
		return nil, err
	}
	keys, err := i.userKeys.Fresh(ctx)
	if err != nil || !keys.Has(u.key) {
		return nil, err
	}
	return u, nil
}

// newUserToken reads a user's token; its signature is not looked at.
func newUserToken(t *jose.Token) (*userToken, error) {
	if err := t.ReadClaims(); err != nil {
		return nil, err
	}
	u := &userToken{}
	switch typ, _ := jose.Text(t.Typ); typ {
	case jose.TypUser, jose.TypLimited:
		u.limited = typ == jose.TypLimited
		if len(t.Iat) == 0 {
			return nil, errors.New("iat is missing")
		}
	default:
		if aud, _ := jose.Text(t.Aud); aud != "backstage" {
			return nil, errors.New("neither typ nor aud make it a user's token")
		}
	}
	if jose.Falsy(t.Sub) {
		return nil, errors.New("sub is missing")
	}
	var err error
	if u.Lifetime, err = t.Lifetime(); err != nil {
		return nil, err
	}
	u.readUser(t)
	return u, nil
}

// readUser takes the user and the claims from t. In the reference a token whose
// sub or ent is of the wrong type is good until somebody asks for user info, and
// it is so here.
func (u *userToken) readUser(t *jose.Token) {
	var ok bool
	if u.user, ok = jose.Text(t.Sub); !ok {
		u.problem = undetermined(errors.New("the token's sub is no string"))
		return
	}
	if u.ask = jose.Falsy(t.Ent); u.ask {
		return
	}
	if u.claims, ok = refs(t.Ent); !ok {
		u.problem = undetermined(errors.New("the token's ent is no array of strings"))
	}
}

// refs reads an array of strings. An empty one is not nil.
func refs(v jsontext.Value) ([]string, bool) {
	var values []jsontext.Value
	if v.Kind() != '[' || json.Unmarshal(v, &values, jose.LastWins) != nil {
		return nil, false
	}
	all := make([]string, len(values))
	for n, value := range values {
		var ok bool
		if all[n], ok = jose.Text(value); !ok {
			return nil, false
		}
	}
	return all, true
}
