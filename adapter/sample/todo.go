package sample

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jws"

	"github.com/stagedoor/stagedoor/adapter/criteria"
)

// Todo is a resource of the todo plugin, of type todo-item.
type Todo struct {
	ID     string `json:"id"`
	Owner  string `json:"owner"`
	Status string `json:"status"`
}

// Todos are all there are.
var Todos = []Todo{
	{"todo-1", "user:default/alice", "open"},
	{"todo-2", "user:default/bob", "open"},
	{"todo-3", "user:default/alice", "done"},
	{"todo-4", "user:default/carol", "archived"},
	{"todo-5", "user:default/bob", "done"},
}

// todoType is the todo plugin's resource type.
const todoType = "todo-item"

// refusal is an error with the status that the real plugin router gives it.
type refusal struct {
	status int
	text   string
}

func (r refusal) Error() string { return r.text }

// applyRequest is the body of a call of apply-conditions
// (@backstage/plugin-permission-node 0.11.6).
type applyRequest struct {
	Items []struct {
		ID           string          `json:"id"`
		ResourceRef  json.RawMessage `json:"resourceRef"`
		ResourceType string          `json:"resourceType"`
		Conditions   any             `json:"conditions"`
	} `json:"items"`
}

type applyAnswer struct {
	ID     string `json:"id"`
	Result any    `json:"result"`
}

func (b *Backstage) applyConditions(w http.ResponseWriter, r *http.Request) {
	if err := b.verifyPermissionBackend(r); err != nil {
		fail(w, http.StatusUnauthorized, "AuthenticationError", err.Error())
		return
	}
	var request applyRequest
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 100<<10)).Decode(&request); err != nil {
		fail(w, http.StatusRequestEntityTooLarge, "PayloadTooLargeError", "request entity too large")
		return
	}
	answers := []applyAnswer{}
	for _, item := range request.Items {
		result, err := applyItem(item.ResourceRef, item.ResourceType, item.Conditions)
		if err != nil {
			status := http.StatusInternalServerError
			if refused, ok := errors.AsType[refusal](err); ok {
				status = refused.status
			}
			fail(w, status, "InputError", err.Error())
			return
		}
		answers = append(answers, applyAnswer{item.ID, result})
	}
	writeJSON(w, http.StatusOK, map[string]any{"items": answers})
}

func applyItem(rawRef json.RawMessage, resourceType string, conditions any) (any, error) {
	if resourceType != todoType {
		return nil, refusal{http.StatusBadRequest, "Unexpected resource type: " + resourceType}
	}
	var one string
	if json.Unmarshal(rawRef, &one) == nil {
		return applyTo(one, conditions)
	}
	var many []string
	if err := json.Unmarshal(rawRef, &many); err != nil {
		return nil, refusal{http.StatusBadRequest, "resourceRef is neither a string nor a list of them"}
	}
	results := make([]string, len(many))
	for i, ref := range many {
		result, err := applyTo(ref, conditions)
		if err != nil {
			return nil, err
		}
		results[i] = result
	}
	return results, nil
}

func applyTo(ref string, conditions any) (string, error) {
	tree, err := criteria.Parse(conditions)
	if err != nil {
		return "", refusal{http.StatusBadRequest, err.Error()}
	}
	at := slices.IndexFunc(Todos, func(t Todo) bool { return t.ID == ref })
	if at < 0 {
		return "DENY", nil // whatever the conditions say
	}
	var failed error
	allowed := tree.Eval(func(rule criteria.Rule) bool {
		holds, err := todoRule(Todos[at], rule)
		failed = errors.Join(failed, err)
		return holds
	})
	if failed != nil {
		return "", failed
	}
	if allowed {
		return "ALLOW", nil
	}
	return "DENY", nil
}

func todoRule(t Todo, rule criteria.Rule) (bool, error) {
	var params struct {
		UserID   *string  `json:"userId"`
		Statuses []string `json:"statuses"`
	}
	if err := json.Unmarshal([]byte(rule.Params), &params); err != nil {
		return false, refusal{http.StatusBadRequest, "Parameters to rule are invalid"}
	}
	switch {
	case rule.Name == "IS_OWNER" && params.UserID != nil:
		return t.Owner == *params.UserID, nil
	case rule.Name == "HAS_STATUS" && params.Statuses != nil:
		return slices.Contains(params.Statuses, t.Status), nil
	case rule.Name == "IS_OWNER", rule.Name == "HAS_STATUS":
		return false, refusal{http.StatusBadRequest, "Parameters to rule are invalid"}
	}
	return false, fmt.Errorf("unexpected permission rule: %s", rule.Name)
}

func todoMetadata(w http.ResponseWriter, _ *http.Request) {
	rule := func(name, description string, properties map[string]any, required string) map[string]any {
		return map[string]any{
			"name": name, "description": description, "resourceType": todoType,
			"paramsSchema": map[string]any{
				"$schema": "http://json-schema.org/draft-07/schema#", "type": "object",
				"properties": properties, "required": []string{required}, "additionalProperties": false,
			},
		}
	}
	text := map[string]any{"type": "string"}
	texts := map[string]any{"type": "array", "items": text}
	permission := func(name, action string) map[string]any {
		p := map[string]any{"type": "basic", "name": name, "attributes": map[string]string{"action": action}}
		if action != "create" {
			p["type"], p["resourceType"] = "resource", todoType
		}
		return p
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"permissions": []any{
			permission("todo.item.read", "read"), permission("todo.item.update", "update"), permission("todo.create", "create"),
		},
		"rules": []any{
			rule("IS_OWNER", "Allow todos of one user", map[string]any{"userId": text}, "userId"),
			rule("HAS_STATUS", "Allow todos in some status", map[string]any{"statuses": texts}, "statuses"),
		},
	})
}

// listTodos asks the permission backend on behalf of the user once, and lists
// the todos that fulfil the answer, as a plugin filters its query by conditions.
func (b *Backstage) listTodos(w http.ResponseWriter, r *http.Request) {
	claims, err := b.verifyUser(bearer(r))
	if err != nil {
		fail(w, http.StatusUnauthorized, "AuthenticationError", "Invalid token")
		return
	}
	keep, err := b.mayRead(r.Context(), claims.Subject)
	if err != nil {
		fail(w, http.StatusBadGateway, "Error", err.Error())
		return
	}
	listed := []Todo{}
	for _, t := range Todos {
		var failed error
		if keep.Eval(func(rule criteria.Rule) bool {
			holds, err := todoRule(t, rule)
			failed = errors.Join(failed, err)
			return holds
		}) && failed == nil {
			listed = append(listed, t)
		}
	}
	writeJSON(w, http.StatusOK, map[string]any{"items": listed})
}

// mayRead returns the criteria of the todos that the user may read.
func (b *Backstage) mayRead(ctx context.Context, user string) (criteria.Criteria, error) {
	token, err := b.PluginToken(user)
	if err != nil {
		return criteria.Criteria{}, err
	}
	const question = `{"items":[{"id":"1","permission":{"type":"resource","name":"todo.item.read",` +
		`"attributes":{"action":"read"},"resourceType":"todo-item"}}]}`
	url := b.permissionURL + "/authorize"
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewBufferString(question))
	if err != nil {
		return criteria.Criteria{}, err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Content-Type", "application/json")
	response, err := b.client.Do(request)
	if err != nil {
		return criteria.Criteria{}, err
	}
	defer func() { _ = response.Body.Close() }()
	var answer struct {
		Items []struct {
			Result     string `json:"result"`
			Conditions any    `json:"conditions"`
		} `json:"items"`
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || len(answer.Items) != 1 {
		return criteria.Criteria{}, fmt.Errorf("the permission backend answered %s", response.Status)
	}
	switch item := answer.Items[0]; item.Result {
	case "ALLOW":
		return criteria.Criteria{Op: criteria.Always}, nil
	case "CONDITIONAL":
		return criteria.Parse(item.Conditions)
	}
	return criteria.Criteria{}, nil
}

// verifyUser verifies a token of a user, full or limited.
func (b *Backstage) verifyUser(token string) (limitedClaims, error) {
	set, err := b.UserKey.Set()
	if err != nil {
		return limitedClaims{}, err
	}
	var claims limitedClaims
	if err := verify(token, set, &claims); err != nil {
		return limitedClaims{}, err
	}
	if claims.Subject == "" || claims.Expiry <= time.Now().Unix() {
		return limitedClaims{}, errors.New("the token has expired or names nobody")
	}
	return claims, nil
}

// verifyPermissionBackend accepts a call only with a plugin token of the
// permission backend for todo.
func (b *Backstage) verifyPermissionBackend(r *http.Request) error {
	url := b.permissionURL + "/.backstage/auth/v1/jwks.json"
	request, err := http.NewRequestWithContext(r.Context(), http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := b.client.Do(request)
	if err != nil {
		return errors.New("the permission backend's keys cannot be had")
	}
	defer func() { _ = response.Body.Close() }()
	set, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return err
	}
	var claims pluginClaims
	if err := verify(bearer(r), set, &claims); err != nil {
		return errors.New("invalid plugin token")
	}
	if claims.Subject != "permission" || claims.Audience != "todo" || claims.Expiry <= time.Now().Unix() {
		return errors.New("the token is not the permission backend's for todo")
	}
	return nil
}

func verify(token string, set []byte, claims any) error {
	keys, err := jwk.Parse(set)
	if err != nil {
		return err
	}
	payload, err := jws.Verify([]byte(token), jws.WithKeySet(keys))
	if err != nil {
		return err
	}
	return json.Unmarshal(payload, claims)
}
