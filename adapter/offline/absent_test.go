package offline_test

import (
	"cmp"
	"slices"
	"testing"

	"github.com/stagedoor/stagedoor/adapter/fixture"
	"github.com/stagedoor/stagedoor/adapter/offline"
)

// TestAbsent is about data that rules ask for and no file has.
func TestAbsent(t *testing.T) {
	for name, test := range map[string]struct {
		rules, data, manifest string
		want                  []string
	}{
		"all there":                  {rules: `allow if data.shop.roles.admins[input.identity.user]`, data: `{"roles": {"admins": {}}}`},
		"a list":                     {rules: `allow if input.identity.user in data.roles.admins`, want: []string{"data.roles"}},
		"below its root":             {rules: `allow if input.identity.user in data.shop.roles.devs`},
		"beside a file":              {rules: `allow if input.identity.user in data.shop.roles.devs`, data: `{"roles": {"admins": []}}`},
		"by another name":            {rules: `allow if { r := data.roles; r.admins }`, want: []string{"data.roles"}},
		"under not":                  {rules: `allow if not data.frozen`, want: []string{"data.frozen"}},
		"in a called rule":           {rules: "allow if helper\nhelper if { some r in data.roles; r == input.identity.user }", want: []string{"data.roles"}},
		"in a function":              {rules: "allow if f(input.identity.user)\nf(u) if data.roles[u]", want: []string{"data.roles"}},
		"the library's":              {rules: "allow if data.backstage.catalog.is_entity_owner(input.resource, data.names)", want: []string{"data.names"}},
		"in else":                    {rules: "allow := false if { input.identity.user == \"x\" } else := data.roles.all", want: []string{"data.roles"}},
		"called in else":             {rules: "allow := false if { input.identity.user == \"x\" } else := helper\nhelper if data.roles.x", want: []string{"data.roles"}},
		"called in a last else":      {rules: "allow := false if { input.x } else := true if { input.y } else := f(1)\nf(x) := 1 if { x == 2 } else := data.roles.x", want: []string{"data.roles"}},
		"in a comprehension":         {rules: `allow if count({r | some r in data.roles}) > 1`, want: []string{"data.roles"}},
		"by its place":               {rules: `allow if data.shop.roles[3].admin`, data: `{"roles": []}`},
		"replaced":                   {rules: "allow if helper with data.roles as {}\nhelper if data.names.x", want: []string{"data.names"}},
		"what replaces":              {rules: `allow if helper with input as data.mocks` + "\nhelper if input.x", want: []string{"data.mocks"}},
		"nobody asks the rule":       {rules: "allow if input.identity\nother if data.roles.x"},
		"below a variable":           {rules: `allow if data[input.permission.name].roles.ok`, want: []string{"data"}},
		"above its root":             {rules: `allow if data.org.teams[input.identity.user]`, manifest: `{"roots": ["shop/", "org/people"]}`, want: []string{"data.org.teams"}},
		"whatever is above its root": {rules: `allow if input.identity.user in data.org[input.permission.name]`, manifest: `{"roots": ["shop", "org/people"]}`, want: []string{"data.org"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			files := fixture.Files{
				".manifest":   cmp.Or(test.manifest, `{"roots": ["shop"]}`),
				"policy.rego": "package shop\n\n# METADATA\n# entrypoint: true\n# scope: document\n" + test.rules + "\n",
			}
			if test.data != "" {
				files["shop/data.json"] = test.data
			}
			fixture.Write(t, dir, files)
			p, err := offline.Open(t.Context(), dir, offline.Options{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = p.Close(t.Context()) })
			absent, err := p.Absent()
			if err != nil || !slices.Equal(absent, test.want) {
				t.Errorf("%v, %v; want %v", absent, err, test.want)
			}
		})
	}
}
