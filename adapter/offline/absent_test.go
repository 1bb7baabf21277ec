package offline_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stagedoor/stagedoor/adapter/offline"
)

// TestAbsent is about data that rules ask for and no file has.
func TestAbsent(t *testing.T) {
	for name, test := range map[string]struct {
		rules, data string
		want        []string
	}{
		"all there":            {rules: `allow if data.shop.roles.admins[input.identity.user]`, data: `{"roles": {"admins": {}}}`},
		"a list":               {rules: `allow if input.identity.user in data.roles.admins`, want: []string{"data.roles"}},
		"a part":               {rules: `allow if input.identity.user in data.shop.roles.devs`, data: `{"roles": {"admins": []}}`, want: []string{"data.shop.roles.devs"}},
		"beside the rules":     {rules: `allow if data.shop.limits.most > 1`, want: []string{"data.shop.limits"}},
		"by another name":      {rules: `allow if { r := data.roles; r.admins }`, want: []string{"data.roles"}},
		"under not":            {rules: `allow if not data.shop.frozen`, want: []string{"data.shop.frozen"}},
		"in a called rule":     {rules: "allow if helper\nhelper if { some r in data.roles; r == input.identity.user }", want: []string{"data.roles"}},
		"in a function":        {rules: "allow if f(input.identity.user)\nf(u) if data.roles[u]", want: []string{"data.roles"}},
		"in else":              {rules: "allow := false if { input.identity.user == \"x\" } else := data.roles.all", want: []string{"data.roles"}},
		"in a comprehension":   {rules: `allow if count({r | some r in data.roles}) > 1`, want: []string{"data.roles"}},
		"by its place":         {rules: `allow if data.shop.roles[3].admin`, data: `{"roles": []}`},
		"replaced":             {rules: "allow if helper with data.roles as {}\nhelper if data.names.x", want: []string{"data.names"}},
		"what replaces":        {rules: `allow if helper with input as data.mocks` + "\nhelper if input.x", want: []string{"data.mocks"}},
		"nobody asks the rule": {rules: "allow if input.identity\nother if data.roles.x"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			files := map[string]string{
				".manifest":   `{"roots": ["shop"]}`,
				"policy.rego": "package shop\n\n# METADATA\n# entrypoint: true\n# scope: document\n" + test.rules + "\n",
			}
			if test.data != "" {
				files["shop/data.json"] = test.data
			}
			for name, text := range files {
				if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o750); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			p, err := offline.Open(t.Context(), dir, offline.Options{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = p.Close(t.Context()) })
			absent, err := p.Absent(t.Context())
			if err != nil || !slices.Equal(absent, test.want) {
				t.Errorf("%v, %v; want %v", absent, err, test.want)
			}
		})
	}
}
