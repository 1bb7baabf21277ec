package adapter_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stagedoor/stagedoor/adapter/conditions"
)

// fault is what a gate does to the requests that pass it.
type fault func(w http.ResponseWriter, r *http.Request, healthy http.Handler)

// gate stands before a healthy server and does to it what a test says.
type gate struct {
	*httptest.Server
	fault atomic.Pointer[fault]
}

func newGate(t *testing.T, target string) *gate {
	t.Helper()
	to, err := url.Parse(target)
	check(t, err)
	healthy := httputil.NewSingleHostReverseProxy(to)
	g := &gate{}
	g.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f := g.fault.Load(); f != nil {
			(*f)(w, r, healthy)
			return
		}
		healthy.ServeHTTP(w, r)
	}))
	t.Cleanup(g.Close)
	return g
}

func (g *gate) set(f fault) {
	if f == nil {
		g.fault.Store(nil)
		return
	}
	g.fault.Store(&f)
}

// dead breaks the connection without an answer.
func dead(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
	if connection, _, err := http.NewResponseController(w).Hijack(); err == nil {
		connection.Close()
	}
}

func slow(w http.ResponseWriter, r *http.Request, _ http.Handler) {
	_, _ = io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
	dead(w, r, nil)
}

func answers(status int, contentType, body string) fault {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// truncated is a healthy answer that breaks off.
func truncated(w http.ResponseWriter, r *http.Request, healthy http.Handler) {
	recorded := httptest.NewRecorder()
	healthy.ServeHTTP(recorded, r)
	w.Header().Set("Content-Length", strconv.Itoa(recorded.Body.Len()))
	_, _ = w.Write(recorded.Body.Bytes()[:recorded.Body.Len()/2])
}

var faults = map[string]fault{
	"dead":    dead,
	"slow":    slow,
	"garbage": answers(200, "text/html", "<html>nothing of use</html>"),
	"empty":   answers(200, "application/json", ""),
	"null":    answers(200, "application/json", "null"),
	"500":     answers(500, "application/json", `{"error":{"name":"Error","message":"x"}}`),
	"503":     answers(503, "application/json", `{"error":{"name":"ServiceUnavailableError","message":"x"}}`),
	"redirect": func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		http.Redirect(w, r, "/elsewhere", http.StatusFound)
	},
	"truncated":      truncated,
	"all allowed":    answers(200, "application/json", `{"items":[{"id":"0","result":"ALLOW"},{"id":"x","result":"ALLOW"}],"claims":{"ent":"user:default/root"},"keys":[{}]}`),
	"endless":        endless,
	"wrong shape":    answers(200, "application/json", `{"items":{"0":"ALLOW"},"claims":[],"keys":{}}`),
	"keys of others": answers(200, "application/json", `{"keys":[]}`),
}

func endless(w http.ResponseWriter, r *http.Request, _ http.Handler) {
	chunk := strings.Repeat(" ", 64<<10)
	for r.Context().Err() == nil {
		if _, err := io.WriteString(w, chunk); err != nil {
			return
		}
	}
}

const askUpdate = `{"items":[{"id":"1","permission":{"type":"resource","name":"todo.item.update","attributes":{"action":"update"},"resourceType":"todo-item"},"resourceRef":["todo-1","todo-2"]}]}`

// TestFaults lets the auth plugin and the todo plugin fail in every way, each for
// itself: the answer is never an ALLOW that a healthy neighbour would not have
// given, it comes in time, and health comes back by itself.
func TestFaults(t *testing.T) {
	const healthy = `{"items":[{"id":"1","result":["ALLOW","DENY"]}]}`
	for _, plugin := range []string{"auth", "todo"} {
		for name, f := range faults {
			t.Run(plugin+" "+name, func(t *testing.T) {
				t.Parallel()
				var gates map[string]*gate
				site := newSite(t, siteOptions{
					conditions: conditions.Options{Timeout: time.Second},
					between: func(backstage string) map[string]string {
						gates = map[string]*gate{"auth": newGate(t, backstage+"/api/auth"), "todo": newGate(t, backstage+"/api/todo")}
						return map[string]string{"auth": gates["auth"].URL, "todo": gates["todo"].URL}
					},
				})
				gates[plugin].set(f)
				// A user whom nothing is remembered of, in person: keys, user info and
				// conditions all have to be asked for.
				token, err := site.backstage.UserToken("user:default/alice")
				check(t, err)
				started := time.Now()
				status, body := site.post(t, token, askUpdate)
				if took := time.Since(started); took > patience {
					t.Errorf("took %v", took)
				}
				// What had to be asked of this plugin cannot have been answered.
				if status < 400 || strings.Contains(body, "ALLOW") {
					t.Errorf("answered %d %s in spite of the fault", status, body)
				}
				gates[plugin].set(nil)
				recovered(t, site, token, healthy)
			})
		}
	}
}

// recovered waits until the site answers as when healthy; key sets that could not
// be had are asked for again only after a pause.
func recovered(t *testing.T, site *site, token, healthy string) {
	t.Helper()
	var status int
	var body string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if status, body = site.post(t, token, askUpdate); status == http.StatusOK && body == healthy {
			return
		}
	}
	t.Errorf("no recovery: %d %s", status, body)
}
