package inventory_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stagedoor/stagedoor/adapter/discovery"
	"github.com/stagedoor/stagedoor/adapter/inventory"
	"github.com/stagedoor/stagedoor/adapter/sample"
)

// TestPull reads the sample Backstage, twice into equal files.
func TestPull(t *testing.T) {
	b, err := sample.New(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	b.Serve("http://127.0.0.1:1")
	var told []string
	pull := func() *inventory.Inventory {
		p := inventory.Puller{
			Discovery: places(t, b.URL), Plugins: []string{"todo", "catalog", "todo"},
			Progress: func(p inventory.Pulled) {
				if !p.Missing {
					told = append(told, p.Plugin)
				}
			},
		}
		found, err := p.Pull(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	found := pull()
	want := inventory.Permission{
		Name: "todo.item.update", Type: "resource", Attributes: inventory.Attributes{Action: "update"}, ResourceType: "todo-item", PluginID: "todo",
	}
	if got, _ := found.Permission("todo.item.update"); got != want {
		t.Errorf("got %+v", got)
	}
	if len(found.Rules) != 2 || found.Rules[0].Name != "HAS_STATUS" || found.Rules[0].Params() != "statuses: string[]" {
		t.Errorf("rules: %+v", found.Rules)
	}
	if !slices.Equal(told, []string{"todo"}) {
		t.Errorf("told of %v", told)
	}
	first, second := t.TempDir(), t.TempDir()
	if err := found.Write(first); err != nil {
		t.Fatal(err)
	}
	if err := pull().Write(second); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"permissions.json", "rules.json"} {
		a, errA := os.ReadFile(filepath.Join(first, name))
		b, errB := os.ReadFile(filepath.Join(second, name))
		if errA != nil || errB != nil || string(a) != string(b) {
			t.Errorf("%s differs between two pulls: %v %v", name, errA, errB)
		}
	}
	if _, err := inventory.Load(first); err != nil {
		t.Error(err)
	}
}

func TestPullFails(t *testing.T) {
	const token = "a-secret-token"
	for name, test := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"token refused": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }, "plugin todo: it refuses the token (status 401)"},
		"broken":        {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, "plugin todo: it answers with status 500"},
		"redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
		}, "plugin todo: it answers with status 302"},
		"no metadata": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`[]`))
		}, "not of the shape"},
		"the app's page": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = w.Write([]byte(`<html>`))
		}, "none of 1 plugins is there"},
		"the token repeated": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`{"x": "` + r.Header.Get("Authorization") + `"`))
		}, "not of the shape"},
		"too long": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(strings.Repeat(" ", 5<<20)))
		}, "longer than is accepted"},
		"invalid": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`{"permissions": [{"type": "basic", "attributes": {}}], "rules": []}`))
		}, "a permission has no name"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(test.answer)
			defer server.Close()
			p := inventory.Puller{Discovery: places(t, server.URL), Token: token, Plugins: []string{"todo"}}
			_, err := p.Pull(t.Context())
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), token) {
				t.Errorf("the token is in %v", err)
			}
		})
	}
}

func places(t *testing.T, baseURL string) *discovery.Discovery {
	t.Helper()
	d, err := discovery.New(discovery.Options{BaseURL: baseURL})
	if err != nil {
		t.Fatal(err)
	}
	return d
}
