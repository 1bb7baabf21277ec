package adapter_test

import (
	"net/http"
	"testing"

	"github.com/stagedoor/stagedoor/adapter/identity"
)

// inputPolicy allows exactly where the input is what its name says.
const inputPolicy = `package check

decision := {"result": "ALLOW"} if input == expected[input.permission.name]

decision := {"result": "DENY"} if not input == expected[input.permission.name]

identity := {"user": "user:default/alice", "claims": ["user:default/alice", "group:default/devs"]}

expected["through.plugin"] := {
	"permission": {"name": "through.plugin", "type": "basic", "attributes": {"action": "read"}},
	"identity": object.union(identity, {"actor": "plugin:todo"}),
}

expected["in.person"] := {
	"permission": {"name": "in.person", "type": "resource", "attributes": {}, "resourceType": "todo-item"},
	"identity": identity,
}

expected["nobody"] := {"permission": {"name": "nobody", "type": "basic", "attributes": {}}}
`

// TestInput holds what the policy sees to the contract: no token, no resourceRef.
func TestInput(t *testing.T) {
	site := newSite(t, siteOptions{
		policyDir:  writeBundle(t, map[string]string{".manifest": `{"roots":["check"]}`, "policy.rego": inputPolicy}),
		entrypoint: "check/decision",
		identity:   identity.Options{DangerouslyDisableDefaultAuthPolicy: true},
	})
	through, err := site.backstage.PluginToken("user:default/alice")
	check(t, err)
	direct, err := site.backstage.UserToken("user:default/alice")
	check(t, err)
	for name, test := range map[string]struct{ token, item string }{
		"through a plugin": {through, `{"type":"basic","name":"through.plugin","attributes":{"action":"read","other":1},"resourceType":"x"}}`},
		"in person":        {direct, `{"type":"resource","name":"in.person","attributes":{},"resourceType":"todo-item"},"resourceRef":"todo-1"}`},
		"nobody":           {"", `{"type":"basic","name":"nobody","attributes":{}}}`},
	} {
		t.Run(name, func(t *testing.T) {
			status, body := site.post(t, test.token, `{"items":[{"id":"1","permission":`+test.item+`]}`)
			if status != http.StatusOK || body != allowed {
				t.Errorf("%d %s", status, body)
			}
		})
	}
}
