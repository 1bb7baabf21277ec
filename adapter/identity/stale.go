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
	away     atomic.Bool  // the auth backend did not answer last time, or not soon
	told     atomic.Bool  // that it is away is in the log
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

// heard takes what the auth backend said of a user. Whoever it refuses is not known any
// more: that is an answer, which must not be forgotten when it is away the next time.
func (l *lastClaims) heard(user string, c userClaims, err error) {
	switch {
	case err == nil:
		l.known.Set(user, c)
	case absent(err):
		l.away.Store(true)
		if !l.told.Swap(true) {
			l.identity.log.WithError(causeOf(err)).
				WithFields(logrus.Fields{"stale": l.identity.options.UserInfoStale.String()}).
				Warn("user info cannot be had; what was known of users counts on for a while")
		}
		return
	case isRefusal(err):
		l.known.Invalidate(user)
	}
	l.away.Store(false)
	if l.told.Swap(false) {
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
	if known {
		refs, err = l.ask(ctx, u)
	} else {
		refs, err = l.identity.freshUserInfo(ctx, u)
	}
	if err == nil || !absent(err) || ctx.Err() != nil {
		return refs, 0, err
	}
	l.asking.Store(time.Now().Add(stalePause).UnixNano())
	l.away.Store(true)
	if !known || time.Since(last.asked) >= l.identity.options.UserInfoStale {
		return nil, 0, err
	}
	return l.use(last)
}

// ask asks the auth backend and waits for staleWait at most. What it says later counts for
// the next request.
func (l *lastClaims) ask(ctx context.Context, u *credential) ([]string, error) {
	type answer struct {
		refs []string
		err  error
	}
	said := make(chan answer, 1)
	go func() {
		refs, err := l.identity.freshUserInfo(context.WithoutCancel(ctx), u)
		said <- answer{refs, err}
	}()
	patience := time.NewTimer(staleWait)
	defer patience.Stop()
	select {
	case a := <-said:
		return a.refs, a.err
	case <-patience.C:
		return nil, unavailable(context.DeadlineExceeded)
	case <-ctx.Done():
		return nil, unavailable(context.Cause(ctx))
	}
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

// isRefusal reports whether an error is that the auth backend refuses this user.
func isRefusal(err error) bool {
	e, ok := errors.AsType[*wire.Error](err)
	return ok && e.Name == "ResponseError" && e.Status < 500 && e.Status != http.StatusTooManyRequests
}

// causeOf is the internal cause of an error, or the error itself.
func causeOf(err error) error {
	if e, ok := errors.AsType[*wire.Error](err); ok && e.Cause != nil {
		return e.Cause
	}
	return err
}
