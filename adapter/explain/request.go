package explain

import (
	"encoding/json"

	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/offline"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// request is what is to be explained: a permission, for the caller, or for
// another user with these claims.
type request struct {
	Permission json.RawMessage `json:"permission"`
	User       string          `json:"user"`
	Claims     []string        `json:"claims"`
}

// ReadRequest reads the body of POST {basePath}/explain: a permission, and for whom. That
// is the caller where nobody is named. The error is a [*wire.Error] of status 400.
func ReadRequest(body []byte, caller decision.Caller) (offline.Question, error) {
	var given request
	if err := json.Unmarshal(body, &given); err != nil || len(given.Permission) == 0 {
		return offline.Question{}, wire.InputError(`want {"permission": …}, and about somebody else "user" and "claims"`)
	}
	item, err := json.Marshal(map[string]any{"items": []any{map[string]any{"id": "0", "permission": given.Permission}}})
	if err != nil {
		return offline.Question{}, err
	}
	decoded, err := wire.DecodeRequest(item, 1)
	if err != nil {
		return offline.Question{}, err
	}
	q := offline.Question{Caller: caller, Permission: decoded.Items[0].Permission}
	switch {
	case given.User == "" && given.Claims != nil:
		return q, wire.InputError("claims are those of a user, which is missing")
	case given.User != "" && given.User != caller.User:
		q.Caller = decision.Caller{User: given.User, Claims: given.Claims}
		if given.Claims == nil {
			q.Caller.Claims = []string{given.User}
		}
	case given.Claims != nil:
		return q, wire.InputError("the claims of the caller are known: leave them out")
	}
	return q, nil
}
