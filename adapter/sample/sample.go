// Package sample is a small Backstage in process: an auth plugin that issues
// tokens and tells who somebody is, and a todo plugin that is guarded by
// permissions. It is what `stagedoor serve --dev` shows its road on, and what
// tests and benchmarks talk to. It speaks the real protocol over HTTP, on
// loopback only, and it lets anybody be anybody: it is for trying out, never for
// guarding anything.
package sample

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/gorilla/mux"
)

// Backstage is a running sample. It is safe for concurrent use.
type Backstage struct {
	// URL is its backend.baseUrl, http://127.0.0.1:port.
	URL string

	// UserKey signs the tokens of users, and PluginKey those of the todo plugin.
	UserKey, PluginKey *Key

	permissionURL string
	listener      net.Listener
	server        *http.Server
	client        http.Client
	now           func() time.Time
}

// New returns a sample Backstage that listens on a loopback port of its own, and
// answers once it serves. Close must be called in the end.
func New(ctx context.Context) (*Backstage, error) {
	userKey, err := NewKey("sample-user")
	if err != nil {
		return nil, err
	}
	pluginKey, err := NewKey("sample-plugin")
	if err != nil {
		return nil, err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	b := &Backstage{
		URL: "http://" + listener.Addr().String(), UserKey: userKey, PluginKey: pluginKey, listener: listener,
		client: http.Client{Timeout: 10 * time.Second}, now: time.Now,
	}
	b.server = &http.Server{Handler: b.routes(), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
	return b, nil
}

// Serve begins to answer. The permission backend at permissionURL, which need not
// answer yet, is where the todo plugin asks and whose key set verifies the calls
// that it gets. It is called once.
func (b *Backstage) Serve(permissionURL string) {
	b.permissionURL = strings.TrimRight(permissionURL, "/")
	go func() { _ = b.server.Serve(b.listener) }()
}

// Close ends the sample at once.
func (b *Backstage) Close() {
	_ = b.server.Close()
	_ = b.listener.Close()
}

func (b *Backstage) routes() http.Handler {
	userSet, pluginSet := must(b.UserKey.Set()), must(b.PluginKey.Set())
	r := mux.NewRouter()
	auth := r.PathPrefix("/api/auth").Subrouter()
	auth.HandleFunc("/.well-known/jwks.json", static(userSet)).Methods(http.MethodGet)
	auth.HandleFunc("/v1/userinfo", b.userInfo).Methods(http.MethodGet)
	todo := r.PathPrefix("/api/todo").Subrouter()
	todo.HandleFunc("/.backstage/auth/v1/jwks.json", static(pluginSet)).Methods(http.MethodGet)
	todo.HandleFunc("/.well-known/backstage/permissions/metadata", todoMetadata).Methods(http.MethodGet)
	todo.HandleFunc("/.well-known/backstage/permissions/apply-conditions", b.applyConditions).Methods(http.MethodPost)
	todo.HandleFunc("/todos", b.listTodos).Methods(http.MethodGet)
	return r
}

func static(body []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(body)
	}
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

func fail(w http.ResponseWriter, status int, name, message string) {
	writeJSON(w, status, map[string]any{
		"error":    map[string]string{"name": name, "message": message},
		"response": map[string]int{"statusCode": status},
	})
}

// groups says which groups the sample's users are in besides being themselves.
var groups = map[string][]string{
	"user:default/alice": {"group:default/devs"},
	"user:default/bob":   {"group:default/devs"},
	"user:default/root":  {"group:default/admins"},
}

// ghost is a user with a token and without user info.
const ghost = "user:default/ghost"

func (b *Backstage) userInfo(w http.ResponseWriter, r *http.Request) {
	claims, err := b.verifyUser(bearer(r))
	if err != nil {
		fail(w, http.StatusUnauthorized, "AuthenticationError", "Invalid token")
		return
	}
	if claims.Subject == ghost {
		fail(w, http.StatusNotFound, "NotFoundError", "No user info")
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"claims": map[string]any{
		"sub": claims.Subject,
		"ent": append([]string{claims.Subject}, groups[claims.Subject]...),
	}})
}

func bearer(r *http.Request) string {
	return strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
}
