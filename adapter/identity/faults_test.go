package identity

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// endless answers until nobody listens any more.
func endless(w http.ResponseWriter, r *http.Request) {
	fmt.Fprint(w, `{"keys":[`)
	for r.Context().Err() == nil {
		if _, err := fmt.Fprint(w, strings.Repeat(`{},`, 1000)); err != nil {
			return
		}
	}
}

// stuck answers nothing until nobody waits any more.
func stuck(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// halfway begins an answer and gets stuck.
func halfway(w http.ResponseWriter, r *http.Request) {
	fmt.Fprint(w, `{"keys":[`)
	w.(http.Flusher).Flush()
	<-r.Context().Done()
}

// aborts breaks the connection off.
func aborts(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// Whatever the far side does, over real connections, nobody passes who should
// not, an answer comes in time, and all is well once the fault is gone.
func TestFaults(t *testing.T) {
	for name, fault := range map[string]http.HandlerFunc{
		"404": status(404),
		"500": status(500),
		"503": status(503),
		"201": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusCreated)
			fmt.Fprint(w, `{"keys":[]}`)
		},
		"garbage": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") },
		"empty":   func(http.ResponseWriter, *http.Request) {},
		"no keys": publishes(),
		"huge":    endless,
		"stuck":   stuck,
		"halfway": halfway,
		"aborts":  aborts,
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		},
	} {
		for _, path := range []string{authKeys, todoKeys, userInfo} {
			t.Run(name+strings.ReplaceAll(path, "/", " "), func(t *testing.T) {
				t.Parallel()
				b := newBackstage()
				// Where a redirect would lead, all is as it should be.
				b.faults["/elsewhere"] = func(w http.ResponseWriter, _ *http.Request) {
					writeJSON(w, map[string]any{"keys": []any{b.userKey.jwk, b.pluginKey.jwk},
						"claims": map[string]any{"ent": []string{"group:default/admins"}}})
				}
				i, server := b.listening(t, Options{})
				b.fail(path, fault)
				ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
				defer cancel()
				claims, err := everything(ctx, i, b.onBehalf(spec{}))
				if err == nil || claims != nil {
					t.Fatalf("%v, %v", claims, err)
				}
				if b.count("/elsewhere") > 0 {
					t.Error("a redirect was followed")
				}
				b.fail(path, nil)
				server.CloseClientConnections()
				if claims := recovered(t, i, b.onBehalf(spec{})); len(claims) != 2 {
					t.Errorf("after the fault: %v", claims)
				}
			})
		}
	}
}

// everything is what a request asks of this package.
func everything(ctx context.Context, i *Identity, token string) ([]string, error) {
	c, err := i.Authenticate(ctx, "Bearer "+token)
	if err != nil {
		return nil, err
	}
	refs, _, err := i.UserInfo(ctx, c)
	return refs, err
}

// recovered waits until all is well again. It may take a fetch that hangs and the time
// for which its failure stands.
func recovered(t *testing.T, i *Identity, token string) []string {
	t.Helper()
	var claims []string
	var err error
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if claims, err = everything(t.Context(), i, token); err == nil {
			return claims
		}
	}
	t.Fatalf("after the fault: %v", err)
	return nil
}

func TestNobodyListens(t *testing.T) {
	b := newBackstage()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	i := newIdentity(t, Options{}, "http://"+address)
	expect(t, i, b.onBehalf(spec{}), unauthorized)
	expect(t, i, b.user(spec{}), unauthorized)

	// It starts, on the same port.
	server := httptest.NewUnstartedServer(b)
	if server.Listener, err = net.Listen("tcp", address); err != nil {
		t.Fatal(err)
	}
	server.Start()
	defer server.Close()
	recovered(t, i, b.onBehalf(spec{}))
	expect(t, i, b.onBehalf(spec{}), asTodo)
	c, err := i.Authenticate(t.Context(), "Bearer "+b.user(spec{}))
	if err != nil {
		t.Fatal(err)
	}

	// It goes away again before it was asked for user info.
	server.Close()
	if claims, _, err := i.UserInfo(t.Context(), c); outcomeOf(Caller{}, err).Status != 503 || claims != nil {
		t.Errorf("%v, %v; want 503", claims, err)
	}
}

// Everything at once, for the race detector: good and bad tokens of many users
// while keys change, faults come and go, and tokens are issued.
func TestConcurrency(t *testing.T) {
	b := newBackstage()
	i, _ := b.listening(t, Options{UserInfoTTL: 10 * time.Millisecond})
	next := newSigner("next")
	var good, bad []string
	for n := range 20 {
		user := fmt.Sprintf("user:default/u%d", n)
		b.own(user, user)
		good = append(good, b.onBehalf(spec{user: user}), b.user(spec{user: user}), b.service(spec{}))
		bad = append(bad, b.onBehalf(spec{user: user, key: b.stranger}), b.user(spec{user: user, key: b.stranger}),
			b.service(spec{plugin: fmt.Sprintf("nosuch%d", n)}), b.limited(spec{user: user}))
	}
	stop := make(chan struct{})
	var changing, asking sync.WaitGroup
	changing.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			b.publish(authKeys, b.userKey, next)
			if n%2 == 0 {
				b.publish(authKeys, next, b.userKey)
			}
			i.JWKS()
			time.Sleep(time.Millisecond)
		}
	})
	for range 8 {
		asking.Go(func() {
			for range 30 {
				for _, token := range good {
					c, err := i.Authenticate(t.Context(), "Bearer "+token)
					if err != nil {
						t.Error(err)
						continue
					}
					if claims, _, err := i.UserInfo(t.Context(), c); err != nil || c.Kind == User && claims[0] != c.User {
						t.Errorf("%v: %v, %v", c, claims, err)
					}
					if c.Kind == User {
						if _, err := i.PluginToken(t.Context(), "todo", c); err != nil {
							t.Error(err)
						}
					}
				}
				for _, token := range bad {
					if c, err := i.Authenticate(t.Context(), "Bearer "+token); err == nil {
						t.Errorf("%v was accepted", c)
					}
				}
			}
		})
	}
	asking.Wait()
	close(stop)
	changing.Wait()
}
