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
	"fmt"
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

	userKey, pluginKey *Key
	permissionURL      string
	server             *http.Server
}

// Start serves a sample Backstage on the loopback address, such as 127.0.0.1:0.
// The permission backend at permissionURL, which need not answer yet, is where
// the todo plugin asks and whose key set verifies the calls it gets. Close must
// be called in the end.
func Start(ctx context.Context, address, permissionURL string) (*Backstage, error) {
	if err := loopback(address); err != nil {
		return nil, err
	}
	userKey, err := NewKey("sample-user")
	if err != nil {
		return nil, err
	}
	pluginKey, err := NewKey("sample-plugin")
	if err != nil {
		return nil, err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	b := &Backstage{
		URL:           "http://" + listener.Addr().String(),
		userKey:       userKey,
		pluginKey:     pluginKey,
		permissionURL: strings.TrimRight(permissionURL, "/"),
	}
	b.server = &http.Server{Handler: b.routes(), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
	go func() { _ = b.server.Serve(listener) }()
	return b, nil
}

// Close ends the sample at once.
func (b *Backstage) Close() { _ = b.server.Close() }

func loopback(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("sample: %w", err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("sample: %s is not a loopback address, and anybody who reaches the sample may be anybody", address)
	}
	return nil
}

func (b *Backstage) routes() http.Handler {
	userSet, pluginSet := must(b.userKey.Set()), must(b.pluginKey.Set())
	r := mux.NewRouter()
	r.HandleFunc("/api/auth/.well-known/jwks.json", static(userSet)).Methods(http.MethodGet)
	r.HandleFunc("/api/auth/v1/userinfo", b.userInfo).Methods(http.MethodGet)
	r.HandleFunc("/api/todo/.backstage/auth/v1/jwks.json", static(pluginSet)).Methods(http.MethodGet)
	r.HandleFunc("/api/todo/.well-known/backstage/permissions/metadata", todoMetadata).Methods(http.MethodGet)
	r.HandleFunc("/api/todo/.well-known/backstage/permissions/apply-conditions", b.applyConditions).Methods(http.MethodPost)
	r.HandleFunc("/api/todo/todos", b.listTodos).Methods(http.MethodGet)
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
