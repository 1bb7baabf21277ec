package migrate

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/stagedoor/stagedoor/adapter/inventory"
	"github.com/stagedoor/stagedoor/adapter/migrate/installation"
)

const secret = "a-very-secret-token"

// serving is an API that answers each route of the plugin with a text.
func serving(t *testing.T, answers map[string]string) installation.Sources {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+secret {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		answer, ok := answers[r.URL.Path]
		if !ok {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		if to, ok := strings.CutPrefix(answer, "redirect "); ok {
			http.Redirect(w, r, to, http.StatusFound)
			return
		}
		_, _ = w.Write([]byte(answer))
	}))
	t.Cleanup(server.Close)
	return installation.Sources{URL: server.URL, Token: secret, Known: inventory.Stock()}
}

func TestStored(t *testing.T) {
	m, err := RBAC(t.Context(), serving(t, map[string]string{
		"/api/permission/policies": `[
			{"entityReference": "role:default/a", "permission": "catalog-entity", "policy": "read", "effect": "allow"},
			{"entityReference": "role:default/a", "permission": "catalog-entity", "policy": "read", "effect": "deny"}]`,
		"/api/permission/roles": `[{"memberReferences": ["user:default/Ann", "group:default/web"], "name": "role:default/a"}]`,
		"/api/permission/roles/conditions": `[{"id": 1, "result": "CONDITIONAL", "roleEntityRef": "role:default/b", "pluginId": "catalog",
			"resourceType": "catalog-entity", "permissionMapping": [{"name": "catalog.entity.read", "action": "read"}],
			"conditions": {"rule": "IS_ENTITY_KIND", "resourceType": "catalog-entity", "params": {"kinds": ["API"]}}}]`,
	}))
	if err != nil {
		t.Fatal(err)
	}
	// What is stored counts as it is: two lines that contradict each other deny, a
	// condition of a role that nobody has stays, and a member with capitals is nobody.
	if got := m.judgement.held.Permissions["role:default/a"]["catalog-entity"]["read"]; got != "deny" {
		t.Errorf("the effect is %q", got)
	}
	if m.Lines() != 2 || m.Bindings() != 1 || m.Conditions() != 1 {
		t.Errorf("%d lines, %d members, %d conditions", m.Lines(), m.Bindings(), m.Conditions())
	}
	if i := slices.IndexFunc(m.Findings, func(f installation.Finding) bool { return f.Code == "not-told" }); i < 0 {
		t.Error("nothing says what the API does not tell")
	}
	report := string(m.report())
	for _, want := range []string{"## /api/permission/policies", "| 2 | p, role:default/a, catalog-entity, read, deny |", "| 1 | g, user:default/Ann, role:default/a |"} {
		if !strings.Contains(report, want) {
			t.Errorf("%q is not in the report", want)
		}
	}
}

func TestStoredIsRefused(t *testing.T) {
	good := map[string]string{
		"/api/permission/policies": "[]", "/api/permission/roles": "[]", "/api/permission/roles/conditions": "[]",
	}
	for _, tc := range []struct{ name, route, answer, want string }{
		{"no list", "/api/permission/policies", `{"error": "x"}`, "/api/permission/policies: error: the answer is no list"},
		{"no JSON", "/api/permission/roles", `{`, "/api/permission/roles:"},
		{"half a line", "/api/permission/policies", `[{"entityReference": "role:default/a"}]`, "/api/permission/policies:1: error: want entityReference"},
		{"role without members", "/api/permission/roles", `[{"name": "role:default/a"}]`, "/api/permission/roles:1: error: want name and memberReferences"},
		{"user as a role", "/api/permission/roles", `[{"name": "user:default/a", "memberReferences": ["user:default/b"]}]`, "/api/permission/roles:1: error: user:default/a is no role"},
		{"member that is no text", "/api/permission/roles", `[{"name": "role:default/a", "memberReferences": [1]}]`, "a member of role:default/a is no text"},
		{"half a condition", "/api/permission/roles/conditions", `[{"result": "CONDITIONAL"}]`, "/api/permission/roles/conditions:1: error: conditions are missing"},
		{"redirect", "/api/permission/policies", "redirect https://example.com/", "302 Found"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			answers := map[string]string{}
			for route, answer := range good {
				answers[route] = answer
			}
			answers[tc.route] = tc.answer
			_, err := RBAC(t.Context(), serving(t, answers))
			if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), secret) {
				t.Errorf("the error is %v, want %s", err, tc.want)
			}
		})
	}
	t.Run("not allowed", func(t *testing.T) {
		_, err := RBAC(t.Context(), serving(t, nil))
		if err == nil || !strings.Contains(err.Error(), "403 Forbidden; the token must be") || strings.Contains(err.Error(), secret) {
			t.Errorf("the error is %v", err)
		}
	})
	t.Run("no URL", func(t *testing.T) {
		_, err := RBAC(t.Context(), installation.Sources{URL: "backstage", Token: secret, Known: inventory.Stock()})
		if err == nil || !strings.Contains(err.Error(), "no http or https URL") {
			t.Errorf("the error is %v", err)
		}
	})
}

// TestStoredDefault takes the role of everybody from the API where the app-config is not
// given, and says what the API does not tell.
func TestStoredDefault(t *testing.T) {
	m, err := RBAC(t.Context(), serving(t, map[string]string{
		"/api/permission/policies":         `[{"entityReference": "role:default/all", "permission": "catalog-entity", "policy": "read", "effect": "allow"}]`,
		"/api/permission/roles":            `[{"memberReferences": [], "name": "role:default/all", "metadata": {"source": "configuration", "isDefault": true}}]`,
		"/api/permission/roles/conditions": "[]",
	}))
	if err != nil {
		t.Fatal(err)
	}
	if m.judgement.held.DefaultRole != "role:default/all" {
		t.Errorf("the role of everybody is %q", m.judgement.held.DefaultRole)
	}
	if i := slices.IndexFunc(m.Findings, func(f installation.Finding) bool {
		return f.Code == "no-app-config" && f.Severity == installation.Warning
	}); i < 0 {
		t.Errorf("nothing says that precedence and superusers are not known: %v", m.Findings)
	}
}

// TestStoredDefaultOfAdmins has the API tell that everybody is an administrator. Its lines
// are what the API tells, too.
func TestStoredDefaultOfAdmins(t *testing.T) {
	m, err := RBAC(t.Context(), serving(t, map[string]string{
		"/api/permission/policies":         `[{"entityReference": "role:default/rbac_admin", "permission": "catalog-entity", "policy": "read", "effect": "allow"}]`,
		"/api/permission/roles":            `[{"memberReferences": [], "name": "role:default/rbac_admin", "metadata": {"source": "configuration", "isDefault": true}}]`,
		"/api/permission/roles/conditions": "[]",
	}))
	if err != nil {
		t.Fatal(err)
	}
	if held := m.judgement.held; held.DefaultRole != adminRole || len(held.Permissions[adminRole]) != 1 {
		t.Errorf("everybody has %q, which may %v", held.DefaultRole, held.Permissions)
	}
}
