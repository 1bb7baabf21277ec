//go:build linux

package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// serveBackstage is the process of what permission backends ask: the auth plugin's
// keys and user info, and two plugins that apply conditions. It is as quick as can
// be, so as not to be what is measured: tokens are read and not verified, and every
// resource fulfils its conditions. GET /calls tells how often conditions were
// applied, and GET /userinfos how often user info was asked for. Args are the directory of the keys.
func serveBackstage(ctx context.Context, args []string) error {
	users, err := os.ReadFile(filepath.Join(args[0], userSetFile))
	if err != nil {
		return err
	}
	plugin, err := os.ReadFile(filepath.Join(args[0], pluginSetFile))
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /api/auth/.well-known/jwks.json", fixed(users))
	mux.Handle("GET /api/"+askingPlugin+"/.backstage/auth/v1/jwks.json", fixed(plugin))
	var calls, asked atomic.Int64
	mux.HandleFunc("GET /api/auth/v1/userinfo", func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		userInfo(w, r)
	})
	mux.HandleFunc("GET /userinfos", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, asked.Load()) })
	for plugin, resourceType := range map[string]string{"catalog": "catalog-entity", "todo": "todo-item"} {
		const permissions = "/.well-known/backstage/permissions/"
		mux.Handle("GET /api/"+plugin+permissions+"metadata", fixed(metadata(resourceType)))
		mux.HandleFunc("POST /api/"+plugin+permissions+"apply-conditions", func(w http.ResponseWriter, r *http.Request) {
			calls.Add(1)
			applyConditions(w, r)
		})
	}
	mux.Handle("POST /v1/traces", fixed([]byte("{}"))) // as a collector
	mux.HandleFunc("GET /calls", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, calls.Load()) })
	return serveRole(ctx, mux)
}

func fixed(body []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { answerJSON(w, body) }
}

func answerJSON(w http.ResponseWriter, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body)
}

// userInfo answers for whomever the token names.
func userInfo(w http.ResponseWriter, r *http.Request) {
	signed, _ := cutLast(r.Header.Get("Authorization"), '.')
	_, encoded := cutLast(signed, '.')
	payload, err := base64.RawURLEncoding.DecodeString(encoded)
	var claims tokenClaims
	if err == nil {
		err = json.Unmarshal(payload, &claims)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	body, err := json.Marshal(map[string]any{"claims": map[string]any{"sub": claims.Sub, "ent": claimsOf(claims.Sub)}})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	answerJSON(w, body)
}

// metadata publishes the rules of the benchmark's policy and of the ready ones.
func metadata(resourceType string) []byte {
	const rule = `{"name":%q,"description":"","resourceType":%q,"paramsSchema":{"type":"object","properties":%s,` +
		`"required":["%s"],"additionalProperties":false,"$schema":"http://json-schema.org/draft-07/schema#"}}`
	const claims = `{"claims":{"type":"array","items":{"type":"string"}}}`
	return fmt.Appendf(nil, `{"permissions":[],"rules":[`+rule+`,`+rule+`,`+rule+`]}`,
		"IS_OWNER", resourceType, claims, "claims", "IS_ENTITY_OWNER", resourceType, claims, "claims",
		"HAS_LABEL", resourceType, `{"label":{"type":"string"},"value":{"type":"string"}}`, "label")
}

func applyConditions(w http.ResponseWriter, r *http.Request) {
	var request struct {
		Items []struct {
			ID          string         `json:"id"`
			ResourceRef jsontext.Value `json:"resourceRef"`
		} `json:"items"`
	}
	if err := json.UnmarshalRead(r.Body, &request); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	answer := []byte(`{"items":[`)
	for i, item := range request.Items {
		if i > 0 {
			answer = append(answer, ',')
		}
		answer = append(answer, `{"id":"`+item.ID+`","result":`...)
		if item.ResourceRef.Kind() != jsontext.KindBeginArray {
			answer = append(answer, `"ALLOW"}`...)
			continue
		}
		refs := strings.Count(string(item.ResourceRef), ",") + 1 // no ref of ours has a comma
		answer = append(answer, '[')
		answer = append(answer, strings.Repeat(`,"ALLOW"`, refs)[1:]...)
		answer = append(answer, "]}"...)
	}
	answerJSON(w, append(answer, "]}"...))
}
