package identity

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// While the auth backend is away for a minute, in whatever way, known users are
// answered by what was known, none waits long, and it is in the log.
func TestUserInfoStale(t *testing.T) {
	for name, fault := range map[string]http.HandlerFunc{
		"hangs": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"503":   status(503),
		"500":   status(500),
		"429":   status(429),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBackstage()
				i := b.identity(t, Options{UserInfoStale: 5 * time.Minute})
				var log strings.Builder
				i.log.Logger.SetOutput(&log)
				const users = 20
				tokens := make([]string, users)
				for n := range tokens {
					user := fmt.Sprintf("user:default/u%d", n)
					b.own(user, user)
					tokens[n] = b.user(spec{user: user})
					expectInfo(t, i, tokens[n], user)
				}
				b.fail(userInfo, fault)
				stale := 0
				for range 120 {
					time.Sleep(500 * time.Millisecond)
					var all sync.WaitGroup
					var mu sync.Mutex
					for n, token := range tokens {
						all.Go(func() {
							c := caller(t, i, token)
							begun := time.Now()
							refs, age, err := i.UserInfo(t.Context(), c)
							if want := fmt.Sprintf("user:default/u%d", n); err != nil || len(refs) != 1 || refs[0] != want {
								t.Errorf("%v, %v", refs, err)
							}
							if took := time.Since(begun); took > staleWait {
								t.Errorf("waited %v", took)
							}
							mu.Lock()
							defer mu.Unlock()
							if age > 0 {
								stale++
							}
						})
					}
					all.Wait()
				}
				if stale < users*100 || strings.Count(log.String(), "counts on for a while") != 1 {
					t.Errorf("%d were stale; log: %.1000s", stale, log.String())
				}
				// Whoever is not known fails, and a new token of a known user does not.
				b.own("user:default/new", "new")
				if _, err := info(t, i, b.user(spec{user: "user:default/new"})); err == nil {
					t.Error("a user of whom nothing is known")
				}
				expectInfo(t, i, b.user(spec{user: "user:default/u0", claims: ordered{{"more", 1}}}), "user:default/u0")
				// When it is back, what it says counts, within seconds.
				b.fail(userInfo, nil)
				b.own("user:default/u1", "moved")
				time.Sleep(2 * stalePause)
				_, _ = info(t, i, tokens[1])
				synctest.Wait()
				expectInfo(t, i, tokens[1], "moved")
				if !strings.Contains(log.String(), "can be had again") {
					t.Error("the log does not tell that it is back")
				}
			})
		})
	}
}

// It counts on for so long and no longer, and not at all where it is off or where the
// auth backend has answered.
func TestUserInfoStaleEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackstage()
		i := b.identity(t, Options{UserInfoStale: time.Minute})
		token := b.user(spec{})
		expectInfo(t, i, token, "user:default/alice", "group:default/devs")
		b.fail(userInfo, status(503))
		time.Sleep(59 * time.Second)
		expectInfo(t, i, token, "user:default/alice", "group:default/devs")
		time.Sleep(2 * time.Second)
		expectFailure(t, i, token, "ResponseError", 503)
	})
	for _, code := range []int{400, 401, 403, 404} {
		synctest.Test(t, func(t *testing.T) {
			b := newBackstage()
			i := b.identity(t, Options{UserInfoStale: time.Minute})
			token := b.user(spec{})
			expectInfo(t, i, token, "user:default/alice", "group:default/devs")
			b.fail(userInfo, status(code))
			time.Sleep(6 * time.Second)
			expectFailure(t, i, token, "ResponseError", code)
		})
		// Nor in an outage before or after that, once it has refused.
		synctest.Test(t, func(t *testing.T) {
			b := newBackstage()
			i := b.identity(t, Options{UserInfoStale: time.Hour})
			token := b.user(spec{})
			expectInfo(t, i, token, "user:default/alice", "group:default/devs")
			b.fail(userInfo, status(503))
			time.Sleep(6 * time.Second)
			expectInfo(t, i, token, "user:default/alice", "group:default/devs")
			b.fail(userInfo, status(code))
			time.Sleep(6 * time.Second)
			for range 50 {
				expectFailure(t, i, token, "ResponseError", code)
				time.Sleep(100 * time.Millisecond)
			}
			b.fail(userInfo, status(503))
			time.Sleep(6 * time.Second)
			expectFailure(t, i, token, "ResponseError", 503)
		})
	}
	synctest.Test(t, func(t *testing.T) {
		b := newBackstage()
		i := b.identity(t, Options{})
		token := b.user(spec{})
		expectInfo(t, i, token, "user:default/alice", "group:default/devs")
		b.fail(userInfo, status(503))
		time.Sleep(6 * time.Second)
		expectFailure(t, i, token, "ResponseError", 503)
	})
}

// An auth backend that takes longer than a request waits is believed all the same: what it
// says counts for the next request.
func TestUserInfoStaleOfASlowBackend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackstage()
		i := b.identity(t, Options{UserInfoStale: time.Hour})
		token := b.user(spec{})
		expectInfo(t, i, token, "user:default/alice", "group:default/devs")
		b.own("user:default/alice", "moved")
		b.fail(userInfo, func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(1500 * time.Millisecond)
			b.userInfo(w, r)
		})
		time.Sleep(6 * time.Second)
		begun := time.Now()
		expectInfo(t, i, token, "user:default/alice", "group:default/devs")
		if took := time.Since(begun); took != staleWait {
			t.Errorf("waited %v", took)
		}
		time.Sleep(time.Second)
		for range 20 {
			expectInfo(t, i, token, "moved")
			time.Sleep(time.Second)
		}
	})
}
