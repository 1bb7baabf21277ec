package identity

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/sirupsen/logrus"

	"github.com/stagedoor/stagedoor/adapter/wire"
)

const (
	// staleWait is how long a request waits for user info where there is a last one.
	staleWait = time.Second
	// stalePause is for how long the last one is used at once after a question that the
	// auth backend did not answer. Then one request asks again.
	stalePause = time.Second
	maxLast    = 32 << 20 // bytes
)

// lastClaims are what the auth backend said last of users, for as long as that may
// count while it says nothing. It is by user, as is what the auth backend keeps: a
// user's next token has the same claims. It is safe for concurrent use.
type lastClaims struct {
	identity *Identity
	known    *otter.Cache[string, userClaims]
	away     atomic.Bool  // the auth backend did not answer last time
	asking   atomic.Int64 // when to ask again, in nanoseconds since 1970
	uses     atomic.Int64
}

// newLastClaims returns nil where claims must not be stale.
func newLastClaims(i *Identity) (*lastClaims, error) {
	stale := i.options.UserInfoStale
	if stale == 0 {
		return nil, nil //nolint:nilnil // there is none
	}
	type entry = otter.Entry[string, userClaims]
	known, err := otter.New(&otter.Options[string, userClaims]{
		MaximumWeight:    maxLast,
		Weigher:          func(user string, c userClaims) uint32 { return weight(256+len(user), c.refs) },
		ExpiryCalculator: otter.ExpiryWritingFunc(func(e entry) time.Duration { return e.Value.left(stale) }),
	})
	return &lastClaims{identity: i, known: known}, err
}

func (l *lastClaims) keep(user string, c userClaims) {
	l.known.Set(user, c)
	if l.away.Swap(false) {
		l.identity.log.Info("user info can be had again")
	}
}

// userInfo is what the auth backend says, or else what it said last.
func (l *lastClaims) userInfo(ctx context.Context, u *credential) (refs []string, stale time.Duration, err error) {
	last, known := l.known.GetIfPresent(u.user)
	if known && l.away.Load() && !l.mayAsk() {
		if fresh, ok := l.identity.claims.GetIfPresent(u.sum); ok {
			return fresh.refs, 0, nil
		}
		return l.use(last)
	}
	asking := ctx
	if known {
		var cancel context.CancelFunc
		asking, cancel = context.WithTimeout(ctx, staleWait)
		defer cancel()
	}
	refs, err = l.identity.freshUserInfo(asking, u)
	if err == nil || !absent(err) || ctx.Err() != nil {
		return refs, 0, err
	}
	l.asking.Store(time.Now().Add(stalePause).UnixNano())
	if !l.away.Swap(true) {
		l.identity.log.WithError(causeOf(err)).WithFields(logrus.Fields{"stale": l.identity.options.UserInfoStale.String()}).
			Warn("user info cannot be had; what was known of users counts on for a while")
	}
	if !known || time.Since(last.asked) >= l.identity.options.UserInfoStale {
		return nil, 0, err
	}
	return l.use(last)
}

func (l *lastClaims) use(last userClaims) ([]string, time.Duration, error) {
	l.uses.Add(1)
	return last.refs, max(time.Since(last.asked), 1), nil
}

// mayAsk lets one request ask again after each pause.
func (l *lastClaims) mayAsk() bool {
	now, at := time.Now(), l.asking.Load()
	return now.UnixNano() >= at && l.asking.CompareAndSwap(at, now.Add(stalePause).UnixNano())
}

// absent reports whether an error is that of an auth backend that is not there, or
// fails. What it refuses, and what makes no sense, is an answer.
func absent(err error) bool {
	e, ok := errors.AsType[*wire.Error](err)
	if !ok {
		return false
	}
	unreachable := e.Name == "ServiceUnavailableError"
	failing := e.Name == "ResponseError" && (e.Status >= 500 || e.Status == http.StatusTooManyRequests)
	return unreachable || failing
}

// causeOf is the internal cause of an error, or the error itself.
func causeOf(err error) error {
	if e, ok := errors.AsType[*wire.Error](err); ok && e.Cause != nil {
		return e.Cause
	}
	return err
}
