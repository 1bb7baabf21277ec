package identity

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"

	"github.com/stagedoor/stagedoor/adapter/identity/keyset"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// info authenticates and asks for user info.
func info(t *testing.T, i *Identity, token string) ([]string, error) {
	t.Helper()
	c, err := i.Authenticate(t.Context(), "Bearer "+token)
	if err != nil {
		t.Fatal(err)
	}
	refs, _, err := i.UserInfo(t.Context(), c)
	return refs, err
}

func expectInfo(t *testing.T, i *Identity, token string, want ...string) {
	t.Helper()
	got, err := info(t, i, token)
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
}

func expectFailure(t *testing.T, i *Identity, token, name string, code int) {
	t.Helper()
	got, err := info(t, i, token)
	failure, ok := errors.AsType[*wire.Error](err)
	if !ok || failure.Name != name || failure.Status != code || got != nil {
		t.Errorf("%v, %+v; want %s, %d", got, err, name, code)
	}
}

func TestUserInfoOfToken(t *testing.T) {
	b := newBackstage()
	i := b.identity(t, Options{})
	alice := []string{"user:default/alice", "group:default/devs"}
	ent := func(v any) string { return b.user(spec{claims: ordered{{"ent", v}}}) }
	for _, test := range []struct {
		name  string
		token string
		want  []string
		err   outcome
	}{
		{"none", ent(nil), alice, outcome{}},
		{"null", ent(null), alice, outcome{}},
		{"false", ent(false), alice, outcome{}},
		{"zero", ent(0), alice, outcome{}},
		{"empty text", ent(""), alice, outcome{}},
		{"empty", ent([]string{}), []string{}, outcome{}},
		{"some", ent([]string{"a", "ü\"\\"}), []string{"a", "ü\"\\"}, outcome{}},
		{"in obo", b.onBehalf(spec{obo: ent([]string{"a"})}), []string{"a"}, outcome{}},
		{"through a plugin", b.onBehalf(spec{}), alice, outcome{}},
		{"holds a number", ent([]int{1}), nil, outcome{Name: "Error", Status: 500}},
		{"holds null", ent([]any{nil}), nil, outcome{Name: "Error", Status: 500}},
		{"text", ent("a"), nil, outcome{Name: "Error", Status: 500}},
		{"true", ent(true), nil, outcome{Name: "Error", Status: 500}},
		{"an object", ent(map[string]any{}), nil, outcome{Name: "Error", Status: 500}},
		{"sub a number", b.user(spec{claims: ordered{{"sub", 7}, {"ent", []string{"a"}}}}), nil,
			outcome{Name: "Error", Status: 500}},
		{"user unknown", b.user(spec{user: "user:default/ghost"}), nil, outcome{Name: "ResponseError", Status: 404}},
	} {
		t.Run(test.name, func(t *testing.T) {
			for range 2 {
				got, err := info(t, i, test.token)
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Errorf("(-want +got)\n%s", diff)
				}
				if diff := cmp.Diff(test.err, outcomeOf(Caller{}, err), same); diff != "" {
					t.Errorf("(-want +got)\n%s", diff)
				}
			}
		})
	}
}

// TestUserInfoIsCountedOnce has each question about a user count as one hit or one miss.
func TestUserInfoIsCountedOnce(t *testing.T) {
	b := newBackstage()
	i := b.identity(t, Options{})
	c := caller(t, i, b.user(spec{}))
	for n := range uint64(3) {
		if known := i.Knows(c); known != (n > 0) {
			t.Errorf("known before question %d: %v", n+1, known)
		}
		if _, _, err := i.UserInfo(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if s := i.claims.Stats(); s.Hits != n || s.Misses != 1 {
			t.Errorf("after question %d: %d hits and %d misses", n+1, s.Hits, s.Misses)
		}
	}
}

func TestUserInfoOfOthersThanUsers(t *testing.T) {
	b := newBackstage()
	i := b.identity(t, Options{})
	for _, c := range []Caller{{}, {Kind: Service, Actor: "todo"}} {
		if got, _, err := i.UserInfo(t.Context(), c); got != nil || err != nil {
			t.Errorf("%v: %v, %v", c, got, err)
		}
	}
	expectCount(t, b, userInfo, 0)
}

// TestTokensAreNotKept looks whether a token whose claims are remembered is still
// somewhere once its request is over.
func TestTokensAreNotKept(t *testing.T) {
	b := newBackstage()
	i := b.identity(t, Options{})
	for name, token := range map[string]string{"direct": b.user(spec{}), "through a plugin": b.onBehalf(spec{})} {
		t.Run(name, func(t *testing.T) {
			c := caller(t, i, token)
			if _, _, err := i.UserInfo(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			raw, sum := weak.Make(&c.token.raw[0]), c.token.sum
			for begun := time.Now(); raw.Value() != nil; time.Sleep(time.Millisecond) {
				if time.Since(begun) > time.Minute {
					t.Fatal("the token is kept")
				}
				runtime.GC()
			}
			if u, ok := i.tokens.GetIfPresent(sum); !ok || u.user != "user:default/alice" {
				t.Error("its claims are not remembered")
			}
		})
	}
}

func TestUserInfoSendsTheToken(t *testing.T) {
	b := newBackstage()
	i := b.identity(t, Options{})
	var sent atomic.Pointer[string]
	b.fail(userInfo, func(w http.ResponseWriter, r *http.Request) {
		header := r.Header.Get("Authorization")
		sent.Store(&header)
		b.userInfo(w, r)
	})
	limited := b.limited(spec{})
	expectInfo(t, i, b.onBehalf(spec{obo: limited}), "user:default/alice", "group:default/devs")
	if *sent.Load() != "Bearer "+limited {
		t.Error("it is not the limited token that was sent")
	}
}

func TestUserInfoAnswers(t *testing.T) {
	text := func(s string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, s) }
	}
	for _, test := range []struct {
		name   string
		answer http.HandlerFunc
		error  string
		status int
	}{
		{"ent empty", text(`{"claims":{"ent":[]}}`), "", 0},
		{"sub of the token", text(`{"claims":{"sub":"user:default/alice","ent":[]}}`), "", 0},
		{"sub of the token, the last of two", text(`{"claims":{"sub":"user:default/root","sub":"user:default/\u0061lice","ent":[]}}`), "", 0},
		{"sub beside the claims", text(`{"sub":"user:default/root","claims":{"ent":[]}}`), "", 0},
		{"sub of somebody else", text(`{"claims":{"sub":"user:default/root","ent":["group:default/admins"]}}`), "Error", 500},
		{"sub in another case", text(`{"claims":{"sub":"user:default/Alice","ent":[]}}`), "Error", 500},
		{"sub twice, the last somebody else's", text(`{"claims":{"sub":"user:default/alice","sub":"user:default/root","ent":[]}}`), "Error", 500},
		{"sub empty", text(`{"claims":{"sub":"","ent":[]}}`), "Error", 500},
		{"sub null", text(`{"claims":{"sub":null,"ent":[]}}`), "Error", 500},
		{"sub a list", text(`{"claims":{"sub":["user:default/alice"],"ent":[]}}`), "Error", 500},
		{"ent twice", text(`{"claims":{"ent":7,"ent":[]}}`), "", 0},
		{"400", status(400), "ResponseError", 400},
		{"401", status(401), "ResponseError", 401},
		{"403", status(403), "ResponseError", 403},
		{"429", status(429), "ResponseError", 429},
		{"500", status(500), "ResponseError", 500},
		{"503", status(503), "ResponseError", 503},
		{"redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/", http.StatusFound) }, "Error", 500},
		{"no content", status(204), "Error", 500},
		{"nothing", text(``), "Error", 500},
		{"garbage", text(`<html>`), "Error", 500},
		{"null", text(`null`), "Error", 500},
		{"no claims", text(`{}`), "Error", 500},
		{"claims null", text(`{"claims":null}`), "Error", 500},
		{"no ent", text(`{"claims":{}}`), "Error", 500},
		{"Ent in capitals", text(`{"claims":{"Ent":["a"]}}`), "Error", 500},
		{"ent null", text(`{"claims":{"ent":null}}`), "Error", 500},
		{"ent a text", text(`{"claims":{"ent":"a"}}`), "Error", 500},
		{"ent with a number", text(`{"claims":{"ent":["a",1]}}`), "Error", 500},
		{"more after it", text(`{"claims":{"ent":[]}} x`), "Error", 500},
		{"too much", text(`{"claims":{"ent":["` + strings.Repeat("x", maxUserInfoBody) + `"]}}`), "Error", 500},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBackstage()
			i := b.identity(t, Options{})
			b.fail(userInfo, test.answer)
			if test.error == "" {
				expectInfo(t, i, b.user(spec{}), []string{}...)
				return
			}
			token := b.user(spec{})
			expectFailure(t, i, token, test.error, test.status)
			b.fail(userInfo, nil)
			expectInfo(t, i, token, "user:default/alice", "group:default/devs")
		})
	}
}

func TestUserInfoIsAskedOnceForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackstage()
		i := b.identity(t, Options{})
		b.fail(userInfo, slow(time.Second, b.userInfo))
		obo := b.limited(spec{})
		var waiting sync.WaitGroup
		for range 100 {
			waiting.Go(func() {
				expectInfo(t, i, b.onBehalf(spec{obo: obo}), "user:default/alice", "group:default/devs")
			})
		}
		waiting.Wait()
		expectCount(t, b, userInfo, 1)
		// Another token of the same user is another question.
		expectInfo(t, i, b.user(spec{}), "user:default/alice", "group:default/devs")
		expectCount(t, b, userInfo, 2)
	})
}

func TestUserInfoAges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackstage()
		i := b.identity(t, Options{})
		token := b.user(spec{})
		b.own("user:default/alice", "old")
		expectInfo(t, i, token, "old")
		b.own("user:default/alice", "new")

		// Used for five seconds, and no longer.
		time.Sleep(defaultUserInfoTTL*4/5 - time.Millisecond)
		expectInfo(t, i, token, "old")
		synctest.Wait()
		expectCount(t, b, userInfo, 1)
		time.Sleep(defaultUserInfoTTL / 10)
		// In the last fifth it is renewed in the background.
		b.fail(userInfo, slow(500*time.Microsecond, b.userInfo))
		begun := time.Now()
		expectInfo(t, i, token, "old")
		if took := time.Since(begun); took != 0 {
			t.Errorf("waited %v", took)
		}
		time.Sleep(600 * time.Microsecond)
		expectInfo(t, i, token, "new")
		expectCount(t, b, userInfo, 2)

		// In steady use nobody waits again.
		b.fail(userInfo, slow(time.Second/2, b.userInfo))
		for range 60 {
			time.Sleep(time.Second)
			begun := time.Now()
			expectInfo(t, i, token, "new")
			if took := time.Since(begun); took != 0 {
				t.Fatalf("waited %v", took)
			}
		}
		// Out of use it ends.
		synctest.Wait()
		n := b.count(userInfo)
		time.Sleep(time.Minute)
		expectCount(t, b, userInfo, n)
		b.own("user:default/alice", "newer")
		expectInfo(t, i, token, "newer")
		expectCount(t, b, userInfo, n+1)
	})
}

// While the auth backend fails, a token in use renews once a second, and says so as
// often.
func TestFailedRenewalsArePaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackstage()
		i := b.identity(t, Options{UserInfoTTL: 40 * time.Second})
		var log strings.Builder
		i.log.Logger.SetOutput(&log)
		token := b.user(spec{})
		expectInfo(t, i, token, "user:default/alice", "group:default/devs")
		b.fail(userInfo, status(503))
		time.Sleep(33 * time.Second)
		for range 3000 {
			expectInfo(t, i, token, "user:default/alice", "group:default/devs")
			synctest.Wait()
			time.Sleep(time.Millisecond)
		}
		expectCount(t, b, userInfo, 1+3)
		if n := strings.Count(log.String(), "renewing user info"); n != 3 {
			t.Errorf("%d lines in three seconds; want 3", n)
		}
		// It is renewed once the auth backend is back.
		b.fail(userInfo, nil)
		b.own("user:default/alice", "new")
		time.Sleep(time.Second)
		_, _ = info(t, i, token)
		synctest.Wait()
		expectInfo(t, i, token, "new")
	})
}

// What was put off for want of room is renewed by the next request.
func TestPutOffRenewalsAreNotPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackstage()
		i := b.identity(t, Options{})
		token := b.user(spec{})
		expectInfo(t, i, token, "user:default/alice", "group:default/devs")
		time.Sleep(defaultUserInfoTTL - defaultUserInfoTTL/lastPart + time.Millisecond)
		for range maxRenewals {
			i.renewals <- struct{}{}
		}
		for _, want := range []int{1, 2} {
			expectInfo(t, i, token, "user:default/alice", "group:default/devs")
			synctest.Wait()
			expectCount(t, b, userInfo, want)
			<-i.renewals
		}
	})
}

// However many users there are, a slow auth backend gets a bounded number of
// renewals, no request waits for them, and none is answered with what is too old.
func TestRenewalsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackstage()
		i := b.identity(t, Options{})
		var log strings.Builder
		i.log.Logger.SetOutput(&log)
		const users = 3 * maxRenewals
		tokens := make([]string, users)
		for n := range tokens {
			user := fmt.Sprintf("user:default/u%d", n)
			b.own(user, user)
			tokens[n] = b.user(spec{user: user})
			expectInfo(t, i, tokens[n], user)
		}
		b.fail(userInfo, slow(time.Second/2, b.userInfo))
		time.Sleep(defaultUserInfoTTL - defaultUserInfoTTL/lastPart + time.Millisecond)
		begun := time.Now()
		for _, token := range tokens {
			if _, err := info(t, i, token); err != nil {
				t.Error(err)
			}
		}
		synctest.Wait()
		if took := time.Since(begun); took != 0 {
			t.Errorf("waited %v for renewals", took)
		}
		expectCount(t, b, userInfo, users+maxRenewals)
		time.Sleep(time.Second + time.Millisecond)
		if len(i.renewals) != 0 {
			t.Errorf("%d renewals are still under way", len(i.renewals))
		}
		time.Sleep(defaultUserInfoTTL / 2)
		// Who had no turn is too old by now, whoever it was, and is asked about anew.
		begun = time.Now()
		var asked atomic.Int64
		var waiting sync.WaitGroup
		for _, token := range tokens {
			waiting.Go(func() {
				if _, err := info(t, i, token); err != nil {
					t.Error(err)
				}
				if time.Since(begun) == time.Second/2 {
					asked.Add(1)
				}
			})
		}
		waiting.Wait()
		if n := asked.Load(); n != users-maxRenewals {
			t.Errorf("%d of %d were asked about anew; want %d", n, users, users-maxRenewals)
		}
		if log.Len() > 0 {
			t.Errorf("logged:\n%s", log.String())
		}
	})
}

// When it cannot be renewed, it is used until it is too old, and not a moment more.
func TestUserInfoIsNeverStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackstage()
		i := b.identity(t, Options{UserInfoTTL: 20 * time.Second})
		token := b.user(spec{})
		begun := time.Now()
		expectInfo(t, i, token, "user:default/alice", "group:default/devs")
		b.fail(userInfo, status(503))
		for time.Since(begun) < 19*time.Second {
			expectInfo(t, i, token, "user:default/alice", "group:default/devs")
			time.Sleep(time.Second)
		}
		time.Sleep(time.Until(begun.Add(20*time.Second - time.Millisecond)))
		expectInfo(t, i, token, "user:default/alice", "group:default/devs")
		time.Sleep(time.Millisecond)
		expectFailure(t, i, token, "ResponseError", 503)
		// Failures are not remembered.
		b.fail(userInfo, nil)
		expectInfo(t, i, token, "user:default/alice", "group:default/devs")
	})
}

// What a slow auth backend says may be as old as the question: its time is over as
// long after that as if the answer had come at once.
func TestUserInfoAgesFromTheQuestion(t *testing.T) {
	const answer = fetchTimeout - time.Second
	late := func(b *backstage) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			early := httptest.NewRecorder()
			b.userInfo(early, r)
			time.Sleep(answer)
			_, _ = w.Write(early.Body.Bytes())
		}
	}
	for _, test := range []struct{ ttl, used time.Duration }{
		{6 * time.Second, 6 * time.Second},
		{time.Second, answer}, // by who waits for it, and by nobody after that
	} {
		t.Run(test.ttl.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBackstage()
				i := b.identity(t, Options{UserInfoTTL: test.ttl})
				b.fail(userInfo, late(b))
				token := b.user(spec{})
				asked := time.Now()
				expectInfo(t, i, token, "user:default/alice", "group:default/devs")
				b.fail(userInfo, status(503))
				for time.Since(asked) < test.used {
					expectInfo(t, i, token, "user:default/alice", "group:default/devs")
					time.Sleep(100 * time.Millisecond)
				}
				time.Sleep(time.Until(asked.Add(test.used + time.Millisecond)))
				expectFailure(t, i, token, "ResponseError", 503)
			})
		})
	}
}

func TestUserInfoInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackstage()
		i := b.identity(t, Options{})
		b.fail(userInfo, slow(time.Hour, b.userInfo))
		c, err := i.Authenticate(t.Context(), "Bearer "+b.user(spec{}))
		if err != nil {
			t.Fatal(err)
		}
		for _, test := range []struct{ deadline, want time.Duration }{
			{time.Second, time.Second},
			{time.Hour, fetchTimeout},
		} {
			ctx, cancel := context.WithTimeout(t.Context(), test.deadline)
			begun := time.Now()
			got, _, err := i.UserInfo(ctx, c)
			cancel()
			failure, ok := errors.AsType[*wire.Error](err)
			if !ok || failure.Status != 503 || failure.RetryAfter == 0 || got != nil {
				t.Errorf("%v, %v; want 503", got, err)
			}
			if took := time.Since(begun); took != test.want {
				t.Errorf("took %v; want %v", took, test.want)
			}
		}
	})
}

// Whoever asked first may go away; the others get their answer.
func TestUserInfoOutlivesWhoAskedFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackstage()
		i := b.identity(t, Options{})
		b.fail(userInfo, slow(2*time.Second, b.userInfo))
		c, err := i.Authenticate(t.Context(), "Bearer "+b.user(spec{}))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var waiting sync.WaitGroup
		waiting.Go(func() {
			if _, _, err := i.UserInfo(ctx, c); err == nil {
				t.Error("the first got an answer")
			}
		})
		synctest.Wait()
		got, _, err := i.UserInfo(t.Context(), c)
		if err != nil || !slices.Contains(got, "group:default/devs") {
			t.Errorf("%v, %v", got, err)
		}
		waiting.Wait()
	})
}

// What goes wrong in the background is told, without the token.
func TestFailedRenewalsAreLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackstage()
		i := b.identity(t, Options{UserInfoTTL: time.Minute})
		var log strings.Builder
		i.log.Logger.SetOutput(&log)
		i.log.Logger.SetLevel(logrus.DebugLevel)
		token := b.user(spec{})
		expectInfo(t, i, token, "user:default/alice", "group:default/devs")
		echo := func(w http.ResponseWriter, r *http.Request) {
			http.Error(w, r.Header.Get("Authorization"), http.StatusInternalServerError)
		}
		b.fail(userInfo, echo)
		b.fail(authKeys, echo)
		time.Sleep(59 * time.Second)
		expectInfo(t, i, token, "user:default/alice", "group:default/devs")
		time.Sleep(keyset.RenewAge)
		expect(t, i, token, asAlice)
		synctest.Wait()
		for _, want := range []string{
			"the users' key set could not be renewed", "/.well-known/jwks.json of plugin auth answered with status 500",
			"renewing user info", "/v1/userinfo of plugin auth answered with status 500",
		} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("the log lacks %q:\n%s", want, log.String())
			}
		}
		for _, part := range strings.Split(token, ".") {
			if strings.Contains(log.String(), part) {
				t.Errorf("the log quotes the token:\n%s", log.String())
			}
		}
	})
}

func TestCachesAreBounded(t *testing.T) {
	b := newBackstage()
	i := b.identity(t, Options{})
	i.tokens.SetMaximum(64 << 10)
	i.claims.SetMaximum(64 << 10)
	for n := range 1000 {
		user := fmt.Sprintf("user:default/u%d", n)
		b.own(user, user)
		expectInfo(t, i, b.user(spec{user: user}), user)
	}
	i.tokens.CleanUp()
	i.claims.CleanUp()
	if n := i.tokens.WeightedSize(); n > 64<<10 {
		t.Errorf("tokens take %d bytes", n)
	}
	if n := i.claims.WeightedSize(); n > 64<<10 {
		t.Errorf("user info takes %d bytes", n)
	}
}
