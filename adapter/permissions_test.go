package adapter_test

import (
	"net/http"
	"strings"
	"testing"
)

// byMetadata answers with conditions for the todos of the user, ALLOW to alice, and
// only where the policy sees what the todo plugin's metadata says.
const byMetadata = `package p

# METADATA
# entrypoint: true
decision := {"result": "ALLOW"} if {
	seen
	input.identity.user == "user:default/alice"
}

decision := {
	"result": "CONDITIONAL", "pluginId": "todo", "resourceType": "todo-item",
	"conditions": {"rule": "IS_OWNER", "resourceType": "todo-item", "params": {"userId": input.identity.user}},
} if {
	seen
	input.identity.user == "user:default/bob"
}

seen if input.permission == {
	"name": "todo.item.update", "type": "resource", "attributes": {"action": "update"}, "resourceType": "todo-item",
}
`

// A permission that comes as a basic one is what its plugin says, from the first
// request on, and conditions never leave.
func TestPermissionsThatArriveAsBasic(t *testing.T) {
	const asked = `{"items":[{"id":"1","permission":{"type":"basic","name":"todo.item.update","attributes":{}}},` +
		`{"id":"2","permission":{"type":"basic","name":"todo.create","attributes":{"action":"create"}}}]}`
	for name, test := range map[string]struct {
		user, want string
		asTheyCome bool
	}{
		"allowed":      {alice, "ALLOW", false},
		"conditional":  {"user:default/bob", "DENY", false},
		"denied":       {"user:default/cid", "DENY", false},
		"as they come": {alice, "DENY", true},
	} {
		t.Run(name, func(t *testing.T) {
			site := newSite(t, siteOptions{
				policyDir:  writeBundle(t, map[string]string{".manifest": manifest("1", "p"), "p.rego": byMetadata}),
				asTheyCome: test.asTheyCome,
			})
			through, err := site.backstage.PluginToken(test.user)
			check(t, err)
			direct, err := site.backstage.UserToken(test.user)
			check(t, err)
			want := `{"items":[{"id":"1","result":"` + test.want + `"},{"id":"2","result":"DENY"}]}`
			for _, token := range []string{direct, through, direct} {
				if status, body := site.post(t, token, asked); status != http.StatusOK || body != want {
					t.Errorf("%d %s; want %s", status, body, want)
				}
			}
			// A plugin that asks in full is told the conditions as ever.
			full := strings.Replace(asked, `"basic","name":"todo.item.update","attributes":{}`,
				`"resource","name":"todo.item.update","attributes":{"action":"update"},"resourceType":"todo-item"`, 1)
			if _, body := site.post(t, through, full); strings.Contains(body, "IS_OWNER") != (test.user == "user:default/bob") {
				t.Errorf("asked in full: %s", body)
			}
		})
	}
}

// A plugin whose metadata nobody can have is asked once, and holds nobody up after that.
func TestMetadataThatIsNotToBeHad(t *testing.T) {
	var todo *gate
	site := newSite(t, siteOptions{between: func(backstage string) map[string]string {
		todo = newGate(t, backstage+"/api/todo")
		return map[string]string{"todo": todo.URL}
	}})
	token, err := site.backstage.PluginToken(alice)
	check(t, err)
	if status, _ := site.post(t, token, askBasic); status != http.StatusOK { // so that keys and user info are known
		t.Fatal(status)
	}
	todo.set(dead)
	const asked = `{"items":[{"id":"1","permission":{"type":"basic","name":"todo.create","attributes":{}}}]}`
	for range 3 {
		if status, body := site.post(t, token, asked); status != http.StatusOK {
			t.Errorf("%d %s", status, body)
		}
	}
}
