package reading

import (
	"encoding/json"

	"github.com/stagedoor/stagedoor/adapter/explore"
)

// A Rule is a permission rule that the policy can call.
type Rule struct {
	*explore.PermissionRule
	// Schema is the JSON Schema of the params; nil where there is none.
	Schema json.RawMessage
}
