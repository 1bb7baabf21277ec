package identity

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/maypok86/otter/v2"
	"github.com/maypok86/otter/v2/stats"
	"github.com/sirupsen/logrus"

	"github.com/stagedoor/stagedoor/adapter/identity/jose"
	"github.com/stagedoor/stagedoor/adapter/peer"
)

// userClaims are what the auth backend said of a user, and when it was asked. It is
// immutable.
type userClaims struct {
	refs  []string
	asked time.Time
}

// left is what is left of a time that began with the question: the answer may tell
// how things were then.
func (c userClaims) left(of time.Duration) time.Duration {
	return max(of-time.Since(c.asked), 1) // the cache takes none for no change
}

// newClaimsCache makes the cache of what the auth backend said. An entry lives for
// ttl and is renewed by the first request in the last fifth of it. Whoever sends none
// then is not asked about again.
func newClaimsCache(ttl time.Duration, bytes int64, log *logrus.Entry) (*otter.Cache[fingerprint, userClaims], error) {
	type entry = otter.Entry[fingerprint, userClaims]
	return otter.New(&otter.Options[fingerprint, userClaims]{
		MaximumWeight:    uint64(bytes), //nolint:gosec // it is positive
		StatsRecorder:    stats.NewCounter(),
		Weigher:          func(_ fingerprint, c userClaims) uint32 { return weight(256, c.refs) },
		ExpiryCalculator: otter.ExpiryWritingFunc(func(e entry) time.Duration { return e.Value.left(ttl) }),
		RefreshCalculator: renewing{otter.RefreshWritingFunc(func(e entry) time.Duration {
			return e.Value.left(ttl - ttl/lastPart)
		})},
		Logger: renewalLog{log},
	})
}

// lastPart is the part of its life in which user info is renewed. In the last fifth the
// auth backend is asked at most every 4 seconds about a user, and every 2.5 in the second
// half.
const lastPart = 5

// renewAgain is the pause after a renewal that failed.
const renewAgain = time.Second

// renewing is when an entry is to be renewed: by the next request where it was put
// off, and else not so soon after a failure.
type renewing struct {
	otter.RefreshCalculator[fingerprint, userClaims]
}

func (renewing) RefreshAfterReloadFailure(e otter.Entry[fingerprint, userClaims], err error) time.Duration {
	if errors.Is(err, errLater) {
		return e.RefreshableAfter()
	}
	return renewAgain
}

// renewalLog takes what the cache has to say: of renewals that failed.
type renewalLog struct{ log *logrus.Entry }

func (l renewalLog) Warn(_ context.Context, message string, err error) {
	l.log.WithError(causeOf(err)).Warnf("renewing user info: %s; the last one is used until it is too old", message)
}

func (l renewalLog) Error(ctx context.Context, message string, err error) {
	if !errors.Is(err, errLater) {
		l.Warn(ctx, message, err)
	}
}

// userInfoOf asks for the cache whose token it is.
type userInfoOf struct {
	identity *Identity
	user     string
	token    []byte
}

// Load asks while a request waits.
func (o userInfoOf) Load(ctx context.Context, _ fingerprint) (userClaims, error) {
	asked := time.Now()
	refs, err := o.identity.askUserInfo(ctx, o.user, string(o.token))
	claims := userClaims{refs, asked}
	if last := o.identity.last; last != nil && ctx.Err() == nil {
		last.heard(o.user, claims, err)
	}
	return claims, err
}

// maxRenewals is how many renewals of user info are under way at most. A slow auth
// backend would otherwise get a call for each active user at once, and each takes
// memory here.
const maxRenewals = 32

// errLater is that a renewal may wait: the next request will think of it again, or
// ask itself once what is known is too old.
var errLater = errors.New("enough renewals are under way")

// Reload renews what is known while no request waits.
func (o userInfoOf) Reload(ctx context.Context, key fingerprint, _ userClaims) (userClaims, error) {
	select {
	case o.identity.renewals <- struct{}{}:
		defer func() { <-o.identity.renewals }()
		return o.Load(ctx, key)
	default:
		return userClaims{}, errLater
	}
}

// UserInfo returns the entity refs that the caller owns by: the ent of the token
// itself, else what the auth backend says of it, as DefaultUserInfoService and
// CachedUserInfoService of @backstage/backend-defaults 0.19.0 do. The slice is
// shared and must not be changed. A Caller of another Kind than User owns nothing.
//
// Where the auth backend cannot say, and [Options].UserInfoStale allows, they are what
// it said last, and stale is how long ago it was asked; otherwise stale is 0.
//
// The error is a [*wire.Error]: the auth backend's own status where that is 400 or
// above, 503 where it cannot be reached within 5 seconds or before ctx ends, and
// 500 where what it says, or the token, makes no sense.
func (i *Identity) UserInfo(ctx context.Context, c Caller) (refs []string, stale time.Duration, err error) {
	u := c.token
	switch {
	case u == nil:
		return nil, 0, nil
	case u.problem != nil:
		return nil, 0, u.problem
	case !u.ask:
		return u.claims, 0, nil
	case i.last != nil:
		return i.last.userInfo(ctx, u)
	}
	refs, err = i.freshUserInfo(ctx, u)
	return refs, 0, err
}

// freshUserInfo is what the auth backend says, or has said a moment ago.
func (i *Identity) freshUserInfo(ctx context.Context, u *credential) ([]string, error) {
	known, err := i.claims.Get(ctx, u.sum, userInfoOf{i, u.user, u.raw})
	if err != nil && ctx.Err() != nil {
		return nil, unavailable(context.Cause(ctx))
	}
	return known.refs, err
}

// Knows reports whether [Identity.UserInfo] has an answer without asking anybody. It
// may have none any more a moment later.
func (i *Identity) Knows(c Caller) bool {
	if c.token == nil || !c.token.ask || c.token.problem != nil {
		return true
	}
	_, known := i.claims.GetEntryQuietly(c.token.sum) // [Identity.UserInfo] counts, too
	return known
}

// askUserInfo asks the auth backend about the user whose token it is. The cache may
// call it in a goroutine of its own.
func (i *Identity) askUserInfo(ctx context.Context, user, token string) (claims []string, err error) {
	defer func() {
		if panicked := peer.Panic(recover()); panicked != nil {
			claims, err = nil, undetermined(panicked)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	const path = "/v1/userinfo"
	status, body, err := i.get(ctx, "auth", path, token, maxUserInfoBody)
	if errors.Is(err, peer.ErrTooLong) {
		return nil, undetermined(err)
	}
	if err != nil {
		return nil, unavailable(err)
	}
	if status < 200 || status > 299 {
		cause := fmt.Errorf("GET %s of plugin auth answered with status %d", path, status)
		if status < 400 {
			return nil, undetermined(cause)
		}
		return nil, refused(status, cause)
	}
	return readUserInfo(body, user)
}

// readUserInfo reads what the auth backend says of the user. Who it says that it
// speaks of must be the user whose token was sent: a cache in between, or a fault
// there, could else lend somebody the groups of somebody else.
func readUserInfo(body []byte, user string) ([]string, error) {
	var answer struct {
		Claims struct {
			Sub jsontext.Value `json:"sub"`
			Ent jsontext.Value `json:"ent"`
		} `json:"claims"`
	}
	if json.Unmarshal(body, &answer, jose.LastWins) != nil {
		return nil, undetermined(errors.New("the answer is not what it should be"))
	}
	if sub := answer.Claims.Sub; len(sub) > 0 {
		if of, ok := jose.Text(sub); !ok || of != user {
			return nil, undetermined(errors.New("claims.sub is not the user of the token"))
		}
	}
	claims, ok := refs(answer.Claims.Ent)
	if !ok {
		return nil, undetermined(errors.New("claims.ent is no array of strings"))
	}
	return claims, nil
}
